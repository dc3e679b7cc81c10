"""Row features compiled for prediction: what does not depend on the rows is done once, when a model is loaded.

Features come as two arrays instead of one per feature: numbers, and codes of categories. Columns that are features as
they are go there at once; all others are cleaned and computed by `RowComputation.compute_raw`, as in training; see
`labkit.features.row_computation`.
"""

from collections.abc import Mapping

import numpy as np

from labkit.errors import DataError
from labkit.features.arrays import make_array, make_category, make_feature, round_to_single
from labkit.features.dictionary import find_dictionary
from labkit.features.expressions import is_missing_value
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.row_computation import OTHER, RowComputation

NUMBERS, CODES = "numbers", "codes"
"""Names of the two arrays, which are also the inputs of a graph that takes them."""
STANDARD = "d?"
"""Types of arrays, by numpy's characters, that become float64 without rounding: float64 and booleans."""


def list_categories(features: RowComputation) -> list[str]:
    """Return all categories that the features can have, sorted; the code of a category is its place in this list."""
    return sorted({OTHER, *(name for kept in features.categories_.values() for name in kept)})


class CompiledFeatures:
    """Fitted features, ready to compute.

    Parameters
    ----------
    features
        The fitted features; compile them again after a change.

    Attributes
    ----------
    numbers, categories
        Names of the features of each kind, in order.
    """

    def __init__(self, features: RowComputation) -> None:
        self.features = features
        self.numbers = [name for name, kind in features.outputs_.items() if kind == "number"]
        self.categories = [name for name, kind in features.outputs_.items() if kind == "category"]
        codes = {name: code for code, name in enumerate(list_categories(features))}
        self.other = codes[OTHER]
        self.codes = {name: {kept: codes[kept] for kept in features.categories_[name]} for name in self.categories}
        # Most columns of most tables are features as they are. At least one is read, for the number of rows.
        self.read = features.list_read_columns() or [*features.inputs_][:1]
        self.index = features.make_history_index() if features.histories else None
        looked_up = self.index.names if self.index else []
        self.computed = [name for name in self.numbers if name not in looked_up]
        places = {name: place for place, name in enumerate([*self.computed, *looked_up])}
        order, self.n_places = [places[name] for name in self.numbers], len(places)
        # None where the numbers are computed in their order.
        self.order = None if order == [*range(self.n_places)] else np.array(order, "int64")

    def compute(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Compute the features from raw columns.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).

        Returns
        -------
        tuple of numpy.ndarray
            Numbers, float32, shape (n_rows, n_numbers), missing ones NaN; and codes of the categories, int64, shape
            (n_rows, n_categories), see `list_categories`.

        Raises
        ------
        DataError
            A raw column is missing, or holds values of another kind.
        """
        made = self.features.compute_raw(columns, taken=self.read)
        n_rows = len(made[self.read[0]])
        blocks = [
            self.make_number(name, made[name]) if name in made else self.make_plain_number(name, columns[name])
            for name in self.computed
        ]
        if self.index is not None:
            blocks += [self.index.look_up(self.features.list_keys(made), made[PREDICT_AT]).ravel()]
        numbers = np.concatenate(blocks or [np.empty(0)]).reshape(self.n_places, n_rows)
        if self.order is not None:
            numbers = numbers[self.order]
        found = [
            self.encode(name, made[name]) if name in made else self.encode_plain(name, columns[name])
            for name in self.categories
        ]
        codes = np.array(found, "int64")
        codes = codes.reshape(len(self.categories), n_rows)
        return np.ascontiguousarray(round_to_single(numbers).T), np.ascontiguousarray(codes.T)

    def make_number(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return a numeric feature as an array that becomes float64 without rounding."""
        return values if values.dtype.char in STANDARD else self.features.make_output(name, values)

    def make_plain_number(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return a raw column that is a numeric feature as it is; as `make_number`."""
        return values if values.dtype.char in STANDARD else make_array(values, self.features.inputs_[name], name)

    def encode_plain(self, name: str, values: np.ndarray) -> list[int] | np.ndarray:
        """Return the codes of a raw column that is a categorical feature as it is."""
        if values.dtype != object or find_dictionary(values) is not None:
            return self.encode(name, make_array(values, "category", name))
        codes, other = self.codes[name], self.other
        return [
            codes.get(value if type(value) is str else make_category(value) or "", other) for value in values.tolist()
        ]

    def encode(self, name: str, values: np.ndarray) -> list[int] | np.ndarray:
        """Return the codes of a categorical feature."""
        if (found := find_dictionary(values)) is not None:
            return np.array(self.encode(name, found[1]), "int64")[found[0]]
        codes, other = self.codes[name], self.other
        strings = values if values.dtype == object else make_feature(values, "category")
        return [
            codes.get(value if type(value) is str else "" if is_missing_value(value) else str(value), other)
            for value in strings.tolist()
        ]

    def check(self, columns: Mapping[str, np.ndarray]) -> None:
        """Raise DataError if the features of some rows are not exactly those that training computes.

        Parameters
        ----------
        columns
            Raw columns, arrays of shape (n_rows,).
        """
        numbers, codes = self.compute(columns)
        names = np.array(list_categories(self.features), object)
        found = dict(zip(self.numbers, numbers.T, strict=True))
        found |= dict(zip(self.categories, names[codes].T, strict=True))
        for name, values in self.features.transform_columns(columns).items():
            if not np.array_equal(values, found[name], equal_nan=values.dtype != object):
                raise DataError(f"feature {name!r} is computed differently from training: train and release again")
