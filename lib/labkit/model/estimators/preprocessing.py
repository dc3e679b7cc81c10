"""What prepares columns for an estimator: encoding, scaling, missing values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from labkit.model.estimators.transformers import Float32TargetEncoder, RangeClipper

FEWEST_ALIKE = 8


MOST_ONE_HOT = 50
"""Categories of a column up to which each becomes a feature of its own; of more, their mean target is the feature."""


SCALED = {"linear", "nearest_neighbours"}


@dataclass(frozen=True)
class AtMost:
    """A number of columns, or all where there are fewer."""

    number: int

    def __call__(self, X: np.ndarray) -> int:
        """Return how many of these columns are kept."""
        return min(self.number, X.shape[1])


def make_preparation(
    kinds: Mapping[str, str],
    *,
    is_scaled: bool,
    is_clipped: bool = False,
    task: str = "classification",
    seed: int = 0,
) -> ColumnTransformer:
    """Return the unfitted preparation: gaps filled, categories encoded, numbers clipped and scaled where needed.

    Parameters
    ----------
    kinds
        Feature name: `number`, `alike` (a number of the one unit of the table), `category` (one-hot) or `many` (the
        mean target of each category, fitted crosswise so that no row sees its own answer).
    is_scaled, is_clipped
        Whether the model adds up numbers of unlike units, and whether it measures distances.
    """
    names = {kind: [name for name, own in kinds.items() if own == kind] for kind in ("category", "many")}
    names["number"] = [name for name, own in kinds.items() if own in ("number", "alike")]
    fill: Any = SimpleImputer(strategy="median", keep_empty_features=True)
    # Rare categories are one already, see RowFeatures: the encoder's own way of joining them does not convert.
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    is_number = task == "regression"
    folds = (KFold if is_number else StratifiedKFold)(5, shuffle=True, random_state=seed)
    average: Any = Float32TargetEncoder(target_type="continuous" if is_number else "auto", cv=folds)
    # Trees are not scaled: it would change nothing but the last digits, and those decide at thresholds in float32.
    changes = [("clip", RangeClipper())] * is_clipped + [("scale", StandardScaler())] * is_scaled
    if changes:
        fill = Pipeline([("fill", fill), *changes])
    if is_scaled:
        average = Pipeline([("average", average), ("scale", StandardScaler())])
    steps = (("numbers", fill, "number"), ("categories", encode, "category"), ("many_categories", average, "many"))
    parts = [(name, step, names[kind]) for name, step, kind in steps if names[kind]]
    return ColumnTransformer(parts, sparse_threshold=0, verbose_feature_names_out=False)


def put_behind_preparation(
    model: str, estimator: BaseEstimator, kinds: Mapping[str, str], *, task: str, seed: int
) -> Pipeline:
    """Return an unfitted estimator behind the preparation that fits its model."""
    # Distances in one unit mean something as they are: scaled one by one, nearly empty columns would count as much.
    is_clipped = model == "nearest_neighbours"
    is_alike = is_clipped and set(kinds.values()) == {"alike"}
    is_scaled = model in SCALED and not is_alike
    preparation = make_preparation(kinds, is_scaled=is_scaled, is_clipped=is_clipped, task=task, seed=seed)
    return Pipeline([("preparation", preparation), ("estimator", estimator)])


def find_kinds(features: pd.DataFrame) -> dict[str, str]:
    """Return the kind of each feature column: `number`, `category`, or `many` for one of very many categories.

    All are `alike` where all are numbers of one unit.
    """
    numbers = {str(name): pd.api.types.is_numeric_dtype(features[name]) for name in features.columns}
    if all(numbers.values()) and are_alike(features):
        return dict.fromkeys(numbers, "alike")
    return {
        name: "number" if is_number else "many" if features[name].nunique() > MOST_ONE_HOT else "category"
        for name, is_number in numbers.items()
    }


def are_alike(numbers: pd.DataFrame) -> bool:
    """Return whether numbers seem to be of one unit: most columns, and more than a few, end at the same two values.

    Pixels of a picture do, and answers on one scale.
    """
    bounds = pd.Series(zip(numbers.min(), numbers.max(), strict=True)).value_counts()
    return len(bounds) > 0 and int(bounds.iloc[0]) >= max(FEWEST_ALIKE, numbers.shape[1] / 2)
