"""Columns of strings with a dictionary: each distinct value once, and for each row its place among them.

What is computed value by value is then computed once per distinct value. Such a column is an ordinary array to all code
that does not ask for its dictionary; what is derived from it, such as a part of its rows, has none.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


class DictionaryArray(np.ndarray):
    """Values of a column, an object array of shape (n_rows,) that cannot be written to.

    Attributes
    ----------
    codes
        Place of each row's value in the dictionary, int64, shape (n_rows,).
    dictionary
        Values, shape (n_values,); None, as `codes`, if the array was derived from another one.
    """

    codes: np.ndarray | None
    dictionary: np.ndarray | None

    def __array_finalize__(self, source: object) -> None:
        self.codes = self.dictionary = None


def make_dictionary_array(codes: np.ndarray, dictionary: np.ndarray) -> np.ndarray:
    """Return the column with these codes and values."""
    made = dictionary[codes].view(DictionaryArray)
    made.codes, made.dictionary = codes, dictionary
    made.flags.writeable = False
    return made


def find_dictionary(values: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return codes and dictionary of a column; None if it has none."""
    if isinstance(values, DictionaryArray) and values.codes is not None and values.dictionary is not None:
        return values.codes, values.dictionary
    return None


def combine_codes(columns: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, list[list[Any]]]:
    """Return codes of the distinct rows of several columns, and for each column its values by code.

    Parameters
    ----------
    columns
        Codes and dictionary of each; at least one.
    """
    codes = columns[0][0]
    values = [columns[0][1]]
    for others, dictionary in columns[1:]:
        pairs, codes = np.unique(codes * len(dictionary) + others, return_inverse=True)
        first, second = np.divmod(pairs, len(dictionary))
        values = [*(found[first] for found in values), dictionary[second]]
    return codes, [found.tolist() for found in values]


def convert_dictionary(values: np.ndarray, convert: Callable[[list[Any]], np.ndarray]) -> np.ndarray | None:
    """Return a column of what a function makes of each value, once per distinct value; None without a dictionary."""
    found = find_dictionary(values)
    return None if found is None else make_dictionary_array(found[0], convert(found[1].tolist()))
