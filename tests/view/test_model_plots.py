import numpy as np
import pandas as pd
import pytest
from labkit.model.evaluation.blocks import Blocks, make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import GENERIC
from labkit.view import model_plots, style

BLOCKS = Blocks(np.repeat([0, 1], 40), "day")

RANDOM = np.random.default_rng(0)
Y_TRUE = RANDOM.integers(0, 2, 200)
PROBABILITIES = np.clip(0.5 + (Y_TRUE - 0.5) * 0.4 + RANDOM.normal(0, 0.2, 200), 0.01, 0.99)
TWO = Predictions.from_proba(Y_TRUE, np.column_stack([1 - PROBABILITIES, PROBABILITIES]), ("no", "yes"), 1)
THREE = Predictions.from_proba(RANDOM.integers(0, 3, 200), RANDOM.dirichlet([1, 1, 1], 200), (10, 20, 30), 2)
NUMBERS = Predictions(np.arange(50.0), np.arange(50.0) + RANDOM.normal(0, 3, 50))
MEAN = Predictions(np.arange(50.0), np.full(50, 24.5))
PERFECT = Predictions(np.arange(50.0), np.arange(50.0))
EACH = pytest.mark.parametrize("predictions", [TWO, THREE, NUMBERS, MEAN, PERFECT])


def is_drawn(figure: style.Figure) -> bool:
    return style.save_svg(figure).startswith("<svg")


@EACH
def test_curves_are_drawn_for_either_task(predictions: Predictions) -> None:
    assert is_drawn(model_plots.plot_curves({"model": predictions, "dummy": predictions}))


@EACH
def test_calibration_is_drawn_for_either_task(predictions: Predictions) -> None:
    assert is_drawn(model_plots.plot_calibration(predictions, "price", blocks=make_rows(len(predictions.y_true))))


@EACH
def test_mistakes_are_drawn_for_either_task(predictions: Predictions) -> None:
    assert is_drawn(model_plots.plot_mistakes(predictions, "price"))


def test_roc_curve_ends_where_it_must_and_names_its_area() -> None:
    figure = model_plots.plot_curves({"model": TWO})
    curve = figure.axes[0].lines[0]
    assert (curve.get_xdata()[0], curve.get_ydata()[-1]) == (0, 1)
    perfect = Predictions.from_proba(Y_TRUE, np.column_stack([1 - Y_TRUE, Y_TRUE]).astype(float), ("no", "yes"), 1)
    assert "ROC AUC 1:" in str(model_plots.plot_curves({"model": perfect}).get_label())


def test_error_curve_shows_how_far_off_half_of_the_rows_are() -> None:
    predictions = Predictions(np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0]))
    label = str(
        model_plots.plot_curves({"model": predictions, "plain LightGBM": predictions, "dummy": predictions}).get_label()
    )
    assert "Half of the rows are predicted within 2.5, by plain LightGBM within 2.5, by dummy within 2.5." in label


def test_confusion_counts_mistakes_by_class() -> None:
    predictions = Predictions.from_proba(
        np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]]), ("no", "yes")
    )
    figure = model_plots.plot_mistakes(predictions, "late")
    assert "1 mistake in 4 rows" in str(figure.get_label())
    labels = [artist.get_text() for artist in figure.axes[0].texts]
    assert labels == ["1  (50 %)", "1  (50 %)", "0  (0 %)", "2  (100 %)"]


@pytest.mark.parametrize(("shift", "words"), [(2.0, "2 too high"), (-3.0, "3 too low")])
def test_residuals_show_to_which_side_predictions_lean(shift: float, words: str) -> None:
    predictions = Predictions(np.arange(10.0), np.arange(10.0) + shift)
    assert words in str(model_plots.plot_mistakes(predictions, "price").get_label())


def test_calibrated_probabilities_lie_on_the_line() -> None:
    probabilities = np.repeat([0.1, 0.5, 0.9], 1000)
    y_true = np.concatenate([np.arange(1000) < 1000 * probability for probability in (0.1, 0.5, 0.9)]).astype(int)
    predictions = Predictions.from_proba(y_true, np.column_stack([1 - probabilities, probabilities]), ("no", "yes"))
    assert "is 0 away from its prediction" in str(
        model_plots.plot_calibration(predictions, "late", blocks=make_rows(len(predictions.y_true))).get_label()
    )


def test_confusion_gives_no_share_of_a_class_without_rows() -> None:
    proba = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    predictions = Predictions.from_proba(np.array([0, 1, 1, 1]), proba, ("bike", "car", "cart"))
    [axes] = model_plots.plot_confusion(predictions, GENERIC).axes
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["1  (100 %)", "0  (0 %)", "0  (0 %)", "1  (33 %)", "2  (67 %)", "0  (0 %)", "0", "0", "0"]


def make_leaderboard() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rank": [1, 2, 3, 4],
            "model": ["linear", "lightgbm", "dummy", "broken"],
            "roc_auc": [0.91, 0.9, 0.5, np.nan],
            "roc_auc_std": [0.01, 0.02, 0.0, np.nan],
            "error": ["", "", "", "ValueError: no"],
        }
    )


def test_leaderboard_names_the_best_and_the_failed() -> None:
    figure = model_plots.plot_leaderboard(make_leaderboard(), "roc_auc")
    assert is_drawn(figure)
    assert "All with their defaults; best: linear with 0.910." in str(figure.get_label())
    assert "Failed: broken." in str(figure.get_label())


def test_a_single_candidate_is_not_the_best_of_all() -> None:
    figure = model_plots.plot_leaderboard(make_leaderboard().head(1), "roc_auc")
    assert "With its defaults, linear has 0.910." in str(figure.get_label())


def test_a_far_dummy_does_not_squeeze_the_candidates() -> None:
    far = model_plots.plot_leaderboard(make_leaderboard(), "roc_auc").axes[0]
    assert far.get_xlim()[0] > 0.8
    assert "← 0.500" in [artist.get_text() for artist in far.texts]
    near = make_leaderboard().replace({"roc_auc": {0.5: 0.88}})
    assert not [
        artist for artist in model_plots.plot_leaderboard(near, "roc_auc").axes[0].texts if "←" in artist.get_text()
    ]


def test_intervals_stand_above_those_of_the_dummy() -> None:
    metrics = {"mae": Interval(3.0, 2.5, 3.5), "r2": Interval(0.5, 0.4, 0.6), "rmse": Interval(4.0, 3.0, 5.0)}
    figure = model_plots.plot_intervals({"model": metrics, "dummy": metrics}, n_rows=80, confidence=0.9, blocks=BLOCKS)
    assert is_drawn(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["mae ↓", "r2 ↑", "rmse ↓"]
    assert "90 % intervals, resampling 2 days" in str(figure.get_label())
    assert "mae 3, r2 0.5 and rmse 4" in str(figure.get_label())
