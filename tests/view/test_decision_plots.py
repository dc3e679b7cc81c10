"""Decisions: the matrix of the threshold in force, and what is said where the model is not better."""

import numpy as np
import pandas as pd
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.gate import list_not_better
from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import Subject
from labkit.view.decision_plots import describe_doubts, describe_scores, plot_decisions, summarize_doubts

PROBABILITIES = np.array([0.1, 0.3, 0.3, 0.6])
TWO = Predictions.from_proba(np.array([0, 1, 1, 1]), np.column_stack([1 - PROBABILITIES, PROBABILITIES]), (0, 1))


def test_matrix_is_of_the_threshold_in_force_beside_one_half() -> None:
    subject = Subject("", "flight", "flights", {"1": "late", "0": "on time"})
    figure = plot_decisions(TWO, "late", 0.2, subject=subject)
    assert "Of the late flights, 100 % are caught at 0.2, which is in force, and 33 % at 0.5" in figure.get_label()
    panels = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert panels == [
        ["1\n(100 %)", "0\n(0 %)", "0\n(0 %)", "3\n(100 %)"],
        ["1\n(100 %)", "0\n(0 %)", "2\n(67 %)", "1\n(33 %)"],
    ]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "threshold 0.2 (in force)",
        "threshold 0.5 (for comparison)",
    ]


def test_without_a_threshold_there_is_one_picture() -> None:
    assert "most probable class" in plot_decisions(TWO, "late", None).get_label()
    assert "too high" in plot_decisions(Predictions(np.arange(4.0), np.ones(4)), "price", None).get_label()


def test_every_metric_in_which_the_model_is_not_better_gets_a_sentence() -> None:
    better, alike, worse = Interval(0.2, 0.1, 0.3), Interval(0.01, -0.02, 0.04), Interval(-0.2, -0.3, -0.1)
    none = Interval(0.2, np.nan, np.nan)
    gains = {
        "plain LightGBM": {"roc_auc": better, "accuracy": alike, "f1": worse},
        "dummy": {"roc_auc": none, "accuracy": alike, "f1": better},
    }
    doubts = list_not_better(gains, 0.95, n_classes=2)
    assert describe_doubts(doubts, list(gains)) == [
        "In these metrics the model is not shown to be better than every baseline:",
        "- **`accuracy`**: not distinguishable from plain LightGBM: 0.010 better in accuracy at a threshold of 0.5, but "
        "the 95 % interval, -0.020 to 0.040, includes 0; not distinguishable from dummy: 0.010 better in accuracy at a "
        "threshold of 0.5, but the 95 % interval, -0.020 to 0.040, includes 0.",
        "- **`f1`**: worse than plain LightGBM in f1 at a threshold of 0.5 by 0.20, 95 % interval -0.30 to -0.10.",
        "- **`roc_auc`**: 0.2 better than dummy in roc_auc, without an interval: too few independent rows.",
    ]
    assert summarize_doubts(gains) == (
        "**Worse** than plain LightGBM in `f1`. Not shown to be better than plain LightGBM in `accuracy`; than dummy in "
        "`roc_auc` and `accuracy`."
    )
    assert summarize_doubts({"dummy": {"mae": better}}) == ""
    sure = list_not_better({"dummy": {"mae": better}}, 0.95, n_classes=0)
    words = "In every metric the model is better than dummy, with the whole interval."
    assert describe_doubts(sure, ["dummy"]) == [words]


def test_sentences_tell_other_rows_from_another_model() -> None:
    scores = pd.DataFrame({"flagged": [0.301, 0.233, 0.18], "mean probability": [0.22, 0.191, 0.172]})
    words = describe_scores(scores)
    assert "of which it flags 30.1 %. On other rows, those of the holdout, it flags 23.3 %." in words
    assert "flags 18.0 %: its mean probability there is 0.172, that of the first model 0.191." in words
