"""How a model treats groups: rates with intervals, and which of them can be measured."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.checks import REGISTER, CheckResult
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.fairness import Difference, measure_groups
from labkit.model.evaluation.gate import Check
from labkit.model.evaluation.gate_limits import check_fairness
from labkit.model.evaluation.method_checks import from_gate, list_group_checks
from labkit.model.evaluation.predictions import Predictions
from labkit.model.release.performance import list_groups
from labkit.params.evaluation import Fairness
from labkit.view.decision_plots import tabulate_groups

N_ROWS = 1000
RANDOM = np.random.default_rng(0)
GROUPS = pd.Series(
    np.array(["north", "south", None], object)[RANDOM.choice(3, N_ROWS, p=[0.5, 0.47, 0.03])], name="region"
)
Y_TRUE = (RANDOM.random(N_ROWS) < 0.5).astype(int)


def measure(predictions: Predictions) -> pd.DataFrame:
    drawn: dict[str, Any] = {"n_samples": 200, "confidence": 0.95, "seed": 0, "blocks": make_rows(N_ROWS)}
    return measure_groups(GROUPS, predictions, **drawn)


def take(found: pd.DataFrame, group: str, rate: str) -> Any:
    [line] = found[(found["group"] == group) & (found["rate"] == rate)].to_dict("records")
    return line


def test_rates_of_two_classes_are_those_of_each_group() -> None:
    is_hit = np.random.default_rng(1).random(N_ROWS) < np.where(GROUPS == "north", 0.9, 0.6)
    y_pred = np.where(is_hit, Y_TRUE, 1 - Y_TRUE)
    found = measure(Predictions(Y_TRUE, y_pred, np.eye(2)[y_pred], ("no", "yes"), 1))
    north = (GROUPS == "north").to_numpy()
    recall = take(found, "north", "true positive rate")
    assert recall["value"] == pytest.approx(y_pred[north & (Y_TRUE == 1)].mean())
    assert (recall["rows"], recall["counted"]) == (north.sum(), (north & (Y_TRUE == 1)).sum())
    assert recall["low"] < recall["value"] < recall["high"]
    # About the normal interval of a share.
    width = 2 * 1.96 * np.sqrt(recall["value"] * (1 - recall["value"]) / recall["counted"])
    assert recall["high"] - recall["low"] == pytest.approx(width, rel=0.25)
    assert take(found, "south", "selection rate")["value"] == pytest.approx(y_pred[GROUPS == "south"].mean())
    wrong = take(found, "south", "false positive rate")
    assert wrong["value"] == pytest.approx(y_pred[(GROUPS == "south").to_numpy() & (Y_TRUE == 0)].mean())
    assert take(found, "south", "accuracy")["value"] < 0.7 < 0.8 < take(found, "north", "accuracy")["value"]
    few = take(found, "missing", "accuracy")
    assert few["rows"] < 50
    assert np.isnan([few["value"], few["low"], few["high"]]).all()


def test_page_and_card_show_the_groups() -> None:
    y_true = np.random.default_rng(1).normal(size=N_ROWS)
    found = measure(Predictions(y_true, y_true + 1))
    assert {*found["rate"]} == {"mean error", "mean absolute error"}
    table = tabulate_groups(found)
    assert table["group"].tolist() == ["region: missing", "region: north", "region: south"]
    assert table["mean error"].tolist() == ["too few rows", "1.00 [1.00, 1.00]", "1.00 [1.00, 1.00]"]
    lines = found.replace(np.nan, None).to_dict("records")
    card = "\n".join(list_groups({"groups": lines, "confidence": 0.95}))
    assert "Rates of the holdout with 95 % intervals" in card
    assert f"| `region` | `north` | {int((GROUPS == 'north').sum())} | mean error | 1.00 [1.00, 1.00] |" in card
    assert list_groups({"groups": []}) == list_groups({}) == []


def test_difference_beyond_the_limit_is_an_issue_of_the_evaluation() -> None:
    name = "treats groups alike"
    checks = [Check(name, False, "…"), Check(name, True, "…", warning="perhaps"), Check(name, True, "…")]
    found = [one for check in checks for one in list_group_checks(check)]
    assert [one.status for one in found] == ["issue", "warning", "passed"]
    assert {one.code for one in found} == {"LK511"} <= {*REGISTER}


def test_consequence_of_a_difference_depends_on_whether_it_is_shown() -> None:
    limits = Fairness(columns=("region",), most_difference=0.1)

    def check(low: float, high: float) -> CheckResult:
        found = Difference("region", "mean error", ("north", 0.5), ("south", 0.2), Interval(0.3, low, high), 0)
        (result,) = list_group_checks(check_fairness([found], limits, confidence=0.95))
        return CheckResult.from_dict(result.to_dict())

    shown, unsure = check(0.2, 0.4), check(0.01, 0.5)
    assert (shown.status, unsure.status) == ("issue", "warning")
    assert "is shown to treat groups" in shown.consequence
    assert "refuses it" in shown.consequence
    assert "may be chance, and it does not block" in unsure.consequence
    assert "refuse" not in unsure.consequence
    assert from_gate(check_fairness([], limits, confidence=0.95)).code == "LK608"
    (small,) = list_group_checks(check_fairness([], limits, confidence=0.95))
    assert small.consequence.startswith("How the model treats groups with few rows is not known")
    assert list_group_checks(None) == []
