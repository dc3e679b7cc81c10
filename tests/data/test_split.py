"""The split: frozen, disjoint, stratified, and refused where it cannot be made."""

import json

import numpy as np
import pandas as pd
import pytest
from labkit.data.split import (
    count_embargoed,
    describe_split,
    find_lacking_classes,
    mark_explored,
    split_rows,
    summarise_targets,
)
from labkit.errors import DataError
from labkit.params.subject import Subject
from labkit.params.tables import Data


def make_data(task: str = "classification", **split: object) -> Data:
    """Return params with a target `y`."""
    tree = {"tables": {"t": {"path": "t.csv"}}, "target": {"column": "y", "task": task}, "split": split}
    return Data.model_validate_json(json.dumps(tree))


def make_frame(n_rows: int = 200, share: float = 0.1) -> pd.DataFrame:
    """Return a two-class table."""
    y = np.where(np.arange(n_rows) < n_rows * share, "rare", "common")
    return pd.DataFrame({"x": np.arange(n_rows), "y": y}).rename_axis(index="row")


def test_every_row_is_in_exactly_one_part_and_in_order() -> None:
    frame = make_frame()
    parts = split_rows(frame, make_data(validation=0.2, holdout=0.3), seed=1)
    assert {name: len(part) for name, part in parts.items()} == {"training": 100, "validation": 40, "holdout": 60}
    rows = [row for part in parts.values() for row in part.index]
    assert sorted(rows) == list(range(200))
    assert all(part.index.is_monotonic_increasing for part in parts.values())


def test_classes_keep_their_shares() -> None:
    for part in split_rows(make_frame(), make_data(), seed=1).values():
        assert (part["y"] == "rare").mean() == pytest.approx(0.1, abs=0.01)


def test_same_seed_same_split_other_seed_other_split() -> None:
    frame, data = make_frame(), make_data()
    first, again, other = (
        describe_split(split_rows(frame, data, seed=seed), data, seed=seed, embargoed={}) for seed in (1, 1, 2)
    )
    assert first == again
    assert first["parts"]["holdout"]["rows_sha256"] != other["parts"]["holdout"]["rows_sha256"]


