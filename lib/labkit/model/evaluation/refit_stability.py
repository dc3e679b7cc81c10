"""How much predictions change when the recipe of an evaluated model is fitted on more rows.

A refitted model has learned from the holdout rows, so its predictions for them are drawn towards their true values,
those of forests and boosted trees by much of the error: that says little about new rows. So the change is measured on
rows that neither model has seen: the recipe is fitted on one half of the holdout in addition and predicts the other
half, and the other way round (two-fold cross-fitting). It is no measure of quality.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from labkit.model.evaluation.blocks import DAY, Blocks
from labkit.model.evaluation.gate import Check
from labkit.model.evaluation.predictions import Predictions
from labkit.params.experiment import Deploy
from labkit.units import format_count, format_share, format_significant

Pair = tuple[Predictions, Predictions]
"""Predictions of the same rows by the evaluated model and by one that was fitted on more rows."""


def list_halves(blocks: Blocks, *, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions of the rows to learn from and of those to predict, twice; nothing for a single block.

    Days are divided into earlier and later ones, other blocks at random.
    """
    if blocks.n_blocks < 2:
        return
    order = np.arange(blocks.n_blocks)
    if blocks.unit != DAY:
        order = np.random.default_rng(seed).permutation(order)
    is_first = order[blocks.codes] < (blocks.n_blocks + 1) // 2
    first, second = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    yield from ((first, second), (second, first))


def measure_change(pairs: Sequence[Pair], *, threshold: float | None) -> dict[str, float]:
    """Return how much predictions change on average.

    `difference` is the mean absolute difference, of probabilities half the sum over the classes, which for two classes
    is that of one of them. `scaled` is the same in standard deviations of the true values, of probabilities the same.
    `changes`, for classes, is the share of the rows that are predicted to be of another class.

    Parameters
    ----------
    threshold
        The threshold in force, if there is one.
    """
    if not pairs[0][0].classes:
        apart = np.concatenate([np.abs(one.y_pred - other.y_pred) for one, other in pairs])
        spread = float(np.std(np.concatenate([one.y_true for one, _ in pairs]))) or 1.0
        return {"difference": round(float(apart.mean()), 9), "scaled": round(float(apart.mean()) / spread, 9)}
    apart = np.concatenate([np.abs(one.y_proba - other.y_proba).sum(axis=1) / 2 for one, other in pairs])
    decided = [[one if threshold is None else one.decide(threshold) for one in pair] for pair in pairs]
    changed = np.concatenate([one.y_pred != other.y_pred for one, other in decided])
    difference = round(float(apart.mean()), 9)
    return {"difference": difference, "scaled": difference, "changes": round(float(changed.mean()), 9)}


def describe_refit(
    n_evaluated: int, n_rows: int, *, unseen: Sequence[Pair], seen: Pair, threshold: float | None
) -> dict[str, Any]:
    """Return the record of a refit for the facts of its release, as plain data.

    Parameters
    ----------
    n_evaluated, n_rows
        Numbers of rows that the evaluated and the published model were fitted on.
    unseen
        Predictions of each half of the holdout, see `list_halves`; none if it cannot be divided.
    seen
        Predictions of the holdout by the evaluated and the published model.
    threshold
        The threshold in force, if there is one.
    """
    return {
        "description": f"Metrics were measured on the model fitted on {n_evaluated:,} training rows; the published "
        f"model is the same recipe fitted on all {n_rows:,} rows, not measured on any row.",
        "evaluated_rows": n_evaluated,
        "rows": n_rows,
        "holdout_rows": len(seen[0].y_true),
        "unseen": measure_change(unseen, threshold=threshold) if unseen else None,
        "seen": measure_change([seen], threshold=threshold),
    }


def check_refit(found: Mapping[str, Any], limits: Deploy) -> Check:
    """Check whether predictions for new rows stay about the same; it only warns: neither model is the truth.

    Parameters
    ----------
    found
        As returned by `describe_refit`.
    """
    name = "refitted model predicts like the evaluated one"
    learned = f"those of the published model, which has learned from these rows, by {describe_shift(found['seen'])}"
    if found["unseen"] is None:
        return Check(name, True, f"the holdout is a single block, so the change for new rows is not known; {learned}")
    change, accepted = found["unseen"], f"{limits.refit_difference:g} is accepted"
    if "changes" in change:
        accepted = f"{limits.refit_difference:g} and {format_share(limits.refit_changes)} are accepted"
    rows = format_count(found["holdout_rows"], "holdout row")
    evidence = (
        f"on {rows}, each half predicted after fitting on the other half too, predictions differ by "
        f"{describe_shift(change)}; at most {accepted}; {learned}"
    )
    is_other = change["scaled"] > limits.refit_difference or change.get("changes", 0.0) > limits.refit_changes
    return Check(name, True, evidence, warning="refitted model predicts differently" if is_other else "")


def describe_shift(change: Mapping[str, float]) -> str:
    """Return what `measure_change` found, as a phrase."""
    by = f"{format_significant(change['difference'])} on average"
    if "changes" in change:
        return f"{by}, and in class for {format_share(change['changes'])} of the rows"
    return f"{by} ({format_significant(change['scaled'])} standard deviations of the true values)"
