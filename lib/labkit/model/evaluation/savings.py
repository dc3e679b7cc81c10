"""What acting from a threshold on saves: against plain LightGBM with a threshold of its own, and on how many days."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np

from labkit.model.evaluation.blocks import DAY, Blocks
from labkit.model.evaluation.bootstrap import Interval, draw_weights, make_interval
from labkit.model.evaluation.gate import state_reason
from labkit.model.evaluation.metrics import make_mean_score
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.threshold import Outcome, choose_threshold, compute_costs
from labkit.params.evaluation import Costs
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_alike, format_interval, format_number, format_share

MOST_DAYS = 5
"""Days with the largest savings that are told apart from the others."""
RELATIVE_UNITS = ("", "point", "points")
"""Units of costs that are no money."""


def evaluate_savings(
    ours: Predictions,
    outcome: Outcome,
    costs: Costs,
    *,
    plain: tuple[Predictions, Predictions] | None,
    n_samples: int,
    confidence: float,
    seed: int,
    blocks: Blocks,
) -> dict[str, Any]:
    """Return what the model saves at its threshold, as plain data.

    Parameters
    ----------
    ours
        Predictions of the holdout rows.
    outcome
        What its threshold does on them.
    plain
        Predictions of plain LightGBM: of the validation rows, fitted without them, by which its own threshold is
        chosen, and of the holdout rows; None without that baseline.

    Returns
    -------
    dict
        `rows`; `plain_lightgbm` with `threshold`, `cost` per row and `saving` (paired, with its interval; positive if
        the model is cheaper), if there is one; `days` as `summarise_days` returns it, if rows have days.
    """
    own, content = compute_costs(ours, outcome.threshold, costs), dict[str, Any](rows=len(ours.y_true))
    if plain:
        apart, holdout = plain
        threshold = choose_threshold(apart, costs)
        difference = compute_costs(holdout, threshold, costs) - own
        score = make_mean_score(difference)
        draws = [score(weights) for weights in draw_weights(ours, n_samples, seed=seed, blocks=blocks)]
        saving = make_interval(float(difference.mean()), draws, confidence, blocks)
        cost = float(own.mean() + difference.mean())
        content |= {"plain_lightgbm": {"threshold": threshold, "cost": cost, "saving": saving.to_dict()}}
    if blocks.unit == DAY:
        passive = compute_costs(ours, -np.inf if outcome.always_yes <= outcome.always_no else np.inf, costs)
        content |= {"days": summarise_days(passive - own, blocks)}
    return content


def summarise_days(saved: np.ndarray, blocks: Blocks) -> dict[str, Any]:
    """Return on how many days something is saved, and how much of it on the few days that save most.

    Parameters
    ----------
    saved
        What each row saves, shape (n_rows,).

    Returns
    -------
    dict
        `days`, `saving_days`, `most_days`; `share`, the fraction of the whole saving on the `most_days`, None if
        nothing is saved; `others`, the mean saving of a row on all other days, None if there are none.
    """
    by_day = np.bincount(blocks.codes, saved, minlength=blocks.n_blocks)
    order = np.argsort(-by_day, kind="stable")
    top, rest = order[:MOST_DAYS], order[MOST_DAYS:]
    n_rest = int(np.isin(blocks.codes, rest).sum())
    total = float(by_day.sum())
    return {
        "days": len(by_day),
        "saving_days": int((by_day > 0).sum()),
        "most_days": len(top),
        "share": float(by_day[top].sum()) / total if total > 0 else None,
        "others": float(by_day[rest].sum()) / n_rest if n_rest else None,
    }


def name_passive(subject: Subject = GENERIC) -> str:
    """Return what acting from a threshold is compared with.

    >>> name_passive(Subject("", "flight", "flights"))
    'acting on every flight or on none, whichever is cheaper'
    """
    return f"acting on every {subject.row} or on none, whichever is cheaper"


def describe_declared_costs(costs: Costs) -> str:
    """Return what the costs are, where they come from, and that they are no money if their unit is none.

    >>> describe_declared_costs(Costs(false_positive=20, false_negative=100, unit="EUR", reason="Offers of 2012"))
    'Declared costs, in EUR: 20 for a false positive, 100 for a false negative. Offers of 2012.'
    """
    unit = f", in {costs.unit}" * bool(costs.unit)
    each = f"{costs.false_positive:g} for a false positive, {costs.false_negative:g} for a false negative"
    missing = "Where they come from is not stated (`evaluation.costs.reason`)"
    lines = [f"Declared costs{unit}: {each}. {state_reason(costs.reason, missing=missing)}"]
    if costs.unit in RELATIVE_UNITS:
        lines.append(
            "They are relative, so no sum of money follows: declare `evaluation.costs` in a currency for that."
        )
    return " ".join(lines)


def describe_savings(found: Mapping[str, Any], costs: Costs | None, subject: Subject = GENERIC) -> list[str]:
    """Return sentences about what `evaluate_savings` found; none if it found nothing.

    Examples
    --------
    >>> days = {"days": 61, "saving_days": 40, "most_days": 5, "share": 0.8, "others": 0.004}
    >>> costs = Costs(false_positive=1, false_negative=4, unit="EUR")
    >>> describe_savings({"rows": 9000, "days": days}, costs)[0].split(":")[0]
    'Against acting on every row or on none, whichever is cheaper, it saves on 40 of 61 days'
    """
    lines, unit = [], f" {costs.unit}" if costs and costs.unit else ""
    if other := found.get("plain_lightgbm"):
        saving = Interval.from_dict(other["saving"])
        half = (saving.high - saving.low) / 2
        cost = format_alike(other["cost"], uncertainty=half)[0]
        word = "saves" if saving.low > 0 else "costs more:" if saving.high < 0 else "is not shown to save anything:"
        ends = (-saving.value, -saving.high, -saving.low) if saving.high < 0 else astuple(saving)
        lines.append(
            f"Plain LightGBM, acting from a threshold of its own, {format_number(other['threshold'])}, costs {cost}"
            f"{unit} per {subject.row}; against it the model {word} {format_interval(*ends)}{unit} per "
            f"{subject.row}."
        )
    against = f"Against {name_passive(subject)}, it"
    return [*lines, *describe_saving_days(found, costs, subject, lead=against)]


def describe_saving_days(
    found: Mapping[str, Any], costs: Costs | None, subject: Subject = GENERIC, *, lead: str = "It"
) -> list[str]:
    """Return a sentence about the days of the saving against acting on every row or on none, if it is known.

    Parameters
    ----------
    found
        As `evaluate_savings` returns it.
    lead
        Its subject; it has to name what the saving is against unless the sentence before does.

    Examples
    --------
    >>> days = {"days": 61, "saving_days": 40, "most_days": 5, "share": 0.8, "others": 0.004}
    >>> describe_saving_days({"days": days}, Costs(false_positive=1, false_negative=4, unit="EUR"))
    ['It saves on 40 of 61 days: 80 % of the saving is from 5 of them, and the other 56 days save 0.004 EUR per row.']
    """
    days, unit = found.get("days"), f" {costs.unit}" if costs and costs.unit else ""
    if not days or days["share"] is None:
        return []
    n_most = days["most_days"]
    spread = f"{lead} saves on {days['saving_days']:,} of {days['days']:,} days"
    if days["others"] is not None:
        word = "save" if days["others"] > 0 else "lose"
        spread += (
            f": {format_share(days['share'])} of the saving is from {n_most} of them, and the other "
            f"{days['days'] - n_most:,} days {word} {format_number(abs(days['others']), 2)}{unit} per {subject.row}"
        )
    return [f"{spread}."]
