"""The model card: computed, and naming where the model is weak."""

import numpy as np
import pandas as pd
from labkit.checks import CheckResult
from labkit.features.row_features import RowFeatures
from labkit.model.release.performance import list_performance, list_periods, list_slices, list_threshold
from labkit.params.evaluation import Costs
from labkit.params.subject import Subject
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from tests.model.release.cards import write_card


def test_card_of_a_regression() -> None:
    card = write_card("regression", owner="Ada", intended_use="To plan.")
    for line in (
        "# What is `y` for this row?",
        "Model card of `test`.",
        "**Predicts** `y` (regression) with Ridge.",
        "**Intended use.** To plan.",
        "**Owner.** Ada",
        "## Quantitative analyses",
        "| `x` | number |  |",
        "**Out of scope.** Not stated: set `deploy.out_of_scope`.",
        "Not stated: set `deploy.ethical_considerations`.",
        "- Candidates were compared by **mae**: smaller is better. Reported too: no other metric.",
        "- The 95 % intervals come from resampling the holdout: 61 days.",
        "| holdout | 4 | the metrics of this card; never seen in training |",
        "| training | 1,200 | fitting, and comparing candidates by cross-validation |",
        "Split: random.",
        "| metric | model | 95 % interval | dummy |",
        "| mae | 43.2 | 39.0 to 47.0 | 62.5 |",
        "- ✓ better: by 1.",
        "- ✕ **failed:** not worse: by 2.",
        "- The holdout has only 4 rows: the intervals above are wide for that reason.",
        "| random forest | 2,100,000 |",
        "- The true values of the holdout are 1.03 to 3.97, from their 1 % to their 99 % quantile: errors beyond are measured "
        "on few rows.",
        "- `x` is missing in 25 % of the holdout rows; the model imputes it.",
    ):
        assert line in card.splitlines()
    assert "No ONNX" not in card


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
    found |= {"saving": {"value": 0.3, "low": -0.1, "high": 0.5}}
    found |= {"acted": 0.3, "recall": 0.7, "precision": 0.4}
    threshold = "".join(list_threshold({"threshold": found}, costs, flights))
    assert "a false positive costs 1 and a false negative 4 EUR;" in threshold
    assert "It costs 0.500 EUR per flight;" in threshold
    assert "It is not shown to save anything: 0.30 EUR per flight, interval -0.10 to 0.50." in threshold


def test_card_says_how_frequent_the_class_of_interest_is() -> None:
    found = {"true_values": {"share": 0.37, "positive": "ill"}}
    card = write_card("classification", labels={"ill": "sick"}, run={"metrics": found})
    assert "- Measured on 4 holdout rows (37 % of them sick), and compared there with" in card


def test_card_is_the_same_every_time() -> None:
    assert write_card("regression") == write_card("regression")
    assert np.char.count(write_card("regression"), "nan") == 0


def test_card_reports_threshold_periods_and_slices() -> None:
    costs = Costs(false_positive=1, false_negative=4)
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    found = {"threshold": 0.2, "cost": interval, "always_yes": 0.8, "always_no": 0.9}
    found |= {"saving": {"value": 0.3, "low": 0.2, "high": 0.4}, "metrics": {"f1": interval}}
    lines = list_threshold({"threshold": found | {"acted": 0.3, "recall": 0.7, "precision": 0.4}}, costs)
    assert "At a probability of **0.2** or more, if a false positive costs 1" in "".join(lines)
    flagged = (
        "this flags 30.0 % of the rows, catches 70.0 % of the rows of the class of interest and is right in 40.0 %"
    )
    assert f"On the holdout {flagged} of the rows it flags." in "".join(lines)
    late = list_threshold(
        {"threshold": found | {"acted": 0.3, "recall": 0.7, "precision": 0.4}}, costs, positive="late"
    )
    assert "catches 70.0 % of the rows of class `late` and" in "".join(late)
    assert "; acting on every row or on none, whichever is cheaper, costs 0.800." in "".join(lines)
    assert "So it saves 0.30 per row, interval 0.20 to 0.40." in "".join(lines)
    assert "| f1 | 0.500 | 0.400 to 0.600 |" in lines
    assert list_threshold({"threshold": {}}, costs) == list_threshold({}, None) == []
    period = {"rows": 1200, **interval, "prediction": 0.3, "true": 0.25}
    line = "| 2013-09 | 1,200 | 0.500 | 0.400 to 0.600 | 0.300 | 0.250 |"
    assert line in list_periods({"metric": "roc_auc", "by_period": {"2013-09": period}})
    assert list_periods({"by_period": {}}) == []
    part = {"slice": "a = x|y", "rows": 30, "loss": 2.0, "elsewhere": 1.0, "prediction": 0.3, "true": 0.5}
    assert "| `a = x¦y` | 30 | 2 | 1 | 0.300 | 0.500 |" in list_slices({"worst_slices": [part]})
    assert "elsewhere are the others that are in no group above." in "".join(list_slices({"worst_slices": [part]}))
    assert "No group of rows stands out beyond random variation." in list_slices({"worst_slices": []})


