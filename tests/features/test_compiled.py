"""Compiled features: bit for bit those of training, for every kind of feature, whatever rows come."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError
from labkit.features import own_functions
from labkit.features.compiled import CompiledFeatures
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from labkit.model.onnx.hard_rows import make_hard_rows

from tests.features.own_code import write_package
from tests.own_library import open_library

PACKAGE = "compiledfeatures"
DAY = np.timedelta64(1, "D")
FILL = {"strategy": "median", "value": None, "indicator": True}
OUTLIERS = {"method": "quantiles", "low": 0.1, "high": 0.9, "factor": 1.5}
SPEC: dict[str, Any] = {
    "rules": {
        "total": {"minimum": 0.0, "missing": [-999]},
        "email": {"trim": True, "case": "lower", "missing": ["?"], "map": {"c1@a.example": "c2@a.example"}},
        "price": {"type": "number", "units": {"": 1.0, "k": 1000.0}},
    },
    "expressions": {
        "worth": "total / visits",
        "grade": "where(visits > 4, 'big', 'small')",
        "is_late": "left - joined > days(300)",
        "days_here": "(left - joined) / days(1)",
        "parity": "visits % 2 == 0 or total < 10",
    },
    "histories": {
        "all": {"keys": [], "days": [30]},
        "mail": {"keys": ["email"], "days": [7, 90]},
        "both": {"keys": ["email", "visits"], "days": [365]},
    },
    "target": {"column": "answer", "positive": "yes"},
    "drop": ["joined", "left", "mail_count_90d"],
    "columns": {
        "fill": {"total": FILL, "plan": {"strategy": "most_frequent", "value": None, "indicator": False}},
        "outliers": {"total": {**OUTLIERS, "action": "clip"}, "visits": {**OUTLIERS, "action": "flag"}},
        "text": {"note": {"most_words": 5, "fewest_rows": 1}},
        "dates": {"joined": {"zone": "Europe/Berlin", "parts": ["hour", "weekday", "week"]}},
        "interactions": [["plan", "email"], ["total", "visits"]],
        "categories": {"email": 3},
    },
    "most_categories": 6,
    "fewest_rows": 2,
}


def make_table(n_rows: int = 60) -> pd.DataFrame:
    """Return a table with every kind of column and missing values in most."""
    random = np.random.default_rng(1)
    asked = pd.Timestamp("2024-01-31T10:00") + pd.to_timedelta(np.sort(random.integers(0, 900, n_rows)), "D")
    frame = pd.DataFrame(
        {
            "joined": asked - pd.to_timedelta(random.integers(1, 900, n_rows), "D"),
            "left": asked,
            "email": random.choice(["c1@A.example", " c2@a.example", "c3@b.example", "?", None], n_rows),
            "plan": pd.Series(random.choice([1, 2, 3], n_rows), dtype=object),
            "note": random.choice(["late again", "never late, never", None, ""], n_rows),
            "price": random.choice(["1.5k", "20", "cheap", None], n_rows),
            "total": random.gamma(2, 50, n_rows),
            "visits": random.integers(0, 9, n_rows).astype("float64"),
            "flag": random.random(n_rows) < 0.5,
            PREDICT_AT: asked,
            OUTCOME_KNOWN_AT: asked + 2 * DAY,
            "answer": random.choice(["yes", "no"], n_rows),
        }
    )
    frame["height"] = random.choice([1.5, 1e39, np.inf, None], n_rows).astype("float64")
    frame["city"] = random.choice(["Bonn", "", "Köln", None], n_rows)
    frame.loc[::7, ["total", "plan", "left"]] = None
    return frame


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowFeatures]:
    """Return fitted features of every kind, with a function and a transformer of the user's own."""
    folder = tmp_path_factory.mktemp("checkout")
    with pytest.MonkeyPatch.context() as patch, open_library(folder, patch, PACKAGE):
        write_package(folder, PACKAGE)
        paths = {"tenure": f"{PACKAGE}.features:tenure_months", "domain": f"{PACKAGE}.features:domain"}
        functions = own_functions.make_function_specs(paths)
        levels = {"path": f"{PACKAGE}.transformers:Levels", "columns": ["visits"], "names": ["level", "top"]}
        own = {"functions": functions, "transformers": {"levels": {"options": {}, **levels}}}
        features = RowFeatures(**{**SPEC, "columns": {**SPEC["columns"], **own}})
        table = make_table()
        yield features.fit(table, table["answer"])


