"""An empty checkout whose `lib` folder holds packages of the user's own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from labkit.model.release.release_code import remove_modules


@contextmanager
def open_library(root: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> Iterator[Path]:
    """Make the folder an empty checkout and yield the package's folder; at the end nothing of it stays imported."""
    (root / "dvc.yaml").touch()
    (root / "params").mkdir()
    folder = root / "lib" / package
    folder.mkdir(parents=True)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    remove_modules([package])
