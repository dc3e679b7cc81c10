"""Figures of merit with intervals: how good predictions are, and how sure one can be of it.

Not whether that is good enough: that is `labkit.model.gate`. Intervals come from the percentile bootstrap (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): rows are drawn again with replacement.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn import metrics as sk

from labkit.params import Target

GREATER_IS_BETTER = {"roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "r2"}


@dataclass(frozen=True)
class Answers:
    """True answers and predictions of the same rows.

    Attributes
    ----------
    truth
        Shape (n_rows,): numbers, or codes 0..k-1 of `classes`.
    prediction
        Regression: shape (n_rows,), in the target's unit. Classification: probabilities, shape (n_rows, n_classes).
    classes
        Labels in the order of the codes; empty for regression.
    positive
        Code of the class of interest of a two-class target.
    """

    truth: np.ndarray
    prediction: np.ndarray
    classes: tuple[Any, ...] = ()
    positive: int = 1

    def take(self, rows: np.ndarray) -> "Answers":
        """Return the answers of some rows."""
        return Answers(self.truth[rows], self.prediction[rows], self.classes, self.positive)


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return it as plain data."""
        return asdict(self)


def make_answers(truth: Any, model: Any, features: Any, target: Target) -> Answers:
    """Let a fitted model predict rows and hold its predictions beside the truth.

    Parameters
    ----------
    truth
        The target's values, shape (n_rows,).
    model
        A fitted estimator or pipeline.
    features
        What the model takes, n_rows of it.
    """
    if target.task == "regression":
        return Answers(np.asarray(truth, dtype="float64"), np.asarray(model.predict(features), dtype="float64"))
    classes = tuple(model.classes_.tolist())
    codes = {label: code for code, label in enumerate(classes)}
    return Answers(
        np.array([codes[label] for label in np.asarray(truth).tolist()]),
        np.asarray(model.predict_proba(features), dtype="float64"),
        classes,
        find_positive(classes, target),
    )


def find_positive(classes: tuple[Any, ...], target: Target) -> int:
    """Return the code of the class of interest: the declared one, or the last."""
    return classes.index(target.positive) if target.positive in classes else len(classes) - 1


def compute_metric(name: str, answers: Answers) -> float:
    """Compute one figure.

    With more than two classes, areas are averaged one against the rest, each class alike, and F1 likewise.

    Raises
    ------
    KeyError
        The figure is not one of `labkit.params`.
    """
    compute = (CLASSIFICATION if answers.classes else REGRESSION)[name]
    return float(compute(answers))


def find_labels(answers: Answers) -> np.ndarray:
    """Return the code of the likeliest class of each row, shape (n_rows,)."""
    return np.argmax(answers.prediction, axis=1)


def compute_area(answers: Answers, compute: Callable[..., float]) -> float:
    """Compute an area under a curve, of the class of interest or averaged over all."""
    codes = [answers.positive] if len(answers.classes) == 2 else range(len(answers.classes))
    return float(np.mean([compute(answers.truth == code, answers.prediction[:, code]) for code in codes]))


def compute_f1(answers: Answers) -> float:
    """Compute F1 of the class of interest, or averaged over all classes."""
    if len(answers.classes) == 2:
        return float(
            sk.f1_score(answers.truth == answers.positive, find_labels(answers) == answers.positive, zero_division=0)
        )
    return float(sk.f1_score(answers.truth, find_labels(answers), average="macro", zero_division=0))


CLASSIFICATION: dict[str, Callable[[Answers], float]] = {
    "roc_auc": lambda a: compute_area(a, sk.roc_auc_score),
    "average_precision": lambda a: compute_area(a, sk.average_precision_score),
    "log_loss": lambda a: sk.log_loss(a.truth, a.prediction, labels=range(len(a.classes))),
    "accuracy": lambda a: sk.accuracy_score(a.truth, find_labels(a)),
    "balanced_accuracy": lambda a: sk.recall_score(a.truth, find_labels(a), average="macro", zero_division=0),
    "f1": compute_f1,
}
REGRESSION: dict[str, Callable[[Answers], float]] = {
    "r2": lambda a: sk.r2_score(a.truth, a.prediction),
    "mae": lambda a: sk.mean_absolute_error(a.truth, a.prediction),
    "rmse": lambda a: sk.root_mean_squared_error(a.truth, a.prediction),
    "median_absolute_error": lambda a: sk.median_absolute_error(a.truth, a.prediction),
}


def compute_metrics(answers: Answers) -> dict[str, float]:
    """Compute every figure of the task."""
    return {name: compute_metric(name, answers) for name in (CLASSIFICATION if answers.classes else REGRESSION)}


def draw_rows(answers: Answers, n_samples: int, *, seed: int) -> list[np.ndarray]:
    """Draw rows again with replacement, `n_samples` times, every class at least once."""
    random = np.random.default_rng(seed)
    n_classes = len(np.unique(answers.truth)) if answers.classes else 0
    drawn: list[np.ndarray] = []
    while len(drawn) < n_samples:
        rows = random.integers(0, len(answers.truth), len(answers.truth))
        # A draw without one of the classes has no area under its curve; it is drawn again.
        if not n_classes or len(np.unique(answers.truth[rows])) == n_classes:
            drawn.append(rows)
    return drawn


def compute_intervals(answers: Answers, *, n_samples: int, confidence: float, seed: int) -> dict[str, Interval]:
    """Compute every figure of the task with its bootstrap interval."""
    names = CLASSIFICATION if answers.classes else REGRESSION
    samples = [answers.take(rows) for rows in draw_rows(answers, n_samples, seed=seed)]
    return {
        name: make_interval(
            compute_metric(name, answers), [compute_metric(name, sample) for sample in samples], confidence
        )
        for name in names
    }


def compare_paired(
    name: str, first: Answers, second: Answers, *, n_samples: int, confidence: float, seed: int
) -> Interval:
    """Return by how much the first predictions are better than the second on the same rows; positive is better.

    Both are scored on the same draws, so what makes a draw easy or hard for both cancels out.
    """
    sign = 1.0 if is_greater_better(name) else -1.0
    gains = [
        sign * (compute_metric(name, first.take(rows)) - compute_metric(name, second.take(rows)))
        for rows in draw_rows(first, n_samples, seed=seed)
    ]
    gain = sign * (compute_metric(name, first) - compute_metric(name, second))
    return make_interval(gain, gains, confidence)


def make_interval(value: float, samples: list[float], confidence: float) -> Interval:
    """Return the percentile interval of bootstrap samples."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high))


def is_greater_better(name: str) -> bool:
    """Tell whether a larger figure is a better one.

    >>> is_greater_better("roc_auc"), is_greater_better("mae")
    (True, False)
    """
    return name in GREATER_IS_BETTER


def round_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures rounded to nine digits, below what two machines may differ by."""
    return {name: float(f"{value:.9g}") for name, value in figures.items()}
