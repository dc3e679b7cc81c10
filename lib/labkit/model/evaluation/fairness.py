"""Differences between groups of rows in how a model treats them.

For two classes, the rates of Hardt, Price and Srebro, Equality of Opportunity in Supervised Learning (NeurIPS 2016):
selection (demographic parity), true positives and false positives (equalized odds). For more classes, accuracy; for a
regression, the mean error, prediction minus true value (Calders et al., Controlling Attribute Effect in Linear
Regression, ICDM 2013). Groups with too few rows are left out: their rates are mostly luck.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd
from scipy import stats

from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval, draw_weights, make_interval
from labkit.model.evaluation.predictions import Predictions

FEWEST_ROWS_OF_GROUP = 50
"""Rows below which the 95 % interval of a rate may span more than ±0.14 (normal approximation)."""
MISSING = "missing"
ACCEPTED, TOO_LARGE = "accepted", "too large"
BY_CHANCE, UNKNOWN = "perhaps by chance", "too few independent rows to tell"
"""Verdicts on a difference beyond the limit that is not shown to be too large."""
Rate = Callable[[Predictions], tuple[np.ndarray, np.ndarray]]
"""What a rate is the mean of: a value per row, and the rows that count; each of shape (n_rows,)."""
RATES: dict[str, tuple[str, Rate]] = {
    "selection": ("selection rate", lambda p: (p.y_pred == p.positive, np.ones(len(p.y_true), bool))),
    "true_positive": ("true positive rate", lambda p: (p.y_pred == p.positive, p.y_true == p.positive)),
    "false_positive": ("false positive rate", lambda p: (p.y_pred == p.positive, p.y_true != p.positive)),
}
ACCURACY: tuple[str, Rate] = ("accuracy", lambda p: (p.y_pred == p.y_true, np.ones(len(p.y_true), bool)))
ABSOLUTE_ERROR: tuple[str, Rate] = (
    "mean absolute error", lambda p: (abs(p.y_pred - p.y_true), np.ones(len(p.y_true), bool))
)  # fmt: skip
MEAN_ERROR: tuple[str, Rate] = ("mean error", lambda p: (p.y_pred - p.y_true, np.ones(len(p.y_true), bool)))


@dataclass(frozen=True)
class Difference:
    """The largest difference between two groups.

    Attributes
    ----------
    rate
        What is compared, in words.
    highest, lowest
        The two groups, each with its value.
    difference
        Difference of the values, with its interval.
    n_left_out
        Groups with too few rows.
    """

    column: str
    rate: str
    highest: tuple[str, float]
    lowest: tuple[str, float]
    difference: Interval
    n_left_out: int


def judge_differences(differences: Sequence[Interval], most_difference: float) -> list[tuple[int, str]]:
    """Return the place of each difference and the verdict on it, the worst first.

    The worst is the largest of those shown to be too large or, if there are none, the largest of all.

    Parameters
    ----------
    most_difference
        Largest accepted difference.

    Examples
    --------
    >>> judge_differences([Interval(0.5, 0.0, 1.0), Interval(0.2, 0.15, 0.25), Interval(0.1, 0.0, 0.2)], 0.1)
    [(1, 'too large'), (0, 'perhaps by chance'), (2, 'accepted')]
    """
    verdicts = [judge_difference(one, most_difference) for one in differences]
    order = sorted(enumerate(differences), key=lambda one: (verdicts[one[0]] != TOO_LARGE, -one[1].value))
    return [(place, verdicts[place]) for place, _ in order]


def judge_difference(difference: Interval, most_difference: float) -> str:
    """Return the verdict on one difference."""
    if not difference.value > most_difference:
        return ACCEPTED
    if not np.isfinite(difference.low):
        return UNKNOWN
    return TOO_LARGE if difference.low > most_difference else BY_CHANCE


def compare_groups(
    groups: pd.Series,
    predictions: Predictions,
    *,
    rates: Sequence[str],
    n_samples: int,
    confidence: float,
    seed: int,
    blocks: Blocks,
) -> list[Difference]:
    """Return the largest difference between two groups, for each rate that has two groups with enough rows.

    Parameters
    ----------
    groups
        Group of each row, shape (n_rows,); a missing value is a group of its own.
    predictions
        Predictions of these rows, of the class of interest from the threshold in force on.
    rates
        Keys of `RATES`; for two classes only.

    Returns
    -------
    list of Difference
        With intervals adjusted for the number of pairs of groups (Bonferroni).
    """
    codes, names = encode_groups(groups)
    found = []
    for title, measure in find_rates(predictions, rates).items():
        values, counts = measure(predictions)
        rows = np.bincount(codes, counts, len(names))
        kept = np.flatnonzero(rows >= FEWEST_ROWS_OF_GROUP)
        if len(kept) < 2:
            continue
        means = (np.bincount(codes, values * counts, len(names))[kept] / rows[kept]).astype(float)
        high, low = kept[means.argmax()], kept[means.argmin()]

        both = (np.flatnonzero(codes == one) for one in (high, low))
        sides = [(places, values[places], counts[places]) for places in both]
        draws = draw_weights(predictions, n_samples, seed=seed, blocks=blocks)
        drawn = [one - other for one, other in (compute_means_of_sides(weights, sides) for weights in draws)]
        drawn = [difference for difference in drawn if not np.isnan(difference)]
        interval = widen(float(means.max() - means.min()), drawn, confidence, comb(len(kept), 2), blocks)
        highest, lowest = (str(names[high]), float(means.max())), (str(names[low]), float(means.min()))
        found.append(Difference(str(groups.name), title, highest, lowest, interval, len(names) - len(kept)))
    return found


def encode_groups(groups: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Return the code of each row's group, shape (n_rows,), and the names of the groups by code."""
    codes, names = pd.factorize(groups.astype(object).where(groups.notna(), MISSING).map(str), sort=True)
    return codes, pd.Index(names)


