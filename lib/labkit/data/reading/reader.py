"""What reads the rows of one format, and what it remarks on."""

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

Remark = tuple[str, str, str, str]
"""Column, finding, evidence and remedy of what was noticed."""


class Reader(Protocol):
    """What reads the rows of one format, as often as needed.

    `schema` are the columns; `n_bytes` is the size unpacked, 0 where it is bounded otherwise; `remarks` is what was
    noticed.
    """

    schema: pa.Schema
    n_rows: int
    n_bytes: int
    remarks: list[Remark]

    def read_batches(self, n_rows: int) -> Iterator[pa.RecordBatch | pa.Table]:
        """Yield all rows in batches of about so many."""