def find_section(card: str, title: str) -> list[str]:
    """Return the lines below one heading of the second level."""
    return card.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0].splitlines()


def test_card_has_the_nine_sections_of_model_cards_in_order() -> None:
    headings = [line for line in write_card("classification").splitlines() if line.startswith("## ")]
    assert headings == [
        "## Model details",
        "## Intended use",
        "## Factors",
        "## Metrics",
        "## Evaluation data",
        "## Training data",
        "## Quantitative analyses",
        "## Ethical considerations",
        "## Caveats and recommendations",
    ]


def test_card_shows_what_deploy_declares() -> None:
    card = write_card("regression", out_of_scope="Other towns.", ethical_considerations="Rows are people.")
    assert "**Out of scope.** Other towns." in find_section(card, "Intended use")
    assert "Rows are people." in find_section(card, "Ethical considerations")


def test_card_shows_the_days_of_each_part_in_the_declared_zone() -> None:
    parts = {
        "training": {"rows": 7, "first": "2013-01-01T08:15:00+00:00", "last": "2013-08-01T00:50:00+00:00"},
        "holdout": {"rows": 4, "first": "2013-09-01T07:16:00+00:00", "last": "2013-11-01T01:59:00+00:00"},
    }
    time = {"predict_at": "asked", "outcome_known_at": "known", "zone": "America/New_York"}
    split = {"parts": parts, "method": "time", "embargoed": {"training": 56, "validation": 31}}
    periods = {month: {"rows": 2, "value": 1, "low": 0, "high": 2, "prediction": 1, "true": 1} for month in "ab"}
    card = write_card("regression", data={"time": time}, run={"split": split, "metrics": {"by_period": periods}})
    training, holdout = find_section(card, "Training data"), find_section(card, "Evaluation data")
    assert "| part | rows | first day (America/New_York) | last day | use |" in training
    assert any(line.startswith("| training | 7 | 2013-01-01 | 2013-07-31 | fitting") for line in training)
    assert any(line.startswith("| holdout | 4 | 2013-09-01 | 2013-10-31 | ") for line in holdout)
    assert "87 rows left out: the outcome was known only after the next part had begun." in training
    assert "- Time: 2 periods, a to b (America/New_York)." in find_section(card, "Factors")


def test_card_folds_many_inputs_and_shows_their_meaning() -> None:
    rows = pd.DataFrame({f"x{number}": [1.0, 2.0, 3.0] for number in range(120)})
    many = make_pipeline(RowFeatures().fit(rows), Ridge())
    columns = {"x0": {"description": "body mass | index", "unit": "kg/m²"}}
    details = find_section(write_card("regression", run={"model": many}, data={"columns": columns}), "Model details")
    assert "<details><summary>120 raw columns</summary>" in details
    assert "| `x0` | number | body mass ¦ index (kg/m²) |" in details
    assert "… and 20 more: see `contract.json`." in details
    few = find_section(write_card("regression"), "Model details")
    assert "1 raw column:" in few
    assert not any("<details>" in line for line in few)


def test_card_names_the_groups_that_are_weaker() -> None:
    part = {"slice": "a = x", "rows": 30, "loss": 2.0, "elsewhere": 1.0, "prediction": 0.3, "true": 0.5}
    factors = find_section(write_card("regression", run={"metrics": {"worst_slices": [part]}}), "Factors")
    assert "- Groups of rows, by one input or two. With a higher mean loss than the others: `a = x`." in factors
    factors = find_section(write_card("regression", run={"metrics": {"worst_slices": []}}), "Factors")
    assert (
        "- Groups of rows, by one input or two. With a higher mean loss than the others: none beyond random variation."
        in factors
    )


def test_card_shows_checks_that_need_attention_and_why_others_are_muted() -> None:
    results = [("LK209", "warning", "gust"), ("LK205", "warning", "temp"), ("LK206", "passed", "by index")]
    checks = [CheckResult(code, status, evidence).to_dict() for code, status, evidence in results]
    failed = CheckResult("LK501", "issue", "no gain").to_dict()
    caveats = find_section(
        write_card(
            "regression",
            words={"checks": {"mute": {"LK205": "seasons\nof the year"}}},
            run={"split": {"checks": checks}, "metrics": {"checks": [failed]}},
        ),
        "Caveats and recommendations",
    )
    shown = [line for line in caveats if "(LK" in line]
    assert shown[0].startswith("- ✕ Gain over the dummy (LK501, issue): no gain. It must not be")
    assert shown[1].startswith("- ⚠ Open findings of the exploration (LK209, warning): gust. What looked wrong")
    assert shown[2] == "- 🔇 Drift between training and holdout (LK205): temp; muted: seasons of the year."
    assert len(shown) == 3
    (counts,) = [line for line in caveats if line.startswith("Checks of split, training, evaluation and release: ")]
    assert ": 1 issue, 1 warning, 2 passed, 1 muted. Features, explanation and the decision" in counts


