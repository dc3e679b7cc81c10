"""Proof against leakage: whatever becomes known after a row is asked, no feature of that row changes.

Every raw value that is known later is replaced by another: other rows' outcomes, the row's own, and rows of a joined
table that were written later. Features before and after must be the same, byte for byte.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.cleaning import apply_filters
from labkit.data.computed_columns import settle_target
from labkit.data.joins import join_tables
from labkit.errors import DataError
from labkit.features import outcome_rates
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.row_features import RowFeatures
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.params.tables import Join
from labkit.stages.source import load_tables

Tables = dict[str, pd.DataFrame]
LATER = {"delay", "duration", "dep_delay", "dep_time", "arr_time", "arr_delay", "air_time"}
"""Columns of the main tables that are known with the outcome only."""

SMALL: dict[str, Any] = {
    "experiment": "trips",
    "seed": 0,
    "data": {
        "tables": {"trips": {"path": "t.csv", "times": ["at"]}, "sky": {"path": "s.csv", "times": ["seen"]}},
        "derived": {"start": "at + minutes(minute)"},
        "time": {"predict_at": "start - hours(2)", "outcome_known_at": "start + minutes(delay + duration)"},
        "joins": [{"table": "sky", "keys": {"place": "where"}, "as_of": "seen", "within_hours": 6, "prefix": "sky_"}],
        "target": {"column": "late", "task": "classification", "positive": 1, "expression": "delay > 15"},
        "split": {
            "method": "time",
            "validation_from": "2020-02-01",
            "holdout_from": "2020-02-10",
            "aside_from": "2020-02-20",
        },
    },
    "wrangling": {"filters": ["not missing(delay)"], "drop": {"delay": "later", "duration": "later", "at": "as start"}},
    "features": {
        "dates": {"start": {"zone": "America/New_York", "parts": ["hour", "weekday"]}},
        "expressions": {"warm": "sky_heat > 20"},
        "history": {
            "all": {"days": [1, 7]},
            "place": {"keys": ["place"], "days": [7]},
            "both": {"keys": ["place", "plane"], "days": [28]},
        },
        "drop": ["plane"],
    },
    "training": {"metric": "roc_auc"},
    **{name: {} for name in ("eda", "evaluation", "deploy")},
}


def make_small() -> tuple[Params, Tables]:
    """Return two tables like flights and weather, with missing values, and their params."""
    random = np.random.default_rng(1)
    n_rows = 600
    at = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(np.sort(random.integers(0, 60 * 24, n_rows)), "h")
    trips = pd.DataFrame(
        {
            "at": at.as_unit("us"),
            "minute": random.integers(0, 60, n_rows),
            "place": random.choice(["a", "b", None], n_rows, p=[0.5, 0.45, 0.05]),
            "plane": random.choice(["x", "y", "z", None], n_rows),
            "delay": np.where(random.random(n_rows) < 0.05, np.nan, random.normal(10, 30, n_rows).round()),
            "duration": random.integers(90, 400, n_rows).astype(float),
        }
    )
    hours = pd.date_range("2019-12-31", periods=24 * 70, freq="h", tz="UTC", unit="us")
    sky = pd.DataFrame({"seen": np.repeat(hours, 2), "where": ["a", "b"] * len(hours)})
    sky["heat"] = random.normal(15, 8, len(sky))
    keep = random.random(len(sky)) < 0.8
    return Params.model_validate_json(json.dumps(SMALL)), {"trips": trips, "sky": sky[keep].reset_index(drop=True)}


def make_flights() -> tuple[Params, Tables]:
    """Return 5,000 real flights, with what is joined to them, and their params."""
    params = load_params("flights")
    tables = load_tables(params.data)
    flights = tables["flights"]
    days = flights[flights["month"].isin([6, 7])]
    tables["flights"] = days.sample(5000, random_state=0).sort_index().reset_index(drop=True)
    return params, tables


def compute_features(params: Params, tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the features of all rows that have a target, with all outcomes observed, and the joined rows."""
    joined = join_tables(tables, params.data)
    rows = settle_target(apply_filters(joined, params.wrangling.filters)[0], params.data.target)
    rows = rows.drop(columns=list(params.wrangling.drop))
    target = params.data.target.column
    features = RowFeatures.from_params(params).fit(rows.drop(columns=target), rows[target])
    return features.transform(rows), joined


def change_outcomes(table: pd.DataFrame, known_at: pd.Series, moment: pd.Timestamp) -> pd.DataFrame:
    """Return the main table with every value changed that is known after a moment only, and nothing else."""
    later = (known_at > moment).to_numpy()
    changed = table.copy()
    for name in LATER & set(table):
        changed.loc[later, name] = changed.loc[later, name] + (200 if "delay" in name else 7)
    return changed


def change_later_rows(table: pd.DataFrame, join: Join, moment: pd.Timestamp) -> pd.DataFrame:
    """Return a joined table with all numbers changed that are known later, and rows added one second after."""
    numbers = [name for name in table.select_dtypes("number") if name not in join.keys.values()]
    changed = table.astype(dict.fromkeys(numbers, "float64"))
    changed.loc[changed[join.as_of] > moment, numbers] += 100
    added = changed.drop_duplicates(list(join.keys.values())).copy()
    added[join.as_of] = moment + pd.Timedelta(seconds=1)
    added[numbers] = 777.0
    return pd.concat([changed, added], ignore_index=True)


