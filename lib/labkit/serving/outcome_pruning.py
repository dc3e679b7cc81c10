"""Removal of outcomes that no model needs any longer, so that the file of outcomes does not grow for ever.

An outcome goes once everything that was recorded under its id was written more than `KEPT_DAYS` ago, and became known
no later than the last outcome of the champion's release, which holds it. So predictions do not change, and until then
an observation can be undone, and an earlier champion can take over with the outcomes that its release lacks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from labkit.features.arrays import convert_time
from labkit.serving.outcome_lines import Line
from labkit.storage.append import read_lines, rewrite_lines

KEPT_DAYS = 90
"""Days for which outcomes are kept after they were written, even if the release of the champion holds them."""


def prune_outcomes(path: Path, *, held_until: int, now: float) -> int:
    """Remove from a file of outcomes those that are no longer needed, and return how many.

    Parameters
    ----------
    held_until
        When the last outcome of the champion's release became known, in microseconds since 1970.
    now
        Time in seconds since 1970.
    """
    cutoff = now - KEPT_DAYS * 86_400
    if not is_due(path, cutoff) or not has_unneeded(path, find_needed_ids(path, held_until=held_until, cutoff=cutoff)):
        return 0
    removed: list[int] = []

    def choose(lines: Iterator[bytes]) -> Iterator[bytes]:
        needed = find_needed_ids(path, held_until=held_until, cutoff=cutoff)
        counts: dict[str, int] = {}
        for content in lines:
            yield remove_outcomes(content, needed, counts, cutoff=cutoff)
        removed.append(sum(counts.values()))

    rewrite_lines(path, choose)
    return sum(removed)


def is_due(path: Path, cutoff: float) -> bool:
    """Return whether the first line with outcomes, which is the oldest, was written before a time."""
    for content in read_lines(path):
        line = decode_line(content)
        if line is not None and line.outcomes:
            return line.time < cutoff
    return False


@dataclass
class Needed:
    """Ids of outcomes that are needed.

    Attributes
    ----------
    undone
        Observations that were undone lately, of which every outcome is needed.
    """

    ids: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)


def find_needed_ids(path: Path, *, held_until: int, cutoff: float) -> Needed:
    """Return what is needed of a file; see `prune_outcomes`."""
    needed = Needed()
    for content in read_lines(path):
        line = decode_line(content)
        if line is not None and line.undo is not None and line.time >= cutoff:
            needed.undone.add(line.undo.id)
    for content in read_lines(path):
        if (line := decode_line(content)) is not None:
            is_recent = line.time >= cutoff or line.observation in needed.undone
            needed.ids |= {one.id for one in line.outcomes if is_recent or not is_held(one.known_at, held_until)}
    return needed


def has_unneeded(path: Path, needed: Needed) -> bool:
    """Return whether a file has outcomes that are not needed."""
    lines = map(decode_line, read_lines(path))
    return any(one.id not in needed.ids for line in lines if line is not None for one in line.outcomes)


def is_held(known_at: str, held_until: int) -> bool:
    """Return whether an outcome became known no later than the last one of a release."""
    try:
        return int(np.datetime64(convert_time(known_at), "us").astype("int64")) <= held_until
    except ValueError:  # nothing can count it
        return True


def remove_outcomes(content: bytes, needed: Needed, counts: dict[str, int], *, cutoff: float) -> bytes:
    """Return a line without outcomes that are not needed, empty if nothing is left of it.

    Parameters
    ----------
    counts
        Takes the number of outcomes removed so far, by observation; of those without one under an empty name.
    """
    line = decode_line(content)
    is_empty = line is not None and not line.outcomes and line.record is None and line.undo is None
    if line is None or (is_empty and line.time < cutoff):
        return b""
    changes: dict[str, Any] = {}
    if line.outcomes:
        kept = [one for one in line.outcomes if one.id in needed.ids]
        n_removed = len(line.outcomes) - len(kept)
        counts[line.observation] = counts.get(line.observation, 0) + n_removed
        if not kept:
            return b""
        changes = {"outcomes": kept} if n_removed else {}
    if line.record is not None and (n_removed := counts.get(line.record.id, 0)):
        n_before = line.record.n_removed
        changes = {"record": msgspec.structs.replace(line.record, n_removed=n_before + n_removed)}
    return msgspec.json.encode(msgspec.structs.replace(line, **changes)) + b"\n" if changes else content


def decode_line(content: bytes) -> Line | None:
    """Return a line; None if it is damaged."""
    try:
        return msgspec.json.decode(content, type=Line)
    except (ValueError, RecursionError):
        return None
