"""Metrics: how good predictions are.

Not how sure one can be of it, nor whether that is good enough: see `labkit.model.bootstrap` and `labkit.model.gate`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labkit.params import Target

GREATER_IS_BETTER = {"roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "r2"}
Score = Callable[[np.ndarray], float]
"""A figure as a function of how often each row counts, whole numbers of shape (n_rows,)."""


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
    """A metric and the ends of its confidence interval; NaN where they are not defined on these rows."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return it as plain data, None for what is not defined."""
        return {name: None if np.isnan(end) else end for name, end in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, float | None]) -> "Interval":
        """Return an interval from what `to_dict` gave."""
        return cls(**{name: np.nan if end is None else end for name, end in content.items()})


def make_answers(truth: Any, model: Any, features: Any, target: Target) -> Answers:
    """Let a fitted model predict rows and hold its predictions beside the truth.

    A class that the model was never shown comes after those it knows, with a probability of 0 in every row: rows of it
    count as mistakes, as they would in service.

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
    known, labels = model.classes_.tolist(), np.asarray(truth).tolist()
    classes = (*known, *sorted({*labels} - {*known}, key=str))
    codes = {label: code for code, label in enumerate(classes)}
    predicted = np.asarray(model.predict_proba(features), dtype="float64")
    return Answers(
        np.array([codes[label] for label in labels]),
        np.pad(predicted, ((0, 0), (0, len(classes) - len(known)))),
        classes,
        find_positive(classes, target),
    )


def find_positive(classes: tuple[Any, ...], target: Target) -> int:
    """Return the code of the class of interest: the declared one, or the last."""
    return classes.index(target.positive) if target.positive in classes else len(classes) - 1


def compute_metric(name: str, answers: Answers) -> float:
    """Compute one figure.

    With more than two classes, areas are averaged one against the rest, each class alike, and F1 likewise; classes
    that do not occur in the truth are left out of the average.

    Raises
    ------
    KeyError
        The figure is not one of `labkit.params`.
    """
    return make_score(name, answers)(np.ones(len(answers.truth), dtype=np.int64))


def make_score(name: str, answers: Answers) -> Score:
    """Return a function that computes one figure of the same rows under any weights.

    A bootstrap draw is the rows weighted by how often each was drawn. What does not depend on the weights, such as
    the order of the predictions, is computed once here; that makes a thousand draws of 60,000 rows affordable.
    """
    return (CLASSIFICATION if answers.classes else REGRESSION)[name](answers)


def find_labels(answers: Answers) -> np.ndarray:
    """Return the code of the likeliest class of each row, shape (n_rows,)."""
    return np.argmax(answers.prediction, axis=1)


def divide(part: Any, whole: Any) -> Any:
    """Divide, with 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) != 0)


def make_mean_score(values: np.ndarray) -> Score:
    """Return the mean of one number per row, shape (n_rows,)."""
    return lambda weights: float((weights * values).sum() / weights.sum())


def make_area_score(answers: Answers, compute: Callable[[np.ndarray, np.ndarray], float]) -> Score:
    """Return an area under a curve, of the class of interest or averaged over the classes that occur.

    Parameters
    ----------
    compute
        From the weights of hits and of misses at each distinct prediction, largest prediction first.
    """
    curves = []
    for code in [answers.positive] if len(answers.classes) == 2 else range(len(answers.classes)):
        chance = answers.prediction[:, code]
        order = np.argsort(-chance, kind="stable")
        starts = np.flatnonzero(np.diff(chance[order], prepend=np.nan) != 0)
        curves.append((order, starts, answers.truth[order] == code))

    def score(weights: np.ndarray) -> float:
        areas = []
        for order, starts, is_hit in curves:
            ordered = weights[order]
            hits = np.add.reduceat(ordered * is_hit, starts)
            misses = np.add.reduceat(ordered, starts) - hits
            if len(curves) == 1 or hits.any():
                areas.append(compute(hits, misses) if hits.any() and misses.any() else np.nan)
        return float(np.mean(areas))

    return score


def compute_roc_area(hits: np.ndarray, misses: np.ndarray) -> float:
    """Compute the chance that a hit ranks above a miss, ties counted half."""
    below = misses.sum() - np.cumsum(misses)
    return float((hits * (below + misses / 2)).sum() / (hits.sum() * misses.sum()))


def compute_average_precision(hits: np.ndarray, misses: np.ndarray) -> float:
    """Compute precision at each distinct prediction, averaged over the hits found there."""
    found = np.cumsum(hits)
    return float((hits * divide(found, found + np.cumsum(misses))).sum() / hits.sum())


def make_log_loss_score(answers: Answers) -> Score:
    """Return the mean of minus the logarithm of the chance given to the true class."""
    smallest = np.finfo("float64").eps
    chances = answers.prediction[np.arange(len(answers.truth)), answers.truth]
    return make_mean_score(-np.log(np.clip(chances, smallest, 1 - smallest)))


def make_count_score(
    answers: Answers, compute: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], *, is_one: bool
) -> Score:
    """Return a figure per class, of the class of interest or averaged over the classes that occur.

    Parameters
    ----------
    compute
        From the counts per class of rows right, rows truly in it and rows said to be in it.
    is_one
        Whether only the class of interest of a two-class target counts.
    """
    n_classes, labels = len(answers.classes), find_labels(answers)
    is_right = labels == answers.truth

    def score(weights: np.ndarray) -> float:
        true = np.bincount(answers.truth, weights, n_classes)
        right = np.bincount(answers.truth, weights * is_right, n_classes)
        figures = compute(right, true, np.bincount(labels, weights, n_classes))
        return float(figures[answers.positive] if is_one else figures[true > 0].mean())

    return score


