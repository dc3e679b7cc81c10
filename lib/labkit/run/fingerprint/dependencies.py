"""Dependencies of stages besides code, params and declared inputs: names that a run was seen to read, or declared.

The names are shared through git, in `data/<experiment>/dependencies.json`, so that every clone compares the same files.
The stage's fingerprint holds a digest of each: of the meaning of code, of the bytes of any other file. Nothing outside
the checkout is opened unless a notebook declared it. Dependencies are recorded by `labkit.run.tracing.trace`;
fingerprints are written by `labkit.run.fingerprint.stage_key`.
"""

import glob
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import ParamsError
from labkit.run.fingerprint.code_cache import CODE_SUFFIXES
from labkit.run.fingerprint.import_graph import LABKIT, MACHINERY, Checkout
from labkit.run.tracing.pathnames import OWN
from labkit.secrets.detection import SECRET_NAME
from labkit.secrets.redaction import TOKENS
from labkit.storage.atomic import parse_json, write_text
from labkit.storage.digests import compute_digest, digest

DEPENDENCIES_NAME = "dependencies.json"
DEPENDENCY_KINDS = ("files", "listings", "variables")
FINGERPRINT_SECTIONS = (*DEPENDENCY_KINDS, "docstrings")
"""Sections of a fingerprint: digests by name, and one digest of all docstrings if only these dependencies read any."""
MOST_REMEMBERED = 1000
MOST_FILES = 100
"""If more files of one folder are read, the folder is named instead of its files."""
PACKAGE_METADATA = (".egg-info", ".dist-info")
"""Suffixes of the folders in which installers describe a package, including one installed from the checkout."""
CACHES = frozenset({"__pycache__", ".ipynb_checkpoints", "site-packages", "dist-packages"})
CACHE_TAG = "CACHEDIR.TAG"
"""File that marks a folder as a cache; see https://bford.info/cachedir/."""
OWN_DATA = frozenset({"fingerprint", "scratch", "dependencies.json"})
"""What labkit keeps in each experiment's data folder besides the outputs of stages."""
ALREADY_SET = ("PATH", "JUPYTER_PATH")
"""Variables that labkit extends for each stage."""


@dataclass(frozen=True)
class Dependencies:
    """Names of the dependencies of one stage.

    Attributes
    ----------
    files
        Files, and folders ending in `/`, relative to the checkout's root; declared ones may be absolute.
    listings
        Patterns of names, relative to the root.
    variables
        Environment variables.
    """

    files: tuple[str, ...] = ()
    listings: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no names are listed."""
        return not (self.files or self.listings or self.variables)

    def to_json(self) -> dict[str, list[str]]:
        """Return the names by kind, without empty kinds."""
        return {kind: list(names) for kind in DEPENDENCY_KINDS if (names := getattr(self, kind))}


def make_dependencies(content: Any) -> Dependencies:
    """Return dependencies from JSON; anything that is not a list of names is ignored."""
    lists = {kind: content.get(kind, []) for kind in DEPENDENCY_KINDS} if isinstance(content, dict) else {}
    return Dependencies(
        **{
            kind: tuple(sorted({name for name in names if isinstance(name, str) and "\0" not in name}))
            for kind, names in lists.items()
            if isinstance(names, list)
        }
    )


class KnownDependencies:
    """The known dependencies of the stages of one experiment.

    Each list belongs to a key, a digest of the stage's code and params, because other code may read other files. The
    list for the current key comes from the shared file, otherwise from this checkout's memory. The choice decides only
    what is compared: a run is recorded with the digests of everything that it actually read.
    """

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        self.path = find_shared(experiment)
        self.shared = load_shared(self.path)
        self.memory = paths.find_root() / ".labkit" / "dependencies"
        self.is_saved = True

    @property
    def is_empty(self) -> bool:
        """Whether no dependencies of any stage are known in this checkout."""
        return not self.shared and not self.memory.is_dir()

    def choose(self, stage: str, key: str) -> Dependencies:
        """Return the dependencies of a stage for a key."""
        entry = self.shared.get(stage, {})
        if entry.get("key") == key:
            return make_dependencies(entry)
        found = load_names(self.find_memory(stage, key))
        if not found.is_empty:
            self.share(stage, key, found)
        return found

    def keep(self, stage: str, key: str, found: Dependencies) -> None:
        """Store the dependencies that a run was seen to have."""
        place = self.find_memory(stage, key)
        if not found.is_empty:
            write_text(place, dump(found.to_json()))
            remove_oldest(self.memory, MOST_REMEMBERED)
        elif place.is_file():
            place.unlink()
        self.share(stage, key, found)
        self.save()

    def share(self, stage: str, key: str, found: Dependencies) -> None:
        """Update the shared list, which has no entry for a stage without dependencies."""
        entry = {} if found.is_empty else {"key": key, **found.to_json()}
        if self.shared.get(stage, {}) != entry:
            self.shared = {name: one for name, one in {**self.shared, stage: entry}.items() if one}
            self.is_saved = False

    def save(self) -> None:
        """Write the shared list if it has changed, or delete it if it is empty."""
        if self.is_saved:
            return
        if self.shared:
            write_text(self.path, dump(self.shared))
        else:
            self.path.unlink(missing_ok=True)
        self.is_saved = True

    def find_memory(self, stage: str, key: str) -> Path:
        """Return the file in which this checkout stores the dependencies of a stage for a key."""
        return self.memory / f"{digest([self.experiment, stage, key])}.json"


def find_shared(experiment: str) -> Path:
    """Return the file of dependencies that is shared through git."""
    return paths.find_data_dir(experiment) / DEPENDENCIES_NAME


def load_shared(path: Path) -> dict[str, dict[str, Any]]:
    """Return the shared entries by stage, empty if the file is damaged: its stages run again."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {stage: entry for stage, entry in entries if isinstance(entry, dict)}


