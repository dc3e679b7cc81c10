"""Parts of dates: the same as the standard library's own, in every zone, through every change of the clock."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from labkit.errors import ParamsError
from labkit.features.date_parts import compute_part

READ = {
    "minute": lambda at: at.minute,
    "hour": lambda at: at.hour,
    "weekday": lambda at: at.weekday(),
    "day": lambda at: at.day,
    "month": lambda at: at.month,
    "day_of_year": lambda at: at.timetuple().tm_yday,
    "week": lambda at: at.isocalendar().week,
}


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"])
@pytest.mark.parametrize("part", READ)
def test_parts_are_those_of_the_standard_library(zone: str, part: str) -> None:
    seconds = np.random.default_rng(0).integers(-(10**9), 2 * 10**9, 3000).tolist()
    # Around both changes of New York's clock in 2013, second by second at the edge.
    seconds += [edge + step for edge in (1362898800, 1383458400) for step in (-1, 0, 1, 1800, -1800)]
    times = np.array(seconds, "datetime64[s]").astype("datetime64[us]")
    expected = [READ[part](datetime.fromtimestamp(second, UTC).astimezone(ZoneInfo(zone))) for second in seconds]
    assert compute_part(times, zone, part).tolist() == expected


def test_missing_times_have_no_parts() -> None:
    assert np.isnan(compute_part(np.array(["NaT"], "datetime64[us]"), "Europe/Berlin", "week")).all()


def test_unknown_zone_is_refused() -> None:
    with pytest.raises(ParamsError, match="no time zone 'Mars/Base'"):
        compute_part(np.array(["2013-01-01"], "datetime64[us]"), "Mars/Base", "hour")
