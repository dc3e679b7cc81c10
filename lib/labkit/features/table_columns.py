"""Columns of a pandas table as features take them: their kinds, and their values as arrays.

By attributes that every pandas column has: nothing of pandas is imported, so that what serves needs none.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from labkit.errors import DataError, list_briefly

if TYPE_CHECKING:
    import pandas as pd


def find_column_kind(values: "pd.Series") -> str:
    """Return `number`, `boolean`, `time` or `category`.

    >>> import pandas as pd
    >>> find_column_kind(pd.Series([1.5, 2.0]))
    'number'
    """
    categories = getattr(values.dtype, "categories", None)
    kind = values.dtype.kind if categories is None else {"b": "b"}.get(categories.dtype.kind, "O")
    return {"b": "boolean", "i": "number", "u": "number", "f": "number", "c": "number", "M": "time"}.get(
        kind, "category"
    )


def to_array(values: "pd.Series") -> np.ndarray:
    """Return a column as expressions take it; times become UTC without a zone, in microseconds."""
    if find_column_kind(values) != "time":
        is_nullable = str(values.dtype) == "boolean" and values.isna().any()
        return values.to_numpy(dtype="float64", na_value=np.nan) if is_nullable else values.to_numpy()
    plain = values if values.dt.tz is None else values.dt.tz_convert("UTC").dt.tz_localize(None)
    return plain.to_numpy().astype("datetime64[us]")


def take_columns(frame: "pd.DataFrame", names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the named columns of a table as arrays.

    Raises
    ------
    DataError
        One is not there.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(f"columns missing: {list_briefly(missing)}")
    return {name: to_array(frame[name]) for name in names}
