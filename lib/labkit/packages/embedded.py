"""A released model as a wheel of its own, which needs numpy and onnxruntime but neither labkit nor pandas.

The wheel holds the release as it was published and the modules of labkit that compute a prediction, copied verbatim.
They stay invisible beside an installed labkit of another version.
"""

import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from labkit.model.release import runtime
from labkit.model.release.own_code import list_imported_names
from labkit.packages.parity import Predict, call_package, decode_predictions, encode_rows
from labkit.paths import PACKAGE_DIR
from labkit.storage.wheel import derive_version, write_wheel

ENTRY = "labkit.model.release.runtime"
"""The module that the others are copied for."""
REQUIREMENTS = ("numpy", "onnxruntime")
COPIES, RELEASE = "_vendor", "release"
VENDORED = b'"""The part of labkit that predicts."""\n'
INIT = '''"""The model of {experiment}, as released: {digest}.

`predict` takes rows and returns predictions; `Error` is raised for rows that the model cannot take.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DIGEST = "{digest}"
"""Digest of the release's manifest, which is verified when this package is imported, like all its files."""


def load() -> tuple[Any, type[Exception]]:
    """Load the release with the modules beside it, and leave those of an installed labkit as they are."""
    others = remove_modules()
    sys.path.insert(0, str(Path(__file__).parent / "{copies}"))
    try:
        from labkit.errors import LabkitError
        from labkit.model.release.runtime import load_runtime

        folder = Path(__file__).parent / "{release}"
        return load_runtime(folder, digest=DIGEST, is_installed=True), LabkitError
    finally:
        del sys.path[0]
        remove_modules()
        sys.modules.update(others)


def remove_modules() -> dict[str, Any]:
    """Remove labkit from the imported modules and return what was removed."""
    return {{name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "labkit"}}


RUNTIME, Error = load()


def predict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Predict rows, dictionaries with all columns of the model; None is a missing value.

    Returns
    -------
    dict
        `predictions`, one per row; for classes also `probabilities`, by class, and `threshold` if one was chosen.

    Raises
    ------
    Error
        A column is missing, or a value is of the wrong kind.
    """
    named: dict[str, Any] = RUNTIME.name_predictions(RUNTIME.predict(rows))
    return named
'''
PREDICT = """import importlib, json, sys
sys.path.insert(0, sys.argv[1])
model = importlib.import_module(sys.argv[2])
json.dump(model.predict(json.load(sys.stdin)), sys.stdout)
"""
"""Program that predicts rows with a wheel that was unpacked."""


def write_model_wheel(release: Path, folder: Path) -> Path:
    """Write a release as a wheel and return its path; the same release gives the same bytes.

    Parameters
    ----------
    release
        Folder of a verified release.
    folder
        Existing folder to write to.

    Raises
    ------
    ModelError
        The release has no ONNX graph, or is not as its manifest says.
    """
    opened = runtime.load_runtime(release)
    experiment, found = opened.facts["experiment"], runtime.compute_release_digest(release)
    name = name_model_package(experiment)
    content = INIT.format(experiment=experiment, digest=found, copies=COPIES, release=RELEASE).encode()
    files = {f"{name}/__init__.py": content, f"{name}/{COPIES}/labkit/__init__.py": VENDORED}
    for path in list_needed_modules(ENTRY):
        files[f"{name}/{COPIES}/labkit/{path.relative_to(PACKAGE_DIR).as_posix()}"] = path.read_bytes()
    for path in sorted(release.iterdir()):
        files[f"{name}/{RELEASE}/{path.name}"] = path.read_bytes()
    number = derive_version(files)
    needed = [*REQUIREMENTS, *(opened.facts.get("own_code") or {}).get("needs", [])]
    # The installed versions, or later ones.
    lines = [f"Requires-Dist: {one}>={version(one)}" for one in needed]
    described = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}", "Requires-Python: >=3.11", *lines]
    return write_wheel(folder, name, number, files=files, metadata={"METADATA": "\n".join([*described, ""])})


def name_model_package(experiment: str) -> str:
    """Return the name under which the model of an experiment is imported.

    >>> name_model_package("diabetes")
    'diabetes_model'
    """
    return f"{experiment}_model"


def list_needed_modules(*names: str) -> list[Path]:
    """Return the files of modules and of all that they import, with the files of their packages but the topmost."""
    found: set[str] = set()
    waiting = {*names}
    while waiting:
        name = waiting.pop()
        found.add(name)
        own = {
            other
            for other in list_imported_names(find_module_file(name))
            if other.partition(".")[0] == PACKAGE_DIR.name
        }
        waiting |= {other for other in own if find_module_file(other).is_file()} - found
    files = {find_module_file(name) for name in found}
    above = {folder / "__init__.py" for file in files for folder in file.parents if PACKAGE_DIR in folder.parents}
    return sorted(files | above)


def find_module_file(name: str) -> Path:
    """Return where the file of a module of labkit is, if it is a module."""
    return PACKAGE_DIR.parent.joinpath(*name.split(".")).with_suffix(".py")


def predict_with_wheel(wheel: Path) -> Predict:
    """Return how a written wheel predicts, unpacked and in a process of its own."""

    def predict(frame: pd.DataFrame) -> np.ndarray:
        with tempfile.TemporaryDirectory(prefix=".labkit-") as folder:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            name = wheel.name.partition("-")[0]
            kinds = runtime.load_runtime(Path(folder) / name / RELEASE, is_installed=True).row_features.inputs_
            command = [sys.executable, "-c", PREDICT, folder, name]
            return decode_predictions(call_package(command, encode_rows(frame, kinds), wheel))

    return predict
