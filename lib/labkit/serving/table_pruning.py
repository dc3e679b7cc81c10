"""Removal of sent rows that no prediction needs any longer, so that the file of a table does not grow for ever.

Only rows that were sent before a time go, the cutoff: those that a later row replaces, those that the model cannot
read, and those of a table joined by time that predictions for later times than the cutoff never find. So such
predictions do not change.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from labkit.features.table_join import TableJoin
from labkit.storage.append import read_lines, rewrite_lines

Key = tuple[Any, ...]
"""What tells a row from the others of its table: its keys, and its time."""


class Line(msgspec.Struct):
    """The rows of one request, and when they came, in seconds since 1970."""

    time: float
    rows: list[Any]


def decode_sent(content: bytes) -> Line | None:
    """Return a line; None if it is damaged."""
    try:
        return msgspec.json.decode(content, type=Line)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class Needed:
    """What is needed of a file.

    Attributes
    ----------
    keys
        Rows that predictions may find.
    cutoff
        Lines written before stay only as far as they are needed, in seconds since 1970.
    read_keys
        Returns the key of each of some rows, None for those that the model cannot read.
    """

    keys: set[Key]
    cutoff: float
    read_keys: Callable[[Sequence[Any]], list[Key | None]]


def prune_rows(path: Path, needed: Needed) -> int:
    """Remove from the file of a table the rows that are no longer needed, and return how many."""
    if not has_old_lines(path, needed.cutoff) or not any(n_removed for _, n_removed in choose_lines(path, needed)):
        return 0
    removed: list[int] = []

    def choose(_: Iterator[bytes]) -> Iterator[bytes]:
        for content, n_removed in choose_lines(path, needed):
            removed.append(n_removed)
            yield content

    rewrite_lines(path, choose)
    return sum(removed)


def has_old_lines(path: Path, cutoff: float) -> bool:
    """Return whether the first line, which is the oldest, was written before a time."""
    first = next((line for line in map(decode_sent, read_lines(path)) if line is not None), None)
    return first is not None and first.time < cutoff


def choose_lines(path: Path, needed: Needed) -> Iterator[tuple[bytes, int]]:
    """Yield each line of a file without what is not needed, empty if nothing is left, and how many rows went."""
    left: Counter[Key] = Counter()
    for line in map(decode_sent, read_lines(path)):
        if line is not None:
            left.update(key for key in needed.read_keys(line.rows) if key is not None)
    for content in read_lines(path):
        line = decode_sent(content)
        if line is None:
            yield b"", 0
            continue
        keys = needed.read_keys(line.rows)
        kept = [row for row, key in zip(line.rows, keys, strict=True) if is_kept(key, left, needed, written=line.time)]
        n_removed = len(keys) - len(kept)
        changed = msgspec.json.encode(Line(line.time, kept)) + b"\n" if kept else b""
        yield changed if n_removed else content, n_removed


def is_kept(key: Key | None, left: Counter[Key], needed: Needed, *, written: float) -> bool:
    """Return whether a row stays.

    Parameters
    ----------
    left
        How often each key occurs from this row on; the row is taken off.
    """
    if key is not None:
        left[key] -= 1
    return written >= needed.cutoff or (key in needed.keys and not left[key])


def find_needed_keys(
    keys: Collection[Key], names: Sequence[str], joins: Sequence[TableJoin], *, cutoff: float
) -> set[Key]:
    """Return the keys of the rows that predictions for times after `cutoff` may find.

    Parameters
    ----------
    keys
        Keys of all rows of a table, times as naive UTC.
    names
        Columns that keys are made of.
    joins
        The joins with this table.
    cutoff
        In seconds since 1970.

    Examples
    --------
    >>> join = TableJoin("rates", {"kind": "kind"}, {}, as_of="at")
    >>> keys = [("shoe", datetime(1970, 1, day)) for day in (1, 2, 4)]
    >>> sorted(at.day for _, at in find_needed_keys(keys, ["kind", "at"], [join], cutoff=2 * 86_400))
    [2, 4]
    """
    needed: set[Key] = set()
    moment = datetime.fromtimestamp(cutoff, UTC).replace(tzinfo=None)
    for join in joins:
        if join.as_of is None:
            return {*keys}
        at, places = names.index(join.as_of), [names.index(name) for name in join.keys.values()]
        latest: dict[Key, datetime] = {}
        for key in keys:
            if key[at] <= moment:
                own = tuple(key[place] for place in places)
                latest[own] = max(key[at], latest.get(own, key[at]))
        reach = float("inf") if join.within_hours is None else 3600 * join.within_hours
        found = {(*own, time) for own, time in latest.items() if (moment - time).total_seconds() <= reach}
        needed |= {key for key in keys if key[at] > moment or (*(key[place] for place in places), key[at]) in found}
    return needed
