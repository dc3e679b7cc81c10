"""The part of dvc.lock that is about one experiment, without parsing what is about hundreds of others.

Only a file that was once parsed as a whole, and found to have one stage per section as DVC writes them, is read in
parts: its digest is kept in `.labkit/`. Does not import DVC.
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import DiskError
from labkit.params.yaml_text import parse_written_yaml
from labkit.storage.atomic import write_text

DVC_LOCK = "dvc.lock"
SECTION = re.compile(r"^  (\S+):\n", re.MULTILINE)
"""The first line of a stage in dvc.lock."""
NOT_MOVABLE = re.compile(r"^\S|[&*]id\d", re.MULTILINE)
"""What is no stage of dvc.lock, or is bound to its place by an anchor."""


def find_mark() -> Path:
    """Return the file with the digest of the dvc.lock that can be read in parts."""
    return paths.find_root() / ".labkit" / "dvc-lock.sha256"


def is_marked(content: bytes) -> bool:
    """Return whether this content of dvc.lock was found to be sound, and can be read in parts."""
    try:
        return find_mark().read_text(encoding="ascii") == hashlib.sha256(content).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def mark(content: bytes, tree: Mapping[str, Any]) -> None:
    """Remember that this content of dvc.lock is sound, if its sections are the stages of the parsed tree."""
    sections = split_sections(content)
    if [*tree] == ["schema", "stages"] and [*sections] == [*tree["stages"]]:
        with suppress(DiskError, OSError):
            write_text(find_mark(), hashlib.sha256(content).hexdigest())


@lru_cache(maxsize=2)
def split_sections(content: bytes) -> dict[str, str]:
    """Return the text of each stage of dvc.lock; none if it cannot be split."""
    try:
        _, separator, stages = content.decode().partition("\nstages:\n")
    except UnicodeDecodeError:
        return {}
    starts = [*SECTION.finditer(stages)] if separator else []
    ends = [*(start.start() for start in starts[1:]), len(stages)][: len(starts)]
    return {start[1]: stages[start.start() : end] for start, end in zip(starts, ends, strict=True)}


def sort_sections(content: str) -> str:
    """Return dvc.lock with its stages grouped by experiment, whichever ran first; one that cannot be split as it is.

    Parameters
    ----------
    content
        The file as DVC writes it.

    Examples
    --------
    >>> print(sort_sections("schema: '2.0'\\nstages:\\n  a@y:\\n    cmd: 1\\n  b@x:\\n    cmd: 2\\n"), end="")
    schema: '2.0'
    stages:
      b@x:
        cmd: 2
      a@y:
        cmd: 1
    """
    head, separator, stages = content.partition("\nstages:\n")
    sections = split_sections(content.encode())
    if "".join(sections.values()) != stages or NOT_MOVABLE.search(stages):
        return content
    names = sorted(sections, key=lambda name: name.partition("@")[2])
    return "".join([head, separator, *(sections[name] for name in names)])


def load_locked_stages(experiment: str) -> dict[str, Any] | None:
    """Return what dvc.lock has of the stages of an experiment; None if all of it has to be read.

    Parameters
    ----------
    experiment
        Name of the experiment.
    """
    try:
        content = (paths.find_root() / DVC_LOCK).read_bytes()
    except OSError:
        return None
    if not is_marked(content):
        return None
    own = [text for name, text in split_sections(content).items() if name.endswith(f"@{experiment}")]
    found: dict[str, Any] = parse_written_yaml("".join(own), DVC_LOCK) or {}
    return found
