"""What is in a file, a folder or a list of names, as a digest: of code what it means, of anything else its bytes.

For what a run was seen to read; nothing outside of the checkout is opened for it unless a notebook declared it.
"""

import glob
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from labkit.files import compute_digest
from labkit.run.closure import LABKIT, MACHINERY, Checkout
from labkit.run.meanings import CODE
from labkit.run.syntax import digest
from labkit.run.trace import OWN

CACHES = frozenset({"__pycache__", ".ipynb_checkpoints", "site-packages", "dist-packages"})
CACHE_TAG = "CACHEDIR.TAG"
"""What programs put into a folder that holds nothing but what they can make again."""
OWN_DATA = frozenset({"fingerprint", "scratch", "dependencies.json"})
"""What labkit keeps in the data folder of each experiment beside what the stages write."""


def is_kept_apart(root: Path, name: str) -> bool:
    """Tell whether a file of the checkout is no input of any stage: labkit's and git's own, caches, packages.

    >>> [is_kept_apart(Path("/kit"), name) for name in ("notebooks/rates.csv", ".labkit/ledger.jsonl", "dvc.lock")]
    [False, True, True]
    """
    parts = name.split("/")
    is_own_data = parts[0] == "data" and len(parts) > 2 and parts[2] in OWN_DATA
    return any(name.startswith(own) for own in OWN) or is_own_data or is_cached(root, parts)


def is_cached(folder: Path, parts: Sequence[str]) -> bool:
    """Tell whether a file below a folder lies in a cache or among installed packages."""
    folders = parts[:-1]
    if not CACHES.isdisjoint(parts) or any(part.startswith(".") and part.endswith("cache") for part in folders):
        return True
    return any((folder.joinpath(*folders[:length]) / CACHE_TAG).is_file() for length in range(1, len(folders) + 1))


def compute_file_digest(checkout: Checkout, name: str, path: Path, *, with_docs: bool) -> str:
    """Return what is in a file or, with a `/` at the end of its name, in all files of a folder; else what it is.

    Parameters
    ----------
    name
        As it is known: absolute only if a notebook declared it.
    with_docs
        Whether docstrings count as code.
    """
    try:
        if not name.startswith("/") and not is_local(checkout.root, path):
            return "outside of the checkout"
        if path.is_dir():
            return compute_folder_digest(checkout, path, with_docs=with_docs) if name.endswith("/") else "a folder"
        if not path.is_file():
            return "no regular file" if path.exists() else "not there"
        if path.suffix in CODE:
            meaning = checkout.get_meaning(path)
            return digest([meaning.code, meaning.docs]) if with_docs else meaning.code
        return compute_digest(path)
    except OSError as error:
        return f"unreadable: {type(error).__name__}"


def compute_folder_digest(checkout: Checkout, folder: Path, *, with_docs: bool) -> str:
    """Return one digest of all files in a folder and below, with their names."""
    lines: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inner = path.relative_to(folder)
        if not is_cached(folder, inner.parts) and path.resolve().is_relative_to(folder.resolve()):
            lines += [inner.as_posix(), compute_file_digest(checkout, f"/{inner}", path, with_docs=with_docs)]
    return digest(lines)


def compute_listing_digest(root: Path, pattern: str, outputs: Collection[str]) -> str:
    """Return a digest of the names that a pattern finds in the checkout; hidden ones do not count.

    Parameters
    ----------
    outputs
        What the stages of the experiment write, which is there or not as they have run or not.
    """
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return "outside of the checkout"
    return digest(name for name in list_names(root, pattern) if not is_part(name, outputs))


def list_names(root: Path, pattern: str) -> Sequence[str]:
    """Return the names that a pattern finds below a folder, without those kept apart."""
    # Not pathlib's own, of which the versions of Python disagree.
    found = [Path(name) for name in glob.iglob(pattern, root_dir=root, recursive=True)]  # noqa: PTH207
    local = [name.as_posix() for name in found if (root / name).parent.resolve().is_relative_to(root)]
    return sorted(name for name in local if not is_kept_apart(root, name) and not is_own_folder(name))


def is_own_folder(name: str) -> bool:
    """Tell whether a name is that of a folder that labkit or git keeps for itself."""
    return f"{name}/" in OWN


def is_local(root: Path, path: Path) -> bool:
    """Tell whether a file, wherever a link leads, lies in the checkout or in labkit, the machinery left out."""
    real = path.resolve()
    return any(real.is_relative_to(top) for top in (root, LABKIT)) and not real.is_relative_to(MACHINERY)


def is_part(name: str, places: Iterable[str]) -> bool:
    """Tell whether a file is one of some places, or in one of them.

    >>> is_part("data/x/raw/a.parquet", ["data/x/raw"]), is_part("data/x/rawer", ["data/x/raw"])
    (True, False)
    """
    return any(name == place or name.startswith(f"{place}/") for place in places)
