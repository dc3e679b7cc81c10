"""The time zone of a table's times, found by the offsets that they name.

Times with an offset are one moment each and are read as UTC; the zone says what a clock showed then, for features such
as the hour. Not how such parts are computed: that is `labkit.features.date_parts`.
"""

import re
import shlex
import zoneinfo
from collections.abc import Mapping
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa

from labkit.data.reading.raw_table import OFFSET, RawTable
from labkit.errors import ParamsError, list_briefly, name_nearest
from labkit.new.options import Choices, ParamsDecision

MOST_MOMENTS = 1_000
MOSTLY = 0.9
"""Share of moments that a zone has to fit to be proposed: programs know the days of summer time well, people less."""
OFTEN = (
    "UTC", "Europe/London", "Europe/Berlin", "Europe/Athens", "Europe/Moscow", "Europe/Istanbul", "America/New_York",
    "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Phoenix", "America/Sao_Paulo",
    "America/Mexico_City", "America/Bogota", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "Asia/Shanghai",
    "Asia/Tokyo", "Asia/Dubai", "Asia/Karachi", "Asia/Bangkok", "Asia/Jerusalem", "Australia/Sydney",
    "Australia/Brisbane", "Australia/Perth", "Pacific/Auckland", "Africa/Johannesburg", "Africa/Lagos",
)  # fmt: skip
"""The zones of many people, which are proposed before others whose clocks show the same."""


def find_zones(raw: RawTable, choices: Choices) -> tuple[dict[str, str], list[ParamsDecision]]:
    """Return the zone of each column of times with offsets, as given or found, and the decisions.

    Raises
    ------
    ParamsError
        A zone is given that there is not, or for a column without offsets.
    """
    zones = raw.list_zones()
    found = {column: zone for column, zone in zones.items() if zone in zoneinfo.available_timezones() - {"UTC"}}
    decisions = [
        ParamsDecision(f"column {column!r}", f"clock of {zone}", "the file says so") for column, zone in found.items()
    ]
    offsets = {column: known for column in raw.table.times if (known := find_offsets(raw, column))}
    for column, known in offsets.items():
        shown = list_briefly(dict.fromkeys(map(write_offset, known.values())), most=3)
        reason = f"with its offset ({shown}) each time is one moment"
        decisions.append(ParamsDecision(f"column {column!r}", "read as UTC", reason))
        if column not in choices.zones:
            zone, decision = propose_zone(column, known)
            found |= {column: zone} if zone else {}
            decisions += decision
    for column, zone in choices.zones.items():
        if column not in {*zones, *offsets}:
            raise ParamsError(f"--zone {column}={zone}: its times name no offset, so they are read as they are written")
        check_zone(column, zone)
        decisions.append(ParamsDecision(f"column {column!r}", f"clock of {zone}", "given"))
    return found | dict(choices.zones), decisions


def propose_zone(column: str, offsets: Mapping[datetime, timedelta]) -> tuple[str, list[ParamsDecision]]:
    """Return the zone that fits the offsets of a column, empty for UTC, and the decision about it."""
    (zone, share), option = find_zone(offsets), f"--zone {shlex.quote(f'{column}=ZONE')}"
    if zone == "UTC" and share == 1:
        return "", []
    if share < MOSTLY:
        reason = f"its offsets are those of no zone; to read the hour off another clock, {option}"
        return "", [ParamsDecision(f"column {column!r}", "clock of UTC", reason, is_warning=True)]
    fit = "every row" if share == 1 else f"{share:.1%} of the rows"
    reason = f"fits {fit}; if it is another, {option}"
    return zone, [ParamsDecision(f"column {column!r}", f"clock of {zone}", reason, is_warning=True)]


def check_zone(column: str, zone: str) -> None:
    """Refuse a time zone that there is not."""
    if zone not in zoneinfo.available_timezones():
        hint = name_nearest(zone, (*OFTEN, *zoneinfo.available_timezones()))
        raise ParamsError(f"--zone {column}={zone}: no such time zone: {hint}")


def find_offsets(raw: RawTable, column: str) -> dict[datetime, timedelta]:
    """Return the moments of a column whose texts name an offset, with their offsets; some of them if there are many."""
    if not pa.types.is_string(raw.find_type(column)):
        return {}
    texts = [text for text in raw.list_texts(column) if OFFSET.search(text)]
    stride = max(1, len(texts) // MOST_MOMENTS)
    chosen = pd.Series(sorted(texts)[::stride])
    times = pd.to_datetime(chosen, utc=True, format=raw.table.formats.get(column) or "ISO8601", errors="coerce")
    pairs = zip(times, chosen, strict=True)
    return {time.to_pydatetime(): read_offset(text) for time, text in pairs if not pd.isna(time)}


def read_offset(text: str) -> timedelta:
    """Return the offset that a time ends in.

    >>> read_offset("2021-01-01 00:00:00-05:30"), read_offset("2021-01-01T00:00Z")
    (datetime.timedelta(days=-1, seconds=66600), datetime.timedelta(0))
    """
    found = re.search(r"([+-])([0-9]{2}):?([0-9]{2})?$", text)
    if found is None:
        return timedelta(0)
    length = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return -length if found[1] == "-" else length


def write_offset(offset: timedelta) -> str:
    """Return an offset as times end in it.

    >>> write_offset(timedelta(hours=-5, minutes=-30)), write_offset(timedelta(0))
    ('-05:30', '+00:00')
    """
    minutes = abs(offset) // timedelta(minutes=1)
    return f"{'-' if offset < timedelta(0) else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def find_zone(offsets: Mapping[datetime, timedelta]) -> tuple[str, float]:
    """Return the zone whose clocks had these offsets at most of these moments, and the share of them.

    >>> from datetime import UTC
    >>> winter, summer = datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 7, 1, tzinfo=UTC)
    >>> find_zone({winter: timedelta(hours=-5), summer: timedelta(hours=-4)})
    ('America/New_York', 1.0)
    """
    others = sorted(zone for zone in zoneinfo.available_timezones() if not zone.startswith(("Etc/", "posix", "right")))
    best = ("UTC", 0.0)
    for zone in (*OFTEN, *others):
        share = compute_fit(zone, offsets)
        best = (zone, share) if share > best[1] else best
        if share == 1:
            break
    return best


def compute_fit(zone: str, offsets: Mapping[datetime, timedelta]) -> float:
    """Return the share of moments at which the clocks of a zone had these offsets."""
    clock = zoneinfo.ZoneInfo(zone)
    return sum(moment.astimezone(clock).utcoffset() == offset for moment, offset in offsets.items()) / len(offsets)
