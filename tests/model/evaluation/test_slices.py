"""Slices: what was put in is found, and noise is not."""

import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.evaluation.metrics import compute_losses
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.slices import cut_column, find_worst_slices
from labkit.params.subject import Subject
from labkit.params.tables import ColumnMeaning


def make_table(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Return numbers, strings with missing values, booleans and times, all unrelated to each other."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({f"number {i}": random.normal(size=n_rows) for i in range(5)})
    frame["month"] = random.integers(1, 5, n_rows)
    frame["place"] = random.choice(["A", "B", "C", "D", None], n_rows)
    frame["flag"] = random.random(n_rows) < 0.4
    frame["when"] = pd.date_range("2024-01-01", periods=n_rows, freq="h", tz="UTC")
    frame.loc[::6, "number 0"] = np.nan
    return frame


def find(frame: pd.DataFrame, errors: np.ndarray, most: int = 5) -> list[str]:
    """Return the slices of a regression with these errors."""
    found = find_worst_slices(
        frame, Predictions(np.zeros(len(frame)), errors), most=most, confidence=0.95, blocks=make_rows(len(frame))
    )
    return list(found["slice"]) if len(found) else []


@pytest.mark.slow
def test_noise_is_not_reported() -> None:
    alarms = 0
    for seed in range(40):
        errors = np.random.default_rng(seed + 100).lognormal(0, 1, 500)
        alarms += bool(find(make_table(500, seed), errors))
    assert alarms <= 5


def test_days_are_one_draw_each() -> None:
    """Errors are the work of the days; a column that follows the days is not to blame for what they brought."""
    random, alarms, by_rows = np.random.default_rng(0), 0, 0
    days = np.repeat(np.arange(60), 40)
    for _ in range(20):
        errors = np.abs(random.normal(size=60)[days] + random.normal(size=2400) / 2)
        frame = pd.DataFrame({"temperature": random.normal(size=60)[days], "place": random.choice(list("ABC"), 2400)})
        for blocks in (Blocks(days, "day"), make_rows(2400)):
            found = find_worst_slices(
                frame, Predictions(np.zeros(2400), errors), most=1, confidence=0.95, blocks=blocks
            )
            alarms += len(found) if blocks.unit == "day" else 0
            by_rows += len(found) if blocks.unit == "row" else 0
    assert alarms <= 3
    assert by_rows >= 18


def test_what_is_bad_on_every_day_is_found_among_days() -> None:
    random = np.random.default_rng(1)
    days = np.repeat(np.arange(60), 40)
    frame = pd.DataFrame({"temperature": random.normal(size=60)[days], "place": random.choice(list("ABC"), 2400)})
    errors = np.abs(random.normal(size=60)[days] + random.normal(size=2400)) + 2 * (frame["place"] == "B")
    for blocks in (Blocks(days, "day"), Blocks(days, "day", 3), Blocks(np.arange(2400) // 2, "patient")):
        found = find_worst_slices(
            frame, Predictions(np.zeros(2400), errors.to_numpy()), most=1, confidence=0.95, blocks=blocks
        )
        assert found["slice"].tolist() == ["place = B"]
        assert 1.5 < found["low"][0] < 2 < found["high"][0] < 2.5


PLANTED = {
    "a range": (lambda f: f["number 1"] >= 0.97, "number 1 ≥"),
    "a value": (lambda f: f["place"] == "B", "place = B"),
    "a missing value": (lambda f: f["number 0"].isna(), "number 0 missing"),
    "a number of few": (lambda f: f["month"] == 3, "month = 3"),
    "a boolean": (lambda f: f["flag"], "flag = True"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_single_condition_is_found_alone(name: str) -> None:
    condition, words = PLANTED[name]
    frame = make_table(3000)
    errors = np.random.default_rng(1).exponential(size=3000) * np.where(condition(frame), 2.0, 1.0)
    found = find(frame, errors)
    assert found[0].startswith(words)
    assert len(found) == 1
    assert " and " not in found[0]


def test_pair_is_found_as_a_pair_and_reported_once() -> None:
    frame = make_table(4000)
    is_hard = (frame["place"] == "C") & frame["flag"]
    errors = np.random.default_rng(1).exponential(size=4000) * np.where(is_hard, 3.0, 1.0)
    assert find(frame, errors) == ["place = C and flag = True"]


def test_metrics_of_a_slice_are_those_of_its_rows() -> None:
    frame = make_table(3000)
    random, is_hard = np.random.default_rng(2), (frame["place"] == "B").to_numpy()
    probability = random.beta(2, 5, 3000)
    y_true = (random.random(3000) < np.where(is_hard, 1 - probability, probability)).astype(int)
    predictions = Predictions.from_proba(y_true, np.column_stack([1 - probability, probability]), ("no", "yes"))
    line = find_worst_slices(frame, predictions, most=1, confidence=0.95, blocks=make_rows(len(frame))).iloc[0]
    losses = compute_losses(predictions)
    assert line["slice"] == "place = B"
    assert line["rows"] == is_hard.sum()
    assert line["loss"] == pytest.approx(losses[is_hard].mean())
    assert line["elsewhere"] == pytest.approx(losses[~is_hard].mean())
    assert line["low"] < line["loss"] - line["elsewhere"] < line["high"]
    assert line["true"] == pytest.approx(y_true[is_hard].mean())
    assert line["prediction"] == pytest.approx(probability[is_hard].mean())


def test_description_names_the_rows() -> None:
    values = pd.Series(np.random.default_rng(0).normal(1000, 250, 500), name="size")
    bins = cut_column("size", values)
    edges = [float(text.rpartition(" ")[2]) for text in bins.conditions[:-2]]
    np.testing.assert_array_equal(bins.codes, np.searchsorted(edges, values, side="right"))


def test_nothing_to_search() -> None:
    frame = pd.DataFrame({"constant": [1.0] * 100, "when": pd.date_range("2024-01-01", periods=100)})
    assert find(frame, np.ones(100)) == []
    assert find(make_table(30), np.ones(30)) == []
    assert find(make_table(3000), np.arange(3000.0), most=0) == []


def test_slice_that_mostly_repeats_a_better_one_is_left_out() -> None:
    random = np.random.default_rng(0)
    hour = random.uniform(0, 24, 6000)
    frame = pd.DataFrame({"hour": hour, "minute of day": 60 * hour + random.normal(0, 25, 6000)})
    errors = random.exponential(size=6000) * np.where(hour > 17, 4.0, 1.0)
    found = find(frame, errors)
    evening = [name for name in found if "hour ≥" in name or "minute of day ≥" in name]
    assert len(evening) == 1


def test_minutes_of_a_day_are_shown_as_times() -> None:
    subject = Subject("", columns={"departure": ColumnMeaning(format="time_of_day")})
    values = pd.Series(np.arange(0, 1440, 5), name="departure")
    bins = cut_column("departure", values, subject)
    assert bins.conditions[:2] == ["departure < 03:59", "departure from 03:59 to below 07:58"]
    assert (bins.codes == np.searchsorted([239, 478, 718, 957, 1200], values, side="right")).mean() > 0.99
    assert cut_column("departure", values.head(3), subject).conditions[1] == "departure = 00:05"
    plain = Subject("", columns={"departure": ColumnMeaning(unit="minutes after midnight")})
    assert plain.format_value("departure", 239) == "239", "the unit is only shown"