def measure_groups(
    groups: pd.Series, predictions: Predictions, *, n_samples: int, confidence: float, seed: int, blocks: Blocks
) -> pd.DataFrame:
    """Return how a model treats each group, with intervals; parameters as of `compare_groups`.

    Returns
    -------
    pandas.DataFrame
        One row per group and rate, all of those that apply to the task: `column`, `group`, `rows` of the group, `rate`,
        `counted`, the rows that the rate is the mean of, `value`, `low`, `high`. NaN where too few rows count.
    """
    codes, names = encode_groups(groups)
    rates = dict([*RATES.values(), ACCURACY]) if len(predictions.classes) == 2 else {}
    rates |= {} if rates else dict([ACCURACY] if predictions.classes else [MEAN_ERROR, ABSOLUTE_ERROR])
    measured = {title: measure(predictions) for title, measure in rates.items()}
    drawn: dict[str, list[np.ndarray]] = {title: [] for title in rates}
    for weights in draw_weights(predictions, n_samples, seed=seed, blocks=blocks):
        for title, (values, counts) in measured.items():
            drawn[title].append(compute_group_means(values, weights * counts, codes, len(names)))
    sizes, lines = np.bincount(codes, minlength=len(names)), []
    for title, (values, counts) in measured.items():
        means = compute_group_means(values, counts, codes, len(names))
        counted, samples = np.bincount(codes, counts, len(names)).astype(int), np.array(drawn[title])
        for place, name in enumerate(names):
            line = {"column": str(groups.name), "group": str(name), "rows": int(sizes[place]), "rate": title}
            interval = Interval(np.nan, np.nan, np.nan)
            if counted[place] >= FEWEST_ROWS_OF_GROUP:
                interval = make_interval(means[place], samples[:, place].tolist(), confidence, blocks)
            ends = {"value": interval.value, "low": interval.low, "high": interval.high}
            lines.append({**line, "counted": int(counted[place]), **ends})
    return pd.DataFrame(lines)


def compute_group_means(values: np.ndarray, weights: np.ndarray, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the weighted mean of each group, shape (n_groups,); NaN for a group without weight."""
    totals = np.bincount(codes, weights, n_groups)
    return np.divide(
        np.bincount(codes, weights * values, n_groups), totals, out=np.full(n_groups, np.nan), where=totals > 0
    )


def find_rates(predictions: Predictions, rates: Sequence[str]) -> dict[str, Rate]:
    """Return what is compared between groups, by title: for two classes the rates, else accuracy or the mean error.

    Parameters
    ----------
    rates
        Keys of `RATES`.
    """
    if len(predictions.classes) == 2:
        return dict(RATES[rate] for rate in rates)
    return dict([ACCURACY if predictions.classes else MEAN_ERROR])


def compute_means_of_sides(weights: np.ndarray, sides: Sequence[tuple[np.ndarray, ...]]) -> list[float]:
    """Return the weighted mean of each group, given as its rows, their values and counts; NaN for one not drawn."""
    means = []
    for rows, values, counts in sides:
        own = weights[rows] * counts
        total = own.sum()
        means.append(float((values * own).sum() / total) if total > 0 else np.nan)
    return means


def widen(value: float, drawn: Sequence[float], confidence: float, n_pairs: int, blocks: Blocks) -> Interval:
    """Return the interval of a difference from its standard error among the draws, adjusted for the number of pairs."""
    if blocks.n_independent < 2 or len(drawn) < 2:
        return Interval(value, np.nan, np.nan)
    reach = stats.t.isf((1 - confidence) / 2 / n_pairs, blocks.n_independent - 1) * float(np.std(drawn, ddof=1))
    return Interval(value, value - reach, value + reach)
