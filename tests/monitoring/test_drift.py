"""Drift: calm streams do not alarm, planted changes do within two days, and what cannot be judged is said."""

import math

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.monitoring.drift import (
    Usual,
    fill_silent,
    find_changes,
    hold_out,
    list_growing,
    measure_drift,
    name_series,
    scale_thresholds,
)
from labkit.monitoring.reference_profile import Profile
from labkit.monitoring.unit_changes import find_unit_changes

from tests.monitoring import streams


@pytest.fixture(scope="module")
def row_features() -> RowFeatures:
    return streams.fit_features(streams.make_days(3, seed=1))


@pytest.fixture(scope="module")
def profile(row_features: RowFeatures) -> Profile:
    return streams.profile_rows(streams.make_days(streams.REFERENCE_DAYS, seed=1), row_features)


def make_stream(seed: int, n_days: int = 12) -> pd.DataFrame:
    return streams.make_days(n_days, seed=seed, first=streams.REFERENCE_DAYS)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_calm_days_with_weather_of_their_own_do_not_alarm(
    profile: Profile, row_features: RowFeatures, seed: int
) -> None:
    found = measure_drift(
        profile.inputs, streams.count_rows(make_stream(seed, 30), row_features, profile), profile.relations
    )
    assert len(found.counts.rows) == 30
    assert found.changes == ()
    assert ("temp", "relation") in found.usual


def test_calm_rows_drawn_from_the_reference_do_not_alarm(profile: Profile, row_features: RowFeatures) -> None:
    days = make_stream(5)
    drawn = streams.make_days(streams.REFERENCE_DAYS, seed=1).sample(len(days), replace=True, random_state=0)
    mixed = drawn.reset_index(drop=True).assign(predict_at=days["predict_at"])
    found = measure_drift(profile.inputs, streams.count_rows(mixed, row_features, profile), profile.relations)
    assert found.changes == ()


@pytest.mark.parametrize("name", streams.CHANGES)
def test_change_is_found_within_two_days(profile: Profile, row_features: RowFeatures, name: str) -> None:
    change, expected = streams.CHANGES[name]
    rows = streams.plant(make_stream(21), change)
    found = measure_drift(profile.inputs, streams.count_rows(rows, row_features, profile), profile.relations)
    first = {(one.column, one.kind): one.first for one in found.changes}
    start = int(found.counts.numbers[0]) + streams.EVENT
    assert first[expected] in (start, start + 1), first
    assert min(first.values()) >= start, "nothing alarms before"


def test_units_are_told_from_shifts(profile: Profile, row_features: RowFeatures) -> None:
    words = {}
    for name in ("shift", "related", "celsius", "thousands"):
        rows = streams.plant(make_stream(21), streams.CHANGES[name][0])
        drift = measure_drift(profile.inputs, streams.count_rows(rows, row_features, profile), profile.relations)
        units = find_unit_changes(profile.inputs, profile.relations, drift)
        words[name] = [(one.column, one.conversion) for one in units]
    assert words == {
        "shift": [],
        "related": [],
        "celsius": [("temp", "°C in place of °F")],
        "thousands": [("distance", "values multiplied by thousands")],
    }


def test_silent_day_between_others_is_a_window_of_no_rows(profile: Profile, row_features: RowFeatures) -> None:
    rows = make_stream(3)
    days = rows["predict_at"].dt.floor("D").unique()
    counts = streams.count_rows(rows[rows["predict_at"].dt.floor("D") != days[5]], row_features, profile)
    filled = fill_silent(profile.inputs, counts)
    assert (len(counts.rows), len(filled.rows), filled.rows[5]) == (11, 12, 0)
    [change] = measure_drift(profile.inputs, counts, profile.relations).changes
    assert (change.kind, change.first - int(filled.numbers[0])) == ("volume", 5)


def test_values_that_are_new_by_nature_are_not_judged(profile: Profile, row_features: RowFeatures) -> None:
    assert list_growing(profile.inputs) == ["tail"]
    found = measure_drift(profile.inputs, streams.count_rows(make_stream(2), row_features, profile), profile.relations)
    assert ("tail", "unseen values") not in found.usual
    assert found.effects["tail", "unseen values"].max() > 0.005, "it is measured all the same"


def test_each_window_is_compared_without_its_own_group() -> None:
    values, groups = np.arange(12.0).reshape(6, 2), np.array([0, 0, 1, 1, 1, 3])
    own = np.array([True, False, True, False, False, True])
    found = hold_out(values, values[own], groups, groups[own])
    assert found.tolist() == [values[groups != group].sum(axis=0).tolist() for group in groups[own]]


def test_few_windows_give_effects_but_no_alarm(row_features: RowFeatures) -> None:
    short = streams.profile_rows(streams.make_days(21, seed=1), row_features)
    rows = streams.plant(make_stream(21), streams.CHANGES["thousands"][0])
    found = measure_drift(short.inputs, streams.count_rows(rows, row_features, short), short.relations)
    assert not short.inputs.is_calibrated
    assert (found.usual, found.changes) == ({}, ())
    assert found.effects["distance", "distribution"].max() > 10


def test_windows_much_smaller_than_those_of_the_reference_are_not_compared(
    profile: Profile, row_features: RowFeatures
) -> None:
    rows = make_stream(2).groupby(lambda row: row // streams.ROWS).head(40)
    found = measure_drift(profile.inputs, streams.count_rows(rows, row_features, profile), profile.relations)
    assert found.n_small == len(found.counts.rows)
    assert {change.kind for change in found.changes} == {"volume"}
    assert np.isnan(found.effects["city", "distribution"]).all()


# z by window; floor 1 is reached where the effect is 2.
@pytest.mark.parametrize(
    ("scores", "effects", "pending", "alarms"),
    [
        ([5, 7, 5, 7, 5], 2, [], []),
        ([5, 7, 7, 7, 5], 2, [], [102, 103]),
        ([5, 5, 13, 5, 5], 2, [], [102]),
        ([13, 13, 13, 13, 13], 0.5, [], []),
        ([7, 5, 5, 5, 5], 2, [99], [100]),
        ([7, 5, 5, 5, 5], 2, [98], []),
    ],
)
def test_alarm_needs_two_windows_in_a_row_or_one_that_is_far_off(
    scores: list[float], effects: float, pending: list[int], alarms: list[int]
) -> None:
    numbers = np.arange(100, 105)
    key = ("a", "distribution")
    found = find_changes(
        numbers,
        {key: np.full(5, float(effects))},
        {key: np.array(scores, float)},
        {key: Usual(0.0, 1.0, 1.0)},
        {name_series(key): pending},
    )
    assert [(one.first, one.last) for one in found] == ([(alarms[0], alarms[-1])] if alarms else [])


def test_more_series_raise_the_thresholds() -> None:
    assert scale_thresholds(10) == scale_thresholds(42) == (6.0, 12.0)
    twice, once = scale_thresholds(4200)
    assert 6.5 < twice < 8
    assert once == 2 * twice


def test_series_that_never_varied_alarms_by_its_floor_alone() -> None:
    usual = Usual(0.0, 0.0, 0.05)
    assert usual.score(np.array([0.0, 0.01, math.nan])).tolist()[:2] == [0, 999]
