"""Check of the gain over plain LightGBM: what has not been shown to be worth its cost, and what to do then."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labkit.checks import REGISTER, CheckResult, make_check
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.gate import describe_paired
from labkit.params.experiment import Params

SIMPLER = {"linear", "decision_tree", "naive_bayes", "nearest_neighbours"}
"""Candidates that are simpler than LightGBM: one formula, one tree, or no fit at all."""
PLAIN, FEATURES = "lightgbm", "new features"
NEW_COLUMNS = ("expressions", "functions", "transformers", "dates", "history", "text", "interactions")
"""Parameters in `features` that declare new columns."""


def check_plain(params: Params, gain: Interval | None, choice: Mapping[str, Any]) -> CheckResult:
    """Check whether the model is shown to be better than plain LightGBM: an issue if it is shown to be worse.

    Parameters
    ----------
    gain
        The paired gain over plain LightGBM; None without that baseline.
    choice
        The chosen candidate, see `labkit.model.training.selection.Choice.to_dict`.
    """
    if gain is None:
        return make_check("LK505", None, "there is no raw column to fit plain LightGBM on")
    evidence = describe_paired(params.training.metric, "plain LightGBM", gain, params.evaluation.confidence)
    is_worse = gain.high < 0
    work = list_work(params, choice)
    has = "has" if len(work) == 1 and work != [FEATURES] else "have"
    cost = f"{join_words(work).capitalize()} {has} not been shown to be worth the cost."
    own = replace(REGISTER["LK505"], consequence=cost, remedy=advise(str(choice["model"]), work, is_worse=is_worse))
    return make_check("LK505", gain.low > 0, evidence, failed="issue" if is_worse else "warning", own=own)


def list_work(params: Params, choice: Mapping[str, Any]) -> list[str]:
    """Return what sets the model apart from plain LightGBM, in words."""
    features = [FEATURES] if any(getattr(params.features, name) for name in NEW_COLUMNS) else []
    tuning = ["tuning"] if choice.get("settings") else []
    model = ["choice of model"] if choice["model"] != PLAIN or not [*features, *tuning] else []
    return [*features, *model, *tuning]


def advise(model: str, work: Sequence[str], *, is_worse: bool) -> str:
    """Return what to do if a candidate is not shown to be better than plain LightGBM."""
    extra = [one for one in work if one != "choice of model"]
    without = f" Try it without {join_words(extra)}." if extra else ""
    if is_worse:
        first = "" if model == PLAIN else f"Let `{PLAIN}` compete in `training.models`."
        return f"{first}{without}".strip() or "Compare the preparation of its features with raw columns."
    if model in SIMPLER:
        return f"Keep it: `{model}` is simpler than LightGBM.{without}"
    if model == PLAIN:
        return without.strip() or "Keep it: it is LightGBM, only on prepared columns."
    return f"Consider LightGBM alone, `training.models: [{PLAIN}]`, if it is simpler.{without}"


def join_words(words: Sequence[str]) -> str:
    """Return words as a phrase.

    >>> join_words(["new features", "choice of model", "tuning"])
    'new features, choice of model and tuning'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
