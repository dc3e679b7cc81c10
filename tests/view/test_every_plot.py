"""Every plot on values that tables bring: missing, infinite, one, none, one class, constant, negative, zero, huge.

A plot that cannot be drawn is a sentence that explains why; none fails, and none warns.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.data.quality.profile import profile_table
from labkit.data.stability import compute_drift
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.blocks import make_rows
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.by_period import describe_spread, summarise_spread
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.split_comparison import SplitComparison
from labkit.model.evaluation.threshold import Outcome
from labkit.model.training.ablation import Ablation
from labkit.model.training.calibration import Calibration
from labkit.params.evaluation import Costs
from labkit.params.subject import GENERIC
from labkit.params.tables import Data, Target
from labkit.params.training import BUILTIN_METRICS
from labkit.view import (
    curve_plots,
    data_plots,
    decision_plots,
    evaluation_plots,
    family_plots,
    heat_maps,
    model_plots,
    split_plots,
    style,
    time_plots,
    training_plots,
    widgets,
)

pytestmark = pytest.mark.slow

MODULES = (
    style, data_plots, heat_maps, time_plots, training_plots, model_plots, curve_plots, evaluation_plots,
    decision_plots, family_plots,
)  # fmt: skip
N = 40
RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(10, 3, N)
VALUES: dict[str, np.ndarray] = {
    "usual": NORMAL,
    "some missing": np.where(np.arange(N) % 3 == 0, np.nan, NORMAL),
    "all missing": np.full(N, np.nan),
    "some infinite": np.where(np.arange(N) % 5 == 0, np.inf, np.where(np.arange(N) % 7 == 0, -np.inf, NORMAL)),
    "all infinite": np.full(N, np.inf),
    "one": np.array([3.0]),
    "one missing": np.array([np.nan]),
    "two": np.array([3.0, 4.0]),
    "none": np.array([]),
    "constant": np.full(N, 7.5),
    "negative": -NORMAL - 50,
    "nearly equal negative": -50 - NORMAL / 1000,
    "zero": np.zeros(N),
    "negative zero": np.full(N, -0.0),
    "huge": NORMAL * 1e300,
    "largest": np.where(np.arange(N) % 2, 1.7e308, -1.7e308),
    "tiny": NORMAL * 1e-320,
    "large whole numbers": 2.0**60 + NORMAL.round() * 2.0**10,
    "whole numbers": NORMAL.round(),
}
LENGTHS = ("usual", "one", "two", "none")
"""One kind of values for each number of them: with these is drawn what depends on the number only."""
EACH = pytest.mark.parametrize("name", list(VALUES))
REGRESSION = Target(column="price", task="regression")
TWO = Target(column="kind", task="classification", positive="yes")
MANY = Target(column="kind", task="classification")
LABELS: dict[str, Callable[[int], list[Any]]] = {
    "two classes": lambda n: ["yes" if row % 3 else "no" for row in range(n)],
    "one class": lambda n: ["yes"] * n,
    "many classes": lambda n: [f"a long name of class {row % 30}" for row in range(n)],
    "classes of one row": lambda n: [f"c{row}" for row in range(n)],
    "missing classes": lambda n: [None if row % 4 == 0 else "yes" if row % 3 else "no" for row in range(n)],
    "numbers": lambda n: [row % 3 for row in range(n)],
}


def draw(figure: style.Figure, *, is_rendered: bool = False) -> None:
    """Draw a figure with all but its pixels, or with them, failing on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="AutoDateLocator was unable to pick")
        if is_rendered:
            assert style.save_svg(figure).startswith("<svg")
        with style.style():
            style.write_large_numbers(figure)
            figure.draw_without_rendering()
    assert "nan" not in str(figure.get_label())


