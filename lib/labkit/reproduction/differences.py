"""Comparison of what a run wrote with what its rebuild wrote: by digest, and where that differs by how much."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit import paths
from labkit.errors import DataError, list_briefly, shorten
from labkit.features.table_columns import find_column_kind
from labkit.reproduction.recorded_run import RecordedRun
from labkit.run import dvc_cache
from labkit.storage.digests import compute_digest, list_files
from labkit.units import format_count, format_significant, format_size

MOST_DETAILS = 5
"""The largest number of differences described of one output."""
LARGEST_BYTES = 50_000_000
"""Size of the largest file whose content is compared."""
LONGEST_VALUE = 40


@dataclass(frozen=True)
class ComparedOutput:
    """One output of a stage, in the run and in its rebuild.

    Attributes
    ----------
    recorded, rebuilt
        SHA-256; `rebuilt` is None if it was not written again.
    details
        What differs, and by how much; empty if nothing does.
    """

    stage: str
    path: str
    recorded: str
    rebuilt: str | None
    details: tuple[str, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether both are the same to the byte."""
        return self.recorded == self.rebuilt


def compare_outputs_of(run: RecordedRun, root: Path, stages: Sequence[str]) -> list[ComparedOutput]:
    """Return every recorded output of some stages of a run beside that of its rebuild.

    Parameters
    ----------
    root
        The checkout in which the run was rebuilt.
    """
    return [
        compare_output(run, root, stage, path, recorded)
        for stage in stages
        for path, recorded in run.outputs[stage].items()
    ]


def compare_output(run: RecordedRun, root: Path, stage: str, path: str, recorded: str) -> ComparedOutput:
    """Compare one output; the content only if the digests differ."""
    rebuilt = compute_digest(root / path) if (root / path).exists() else None
    if rebuilt == recorded:
        return ComparedOutput(stage, path, recorded, rebuilt)
    if rebuilt is None:
        return ComparedOutput(stage, path, recorded, None, ("was not written again",))
    files = find_recorded_files(run, path, recorded)
    if files is None:
        return ComparedOutput(stage, path, recorded, rebuilt, ("differs; what the run wrote is no longer stored here",))
    details = list(list_file_differences(files, {name: root / name for name in list_inside(root, path)}, path))
    more = len(details) - MOST_DETAILS
    shown = [*details[:MOST_DETAILS], *([f"… and {more} more"] if more > 0 else [])]
    return ComparedOutput(stage, path, recorded, rebuilt, tuple(shown))


def list_inside(root: Path, path: str) -> list[str]:
    """Return the files of an output by their path relative to the root."""
    place = root / path
    return [file.relative_to(root).as_posix() for file in list_files(place)] if place.is_dir() else [path]


def find_recorded_files(run: RecordedRun, path: str, recorded: str) -> dict[str, Path] | None:
    """Return the files that a run wrote as an output, from this checkout or DVC's cache; None if they are gone."""
    root = paths.find_root()
    if (root / path).exists() and compute_digest(root / path) == recorded:
        return {name: root / name for name in list_inside(root, path)}
    stages = run.record.get("data", {}).get("dvc_lock", {}).values()
    out = next((out for one in stages for out in one["outs"] if f"{path}/".startswith(f"{out['path']}/")), None)
    if out is None:
        return None
    try:
        objects = dict(dvc_cache.list_objects(str(out["md5"]), str(out["path"])))
    except DataError:
        return None
    found = {name: one for name, one in objects.items() if f"{name}/".startswith(f"{path}/")}
    found = {name: one for name, one in found.items() if name != out["path"] or not str(out["md5"]).endswith(".dir")}
    return found or None


def list_file_differences(before: Mapping[str, Path], after: Mapping[str, Path], above: str) -> Iterator[str]:
    """Yield how the files of an output differ."""
    for name in sorted({*before, *after}):
        shown = name.removeprefix(f"{above}/") if name != above else name.rpartition("/")[2]
        if name not in after:
            yield f"{shown}: was not written again"
        elif name not in before:
            yield f"{shown}: is new"
        elif compute_digest(before[name]) != compute_digest(after[name]):
            yield f"{shown}: {describe_difference(before[name], after[name], Path(name).suffix)}"


