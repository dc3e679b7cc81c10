"""What each stage's code and params mean, in one small file that DVC can depend on: `data/<experiment>/fingerprint/`.

A stage's code is its notebook and the local modules that this imports, directly or not, except the machinery in
`labkit.run`. What its last run was seen to read besides stands there as well. Not how a file becomes a digest: that is
`labkit.run.syntax` and `labkit.run.cells`; not which files are imported: that is `labkit.run.closure`; not what else
was read: that is `labkit.run.dependencies`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import paths
from labkit.errors import list_briefly
from labkit.files import parse_json, write_text
from labkit.run.closure import Checkout
from labkit.run.dependencies import SECTIONS, remove_oldest
from labkit.run.notebook_files import find_stage, list_notebooks
from labkit.run.syntax import digest

if TYPE_CHECKING:
    from labkit.params import Params

MOST_KEPT = 1000
"""Fingerprints kept to compare with; a year of edits is fewer."""
GIVEN = ("tables", "params", "packages")
"""Parts of a fingerprint beside the code that do not depend on what a run was seen to read."""
READ = {"files": "", "listings": "the names in ", "variables": "the environment variable "}


def compute_fingerprints(checkout: Checkout, modules: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the digest of every file of code, by stage.

    Parameters
    ----------
    modules
        Stages without a notebook: the module that does their work.
    """
    starts = {stage: checkout.find_file(module) for stage, module in modules.items()}
    starts |= {find_stage(path): path for path in list_notebooks()}
    found = {stage: compute_digests(checkout, path) for stage, path in starts.items()}
    checkout.meanings.save()
    return found


def compute_code_digest(start: Path, checkout: Checkout | None = None) -> str:
    """Return one digest of all that a notebook's code means; a checkout that is given need not be read again."""
    return digest(compute_digests(checkout or Checkout(paths.find_root()), start).values())


def compute_digests(checkout: Checkout, start: Path) -> dict[str, str]:
    """Return the digest of a file and of all that it imports, by name, the file itself first."""
    found = {path: checkout.get_meaning(path) for path in checkout.find_closure(start)}
    # Documentation is nothing but that, unless some of this code reads it; likewise what only type checkers read.
    is_read = any(meaning.reads_docs for meaning in found.values())
    is_typed = any(meaning.sets_typing for meaning in found.values())
    codes = {}
    for path, one in found.items():
        more = [*([one.docs] if is_read else []), *([one.typing] if is_typed and one.typing else [])]
        codes[checkout.show(path)] = digest([one.code, *more]) if more else one.code
    return codes


def write_fingerprints(
    experiment: str,
    modules: Mapping[str, str],
    *,
    tables: Mapping[str, Mapping[str, str]],
    section_digests: Mapping[str, Mapping[str, str]],
    params: "Params | None" = None,
) -> None:
    """Write each stage's fingerprint, and keep a copy by its digest to tell later what changed.

    Parameters
    ----------
    modules
        Stages without a notebook: the module that does their work.
    tables
        Stages that read files the params name: the digest of each by table.
    params
        The experiment's params, to which what a stage reads belongs; without them, that is left out.
    section_digests
        The digests of params of which DVC does not see the values, by stage and name.
    """
    # Imported here: what reads code needs nothing that is installed.
    from labkit.run import environment

    folder, checkout = find_folder(experiment), Checkout(paths.find_root())
    codes = compute_fingerprints(checkout, modules)
    # No packages where they are those of the lock, on which stages depend by themselves.
    parts = {"tables": tables, "params": section_digests, "packages": environment.find_packages(codes)}
    reads = {}
    if params is not None:
        from labkit.run.observation import compute_reads

        reads = compute_reads(params, codes, checkout)
    for stage, code in codes.items():
        given = {name: of[stage] for name, of in parts.items() if of.get(stage)}
        write_fingerprint(folder / f"{stage}.json", {"code": code, **given, **reads.get(stage, {})})
    for path in folder.glob("*.json"):
        if path.stem not in codes:
            path.unlink()
    remove_oldest(find_copy("").parent, MOST_KEPT)


def write_fingerprint(path: Path, content: Mapping[str, Any]) -> None:
    """Write one stage's fingerprint and its copy."""
    text = json.dumps(content, indent=1) + "\n"
    write_if_new(path, text)
    write_if_new(find_copy(compute_md5(text)), text)


def write_if_new(path: Path, text: str) -> None:
    """Write a text unless the file says it already: flushing to the disk takes longer than looking."""
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def find_folder(experiment: str) -> Path:
    """Return the folder of an experiment's fingerprints."""
    return paths.find_data_dir(experiment) / "fingerprint"


def find_copy(md5: str) -> Path:
    """Return where the copy of a fingerprint is kept, by the digest that DVC knows it by."""
    return paths.find_root() / ".labkit" / "fingerprint" / f"{md5}.json"


def compute_md5(text: str) -> str:
    """Return the digest by which DVC records a file."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def describe_change(experiment: str, stage: str, before_md5: str | None) -> list[str]:
    """Say in words how a stage's fingerprint differs from the one with a digest, which may not be known here.

    Returns
    -------
    list of str
        E.g. `["code of 03_features changed (labkit/data/features.py)"]`.
    """
    after = load_fingerprint(find_folder(experiment) / f"{stage}.json")
    before = load_fingerprint(find_copy(before_md5 or ""))
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
    changed = list_changes(before.get("params", {}), after.get("params", {}))
    if changed and "params" in before:
        reasons.append(f"params {list_briefly(changed, most=3)} changed")
    reasons += describe_packages(before.get("packages", {}), after.get("packages", {}))
    for kind, lead in READ.items():
        names = [name for name, one in after.get(kind, {}).items() if one != before.get(kind, {}).get(name, one)]
        if names:
            reasons.append(f"{lead}{list_briefly(map(make_text, names), most=3)} changed")
    return reasons or describe_sections(before, after)


def describe_sections(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say that the list of what a stage reads changed, if that is so."""
    is_other = any(before.get(kind, {}) != after.get(kind, {}) for kind in SECTIONS)
    return ["the list of what it reads changed"] if is_other else []


def describe_packages(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Say how the packages that a stage needs differ from those of the lock, if they do so otherwise than before."""
    if before == after:
        return []
    changed = [f"{name} {what}" for name, what in after.items() if before.get(name) != what]
    back = [f"{name} is as locked again" for name in before if name not in after]
    return [f"packages changed ({list_briefly(changed + back, most=3)})"]


def load_fingerprint(path: Path) -> dict[str, Any]:
    """Read a fingerprint; empty if it is not there or damaged, for it is only told what changed then, not less."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    is_whole = all(isinstance(content.get(name, {}), dict) for name in ("code", *GIVEN, *SECTIONS))
    return content if is_whole and "code" in content else {}


def list_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ, those that came or went marked so.

    >>> list_changes({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"})
    ['b', 'd is new', 'c is gone']
    """
    changed = [name for name in after if name in before and before[name] != after[name]]
    came: Iterable[str] = (f"{name} is new" for name in after if name not in before)
    went: Iterable[str] = (f"{name} is gone" for name in before if name not in after)
    return [*changed, *came, *went]


def make_text(name: str) -> str:
    """Return a name without bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()
