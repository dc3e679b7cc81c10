"""Checks of the choice of the model by differences between candidates in the same folds.

Folds differ much from each other, but alike for all candidates. The standard error of a difference is therefore
computed from the differences in each fold, not from the spread of one candidate.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from labkit.checks import CheckResult, make_check
from labkit.model.evaluation.metrics import is_greater_better
from labkit.units import format_count


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
