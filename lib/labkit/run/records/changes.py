"""The uncommitted changes of a checkout, and a patch that reproduces them from the commit.

Distinguishes code; params files, which `labkit run -S` writes and of which a run keeps a copy; and outputs of stages,
of which those that the next run builds on are in the patch as well. Untracked source files count as code. Read only.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from labkit import paths
from labkit.run.dvc_yaml import FINGERPRINT, make_output_patterns
from labkit.storage.atomic import copy_file

SOURCES = (
    *(".py", ".pyi", ".pyx", ".ipynb", ".r", ".jl", ".sql", ".sh", ".c", ".h", ".cpp", ".hpp", ".rs", ".js", ".ts"),
    *(".toml", ".cfg", ".ini", ".yaml", ".yml", ".lock", ".dvc", ".j2"),
)
"""Suffixes of untracked files that are source code or settings; others may be data and are not recorded."""
SOURCE_NAMES = ("Makefile", "Dockerfile", ".gitignore", ".gitattributes", ".dvcignore")
LARGEST_PATCHED_FILE_BYTES = 1_000_000
LARGEST_PATCH_BYTES = 20_000_000
PARAMS = re.compile(r"params/[^/]+\.yaml")
FileKind = Literal["code", "params", "output", "other"]


@dataclass(frozen=True)
class Changes:
    """The files of a checkout that differ from the commit, by kind, with git's status letter (`?` for untracked).

    Attributes
    ----------
    continued
        Outputs of stages that are kept in git, such as the contract: the next run builds on them.
    """

    base: str | None
    code: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    continued: dict[str, str] = field(default_factory=dict)

    @property
    def is_dirty(self) -> bool:
        """Whether code differs; params files and outputs of stages do not count."""
        return bool(self.code)

    def list_code(self, most: int = 20) -> list[str]:
        """Return the first few changed files of code, each after its status letter."""
        return [f"{letter} {path}" for path, letter in list(self.code.items())[:most]]


@dataclass(frozen=True)
class Patch:
    """A patch that reproduces the code from the commit with `git apply`.

    Attributes
    ----------
    left_out
        Files of code that are too large to be in it, with their size in bytes.
    """

    content: bytes
    left_out: dict[str, int]


def find_changed_files(root: Path, more: Iterable[str] = ()) -> Changes:
    """Return the files of a checkout that differ from the commit; outside of git, the files in `more`.

    Parameters
    ----------
    more
        Files that count as code even if git ignores them, relative to the root.
    """
    more = set(more)
    letters = list_status(root)
    if letters is None:
        return Changes(None, dict.fromkeys(sorted(more), "?"))
    tracked = set(list_tracked(root, more))
    letters |= {path: "?" for path in more if path not in tracked and path not in letters}
    found = Changes(read_head(root))
    patterns, continued = make_output_patterns(), make_output_patterns(is_uncached=True, kinds=("outs",))
    for path in sorted(letters):
        kind = classify_file(path, patterns, is_untracked=letters[path] == "?", is_named=path in more)
        if kind != "output":
            getattr(found, kind)[path] = letters[path]
        elif FINGERPRINT not in Path(path).parts and any(pattern.match(path) for pattern in continued):
            found.continued[path] = letters[path]
    return found


def classify_file(
    path: str, outputs: Sequence[re.Pattern[str]], *, is_untracked: bool, is_named: bool = False
) -> FileKind:
    """Return the kind of a changed file.

    >>> [classify_file(path, [], is_untracked=True) for path in ("params/flights.yaml", "rates.py", "rows.csv")]
    ['params', 'code', 'other']
    """
    if PARAMS.fullmatch(path):
        return "params"
    name = Path(path)
    is_written_by_dvc = path == "dvc.lock" or (name.name == ".gitignore" and name.parts[0] == "data")
    if is_written_by_dvc or any(pattern.match(path) for pattern in outputs):
        return "output"
    is_source = is_named or name.suffix.lower() in SOURCES or name.name in SOURCE_NAMES
    return "code" if is_source or not is_untracked else "other"


def list_status(root: Path) -> dict[str, str] | None:
    """Return the status letter of each changed file below the root, None outside of git."""
    command = ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", "."]
    found = call_git(root, command)
    if found is None:
        return None
    prefix = (call_git(root, ["rev-parse", "--show-prefix"]) or b"").decode(errors="surrogateescape").strip("\n")
    entries = [entry.decode(errors="surrogateescape") for entry in found.split(b"\0") if entry]
    return {entry[3:].removeprefix(prefix): entry[:2].strip()[:1] for entry in entries}


def list_tracked(root: Path, names: Iterable[str]) -> list[str]:
    """Return the files that git tracks."""
    names = list(names)
    found = call_git(root, ["ls-files", "-z", "--", *names]) if names else None
    return [name.decode(errors="surrogateescape") for name in (found or b"").split(b"\0") if name]


def read_head(root: Path) -> str | None:
    """Return the current commit of a checkout; None outside of git, or before the first commit."""
    found = call_git(root, ["rev-parse", "--verify", "--quiet", "HEAD"])
    return found.decode().strip() if found else None


def make_patch(root: Path, changes: Changes) -> Patch:
    """Return the patch of all changed code and continued outputs; files over the limits are only listed."""
    letters = {**changes.code, **changes.continued}
    sizes = {path: measure_file(root / path) for path in letters}
    large = {path: size for path, size in sizes.items() if size > LARGEST_PATCHED_FILE_BYTES}
    named = {path: letter for path, letter in letters.items() if path not in large}
    if not named:
        return Patch(b"", large)
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as folder:
        content = diff(root, named, Path(folder), base=changes.base)
    if content is None or len(content) > LARGEST_PATCH_BYTES:
        return Patch(b"", large | {path: sizes[path] for path in named})
    return Patch(content, large)


def diff(root: Path, named: Mapping[str, str], scratch: Path, *, base: str | None) -> bytes | None:
    """Return the diff of some files from the commit; a separate index lets it include untracked files."""
    variables = {"GIT_INDEX_FILE": str(scratch / "index")}
    own = call_git(root, ["rev-parse", "--git-path", "index"])
    if own is None:
        # Outside of git, compare with an empty repository.
        call_git(root, ["init", "--quiet", "--bare", str(scratch / "git")])
        variables |= {"GIT_DIR": str(scratch / "git"), "GIT_WORK_TREE": str(root)}
    elif (source := root / os.fsdecode(own.strip(b"\n"))).is_file():
        copy_file(source, scratch / "index")
    new = [path for path, letter in named.items() if letter == "?"]
    add = ["add", "--intent-to-add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul"]
    if new and call_git(root, add, given=new, variables=variables) is None:
        return None
    empty = call_git(root, ["hash-object", "-t", "tree", os.devnull], variables=variables) or b""
    form = ["--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv", "--relative"]
    sides = ["--src-prefix=a/", "--dst-prefix=b/"]
    base = base or empty.decode().strip()
    return call_git(root, ["diff", *form, *sides, base, "--", *named], variables=variables)


def call_git(
    root: Path, words: Sequence[str], *, given: Iterable[str] = (), variables: Mapping[str, str] | None = None
) -> bytes | None:
    """Return the output of git, None if it is missing or fails; file names are literal, not patterns."""
    if shutil.which("git") is None:
        return None
    fixed = {"LC_ALL": "C", "GIT_LITERAL_PATHSPECS": "1", "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", "-C", str(root), "-c", "core.quotePath=false", *words],
        input=b"\0".join(os.fsencode(name) for name in given),
        capture_output=True,
        env={**paths.copy_environment(), **fixed, **(variables or {})},
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def measure_file(path: Path) -> int:
    """Return the size of a file in bytes, 0 if it was deleted."""
    return path.lstat().st_size if path.is_symlink() or path.is_file() else 0


def describe_files(root: Path, letters: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return status letter, size and SHA-256 of changed files; large files are not read."""
    found: dict[str, dict[str, Any]] = {}
    for path, letter in letters.items():
        size = measure_file(root / path)
        found[path] = {"git": letter, "bytes": size}
        if size and size <= LARGEST_PATCH_BYTES and (root / path).is_file():
            found[path]["sha256"] = hashlib.sha256((root / path).read_bytes()).hexdigest()
    return found
