"""Zones are recognised by the offsets that times name; each time itself is one moment, whatever the zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from labkit.new.time_zones import find_zone

MOMENTS = [datetime(2021, 1, 1, 5, tzinfo=UTC) + timedelta(days=5 * n) for n in range(150)]


def make_offsets(zone: str) -> dict[datetime, timedelta]:
    """Return what the clocks of a zone showed at many moments."""
    return {moment: moment.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0) for moment in MOMENTS}


@pytest.mark.parametrize(
    "zone",
    ["America/New_York", "Europe/Berlin", "Europe/London", "Asia/Kolkata", "Australia/Sydney", "UTC", "Asia/Kathmandu"],
)
def test_zone_whose_clocks_fit_every_row_is_found(zone: str) -> None:
    assert find_zone(make_offsets(zone)) == (zone, 1.0)


def test_zone_that_fits_most_rows_is_found_with_the_share() -> None:
    offsets = make_offsets("America/New_York")
    wrong = [moment for moment in MOMENTS if moment.month == 3][:3]
    offsets |= {moment: timedelta(hours=-4 if offsets[moment] == timedelta(hours=-5) else -5) for moment in wrong}
    zone, share = find_zone(offsets)
    assert (zone, round(share, 2)) == ("America/New_York", 0.98)


def test_offsets_of_several_zones_fit_none() -> None:
    offsets = {moment: timedelta(hours=n % 5) for n, moment in enumerate(MOMENTS)}
    assert find_zone(offsets)[1] < 0.5
