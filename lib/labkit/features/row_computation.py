"""What row features compute, on numpy arrays from a plain spec: training, batch prediction and a server do the same.

Row rules, what was learnt of outliers and missing values, declared expressions, parts of dates, words of texts,
interactions, histories of known outcomes and the choice of columns. Needs numpy only. How they are fitted:
`labkit.features.row_features`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from labkit.errors import DataError, list_briefly
from labkit.features import date_parts, expressions, imputation, known_values, outcome_rates, tfidf
from labkit.features.arrays import find_invalid, make_array, make_feature
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.row_rules import Columns, RowRule, apply_rule, apply_rules

OTHER = "other"


class RowComputation:
    """Fitted features: raw columns in, features out, all arrays of shape (n_rows,).

    Parameters and attributes are those of `labkit.features.row_features.RowFeatures`.
    """

    inputs_: dict[str, str]
    outputs_: dict[str, str]
    categories_: dict[str, list[str]]
    seen_: dict[str, list[str]]
    learnt_: dict[str, Any]
    state_: outcome_rates.State

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

    def get_declared(self, kind: str) -> Any:
        """Return what is declared of columns under one heading; empty if there is nothing."""
        return (self.columns or {}).get(kind) or {}

    def is_hidden(self, name: str) -> bool:
        """Return whether the model does not see a column, though what it sees may be computed from it."""
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

    def make_keys(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return every history's key of every row."""
        n_rows = len(columns[PREDICT_AT]) if self.histories else 0
        return {
            name: outcome_rates.make_keys([columns[key] for key in spec["keys"]], n_rows)
            for name, spec in (self.histories or {}).items()
        }

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
                f"features.expressions.{name}: {find_invalid(values, float)} is not a number, as in the training rows: "
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
        rules = {name: RowRule(**rule) for name, rule in (self.rules or {}).items()}
        typed = {name: rule for name, rule in rules.items() if rule.type is not None}
        taken = {
            name: apply_rule(columns[name], typed[name]) if name in typed else columns[name] for name in self.inputs_
        }
        return apply_rules({name: make_array(taken[name], kind, name) for name, kind in self.inputs_.items()}, rules)

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
    def from_json(cls, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> Self:
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
