"""Fingerprints of the stages: one small file each in `data/<experiment>/fingerprint/`, on which DVC depends.

A stage's code is its notebook and the local modules that it imports, directly or indirectly, except those in
`labkit/run`. The fingerprint also covers what the last run was seen to read. Digests of files come from
`labkit.run.fingerprint.python_code` and `labkit.run.fingerprint.notebook_code`, imports from
`labkit.run.fingerprint.import_graph`, other reads from `labkit.run.fingerprint.dependencies`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import paths
from labkit.run.fingerprint.dependencies import remove_oldest
from labkit.run.fingerprint.fingerprint_file import (
    MOST_COPIES,
    find_fingerprint_copy,
    find_fingerprint_dir,
    write_fingerprint,
)
from labkit.run.fingerprint.import_graph import Checkout
from labkit.run.notebook_files import find_stage, list_notebooks
from labkit.storage.digests import digest

if TYPE_CHECKING:
    from labkit.params.experiment import Params


def compute_fingerprints(
    checkout: Checkout, modules: Mapping[str, str], params: "Params | None" = None
) -> dict[str, dict[str, str]]:
    """Return the digest of every source file, by stage.

    Parameters
    ----------
    modules
        Module of each stage that has no notebook.
    params
        The experiment's params: the modules that they name are code of the stages that use them.
    """
    starts = {stage: checkout.find_file(module) for stage, module in modules.items()}
    starts |= {find_stage(path): path for path in list_notebooks(params.experiment if params else None)}
    found = {
        stage: compute_code_digests(checkout, path, *checkout.list_named_files(params, stage))
        for stage, path in starts.items()
    }
    checkout.meanings.save()
    return found


def compute_code_digest(start: Path, params: "Params", *, stage: str, checkout: Checkout | None = None) -> str:
    """Return one digest of the meaning of a stage's code; a given checkout is not read again.

    Parameters
    ----------
    start
        The stage's notebook.
    params
        The experiment's params, which may name further modules.
    """
    checkout = checkout or Checkout(paths.find_root())
    return digest(compute_code_digests(checkout, start, *checkout.list_named_files(params, stage)).values())


def compute_code_digests(checkout: Checkout, start: Path, *named: Path) -> dict[str, str]:
    """Return the digests of files and of everything that they import, by name, the first file itself first."""
    found = {path: checkout.get_meaning(path) for path in checkout.find_closure(start, *named)}
    # Docstrings, and code for type checkers only, have no effect unless some of this code reads them.
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
    """Write each stage's fingerprint, and keep a copy by its digest to describe changes later.

    Parameters
    ----------
    modules
        Module of each stage that has no notebook.
    tables
        Digests of the files that the params name, by stage and table.
    params
        The experiment's params; without them, observed dependencies are left out.
    section_digests
        Digests of params whose values DVC does not see, by stage and name.
    """
    # Imported here: reading code alone needs no installed packages.
    from labkit.run.fingerprint import packages

    folder, checkout = find_fingerprint_dir(experiment), Checkout(paths.find_root())
    codes = compute_fingerprints(checkout, modules, params)
    # Packages as locked are left out: stages depend on the lock anyway.
    parts = {"tables": tables, "params": section_digests, "packages": packages.find_packages(codes)}
    reads = {}
    if params is not None:
        from labkit.run.fingerprint.observation import compute_reads

        reads = compute_reads(params, codes, checkout)
    for stage, code in codes.items():
        given = {name: of[stage] for name, of in parts.items() if of.get(stage)}
        write_fingerprint(folder / f"{stage}.json", {"code": code, **given, **reads.get(stage, {})})
    for path in folder.glob("*.json"):
        if path.stem not in codes:
            path.unlink()
    remove_oldest(find_fingerprint_copy("").parent, MOST_COPIES)
