"""Rows of an experiment whose relation turns round, to be replayed."""

import json
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from labkit.params.experiment import Params

ASKED, KNOWN = "predict_at", "outcome_known_at"
KINDS = {"a": "number", "b": "number"}


def make_params(*, gate: dict[str, Any] | None = None, **monitoring: Any) -> Params:
    history = {"all": {"keys": [], "days": [7]}}
    content: dict[str, Any] = {
        "experiment": "turned",
        "seed": 0,
        "data": {
            "tables": {"t": {"path": "t.csv", "times": ["asked", "known"]}},
            "time": {"predict_at": "asked", "outcome_known_at": "known", "zone": "America/New_York"},
            "target": {"column": "y", "task": "classification", "positive": "yes"},
            "split": {"method": "time", "validation_from": "2026-04-01", "holdout_from": "2026-06-01"},
        },
        "features": {"history": history},
        "training": {"metric": "roc_auc"},
        "evaluation": {
            "bootstrap_samples": 100,
            "costs": {"false_positive": 1, "false_negative": 4},
            "gate": gate or {"champion_tolerance": 0.02},
        },
        "monitoring": monitoring,
        **{section: {} for section in ("eda", "wrangling", "deploy")},
    }
    return Params.model_validate_json(json.dumps(content))


@cache
def make_rows(n_days: int = 243, *, turned: str = "2026-05-01", delay: int = 2) -> pd.DataFrame:
    """Return eight months of 20 rows a day; outcomes are known two days later, and turn round on 1 May."""
    draw, n_rows = np.random.default_rng(3), n_days * 20
    asked = pd.Timestamp("2026-01-01 12:00", tz="UTC") + pd.to_timedelta(np.repeat(np.arange(n_days), 20), unit="D")
    a, b = draw.normal(size=n_rows), draw.normal(size=n_rows)
    sign = np.where(asked < pd.Timestamp(turned, tz="UTC"), 1.0, -1.0)
    late = draw.random(n_rows) < 1 / (1 + np.exp(-(2 * sign * a + b)))
    known = asked + pd.Timedelta(days=delay)
    return pd.DataFrame({"a": a, "b": b, "y": np.where(late, "yes", "no"), ASKED: asked, KNOWN: known})
