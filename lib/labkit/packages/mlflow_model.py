"""A release as a model of MLflow, as `labkit.stages.publish` registers it, with the labkit that loads it."""

from pathlib import Path

from labkit.model.release.bundle import Release
from labkit.packages.package_files import write_package_files
from labkit.packages.parity import Predict
from labkit.project.wheel import write_labkit_wheel
from labkit.run.records.mlflow_model import load_mlflow_predict
from labkit.stages.publish import save_mlflow_version

MODEL = "model"


def write_model(opened: Release, folder: Path) -> Path:
    """Write the package into a folder and return its own folder: the model, a wheel of labkit and a page."""
    experiment = opened.facts["experiment"]
    place = folder / f"{experiment}-mlflow"
    save_mlflow_version(opened, place / MODEL)
    write_labkit_wheel(place)
    write_package_files("mlflow", place, experiment)
    return place


def predict_with_model(place: Path) -> Predict:
    """Return how a written package predicts in MLflow."""
    return load_mlflow_predict(place / MODEL)
