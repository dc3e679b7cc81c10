"""The model card: computed, and naming where the model is weak."""

import numpy as np
from labkit.model.release.model_card import list_periods, list_slices, list_threshold
from labkit.params.evaluation import Costs
from labkit.params.subject import Subject

from tests.model.release.cards import write_card


def test_card_of_a_regression() -> None:
    card = write_card("regression", owner="Ada", intended_use="To plan.")
    for line in (
        "# What is `y` for this row?",
        "Model card of `test`.",
        "**Predicts** `y` (regression) with Ridge.",
        "**Intended use.** To plan.",
        "**Owner.** Ada",
        "| training | 1,200 | fitting, and comparing candidates by cross-validation |",
        "Split: random.",
        "| metric | model | 95 % interval | dummy |",
        "| mae | 43.21 | 39 to 47 | 62.5 |",
        "- passed: better. by 1.",
        "- **failed**: not worse. by 2.",
        "- The holdout has only 4 rows: the intervals above are wide for that reason.",
        "| random forest | 2,100,000 |",
        "- Values outside of 1.03 to 3.97 were rare; predictions there are extrapolations.",
        "- `x` is missing in 25 % of the rows; the model imputes them.",
    ):
        assert line in card.splitlines()
    assert "ONNX" not in card


def test_card_of_a_classification_without_a_graph() -> None:
    card = write_card("classification", reason="differs by 0.1", rows=60)
    for line in (
        "**Predicts** `state` (classification, class of interest `ill`) with Ridge.",
        "**Intended use.** Not stated: set `deploy.intended_use`.",
        "**Owner.** Not stated: set `deploy.owner`.",
        "Split: random, classes of `state` in equal shares.",
        "- Of the rarest class, `ill`, the holdout has 60 rows.",
        "- No ONNX graph: differs by 0.1. The scikit-learn pipeline is served.",
    ):
        assert line in card.splitlines()
    assert "has only" not in card


def test_card_speaks_of_what_is_declared() -> None:
    words = {"question": "Will this patient fall ill?", "row": "patient"}
    card = write_card("classification", rows=60, labels={"ill": "sick"}, words=words)
    assert card.splitlines()[0] == "# Will this patient fall ill?"
    assert "| part | patients | use |" in card
    assert "class of interest sick (`ill`)" in card
    assert "- Of the rarest class, sick (`ill`), the holdout has 60 patients." in card
    costs, flights = Costs(false_positive=1, false_negative=4, unit="EUR"), Subject("", "flight", "flights")
    found = {"threshold": 0.2, "cost": {"value": 0.5}, "always_yes": 0.8, "always_no": 0.9}
    found |= {"acted": 0.3, "recall": 0.7, "precision": 0.4}
    threshold = "".join(list_threshold({"threshold": found}, costs, flights))
    assert "a false positive costs 1 and a false negative 4 EUR;" in threshold
    assert "It costs 0.5 EUR per flight;" in threshold


def test_card_is_the_same_every_time() -> None:
    assert write_card("regression") == write_card("regression")
    assert np.char.count(write_card("regression"), "nan") == 0


def test_card_reports_threshold_periods_and_slices() -> None:
    costs = Costs(false_positive=1, false_negative=4)
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    found = {"threshold": 0.2, "cost": interval, "always_yes": 0.8, "always_no": 0.9}
    lines = list_threshold({"threshold": found | {"acted": 0.3, "recall": 0.7, "precision": 0.4}}, costs)
    assert "At a probability of **0.2** or more, if a false positive costs 1" in "".join(lines)
    assert "acts on 30.0 % of the rows, with a recall of 70.0 %" in "".join(lines)
    assert "the cheaper of always and never acting costs 0.8." in "".join(lines)
    assert list_threshold({"threshold": {}}, costs) == list_threshold({}, None) == []
    period = {"rows": 1200, **interval, "prediction": 0.3, "true": 0.25}
    line = "| 2013-09 | 1,200 | 0.5 | 0.4 to 0.6 | 0.3 | 0.25 |"
    assert line in list_periods({"metric": "roc_auc", "by_period": {"2013-09": period}})
    assert list_periods({"by_period": {}}) == []
    part = {"slice": "a = x|y", "rows": 30, "loss": 2.0, "elsewhere": 1.0, "prediction": 0.3, "true": 0.5}
    assert "| `a = x¦y` | 30 | 2 | 1 | 0.3 | 0.5 |" in list_slices({"worst_slices": [part]})
    assert "No group of rows stands out beyond random variation." in list_slices({"worst_slices": []})
