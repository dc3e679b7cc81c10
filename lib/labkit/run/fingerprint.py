"""What each stage's code means, in one small file that DVC can depend on: `data/<experiment>/fingerprint/`.

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
from labkit.params import Params
from labkit.run.closure import Checkout
from labkit.run.content import is_part
from labkit.run.declarations import list_outputs, load_declarations
from labkit.run.dependencies import KINDS, SECTIONS, Dependencies, Known, compute_sections, remove_oldest
from labkit.run.record import compute_key
from labkit.run.syntax import digest

if TYPE_CHECKING:
    from labkit.run.observation import Observation

MOST_KEPT = 1000
"""Fingerprints kept to compare with; a year of edits is fewer."""
CHANGED = "changed while the stage ran"
READ = {"files": "", "listings": "the names in ", "variables": "the environment variable "}


def compute_fingerprints(checkout: Checkout, modules: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the digest of every file of code, by stage; see `write_fingerprints`."""
    found = {stage: compute_digests(checkout, path) for stage, path in find_starts(checkout, modules).items()}
    checkout.meanings.save()
    return found


def find_starts(checkout: Checkout, modules: Mapping[str, str]) -> dict[str, Path]:
    """Return the file that each stage begins with: its notebook, or its module."""
    starts = {stage: checkout.find_file(module) for stage, module in modules.items()}
    return starts | {path.stem[3:]: path for path in sorted(paths.find_notebooks_dir().glob("[0-9][0-9]_*.ipynb"))}


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
    tables: Mapping[str, Mapping[str, str]],
    *,
    params: Params | None = None,
) -> None:
    """Write each stage's fingerprint, and keep a copy by its digest to tell later what changed.

    Parameters
    ----------
    modules
        Stages without a notebook: the module that does their work.
    tables
        Stages that read files the params name: the digest of each by table.
    params
        Which a stage's list of what it reads belongs to; without them, the code alone counts.
    """
    folder, checkout = find_folder(experiment), Checkout(paths.find_root())
    codes = compute_fingerprints(checkout, modules)
    reads = compute_reads(params, codes, checkout) if params is not None else {}
    for stage, code in codes.items():
        content = {"code": code, **({"tables": tables[stage]} if stage in tables else {}), **reads.get(stage, {})}
        write_fingerprint(folder / f"{stage}.json", content)
    for path in folder.glob("*.json"):
        if path.stem not in codes:
            path.unlink()
    remove_oldest(find_copy("").parent, MOST_KEPT)


def write_fingerprint(path: Path, content: Mapping[str, Any]) -> None:
    """Write one stage's fingerprint and its copy."""
    text = json.dumps(content, indent=1) + "\n"
    write_if_new(path, text)
    write_if_new(find_copy(compute_md5(text)), text)


def compute_reads(
    params: Params, codes: Mapping[str, Mapping[str, str]], checkout: Checkout
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the digests of what each stage is known to read besides its code, by kind and name."""
    known = Known(params.experiment)
    if known.is_empty:
        return {}
    found = {}
    for stage, code in codes.items():
        names = known.choose(stage, make_key(params, stage, code))
        if not names.is_empty:
            found[stage] = compute_stage_reads(params, code, names, checkout)
    known.save()
    return found


def make_key(params: Params, stage: str, code: Mapping[str, str]) -> str:
    """Return what a stage's list of what it reads belongs to: its code and its params."""
    declared = load_declarations(params.experiment).get(stage)
    return compute_key(digest(code.values()), params, declared.sections if declared else (), {})


def keep_reads(params: Params, stage: str, outputs: Iterable[str], seen: "Observation") -> dict[str, dict[str, str]]:
    """Write down what a run of a stage was seen to read, for the next one to compare, and return the digests.

    DVC reads the fingerprint once more when the stage has ended, and records it as it is then. A file that somebody
    else changed meanwhile is given a digest that it cannot have.
    """
    refresh_reads(params, stage, outputs)
    path = find_folder(params.experiment) / f"{stage}.json"
    content = load_fingerprint(path)
    if not content:
        return {}
    checkout = Checkout(paths.find_root())
    Known(params.experiment).keep(stage, make_key(params, stage, content["code"]), seen.names)
    sections = {} if seen.names.is_empty else compute_stage_reads(params, content["code"], seen.names, checkout)
    for name in seen.changed:
        sections["files"][name] = CHANGED
    write_fingerprint(path, {kind: part for kind, part in content.items() if kind not in SECTIONS} | sections)
    return sections


def compute_stage_reads(
    params: Params, code: Iterable[str], names: Dependencies, checkout: Checkout
) -> dict[str, dict[str, str]]:
    """Return the digests of what a stage of that code reads besides it, by kind and name."""
    closure = [checkout.locate(name) for name in code]
    outputs = [output for listed in list_outputs(params.experiment).values() for output in listed]
    return compute_sections(checkout, closure, names, secrets=params.secrets.values(), outputs=outputs)


def refresh_reads(params: Params, stage: str, outputs: Iterable[str]) -> None:
    """Compare anew what other stages read of the outputs that a stage has just written without declaring it.

    Parameters
    ----------
    outputs
        Relative to the experiment's data folder.
    """
    written = [f"data/{params.experiment}/{output}" for output in outputs]
    for path in find_folder(params.experiment).glob("*.json"):
        content = load_fingerprint(path)
        names = Dependencies(*(tuple(content.get(kind, {})) for kind in KINDS))
        if path.stem != stage and any(is_part(name, written) for name in names.files):
            checkout = Checkout(paths.find_root())
            write_fingerprint(path, content | compute_stage_reads(params, content["code"], names, checkout))


def load_reads(experiment: str, stage: str) -> dict[str, Any]:
    """Return the digests of what a stage is known to read, by kind and name."""
    content = load_fingerprint(find_folder(experiment) / f"{stage}.json")
    return {kind: content[kind] for kind in SECTIONS if kind in content}


def add_reads(code: str, reads: Mapping[str, Any]) -> str:
    """Return one digest of a stage's code and of what it read besides."""
    return digest([code, json.dumps(reads, sort_keys=True)]) if reads else code


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
    for kind, lead in READ.items():
        names = [name for name, one in after.get(kind, {}).items() if one != before.get(kind, {}).get(name, one)]
        if names:
            reasons.append(f"{lead}{list_briefly(map(make_text, names), most=3)} changed")
    return reasons or ["the list of what it reads changed"]


def load_fingerprint(path: Path) -> dict[str, Any]:
    """Read a fingerprint; empty if it is not there or damaged, for it is only told what changed then, not less."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    is_whole = all(isinstance(content.get(kind, {}), dict) for kind in ("code", "tables", *SECTIONS))
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
