"""The file of a stage's fingerprint, its copies, and the differences between two fingerprints in words."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import list_briefly
from labkit.run.dvc_yaml import load_declarations
from labkit.run.fingerprint.dependencies import FINGERPRINT_SECTIONS
from labkit.storage.atomic import parse_json, write_text
from labkit.storage.digests import compute_md5

MOST_COPIES = 1000
"""Copies kept for comparison; a year of edits needs fewer."""


GIVEN = ("tables", "params", "packages")
"""Parts of a fingerprint, besides the code, that do not come from observing a run."""


READ = {"files": "", "listings": "the names in ", "variables": "the environment variable "}


def write_fingerprint(path: Path, content: Mapping[str, Any]) -> None:
    """Write one stage's fingerprint and its copy."""
    serialized = json.dumps(content, indent=1) + "\n"
    write_if_new(path, serialized)
    write_if_new(find_fingerprint_copy(compute_md5(path)), serialized)


def write_if_new(path: Path, content: str) -> None:
    """Write a file unless it has this content: flushing to disk takes longer than reading."""
    if not path.is_file() or path.read_bytes() != content.encode():
        write_text(path, content)


def find_fingerprint_dir(experiment: str) -> Path:
    """Return the folder of an experiment's fingerprints."""
    return paths.find_data_dir(experiment) / "fingerprint"


def find_fingerprint_copy(md5: str) -> Path:
    """Return the path of a fingerprint's copy, named by the MD5 that DVC records."""
    return paths.find_root() / ".labkit" / "fingerprint" / f"{md5}.json"


def describe_fingerprint_change(experiment: str, stage: str, before_md5: str | None) -> list[str]:
    """Describe how a stage's fingerprint differs from an earlier one, which may not be stored here.

    Returns
    -------
    list of str
        E.g. `["code of 03_features changed (labkit/data/features.py)"]`.
    """
    after = load_fingerprint(find_fingerprint_dir(experiment) / f"{stage}.json")
    before = load_fingerprint(find_fingerprint_copy(before_md5 or ""))
    names = [Path(name).stem for name in after.get("code", {}) if name.endswith(".ipynb")]
    title = names[0] if names else stage
    if not before or not after:
        return [f"code of {title} changed"]
    reasons = []
    files = list_changes(before["code"], after["code"])
    if files:
        reasons.append(f"code of {title} changed ({list_briefly(files, most=3)})")
    tables = list_changes(before.get("tables", {}), after.get("tables", {}))
    if tables:
        reasons.append(f"data of {list_briefly(tables, most=3)} changed")
    known = take_declared(before.get("params", {}), load_declarations(experiment)[stage].digested)
    changed = list_changes(known, after.get("params", {}))
    if changed and "params" in before:
        reasons.append(f"params {list_briefly(changed, most=3)} changed")
    reasons += describe_packages(before.get("packages", {}), after.get("packages", {}))
    for kind, lead in READ.items():
        names = [name for name, one in after.get(kind, {}).items() if one != before.get(kind, {}).get(name, one)]
        if names:
            reasons.append(f"{lead}{list_briefly(map(paths.make_printable_name, names), most=3)} changed")
    return reasons or describe_sections(before, after)


def describe_sections(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Report a change of the list of dependencies, if there is one."""
    is_other = any(before.get(kind, {}) != after.get(kind, {}) for kind in ("params", *FINGERPRINT_SECTIONS))
    return ["the list of what it reads changed"] if is_other else []


def take_declared(digests: Mapping[str, str], sections: Iterable[str]) -> dict[str, str]:
    """Return the digests of params that dvc.yaml still declares for the stage.

    >>> take_declared({"data.split": "1", "features.drop": "1"}, ["data"])
    {'data.split': '1'}
    """
    kept = tuple(sections)
    return {name: one for name, one in digests.items() if any(f"{name}.".startswith(f"{part}.") for part in kept)}


def describe_packages(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Describe how a stage's packages differ from the lock, if that has changed since the earlier fingerprint."""
    if before == after:
        return []
    changed = [f"{name} {what}" for name, what in after.items() if before.get(name) != what]
    back = [f"{name} matches the lock again" for name in before if name not in after]
    return [f"packages changed ({list_briefly(changed + back, most=3)})"]


def load_fingerprint(path: Path) -> dict[str, Any]:
    """Read a fingerprint, empty if it is missing or damaged: it only serves to describe a change."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    is_whole = all(isinstance(content.get(name, {}), dict) for name in ("code", *GIVEN, *FINGERPRINT_SECTIONS))
    return content if is_whole and "code" in content else {}


def list_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ, with new and removed names marked.

    >>> list_changes({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"})
    ['b', 'd is new', 'c is gone']
    """
    changed = [name for name in after if name in before and before[name] != after[name]]
    came: Iterable[str] = (f"{name} is new" for name in after if name not in before)
    went: Iterable[str] = (f"{name} is gone" for name in before if name not in after)
    return [*changed, *came, *went]
