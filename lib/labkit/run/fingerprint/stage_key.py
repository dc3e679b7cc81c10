"""What each stage's code and params mean, in one small file that DVC can depend on: `data/<experiment>/fingerprint/`.

A stage's code is its notebook and the local modules that this imports, directly or not, except the machinery in
`labkit.run`. What its last run was seen to read besides stands there as well. Not how a file becomes a digest: that is
`labkit.run.fingerprint.python_code` and `labkit.run.fingerprint.notebook_code`; not which files are imported: that is
`labkit.run.fingerprint.import_graph`; not what else was read: that is `labkit.run.fingerprint.dependencies`.
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


def compute_fingerprints(checkout: Checkout, modules: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the digest of every file of code, by stage.

    Parameters
    ----------
    modules
        Stages without a notebook: the module that does their work.
    """
    starts = {stage: checkout.find_file(module) for stage, module in modules.items()}
    starts |= {find_stage(path): path for path in list_notebooks()}
    found = {stage: compute_code_digests(checkout, path) for stage, path in starts.items()}
    checkout.meanings.save()
    return found


def compute_code_digest(start: Path, checkout: Checkout | None = None) -> str:
    """Return one digest of all that a notebook's code means; a checkout that is given need not be read again."""
    return digest(compute_code_digests(checkout or Checkout(paths.find_root()), start).values())


def compute_code_digests(checkout: Checkout, start: Path) -> dict[str, str]:
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
    from labkit.run.fingerprint import packages

    folder, checkout = find_fingerprint_dir(experiment), Checkout(paths.find_root())
    codes = compute_fingerprints(checkout, modules)
    # No packages where they are those of the lock, on which stages depend by themselves.
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
