"""Preprocessing of columns for an estimator: imputation, encoding, scaling."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from labkit.errors import DataError
from labkit.features.table_columns import is_numeric
from labkit.model.estimators.transformers import Float32TargetEncoder, RangeClipper

FEWEST_ALIKE = 8


MOST_ONE_HOT = 50
"""Maximum categories of a one-hot encoded column; a column with more is target-encoded."""


SCALED = {"linear", "nearest_neighbours"}


@dataclass(frozen=True)
class AtMost:
    """A number of columns, or all columns if there are fewer."""

    number: int

    def __call__(self, X: np.ndarray) -> int:
        """Return how many of the columns of X are kept."""
        return min(self.number, X.shape[1])


def make_preparation(
    kinds: Mapping[str, str],
    *,
    is_scaled: bool,
    is_clipped: bool = False,
    task: str = "classification",
    seed: int = 0,
) -> ColumnTransformer:
    """Return unfitted preprocessing: missing values imputed, categories encoded, numbers clipped and scaled if needed.

    Parameters
    ----------
    kinds
        Kind of each feature, by name: `number`, `alike` (a number in the one unit that all columns share), `category`
        (one-hot encoded) or `many` (target-encoded with cross-fitting, so that no row sees its own target).
    is_scaled
        Whether to standardise, for models that add up numbers in different units.
    is_clipped
        Whether to clip outliers, for models that measure distances.
    task
        `classification` or `regression`.
    seed
        Seed of the cross-fitting.
    """
    names = {kind: [name for name, own in kinds.items() if own == kind] for kind in ("category", "many")}
    names["number"] = [name for name, own in kinds.items() if own in ("number", "alike")]
    fill: Any = SimpleImputer(strategy="median", keep_empty_features=True)
    # RowFeatures has merged rare categories already; the encoder's own grouping does not convert to ONNX.
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    is_number = task == "regression"
    folds = (KFold if is_number else StratifiedKFold)(5, shuffle=True, random_state=seed)
    average: Any = Float32TargetEncoder(target_type="continuous" if is_number else "auto", cv=folds)
    # Inputs of trees are not scaled: only the last digits would change, and those matter at float32 thresholds.
    changes = [("clip", RangeClipper())] * is_clipped + [("scale", StandardScaler())] * is_scaled
    if changes:
        fill = Pipeline([("fill", fill), *changes])
    if is_scaled:
        average = Pipeline([("average", average), ("scale", StandardScaler())])
    steps = (("numbers", fill, "number"), ("categories", encode, "category"), ("many_categories", average, "many"))
    parts = [(name, step, names[kind]) for name, step, kind in steps if names[kind]]
    return ColumnTransformer(parts, sparse_threshold=0, verbose_feature_names_out=False)


def adapt_preparation(preparation: Any, kinds: Mapping[str, str]) -> Any:
    """Return unfitted preprocessing for the features of other rows, whose names can differ, e.g. those of words.

    Features that are gone are left out; new ones are treated like the others of their kind.

    Parameters
    ----------
    preparation
        As made by `make_preparation`, alone or as the first step of a pipeline; others are returned as they are.
    kinds
        Kind of each feature, by name: `number` or `category`.

    Raises
    ------
    DataError
        There is a new feature, but none of its kind before.
    """
    if isinstance(preparation, Pipeline):
        (name, first), *others = preparation.steps
        return Pipeline([(name, adapt_preparation(first, kinds)), *others])
    if not isinstance(preparation, ColumnTransformer):
        return preparation
    parts = {name: (step, [one for one in columns if one in kinds]) for name, step, columns in preparation.transformers}
    known = {one for _, _, columns in preparation.transformers for one in columns}
    for feature in [one for one in kinds if one not in known]:
        place = "numbers" if kinds[feature] == "number" else "categories"
        if place not in parts:
            raise DataError(
                f"feature {feature!r} ({kinds[feature]}) is new, and the model has no preparation for this kind: name "
                "its column in features.drop and train again"
            )
        parts[place][1].append(feature)
    adapted: ColumnTransformer = clone(preparation)
    return adapted.set_params(transformers=[(name, *part) for name, part in parts.items() if part[1]])


def put_behind_preparation(
    model: str, estimator: BaseEstimator, kinds: Mapping[str, str], *, task: str, seed: int
) -> Pipeline:
    """Return a pipeline of the preprocessing that suits the model and the unfitted estimator."""
    # Distances in a single unit are meaningful unscaled; scaling each column would give nearly empty ones equal weight.
    is_clipped = model == "nearest_neighbours"
    is_alike = is_clipped and set(kinds.values()) == {"alike"}
    is_scaled = model in SCALED and not is_alike
    preparation = make_preparation(kinds, is_scaled=is_scaled, is_clipped=is_clipped, task=task, seed=seed)
    return Pipeline([("preparation", preparation), ("estimator", estimator)])


def find_kinds(features: pd.DataFrame) -> dict[str, str]:
    """Return the kind of each feature column: `number`, `category`, or `many` for a column with very many categories.

    All columns are `alike` if all are numbers in one unit.
    """
    numbers = {str(name): is_numeric(features[name]) for name in features.columns}
    if all(numbers.values()) and are_alike(features):
        return dict.fromkeys(numbers, "alike")
    return {
        name: "number" if is_number else "many" if features[name].nunique() > MOST_ONE_HOT else "category"
        for name, is_number in numbers.items()
    }


def are_alike(numbers: pd.DataFrame) -> bool:
    """Return whether numbers, such as pixels, seem to share one unit: enough columns have the same range."""
    # Enough are half of the columns, and at least `FEWEST_ALIKE`. Ratings on one scale are another example.
    bounds = pd.Series(zip(numbers.min(), numbers.max(), strict=True)).value_counts()
    return len(bounds) > 0 and int(bounds.iloc[0]) >= max(FEWEST_ALIKE, numbers.shape[1] / 2)
