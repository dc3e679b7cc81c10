"""Preprocessing that is adapted to the features of other rows."""

import pandas as pd
import pytest
from labkit.errors import DataError
from labkit.model.estimators.preprocessing import adapt_preparation, make_preparation
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import Pipeline


def test_adapted_preparation_treats_new_features_like_those_of_their_kind() -> None:
    before = make_preparation({"a": "number", "gone": "number", "town": "category", "id": "many"}, is_scaled=True)
    selecting = Pipeline([("columns", before), ("select", VarianceThreshold())])
    adapted = adapt_preparation(selecting, {"a": "number", "new": "number", "town": "category", "id": "category"})
    expected = {"numbers": ["a", "new"], "categories": ["town"], "many_categories": ["id"]}
    assert {name: columns for name, _, columns in adapted[0].transformers} == expected
    assert before.transformers[0][2] == ["a", "gone"]
    rows = pd.DataFrame({"a": [1.0, 2.0, 3.0], "new": [0.0, 1.0, 1.0], "town": ["x", "y", "y"], "id": ["1", "2", "3"]})
    made = adapted[0].set_params(many_categories="drop").fit_transform(rows)
    assert made.shape == (3, 4)


def test_feature_of_a_kind_without_preparation_is_refused() -> None:
    before = make_preparation({"a": "number"}, is_scaled=False)
    with pytest.raises(DataError, match=r"^feature 'town' \(category\) is new, and the model has no preparation for"):
        adapt_preparation(before, {"a": "number", "town": "category"})
    assert adapt_preparation("passthrough", {"town": "category"}) == "passthrough"
