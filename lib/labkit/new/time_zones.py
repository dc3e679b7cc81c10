"""The time zone of a table's times, inferred from their UTC offsets.

Times with an offset are unambiguous and are read as UTC; the zone gives the local time, for features such as the hour.
Those features are computed in `labkit.features.date_parts`.
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
from labkit.units import format_share

MOST_MOMENTS = 1_000
MOSTLY_IN_ZONE = 0.9
"""Least share of times that a proposed zone has to fit. Programs follow summer time exactly, people less so."""
OFTEN = (
    "UTC", "Europe/London", "Europe/Berlin", "Europe/Athens", "Europe/Moscow", "Europe/Istanbul", "America/New_York",
    "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Phoenix", "America/Sao_Paulo",
    "America/Mexico_City", "America/Bogota", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "Asia/Shanghai",
    "Asia/Tokyo", "Asia/Dubai", "Asia/Karachi", "Asia/Bangkok", "Asia/Jerusalem", "Australia/Sydney",
    "Australia/Brisbane", "Australia/Perth", "Pacific/Auckland", "Africa/Johannesburg", "Africa/Lagos",
)  # fmt: skip
"""Zones with many inhabitants, proposed before others with the same local times."""


def find_zones(raw: RawTable, choices: Choices) -> tuple[dict[str, str], list[ParamsDecision]]:
    """Return the time zone of each column of times with UTC offsets, given or inferred, and the decisions.

    Parameters
    ----------
    raw
        The table.
    choices
        Options given by the user; their zones take precedence.

    Raises
    ------
    ParamsError
        A given zone does not exist, or is given for a column without offsets.
    """
    zones = raw.list_zones()
    found = {column: zone for column, zone in zones.items() if zone in zoneinfo.available_timezones() - {"UTC"}}
    decisions = [
        ParamsDecision(f"column {column!r}", f"time zone {zone}", "stated in the file")
        for column, zone in found.items()
    ]
    offsets = {column: known for column in raw.table.times if (known := find_offsets(raw, column))}
    for column, known in offsets.items():
        shown = list_briefly(dict.fromkeys(map(write_offset, known.values())), most=3)
        reason = f"with its offset ({shown}) each time is unambiguous"
        decisions.append(ParamsDecision(f"column {column!r}", "read as UTC", reason))
        if column not in choices.zones:
            zone, decision = propose_zone(column, known)
            found |= {column: zone} if zone else {}
            decisions += decision
    for column, zone in choices.zones.items():
        if column not in {*zones, *offsets}:
            raise ParamsError(f"--zone {column}={zone}: its times have no UTC offset, so they are read as written")
        check_zone(column, zone)
        decisions.append(ParamsDecision(f"column {column!r}", f"time zone {zone}", "given"))
    return found | dict(choices.zones), decisions


def propose_zone(column: str, offsets: Mapping[datetime, timedelta]) -> tuple[str, list[ParamsDecision]]:
    """Return the zone that fits the offsets of a column, empty for UTC, and the decision about it."""
    (zone, share), option = find_zone(offsets), f"--zone {shlex.quote(f'{column}=ZONE')}"
    if zone == "UTC" and share == 1:
        return "", []
    if share < MOSTLY_IN_ZONE:
        reason = f"its offsets fit no time zone; for the hours of another zone, {option}"
        return "", [ParamsDecision(f"column {column!r}", "time zone UTC", reason, is_warning=True)]
    fit = "every row" if share == 1 else f"{format_share(share, 1)} of the rows"
    reason = f"fits {fit}; if it is another, {option}"
    return zone, [ParamsDecision(f"column {column!r}", f"time zone {zone}", reason, is_warning=True)]


def check_zone(column: str, zone: str) -> None:
    """Refuse a time zone that does not exist."""
    if zone not in zoneinfo.available_timezones():
        hint = name_nearest(zone, (*OFTEN, *zoneinfo.available_timezones()))
        raise ParamsError(f"--zone {column}={zone}: no such time zone: {hint}")


def find_offsets(raw: RawTable, column: str) -> dict[datetime, timedelta]:
    """Return the UTC offset by time for strings of a column that have an offset; a selection if there are many."""
    if not pa.types.is_string(raw.find_type(column)):
        return {}
    strings = [string for string in raw.list_strings(column) if OFFSET.search(string)]
    stride = max(1, len(strings) // MOST_MOMENTS)
    chosen = pd.Series(sorted(strings)[::stride])
    times = pd.to_datetime(chosen, utc=True, format=raw.table.formats.get(column) or "ISO8601", errors="coerce")
    pairs = zip(times, chosen, strict=True)
    return {time.to_pydatetime(): read_offset(string) for time, string in pairs if not pd.isna(time)}


def read_offset(string: str) -> timedelta:
    """Return the UTC offset at the end of a time.

    >>> read_offset("2021-01-01 00:00:00-05:30"), read_offset("2021-01-01T00:00Z")
    (datetime.timedelta(days=-1, seconds=66600), datetime.timedelta(0))
    """
    found = re.search(r"([+-])([0-9]{2}):?([0-9]{2})?$", string)
    if found is None:
        return timedelta(0)
    length = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return -length if found[1] == "-" else length


def write_offset(offset: timedelta) -> str:
    """Format a UTC offset as at the end of a time.

    >>> write_offset(timedelta(hours=-5, minutes=-30)), write_offset(timedelta(0))
    ('-05:30', '+00:00')
    """
    minutes = abs(offset) // timedelta(minutes=1)
    return f"{'-' if offset < timedelta(0) else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def find_zone(offsets: Mapping[datetime, timedelta]) -> tuple[str, float]:
    """Return the zone that had these UTC offsets at most of these times, and the share of times.

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
    """Return the share of times at which a zone had these UTC offsets."""
    clock = zoneinfo.ZoneInfo(zone)
    return sum(moment.astimezone(clock).utcoffset() == offset for moment, offset in offsets.items()) / len(offsets)
