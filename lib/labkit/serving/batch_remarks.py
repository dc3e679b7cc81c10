"""Remarks on the rows of a batch prediction: columns without values, and values that training did not have.

Counted batch by batch, as plain data, so that finished parts keep what was counted in them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pandas as pd

from labkit.errors import list_briefly
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns

MOST_REMARKS = 20
MOST_UNSEEN = 10_000
"""Most different unseen values that are told apart in one column; more are counted, but not named."""


@dataclass
class InputCounts:
    """Counts by column.

    Attributes
    ----------
    known
        Rows with a value.
    unseen
        Rows by value, of values that training did not have.
    unseen_rows
        Rows with such a value.
    """

    known: Counter[str] = field(default_factory=Counter)
    unseen: dict[str, Counter[str]] = field(default_factory=dict)
    unseen_rows: Counter[str] = field(default_factory=Counter)

    @classmethod
    def count(cls, rows: pd.DataFrame, row_features: RowFeatures) -> Self:
        """Return the counts of a batch."""
        unseen = row_features.count_unseen(take_columns(rows, row_features.inputs_))
        return cls(
            Counter({name: int(rows[name].notna().sum()) for name in row_features.inputs_}),
            {name: Counter(dict(found.most_common(MOST_UNSEEN))) for name, found in unseen.items()},
            Counter({name: found.total() for name, found in unseen.items()}),
        )

    def add(self, other: "InputCounts") -> None:
        """Add the counts of other rows."""
        self.known += other.known
        self.unseen_rows += other.unseen_rows
        for name, found in other.unseen.items():
            values = self.unseen.setdefault(name, Counter())
            for value, times in found.items():
                if value in values or len(values) < MOST_UNSEEN:
                    values[value] += times

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {"known": self.known, "unseen": self.unseen, "unseen_rows": self.unseen_rows}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return what `to_dict` was made of."""
        unseen = {name: Counter(found) for name, found in content["unseen"].items()}
        return cls(Counter(content["known"]), unseen, Counter(content["unseen_rows"]))

    def describe(self, row_features: RowFeatures) -> list[str]:
        """Return a line for each column that has values unseen by the model, or no values at all."""
        lines = []
        for name in row_features.inputs_:
            n_known = self.known[name]
            if not n_known and name not in row_features.learnt_["empty"]:
                lines.append(f"{name}: no value in any row")
            elif found := self.unseen.get(name):
                shown = list_briefly((repr(value) for value, _ in found.most_common()), most=3)
                n_unseen = self.unseen_rows[name]
                lines.append(f"{name}: {n_unseen:,} of {n_known:,} values were never seen in training: {shown}")
        rest = len(lines) - MOST_REMARKS
        return [*lines[:MOST_REMARKS], *([f"… and {rest} more columns of that kind"] if rest > 0 else [])]
