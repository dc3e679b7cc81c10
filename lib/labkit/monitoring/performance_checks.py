"""The checks of a released model on rows whose true values are known, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labkit.checks import CheckResult, make_check
from labkit.errors import list_briefly
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.method_checks import check_bias
from labkit.monitoring.performance import FEWEST_LABELS, Performance, find_loss
from labkit.units import format_count, format_interval, format_number, format_share

NO_REFERENCE = "the release does not hold how good it was on the holdout: release the model again"
MEASURED = ("issue", "warning", "passed", "muted")
"""Statuses of checks that could be made."""
ASSUMPTION = "if its probabilities are still calibrated"


@dataclass(frozen=True)
class TrackRecord:
    """How well estimates without true values have followed the metric.

    Attributes
    ----------
    n_checks
        Checks in which both were known, of different rows.
    error, holdout_error
        Mean absolute error of the estimate, and of the holdout's value taken instead.
    """

    n_checks: int
    error: float
    holdout_error: float

    def __str__(self) -> str:
        """Return the record in words."""
        checks = format_count(self.n_checks, "check")
        return (
            f"in {checks} with true values such estimates were off by {format_number(self.error)} on average, the "
            f"holdout's value by {format_number(self.holdout_error)}"
        )


def find_track_record(records: Sequence[Mapping[str, Any]]) -> TrackRecord | None:
    """Return how well estimates have followed the metric; None if they were never both known.

    Parameters
    ----------
    records
        `Performance.to_dict` of checks of the same release, the earliest first. Of those of the same rows the latest
        counts, and of those of days that overlap.
    """
    pairs = []
    counted: list[Mapping[str, Any]] = []
    for one in reversed(records):
        if not one.get("value") or not one.get("holdout"):
            continue
        pair = one.get("estimated_of_compared"), one["value"]["value"], one["holdout"]["value"]
        if None not in pair and not any(has_common_rows(one, other) for other in counted):
            counted.append(one)
            pairs.append(pair)
    known = np.array(pairs, "float64").reshape(-1, 3)
    if not len(known):
        return None
    estimated, true, before = known.T
    return TrackRecord(len(known), float(np.abs(estimated - true).mean()), float(np.abs(before - true).mean()))


def has_common_rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two checks compared some of the same rows: by their days, or else by the digest of the rows."""
    if first["first_day"] and second["first_day"]:
        return bool(first["first_day"] <= second["last_day"] and second["first_day"] <= first["last_day"])
    keys = "first_day", "last_day", "compared_rows", "compared_digest"
    return all(first.get(key) == second.get(key) for key in keys)


def list_performance_checks(found: Performance, track_record: TrackRecord | None = None) -> list[CheckResult]:
    """Check what is known of the performance."""
    return [
        check_labels(found),
        check_against_holdout(found),
        check_calibration_of_known(found),
        check_cost(found),
        check_groups_now(found),
        check_estimate(found, track_record),
    ]


def describe_performance(checks: Sequence[CheckResult]) -> list[str]:
    """Return what is known of the performance as lines: that of the rows with true values, then what is expected."""
    by_code = {check.code: check for check in checks}
    shown = [by_code["LK721"], *(by_code[code] for code in ("LK722", "LK726") if by_code[code].status in MEASURED)]
    return [f"{check.title.lower()}: {check.evidence}" for check in shown]


def check_labels(found: Performance) -> CheckResult:
    """Check for how many rows true values are known, and whether all could be joined."""
    evidence = describe_labels(found)
    if found.faults:
        return make_check("LK721", False, "; ".join([evidence, *found.faults, *found.remarks]))
    if not found.n_labelled:
        return CheckResult("LK721", "skipped", "; ".join([evidence, *found.remarks]))
    return make_check("LK721", True, "; ".join([evidence, *found.remarks]))


def describe_labels(found: Performance) -> str:
    """Return how many rows have true values, and of which days, as a clause."""
    rows = f"{'the latest ' if found.is_cut else ''}{format_count(found.n_rows, 'row')}"
    if not found.n_labelled:
        return f"none of {rows} that this release predicted"
    share = format_share(found.n_labelled / found.n_rows)
    days = "" if found.first is None else f", {describe_days(found.first, found.last)}"
    compared = f"; {found.n_compared:,} compared" if 0 < found.n_compared < found.n_labelled else ""
    return f"{found.n_labelled:,} of {rows} ({share}){days}{compared}"


def describe_days(first: str | None, last: str | None) -> str:
    """Return the days from the first to the last."""
    return f"{first}" if first == last else f"{first} to {last}"


def skip_performance(code: str, found: Performance) -> CheckResult | None:
    """Return a check that cannot be made, with the reason; None if it can."""
    if found.predictions is None:
        rows = format_count(found.n_labelled, "row")
        return CheckResult(code, "skipped", f"{rows} with a true value, {FEWEST_LABELS} are needed")
    if found.reference is None and code != "LK723":
        return CheckResult(code, "skipped", NO_REFERENCE)
    return None


