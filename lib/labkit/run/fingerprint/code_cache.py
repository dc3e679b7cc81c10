"""What files of code mean, remembered from run to run by what they contain: reading them takes most of a second.

Not how a file is read: that is `labkit.run.fingerprint.python_code` and `labkit.run.fingerprint.notebook_code`, whose
own code is part of what is remembered, so that nothing another version read is ever believed.
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
"""Endings of the files that mean something as code."""
MOST_MEANINGS = 2000
"""Contents remembered; a year of edits is fewer."""


class CodeCache:
    """The meaning of every file that is asked for, each read once.

    Parameters
    ----------
    root
        The checkout, whose `.labkit` folder remembers.
    """

    def __init__(self, root: Path) -> None:
        self.place = root / ".labkit" / "meanings.json"
        self.remembered = self.load()
        self.is_saved = True
        self.known: dict[Path, Meaning] = {}

    def get(self, path: Path) -> Meaning:
        """Return what a module or a notebook means as it is now, or was when it was first asked for."""
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
        """Return what was remembered by the same readers; nothing if there is nothing of use."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(self.place.read_bytes())
            if content["readers"] == compute_readers():
                return dict(content["meanings"])
        return {}

    def save(self) -> None:
        """Remember what was read, if any of it is new."""
        if not self.is_saved:
            latest = dict(list(self.remembered.items())[-MOST_MEANINGS:])
            content = json.dumps({"readers": compute_readers(), "meanings": latest})
            with suppress(OSError):  # a folder that cannot be written to costs the next run a second
                write_text(self.place, content)
            self.is_saved = True


def make_meaning(fields: dict[str, Any]) -> Meaning:
    """Return a meaning from its fields as JSON has them."""
    lists = {name: tuple(fields[name]) for name in ("exports", "files", "folders", "names")}
    imports = tuple(Import(one["level"], one["module"], tuple(one["names"])) for one in fields["imports"])
    return Meaning(**{**fields, **lists, "imports": imports})


@cache
def compute_readers() -> str:
    """Return a digest of what reads files of code: the two modules, Python's grammar and IPython's magics."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (python_code, notebook_code)]
    versions = f"{sys.version_info[:3]} {importlib.metadata.version('ipython')}"
    return hashlib.sha256(b"\0".join([*sources, versions.encode()])).hexdigest()
