"""Which rows are drawn together, and how long runs of days are."""

import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation.blocks import Blocks, find_blocks, make_rows
from labkit.params.tables import Data


def make_data(zone: str = "", **split: object) -> Data:
    """Return params with a target `y`, that split, and times of that zone if there is one."""
    time = {"predict_at": "asked", "outcome_known_at": "asked", "zone": zone} if zone else None
    target = {"column": "y", "task": "regression"}
    return Data.model_validate({"tables": {"t": {"path": "t.csv"}}, "target": target, "split": split, "time": time})


TIMES = pd.to_datetime(["2024-01-02 23:00", "2024-01-01 08:00", "2024-01-02 00:00", "2024-01-05 12:00"], utc=True)


def test_rows_days_or_groups() -> None:
    frame = pd.DataFrame({"y": [1.0, 2.0, 3.0, 4.0], "patient": ["b", "a", "b", "c"]})
    assert str(find_blocks(frame, make_data())) == "4 rows"
    timed = find_blocks(frame.assign(predict_at=TIMES), make_data())
    assert (timed.codes.tolist(), str(timed)) == ([1, 0, 1, 2], "3 days")
    evening = find_blocks(frame.assign(predict_at=TIMES), make_data("America/New_York"))
    assert evening.codes.tolist() == [1, 0, 0, 2], "midnight in London is the evening before in New York"
    grouped = find_blocks(frame.assign(predict_at=TIMES), make_data(method="group", group="patient"))
    assert (grouped.codes.tolist(), str(grouped)) == ([1, 0, 1, 2], "3 values of patient")
    assert timed.take(np.array([0, 3])).codes.tolist() == [0, 1]


@pytest.mark.parametrize("length", [1, 3])
def test_whole_blocks_are_drawn_equally_often_and_in_runs(length: int) -> None:
    codes = np.repeat(np.arange(10), 4)
    draws = Blocks(codes, "day", length).draw_weights(seed=0)
    found = np.array([next(draws) for _ in range(2000)])
    per_day = found[:, ::4]
    assert (found == np.repeat(per_day, 4, axis=1)).all()
    assert (per_day.sum(axis=1) == 10).all()
    assert per_day.mean(axis=0) == pytest.approx(1.0, abs=0.1)
    together = np.corrcoef(per_day[:, 2], per_day[:, 3])[0, 1]
    assert together > 0.4 if length == 3 else together < 0.1


def test_rows_are_drawn_as_ever() -> None:
    random = np.random.default_rng(5)
    plain = [np.bincount(random.integers(0, 7, 7), minlength=7) for _ in range(3)]
    draws = make_rows(7).draw_weights(seed=5)
    assert [next(draws).tolist() for _ in range(3)] == [weights.tolist() for weights in plain]


def test_run_length_follows_the_correlation_of_days() -> None:
    days = np.repeat(np.arange(200), 5)
    blocks = Blocks(days, "day")
    lengths = {"noise": [], "slow": []}
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=200)
        slow = np.zeros(200)
        for day in range(1, 200):
            slow[day] = 0.8 * slow[day - 1] + noise[day]
        lengths["noise"].append(blocks.fit_length(noise[days]).length)
        lengths["slow"].append(blocks.fit_length(slow[days]).length)
    assert np.mean(np.array(lengths["noise"]) == 1) >= 0.85
    assert min(lengths["slow"]) >= 6
    assert str(blocks.fit_length(slow[days])).startswith("200 days, in runs of ")
    assert blocks.fit_length(np.zeros(1000)) == blocks
    assert make_rows(1000).fit_length(slow[days]).length == 1
    assert Blocks(days % 4, "day").fit_length(slow[days]).length == 1


def test_standard_error_of_a_mean() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=300)
    assert make_rows(300).compute_error(values) == pytest.approx(values.std(ddof=1) / np.sqrt(300))
    days = np.repeat(np.arange(30), 10)
    means = random.normal(size=30)
    assert Blocks(days, "day").compute_error(means[days]) == pytest.approx(means.std(ddof=1) / np.sqrt(30))
    assert np.isnan(Blocks(np.zeros(5, int), "day").compute_error(np.arange(5.0)))
