"""Row features: the first step of every model, from joined raw columns to features for preparation and estimator.

They are fitted here, on pandas tables, and computed in `labkit.features.row_computation`, on arrays. Steps fitted to
many rows, such as encoding, follow in `labkit.model.training.comparison`.
"""

import json
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from labkit.errors import DataError, list_briefly
from labkit.features import (
    expressions,
    imputation,
    known_values,
    new_process,
    outcome_rates,
    own_functions,
    own_transformers,
    tfidf,
)
from labkit.features.arrays import find_feature_kind, make_feature, make_times
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.row_computation import RowComputation
from labkit.features.table_columns import find_column_kind, take_columns

if TYPE_CHECKING:
    from labkit.params.experiment import Params


class RowFeatures(RowComputation, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform joined raw columns into features, row by row.

    Parameters
    ----------
    rules
        Stateless rules by column, as plain data.
    expressions
        Expressions by name of the new column.
    histories
        `keys` and `days` by name of the history, as plain data; see `labkit.features.outcome_rates`.
    target
        `column` and, for classes, `positive`, the class whose rate the histories give; plain data.
    drop
        Columns that are not inputs of the model; expressions and histories may still use them.
    columns
        Other declarations about columns, as plain data: `dates` (zone and parts), `interactions` (pairs), `categories`
        (how many to keep per column), `functions` and `transformers` of the user's own, and what to learn from the
        training rows, see `labkit.features.imputation`.
    most_categories, fewest_rows
        A category is kept if it is among the `most_categories` most frequent ones and occurs in at least `fewest_rows`
        training rows; all others, including those first seen later, become `other`.

    Attributes
    ----------
    inputs_
        Kind of each raw column that is needed, `number`, `boolean`, `time` or `category`, in the table's order.
    outputs_
        Kind of each feature, `number` or `category`, in order.
    categories_
        Categories kept for each categorical feature, sorted.
    seen_
        Digests of the values of each categorical column in the training rows; see `labkit.features.known_values`.
    learnt_
        Bounds, fills, words and empty columns, as plain data; see `labkit.features.imputation`.
    transformers_
        Fitted transformers of the user's own, by name.
    state_
        Outcomes observed so far, for the histories: arrays, see `labkit.features.outcome_rates.State`.

    Notes
    -----
    Numeric features are float64 that float32 represents exactly: ONNX computes in float32, and a value rounded only
    there could fall on the other side of a tree's threshold. Categories are strings, missing ones `""`.
    """

    @classmethod
    def from_params(cls, params: "Params") -> "RowFeatures":
        """Return the unfitted features declared in the params."""
        return cls(
            rules={name: rule.model_dump(mode="json") for name, rule in params.wrangling.rules.items()},
            expressions=dict(params.features.expressions),
            histories={name: spec.model_dump(mode="json") for name, spec in params.features.history.items()},
            target={"column": params.data.target.column, "positive": params.data.target.positive},
            drop=list(params.features.drop),
            columns=imputation.make_spec(params)
            | {
                "dates": {name: parts.model_dump(mode="json") for name, parts in params.features.dates.items()},
                "interactions": [list(pair) for pair in params.features.interactions],
                "categories": dict(params.features.categories),
            }
            | make_own_spec(params),
            most_categories=params.features.most_categories,
            fewest_rows=params.features.fewest_rows,
        )

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> Self:
        """Learn the raw columns, their kinds and the categories to keep, and observe the outcomes for the histories.

        Parameters
        ----------
        X
            Raw columns of the training rows, shape (n_rows, n_columns).
        y
            Target, shape (n_rows,); without it, no outcomes are observed.

        Raises
        ------
        DataError
            A column holds times, which no model takes directly; nothing can be learned from a column; or an outcome is
            known too early.
        """
        self.inputs_ = self.find_inputs(X)
        self.state_ = outcome_rates.make_state(self.histories or {})
        clean = self.clean(take_columns(X, self.inputs_))
        self.learnt_ = imputation.learn(clean, self.columns or {})
        if transformers := self.get_declared("transformers"):
            bounded = imputation.apply_learnt(clean, self.learnt_, self.columns or {})
            self.transformers_ = own_transformers.fit_transformers(transformers, bounded)
        digests = {name: known_values.list_digests(clean[name]) for name in self.list_categories()}
        self.seen_ = {name: found for name, found in digests.items() if found is not None}
        if y is not None:
            self.observe(X, y)
        self.check_own_code(take_columns(X, self.inputs_))
        functions, transformers = self.get_declared("functions"), self.get_declared("transformers")
        if functions or transformers:
            bounded = imputation.apply_learnt(clean, self.learnt_, self.columns or {})
            new_process.check_in_new_process(functions, transformers, bounded)
        made = self.compute_columns(take_columns(X, self.inputs_))
        self.outputs_ = {name: find_feature_kind(values) for name, values in made.items()}
        categories = [name for name, kind in self.outputs_.items() if kind == "category"]
        string_columns = {name: make_feature(made[name], "category") for name in categories}
        self.categories_ = {name: self.find_categories(name, values) for name, values in string_columns.items()}
        return self

    def find_inputs(self, X: pd.DataFrame) -> dict[str, str]:
        """Return the kinds of the raw columns that are needed."""
        used = {name for expression in (self.expressions or {}).values() for name in expressions.find_names(expression)}
        used |= {*self.get_declared("dates")} | {
            key for spec in (self.histories or {}).values() for key in spec["keys"]
        }
        for own in ("functions", "transformers"):
            used |= {column for spec in self.get_declared(own).values() for column in spec["columns"]}
        used |= {PREDICT_AT} if self.histories else set()
        used |= {name for pair in self.get_declared("interactions") for name in pair} & {*map(str, X.columns)}
        never = {*self.drop, PREDICT_AT, OUTCOME_KNOWN_AT, (self.target or {}).get("column")}
        kinds = {str(name): find_column_kind(X[name]) for name in X.columns if name not in never or name in used}
        times = [name for name, kind in kinds.items() if kind == "time" and not self.is_hidden(name)]
        if times:
            raise DataError(
                f"times cannot be features: {list_briefly(times)}: name them in features.drop, or their parts in "
                f"features.dates, e.g. {json.dumps(times[0], ensure_ascii=False)}: {{parts: [hour, weekday, month]}}"
            )
        return kinds

    def observe(self, X: pd.DataFrame, y: pd.Series | None = None) -> Self:
        """Add the outcomes of more rows to the histories; each row must be added only once.

        Parameters
        ----------
        X
            Raw columns with `OUTCOME_KNOWN_AT`, shape (n_rows, n_columns).
        y
            True values, shape (n_rows,); the target column of `X` if None.

        Raises
        ------
        DataError
            A column is missing, or an outcome is known no later than its prediction.
        """
        if not self.histories:
            return self
        target = str((self.target or {})["column"])
        needed = [OUTCOME_KNOWN_AT] if y is not None else [OUTCOME_KNOWN_AT, target]
        taken = take_columns(X, {**self.inputs_, **dict.fromkeys(needed, "")})
        outcomes = X[target] if y is None else pd.Series(y)
        columns = self.compute_raw(taken)
        known_at = make_times(taken[OUTCOME_KNOWN_AT], OUTCOME_KNOWN_AT)
        early = np.flatnonzero(known_at <= columns[PREDICT_AT])
        if len(early):
            raise DataError(
                f"{len(early):,} rows have an outcome that is already known at prediction time, first row "
                f"{X.index[early[0]]}: filter them out or fix data.time"
            )
        is_known = ~np.isnat(known_at) & outcomes.notna().to_numpy()
        keys = {name: [*compress(found, is_known)] for name, found in self.list_keys(columns).items()}
        times = known_at[is_known].astype("int64")
        self.state_ = outcome_rates.add_outcomes(self.state_, times, self.to_numbers(outcomes)[is_known], keys)
        return self

    def to_numbers(self, outcomes: pd.Series) -> np.ndarray:
        """Return the values that histories average: 1 for the positive class and 0 for others, or the number itself."""
        positive = (self.target or {}).get("positive")
        if positive is not None:
            return np.asarray(outcomes == positive, dtype="float64")
        return outcomes.to_numpy(dtype="float64", na_value=np.nan)

    def find_categories(self, name: str, values: np.ndarray) -> list[str]:
        """Return the categories of a column that are frequent enough to keep."""
        most = self.get_declared("categories").get(name, self.most_categories)
        ordered = sorted(Counter(values.tolist()).items(), key=lambda item: (-item[1], item[0]))
        return sorted(label for label, count in ordered[:most] if count >= self.fewest_rows)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Compute the features of every row.

        Parameters
        ----------
        X
            Raw columns, shape (n_rows, n_columns).

        Returns
        -------
        pandas.DataFrame
            Shape (n_rows, n_features), with the index of `X`.

        Raises
        ------
        DataError
            A raw column is missing, or holds values of another kind.
        """
        columns = self.transform_columns(take_columns(X, self.inputs_))
        return pd.DataFrame(columns, index=X.index)

    def find_origins(self) -> dict[str, str]:
        """Return the origin of each feature that is not a raw column: an expression, or a word for its kind."""
        origins = dict(self.expressions or {})
        origins |= {name: spec["path"] for name, spec in self.get_declared("functions").items()}
        for spec in self.get_declared("transformers").values():
            origins |= dict.fromkeys(spec["names"], spec["path"])
        for name in self.get_declared("dates"):
            origins |= {feature: "date" for feature in self.outputs_ if feature.startswith(f"{name}_")}
        for name, weights in self.learnt_["words"].items():
            origins |= dict.fromkeys([*(f"{name}: {word}" for word in weights), f"{name}_{tfidf.LENGTH}"], "text")
        origins |= {" x ".join(pair): "interaction" for pair in self.get_declared("interactions")}
        origins |= {f"{name}_{imputation.OUTLIER}": "outliers" for name in self.learnt_["bounds"]}
        origins |= {f"{name}_{imputation.MISSING}": "missing values" for name in self.get_declared("fill")}
        return {name: origins.get(name, "history") for name in self.outputs_ if name not in self.inputs_}

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the features, shape (n_features,)."""
        return np.array(list(self.outputs_), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "inputs_")


def make_own_spec(params: "Params") -> dict[str, Any]:
    """Return the functions and transformers of the user's own as plain data; empty if there are none."""
    functions = own_functions.make_function_specs(params.features.functions)
    transformers = {name: one.model_dump(mode="json") for name, one in params.features.transformers.items()}
    declared = {"functions": functions, "transformers": transformers}
    return {kind: specs for kind, specs in declared.items() if specs}
