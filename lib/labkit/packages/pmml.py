"""A release as PMML, for programs that run on Java; its row features stay code, and are beside it.

sklearn2pmml accepts few versions of scikit-learn, and Java does the conversion: both may be in another environment.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import ModelError, ParamsError
from labkit.features.row_features import RowFeatures
from labkit.model.release.bundle import Release
from labkit.model.release.feature_files import load_features
from labkit.model.release.runtime import FACTS, FEATURES, STATE
from labkit.model.release.skops_file import TRUSTED, dump_object
from labkit.packages.onnx_graph import write_row_features
from labkit.packages.package_files import TEMPLATES, write_package_files
from labkit.packages.parity import Predict
from labkit.paths import PACKAGE_DIR, get_variable
from labkit.storage.atomic import write_bytes

PYTHON_VARIABLE = "LABKIT_PMML_PYTHON"
"""Environment variable with the Python of an environment that has sklearn2pmml and jpmml-evaluator."""
CONVERTER = TEMPLATES / "convert" / "convert.py.template"
PMML = "model.pmml"
REMEDY = (
    "make an environment with a scikit-learn that sklearn2pmml accepts: `uv venv pmml` and `uv pip install --python "
    "pmml/bin/python sklearn2pmml jpmml-evaluator skops pandas lightgbm scikit-learn==<version>`, and set "
    f"{PYTHON_VARIABLE}=pmml/bin/python"
)


def write_pmml(opened: Release, folder: Path) -> Path:
    """Write the package into a folder and return its own folder.

    Raises
    ------
    ParamsError
        There is no Java.
    ModelError
        The model cannot be converted: sklearn2pmml is not installed, or refuses the model or scikit-learn's version; or
        the features are the user's own.
    """
    if shutil.which("java") is None:
        raise ParamsError("PMML needs Java, and there is no `java` in the path: install it, or choose another --form")
    experiment = opened.facts["experiment"]
    place = folder / f"{experiment}-pmml"
    write_row_features(opened, place, requirements=["numpy"])
    with tempfile.TemporaryDirectory(prefix=".labkit-") as scratch:
        model = Path(scratch) / "model.skops"
        write_bytes(model, dump_object(opened.pipeline[1:], experiment))
        call_converter(
            do="convert",
            model=str(model),
            trusted=list(TRUSTED),
            library=str(PACKAGE_DIR.parent),
            columns=list(opened.row_features.outputs_),
            target=opened.facts["target"],
            pmml=str(place / PMML),
        )
    write_package_files("pmml", place, experiment)
    return place


def predict_with_pmml(place: Path) -> Predict:
    """Return how a written package predicts with jpmml-evaluator, the reference for PMML on Java."""
    facts, content = (json.loads((place / name).read_text(encoding="utf-8")) for name in (FACTS, FEATURES))
    features = load_features(content, place / STATE, RowFeatures)

    def predict(frame: pd.DataFrame) -> np.ndarray:
        made = features.transform(frame)
        columns = {name: [value if value == value else None for value in made[name].tolist()] for name in made}
        named = {"target": facts["target"], "classes": facts["classes"]}
        found = call_converter(do="predict", pmml=str(place / PMML), columns=columns, **named)
        return np.array(json.loads(found.splitlines()[-1]), "float64")

    return predict


def call_converter(**given: Any) -> str:
    """Run the converter in its environment and return what it prints.

    Raises
    ------
    ModelError
        It failed, or that Python cannot be run.
    """
    python = get_variable(PYTHON_VARIABLE) or sys.executable
    try:
        done = subprocess.run(
            [python, str(CONVERTER)], input=json.dumps(given), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ModelError(f"{PYTHON_VARIABLE}={python}: {error.strerror}: {REMEDY}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"no PMML by {python}: {last}: {REMEDY}")
    return done.stdout
