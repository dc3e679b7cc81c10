"""Checks of explanations: each can pass and fail."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.checks import REGISTER
from labkit.model.explanation.explanation_checks import (
    check_explained_predictions,
    check_group_columns,
    check_precision,
)
from labkit.model.explanation.shapley import Explanation, explain_rows
from labkit.params.evaluation import Fairness
from labkit.params.subject import Subject
from labkit.params.tables import ColumnMeaning

RANDOM = np.random.default_rng(0)
ROWS = {"a": RANDOM.normal(size=30), "b": RANDOM.normal(size=30)}
EVALUATED = (ROWS["a"] * ROWS["b"])[:, None]


def explain(n_background: int) -> list[Explanation]:
    background = {name: np.random.default_rng(1).normal(size=n_background) for name in ROWS}
    return explain_rows(lambda columns: columns["a"] * columns["b"], ROWS, background)


def test_sums_are_those_of_the_evaluated_model() -> None:
    explained = explain(20)
    assert check_explained_predictions(explained, EVALUATED, tolerance=1e-5).status == "passed"
    other = EVALUATED + np.where(np.arange(30) == 7, 2e-4, 0)[:, None]
    found = check_explained_predictions(explained, other, tolerance=1e-5)
    assert found.status == "issue"
    assert "30 rows" in found.evidence
    exact = [replace(one, base=one.prediction, contributions=0 * one.contributions) for one in explained]
    same = np.array([one.prediction for one in exact])
    assert "add up to the prediction within 0, and it differs from the evaluated one by at most 0" in (
        check_explained_predictions(exact, same, tolerance=1e-5).evidence
    )
    wrong = [replace(explained[0], contributions=explained[0].contributions + 1e-4), *explained[1:]]
    assert check_explained_predictions(wrong, EVALUATED, tolerance=1e-5).status == "issue"


def test_differences_are_printed_in_the_unit_of_the_target() -> None:
    """The limit is relative to the largest prediction; what is printed is the difference itself."""
    explained = explain(20)
    numbers, probabilities = 1200 / np.abs(EVALUATED).max(), 0.9 / np.abs(EVALUATED).max()
    large, small = (
        [
            replace(one, **{name: getattr(one, name) * scale for name in ("base", "prediction", "contributions")})
            for one in explained
        ]
        for scale in (numbers, probabilities)
    )
    other = EVALUATED * numbers + np.where(np.arange(30) == 7, 0.002, 0)[:, None]
    subject = Subject("", columns={"delay": ColumnMeaning(unit="minutes")})
    found = check_explained_predictions(large, other, tolerance=1e-5, subject=subject, target="delay")
    assert found.status == "passed"
    assert found.evidence.endswith(
        "it differs from the evaluated one by at most 2e-03 (minutes), where the largest is 1,200 (minutes)"
    )
    probability = check_explained_predictions(small, EVALUATED * probabilities + 1e-7, tolerance=1e-5)
    assert probability.evidence.endswith("it differs from the evaluated one by at most 1e-07")


def test_precision_depends_on_the_errors() -> None:
    explained = explain(20)
    vague = [replace(one, errors=one.errors + 10) for one in explained]
    assert check_precision(vague).status == "warning"
    assert "compared with 20 background rows" in check_precision(vague).evidence
    assert check_precision([replace(one, errors=one.errors * 0) for one in explained]).status == "passed"
    assert check_precision(explain(1)).status == "skipped"


@pytest.mark.parametrize(
    ("columns", "status", "evidence"),
    [
        (("sex",), "warning", "sex at birth contributes 11.4 on average, 30 % of all contributions"),
        (("region",), "passed", "place of residence: no input of the model; related columns may stand in for it"),
        (None, "not applicable", "no columns are declared in `evaluation.gate.fairness`"),
    ],
)
def test_columns_of_groups_among_the_inputs(columns: tuple[str, ...] | None, status: str, evidence: str) -> None:
    fairness = None if columns is None else Fairness(columns=columns, most_difference=0.1)
    params: Any = SimpleNamespace(evaluation=SimpleNamespace(gate=SimpleNamespace(fairness=fairness)))
    importance = pd.DataFrame({"column": ["bmi", "sex"], "size": [26.6, 11.4], "share": [0.7, 0.3]})
    meanings = {"sex": "sex at birth", "region": "place of residence"}
    subject = Subject("", columns={name: ColumnMeaning(description=words) for name, words in meanings.items()})
    found = check_group_columns(params, importance, subject=subject)
    assert (found.status, found.evidence) == (status, evidence)


def test_codes_are_registered_for_the_page() -> None:
    assert {"LK901", "LK902", "LK903"} <= {*REGISTER}
