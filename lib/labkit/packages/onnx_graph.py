"""A release as an ONNX graph with the numpy-only code of its row features, for any program that runs ONNX."""

import json
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from labkit.errors import ModelError
from labkit.model.release.bundle import Release
from labkit.model.release.runtime import FACTS, FEATURES, GRAPH, STATE, load_runtime
from labkit.packages.embedded import REQUIREMENTS, VENDORED, list_needed_modules
from labkit.packages.package_files import write_package_files
from labkit.packages.parity import Predict, call_package, make_plain_rows
from labkit.paths import PACKAGE_DIR
from labkit.serving.engine import load_engine
from labkit.storage.atomic import copy_file, write_bytes, write_json, write_text

MODULES = ("labkit.features.compiled", "labkit.model.release.feature_files")
"""Modules that compute row features, and read their files."""


def write_graph(opened: Release, folder: Path) -> Path:
    """Write the package into a folder and return its own folder.

    Raises
    ------
    ModelError
        The release is of an earlier kind, whose graph takes one input per feature, or its features are the user's own.
    """
    experiment = opened.facts["experiment"]
    if load_runtime(opened.folder).graph.compiled is None:
        raise ModelError(f"{opened.folder}: its graph has one input per feature: release the model again")
    place = folder / f"{experiment}-onnx"
    write_row_features(opened, place, requirements=REQUIREMENTS)
    copy_file(opened.folder / GRAPH, place / GRAPH)
    write_package_files("onnx", place, experiment)
    return place


def write_row_features(opened: Release, place: Path, *, requirements: Sequence[str]) -> None:
    """Write what computes row features into a folder: their files, the code that reads them, example rows.

    Raises
    ------
    ModelError
        The features are the user's own.
    """
    if opened.facts.get("own_code"):
        own = f"{opened.facts['experiment']} has features of your own code"
        raise ModelError(f"{own}: choose --form wheel or --form service")
    for name in (FEATURES, FACTS, STATE):
        if (opened.folder / name).is_file():
            copy_file(opened.folder / name, place / name)
    write_bytes(place / "features" / "labkit" / "__init__.py", VENDORED)
    for path in list_needed_modules(*MODULES):
        write_bytes(place / "features" / "labkit" / path.relative_to(PACKAGE_DIR), path.read_bytes())
    write_text(place / "requirements.txt", "".join(f"{name}=={version(name)}\n" for name in requirements))
    write_json(place / "example.json", {"rows": load_engine(opened.folder, digest=None, version=None).load_example()})


def predict_with_graph(place: Path) -> Predict:
    """Return how the script of a written package predicts."""

    def predict(frame: pd.DataFrame) -> np.ndarray:
        kinds = dict(json.loads((place / FEATURES).read_text(encoding="utf-8"))["inputs"])
        with tempfile.TemporaryDirectory(prefix=".labkit-") as folder:
            given = Path(folder) / "rows.json"
            write_text(given, json.dumps({"rows": make_plain_rows(frame, kinds)}))
            found = call_package([sys.executable, "-B", str(place / "predict.py"), str(given)], "", place)
        predicted = np.array(json.loads(found), "float64")
        return predicted.ravel() if predicted.shape[1:] == (1,) else predicted

    return predict
