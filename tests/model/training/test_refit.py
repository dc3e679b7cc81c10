"""The recipe of a model is fitted again on other rows, as if it had been chosen for them."""

from typing import Any

import numpy as np
import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.model.evaluation.row_hashes import ATTRIBUTE, count_shared, hash_rows
from labkit.model.training.comparison import fit_model
from labkit.model.training.refit import refit_model
from labkit.params.tables import Target

TARGET = Target(column="y", task="regression")
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 2)), columns=["a", "b"])
ROWS["city"] = ["red" if n < 90 else "blue" for n in range(120)]
ROWS["y"] = ROWS["a"] + ROWS["b"] / 2


def fit(rows: pd.DataFrame, name: str = "linear") -> Any:
    features = RowFeatures(fewest_rows=5).fit(rows.drop(columns="y"))
    return fit_model(name, features, [(features.transform(rows), rows["y"])], target=TARGET, seed=0)


def test_refit_is_the_same_as_fitting_the_recipe_on_the_rows() -> None:
    judged, expected = fit(ROWS[:90]), fit(ROWS)
    before = judged.predict(ROWS)
    refitted = refit_model(judged, ROWS, target=TARGET, seed=0)
    np.testing.assert_array_equal(refitted.predict(ROWS), expected.predict(ROWS))
    np.testing.assert_array_equal(judged.predict(ROWS), before)
    assert refitted[0].categories_ == {"city": ["blue", "red"]}, "what the later rows brought"
    holdout = hash_rows(ROWS["y"][90:], TARGET)
    assert [count_shared(getattr(one, ATTRIBUTE), holdout) for one in (judged, refitted)] == [0, 30]