def test_card_shows_the_checks_of_training_and_release() -> None:
    gap = CheckResult("LK402", "warning", "mae 1 on the rows that it was fitted on").to_dict()
    card = write_card("regression", run={"choice": {"checks": [gap]}})
    assert "- ⚠ Overfitting (LK402, warning): mae 1 on the rows that it was fitted on. It fits" in card
    assert "Checks of split, training, evaluation and release: 1 warning, 1 passed." in card


def test_card_names_each_metric_in_which_the_model_is_not_shown_to_be_better() -> None:
    better, doubtful = {"value": 2.0, "low": 1.0, "high": 3.0}, {"value": 2.0, "low": -1.0, "high": 5.0}
    unknown = {"value": 2.0, "low": None, "high": None}
    gains = {"plain_lightgbm": {"mae": better, "r2": doubtful, "rmse": unknown}, "dummy": {"mae": better}}
    caveats = find_section(write_card("regression", run={"metrics": {"gains": gains}}), "Caveats and recommendations")
    assert not any("worse" in line for line in caveats)
    assert [line for line in caveats if "not shown" in line] == [
        "- It is not shown to be better than LightGBM with its defaults on the raw columns, in r2 (-1.0 to 5.0); rmse (none: "
        "too few independent rows). In brackets: 95 % interval of the gain on the same rows."
    ]


def test_card_says_where_the_model_is_worse_than_a_baseline() -> None:
    worse, doubtful = {"value": -0.2, "low": -0.25, "high": -0.15}, {"value": 0.01, "low": -0.00005, "high": 0.03}
    gains = {"dummy": {"r2": worse, "rmse": doubtful, "mae": {"value": 1.0, "low": 0.5, "high": 1.5}}}
    caveats = find_section(write_card("regression", run={"metrics": {"gains": gains}}), "Caveats and recommendations")
    dummy, after = "the dummy, which always predicts the constant that is best for the metric", "In brackets: 95 %"
    assert [line.split(" interval")[0] for line in caveats if "dummy" in line] == [
        f"- It is worse than {dummy}, in r2 (-0.250 to -0.150). {after}",
        f"- It is not shown to be better than {dummy}, in rmse (-0.00005 to 0.03000). {after}",
    ]


def test_card_says_how_many_rows_candidates_were_compared_on() -> None:
    words = {"training": {"most_rows": 500}}
    use = "drawn at random, comparing candidates by cross-validation"
    assert f"| training | 1,200 | fitting; on 500 of them, {use} |" in write_card("regression", words=words)
    time = {"predict_at": "asked", "outcome_known_at": "known", "zone": "UTC"}
    times = {"first": "2013-01-01T08:15:00+00:00", "last": "2013-08-01T00:50:00+00:00"}
    split = {"parts": {"training": {"rows": 1200, **times}, "holdout": {"rows": 4, **times}}, "method": "time"}
    card = write_card("regression", words=words, data={"time": time}, run={"split": split})
    assert "| fitting; on the latest 500, comparing candidates by cross-validation |" in card


def test_card_names_the_period_in_which_probabilities_are_furthest_off() -> None:
    one = {"rows": 2, "value": 0.7, "low": 0.6, "high": 0.8}
    periods = {
        "2013-09": one | {"prediction": 0.16163, "true": 0.13236}, "2013-10": one | {"prediction": 0.165, "true": 0.168}
    }  # fmt: skip
    card = write_card("classification", run={"metrics": {"by_period": periods}})
    assert (
        "- In the period with the largest bias, 2013-09, the mean probability was too high: 0.162 against 0.132."
        in card
    )


def test_a_metric_has_one_name_also_if_the_holdout_lacks_a_class() -> None:
    three = DummyClassifier().fit([[0]] * 3, ["dead", "ill", "well"])
    one = {"value": 2.0, "low": -1.0, "high": 5.0}
    metrics = {"metric": "f1", "holdout": {"f1": one}, "dummy": {"f1": 0.1}, "gains": {"dummy": {"f1": one}}}
    model = make_pipeline(RowFeatures().fit(pd.DataFrame({"x": [1.0]})), three)
    card = write_card("classification", run={"model": model, "metrics": metrics})
    assert "\n| f1 | 2.00 | -1.00 to 5.00 | 0.10 |\n" in card
    assert ", in f1 (-1.0 to 5.0). In brackets" in card


def test_metrics_of_classes_name_their_threshold_and_the_dummy_is_explained() -> None:
    one = {"value": 0.9, "low": 0.8, "high": 0.95}
    metrics = {"metric": "f1", "confidence": 0.95, "holdout": {"f1": one, "roc_auc": one}}
    lines = list_performance(metrics | {"dummy": {"f1": 0.1, "roc_auc": 0.5}}, n_classes=2)
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| f1 at a threshold of 0.5", "| roc_auc"]
    described = "and compared there with the dummy, which always predicts the constant that is best for the metric."
    assert described in write_card("regression")


def test_card_warns_of_a_class_only_if_it_has_few_rows() -> None:
    assert "Of the rarest class" in write_card("classification", rows=199)
    assert "Of the rarest class" not in write_card("classification", rows=200)