@pytest.mark.parametrize(
    ("frame", "task", "message"),
    [
        (make_frame(10), "classification", "10 rows are left"),
        (make_frame().assign(y=["a"] * 200), "classification", "has one class, 'a'"),
        (
            make_frame().assign(y=["a", "b"] + ["c"] * 198),
            "classification",
            "fewer than 3 rows.*'a' with 1; 'b' with 1",
        ),
        (make_frame().assign(y=[None] + ["a", "b"] * 99 + ["a"]), "classification", r"missing in 1 rows \(0\)"),
        (make_frame(), "regression", "holds 'rare', not numbers"),
    ],
)
def test_target_that_cannot_be_learnt(frame: pd.DataFrame, task: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_rows(frame, make_data(task), seed=1)


def make_timed(n_days: int = 90) -> pd.DataFrame:
    """Return two rows a day, latest first, whose outcome is known a day later."""
    asked = pd.date_range("2020-01-01", periods=2 * n_days, freq="12h", tz="UTC", unit="us")[::-1]
    y = np.where(np.arange(2 * n_days) % 4 == 0, "late", "well")
    frame = pd.DataFrame({"y": y, "predict_at": asked, "outcome_known_at": asked + pd.Timedelta(days=1)})
    return frame.assign(g=np.arange(2 * n_days) // 6).rename_axis(index="row")


def make_timed_data(zone: str = "UTC", **split: object) -> Data:
    """Return params with times."""
    tree = make_data().model_dump(mode="json")
    times = {"predict_at": "a", "outcome_known_at": "b", "zone": zone}
    return Data.model_validate_json(json.dumps({**tree, "time": times, "split": split}))


TIMES = {"method": "time", "validation_from": "2020-02-01", "holdout_from": "2020-02-15", "aside_from": "2020-03-01"}


def test_parts_follow_each_other_in_time_and_start_at_midnight() -> None:
    data = make_timed_data(**TIMES)
    parts = split_rows(make_timed(), data, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {
        "training": 61,
        "validation": 27,
        "holdout": 30,
        "aside": 60,
    }
    assert parts["validation"]["predict_at"].iloc[0] == pd.Timestamp("2020-02-01", tz="UTC")
    assert all(part["predict_at"].is_monotonic_increasing for part in parts.values())
    described = describe_split(parts, data, seed=0, embargoed=count_embargoed(make_timed(), data))
    assert described["first_days"] == {"validation": "2020-02-01", "holdout": "2020-02-15", "aside": "2020-03-01"}
    assert described["parts"]["training"]["last"] == "2020-01-31T00:00:00+00:00"
    assert described["embargoed"] == {"training": 1, "validation": 1}
    assert described["seed"] is None


@pytest.mark.parametrize(
    ("zone", "first"),
    [("America/New_York", "2020-02-01 12:00"), ("Asia/Tokyo", "2020-02-01 00:00"), ("Etc/GMT-13", "2020-01-31 12:00")],
)
def test_days_of_the_split_begin_in_the_declared_zone(zone: str, first: str) -> None:
    """Rows are 12 hours apart: the first one of the day follows midnight there."""
    parts = split_rows(make_timed(), make_timed_data(zone, **TIMES), seed=0)
    assert parts["validation"]["predict_at"].iloc[0] == pd.Timestamp(first, tz="UTC")


@pytest.mark.parametrize("zone", ["New York", "../etc/passwd", "", "UTC+1"])
def test_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        make_timed_data(zone, **TIMES)


def find_parts_of(row: int, known: str, data: Data) -> list[str]:
    """Return the parts that hold a row once its outcome became known at that time."""
    frame = make_timed()
    frame.loc[row, "outcome_known_at"] = pd.Timestamp(known, tz="UTC")
    parts = split_rows(frame, data, seed=0)
    embargoed = count_embargoed(frame, data)
    assert sum(map(len, parts.values())) + sum(embargoed.values()) == len(frame)
    return [name for name, part in parts.items() if row in part.index]


def test_an_outcome_known_after_the_next_part_began_neither_trains_nor_chooses() -> None:
    data = make_timed_data(**TIMES)
    asked = make_timed()["predict_at"]
    january, february, judged = (asked.index[asked == time][0] for time in ("2020-01-10", "2020-02-05", "2020-02-20"))
    assert find_parts_of(january, "2020-02-01", data) == ["training"]
    assert find_parts_of(january, "2020-02-01 00:00:01", data) == []
    assert find_parts_of(february, "2020-02-15", data) == ["validation"]
    assert find_parts_of(february, "2020-02-15 00:00:01", data) == []
    # The holdout judges: its outcomes may come whenever they come.
    assert find_parts_of(judged, "2021-01-01", data) == ["holdout"]
    assert count_embargoed(make_timed(), make_data()) == {}


def test_a_part_of_which_no_outcome_was_known_in_time_is_refused() -> None:
    frame = make_timed()
    frame["outcome_known_at"] += pd.Timedelta(days=60)
    message = (
        r"no outcome of the part 'training' \(62 in all\) was known before the next part began, on 2020-02-01: move"
    )
    with pytest.raises(DataError, match=message):
        split_rows(frame, make_timed_data(**TIMES), seed=0)
    frame.loc[100:, "outcome_known_at"] = pd.NaT
    with pytest.raises(DataError, match="no outcome of the part 'training'"):
        split_rows(frame, make_timed_data(**TIMES), seed=0)


def test_groups_stay_together_and_parts_have_about_their_shares() -> None:
    data = make_data(method="group", group="g", validation=0.2, holdout=0.3)
    parts = split_rows(make_timed(), data, seed=4)
    groups = [set(part["g"]) for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 30
    assert [round(len(part) / 180, 1) for part in parts.values()] == [0.5, 0.2, 0.3]
    again = split_rows(make_timed(), data, seed=4)
    assert all(part.index.equals(again[name].index) for name, part in parts.items())


def test_rows_without_a_time_are_refused() -> None:
    frame = make_timed()
    frame.loc[3, "predict_at"] = pd.NaT
    with pytest.raises(DataError, match=r"1 rows have no predict_at \(rows 3\): filter them out"):
        split_rows(frame, make_timed_data(**TIMES), seed=0)


def test_target_known_too_early_is_refused() -> None:
    frame = make_timed()
    frame.loc[3, "outcome_known_at"] = frame["predict_at"][3]
    with pytest.raises(
        DataError, match=r"1 rows have an outcome that is already known at prediction time \(first: row 3"
    ):
        split_rows(frame, make_timed_data(**TIMES), seed=0)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match="the part 'aside' has no rows"):
        split_rows(make_timed(), make_timed_data(**{**TIMES, "aside_from": "2021-01-01"}), seed=0)


def test_classes_that_only_some_parts_have_are_named() -> None:
    parts = {
        name: pd.DataFrame({"y": list(classes)})
        for name, classes in {"training": "aab", "validation": "abf", "holdout": "afg", "aside": "z"}.items()
    }
    lacking = {"training": ["f", "g"], "validation": ["g"], "holdout": ["b"]}
    assert find_lacking_classes(parts, make_data()) == lacking
    assert find_lacking_classes(parts, make_data("regression")) == {}
    assert find_lacking_classes(dict.fromkeys(parts, parts["training"]), make_data()) == {}


def test_classes_are_summarised_by_their_shares_and_numbers_by_their_quartiles() -> None:
    parts = {"training": pd.DataFrame({"y": [0, 0, 1, 1]}), "holdout": pd.DataFrame({"y": [0, 0, 0, 1]})}
    target = make_data().target
    assert summarise_targets(parts, target.model_copy(update={"positive": 1})).to_dict("list") == {
        "part": ["training", "holdout"],
        "rows": [4, 4],
        "share of 1": [0.5, 0.25],
    }
    assert list(summarise_targets(parts, target)) == ["part", "rows", "share of 0", "share of 1"]
    subject = Subject("", labels={"0": "on time", "1": "late"})
    assert list(summarise_targets(parts, target, subject=subject))[2:] == ["share of on time", "share of late"]
    assert {"mean", "25%", "max"} <= set(summarise_targets(parts, make_data("regression").target))


def make_data_by_time(**days: str) -> Data:
    """Return params of a split by time."""
    content = {"tables": {"t": {"path": "t.csv", "times": ["at"]}}, "target": {"column": "y", "task": "classification"}}
    content |= {"split": {"method": "time", **days}, "time": {"predict_at": "at", "outcome_known_at": "at + hours(1)"}}
    return Data.model_validate_json(json.dumps(content))


def test_exploration_describes_the_rows_before_the_first_day_after_training() -> None:
    data = make_data_by_time(validation_from="2024-01-03", holdout_from="2024-01-05")
    days = ["2024-01-01", "2024-01-02 23:59", "2024-01-03", None, "2024-02-01"]
    times = pd.Series(pd.to_datetime(days, utc=True, format="ISO8601"))
    assert mark_explored(pd.DataFrame({"predict_at": times}), data).tolist() == [True, True, False, False, False]
    late = pd.DataFrame({"predict_at": times[2:]})
    assert mark_explored(late, data).all(), "the split is refused later, with its own message"
    assert mark_explored(make_frame(20), make_data()).all()
    assert mark_explored(make_frame(20), make_data(method="group", group="x")).all()


def test_training_part_and_explored_rows_follow_one_rule() -> None:
    times = pd.date_range("2024-01-01", periods=60, freq="12h", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"y": ["a", "b"] * 30, "predict_at": times, "outcome_known_at": times + pd.Timedelta("1h")})
    data = make_data_by_time(validation_from="2024-01-15", holdout_from="2024-01-20")
    assert frame.index[mark_explored(frame, data)].equals(split_rows(frame, data, seed=0)["training"].index)
