"""Parts of a time, such as its hour or weekday, in local time of a zone, on numpy arrays.

Times are UTC, in microseconds. pandas is not needed, so a server runs the same code.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from labkit.errors import ParamsError

FIRST_YEAR, LAST_YEAR = 1900, 2100
"""Years between which changes of the UTC offset are known; outside them, the offset at the edge applies."""

DAY, HOUR, MINUTE = 86_400_000_000, 3_600_000_000, 60_000_000
"""In microseconds."""


def compute_part(times: np.ndarray, zone: str, part: str) -> np.ndarray:
    """Compute one part of every time.

    Parameters
    ----------
    times
        UTC, `datetime64[us]`, shape (n_rows,).
    zone
        Time zone of the local time, e.g. `America/New_York`.
    part
        `minute`, `hour`, `weekday` (Monday is 0), `day`, `month`, `day_of_year` or `week` (ISO 8601).

    Returns
    -------
    numpy.ndarray
        float64, shape (n_rows,); NaN where the time is missing.

    Raises
    ------
    ParamsError
        The zone does not exist.

    Examples
    --------
    >>> summer = np.array(["2013-07-01T16:30"], "datetime64[us]")
    >>> compute_part(summer, "America/New_York", "hour")
    array([12.])
    """
    return compute_parts(times, zone, [part])[part]


def compute_parts(times: np.ndarray, zone: str, parts: Iterable[str]) -> dict[str, np.ndarray]:
    """Compute several parts of every time; see `compute_part`."""
    changes, offsets = find_clock_changes(zone)
    is_missing = np.isnat(times)
    is_any_missing = bool(np.count_nonzero(is_missing))
    known = np.where(is_missing, np.datetime64(0, "us"), times) if is_any_missing else times
    local = (known + offsets[changes.searchsorted(known, side="right")]).astype("int64")
    days = local // DAY
    found = {part: read_part(local, days, part).astype("float64") for part in parts}
    return {part: np.where(is_missing, np.nan, one) for part, one in found.items()} if is_any_missing else found


def read_part(local: np.ndarray, days: np.ndarray, part: str) -> np.ndarray:
    """Return one part of local times, none of which is missing, as whole numbers.

    Parameters
    ----------
    local, days
        Microseconds and days since 1970, int64, shape (n_rows,).
    """
    if part == "minute":
        return (local - days * DAY) // MINUTE % 60
    if part == "hour":
        return (local - days * DAY) // HOUR
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
    if part == "weekday":
        return weekday
    if part in ("month", "day"):
        dates = days.astype("datetime64[D]")
        months = dates.astype("datetime64[M]")
        return months.astype("int64") % 12 + 1 if part == "month" else (dates - months).astype("int64") + 1
    if part == "day_of_year":
        return count_days(days) + 1
    # An ISO week belongs to the year of its Thursday.
    return count_days(days + 3 - weekday) // 7 + 1


def count_days(days: np.ndarray) -> np.ndarray:
    """Return the number of days since 1 January of the same year, of days since 1970."""
    return days - days.astype("datetime64[D]").astype("datetime64[Y]").astype("datetime64[D]").astype("int64")


@cache
def find_clock_changes(zone: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the times at which a zone's UTC offset changes, and the offsets before, between and after them.

    Parameters
    ----------
    zone
        Name of the time zone.

    Returns
    -------
    tuple of numpy.ndarray
        Changes, `datetime64[us]` in UTC, shape (n_changes,); offsets, `timedelta64[us]`, shape (n_changes + 1,).

    Raises
    ------
    ParamsError
        The zone does not exist.
    """
    try:
        clock = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ParamsError(f"no time zone {zone!r}: use a name such as Europe/Berlin or UTC") from error
    day, last = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR, 1, 1, tzinfo=UTC)
    changes, offsets = [], [find_offset(day, clock)]
    while day < last:
        following = day + timedelta(days=1)
        if find_offset(following, clock) != offsets[-1]:
            changes.append(find_change(day, following, clock))
            offsets.append(find_offset(following, clock))
        day = following
    naive = [change.replace(tzinfo=None) for change in changes]
    return np.array(naive, "datetime64[us]"), np.array(offsets, "timedelta64[us]")


def find_change(before: datetime, after: datetime, clock: ZoneInfo) -> datetime:
    """Return the time, to the second, at which the UTC offset changes between two times."""
    old = find_offset(before, clock)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        before, after = (middle, after) if find_offset(middle, clock) == old else (before, middle)
    return after


def find_offset(moment: datetime, clock: ZoneInfo) -> timedelta:
    """Return the UTC offset of a zone at a time."""
    return moment.astimezone(clock).utcoffset() or timedelta(0)
