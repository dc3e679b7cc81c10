"""Checks of the choice of the model by differences between candidates in the same folds.

Folds differ much from each other, but alike for all candidates. The standard error of a difference is therefore
computed from the differences in each fold, not from the spread of one candidate.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from labkit.checks import CheckResult, make_check
from labkit.model.evaluation.metrics import is_greater_better
from labkit.units import format_alike, format_count, format_number


def list_fold_checks(
    metric: str,
    board: pd.DataFrame,
    trials: pd.DataFrame,
    *,
    by_fold: Mapping[str, np.ndarray],
    trials_by_fold: Sequence[np.ndarray],
) -> list[CheckResult]:
    """Check the lead of the best candidate over the second, both untuned, and the gain of tuning.

    Parameters
    ----------
    board, trials
        Leaderboard and trials, as `labkit.model.training` returns them.
    by_fold, trials_by_fold
        The metric in every fold, of each candidate and of each trial.
    """
    sign = 1 if is_greater_better(metric) else -1
    ranked = board.loc[(board["error"] == "") & (board["model"] != "dummy"), "model"].tolist()[:2]
    complete = sign * trials.loc[trials["state"] == "complete", metric] if len(trials) else pd.Series(dtype="float64")
    lead, gain = make_check("LK403", None, "only one candidate"), make_check("LK404", None, "nothing was tuned")
    if len(ranked) > 1:
        differences = sign * (by_fold[ranked[0]] - by_fold[ranked[1]])
        lead = check_in_folds("LK403", differences, f"untuned, {ranked[0]} leads {ranked[1]} by")
    if len(complete):
        each = [gains for gains, state in zip(trials_by_fold, trials["state"], strict=True) if state == "complete"]
        differences = sign * (each[int(complete.argmax())] - each[0])
        gain = check_in_folds("LK404", differences, f"{describe_trials(trials)} gains", over=" over the defaults")
    return [lead, gain]


def check_in_folds(code: str, gains: np.ndarray, what: str, *, over: str = "") -> CheckResult:
    """Check whether the mean gain of one candidate over another on the same folds exceeds its standard error.

    Parameters
    ----------
    gains
        Gain in every fold; NaN where the metric is undefined.
    what, over
        What gains, as the beginning of the evidence, and over what; without a gain, the latter is kept and that passes.
    """
    known = gains[np.isfinite(gains)]
    if len(known) < 2:
        return CheckResult(code, "skipped", "fewer than two folds: no standard error")
    gain, error = float(known.mean()), float(known.std(ddof=1)) / len(known) ** 0.5
    spread = f"the standard error of this difference over the same {len(known)} folds is {error:.2g}"
    return make_check(code, gain > error or (bool(over) and gain <= 0), f"{what} {gain:.2g}{over}; {spread}")


def describe_trials(trials: pd.DataFrame) -> str:
    """Return which trials the best one was chosen from: those that were evaluated on all folds.

    >>> describe_trials(pd.DataFrame({"state": ["complete", "complete", "pruned", "failed"]}))
    'the best of 2 complete trials (1 pruned, 1 failed)'
    """
    counts = trials["state"].value_counts()
    others = [f"{counts[state]} {state}" for state in ("pruned", "failed") if state in counts]
    noted = f" ({', '.join(others)})" if others else ""
    return f"the best of {format_count(int(counts.get('complete', 0)), 'complete trial')}{noted}"


def count_deviations_worse(metric: str, chosen: tuple[float, float], checked: float) -> float:
    """Return by how many standard deviations of the folds a metric is worse than its mean there; negative: better.

    >>> count_deviations_worse("mae", (44.0, 2.0), 45.0), count_deviations_worse("mae", (44.0, 2.0), 40.0)
    (0.5, -2.0)
    """
    (mean, deviation), sign = chosen, 1 if is_greater_better(metric) else -1
    return sign * (mean - checked) / max(deviation, 1e-12)


def check_against_dummy(metric: str, chosen: tuple[float, float], dummy: float | None) -> CheckResult:
    """Check that the chosen candidate's mean over the folds is better than the dummy's."""
    if dummy is None:
        return make_check("LK405", None, "the dummy is not among the candidates that were fitted")
    mean, deviation = chosen
    shown, constant = format_alike(mean, dummy, uncertainty=deviation)
    beats = mean > dummy if is_greater_better(metric) else mean < dummy
    evidence = f"{metric} {shown} in cross-validation, the dummy has {constant}"
    return make_check("LK405", beats, evidence, failed="issue")


def describe_deviations(worse: float) -> str:
    """Return in words what `count_deviations_worse` returns.

    >>> describe_deviations(3.46), describe_deviations(-1.0)
    ('worse by 3.5 standard deviations', 'better by 1 standard deviation')
    """
    written = format_number(abs(worse), 2)
    return f"{'worse' if worse > 0 else 'better'} by {written} standard deviation{'s' * (written != '1')}"
