"""Predictions as a table: labels by the threshold that was chosen, scores where answers are known."""

import json

import numpy as np
import pandas as pd
from labkit.live.scoring import describe_score, make_predictions
from labkit.params_file import load_params

FACTS = {"classes": ["no", "yes"], "positive": "yes", "metric": "roc_auc", "metrics": {"roc_auc": 0.9}}
CHANCES = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])


def test_threshold_by_costs_decides() -> None:
    assert list(make_predictions(CHANCES, FACTS)["prediction"]) == ["no", "no", "yes"]
    assert list(make_predictions(CHANCES, {**FACTS, "threshold": 0.3})["prediction"]) == ["no", "yes", "yes"]
    assert list(make_predictions(CHANCES, {**FACTS, "threshold": 0.3})) == [
        "prediction",
        "probability_no",
        "probability_yes",
    ]


def test_known_answers_are_scored_beside_the_holdout() -> None:
    params = load_params("breast_cancer")
    tree = params.model_dump(mode="json")
    tree["data"]["target"] |= {"column": "late", "positive": "yes"}
    params = type(params).model_validate_json(json.dumps(tree))
    rows = pd.DataFrame({"late": ["no", "yes", "yes"]})
    assert describe_score(rows, CHANCES, FACTS, params) == "\nroc_auc on these rows 1, on the holdout 0.9: +0.1"
    assert describe_score(rows.assign(late=["no", None, "yes"]), CHANCES, FACTS, params) == ""
    assert describe_score(rows.drop(columns="late"), CHANCES, FACTS, params) == ""
    assert "cannot be scored" in describe_score(rows.assign(late="perhaps"), CHANCES, FACTS, params)
