"""Row features: the same for a table, for arrays and for one row; nothing learnt from the target or from other rows."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError
from labkit.features.row_computation import OTHER
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from sklearn.base import clone

SPEC: dict[str, Any] = {
    "rules": {"size": {"minimum": 0.0, "missing": [-999]}, "colour": {"trim": True, "missing": ["?"]}},
    "expressions": {
        "ratio": "size / weight",
        "heavy": "weight > 2",
        "grade": "where(size > 5, 'big', 'small')",
        "seen": "where(flag, size, None)",
    },
    "drop": ["weight", "when"],
    "most_categories": 3,
    "fewest_rows": 2,
}


def make_table() -> pd.DataFrame:
    """Return a small table with every kind of column and of missing value."""
    return pd.DataFrame(
        {
            "size": [1.1, -999.0, np.nan, 7.0, -3.0, 1e40],
            "weight": [1, 2, 3, 4, 0, 6],
            "when": pd.to_datetime(["2013-01-01"] * 6),
            "colour": [" red", "red ", "blue", "?", None, "blue"],
            "flag": [True, False, True, True, False, True],
            "answered": [True, None, False, True, True, None],
            "code": pd.Series([1, None, 2, 1, 1, 2], dtype=object),
            "whole": pd.array([1, None, 2, 1, 1, 2], dtype="Int64"),
            "word": pd.array(["a", None, "a", "b", "a", "b"], dtype="string"),
        }
    )


def test_features_of_a_table_by_hand() -> None:
    made = RowFeatures(**SPEC).fit(make_table()).transform(make_table())
    names = ["size", "colour", "flag", "answered", "code", "whole", "word", "ratio", "heavy", "grade", "seen"]
    assert list(made) == names
    single = float(np.float32(1.1))
    np.testing.assert_array_equal(made["size"], [single, np.nan, np.nan, 7.0, np.nan, np.nan])
    np.testing.assert_array_equal(made["ratio"], [single, np.nan, np.nan, 1.75, np.nan, np.nan])
    assert made["colour"].tolist() == ["red", "red", "blue", "", "", "blue"]
    assert made["flag"].tolist() == [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    assert made["answered"].tolist() == ["True", "", OTHER, "True", "True", ""]
    assert made["code"].tolist() == ["1", OTHER, "2", "1", "1", "2"]
    np.testing.assert_array_equal(made["whole"], [1, np.nan, 2, 1, 1, 2])
    assert made["word"].tolist() == ["a", OTHER, "a", "b", "a", "b"]
    assert made["heavy"].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    assert made["grade"].tolist() == ["small", "small", "small", "big", "small", "big"]
    np.testing.assert_array_equal(made["seen"], [single, np.nan, np.nan, 7.0, np.nan, np.nan])


def test_table_and_arrays_and_single_rows_agree() -> None:
    table = make_table()
    features = RowFeatures(**SPEC).fit(table)
    made = features.transform(table)
    arrays = features.transform_columns(take_columns(table, features.inputs_))
    for name in made:
        assert arrays[name].tolist() == pytest.approx(made[name].tolist(), nan_ok=True)
    for row in range(len(table)):
        # As a request brings it: plain Python values, None for what is missing.
        request = {
            name: np.array([None if pd.isna(table[name][row]) else table[name].tolist()[row]], object)
            for name in features.inputs_
        }
        one = features.transform_columns(request)
        assert {name: values.dtype for name, values in one.items()} == {n: v.dtype for n, v in arrays.items()}
        for name, values in one.items():
            assert values.tolist() == pytest.approx(arrays[name][row : row + 1].tolist(), nan_ok=True), name


def test_unseen_and_rare_categories_become_other() -> None:
    table = pd.DataFrame({"k": ["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2 + ["e"]})
    features = RowFeatures(most_categories=3, fewest_rows=4).fit(table)
    assert features.categories_ == {"k": ["a", "b"]}
    assert RowFeatures(most_categories=3, fewest_rows=1).fit(table).categories_ == {"k": ["a", "b", "c"]}
    made = features.transform(pd.DataFrame({"k": ["a", "c", "new", None]}))
    assert made["k"].tolist() == ["a", OTHER, OTHER, OTHER]


def test_equally_frequent_categories_are_kept_by_name_whatever_the_order_of_rows() -> None:
    table = pd.DataFrame({"k": ["z", "y", "x", "w"]})
    for rows in (table, table[::-1]):
        assert RowFeatures(most_categories=2, fewest_rows=1).fit(rows).categories_ == {"k": ["w", "x"]}


def test_numbers_are_exact_in_float32() -> None:
    values = np.random.default_rng(0).normal(size=1000) * 1e6
    made = RowFeatures(expressions={"third": "x / 3"}).fit_transform(pd.DataFrame({"x": values}))
    for name in made:
        assert made[name].dtype == np.float64
        assert (made[name] == made[name].astype("float32")).all()


def test_times_are_refused_unless_dropped() -> None:
    table = pd.DataFrame({"when": pd.to_datetime(["2013-01-01"]), "x": [1.0]})
    with pytest.raises(DataError, match=r"times cannot be features: when: name them in features\.drop"):
        RowFeatures().fit(table)
    assert list(RowFeatures(drop=["when"]).fit(table).inputs_) == ["x"]
    made = RowFeatures(drop=["when"], expressions={"no_date": "missing(when)"}).fit_transform(table)
    assert made["no_date"].tolist() == [0.0]
    with pytest.raises(DataError, match="an expression gives times"):
        RowFeatures(drop=["when"], expressions={"later": "when + days(x)"}).fit(table)


def test_only_what_is_needed_is_asked_for() -> None:
    table = make_table().assign(identifier="x")
    features = RowFeatures(**{**SPEC, "drop": [*SPEC["drop"], "identifier"]}).fit(table)
    assert "identifier" not in features.inputs_
    assert "weight" in features.inputs_, "dropped, but an expression uses it"
    features.transform(table.drop(columns=["identifier", "when"]))


def test_missing_columns_and_wrong_kinds_are_named() -> None:
    features = RowFeatures().fit(pd.DataFrame({"x": [1.0], "y": [2.0]}))
    for call in (
        lambda: features.transform(pd.DataFrame({"z": [1.0]})),
        lambda: features.transform_columns({"z": np.ones(1)}),
    ):
        with pytest.raises(DataError, match="columns missing: x; y"):
            call()
    with pytest.raises(DataError, match="column 'x': 'tall' is not a number: give numbers"):
        features.transform_columns({"x": np.array(["tall"], object), "y": np.ones(1)})


def test_clone_keeps_the_spec_and_forgets_the_fit() -> None:
    fitted = RowFeatures(**SPEC).fit(make_table())
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() == RowFeatures(**SPEC).get_params()
    assert not hasattr(copy, "inputs_")
    pd.testing.assert_frame_equal(copy.fit(make_table()).transform(make_table()), fitted.transform(make_table()))


def test_json_round_trip() -> None:
    fitted = RowFeatures(**SPEC).fit(make_table())
    read = RowFeatures.from_json(json.loads(json.dumps(fitted.to_json())))
    assert read.to_json() == fitted.to_json()
    assert list(read.outputs_) == list(fitted.outputs_), "the order is part of it"
    pd.testing.assert_frame_equal(read.transform(make_table()), fitted.transform(make_table()))


def test_a_row_does_not_depend_on_the_target_or_on_other_rows() -> None:
    table = make_table()
    fitted = RowFeatures(**SPEC).fit(table, [1, 2, 3, 4, 5, 6])
    assert fitted.to_json() == RowFeatures(**SPEC).fit(table, [6, 5, 4, 3, 2, 1]).to_json()
    changed = table[::-1].copy()
    changed["size"] = changed["size"].where(changed.index == 0, 1e6)
    changed["colour"] = changed["colour"].where(changed.index == 0, "green")
    pd.testing.assert_frame_equal(fitted.transform(changed).loc[[0]], fitted.transform(table).loc[[0]])