def load_names(path: Path) -> Dependencies:
    """Return the dependencies stored in a file, empty if it is missing or damaged."""
    try:
        return make_dependencies(parse_json(path.read_bytes()))
    except (OSError, ValueError):
        return Dependencies()


def dump(content: Mapping[str, Any]) -> str:
    """Return JSON in ASCII, because file names may hold bytes that are not valid UTF-8."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def remove_oldest(folder: Path, most: int) -> None:
    """Delete all but the newest JSON files of a folder."""
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-most]:
        path.unlink(missing_ok=True)


def compute_sections(
    checkout: Checkout,
    closure: Collection[Path],
    names: Dependencies,
    *,
    secrets: Collection[str],
    outputs: Collection[str],
) -> dict[str, dict[str, str]]:
    """Return the digests of a stage's dependencies, by kind and name.

    Parameters
    ----------
    closure
        The stage's code, which is compared separately.
    secrets
        Variables that the params name as secrets: not even a digest of them is stored.
    outputs
        Outputs of the experiment's stages, relative to the root.
    """
    named = {name: checkout.locate(name) for name in names.files}
    scripts = [path for path in named.values() if path.suffix in CODE_SUFFIXES and path.is_file()]
    meanings = [checkout.get_meaning(path) for path in closure if path.is_file()]
    is_read_anyway = any(one.reads_docs for one in meanings)
    is_read = is_read_anyway or any(checkout.get_meaning(path).reads_docs for path in scripts)
    files = {name: compute_file_digest(checkout, name, path, with_docs=is_read) for name, path in named.items()}
    listings = {name: compute_listing_digest(checkout.root, name, outputs) for name in names.listings}
    variables = {name: compute_variable_digest(name, secrets) for name in names.variables}
    # The digest of the code leaves docstrings out, as nothing in the code itself reads them.
    docs = {"code": digest(one.docs for one in meanings)} if is_read and not is_read_anyway else {}
    return {
        kind: found
        for kind, found in zip(FINGERPRINT_SECTIONS, (files, listings, variables, docs), strict=True)
        if found
    }


def fold(names: Iterable[str]) -> tuple[str, ...]:
    """Replace more than `MOST_FILES` names of one folder by the folder, repeatedly up the tree.

    >>> fold([f"images/{number}.png" for number in range(101)])
    ('images/',)
    """
    kept = set(names)
    while True:
        inside: dict[str, list[str]] = {}
        for name in kept:
            folder = name.rstrip("/").rpartition("/")[0]
            if folder and not name.startswith("/"):
                inside.setdefault(f"{folder}/", []).append(name)
        large = {folder: held for folder, held in inside.items() if len(held) > MOST_FILES}
        if not large:
            return tuple(sorted(kept))
        kept = {name for name in kept if not name.startswith(tuple(large))} | set(large)


def is_kept_apart(root: Path, name: str) -> bool:
    """Return whether a file of the checkout is never an input of a stage: labkit's and git's own, caches, packages.

    >>> [is_kept_apart(Path("/kit"), name) for name in ("notebooks/rates.csv", ".labkit/ledger.jsonl", "dvc.lock")]
    [False, True, True]
    """
    parts = name.split("/")
    is_own_data = parts[0] == "data" and len(parts) > 2 and parts[2] in OWN_DATA
    return any(name.startswith(own) for own in OWN) or is_own_data or is_cached(root, parts)


def is_cached(folder: Path, parts: Sequence[str]) -> bool:
    """Return whether a file below a folder is in a cache or part of an installed package."""
    folders = parts[:-1]
    is_package = any(part.endswith(PACKAGE_METADATA) for part in folders)
    is_cache = not CACHES.isdisjoint(parts) or any(part.startswith(".") and part.endswith("cache") for part in folders)
    if is_package or is_cache:
        return True
    return any((folder.joinpath(*folders[:length]) / CACHE_TAG).is_file() for length in range(1, len(folders) + 1))


def compute_file_digest(checkout: Checkout, name: str, path: Path, *, with_docs: bool) -> str:
    """Return the digest of a file, or of a folder if the name ends in `/`; otherwise what is found in its place.

    Parameters
    ----------
    name
        As recorded: absolute only if a notebook declared it.
    with_docs
        Whether docstrings count as code.
    """
    try:
        if not name.startswith("/") and not is_local_file(checkout.root, path):
            return "outside of the checkout"
        if path.is_dir():
            return compute_folder_digest(checkout, path, with_docs=with_docs) if name.endswith("/") else "a folder"
        if not path.is_file():
            return "not a regular file" if path.exists() else "not there"
        if path.suffix in CODE_SUFFIXES:
            meaning = checkout.get_meaning(path)
            return digest([meaning.code, meaning.docs]) if with_docs else meaning.code
        return compute_digest(path)
    except OSError as error:
        return f"unreadable: {type(error).__name__}"


def compute_folder_digest(checkout: Checkout, folder: Path, *, with_docs: bool) -> str:
    """Return one digest of the names and contents of all files below a folder."""
    lines: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inner = path.relative_to(folder)
        if not is_cached(folder, inner.parts) and path.resolve().is_relative_to(folder.resolve()):
            lines += [inner.as_posix(), compute_file_digest(checkout, f"/{inner}", path, with_docs=with_docs)]
    return digest(lines)


def compute_listing_digest(root: Path, pattern: str, outputs: Collection[str]) -> str:
    """Return a digest of the names that match a pattern in the checkout, without hidden ones.

    Parameters
    ----------
    outputs
        Outputs of the experiment's stages: whether they exist depends on which stages have run.
    """
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return "outside of the checkout"
    return digest(name for name in list_matches(root, pattern) if not is_part(name, outputs))


def list_matches(root: Path, pattern: str) -> Sequence[str]:
    """Return the names below a folder that match a pattern, without files that are never inputs."""
    # Not pathlib's glob, which differs between versions of Python.
    found = [Path(name) for name in glob.iglob(pattern, root_dir=root, recursive=True)]  # noqa: PTH207
    local = [name.as_posix() for name in found if (root / name).parent.resolve().is_relative_to(root)]
    return sorted(name for name in local if not is_kept_apart(root, name) and not is_own_folder(name))


def is_own_folder(name: str) -> bool:
    """Return whether a name is that of a folder of labkit's or git's own."""
    return f"{name}/" in OWN


def is_local_file(root: Path, path: Path) -> bool:
    """Return whether a file, links resolved, is in the checkout or in labkit outside `labkit/run`."""
    real = path.resolve()
    return any(real.is_relative_to(top) for top in (root, LABKIT)) and not real.is_relative_to(MACHINERY)


def is_part(name: str, places: Iterable[str]) -> bool:
    """Return whether a file is one of the given places or inside one of them.

    >>> is_part("data/x/raw/a.parquet", ["data/x/raw"]), is_part("data/x/rawer", ["data/x/raw"])
    (True, False)
    """
    return any(name == place or name.startswith(f"{place}/") for place in places)


def compute_variable_digest(name: str, secrets: Collection[str]) -> str:
    """Return the SHA-256 of a variable's value as a stage sees it; for a secret, not even that."""
    value = paths.make_environment().get(name)
    if value is None:
        return "not set"
    if explain_refusal(name, value, secrets):
        return "refused"
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def is_set_by_labkit(name: str) -> bool:
    """Return whether labkit sets or extends a variable for each stage."""
    return name in ALREADY_SET or name.startswith("LABKIT_")


def explain_refusal(name: str, value: str, secrets: Collection[str]) -> str:
    """Return why a stage may not depend on a variable, empty if it may."""
    if name in secrets or SECRET_NAME.search(name) or TOKENS.search(value):
        return "it holds a secret, which is not recorded: get it with `step.secret`"
    if is_set_by_labkit(name):
        return "labkit sets it for each stage, so it differs from machine to machine"
    return ""


def check_variable(name: str, secrets: Collection[str]) -> str:
    """Return a variable's name if a stage may depend on it.

    Raises
    ------
    ParamsError
        It is not a valid name, or the variable holds a secret.
    """
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise ParamsError(f"step.depends_on: variable {name!r:.60} is not the name of an environment variable")
    if why := explain_refusal(name, paths.get_variable(name) or "", secrets):
        raise ParamsError(f"step.depends_on(variable={name!r}): {why}")
    return name
