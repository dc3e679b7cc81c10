"""What clients of one release would notice in the contract of another."""

import json
from collections.abc import Mapping
from typing import Any

from labkit.model.release.bundle import Release
from labkit.model.release.runtime import CONTRACT


def list_refusals(ours: Release, theirs: Release) -> list[str] | None:
    """Return why rows that a service of `theirs` accepts would be refused by a service of `ours`, in words.

    A service takes exactly the columns that its model uses; see `labkit.serving.requests`. Values outside the agreed
    range are counted there, not refused, so a narrower range is no refusal. Columns that the contract of `theirs` does
    not describe were promised to nobody; None if it describes none.
    """
    agreed, new = load_columns(theirs), load_columns(ours)
    if not agreed:
        return None
    kinds, kinds_before = ours.row_features.inputs_, theirs.row_features.inputs_
    found = [f"{name} is required" for name in kinds if name not in kinds_before]
    for name, before in kinds_before.items():
        if name not in agreed:
            continue
        if name not in kinds:
            found.append(f"{name} is unknown")
        elif kinds[name] != before:
            found.append(f"{name} is a {kinds[name]}, was a {before}")
        elif allows_missing(agreed, name) and not allows_missing(new, name):
            found.append(f"{name} may not be missing")
    return found


def load_columns(release: Release) -> Mapping[str, Any]:
    """Return the columns of a release's contract."""
    content = json.loads((release.folder / CONTRACT).read_text(encoding="utf-8"))
    return dict(content.get("columns") or {})


def allows_missing(columns: Mapping[str, Any], name: str) -> bool:
    """Return whether a column may be missing; one that the contract does not describe may."""
    return bool(columns.get(name, {"nullable": True}).get("nullable", False))
