"""Rows as a whole: calm weeks cannot be told from the reference, other combinations of columns can."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.monitoring.domain_classifier import RowComparison, choose_compared, compare_rows, count_pairs, fit_folds
from labkit.monitoring.drift import measure_drift
from labkit.monitoring.profile_files import load_profile, make_profile_files
from labkit.monitoring.reference_profile import Profile, make_profile
from labkit.monitoring.row_batches import read_frame
from labkit.monitoring.row_sample import RowSample, Sampler, choose_quota

from tests.monitoring import streams

N_SAMPLED = 4000


@pytest.fixture(scope="module")
def row_features() -> RowFeatures:
    return streams.fit_features(streams.make_days(3, seed=1))


@pytest.fixture(scope="module")
def reference_rows() -> pd.DataFrame:
    return streams.make_days(streams.REFERENCE_DAYS, seed=1)


@pytest.fixture(scope="module")
def profile(row_features: RowFeatures, reference_rows: pd.DataFrame) -> Profile:
    read = lambda: read_frame(reference_rows, row_features)  # noqa: E731
    return make_profile("small", read, row_features, n_sampled=N_SAMPLED, seed=3)


def draw_sample(rows: pd.DataFrame, row_features: RowFeatures, profile: Profile, quota: int = 47) -> RowSample:
    sampler = Sampler(profile.inputs.layout, quota, seed=0)
    for batch in read_frame(rows, row_features):
        sampler.add(batch.columns, profile.inputs.windows.assign(batch, 0))
    return sampler.get_sample()


def compare(rows: pd.DataFrame, row_features: RowFeatures, profile: Profile) -> RowComparison:
    counts = streams.count_rows(rows, row_features, profile)
    return compare_rows(profile.inputs, profile.sample, draw_sample(rows, row_features, profile), counts)


def make_stream(seed: int, n_days: int = 14) -> pd.DataFrame:
    return streams.make_days(n_days, seed=seed, first=streams.REFERENCE_DAYS)


def test_calm_weeks_with_weather_of_their_own_do_not_alarm(profile: Profile, row_features: RowFeatures) -> None:
    found = compare(make_stream(11, 28), row_features, profile)
    assert len(found.stretches) == 4
    assert found.alarms == []
    assert len(found.areas) == 30
    for one in found.stretches:
        assert one.last - one.first == 6
        assert one.area.low < one.area.value < one.area.high
        assert one.area.value < 0.6
    # Each day has its own, so they would name the day; `tail` grows by nature.
    assert sorted(found.left_out) == ["dew", "tail", "temp", "wind"]


def test_combinations_that_do_not_occur_are_found_where_no_column_changes(
    profile: Profile, row_features: RowFeatures
) -> None:
    rows = make_stream(21)
    days = (rows["predict_at"] - rows["predict_at"].min().floor("D")).dt.days
    shuffled = rows.groupby(days)["city"].transform(lambda values: values.sample(frac=1, random_state=0).to_numpy())
    rows = rows.assign(city=rows["city"].where(days < 7, shuffled))
    counts = streams.count_rows(rows, row_features, profile)
    assert measure_drift(profile.inputs, counts, profile.relations).changes == ()
    before, after = compare(rows, row_features, profile).stretches
    assert not before.is_alarm
    assert after.is_alarm
    assert {name for name, _ in after.columns} == {"city", "distance"}
    assert after.area.low > 0.75


def test_area_and_its_interval_are_those_of_all_pairs_of_rows(profile: Profile, row_features: RowFeatures) -> None:
    assert profile.sample is not None
    now = draw_sample(make_stream(5, 7), row_features, profile)
    folds, models = fit_folds(now, profile.sample, [])
    right = total = 0.0
    for fold, model in enumerate(models):
        scores = []
        for side in (now, profile.sample):
            places = np.unique(side.numbers, return_inverse=True)[1]
            scores.append(np.asarray(model.booster_.predict(side.values[places % 2 == fold], raw_score=True)))
        ours, theirs = scores
        right += (ours[:, None] > theirs).sum() + (ours[:, None] == theirs).sum() / 2
        total += len(ours) * len(theirs)
    n_windows = [len(np.unique(side.numbers)) for side in (now, profile.sample)]
    assert folds.compute_area(*(np.ones(n) for n in n_windows)) == pytest.approx(right / total)
    assert count_pairs(np.array([1.0]), np.array([0]), np.array([1.0]), np.array([0])).tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("days", "rows", "reason"),
    [(2, streams.ROWS, "2 windows with enough rows, 3 are needed"), (7, 20, "0 windows with enough rows")],
)
def test_few_windows_or_rows_are_not_compared(
    profile: Profile, row_features: RowFeatures, days: int, rows: int, reason: str
) -> None:
    stream = streams.make_days(days, seed=4, first=streams.REFERENCE_DAYS, rows=rows)
    found = compare(stream, row_features, profile)
    assert (found.stretches, reason in found.reason) == ((), True), found.reason


def test_release_without_a_sample_is_not_compared(profile: Profile, row_features: RowFeatures) -> None:
    found = compare(make_stream(4), row_features, replace(profile, sample=None))
    assert found.reason == "the release has no sample of training rows (deploy.reference_rows)"


def test_column_that_never_varies_is_left_out(row_features: RowFeatures, reference_rows: pd.DataFrame) -> None:
    rows = reference_rows.assign(seats=50.0)
    profile = make_profile("small", lambda: read_frame(rows, row_features), row_features)
    names = [*profile.inputs.layout]
    compared, left_out = choose_compared(profile.inputs)
    assert [names[place] for place in compared] == ["hour", "distance", "seats", "city"]
    assert "temp" in left_out


def test_sample_is_bounded_even_and_does_not_depend_on_batches(
    profile: Profile, row_features: RowFeatures, reference_rows: pd.DataFrame
) -> None:
    assert profile.sample is not None
    assert profile.sample.quota == choose_quota(N_SAMPLED, streams.REFERENCE_DAYS, 8) == 47
    assert np.unique(profile.sample.numbers, return_counts=True)[1].tolist() == [47] * streams.REFERENCE_DAYS
    sampler = Sampler(profile.inputs.layout, 47, seed=3)
    for start in range(0, len(reference_rows), 101):
        for batch in read_frame(reference_rows.iloc[start : start + 101], row_features):
            sampler.add(batch.columns, profile.inputs.windows.assign(batch, 0))
    found = sampler.get_sample()
    np.testing.assert_array_equal(found.numbers, profile.sample.numbers)
    np.testing.assert_array_equal(found.values, profile.sample.values)
    place = [*profile.inputs.layout].index("distance")
    assert np.nanmean(found.values[:, place]) == pytest.approx(reference_rows["distance"].mean(), rel=0.02)
    assert set(found.values[:, place]) <= {np.float32(one) for one in reference_rows["distance"]}
    assert choose_quota(10_000, 100, 100_000) == 1
    assert choose_quota(0, 100, 8) == 0


def test_sample_is_released_without_strings_of_the_data(profile: Profile, tmp_path: Path) -> None:
    files = make_profile_files(profile)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert b"city 3" not in content
    loaded = load_profile(tmp_path).sample
    assert loaded is not None
    assert profile.sample is not None
    np.testing.assert_array_equal(loaded.values, profile.sample.values)
    assert loaded.quota == 47
    assert "sample" not in json.loads(make_profile_files(replace(profile, sample=None))["reference_profile.json"])


def test_reference_that_is_not_calibrated_releases_no_rows(row_features: RowFeatures) -> None:
    rows = streams.make_days(21, seed=1)
    profile = make_profile("small", lambda: read_frame(rows, row_features), row_features, n_sampled=N_SAMPLED)
    assert profile.sample is None