def make_frame(values: np.ndarray, target: Target, labels: str = "two classes", *, days: float = 1.0) -> pd.DataFrame:
    """Return a table with the values in a column and, for regression, as the target."""
    n_rows = len(values)
    starts = pd.Timestamp("2024-01-01", tz="UTC")
    frame = pd.DataFrame(
        {
            "x": values,
            "y": values[::-1],
            "colour": pd.Series([("red", "green", "blue")[row % 3] for row in range(n_rows)], dtype="str"),
            "flag": np.arange(n_rows) % 2 == 0,
            "when": [starts + pd.Timedelta(days=days * row) for row in range(n_rows)],
            PREDICT_AT: [starts + pd.Timedelta(days=days * row) for row in range(n_rows)],
        }
    )
    frame[["when", PREDICT_AT]] = frame[["when", PREDICT_AT]].astype("datetime64[us, UTC]")
    if target.task == "regression":
        return frame.assign(price=values)
    return frame.assign(kind=pd.Series(LABELS[labels](n_rows), dtype=object if labels != "numbers" else "int64"))


def list_frames(name: str) -> Iterator[tuple[pd.DataFrame, Target]]:
    """Yield tables with one kind of values, for every task, and with every kind of classes beside usual values."""
    yield make_frame(VALUES[name], REGRESSION), REGRESSION
    yield make_frame(VALUES[name], TWO), TWO
    for labels in LABELS if name in ("usual", "one", "none") else ():
        yield make_frame(VALUES[name], MANY, labels), MANY
        if labels in ("one class", "missing classes"):
            yield make_frame(VALUES[name], TWO, labels), TWO


def make_data(target: Target) -> Data:
    """Return the declaration of a table split by time."""
    return Data.model_validate(
        {
            "tables": {"t": {"path": "t.csv", "times": ("when",)}},
            "time": {"predict_at": "when", "outcome_known_at": "when + minutes(1)"},
            "target": target.model_dump(),
            "split": {"method": "time", "validation_from": date(2024, 1, 20), "holdout_from": date(2024, 1, 30)},
        }
    )


def make_probabilities(name: str) -> np.ndarray:
    """Return the values as probabilities, which many kinds of values have in common."""
    return np.clip(np.nan_to_num(VALUES[name], nan=0.5, posinf=1, neginf=0), 0, 1)


def list_predictions(name: str, *, is_repeated: bool = True) -> Iterator[Predictions]:
    """Yield predictions of one kind of values, for every task; those of equal probabilities once for each length.

    Unless `is_repeated`, classes are left out where another kind of values before this one has the same probabilities.
    """
    values = VALUES[name]
    n_rows = len(values)
    yield Predictions(values, values)
    yield Predictions(values, np.zeros(n_rows))
    yield Predictions(np.arange(float(n_rows)), values)
    probabilities = make_probabilities(name)
    first = next(other for other in VALUES if np.array_equal(make_probabilities(other), probabilities))
    if first != name and not is_repeated:
        return
    for y_true in (np.arange(n_rows) % 2, np.zeros(n_rows, int), np.ones(n_rows, int)):
        yield Predictions.from_proba(y_true, np.column_stack([1 - probabilities, probabilities]), ("no", "yes"), 1)
        if name in LENGTHS:
            yield Predictions.from_proba(y_true, np.full((n_rows, 2), 0.5), ("no", "yes"), 1)
    for n_classes in (3, 30) if name in LENGTHS else ():
        spread = np.full((n_rows, n_classes), 1 / n_classes)
        yield Predictions.from_proba(np.arange(n_rows) % n_classes, spread, tuple(range(n_classes)), n_classes - 1)
        yield Predictions.from_proba(np.zeros(n_rows, int), spread, tuple(range(n_classes)), n_classes - 1)


@pytest.mark.slow
@EACH
def test_bars(name: str) -> None:
    bars = {f"bar {row}": value for row, value in enumerate(VALUES[name])}
    for as_share in (True, False):
        draw(
            style.plot_bars(bars, title="Bars", fact="All of them.", unit="kg", as_share=as_share, highlight=["bar 0"])
        )


