"""What a threshold saves, by hand: against plain LightGBM, and day by day."""

import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation.blocks import DAY, Blocks, make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.by_period import describe_spread, summarise_spread
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.savings import describe_declared_costs, describe_savings, evaluate_savings, summarise_days
from labkit.model.evaluation.slices import find_worst_slices
from labkit.model.evaluation.threshold import evaluate_threshold
from labkit.params.evaluation import Costs
from labkit.params.subject import Subject

COSTS = Costs(false_positive=1, false_negative=4, unit="points")
FLIGHTS = Subject("", "flight", "flights")
N = 700


def predict(scores: np.ndarray, y_true: np.ndarray) -> Predictions:
    """Return predictions of two classes with the given probabilities of the second."""
    return Predictions.from_proba(y_true, np.column_stack([1 - scores, scores]), ("on time", "late"))


def test_plain_lightgbm_acts_from_its_own_threshold() -> None:
    """It orders the rows as well as the model but with other probabilities, so with its own threshold both cost alike."""
    random = np.random.default_rng(0)
    y_true = random.integers(0, 2, N)
    scores = np.clip(0.25 * y_true + 0.5 * random.random(N), 0, 1)
    ours, shifted = predict(scores, y_true), predict(scores / 2, y_true)
    blocks = make_rows(N)
    draws = {"n_samples": 100, "confidence": 0.95, "seed": 0, "blocks": blocks}
    outcome = evaluate_threshold(ours, 0.25, COSTS, **draws)  # type: ignore[arg-type]
    found = evaluate_savings(ours, outcome, COSTS, plain=(shifted, shifted), **draws)  # type: ignore[arg-type]
    assert found["plain_lightgbm"]["threshold"] < 0.2
    assert found["plain_lightgbm"]["saving"]["value"] == pytest.approx(
        found["plain_lightgbm"]["cost"] - outcome.cost.value
    )
    worse = predict(random.random(N), y_true)
    lost = evaluate_savings(ours, outcome, COSTS, plain=(worse, worse), **draws)  # type: ignore[arg-type]
    assert lost["plain_lightgbm"]["saving"]["low"] > 0
    (line,) = describe_savings(lost, COSTS, FLIGHTS)
    assert " points per flight; against it the model saves " in line
    assert "days" not in found


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((0.1, 0.05, 0.2), "saves 0.100 [0.050, 0.200]"),
        ((-0.1, -0.2, -0.05), "costs more: 0.100 [0.050, 0.200]"),
        ((0.1, -0.05, 0.2), "is not shown to save anything: 0.100 [-0.050, 0.200]"),
    ],
)
def test_what_it_costs_more_is_positive_and_has_a_unit(ends: tuple[float, float, float], words: str) -> None:
    plain = {"threshold": 0.2, "cost": 1.0, "saving": Interval(*ends).to_dict()}
    (line,) = describe_savings({"rows": 9, "plain_lightgbm": plain}, COSTS, FLIGHTS)
    assert line.endswith(f"; against it the model {words} points per flight.")


def test_a_saving_of_few_days_is_told_apart() -> None:
    codes = np.repeat(np.arange(20), 10)
    saved = np.where(codes < 5, 3.0, -0.1)
    days = summarise_days(saved, Blocks(codes, DAY))
    assert days == {
        "days": 20,
        "saving_days": 5,
        "most_days": 5,
        "share": pytest.approx(150 / 135),
        "others": pytest.approx(-0.1),
    }
    (line,) = describe_savings({"rows": 200, "days": days}, COSTS, FLIGHTS)
    assert line.startswith(
        "Against acting on every flight or on none, whichever is cheaper, it saves on 5 of 20 days: "
    )
    assert line.endswith("from 5 of them, and the other 15 days lose 0.1 points per flight.")
    assert describe_savings({"rows": 200, "days": summarise_days(-saved, Blocks(codes, DAY))}, COSTS, FLIGHTS) == []


def test_relative_costs_are_said_to_be_no_money() -> None:
    assert "no sum of money" in describe_declared_costs(COSTS)
    assert "no sum of money" not in describe_declared_costs(COSTS.model_copy(update={"unit": "EUR"}))


def test_the_best_and_the_worst_period_are_named_by_metric_and_bias() -> None:
    periods = pd.DataFrame(
        {
            "period": ["2013-08 (1 day)", "2013-09", "2013-10", "2013-11"],
            "true": [0.11, 0.2, 0.3, 0.1],
            "prediction": [0.25, 0.2, 0.25, 0.1],
            "model": [0.75, 0.6, 0.8, np.nan],
        }
    )
    assert describe_spread(summarise_spread(periods, "month"), "roc_auc") == (
        "By month, its roc_auc is between 0.600 in 2013-09 and 0.800 in 2013-10, its mean prediction minus the mean "
        "outcome between -0.050 in 2013-10 and +0.140 in 2013-08 (1 day)."
    )
    assert describe_spread(summarise_spread(periods.head(1), "month"), "roc_auc") == ""
    three = describe_spread(summarise_spread(periods, "month", n_classes=3), "roc_auc")
    assert ", its mean confidence minus the fraction that is right between -0.050 in 2013-10 and " in three
    two = describe_spread(summarise_spread(periods, "month", n_classes=2), "roc_auc")
    assert ", its mean prediction minus the mean outcome between " in two


def test_groups_have_the_metric_of_their_rows_and_of_the_others() -> None:
    """A group may have a larger loss only because its outcomes are closer to even: the metric shows it."""
    random = np.random.default_rng(0)
    kind = random.choice(["calm", "wild"], N)
    signal = random.random(N)
    y_true = np.where(kind == "calm", signal > 0.95, random.random(N) < 0.5).astype(int)
    found = find_worst_slices(
        pd.DataFrame({"kind": kind}), predict(np.where(kind == "calm", signal**8, 0.5), y_true),
        most=3, confidence=0.95, blocks=make_rows(N), metric="roc_auc",
    )  # fmt: skip
    assert found["slice"].tolist() == ["kind = wild"]
    assert found["metric"].iloc[0] == 0.5
    assert found["metric_elsewhere"].iloc[0] > 0.9
