"""Row features: the first step of every model, from joined raw columns to what preparation and estimator take.

Row rules, what was learnt of outliers and gaps, declared expressions, parts of dates, words of texts, interactions,
histories of known outcomes and the choice of columns, computed on numpy arrays from a plain spec, so that training,
batch prediction and a server without pandas do exactly the same. What is fitted to many rows, such as encoding, comes
after it, in `labkit.model.training.comparison`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from labkit.errors import DataError, list_briefly
from labkit.features import date_parts, expressions, imputation, known_values, outcome_rates, tfidf
from labkit.features.arrays import find_feature_kind, find_odd, make_array, make_feature, make_times
from labkit.features.column_kind import find_kind
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.row_rules import Columns, apply_rule, apply_rules
from labkit.params.experiment import Params
from labkit.params.wrangling import Rule

OTHER = "other"


class RowFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn joined raw columns into features, row by row.

    Parameters
    ----------
    rules
        Stateless rules by column, as plain data.
    expressions
        New columns by name.
    histories
        Name: `keys` and `days`, as plain data; see `labkit.features.outcome_rates`.
    target
        `column` and, for classes, `positive`, the class whose rate a history is: plain data.
    drop
        Columns the model does not see; expressions and histories may still use them.
    columns
        What else is declared of columns, as plain data: `dates` (zone and parts), `interactions` (pairs), `categories`
        (how many to keep of a column), and what is learnt from the training rows, see `labkit.features.imputation`.
    most_categories, fewest_rows
        A category is kept if it is among the most frequent and stands in enough training rows; all others, and
        those first seen later, become `other`.

    Attributes
    ----------
    inputs_
        Kind of each raw column that is needed, `number`, `boolean`, `time` or `category`, in the table's order.
    outputs_
        Kind of each feature, `number` or `category`, in order.
    categories_
        Categories kept of each category feature, sorted.
    seen_
        Digests of the values of each column of categories in the training rows; see `labkit.features.known_values`.
    learnt_
        Bounds, fills, words and empty columns, as plain data; see `labkit.features.imputation`.
    state_
        Outcomes observed so far, for the histories: arrays, see `labkit.features.outcome_rates.State`.

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
        histories: Mapping[str, Mapping[str, Any]] | None = None,
        target: Mapping[str, Any] | None = None,
        drop: tuple[str, ...] | list[str] = (),
        columns: Mapping[str, Any] | None = None,
        most_categories: int = 30,
        fewest_rows: int = 5,
    ) -> None:
        self.rules = rules
        self.expressions = expressions
        self.histories = histories
        self.target = target
        self.drop = drop
        self.columns = columns
        self.most_categories = most_categories
        self.fewest_rows = fewest_rows

    @classmethod
    def from_params(cls, params: Params) -> "RowFeatures":
        """Return the unfitted features that the params declare."""
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
            },
            most_categories=params.features.most_categories,
            fewest_rows=params.features.fewest_rows,
        )

    def get_declared(self, kind: str) -> Any:
        """Return what is declared of columns under one heading; empty if there is nothing."""
        return (self.columns or {}).get(kind) or {}

    def fit(self, X: pd.DataFrame, y: pd.Series | None = None) -> Self:
        """Record the raw columns, their kinds and the categories to keep; observe the answers, if there are histories.

        Raises
        ------
        DataError
            A column holds times, which no model takes as they are, or an answer is known too early.
        """
        self.inputs_ = self.find_inputs(X)
        self.state_ = outcome_rates.make_state(self.histories or {})
        clean = self.clean(take_columns(X, self.inputs_))
        self.learnt_ = imputation.learn(clean, self.columns or {})
        digests = {name: known_values.list_digests(clean[name]) for name in self.list_categories()}
        self.seen_ = {name: found for name, found in digests.items() if found is not None}
        if y is not None:
            self.observe(X, y)
        made = self.compute_columns(take_columns(X, self.inputs_))
        self.outputs_ = {name: find_feature_kind(values) for name, values in made.items()}
        categories = [name for name, kind in self.outputs_.items() if kind == "category"]
        texts = {name: make_feature(made[name], "category") for name in categories}
        self.categories_ = {name: self.find_categories(name, values) for name, values in texts.items()}
        return self

    def find_inputs(self, X: pd.DataFrame) -> dict[str, str]:
        """Return the kinds of the raw columns that are needed."""
        used = {name for text in (self.expressions or {}).values() for name in expressions.find_names(text)}
        used |= {*self.get_declared("dates")} | {
            key for spec in (self.histories or {}).values() for key in spec["keys"]
        }
        used |= {PREDICT_AT} if self.histories else set()
        used |= {name for pair in self.get_declared("interactions") for name in pair} & {*map(str, X.columns)}
        never = {*self.drop, PREDICT_AT, OUTCOME_KNOWN_AT, (self.target or {}).get("column")}
        kinds = {str(name): find_kind(X[name]) for name in X.columns if name not in never or name in used}
        times = [name for name, kind in kinds.items() if kind == "time" and not self.is_hidden(name)]
        if times:
            raise DataError(
                f"times cannot be features: {list_briefly(times)}: name them in features.drop, or their parts in "
                f"features.dates, e.g. {json.dumps(times[0], ensure_ascii=False)}: {{parts: [hour, weekday, month]}}"
            )
        return kinds

    def is_hidden(self, name: str) -> bool:
        """Tell whether the model does not see a column, though what it sees may be computed from it."""
        is_read = name in self.get_declared("dates") or name in self.get_declared("text")
        is_empty = hasattr(self, "learnt_") and name in self.learnt_["empty"]
        return name in self.drop or is_read or is_empty or name == PREDICT_AT

    def list_categories(self) -> list[str]:
        """Return the raw columns of categories that the model sees."""
        texts = self.get_declared("text")
        return [
            name for name, kind in self.inputs_.items()
            if kind == "category" and name not in texts and not self.is_hidden(name)
        ]  # fmt: skip

    def count_unseen(self, columns: Mapping[str, np.ndarray]) -> dict[str, Counter[str]]:
        """Return the values of raw columns that no training row had, each with its rows, by column."""
        clean = self.clean(columns)
        found = {name: known_values.count_unseen(clean[name], digests) for name, digests in self.seen_.items()}
        return {name: unseen for name, unseen in found.items() if unseen}

    def observe(self, X: pd.DataFrame, y: pd.Series | None = None) -> Self:
        """Add the answers of more rows to the histories; rows must come once only.

        Parameters
        ----------
        X
            Raw columns with `OUTCOME_KNOWN_AT`.
        y
            Answers, shape (n_rows,); the target's column of `X` if None.

        Raises
        ------
        DataError
            A column is not there, or an answer is known when it is asked for.
        """
        if not self.histories:
            return self
        target = str((self.target or {})["column"])
        needed = [OUTCOME_KNOWN_AT] if y is not None else [OUTCOME_KNOWN_AT, target]
        taken = take_columns(X, {**self.inputs_, **dict.fromkeys(needed, "")})
        answers = X[target] if y is None else pd.Series(y)
        columns = self.compute_raw(taken)
        known_at = make_times(taken[OUTCOME_KNOWN_AT], OUTCOME_KNOWN_AT)
        early = np.flatnonzero(known_at <= columns[PREDICT_AT])
        if len(early):
            raise DataError(
                f"{len(early):,} rows have an answer that is known when it is asked for, first row "
                f"{X.index[early[0]]}: filter them out or mend data.time"
            )
        is_known = ~np.isnat(known_at) & answers.notna().to_numpy()
        keys = {name: values[is_known] for name, values in self.make_keys(columns).items()}
        times = known_at[is_known].astype("int64")
        self.state_ = outcome_rates.add_outcomes(self.state_, times, self.to_numbers(answers)[is_known], keys)
        return self

    def to_numbers(self, answers: pd.Series) -> np.ndarray:
        """Return what a history adds up: 1 for the class of interest and 0 for others, or the number itself."""
        positive = (self.target or {}).get("positive")
        if positive is not None:
            return np.asarray(answers == positive, dtype="float64")
        return answers.to_numpy(dtype="float64", na_value=np.nan)

    def make_keys(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return every history's key of every row."""
        n_rows = len(columns[PREDICT_AT]) if self.histories else 0
        return {
            name: outcome_rates.make_keys([columns[key] for key in spec["keys"]], n_rows)
            for name, spec in (self.histories or {}).items()
        }

    def find_categories(self, name: str, values: np.ndarray) -> list[str]:
        """Return the categories of a column, shape (n_rows,), that are frequent enough to be kept."""
        most = self.get_declared("categories").get(name, self.most_categories)
        ordered = sorted(Counter(values.tolist()).items(), key=lambda item: (-item[1], item[0]))
        return sorted(label for label, count in ordered[:most] if count >= self.fewest_rows)

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
        made = {name: self.make_output(name, made[name]) for name in self.outputs_}
        for name, kept in self.categories_.items():
            known = set(kept)
            made[name] = np.array([value if value in known else OTHER for value in made[name]], object)
        return made

    def make_output(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return one feature as estimators take it."""
        try:
            return make_feature(values, self.outputs_[name])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"features.expressions.{name}: {find_odd(values, float)} is not a number, as in the training rows: "
                "give numbers in every row or strings in every row"
            ) from error

    def compute_columns(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """Return clean raw columns and expressions that the model sees, not yet in the kind of features."""
        made = self.compute_raw(columns)
        for name, keys in self.make_keys(made).items():
            days = (self.histories or {})[name]["days"]
            made |= outcome_rates.look_up(self.state_, name, keys, made[PREDICT_AT], days)
        return {name: values for name, values in made.items() if not self.is_hidden(name)}

    def compute_raw(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """Return clean raw columns and all that is computed from them: what needs no answer of other rows."""
        clean = imputation.apply_learnt(self.clean(columns), self.learnt_, self.columns or {})
        made = {name: expressions.compute(text, clean) for name, text in (self.expressions or {}).items()}
        for name, spec in self.get_declared("dates").items():
            made |= {
                f"{name}_{part}": date_parts.compute_part(clean[name], spec["zone"], part) for part in spec["parts"]
            }
        for name, weights in self.learnt_["words"].items():
            made |= tfidf.weigh_words(clean[name], weights, name)
        for first, second in self.get_declared("interactions"):
            known = {**clean, **made}
            made[f"{first} x {second}"] = imputation.interact(known[first], known[second])
        return {**clean, **made}

    def clean(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """Return raw columns by their kinds with the row rules applied; what is read as another type, before that.

        Raises
        ------
        DataError
            A raw column is not there, or holds what is not of its kind.
        """
        missing = [name for name in self.inputs_ if name not in columns]
        if missing:
            raise DataError(f"columns missing: {list_briefly(missing)}")
        rules = {
            name: Rule(**{**rule, "missing": tuple(rule.get("missing", ()))})
            for name, rule in (self.rules or {}).items()
        }
        typed = {name: rule for name, rule in rules.items() if rule.type is not None}
        taken = {
            name: apply_rule(columns[name], typed[name]) if name in typed else columns[name] for name in self.inputs_
        }
        return apply_rules({name: make_array(taken[name], kind, name) for name, kind in self.inputs_.items()}, rules)

    def find_origins(self) -> dict[str, str]:
        """Return what each feature that is no raw column is made from: an expression, or a word for its kind."""
        said = dict(self.expressions or {})
        for name in self.get_declared("dates"):
            said |= {feature: "date" for feature in self.outputs_ if feature.startswith(f"{name}_")}
        for name, weights in self.learnt_["words"].items():
            said |= dict.fromkeys([*(f"{name}: {word}" for word in weights), f"{name}_{imputation.LENGTH}"], "text")
        said |= {" x ".join(pair): "interaction" for pair in self.get_declared("interactions")}
        said |= {f"{name}_{imputation.OUTLIER}": "outliers" for name in self.learnt_["bounds"]}
        said |= {f"{name}_{imputation.MISSING}": "gaps" for name in self.get_declared("fill")}
        return {name: said.get(name, "history") for name in self.outputs_ if name not in self.inputs_}

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
            "histories": self.histories or {},
            "target": self.target or {},
            "drop": list(self.drop),
            "columns": self.columns or {},
            "learnt": self.learnt_,
            "most_categories": self.most_categories,
            "fewest_rows": self.fewest_rows,
            "inputs": list(self.inputs_.items()),
            "outputs": list(self.outputs_.items()),
            "categories": self.categories_,
            "seen": self.seen_,
        }

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Return the outcomes observed so far as plain arrays, the other half of `to_json`; empty without histories."""
        return dict(self.state_) if self.histories else {}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> "RowFeatures":
        """Return fitted features from what `to_json` and `state_arrays` gave."""
        declared = ("rules", "expressions", "histories", "target", "drop", "most_categories", "fewest_rows")
        # Releases of before have dates by themselves and nothing learnt.
        columns = content["columns"] if "columns" in content else {"dates": content["dates"]}
        features = cls(**{name: content[name] for name in declared}, columns=columns)
        features.learnt_ = content.get("learnt") or imputation.learn({}, {})
        features.inputs_ = dict(content["inputs"])
        features.outputs_ = dict(content["outputs"])
        features.categories_ = {name: list(kept) for name, kept in content["categories"].items()}
        features.seen_ = {name: list(digests) for name, digests in content.get("seen", {}).items()}
        features.state_ = {**outcome_rates.make_state(features.histories or {}), **(arrays or {})}
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
    return {name: expressions.to_array(frame[name]) for name in names}