@pytest.mark.slow
@EACH
def test_table_plots(name: str) -> None:
    for frame, target in list_frames(name):
        profile = profile_table(frame, target, seed=0)
        columns = data_plots.rank_columns(profile, target)
        # Classes and times are the same for all kinds of values of one length.
        is_new = name in LENGTHS or target is REGRESSION
        if is_new:
            draw(data_plots.plot_target(frame[target.column], task=target.task, positive=target.positive))
        draw(data_plots.plot_columns(frame, columns, target))
        draw(split_plots.plot_split({"training": frame, "holdout": frame.head(1), "aside": frame.head(0)}, target))
        if target is MANY:
            continue  # The plots below show no classes, or those of two.
        draw(data_plots.plot_missing(profile, most=5))
        draw(data_plots.plot_scores(profile, most=5, highlight=["x"]))
        for chosen in (["x"], ["when"], ["colour"], []) if is_new else (["x"],):
            draw(data_plots.plot_columns(frame, chosen, target))
        draw(data_plots.plot_correlation(frame, columns))
        if name in LENGTHS:
            draw(data_plots.plot_correlation(frame, []))


@EACH
def test_time_plots(name: str) -> None:
    # With classes these plots are the same for all kinds of values of one length, but for that of drift, which is as here.
    for target in (REGRESSION, TWO, MANY) if name in LENGTHS else (REGRESSION,):
        # Only to find the column of categories, which is the same however long the time is.
        profile = profile_table(make_frame(VALUES[name], target), target, seed=0)
        for days in (0.0, 1.0, 40.0):
            frame, data = make_frame(VALUES[name], target, days=days), make_data(target)
            draw(time_plots.plot_over_time(frame, data))
            draw(time_plots.plot_by_key(frame, profile, target))
            parts = {"training": frame, "validation": frame.head(1), "holdout": frame.tail(3), "aside": frame.head(0)}
            draw(time_plots.plot_split_over_time(parts, data))
            drift = compute_drift(frame, data, [column for column in frame if column != target.column])
            draw(time_plots.plot_drift(drift, most=5))


@EACH
def test_split_comparison(name: str) -> None:
    # One of each sign, of those that are infinite, and of missing ones.
    for value in {f"{np.sign(value)} {np.isfinite(value)}": value for value in map(float, VALUES[name])}.values():
        for one, other in ((value, 0.5), (0.5, value)):
            for difference in (Interval(value, value, value), Interval(0.1, np.nan, np.nan), Interval(0.0, -0.1, 0.1)):
                comparison = SplitComparison("r2", "time", one, other, 100, "", difference, "12 days")
                draw(time_plots.plot_split_comparison(comparison))
    draw(time_plots.plot_split_comparison(SplitComparison("r2", "random", reason="the split is random")))


@EACH
def test_training_plots(name: str) -> None:
    values = VALUES[name]
    for state in ("complete", "pruned", "failed"):
        frame = pd.DataFrame(
            {"trial": np.arange(len(values)), "state": [state] * len(values), "mae": values, "best": values}
        )
        draw(training_plots.plot_trials(frame, "mae", "lightgbm"))
    for predictions in list_predictions(name, is_repeated=False):
        if len(predictions.classes) == 2:
            both = {"before": predictions, "after": predictions, "log_loss_before": np.nan, "log_loss_after": 0.5}
            draw(training_plots.plot_calibration_change(Calibration(is_used=True, reason="it helps", **both)))
    draw(training_plots.plot_calibration_change(Calibration(is_used=False, reason="it does not help")))


@EACH
def test_leaderboard_and_intervals(name: str) -> None:
    values = VALUES[name]
    frame = pd.DataFrame(
        {
            "model": ["dummy", *(f"model {row}" for row in range(1, len(values)))][: len(values)],
            "mae": values,
            "mae_std": np.abs(values),
            "error": [""] * len(values),
        }
    )
    draw(model_plots.plot_leaderboard(frame, "mae"))
    draw(model_plots.plot_leaderboard(frame.assign(error="ValueError: no"), "mae"))
    blocks = make_rows(len(values))
    found = {name: Interval(value, value, value) for name, value in zip(BUILTIN_METRICS, values[:6], strict=False)}
    draw(
        model_plots.plot_intervals({"model": found, "dummy": found}, n_rows=len(values), confidence=0.95, blocks=blocks)
    )
    others = {key: Interval(0.5, 0.4, 0.6) for key in found}
    draw(
        model_plots.plot_intervals(
            {"model": others, "dummy": found}, n_rows=len(values), confidence=0.95, blocks=blocks
        )
    )
    draw(model_plots.plot_intervals({"model": found, "dummy": {}}, n_rows=len(values), confidence=0.95, blocks=blocks))


