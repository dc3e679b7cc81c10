"""The health of a model in service: its rows are counted and compared with the reference, and a verdict is given.

The verdict is the most serious action that the params name for a check that failed, in `monitoring.rules`. Changes of
the inputs alone are never more than `watch`: they do not show that the model got worse, and weather changes with every
season. `stop` is for rows that the model cannot be right about: broken contract, another unit, silence.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np

from labkit.checks import CheckResult, sort_by_weight
from labkit.monitoring.current_counts import choose_windows_to_judge, count_current
from labkit.monitoring.current_rows import Current
from labkit.monitoring.domain_classifier import RowComparison, compare_rows
from labkit.monitoring.drift import Drift, measure_drift
from labkit.monitoring.health_checks import (
    check_age,
    check_changes,
    check_growth,
    check_inputs,
    check_predictions,
    check_readable,
    check_traffic,
    check_units,
    check_whole_rows,
    describe_holidays,
    is_compared,
    list_range_breaks,
    list_remarks,
)
from labkit.monitoring.reference_profile import Profile
from labkit.monitoring.reference_windows import choose_reference, find_holidays
from labkit.monitoring.unit_changes import UnitChange, find_unit_changes
from labkit.monitoring.window_counts import Windows
from labkit.params.monitoring import Monitoring, Rule

Verdict = Literal["ok", "watch", "retrain", "stop"]
VERDICTS: tuple[Verdict, ...] = ("ok", "watch", "retrain", "stop")
"""The most serious last."""
USUAL_POLICY = Monitoring()
EXIT_CODES: dict[Verdict, int] = {"ok": 0, "watch": 0, "retrain": 3, "stop": 4}
USUAL_LOG_WINDOWS = 7


@dataclass(frozen=True)
class Health:
    """What was found about the rows of a model in service.

    Attributes
    ----------
    n_rows, n_judged
        Rows that were read, and those of the windows that were compared with the reference.
    windows
        How rows are divided; None without a reference profile.
    drift, predictions
        Comparison of inputs and of predictions with the reference; None if there is nothing to compare.
    rows
        Comparison of whole rows with the reference.
    actions
        What follows from each check that needs attention, by code.
    ranges
        Sentences on numbers outside the range of the reference, only shown: the hottest day would always alarm.
    """

    verdict: Verdict
    checks: list[CheckResult]
    actions: Mapping[str, Verdict]
    n_rows: int
    n_judged: int
    windows: Windows | None
    drift: Drift | None
    predictions: Drift | None
    units: Sequence[UnitChange]
    ranges: Sequence[str]
    notes: Sequence[str]
    rows: RowComparison = field(default_factory=RowComparison)

    @property
    def is_drift_judged(self) -> bool:
        """Whether at least one window was compared with a reference that shows how much windows differ."""
        return self.drift is not None and is_compared(self.drift, "missing values")

    @property
    def reasons(self) -> list[str]:
        """The checks behind the verdict, the most serious first, as sentences without a full stop."""
        failed = [check for check in self.checks if check.needs_attention]
        ordered = sorted(failed, key=lambda check: -VERDICTS.index(self.actions[check.code]))
        return [f"{check.title}: {check.evidence}" for check in ordered]


def judge(
    current: Current,
    profile: Profile,
    *,
    now: datetime,
    most_windows: int | None = None,
    pending: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
    last_check: datetime | None = None,
    policy: Monitoring = USUAL_POLICY,
    earlier: Sequence[Collection[str]] = (),
) -> Health:
    """Compare rows with the reference profile and give a verdict.

    Parameters
    ----------
    now
        Time of the check, in UTC.
    most_windows
        Judge only that many of the latest complete windows, 0 for all; by default 7 of a log, and all of other rows.
    pending
        `Drift.list_pending` of the last check of the same release, by part: `inputs` and `predictions`.
    last_check
        Time of the last check.
    policy
        What follows from findings.
    earlier
        Codes of what earlier checks of the same release on such rows found, the latest last.
    """
    counted = count_current(current, profile, now)
    assert counted.inputs is not None
    most = (USUAL_LOG_WINDOWS if current.is_log else 0) if most_windows is None else most_windows
    chosen = choose_windows_to_judge(counted.inputs, profile.inputs, current, now, most)
    before = pending or {}
    reference, reference_notes = choose_reference(profile.inputs, chosen, policy.reference)
    profile = replace(profile, inputs=reference)
    holidays = find_holidays(reference.windows, chosen.numbers, policy.holidays)
    drift = measure_drift(reference, chosen, profile.relations, pending=before.get("inputs"), left_out=holidays)
    predictions = None
    if profile.predictions is not None and counted.predictions is not None:
        taken = counted.predictions.take(np.isin(counted.predictions.numbers, chosen.numbers))
        predictions = measure_drift(profile.predictions, taken, pending=before.get("predictions"), left_out=holidays)
    rows = compare_rows(reference, profile.sample, counted.sample, drift.counts)
    units = find_unit_changes(profile.inputs, profile.relations, drift)
    checks = [
        check_inputs(current, counted, profile, judged=chosen.numbers.tolist(), is_recent=bool(most)),
        check_units(units, drift, profile),
        check_traffic(current, counted, profile, now, holidays=policy.holidays),
        *check_changes(drift, profile, counted.unseen),
        check_whole_rows(rows, drift, profile),
        check_predictions(predictions, profile),
        check_readable(current, counted),
        check_age(profile, counted, last_check, now),
        check_growth(counted, profile, policy.growth),
    ]
    actions = choose_actions(checks, policy, earlier)
    return Health(
        verdict=find_verdict(actions),
        checks=sort_by_weight(checks),
        actions=actions,
        n_rows=counted.n_rows,
        n_judged=count_compared(drift),
        windows=profile.inputs.windows,
        drift=drift,
        predictions=predictions,
        units=units,
        ranges=list_range_breaks(profile.inputs, chosen),
        notes=[*list_remarks(current, profile, drift), *reference_notes, *describe_holidays(holidays)],
        rows=rows,
    )


def add_checks(
    health: Health, checks: Sequence[CheckResult], *, policy: Monitoring, earlier: Sequence[Collection[str]]
) -> Health:
    """Return the health with more checks, and the verdict that follows from all of them; parameters as of `judge`."""
    actions = {**health.actions, **choose_actions(checks, policy, earlier)}
    every = sort_by_weight([*health.checks, *checks])
    return replace(health, verdict=find_verdict(actions), checks=every, actions=actions)


def find_verdict(actions: Mapping[str, Verdict]) -> Verdict:
    """Return the most serious action."""
    return max(actions.values(), key=VERDICTS.index, default=VERDICTS[0])


def choose_actions(
    checks: Sequence[CheckResult], policy: Monitoring, earlier: Sequence[Collection[str]]
) -> dict[str, Verdict]:
    """Return what follows from each check that needs attention, by code."""
    failed = [check.code for check in checks if check.needs_attention]
    return {code: choose_action(policy.find_rule(code), code, earlier) for code in failed}


def choose_action(rule: Rule, code: str, earlier: Sequence[Collection[str]]) -> Verdict:
    """Return what follows from a finding: the action of its rule once it was found often enough in a row."""
    n_before = rule.in_a_row - 1
    is_lasting = len(earlier) >= n_before and all(code in found for found in earlier[len(earlier) - n_before :])
    return rule.action if is_lasting else "watch"


def count_compared(drift: Drift) -> int:
    """Return the rows of the windows that have enough of them to be compared."""
    known = [np.isfinite(scores) for key, scores in drift.scores.items() if key[1] == "missing values"]
    return int(drift.counts.rows[np.any(known, axis=0)].sum()) if known else 0


def describe_health(health: Health) -> dict[str, Any]:
    """Return the health as plain data."""
    drift, windows = health.drift, health.windows
    numbers = [] if drift is None else drift.counts.numbers.tolist()
    named = [] if windows is None else [windows.name(number) for number in numbers]
    return {
        "verdict": health.verdict,
        "reasons": health.reasons,
        "actions": dict(health.actions),
        "rows": health.n_rows,
        "judged_rows": health.n_judged,
        "windows": len(named),
        "first_window": named[0] if named else None,
        "last_window": named[-1] if named else None,
        "checks": [check.to_dict() for check in health.checks],
        "changes": [
            {
                "column": change.column or None, "kind": change.kind, "effect": change.effect, "z": change.score,
                "first_window": windows.name(change.first), "last_window": windows.name(change.last),
                "windows": change.n_windows,
            }
            for change in (drift.changes if drift else ()) if windows
        ],
        "row_comparison": None if windows is None else describe_comparison(health.rows, windows),
        "outside_range": list(health.ranges),
        "notes": list(health.notes),
    }  # fmt: skip


def describe_comparison(found: RowComparison, windows: Windows) -> dict[str, Any] | None:
    """Return a comparison of whole rows as plain data; None if nothing was compared."""
    if not found.stretches:
        return None
    stretches = [
        {
            "first_window": windows.name(one.first), "last_window": windows.name(one.last),
            "roc_auc": one.area.to_dict(), "z": one.score, "alarms": one.is_alarm,
            "columns": [{"column": name, "loss": loss} for name, loss in one.columns],
        }
        for one in found.stretches
    ]  # fmt: skip
    usual = {"usual": float(np.median(found.areas)), "largest_usual": float(found.areas.max())}
    return {**usual, "stretches": stretches, "left_out": list(found.left_out)}
