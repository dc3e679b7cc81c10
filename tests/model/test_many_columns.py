"""Hundreds of columns: what is searched for in all of them stays bounded, and finds what is there."""

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.model.evaluation import importance, slices
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.predictions import Predictions
from labkit.model.training import comparison
from labkit.params.tables import Target


def make_table(n_rows: int, n_columns: int) -> pd.DataFrame:
    """Return numbers that know nothing of each other."""
    random = np.random.default_rng(0)
    return pd.DataFrame(random.normal(size=(n_rows, n_columns)), columns=[f"c{number}" for number in range(n_columns)])


def test_a_bad_slice_is_found_among_many_columns() -> None:
    table = make_table(800, 120)
    random = np.random.default_rng(1)
    is_bad = (table["c70"] > 1) & (table["c90"] > 0)
    prediction = random.normal(size=800) * np.where(is_bad, 8, 1)
    found = slices.find_worst_slices(
        table, Predictions(np.zeros(800), prediction), most=1, confidence=0.95, blocks=make_rows(800)
    )
    assert "c70" in found["slice"].iloc[0]
    calm = Predictions(np.zeros(800), random.normal(size=800))
    assert slices.find_worst_slices(table, calm, most=5, confidence=0.95, blocks=make_rows(800)).empty


@pytest.mark.slow
def test_few_columns_of_many_are_shuffled_and_the_ones_that_matter_are_among_them() -> None:
    table = make_table(300, importance.MOST_COLUMNS + 60)
    y_true = 5 * table["c150"] + 3 * table["c40"]
    target = Target(column="y", task="regression")
    row_features = RowFeatures().fit(table)
    parts = [(row_features.transform(table), y_true)]
    model = comparison.fit_model("linear", row_features, parts, target=target, seed=0)
    options = {"most_rows": 200, "confidence": 0.95, "seed": 0}
    found = importance.compute_importance(model, table.assign(y=y_true), "mae", target=target, **options)  # type: ignore[arg-type]
    assert len(found) == importance.MOST_COLUMNS
    assert found["column"].head(2).tolist() == ["c150", "c40"]