def make_r2_score(answers: Answers) -> Score:
    """Return the share of variance explained; without variance 1 if all is right, else 0."""
    squares = (answers.truth - answers.prediction) ** 2

    def score(weights: np.ndarray) -> float:
        centre = (weights * answers.truth).sum() / weights.sum()
        total = (weights * (answers.truth - centre) ** 2).sum()
        rest = (weights * squares).sum()
        return float(1 - rest / total) if total > 0 else float(rest == 0)

    return score


def make_median_score(values: np.ndarray) -> Score:
    """Return the median of one number per row, shape (n_rows,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]

    def score(weights: np.ndarray) -> float:
        ends = np.cumsum(weights[order])
        middle = np.searchsorted(ends, [(ends[-1] - 1) // 2, ends[-1] // 2], side="right")
        return float(ordered[middle].mean())

    return score


def make_rmse_score(answers: Answers) -> Score:
    """Return the root of the mean squared error."""
    mean = make_mean_score((answers.truth - answers.prediction) ** 2)
    return lambda weights: mean(weights) ** 0.5


CLASSIFICATION: dict[str, Callable[[Answers], Score]] = {
    "roc_auc": lambda a: make_area_score(a, compute_roc_area),
    "average_precision": lambda a: make_area_score(a, compute_average_precision),
    "log_loss": make_log_loss_score,
    "accuracy": lambda a: make_mean_score(find_labels(a) == a.truth),
    "balanced_accuracy": lambda a: make_count_score(a, lambda right, true, said: divide(right, true), is_one=False),
    "f1": lambda a: make_count_score(
        a, lambda right, true, said: divide(2 * right, true + said), is_one=len(a.classes) == 2
    ),
}
REGRESSION: dict[str, Callable[[Answers], Score]] = {
    "r2": make_r2_score,
    "mae": lambda a: make_mean_score(np.abs(a.truth - a.prediction)),
    "rmse": make_rmse_score,
    "median_absolute_error": lambda a: make_median_score(np.abs(a.truth - a.prediction)),
}


def list_metrics(answers: Answers) -> list[str]:
    """Return the names of the task's metrics."""
    return list(CLASSIFICATION if answers.classes else REGRESSION)


def compute_metrics(answers: Answers) -> dict[str, float]:
    """Compute every metric of the task."""
    return {name: compute_metric(name, answers) for name in list_metrics(answers)}


def summarise(answers: Answers) -> dict[str, float]:
    """Return what came true, `truth`, and what was predicted, `said`, of all rows in one number each.

    Regression: the means. Two classes: share of the class of interest, and its mean chance. More: share of rows that
    are of their likeliest class, and the mean chance of that.
    """
    if not answers.classes:
        return {"truth": float(answers.truth.mean()), "said": float(answers.prediction.mean())}
    if len(answers.classes) == 2:
        chances = answers.prediction[:, answers.positive]
        return {"truth": float((answers.truth == answers.positive).mean()), "said": float(chances.mean())}
    return {
        "truth": float((find_labels(answers) == answers.truth).mean()),
        "said": float(answers.prediction.max(axis=1).mean()),
    }


def is_greater_better(name: str) -> bool:
    """Tell whether a larger figure is a better one.

    >>> is_greater_better("roc_auc"), is_greater_better("mae")
    (True, False)
    """
    return name in GREATER_IS_BETTER


def make_record(
    found: Mapping[str, Mapping[str, Interval]], gains: Mapping[str, Interval], by_period: Any
) -> dict[str, Any]:
    """Return the figures of an evaluation in the layout of `metrics.json`, which does not change from run to run.

    Parameters
    ----------
    found
        Figures by model: `model`, and those it is held against.
    gains
        Paired gain of the model over each of those.
    by_period
        As `labkit.model.periods.compute_by_period` gives it.

    Returns
    -------
    dict
        `holdout`, one entry per other model with its figures, `paired`, `by_period`.
    """
    others = {name_key(name): one for name, one in found.items() if name != "model"}
    lines = by_period.rename(columns={"model": "value"}).rename(columns=name_key).to_dict("records")
    return {
        "holdout": {name: interval.to_dict() for name, interval in found["model"].items()},
        **{key: {name: interval.value for name, interval in one.items()} for key, one in others.items()},
        "paired": {name_key(name): gain.to_dict() for name, gain in gains.items()},
        "by_period": {line.pop("period"): line for line in lines},
    }


def name_key(title: str) -> str:
    """Return a title as a key.

    >>> name_key("plain LightGBM")
    'plain_lightgbm'
    """
    return title.lower().replace(" ", "_")


def round_all(content: Any) -> Any:
    """Return plain data with every real number rounded to nine digits, below what two machines may differ by.

    What is not a finite number becomes None: JSON has no other.
    """
    if isinstance(content, Mapping):
        return {key: round_all(value) for key, value in content.items()}
    if isinstance(content, list):
        return [round_all(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.9g}") if np.isfinite(content) else None
    return content