def check_equal(features: RowFeatures, columns: Mapping[str, np.ndarray]) -> None:
    """Compare the arrays with the features of training, exactly."""
    compiled = CompiledFeatures(features)
    numbers, codes = compiled.compute(columns)
    kinds = (numbers.dtype, codes.dtype, numbers.flags.c_contiguous, codes.flags.c_contiguous)
    assert kinds == ("f4", "i8", True, True)
    assert {*compiled.numbers, *compiled.categories} == {*features.outputs_}
    compiled.check(columns)


def test_tables_give_the_features_of_training(fitted: RowFeatures) -> None:
    table = make_table()
    assert {"both_rate_365d", "total x visits", "note: late", "visits_is_outlier", "tenure", "level"} <= {
        *fitted.outputs_
    }
    assert {*fitted.inputs_} - {*CompiledFeatures(fitted).read} == {"flag", "height", "city"}
    check_equal(fitted, take_columns(table, fitted.inputs_))
    hard = make_hard_rows(table, fitted.inputs_, n_rows=40, seed=0)
    check_equal(fitted, take_columns(hard, fitted.inputs_))
    check_equal(fitted, take_columns(table.iloc[:0], fitted.inputs_))


@pytest.mark.parametrize("name", ["total", "email"])
def test_a_difference_from_training_is_found(fitted: RowFeatures, name: str) -> None:
    compiled = CompiledFeatures(fitted)
    if name == "total":
        compiled.order = np.roll(np.arange(compiled.n_places), 1)[: len(compiled.numbers)]
    else:
        compiled.codes[name] = {}
    with pytest.raises(DataError, match=r"feature '.*' is computed differently from training: train and release again"):
        compiled.check(take_columns(make_table(), fitted.inputs_))


def test_single_rows_of_requests_give_the_features_of_training(fitted: RowFeatures) -> None:
    table = make_hard_rows(make_table(), fitted.inputs_, n_rows=12, seed=1).iloc[::3]
    for row in table.to_dict("records"):
        given = {name: str(value) if fitted.inputs_.get(name) == "time" else value for name, value in row.items()}
        plain = {name: None if pd.isna(row[name]) else given[name] for name in fitted.inputs_}
        check_equal(fitted, {name: np.array([value], object) for name, value in plain.items()})


def test_numbers_beyond_float64_and_types_of_ones_own_are_rounded_once() -> None:
    large = np.array([2**53 + 1, 2**62 + 2**38 - 1], "int64")
    features = RowFeatures().fit(pd.DataFrame({"x": [1.0, 2.0]}))
    compiled = CompiledFeatures(features)
    assert compiled.make_number("x", large).tolist() == large.astype("float32").tolist()
    assert compiled.make_number("x", np.array([None, 3], object)).tolist()[1] == 3.0


def test_errors_are_those_of_training() -> None:
    features = RowFeatures(expressions={"twice": "where(x > 1, y, y)"}).fit(pd.DataFrame({"x": [1.0], "y": [2.0]}))
    with pytest.raises(DataError, match="columns missing: y"):
        CompiledFeatures(features).compute({"x": np.ones(1)})
    with pytest.raises(DataError, match="column 'x': 'tall' is not a number: give numbers"):
        CompiledFeatures(features).compute({"x": np.array(["tall"], object), "y": np.ones(1)})