def pick_moments(joined: pd.DataFrame) -> list[pd.Timestamp]:
    """Return moments at which rows are asked, none on the full hour: there an as-of join has its own row."""
    asked = joined[PREDICT_AT]
    between = asked[asked.dt.minute > 30].sort_values()
    return [between.iloc[int(len(between) * share)] for share in (0.2, 0.5, 0.8)]


CASES = pytest.mark.parametrize("make", [make_small, make_flights], ids=["synthetic", "flights"])


@pytest.mark.slow
@CASES
def test_what_is_known_later_changes_no_feature(make: Any) -> None:
    params, tables = make()
    main = params.data.main_table
    before, joined = compute_features(params, tables)
    for moment in pick_moments(joined):
        changed = {**tables, main: change_outcomes(tables[main], joined[OUTCOME_KNOWN_AT], moment)}
        for join in params.data.joins:
            if join.as_of:
                changed[join.table] = change_later_rows(tables[join.table], join, moment)
        after, _ = compute_features(params, changed)
        asked = joined.index[joined[PREDICT_AT] <= moment].intersection(before.index).intersection(after.index)
        assert len(asked) > len(before) / 10
        pd.testing.assert_frame_equal(before.loc[asked], after.loc[asked], check_exact=True)
        rest = before.index.difference(asked).intersection(after.index)
        assert not before.loc[rest].equals(after.loc[rest]), "nothing was changed: the test proves nothing"


def test_rows_of_a_later_part_change_no_feature_of_an_earlier_one() -> None:
    params, tables = make_small()
    _, joined = compute_features(params, tables)
    rows = settle_target(joined, params.data.target).drop(columns=list(params.wrangling.drop)).sort_values(PREDICT_AT)
    early, late = rows[:300], rows[300:]
    features = RowFeatures.from_params(params).fit(early.drop(columns="late"), early["late"])
    before = features.transform(early)
    pd.testing.assert_frame_equal(features.observe(late).transform(early), before, check_exact=True)


def test_target_known_at_prediction_time_is_refused() -> None:
    params, tables = make_small()
    tables["trips"].loc[7, ["delay", "duration"]] = [-110.0, -30.0]
    with pytest.raises(DataError, match="1 rows have an outcome that is already known at prediction time, first row 7"):
        compute_features(params, tables)


def count_by_hand(known: np.ndarray, targets: np.ndarray, asked: np.datetime64, days: int) -> tuple[float, float]:
    """Return rate and number of the outcomes in one window, one by one."""
    since = asked - np.timedelta64(days, "D")
    chosen = [outcome for at, outcome in zip(known, targets, strict=True) if since <= at <= asked]
    return (sum(chosen) / len(chosen) if chosen else np.nan), float(len(chosen))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_pieces", [1, 4])
def test_histories_equal_those_counted_one_by_one(seed: int, n_pieces: int) -> None:
    random = np.random.default_rng(seed)
    n_rows = 300
    start = np.datetime64("2020-01-01", "us")
    # Whole hours, so that times tie with each other and with the ends of windows.
    known = start + random.integers(0, 24 * 30, n_rows).astype("timedelta64[h]")
    targets = random.normal(size=n_rows)
    keys = random.choice(np.array(["a", "b", "ü", None], object), n_rows)
    state = outcome_rates.make_state(["k"])
    for piece in np.array_split(random.permutation(n_rows), n_pieces):
        state = outcome_rates.add_outcomes(state, known[piece].astype("int64"), targets[piece], {"k": keys[piece]})
    asked = start + random.integers(-24, 24 * 32, 100).astype("timedelta64[h]")
    wanted = random.choice(np.array(["a", "b", "ü", "new", None], object), 100)
    index = outcome_rates.HistoryIndex(state, {"k": [1, 7]})
    found = dict(zip(index.names, index.look_up({"k": wanted.tolist()}, asked), strict=True))
    for row in range(100):
        of_key = np.array([wanted[row] is not None and key == wanted[row] for key in keys], bool)
        for days in (1, 7):
            rate, number = count_by_hand(known[of_key], targets[of_key], asked[row], days)
            assert found[f"k_count_{days}d"][row] == number
            assert found[f"k_rate_{days}d"][row] == pytest.approx(rate, nan_ok=True, abs=1e-12)


def test_state_is_the_same_in_whatever_order_outcomes_come() -> None:
    random = np.random.default_rng(3)
    times, targets = random.integers(0, 50, 200), random.normal(size=200)
    keys = {"k": random.choice(np.array(["a", "b", None], object), 200), "all": np.full(200, "", object)}

    def observe(pieces: list[np.ndarray]) -> outcome_rates.State:
        state = outcome_rates.make_state(keys)
        for piece in pieces:
            state = outcome_rates.add_outcomes(
                state, times[piece], targets[piece], {n: v[piece] for n, v in keys.items()}
            )
        return state

    whole = observe([np.arange(200)])
    pieces = observe(np.array_split(random.permutation(200), 7))
    assert {name: values.tobytes() for name, values in whole.items()} == {n: v.tobytes() for n, v in pieces.items()}
