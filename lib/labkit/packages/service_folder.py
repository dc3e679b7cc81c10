"""A release as a folder that serves it on another machine: nothing in it refers to this checkout."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from labkit import paths
from labkit.features.table_columns import take_columns
from labkit.model.release.bundle import Release
from labkit.packages.lock import LOCK, select_locked
from labkit.packages.package_files import write_package_files
from labkit.packages.parity import Predict
from labkit.project.wheel import write_labkit_wheel
from labkit.serving.engine import load_engine
from labkit.storage.atomic import atomic_folder, write_json, write_text
from labkit.storage.digests import compute_digest

SERVING = (
    "click",
    "fastapi",
    "fastapi-offline",
    "httptools",
    "msgspec",
    "numpy",
    "onnxruntime",
    "prometheus-client",
    "rich",
    "uvicorn",
    "uvloop",
)
"""Packages that `labkit serve --release` imports."""
RELEASE, EXAMPLE, DIGESTS = "release", "example.json", "SHA256SUMS"


def write_service(opened: Release, folder: Path) -> Path:
    """Write the service of a release into a folder and return its own folder.

    Raises
    ------
    ParamsError
        The lock of the checkout does not have what a service needs, see `labkit.packages.lock.select_locked`.
    ModelError
        The release cannot be served, see `labkit.serving.engine.load_engine`.
    """
    experiment = opened.facts["experiment"]
    place = folder / f"{experiment}-service"
    with atomic_folder(place / RELEASE) as beside:
        shutil.copytree(opened.folder, beside, dirs_exist_ok=True)
    needed = [*SERVING, *(opened.facts.get("own_code") or {}).get("needs", [])]
    write_text(place / LOCK, select_locked(paths.find_root() / LOCK, needed))
    write_labkit_wheel(place)
    write_json(place / EXAMPLE, {"rows": load_engine(place / RELEASE, digest=None, version=None).load_example()})
    write_package_files("service", place, experiment)
    write_text(place / DIGESTS, make_digest_list(place))
    return place


def make_digest_list(folder: Path) -> str:
    """Return the SHA-256 of all files in a folder as `sha256sum --check` reads them, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{compute_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)


def predict_with_service(place: Path) -> Predict:
    """Return how the engine of a written service predicts, with its ONNX graph and compiled row features."""
    engine = load_engine(place / RELEASE, digest=None, version=None)

    def predict(frame: pd.DataFrame) -> np.ndarray:
        return engine.opened.predict_columns(take_columns(frame, engine.opened.row_features.inputs_))

    return predict
