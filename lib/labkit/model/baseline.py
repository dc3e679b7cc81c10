"""What the model is held against: a dummy, and LightGBM as it comes on the raw columns as they are.

Not candidates: neither becomes the model. The one shows what was learnt, the other what features, comparison and tuning
were worth.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor

from labkit.data.profile import find_kind
from labkit.params import Target


@dataclass(frozen=True)
class PlainLightGBM:
    """LightGBM in its default settings behind nothing but types it takes.

    Attributes
    ----------
    kinds
        Kind of each raw column it was fitted on.
    categories
        Labels of each category column that the training rows have.
    """

    estimator: Any
    kinds: dict[str, str]
    categories: dict[str, pd.Index]

    @property
    def classes_(self) -> np.ndarray:
        """Labels in the order of the probabilities' columns."""
        return np.asarray(self.estimator.classes_)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict raw rows."""
        return np.asarray(self.estimator.predict(make_columns(frame, self.kinds, self.categories)))

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        """Predict the chances of raw rows, shape (n_rows, n_classes)."""
        return np.asarray(self.estimator.predict_proba(make_columns(frame, self.kinds, self.categories)))


def fit_dummy(frame: pd.DataFrame, *, target: Target) -> Any:
    """Fit what gives every row the same answer: the mean, or the classes' shares.

    Parameters
    ----------
    frame
        Clean rows with the target.
    """
    dummy = DummyClassifier(strategy="prior") if target.task == "classification" else DummyRegressor()
    return dummy.fit(np.zeros((len(frame), 1)), frame[target.column].to_numpy())


def fit_plain_lightgbm(frame: pd.DataFrame, names: list[str], *, target: Target, seed: int) -> PlainLightGBM:
    """Fit LightGBM on raw columns; times, which it does not take, are left out.

    Parameters
    ----------
    frame
        Clean rows with the target.
    names
        Raw columns to use, those that the chosen model is given.
    """
    kinds = {name: kind for name in names if (kind := find_kind(frame[name])) != "time"}
    texts = [name for name, kind in kinds.items() if kind == "category"]
    categories = {name: pd.Index(sorted(frame[name].dropna().astype(str).unique()), dtype=object) for name in texts}
    make = LGBMClassifier if target.task == "classification" else LGBMRegressor
    estimator = make(n_jobs=2, random_state=seed, deterministic=True, force_row_wise=True, verbosity=-1)
    estimator.fit(make_columns(frame, kinds, categories), frame[target.column].to_numpy())
    return PlainLightGBM(estimator.set_params(n_jobs=1), kinds, categories)


def make_columns(frame: pd.DataFrame, kinds: dict[str, str], categories: dict[str, pd.Index]) -> pd.DataFrame:
    """Return raw columns as LightGBM takes them: numbers and pandas categories, under names it does not refuse."""
    made: dict[str, Any] = {}
    for place, (name, kind) in enumerate(kinds.items()):
        values = frame[name]
        if kind == "category":
            codes = categories[name].get_indexer(pd.Index(values.astype(str).where(values.notna(), None), dtype=object))
            made[f"column_{place}"] = pd.Categorical.from_codes(codes, categories=categories[name])
        else:
            made[f"column_{place}"] = pd.to_numeric(values).to_numpy(dtype="float64", na_value=np.nan)
    return pd.DataFrame(made, index=frame.index)
