"""Columns of a pandas table as features take them: their kinds, and their values as arrays.

Only attributes of pandas columns are used and pandas is not imported, so serving does not need it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import DataError, list_briefly
from labkit.features.dictionary import make_dictionary_array

if TYPE_CHECKING:
    import pandas as pd


def find_column_kind(values: "pd.Series") -> str:
    """Return the kind of a column: `number`, `boolean`, `time` or `category`.

    Parameters
    ----------
    values
        The column, shape (n_rows,); a categorical column is a category unless its categories are booleans.

    Examples
    --------
    >>> import pandas as pd
    >>> find_column_kind(pd.Series([1.5, 2.0]))
    'number'
    """
    categories = getattr(values.dtype, "categories", None)
    kind = values.dtype.kind if categories is None else {"b": "b"}.get(categories.dtype.kind, "O")
    return {"b": "boolean", "i": "number", "u": "number", "f": "number", "c": "number", "M": "time"}.get(
        kind, "category"
    )


def is_numeric(values: "pd.Series") -> bool:
    """Return whether a column contains numbers, or booleans, which count as 0 and 1."""
    return find_column_kind(values) in ("number", "boolean")


def to_array(values: "pd.Series") -> np.ndarray:
    """Convert a column to an array for expressions.

    Parameters
    ----------
    values
        The column, shape (n_rows,).

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,); times are naive UTC in microseconds, booleans with missing values float64. Strings that pandas
        holds in Arrow's form have a dictionary, see `labkit.features.dictionary`.
    """
    if (found := find_strings(values)) is not None:
        return found
    if find_column_kind(values) != "time":
        is_nullable = str(values.dtype) == "boolean" and values.isna().any()
        return values.to_numpy(dtype="float64", na_value=np.nan) if is_nullable else values.to_numpy()
    plain = values if values.dt.tz is None else values.dt.tz_convert("UTC").dt.tz_localize(None)
    return plain.to_numpy().astype("datetime64[us]")


def find_strings(values: "pd.Series") -> np.ndarray | None:
    """Return a column of strings with its dictionary; None unless pandas holds it in Arrow's form."""
    kind: Any = values.dtype
    if getattr(kind, "storage", None) != "pyarrow":
        return None
    chunks = values.array.__arrow_array__()
    encoded = getattr(chunks, "combine_chunks", lambda: chunks)().dictionary_encode("encode")
    # Missing values are part of the dictionary, as pandas returns them.
    dictionary = encoded.dictionary.to_pandas().to_numpy(dtype=object, na_value=kind.na_value)
    return make_dictionary_array(encoded.indices.to_numpy().astype("int64"), dictionary)


def take_columns(frame: "pd.DataFrame", names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the named columns of a table as arrays.

    Parameters
    ----------
    frame
        The table, shape (n_rows, n_columns).
    names
        Column names, as keys.

    Raises
    ------
    DataError
        A column is missing.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(f"columns missing: {list_briefly(missing)}")
    return {name: to_array(frame[name]) for name in names}