def check_against_holdout(found: Performance) -> CheckResult:
    """Check whether the metric is worse than on the holdout."""
    if skipped := skip_performance("LK722", found):
        return skipped
    assert found.reference is not None
    if found.value is None:
        return CheckResult("LK722", "skipped", f"{found.metric} is not defined for rows of one class")
    return compare_with_holdout("LK722", found.metric, found.value, found.reference.value, found)


def compare_with_holdout(code: str, name: str, now: Interval, before: Interval, found: Performance) -> CheckResult:
    """Return the check that a metric is not shown to be worse than on the holdout."""
    evidence = f"{name} {describe_with_interval(now)}, {describe_with_interval(before)} on the holdout; resampled: "
    evidence += found.resampled
    worse = find_loss(name, now, before)
    if np.isnan(worse.low):
        return CheckResult(code, "skipped", f"{evidence}: too few independent rows for an interval")
    return make_check(code, worse.low <= 0, evidence)


def describe_with_interval(one: Interval) -> str:
    """Return a value with its interval, if it has one."""
    if np.isnan(one.low):
        return format_number(one.value)
    return format_interval(one.value, one.low, one.high)


def check_calibration_of_known(found: Performance) -> CheckResult:
    """Check whether the mean prediction equals the mean true value; see `check_bias`."""
    if skipped := skip_performance("LK723", found):
        return skipped
    assert found.predictions is not None
    assert found.blocks is not None
    return replace(check_bias(found.predictions, found.blocks), code="LK723")


def check_cost(found: Performance) -> CheckResult:
    """Check whether the cost at the threshold in force is higher than on the holdout."""
    if found.reference is not None and found.reference.cost is None:
        return CheckResult("LK724", "not applicable", "no costs are declared, or there are not two classes")
    if skipped := skip_performance("LK724", found):
        return skipped
    assert found.reference is not None
    assert found.reference.cost is not None
    assert found.cost is not None
    assert found.reference.costs is not None
    unit = f" {found.reference.costs.unit}" if found.reference.costs.unit else ""
    evidence = (
        f"{describe_with_interval(found.cost)}{unit} per row at a threshold of {found.reference.threshold:.3g}, "
        f"{describe_with_interval(found.reference.cost)} on the holdout"
    )
    worse = find_loss("log_loss", found.cost, found.reference.cost)
    if np.isnan(worse.low):
        return CheckResult("LK724", "skipped", f"{evidence}: too few independent rows for an interval")
    return make_check("LK724", worse.low <= 0, evidence)


def check_groups_now(found: Performance) -> CheckResult:
    """Check whether groups of rows have larger errors than on the holdout."""
    if skipped := skip_performance("LK725", found):
        return skipped
    if found.worse is None:
        return CheckResult("LK725", "skipped", "no group of rows is large enough here and on the holdout")
    named = [f"{one.group} (mean loss {one.loss:.3g}, {one.before:.3g} on the holdout)" for one in found.worse]
    return make_check("LK725", not named, list_briefly(named, most=3) or "none of the groups of the holdout")


def check_estimate(found: Performance, track_record: TrackRecord | None) -> CheckResult:
    """Check whether the metric that the probabilities let expect is worse than what they let expect of the holdout."""
    now, reference = found.estimated, found.reference
    if now is None:
        why = "no rows with probabilities" if not found.n_rows else "numbers have no probabilities to expect it from"
        own = f"the metric {found.metric} cannot be expected from probabilities"
        return CheckResult("LK726", "not applicable", own if found.classes and found.n_rows else why)
    rows = format_count(found.n_estimated, "row")
    if found.n_estimated < FEWEST_LABELS:
        return CheckResult("LK726", "skipped", f"{rows} predicted, {FEWEST_LABELS} are needed")
    rows = f"the latest {rows}" if found.n_estimated < found.n_rows else rows
    record = f"; {track_record}" if track_record else "; not yet compared with true values"
    evidence = f"{found.metric} {describe_with_interval(now)} is expected of {rows} {ASSUMPTION}"
    if found.estimated_cost is not None:
        evidence += f", and a cost of {format_number(found.estimated_cost)} per row"
    if reference is None or reference.expected is None:
        return CheckResult("LK726", "skipped", f"{evidence}{record}; {NO_REFERENCE}")
    evidence += f"; {format_number(reference.expected)} was expected of the holdout{record}"
    # The estimate of the holdout varies with its rows, and so less than its metric, which varies with outcomes as well.
    shift = reference.expected - reference.value.value
    before = Interval(reference.expected, reference.value.low + shift, reference.value.high + shift)
    # The estimate of few rows is biased, and that of draws of them once more: reflected, the bias cancels out (basic
    # bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2).
    reflected = Interval(now.value, 2 * now.value - now.high, 2 * now.value - now.low)
    worse = find_loss(found.metric, reflected, before)
    if np.isnan(worse.low):
        return CheckResult("LK726", "skipped", f"{evidence}: too few independent rows for an interval")
    return make_check("LK726", worse.low <= 0, evidence)
