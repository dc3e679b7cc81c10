"""Computation of row features on numpy arrays from a plain spec, shared by training, batch prediction and the server.

Row rules, learned outliers and fills, declared expressions, the user's own functions and transformers, date parts,
words of text columns, interactions, histories of known outcomes and the choice of columns. Needs numpy only, and what
the user's own code needs. Features are fitted in `labkit.features.row_features`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from labkit.errors import DataError, list_briefly
from labkit.features import (
    date_parts,
    expressions,
    imputation,
    known_values,
    outcome_rates,
    own_functions,
    own_transformers,
    tfidf,
)
from labkit.features.arrays import find_invalid, make_array, make_feature
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.row_rules import Columns, RowRule, apply_rule, apply_rules

OTHER = "other"
"""Name of the class that rare classes, and of the category that rare or unseen values, are merged into."""


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
    transformers_: Mapping[str, Any] = MappingProxyType({})

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
        """Return what is declared for columns under one heading; empty if nothing is."""
        return (self.columns or {}).get(kind) or {}

    def is_hidden(self, name: str) -> bool:
        """Return whether a column is not an input of the model, though other features may be computed from it."""
        is_read = name in self.get_declared("dates") or name in self.get_declared("text")
        is_empty = hasattr(self, "learnt_") and name in self.learnt_["empty"]
        return name in self.drop or is_read or is_empty or name == PREDICT_AT

    def list_categories(self) -> list[str]:
        """Return the raw categorical columns that are inputs of the model."""
        texts = self.get_declared("text")
        return [
            name for name, kind in self.inputs_.items()
            if kind == "category" and name not in texts and not self.is_hidden(name)
        ]  # fmt: skip

    def count_unseen(self, columns: Mapping[str, np.ndarray]) -> dict[str, Counter[str]]:
        """Count the values of raw columns that were not in the training rows.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).

        Returns
        -------
        dict of Counter
            Rows by unseen value, by column; columns without unseen values are omitted.
        """
        clean = {name: self.clean_column(name, columns[name]) for name in self.seen_}
        found = {name: known_values.count_unseen(clean[name], digests) for name, digests in self.seen_.items()}
        return {name: unseen for name, unseen in found.items() if unseen}

    def list_own_columns(self) -> list[str]:
        """Return the features that the user's own functions and transformers compute."""
        transformers = self.get_declared("transformers").values()
        return [*self.get_declared("functions"), *(name for spec in transformers for name in spec["names"])]

    def check_own_code(self, columns: Mapping[str, np.ndarray]) -> None:
        """Check that the user's functions and transformers compute each row by itself.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).

        Raises
        ------
        DataError
            One of them does not; see `labkit.features.own_functions`.
        """
        functions, transformers = self.get_declared("functions"), self.get_declared("transformers")
        if not functions and not transformers:
            return
        clean = imputation.apply_learnt(self.clean(columns), self.learnt_, self.columns or {})
        for name, spec in functions.items():
            own_functions.check_function(name, spec, clean)
        for name, transformer in self.transformers_.items():
            own_transformers.check_transformer(name, transformers[name], transformer, clean)

    def list_read_columns(self) -> list[str]:
        """Return the raw columns that are not just features as they are: other features are computed of them, say."""
        declared, names = self.get_declared, {PREDICT_AT, *(self.rules or {})}
        for expression in (self.expressions or {}).values():
            names |= {*expressions.find_names(expression)}
        for spec in (self.histories or {}).values():
            names |= {*spec["keys"]}
        for spec in (*declared("functions").values(), *declared("transformers").values()):
            names |= {*spec["columns"]}
        for pair in declared("interactions"):
            names |= {*pair}
        names |= {name for kind in ("fill", "outliers", "dates", "text") for name in declared(kind)}
        names |= {name for name in self.inputs_ if name not in self.outputs_}
        return [name for name in self.inputs_ if name in names]

    def list_keys(self, columns: Columns) -> dict[str, Sequence[str | None]]:
        """Return the key of every row, by history."""
        n_rows = len(columns[PREDICT_AT]) if self.histories else 0
        return {
            name: outcome_rates.list_history_keys([columns[key] for key in spec["keys"]], n_rows)
            for name, spec in (self.histories or {}).items()
        }

    def transform_columns(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """Compute the features from raw columns.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).

        Returns
        -------
        dict of numpy.ndarray
            Features in order, float64 or strings, shape (n_rows,).

        Raises
        ------
        DataError
            A raw column is missing, or holds values of another kind.
        """
        made = self.compute_columns(columns)
        made = {name: self.make_output(name, made[name]) for name in self.outputs_}
        for name, kept in self.categories_.items():
            known = set(kept)
            made[name] = np.array([value if value in known else OTHER for value in made[name]], object)
        return made

    def make_output(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return one feature in the form that estimators take."""
        try:
            return make_feature(values, self.outputs_[name])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"features.expressions.{name}: {find_invalid(values, float)} is not a number, as in the training rows: "
                "give numbers in every row or strings in every row"
            ) from error

    def compute_columns(self, columns: Mapping[str, np.ndarray]) -> Columns:
        """Compute the columns that the model sees, not yet converted to features.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).

        Returns
        -------
        dict of numpy.ndarray
            Cleaned raw columns, computed columns and histories, shape (n_rows,).
        """
        made = self.compute_raw(columns)
        if self.histories:
            index = self.make_history_index()
            made |= dict(zip(index.names, index.look_up(self.list_keys(made), made[PREDICT_AT]), strict=True))
        return {name: values for name, values in made.items() if not self.is_hidden(name)}

    def make_history_index(self) -> outcome_rates.HistoryIndex:
        """Return the histories arranged for looking rows up."""
        days = {name: spec["days"] for name, spec in (self.histories or {}).items()}
        return outcome_rates.HistoryIndex(self.state_, days)

    def compute_raw(self, columns: Mapping[str, np.ndarray], *, taken: Collection[str] | None = None) -> Columns:
        """Clean raw columns and compute everything that does not depend on the outcomes of other rows.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).
        taken
            The columns to clean, of which all others are computed; None for all.

        Returns
        -------
        dict of numpy.ndarray
            Cleaned raw columns and computed columns, shape (n_rows,).
        """
        clean = imputation.apply_learnt(self.clean(columns, taken=taken), self.learnt_, self.columns or {})
        made = {name: expressions.compute(expression, clean) for name, expression in (self.expressions or {}).items()}
        for name, spec in self.get_declared("functions").items():
            made[name] = own_functions.compute_function(name, spec, clean)
        for name, transformer in self.transformers_.items():
            made |= own_transformers.compute_transformed(
                name, self.get_declared("transformers")[name], transformer, clean
            )
        for name, spec in self.get_declared("dates").items():
            parts = date_parts.compute_parts(clean[name], spec["zone"], spec["parts"])
            made |= {f"{name}_{part}": values for part, values in parts.items()}
        for name, weights in self.learnt_["words"].items():
            made |= tfidf.weigh_words(clean[name], weights, name)
        for first, second in self.get_declared("interactions"):
            known = {**clean, **made}
            made[f"{first} x {second}"] = imputation.interact(known[first], known[second])
        return {**clean, **made}

    def clean(self, columns: Mapping[str, np.ndarray], *, taken: Collection[str] | None = None) -> Columns:
        """Convert raw columns to their kinds and apply the row rules; rules with a type come before the conversion.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).
        taken
            The columns to clean; None for all.

        Raises
        ------
        DataError
            A raw column is missing, or holds values of another kind.
        """
        missing = [name for name in self.inputs_ if name not in columns]
        if missing:
            raise DataError(f"columns missing: {list_briefly(missing)}")
        names = self.inputs_ if taken is None else taken
        return {name: self.clean_column(name, columns[name]) for name in names}

    def clean_column(self, name: str, values: np.ndarray) -> np.ndarray:
        """Convert one raw column to its kind and apply its rule; see `clean`."""
        kind, declared = self.inputs_[name], (self.rules or {}).get(name)
        if declared is None:
            return make_array(values, kind, name)
        rule = RowRule(**declared)
        taken = values if rule.type is None else apply_rule(values, rule)
        return apply_rules({name: make_array(taken, kind, name)}, {name: rule})[name]

    def to_json(self) -> dict[str, Any]:
        """Return the declared spec and the fitted state as plain data, without the arrays of `state_arrays`."""
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
        """Return the observed outcomes as plain arrays, which complete `to_json`; empty without histories."""
        return dict(self.state_) if self.histories else {}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> Self:
        """Return fitted features.

        Parameters
        ----------
        content
            Result of `to_json`.
        arrays
            Result of `state_arrays`; no outcomes if None.
        """
        declared = ("rules", "expressions", "histories", "target", "drop", "most_categories", "fewest_rows")
        # Older releases store dates at the top level and have learned nothing else.
        columns = content["columns"] if "columns" in content else {"dates": content["dates"]}
        features = cls(**{name: content[name] for name in declared}, columns=columns)
        features.learnt_ = content.get("learnt") or imputation.learn({}, {})
        features.inputs_ = dict(content["inputs"])
        features.outputs_ = dict(content["outputs"])
        features.categories_ = {name: list(kept) for name, kept in content["categories"].items()}
        features.seen_ = {name: list(digests) for name, digests in content.get("seen", {}).items()}
        features.state_ = {**outcome_rates.make_state(features.histories or {}), **(arrays or {})}
        return features
