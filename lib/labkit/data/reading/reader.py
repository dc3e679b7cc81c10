"""The interface of the readers of typed formats, and of their remarks."""

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

Remark = tuple[str, str, str, str]
"""Column, finding, evidence and fix of a remark."""


class Reader(Protocol):
    """Reads the rows of a file of one format, repeatedly if needed.

    Attributes
    ----------
    schema
        Names and types of the columns.
    n_rows
        Number of rows.
    n_bytes
        Decompressed size in bytes; 0 if it is limited elsewhere.
    remarks
        Remarks made while reading.
    """

    schema: pa.Schema
    n_rows: int
    n_bytes: int
    remarks: list[Remark]

    def read_batches(self, n_rows: int) -> Iterator[pa.RecordBatch | pa.Table]:
        """Yield all rows in batches of about `n_rows`."""