@EACH
def test_model_plots(name: str) -> None:
    for predictions in list_predictions(name, is_repeated=False):
        draw(model_plots.plot_curves({"model": predictions, "dummy": predictions}))
        draw(model_plots.plot_calibration(predictions, "price", blocks=make_rows(len(predictions.y_true))))
        draw(model_plots.plot_mistakes(predictions, "price"))
        draw(decision_plots.plot_decisions(predictions, "price", 0.3 if len(predictions.classes) == 2 else None))


@EACH
def test_holdout_plots(name: str) -> None:
    values = VALUES[name]
    for predictions in list_predictions(name):
        if len(predictions.classes) == 2:
            for value in [*values[:3], 0.5]:
                level = Interval(float(value), float(value), float(value))
                outcome = Outcome(0.5, level, float(value), 1.0, level, float(value), 0.0, 0.0, {})
                draw(evaluation_plots.plot_costs(predictions, outcome, Costs(false_positive=1, false_negative=5)))
                assert "nan" not in evaluation_plots.describe_threshold(outcome, predictions)
        assert "nan" not in evaluation_plots.describe_threshold(None, predictions)
    frame = pd.DataFrame({"period": [f"2024-{row:02d}" for row in range(len(values))], "rows": [50] * len(values)})
    frame = frame.assign(
        **dict.fromkeys(["true", "prediction", "low", "high", "model", "plain LightGBM", "dummy"], values)
    )
    draw(evaluation_plots.plot_periods(frame, "mae", unit="month", confidence=0.95))
    draw(evaluation_plots.plot_periods(frame.drop(columns="plain LightGBM"), "r2", unit="month", confidence=0.95))
    assert "nan" not in describe_spread(summarise_spread(frame, "month"), "mae")
    slices = pd.DataFrame({"slice": [f"x = {row}" for row in range(len(values))], "rows": [30] * len(values)})
    slices = slices.assign(**dict.fromkeys(["loss", "elsewhere", "low", "high"], values))
    draw(evaluation_plots.plot_slices(slices, loss="mean error", confidence=0.95))
    importance = pd.DataFrame({"column": [f"x{row}" for row in range(len(values))]})
    importance = importance.assign(loss=values, low=values, high=values)
    draw(evaluation_plots.plot_importance(importance, "mae", n_rows=10, most=15))
    lines = pd.DataFrame({"family": importance["column"], "features": 2}).assign(
        **dict.fromkeys(["with", "without", "gain", "low", "high"], values)
    )
    draw(family_plots.plot_ablation(Ablation("r2", 10, lines)))


@EACH
def test_explorer(name: str) -> None:
    for frame, target in list_frames(name):
        profile = profile_table(frame, target, seed=0)
        for column in ("x", "colour", "when") if name in LENGTHS or target is REGRESSION else ("x",):
            view = widgets.make_view(frame, profile, column, target, GENERIC)
            assert "<img" in view or "There is no column to draw." in view or "has a target value." in view


def test_every_public_plot_is_swept() -> None:
    source = inspect.getsource(inspect.getmodule(test_every_public_plot_is_swept))  # type: ignore[arg-type]
    missing = []
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            is_own = function.__module__ == module.__name__ and name.startswith("plot_")
            returns = inspect.signature(function).return_annotation
            if is_own and returns in (style.Figure, "Figure") and f".{name}(" not in source:
                missing.append(f"{module.__name__}.{name}")
    assert set(missing) <= {
        f"labkit.view.{name}"
        for name in (
            "curve_plots.plot_class_curves",
            "curve_plots.plot_error_curves",
            "model_plots.plot_confusion",
            "model_plots.plot_residuals",
        )
    }, "drawn by plot_curves and plot_mistakes"
