"""The checks of rows in service: what was found in words, and whether it needs attention."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from labkit.checks import CheckResult, make_check
from labkit.errors import list_briefly
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.release.contract_changes import allows_missing, load_columns
from labkit.monitoring.current_counts import Counted
from labkit.monitoring.current_rows import Current
from labkit.monitoring.domain_classifier import RowComparison
from labkit.monitoring.drift import FEWEST_KNOWN, LARGEST_SCORE, Change, Drift, Kind
from labkit.monitoring.reference_profile import FEWEST_WINDOWS, Profile, Reference
from labkit.monitoring.reference_windows import count_holidays
from labkit.monitoring.unit_changes import UnitChange
from labkit.monitoring.window_counts import Counts
from labkit.units import format_count, format_share, format_time_span

IMPLAUSIBLE = 0.005
"""Share of values outside the plausible range of the contract that breaks it; single ones are typing errors."""
LONG_UNCHECKED = timedelta(days=30)
CODES: dict[Kind, str] = {
    "distribution": "LK704", "unseen values": "LK705", "missing values": "LK706", "relation": "LK707",
    "volume": "LK708",
}  # fmt: skip


def check_inputs(
    current: Current, counted: Counted, profile: Profile, *, judged: Sequence[int], is_recent: bool
) -> CheckResult:
    """Check the rows against the contract: columns, kinds, missing values, plausible ranges.

    Parameters
    ----------
    judged
        Numbers of the windows that are judged, ascending.
    is_recent
        Whether rows before the first of them are left out; else all rows are checked.
    """
    if not counted.n_rows and not current.faults:
        return CheckResult("LK701", "skipped", "no rows")
    agreed, sums = load_columns(current.release), counted.sum_values(judged[0] if is_recent and judged else None)
    faults = list(current.faults)
    for name, (n_rows, n_known, n_outside) in sums.items():
        if not n_known and n_rows >= FEWEST_KNOWN and has_values(profile, name):
            faults.append(f"{name!r} has no value in any row")
        elif empty := find_empty(name, counted, profile, judged):
            faults.append(empty)
        elif n_known < n_rows and not allows_missing(agreed, name):
            n_missing = format_count(int(n_rows - n_known), "row")
            faults.append(f"{name!r} is missing in {n_missing}, which the contract does not allow")
        if n_outside and n_outside >= IMPLAUSIBLE * n_known:
            faults.append(f"{name!r}: {format_share(n_outside / n_known, 1)} of the values are not plausible")
    n_checked = format_count(max((int(one[0]) for one in sums.values()), default=0), "row")
    evidence = list_briefly(faults) or f"all columns of {n_checked} as agreed"
    return make_check("LK701", not faults, evidence, failed="issue")


def has_values(profile: Profile, name: str) -> bool:
    """Return whether a column has a value in some row of the reference."""
    base = profile.inputs.counts
    return bool(base.missing[name].sum() < base.rows.sum())


def find_empty(name: str, counted: Counted, profile: Profile, judged: Sequence[int]) -> str:
    """Return in which windows a column has no value, although it has some in each of the reference; else ""."""
    base, windows, found = profile.inputs.counts, profile.inputs.windows, counted.values[name]
    if (base.missing[name] >= base.rows).any():
        return ""
    empty = [one for one in judged if one in found and found[one][0] >= FEWEST_KNOWN and not found[one][1]]
    return f"{name!r} has no value in {list_briefly(map(windows.name, empty), most=3)}" if empty else ""


def check_units(units: Sequence[UnitChange], drift: Drift, profile: Profile) -> CheckResult:
    """Check for columns with another unit."""
    if not is_compared(drift, "distribution") and not is_compared(drift, "relation"):
        return skip("LK702", profile.inputs, drift)
    windows = profile.inputs.windows
    found = [f"{one.column!r} looks like {one.conversion} since {windows.name(one.window)}" for one in units]
    return make_check("LK702", not found, list_briefly(found) or "no conversion explains a change", failed="issue")


def check_traffic(
    current: Current, counted: Counted, profile: Profile, now: datetime, *, holidays: Mapping[str, str]
) -> CheckResult:
    """Check that rows arrive; a log goes on, other rows only have to be there.

    A log is silent if nothing was predicted for a day, the longest pause of the reference, and holidays together.
    Without times in the reference it is not known how long a pause is usual, and the check is skipped.
    """
    if not counted.n_rows and current.faults:
        return CheckResult("LK703", "skipped", "the rows could not be read")
    if not counted.n_rows and current.n_unfit:
        rows = format_count(current.n_unfit, "row")
        evidence = f"no request yet with the columns of this release; {rows} of {current.name} are of another one"
        return CheckResult("LK703", "skipped", evidence)
    if not counted.n_rows:
        return make_check("LK703", False, f"{current.name} has no rows", failed="issue")
    if not current.is_log:
        return make_check("LK703", True, format_count(counted.n_rows, "row"))
    if counted.last is None:
        return CheckResult("LK703", "skipped", "no line of the log has a time up to now")
    silent = (np.datetime64(now.replace(tzinfo=None), "us") - counted.last) / np.timedelta64(1, "s")
    last = f"last prediction {format_time_span(max(silent, 0))} ago"
    if profile.quiet_hours is None:
        return CheckResult(
            "LK703", "skipped", f"{last}; the training rows have no times, so no pause is known as usual"
        )
    n_holidays = count_holidays(counted.last.astype("datetime64[s]").item(), now, holidays)
    allowed = 3600.0 * (24 * (1 + n_holidays) + profile.quiet_hours)
    evidence = f"{last}; up to {format_time_span(allowed)} is usual"
    return make_check("LK703", bool(silent <= allowed), evidence, failed="issue")


def is_compared(drift: Drift, kind: Kind) -> bool:
    """Return whether at least one window was compared by this kind of change."""
    return any(np.isfinite(scores).any() for key, scores in drift.scores.items() if key[1] == kind)


def skip(code: str, reference: Reference, drift: Drift) -> CheckResult:
    """Return a check that cannot be made, with the reason."""
    n, n_windows = int(reference.complete.sum()), len(drift.counts.rows)
    if not drift.usual:
        evidence = f"the reference has {format_count(n, 'complete window')}, calibrated alarms need {FEWEST_WINDOWS}"
    elif not n_windows:
        evidence = "no complete window to judge"
    elif drift.n_small == n_windows:
        evidence = f"too few rows to compare in {format_count(n_windows, 'window')}"
    else:
        evidence = f"no window has {format_count(FEWEST_KNOWN, 'known value')} of a column"
    return CheckResult(code, "skipped", evidence)


def check_changes(drift: Drift, profile: Profile, unseen: Mapping[str, Mapping[str, int]]) -> list[CheckResult]:
    """Check each kind of change of the inputs."""
    if not drift.usual:
        return [skip(code, profile.inputs, drift) for code in CODES.values()]
    made = []
    for kind, code in CODES.items():
        found = [
            describe_change(change, drift, profile.inputs, unseen) for change in drift.changes if change.kind == kind
        ]
        if not any(key[1] == kind for key in drift.usual):
            made.append(CheckResult(code, "not applicable", "the model has no such columns"))
        elif not is_compared(drift, kind):
            made.append(skip(code, profile.inputs, drift))
        else:
            made.append(make_check(code, not found, list_briefly(found) or describe_usual_windows(drift, kind)))
    return made


def check_whole_rows(found: RowComparison, drift: Drift, profile: Profile) -> CheckResult:
    """Check whether a classifier tells rows as a whole from the reference."""
    if not drift.usual:
        return skip("LK713", profile.inputs, drift)
    if not found.stretches:
        return CheckResult("LK713", "skipped", found.reason)
    windows, alarms = profile.inputs.windows, found.alarms
    most = max(found.stretches, key=lambda one: one.area.value)
    named = [
        f"{windows.name(one.first)} to {windows.name(one.last)}: AUC {format_area(one.area)}"
        + (f", mostly by {', '.join(repr(name) for name, _ in one.columns)}" if one.columns else "")
        for one in alarms or [most]
    ]
    usual = f"{np.median(found.areas):.2f} is usual in the reference, {found.areas.max():.2f} its largest"
    return make_check("LK713", not alarms, f"{list_briefly(named, most=2)}; {usual}")


def format_area(area: Interval) -> str:
    """Return an area under the curve with its interval, if it has one."""
    return f"{area.value:.2f}" + ("" if np.isnan(area.low) else f" ({area.low:.2f} to {area.high:.2f})")


def describe_usual_windows(drift: Drift, kind: Kind) -> str:
    """Return in how many windows nothing of a kind has changed, and how many could not be compared."""
    n_windows, n_small = len(drift.counts.rows), 0 if kind == "volume" else drift.n_small
    usual = f"as usual in {format_count(n_windows - n_small, 'window')}"
    return f"{usual}; {n_small} with too few rows" if n_small else usual


def describe_change(change: Change, drift: Drift, reference: Reference, unseen: Mapping[str, Mapping[str, int]]) -> str:
    """Return a change as a clause: column, windows, effect in its unit, distance from the median in spreads."""
    windows, name = reference.windows, change.column
    when = f"since {windows.name(change.first)}" if change.n_windows > 1 else f"on {windows.name(change.first)}"
    if windows.days is None:
        when = f"in {windows.name(change.first)}"
    if change.kind == "volume":
        amount = "no rows" if change.effect >= LARGEST_SCORE else f"{np.exp(change.effect):.2g}-fold change"
        return f"{amount} {when}"
    spreads = "outside all windows of the reference" if change.score >= LARGEST_SCORE else f"z = {change.score:.0f}"
    return f"{name!r} {when}: {describe_effect(change, drift, reference, unseen.get(name, {}))}, {spreads}"


def describe_effect(change: Change, drift: Drift, reference: Reference, unseen: Mapping[str, int]) -> str:
    """Return the effect of a change in the window in which it is largest."""
    if change.kind == "unseen values":
        shown = list_briefly([repr(one) for one in sorted(unseen, key=lambda one: -unseen[one])], most=3)
        return f"{format_share(change.effect, 1)} ({shown})"
    if change.kind == "missing values":
        window = drift.counts.take(drift.counts.numbers == change.worst)
        share, usual = (one.missing[change.column].sum() / one.rows.sum() for one in (window, reference.counts))
        return f"{format_share(share, 1)} missing, {format_share(usual, 1)} in the reference"
    if change.kind == "relation":
        return f"{change.effect:.2g} sd from what the other columns predict"
    if reference.layout[change.column].kind == "number" and not reference.layout[change.column].sd:
        return f"{format_share(change.effect, 1)} differ from the only value in the reference"
    return f"{change.effect:.2g} {'W/sd' if reference.layout[change.column].kind == 'number' else 'JS distance'}"


def check_predictions(drift: Drift | None, profile: Profile) -> CheckResult:
    """Check the distribution of the predictions."""
    if drift is None or profile.predictions is None:
        return CheckResult("LK709", "not applicable", "no predictions of this release among the rows")
    if not is_compared(drift, "distribution"):
        return skip("LK709", profile.predictions, drift)
    changes = [one for one in drift.changes if one.kind == "distribution"]
    found = [describe_change(change, drift, profile.predictions, {}) for change in changes]
    return make_check("LK709", not found, list_briefly(found) or "as usual")


def check_readable(current: Current, counted: Counted) -> CheckResult:
    """Check that all rows could be read and dated."""
    found = []
    if current.damaged:
        n_damaged = sum(current.damaged.values())
        files = list_briefly(current.damaged, most=3)
        found.append(f"{format_count(n_damaged, 'damaged line')} skipped, in {files}")
    if counted.n_ahead:
        found.append(f"{format_count(counted.n_ahead, 'row')} later than now left out")
    if counted.n_timeless:
        found.append(f"{format_count(counted.n_timeless, 'row')} without a time left out")
    return make_check("LK710", not found, list_briefly(found) or "all rows were read")


def check_age(profile: Profile, counted: Counted, last_check: datetime | None, now: datetime) -> CheckResult:
    """Check how old the reference is for the rows, and the last check.

    A reference is old once the rows are further from its end than it is long: it then has at most half of what has
    happened since its beginning.
    """
    checked = (
        "first check"
        if last_check is None
        else f"last check {format_time_span((now - last_check).total_seconds())} ago"
    )
    is_unchecked = last_check is not None and now - last_check > LONG_UNCHECKED
    if is_unchecked:
        checked += f", more than {format_time_span(LONG_UNCHECKED.total_seconds())}"
    if profile.begin is None or profile.fitted_until is None or counted.last is None:
        why = "no row has a time up to now" if profile.end else "the training rows have no times"
        return make_check("LK711", not is_unchecked, f"{checked}; {why}")
    begin, end = (np.datetime64(at[:19], "us") for at in (profile.begin, profile.fitted_until))
    age, length = ((one / np.timedelta64(1, "s")) for one in (counted.last - end, end - begin))
    evidence = (
        f"the latest row is {format_time_span(max(age, 0))} later than the training rows, which span "
        f"{format_time_span(length)}"
    )
    is_recent = bool(age <= length)
    found = f"{checked}; {evidence}" if is_unchecked and is_recent else f"{evidence}; {checked}"
    return make_check("LK711", is_recent and not is_unchecked, found)


def check_growth(counted: Counted, profile: Profile, most: float) -> CheckResult:
    """Check how many rows there are since the training run, as a share of those it trained on, below `most`."""
    if profile.end is None:
        return CheckResult("LK712", "not applicable", "the training rows have no times")
    n_rows = profile.fitted_rows or profile.n_rows
    share = counted.n_later / n_rows
    evidence = f"{format_count(counted.n_later, 'row')} later than those of the training run"
    shown = f"{format_share(share)} of the {n_rows:,} it trained on"
    return make_check("LK712", share < most, f"{evidence}, {shown}")


def list_range_breaks(reference: Reference, counts: Counts) -> list[str]:
    """Return a sentence for each number that is outside the range of the reference."""
    found = []
    for name, extremes in counts.extremes.items():
        (low, high), known = (
            (reference.counts.extremes[name][:, 0].min(), reference.counts.extremes[name][:, 1].max()),
            [],
        )
        if len(extremes) and np.isfinite(low):
            least, largest = extremes[:, 0].min(), extremes[:, 1].max()
            known += [f"{least:.4g} below {low:.4g}"] if least < low else []
            known += [f"{largest:.4g} above {high:.4g}"] if np.isfinite(largest) and largest > high else []
        if known:
            found.append(f"{name}: {', '.join(known)}")
    return found


def describe_holidays(holidays: Mapping[int, str]) -> list[str]:
    """Return the windows that are not judged because of a holiday, as a sentence; none without one."""
    if not holidays:
        return []
    return [f"drift is not judged on holidays (monitoring.holidays): {list_briefly(holidays.values(), most=3)}"]


def list_remarks(current: Current, profile: Profile, drift: Drift) -> list[str]:
    """Return what readers have to know to judge the result."""
    notes = list(current.notes)
    if not is_compared(drift, "missing values"):
        notes.append(f"drift is not judged: {skip('LK704', profile.inputs, drift).evidence}")
    if profile.begin and profile.end:
        span = (np.datetime64(profile.end[:19]) - np.datetime64(profile.begin[:19])) / np.timedelta64(365, "D")
        if span < 1:
            notes.append("the training rows do not span a year, so a season that they lack looks like drift")
    if drift.n_small:
        notes.append(f"{format_count(drift.n_small, 'window')} with too few rows to compare distributions")
    return notes
