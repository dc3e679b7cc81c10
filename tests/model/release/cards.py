"""Model cards of small releases."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.model.release.model_card import make_card
from labkit.params.experiment import Params
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

HOLDOUT = pd.DataFrame(
    {"x": [1.0, None, 3.0, 4.0], "state": ["ill", "well", "well", "well"], "y": [1.0, 2.0, 3.0, 4.0]}
)


def write_card(
    task: str,
    *,
    reason: str = "",
    rows: int = 1,
    labels: Mapping[str, str] | None = None,
    words: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    **deploy: str,
) -> str:
    """Return the card of a made-up run; `data` is added to the params, and `run` to what stages found."""
    run = run or {}
    column = "y" if task == "regression" else "state"
    target = {"column": column, "task": task} | (
        {} if task == "regression" else {"positive": "ill", "labels": labels or {}}
    )
    content: dict[str, Any] = {
        "experiment": "test",
        **(words or {}),
        "seed": 0,
        "data": {"tables": {"t": {"path": "t.csv"}}, "target": target, **(data or {})},
        "training": {"metric": "mae" if task == "regression" else "roc_auc", **(words or {}).get("training", {})},
        "deploy": deploy,
        **{name: {} for name in ("eda", "wrangling", "features", "evaluation")},
    }
    return make_card(
        Params.model_validate_json(json.dumps(content)),
        model=run.get("model") or make_pipeline(RowFeatures().fit(HOLDOUT[["x"]]), Ridge()),
        artifacts={
            "evaluation": {
                "confidence": 0.95,
                "resampled": "61 days",
                "holdout": {"mae": {"value": 43.21, "low": 39.0, "high": 47.0}},
                "dummy": {"mae": 62.5},
                "metric": "mae",
                **run.get("metrics", {}),
            },
            "choice": run.get("choice", {}),
            "split": {
                "method": "random",
                "stratified_by": None if task == "regression" else "state",
                "parts": {"training": {"rows": 1200}, "holdout": {"rows": 4}},
                **run.get("split", {}),
            },
            "gate": {
                "limits": "Required: a gain above 5.",
                "checks": [
                    {"name": "better", "passed": True, "evidence": "by 1"},
                    {"name": "not worse", "passed": False, "evidence": "by 2"},
                ],
            },
        },
        holdout=pd.concat([HOLDOUT] * rows, ignore_index=True),
        parity={"reason": reason, "largest_difference": 0.0, "rows": 4, "tolerance": 1e-5},
        sizes={"random_forest": 2_100_000, "preparation": 900},
    )
