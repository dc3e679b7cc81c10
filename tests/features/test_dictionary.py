"""Columns with a dictionary: what is computed once per distinct value is, bit for bit, what each row gives alone."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.compiled import CompiledFeatures
from labkit.features.dictionary import find_dictionary
from labkit.features.outcome_rates import MANY_ROWS, OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns

HISTORIES: dict[str, Any] = {
    "all": {"keys": [], "days": [30]},
    "city": {"keys": ["city"], "days": [7, 90]},
    "both": {"keys": ["city", "plan"], "days": [14]},
    "mixed": {"keys": ["city", "visits"], "days": [365]},
}
N_ROWS = 2 * MANY_ROWS


def make_table() -> pd.DataFrame:
    """Return many rows with few cities, plans and moments, some of them missing."""
    random = np.random.default_rng(3)
    asked = pd.Timestamp("2024-01-31T10:00") + pd.to_timedelta(random.integers(0, 200, N_ROWS), "D")
    frame = pd.DataFrame(
        {
            "city": random.choice(["Oslo", "Rome", "Rome\0", "Lund", "Bonn"], N_ROWS),
            "plan": random.choice(["basic", "pro", ""], N_ROWS),
            "visits": random.integers(0, 3, N_ROWS).astype("float64"),
            PREDICT_AT: asked,
            OUTCOME_KNOWN_AT: asked + pd.Timedelta("2D"),
            "answer": random.choice(["yes", "no"], N_ROWS),
        }
    )
    frame.loc[::5, "city"] = None
    frame.loc[::11, "plan"] = None
    return frame


@pytest.fixture(scope="module")
def fitted() -> RowFeatures:
    table = make_table()
    target = {"column": "answer", "positive": "yes"}
    return RowFeatures(histories=HISTORIES, target=target, most_categories=3).fit(table, table["answer"])


def drop_dictionaries(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the same values as ordinary arrays."""
    return {name: np.array(values.tolist(), object) if values.dtype == object else values
            for name, values in columns.items()}  # fmt: skip


def test_many_rows_give_the_features_of_few_rows_without_dictionaries(fitted: RowFeatures) -> None:
    table = make_table()
    table.loc[3::50, "city"] = "Kiruna"
    table.loc[4::50, PREDICT_AT] = pd.NaT
    columns, compiled = take_columns(table, fitted.inputs_), CompiledFeatures(fitted)
    assert {name for name, values in columns.items() if find_dictionary(values)} == {"city", "plan"}
    numbers, codes = compiled.compute(columns)
    parts = [slice(start, start + 100) for start in range(0, N_ROWS, 100)]
    plain = drop_dictionaries(columns)
    alone = [compiled.compute({name: values[part] for name, values in plain.items()}) for part in parts]
    assert np.isnan(numbers).any()
    assert numbers.tobytes() == np.concatenate([one for one, _ in alone]).tobytes()
    assert codes.tobytes() == np.concatenate([one for _, one in alone]).tobytes()
    compiled.check(columns)


def test_values_that_training_did_not_have_are_counted_alike(fitted: RowFeatures) -> None:
    table = make_table()
    table.loc[3::50, "city"] = "Kiruna"
    columns = take_columns(table, fitted.inputs_)
    found = fitted.count_unseen(columns)
    assert found == {"city": {"Kiruna": 40}}
    assert found == fitted.count_unseen(drop_dictionaries(columns))


def test_derived_arrays_have_no_dictionary_and_none_can_be_changed(fitted: RowFeatures) -> None:
    table = make_table()
    city = take_columns(table, fitted.inputs_)["city"]
    assert pd.Series(city, dtype=object).equals(table["city"].astype(object))
    for derived in (city[:10], city.copy(), city[::-1], np.where(city == "Oslo", "Rome", city)):
        assert find_dictionary(derived) is None
    with pytest.raises(ValueError, match="read-only"):
        city[0] = "Rome"
