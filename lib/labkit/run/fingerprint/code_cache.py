"""Cache of what source files mean, keyed by their content: reading them all takes most of a second.

Source files are read by `labkit.run.fingerprint.python_code` and `labkit.run.fingerprint.notebook_code`. The cache is
valid only for the versions of these two modules that filled it.
"""

import hashlib
import importlib.metadata
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from labkit.run.fingerprint import notebook_code, python_code
from labkit.run.fingerprint.python_code import Import, Meaning
from labkit.storage.atomic import write_text

CODE_SUFFIXES = (".py", ".ipynb")
"""Suffixes of files that are compared as code."""
MOST_MEANINGS = 2000
"""Entries kept; a year of edits needs fewer."""


class CodeCache:
    """The meaning of source files, each file read once.

    Parameters
    ----------
    root
        The checkout, whose `.labkit` folder holds the cache.
    """

    def __init__(self, root: Path) -> None:
        self.place = root / ".labkit" / "meanings.json"
        self.remembered = self.load()
        self.is_saved = True
        self.known: dict[Path, Meaning] = {}

    def get(self, path: Path) -> Meaning:
        """Return the meaning of a module or notebook, as read at the first call for this path."""
        if path not in self.known:
            content = path.read_bytes()
            key = f"{path.suffix}:{hashlib.sha256(content).hexdigest()}"
            if key not in self.remembered:
                read = notebook_code.read_notebook if path.suffix == ".ipynb" else python_code.read_module
                self.remembered[key] = asdict(read(content))
                self.is_saved = False
            self.known[path] = make_meaning(self.remembered[key])
        return self.known[path]

    def load(self) -> dict[str, dict[str, Any]]:
        """Return the entries that the same readers stored, empty if there are none or they are damaged."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(self.place.read_bytes())
            if content["readers"] == compute_readers():
                return dict(content["meanings"])
        return {}

    def save(self) -> None:
        """Write the cache to disk if it has new entries."""
        if not self.is_saved:
            latest = dict(list(self.remembered.items())[-MOST_MEANINGS:])
            content = json.dumps({"readers": compute_readers(), "meanings": latest})
            with suppress(OSError):  # without the cache the next run takes a second longer
                write_text(self.place, content)
            self.is_saved = True


def make_meaning(fields: dict[str, Any]) -> Meaning:
    """Return a meaning from its fields in JSON."""
    lists = {name: tuple(fields[name]) for name in ("exports", "files", "folders", "names")}
    imports = tuple(Import(one["level"], one["module"], tuple(one["names"])) for one in fields["imports"])
    return Meaning(**{**fields, **lists, "imports": imports})


@cache
def compute_readers() -> str:
    """Return a digest of everything that determines a meaning: the two reader modules, Python and IPython."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (python_code, notebook_code)]
    versions = f"{sys.version_info[:3]} {importlib.metadata.version('ipython')}"
    return hashlib.sha256(b"\0".join([*sources, versions.encode()])).hexdigest()
