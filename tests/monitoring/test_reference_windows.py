"""Windows to compare with: the declared part of the training rows, and days that are expected to differ."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.monitoring.drift import Drift, measure_drift
from labkit.monitoring.reference_profile import Profile, make_profile
from labkit.monitoring.reference_windows import choose_reference, count_holidays, find_holidays
from labkit.monitoring.row_batches import read_frame
from labkit.monitoring.window_counts import Windows
from labkit.params.monitoring import Monitoring, ReferenceChoice
from pydantic import ValidationError

from tests.monitoring import streams

N_DAYS = 150
"""From 5 January to 3 June."""


def make_seasons(n_days: int, *, seed: int, first: int = 0) -> pd.DataFrame:
    """Return days whose distances grow from month to month, and are the same in a month of each year."""
    rows = streams.make_days(n_days, seed=seed, first=first)
    return rows.assign(distance=rows["distance"] + 600 * rows["predict_at"].dt.month, tail="N1")


@pytest.fixture(scope="module")
def row_features() -> RowFeatures:
    return streams.fit_features(streams.make_days(3, seed=1))


@pytest.fixture(scope="module")
def profile(row_features: RowFeatures) -> Profile:
    rows = make_seasons(N_DAYS, seed=1)
    return make_profile("small", lambda: read_frame(rows, row_features), row_features)


def judge(
    profile: Profile, row_features: RowFeatures, rows: pd.DataFrame, choice: ReferenceChoice
) -> tuple[Drift, list[str]]:
    counts = streams.count_rows(rows, row_features, profile)
    reference, notes = choose_reference(profile.inputs, counts, choice)
    return measure_drift(reference, counts, profile.relations), notes


def find_changed(drift: Drift) -> set[tuple[str, str]]:
    return {(one.column, one.kind) for one in drift.changes}


def test_same_month_of_next_year_is_as_usual_and_a_change_within_it_is_found(
    profile: Profile, row_features: RowFeatures
) -> None:
    rows = make_seasons(14, seed=7, first=365 + 60)  # March
    whole, no_notes = judge(profile, row_features, rows, "training")
    calm, notes = judge(profile, row_features, rows, "same_month")
    assert (no_notes, notes) == (
        [],
        ["compared with the 31 windows of March among the training rows (monitoring.reference: same_month)"],
    )
    assert find_changed(calm) == set()
    # A shift to the distances of April: usual for the training rows, not for March.
    april = rows.assign(distance=rows["distance"] + 600)
    assert find_changed(judge(profile, row_features, april, "training")[0]) == find_changed(whole) == set()
    assert ("distance", "distribution") in find_changed(judge(profile, row_features, april, "same_month")[0])


def test_last_four_weeks_are_those_of_the_training_rows(profile: Profile, row_features: RowFeatures) -> None:
    rows = make_seasons(10, seed=8, first=N_DAYS - 14)  # May, as most of the last four weeks
    drift, notes = judge(profile, row_features, rows, "last_4_weeks")
    assert notes == [
        "compared with the 28 windows of the last four weeks among the training rows "
        "(monitoring.reference: last_4_weeks)"
    ]
    assert find_changed(drift) == set()
    march = make_seasons(10, seed=8, first=365 + 60)
    assert ("distance", "distribution") in find_changed(judge(profile, row_features, march, "last_4_weeks")[0])


def test_month_that_the_training_rows_do_not_have_is_compared_with_all(
    profile: Profile, row_features: RowFeatures
) -> None:
    rows = make_seasons(10, seed=9, first=300)  # November
    counts = streams.count_rows(rows, row_features, profile)
    reference, notes = choose_reference(profile.inputs, counts, "same_month")
    assert reference is profile.inputs
    assert notes == [
        "the training rows have no complete window of November (monitoring.reference: same_month): all of them are "
        "compared with",
    ]


def test_values_of_other_months_are_not_unseen(row_features: RowFeatures) -> None:
    days = make_seasons(N_DAYS, seed=1)
    rows = days.assign(city=days["city"].where(days["predict_at"].dt.month != 1, "winter resort"))
    profile = make_profile("small", lambda: read_frame(rows, row_features), row_features)
    march = make_seasons(10, seed=7, first=365 + 60)
    chosen = np.random.default_rng(0).uniform(size=len(march)) < 0.02
    found, _ = judge(
        profile, row_features, march.assign(city=march["city"].mask(chosen, "winter resort")), "same_month"
    )
    assert found.effects["city", "unseen values"].max() == 0
    found, _ = judge(profile, row_features, march.assign(city=march["city"].mask(chosen, "new")), "same_month")
    assert ("city", "unseen values") in find_changed(found)


def test_rows_without_times_are_compared_with_all(row_features: RowFeatures) -> None:
    rows = make_seasons(N_DAYS, seed=1).drop(columns="predict_at")
    profile = make_profile("small", lambda: read_frame(rows, row_features), row_features)
    counts = streams.count_rows(rows.head(2000), row_features, profile)
    reference, [note] = choose_reference(profile.inputs, counts, "same_month")
    assert reference is profile.inputs
    assert note.startswith("the training rows have no times, so all of them are compared with")


@pytest.mark.parametrize("has_rows", [True, False])
def test_holiday_is_not_judged_with_rows_or_without(
    profile: Profile, row_features: RowFeatures, has_rows: bool
) -> None:
    rows = make_seasons(14, seed=7, first=365 + 60)
    days = rows["predict_at"].dt.date.astype(str)
    day = sorted(set(days))[5]
    other = rows.assign(distance=rows["distance"].where(days != day, 1e6)) if has_rows else rows[days != day]
    counts = streams.count_rows(other, row_features, profile)
    assert {change.first for change in measure_drift(profile.inputs, counts, profile.relations).changes} != set()
    windows, numbers = profile.inputs.windows, np.arange(counts.numbers[0], counts.numbers[-1] + 1)
    left_out = find_holidays(windows, numbers, {day[5:]: "fair"})
    assert [*left_out.values()] == [f"{day} (fair)"]
    drift = measure_drift(profile.inputs, counts, profile.relations, left_out=left_out)
    assert drift.changes == ()
    assert len(drift.counts.numbers) == 13


def test_holidays_of_a_year_and_of_every_year_are_found_in_days_and_weeks() -> None:
    holidays = {"2026-12-24": "Christmas Eve", "01-01": "New Year"}
    days = Windows(1, 0)
    first = int((np.datetime64("2026-12-20") - np.datetime64(0, "D")).astype(int))
    assert [*find_holidays(days, np.arange(first, first + 400), holidays).values()] == [
        "2026-12-24 (Christmas Eve)", "2027-01-01 (New Year)", "2028-01-01 (New Year)"
    ]  # fmt: skip
    weeks = find_holidays(Windows(7, 0), np.arange(first // 7, first // 7 + 4), holidays)
    assert [*weeks.values()] == ["2026-12-24 (Christmas Eve)", "2027-01-01 (New Year)"]
    begin, end = datetime(2026, 12, 23, 20, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)
    assert (count_holidays(begin, end, holidays), count_holidays(begin, end, {})) == (2, 0)


@pytest.mark.parametrize("day", ["2026-02-30", "13-01", "Christmas", "2026-1-1"])
def test_day_that_does_not_exist_is_refused(day: str) -> None:
    def read(content: dict[str, Any]) -> Monitoring:
        return Monitoring.model_validate_json(json.dumps(content))

    assert read({"holidays": {"02-29": "leap day", "2026-12-25": "Christmas"}}).holidays["02-29"] == "leap day"
    with pytest.raises(ValidationError, match=f"{day}: not a day: write YYYY-MM-DD, or MM-DD for every year"):
        read({"holidays": {day: "x"}})
