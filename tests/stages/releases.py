"""Releases of small models, published in process: the fewer columns a model has, the worse it is."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from labkit.artifacts import PLACES
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import make_candidate
from labkit.model.release import bundle
from labkit.model.training import comparison
from labkit.params.experiment import Params
from labkit.params.tables import Target
from labkit.run.records import registry
from labkit.run.records.champion_moves import CHAMPION
from labkit.stages import publish
from labkit.storage import digests

TARGET = Target(column="y", task="regression")
PARITY = {"rows": 9, "largest_difference": 0.0, "tolerance": 1e-5, "reason": "`deploy.onnx` is off"}
PASSED = {"passed": True, "checks": [{"name": "good enough", "passed": True, "evidence": "by 1", "warning": ""}]}
TABLE = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=list("abc"))
TABLE = TABLE.assign(y=TABLE["a"] + TABLE["b"] / 2 + np.random.default_rng(1).normal(size=300) / 5)


@cache
def fit(columns: str) -> Any:
    """Return a linear model on some of the columns: the fewer of them, the worse."""
    rows = TABLE[:200]
    row_features = RowFeatures().fit(rows[list(columns)])
    candidate = make_candidate("linear", TARGET, dict.fromkeys(columns, "number"), seed=0)
    return comparison.fit_model(candidate, row_features, [(rows[list(columns)], rows["y"])], target=TARGET, seed=0)


def put_release(root: Path, params: Params, columns: str, **facts: Any) -> str:
    """Write the release of a model on some columns into the experiment and return its digest."""
    facts = {
        "experiment": params.experiment,
        "task": "regression",
        "classes": [],
        "metric": "mae",
        "onnx": PARITY,
    } | facts
    folder = root / "data" / params.experiment / PLACES["release"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    bundle.write_release(
        folder, fit(columns), graph=None, facts=facts, contract="{}", card="# Card\n", example=TABLE[list(columns)]
    )
    return digests.compute_digest(folder)


def publish_release(params: Params) -> str:
    """Publish and return the headline, without the remark on pages that nobody rendered here."""
    return publish.publish(params).partition("; no page here")[0]


def find_champion(params: Params) -> int | None:
    version = registry.find_version(params.experiment, alias=CHAMPION)
    return None if version is None else version.number


def read_decision(root: Path, params: Params) -> dict[str, Any]:
    return json.loads((root / "reports" / params.experiment / "publish.json").read_text())


def find_release(root: Path, params: Params) -> Path:
    """Return the folder among MLflow's artifacts that holds the champion's release."""
    version = registry.find_version(params.experiment, alias=CHAMPION)
    assert version is not None
    (folder,) = root.glob(f"mlruns/*/{version.run_id}/artifacts/release")
    return folder