def describe_difference(before: Path, after: Path, suffix: str) -> str:
    """Return how two files differ and by how much, in words."""
    sizes = before.stat().st_size, after.stat().st_size
    if max(sizes) > LARGEST_BYTES:
        return describe_sizes(*sizes)
    try:
        if suffix == ".json":
            return compare_trees(json.loads(before.read_bytes()), json.loads(after.read_bytes()))
        if suffix == ".parquet":
            return compare_frames(pd.read_parquet(before), pd.read_parquet(after))
        if suffix in (".md", ".txt", ".csv", ".html"):
            return compare_text(before.read_text(encoding="utf-8"), after.read_text(encoding="utf-8"))
    except (ValueError, OSError, TypeError):
        pass  # not what its name says: only the sizes are compared
    return describe_sizes(*sizes)


def describe_sizes(before: int, after: int) -> str:
    """Return how the sizes of two files differ.

    >>> describe_sizes(1000, 1000)
    'other bytes, the same size'
    """
    return "other bytes, the same size" if before == after else f"{format_size(before)}, now {format_size(after)}"


def compare_trees(before: Any, after: Any) -> str:
    """Return how two JSON documents differ: which values, and by how much at most.

    >>> compare_trees({"rmse": {"value": 2.0}, "n": 3}, {"rmse": {"value": 2.5}, "n": 3})
    '1 value differs: rmse.value 2.0, now 2.5 (25 %)'
    """
    pair = flatten_document(before), flatten_document(after)
    names = [name for name in {**pair[0], **pair[1]} if pair[0].get(name) != pair[1].get(name)]
    listed = [describe_value(name, pair[0].get(name), pair[1].get(name)) for name in names]
    if not names:
        return "the same content, written differently"
    return f"{format_count(len(names), 'value')} {'differs' if len(names) == 1 else 'differ'}: " + list_briefly(
        listed, 3
    )


def describe_value(name: str, before: Any, after: Any) -> str:
    """Return a value before and after, and their relative difference if both are numbers."""
    one, other = (shorten(json.dumps(value, ensure_ascii=False), LONGEST_VALUE) for value in (before, after))
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    share = f" ({format_significant(100 * abs(after - before) / abs(before))} %)" if is_number and before else ""
    return f"{name} {one}, now {other}{share}"


def flatten_document(tree: Any, above: str = "") -> dict[str, Any]:
    """Return the values of nested mappings and lists by dotted name."""
    if isinstance(tree, dict):
        inner = tree.items()
    elif isinstance(tree, list):
        inner = {str(index): value for index, value in enumerate(tree)}.items()
    else:
        return {above: tree}
    return {
        key: value
        for name, item in inner
        for key, value in flatten_document(item, f"{above}.{name}" if above else str(name)).items()
    }


def compare_frames(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Return how two tables differ: rows, columns, and the largest difference of numbers.

    >>> compare_frames(pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"x": [1.0, 2.5]}))
    'x: 1 of 2 rows, by at most 0.5'
    """
    if list(before.columns) != list(after.columns):
        changed = sorted({*map(str, before.columns)} ^ {*map(str, after.columns)}) or ["their order"]
        return f"other columns: {list_briefly(changed, most=3)}"
    if len(before) != len(after):
        return f"{format_count(len(before), 'row')}, now {len(after):,}"
    found = [
        compare_columns(str(name), before.iloc[:, at], after.iloc[:, at]) for at, name in enumerate(before.columns)
    ]
    return list_briefly(filter(None, found), most=3) or "the same values, written differently"


def compare_columns(name: str, before: pd.Series, after: pd.Series) -> str:
    """Return in how many rows two columns differ and by how much, empty if they do not."""
    if before.dtype != after.dtype:
        return f"{name}: {before.dtype}, now {after.dtype}"
    is_other = ~((before == after) | (before.isna() & after.isna())).fillna(False).to_numpy(bool)
    if not is_other.any():
        return ""
    largest = ""
    if find_column_kind(before) == "number":
        gaps = np.abs(before.to_numpy(float, na_value=np.nan) - after.to_numpy(float, na_value=np.nan))[is_other]
        largest = f", by at most {format_significant(float(np.nanmax(gaps)))}" if not np.isnan(gaps).all() else ""
    return f"{name}: {int(is_other.sum()):,} of {format_count(len(before), 'row')}{largest}"


def compare_text(before: str, after: str) -> str:
    """Return the first line in which two texts differ.

    >>> compare_text("a\\nb", "a\\nc")
    'line 2: `b`, now `c`'
    """
    one, other = before.splitlines(), after.splitlines()
    for number, (first, second) in enumerate(zip(one, other, strict=False), 1):
        if first != second:
            return f"line {number}: `{shorten(first, LONGEST_VALUE)}`, now `{shorten(second, LONGEST_VALUE)}`"
    return f"{format_count(len(one), 'line')}, now {len(other):,}"
