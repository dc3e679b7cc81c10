"""Rows, true values, and a release of a calibrated model that predicts them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.model.release.bundle import Release
from labkit.model.release.runtime import MANIFEST, compute_release_digest
from labkit.monitoring.current_rows import Current
from labkit.monitoring.outcomes import Outcomes
from labkit.monitoring.performance import Performance, measure_performance
from labkit.monitoring.performance_checks import list_performance_checks
from labkit.monitoring.reference_performance import load_performance, make_performance_files
from labkit.monitoring.scored_rows import score_frame
from labkit.params.experiment import Params
from labkit.serving.settings import FEEDBACK

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CLASSES = ("no", "yes")
CONTENT: dict[str, Any] = {
    "experiment": "small",
    "seed": 0,
    "data": {
        "tables": {"t": {"path": "t.csv"}},
        "target": {"column": "y", "task": "classification", "positive": "yes"},
        "time": {"predict_at": "at", "outcome_known_at": "at"},
    },
    "training": {"metric": "roc_auc"},
    "evaluation": {"bootstrap_samples": 100, "costs": {"false_positive": 1, "false_negative": 4}},
    **{section: {} for section in ("eda", "wrangling", "features", "deploy")},
}
PARAMS = Params.model_validate_json(json.dumps(CONTENT))


def make_rows(n_rows: int, *, seed: int, wrong: str = "", first: str = "2026-03-02") -> pd.DataFrame:
    """Return rows with the probability of yes that a calibrated model gives; of a `wrong` city it is the opposite."""
    random = np.random.default_rng(seed)
    city, share = random.choice(["a", "b", "c"], n_rows), random.uniform(0.02, 0.98, n_rows)
    true_share = np.where(city == wrong, 1 - share, share)
    at = pd.Timestamp(first, tz="UTC") + pd.to_timedelta(np.sort(random.uniform(0, 20 * 24, n_rows)), unit="h")
    return pd.DataFrame(
        {
            "predict_at": at,
            "city": city,
            "size": random.normal(size=n_rows),
            "share": share,
            "y": np.where(random.uniform(size=n_rows) < true_share, "yes", "no"),
        }
    )


class Scorer:
    """A model whose probability of yes is a column of the rows, with its row features."""

    classes_ = np.array(CLASSES)

    def __init__(self, row_features: RowFeatures) -> None:
        self.row_features = row_features

    def __getitem__(self, place: int) -> RowFeatures:
        return self.row_features

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - rows["share"], rows["share"]])


HOLDOUT = make_rows(4000, seed=1)
FEATURES = RowFeatures().fit(HOLDOUT[["city", "size", "share"]])
EVALUATION = {
    "metric": "roc_auc",
    "confidence": 0.95,
    "holdout": {"roc_auc": {"value": 0.82, "low": 0.805, "high": 0.835}},
    "threshold": {
        "threshold": 0.2,
        "costs": {"false_positive": 1.0, "false_negative": 4.0, "unit": "EUR"},
        "cost": {"value": 0.42, "low": 0.4, "high": 0.44},
    },
}


def make_release(folder: Path) -> Release:
    """Return a release of the model that holds how good it was on the holdout."""
    (folder / MANIFEST).write_text("{}")
    for name, content in make_performance_files(PARAMS, Scorer(FEATURES), HOLDOUT, EVALUATION).items():
        (folder / name).write_bytes(content)
    return Release(folder, {"classes": list(CLASSES), "positive": "yes", "metric": "roc_auc"}, FEATURES, None)


def make_current(release: Release, rows: pd.DataFrame) -> Current:
    return Current("rows.csv", False, release, frame=rows, output=Scorer(FEATURES).predict_proba(rows))


def measure(release: Release, rows: pd.DataFrame, outcomes: Outcomes | None = None) -> Performance:
    scored = score_frame(PARAMS, make_current(release, rows), outcomes, NOW)
    return measure_performance(PARAMS, release, load_performance(release.folder), scored)


def find_status(found: Performance) -> dict[str, str]:
    return {check.code: check.status for check in list_performance_checks(found)}


def write_log(folder: Path, release: Release, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Write a log with ten rows a request, and return its lines."""
    digest = compute_release_digest(release.folder)
    inputs = json.loads(rows[["city", "size", "share"]].to_json(orient="records"))
    lines = [
        {
            "id": f"r{place // 10}-{place % 10}", "time": at.isoformat(), "version": 1, "digest": digest,
            "inputs": row, "prediction": "no",
            "probabilities": {"no": 1 - row["share"], "yes": row["share"]},
        }
        for place, (at, row) in enumerate(zip(rows["predict_at"], inputs, strict=True))
    ]  # fmt: skip
    (folder / "log").mkdir()
    (folder / "log" / "1.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return lines


def write_feedback(folder: Path, values: list[Mapping[str, Any]], torn: bytes = b"") -> None:
    (folder / FEEDBACK).write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in values) + torn)
