"""Row features: the first step of every model, from joined raw columns to what preparation and estimator take.

Row rules, declared expressions and the choice of columns, computed on numpy arrays from a plain spec, so that
training, batch prediction and a server without pandas do exactly the same. What is fitted to many rows, such as
imputation, comes after it, in `labkit.model.automl`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from labkit.data import expressions
from labkit.data.profile import find_kind
from labkit.data.rules import Columns, apply_rules
from labkit.errors import DataError, list_briefly
from labkit.params import Params, Rule

OTHER = "other"


class RowFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn joined raw columns into features, row by row.

    Parameters
    ----------
    rules
        Stateless rules by column, as plain data.
    expressions
        New columns by name.
    drop
        Columns the model does not see; expressions may still use them.
    most_categories, fewest_rows
        A category is kept if it is among the most frequent and stands in enough training rows; all others, and
        those first seen later, become `other`.

    Attributes
    ----------
    inputs_
        Kind of each raw column that is needed, `number`, `boolean` or `category`, in the table's order.
    outputs_
        Kind of each feature, `number` or `category`, in order.
    categories_
        Categories kept of each category feature, sorted.

    Notes
    -----
    Numbers come out as float64 that float32 can hold exactly: ONNX computes in float32, and a value rounded only
    there could fall on the other side of a tree's threshold. Categories come out as texts, a missing one as `""`.
    """

    def __init__(
        self,
        *,
        rules: Mapping[str, Mapping[str, Any]] | None = None,
        expressions: Mapping[str, str] | None = None,
        drop: tuple[str, ...] | list[str] = (),
        most_categories: int = 30,
        fewest_rows: int = 5,
    ) -> None:
        self.rules = rules
        self.expressions = expressions
        self.drop = drop
        self.most_categories = most_categories
        self.fewest_rows = fewest_rows

    @classmethod
    def from_params(cls, params: Params) -> "RowFeatures":
        """Return the unfitted features that the params declare."""
        return cls(
            rules={name: rule.model_dump(mode="json") for name, rule in params.wrangling.rules.items()},
            expressions=dict(params.features.expressions),
            drop=list(params.features.drop),
            most_categories=params.features.most_categories,
            fewest_rows=params.features.fewest_rows,
        )

    def fit(self, X: pd.DataFrame, y: object = None) -> Self:
        """Record the raw columns, their kinds and the categories to keep.

        Raises
        ------
        DataError
            A column holds times, which no model takes as they are.
        """
        kinds = {str(name): find_kind(X[name]) for name in X.columns}
        used = {name for text in (self.expressions or {}).values() for name in expressions.find_names(text)}
        kinds = {name: kind for name, kind in kinds.items() if name not in self.drop or name in used}
        times = [name for name, kind in kinds.items() if kind == "time"]
        if times:
            raise DataError(
                f"times cannot be features: {list_briefly(times)}: name them in features.drop and in no expression"
            )
        self.inputs_ = kinds
        made = self.compute_columns(take_columns(X, self.inputs_))
        self.outputs_ = {name: find_feature_kind(values) for name, values in made.items()}
        categories = [name for name, kind in self.outputs_.items() if kind == "category"]
        self.categories_ = {name: self.find_categories(make_feature(made[name], "category")) for name in categories}
        return self

    def find_categories(self, values: np.ndarray) -> list[str]:
        """Return the categories of a column, shape (n_rows,), that are frequent enough to be kept."""
        ordered = sorted(Counter(values.tolist()).items(), key=lambda item: (-item[1], item[0]))
        return sorted(label for label, count in ordered[: self.most_categories] if count >= self.fewest_rows)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the features of every row, shape (n_rows, n_features), indexed as `X`.

        Raises
        ------
        DataError
            A raw column is not there.
        """
        columns = self.transform_columns(take_columns(X, self.inputs_))
        return pd.DataFrame(columns, index=X.index)

    def transform_columns(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """Return the features computed from raw columns, all arrays of shape (n_rows,).

        Raises
        ------
        DataError
            A raw column is not there, or holds what is not of its kind.
        """
        made = self.compute_columns(columns)
        try:
            made = {name: make_feature(made[name], kind) for name, kind in self.outputs_.items()}
        except (TypeError, ValueError) as error:
            raise DataError(
                f"features.expressions: {error}: give numbers in every row or texts in every row"
            ) from error
        for name, kept in self.categories_.items():
            made[name] = np.array([value if value in kept else OTHER for value in made[name]], object)
        return made

    def compute_columns(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """Return clean raw columns and expressions that the model sees, not yet in the kind of features."""
        missing = [name for name in self.inputs_ if name not in columns]
        if missing:
            raise DataError(f"columns missing: {list_briefly(missing)}")
        raw = {name: make_array(columns[name], kind, name) for name, kind in self.inputs_.items()}
        rules = {
            name: Rule(**{**rule, "missing": tuple(rule.get("missing", ()))})
            for name, rule in (self.rules or {}).items()
        }
        clean = apply_rules(raw, rules)
        made = {name: expressions.compute(text, clean) for name, text in (self.expressions or {}).items()}
        return {name: values for name, values in {**clean, **made}.items() if name not in self.drop}

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the features."""
        return np.array(list(self.outputs_), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "inputs_")

    def to_json(self) -> dict[str, Any]:
        """Return the declared spec and the fitted state as plain data."""
        return {
            "rules": self.rules or {},
            "expressions": self.expressions or {},
            "drop": list(self.drop),
            "most_categories": self.most_categories,
            "fewest_rows": self.fewest_rows,
            "inputs": list(self.inputs_.items()),
            "outputs": list(self.outputs_.items()),
            "categories": self.categories_,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RowFeatures":
        """Return fitted features from what `to_json` gave."""
        declared = ("rules", "expressions", "drop", "most_categories", "fewest_rows")
        features = cls(**{name: content[name] for name in declared})
        features.inputs_ = dict(content["inputs"])
        features.outputs_ = dict(content["outputs"])
        features.categories_ = {name: list(kept) for name, kept in content["categories"].items()}
        return features


def take_columns(frame: pd.DataFrame, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the named columns of a table as arrays.

    Raises
    ------
    DataError
        One is not there.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(f"columns missing: {list_briefly(missing)}")
    return {name: frame[name].to_numpy() for name in names}


def make_array(values: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Return raw values as numbers (missing: NaN) or texts (missing: None) by the column's kind.

    Raises
    ------
    DataError
        A value is not a number where numbers are needed.
    """
    array = np.asarray(values)
    if kind == "category":
        gaps = expressions.is_missing(array)
        return np.array([None if gap else str(value) for value, gap in zip(array, gaps, strict=True)], object)
    try:
        return array.astype("float64")
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r}: {error}: give numbers") from error


def find_feature_kind(values: np.ndarray) -> str:
    """Return `number` or `category`; a column without any value is as its array says."""
    if values.dtype != object:
        return "number"
    known = values[~expressions.is_missing(values)]
    return "number" if len(known) and not any(isinstance(value, str) for value in known) else "category"


def make_feature(values: np.ndarray, kind: str) -> np.ndarray:
    """Return a feature as estimators take it: float64 that float32 holds exactly, or texts without None.

    One row may hold nothing but None where the training rows held numbers, so the kind is given, not guessed.
    """
    if kind == "category":
        gaps = expressions.is_missing(values)
        return np.array(["" if gap else str(value) for value, gap in zip(values, gaps, strict=True)], object)
    with np.errstate(over="ignore"):
        rounded = values.astype("float32").astype("float64")
    return np.where(np.isinf(rounded), np.nan, rounded)
