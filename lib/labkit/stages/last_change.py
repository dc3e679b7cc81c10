"""What changed since the last run of an experiment: parameters, data, code, the metric and the checks.

`labkit.stages.publish` writes it while its run is under way, and the index of the reports shows it. Read next:
`labkit.stages.run_comparison`, which compares two runs in full.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.errors import LabkitError, ParamsError, list_briefly
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.gate import describe_paired
from labkit.params.experiment import Params
from labkit.stages.past_run import LATEST_RUN, find_current_run, find_past_run
from labkit.stages.run_comparison import SAME_DATA, RunComparison, compare_pair, show_interval
from labkit.units import format_count


def describe_last_change(params: Params, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the last run and how this one differs from it, as plain data.

    Parameters
    ----------
    before
        What was described the last time; it is kept if nothing was stale in this run.

    Returns
    -------
    dict
        `run` and `started` of the last run, and `facts`, pairs of a heading and a description; empty if it is the first
        run.
    """
    current = find_current_run(params.experiment)
    if current is None:
        return dict(before)
    try:
        last = find_past_run(params.experiment, LATEST_RUN)
        found = compare_pair(params.experiment, [current, last], is_brief=True)
    except ParamsError:
        return {}
    except LabkitError as error:
        return {"run": "", "started": "", "facts": [["not known", str(error)]]}
    return {"run": last.name, "started": last.record["started"], "facts": [list(fact) for fact in list_facts(found)]}


def list_facts(found: RunComparison) -> Iterator[tuple[str, str]]:
    """Yield what differs between this run, the first, and the last one, as pairs of a heading and a description."""
    if found.params is None:
        yield "parameters", "not known: the params file of the last run is no longer stored"
    else:
        yield "parameters", list_briefly(show_change(line["name"], line) for line in found.params) or "the same"
    yield "data", SAME_DATA[found.has_same_data]
    codes = show_arrow(found.second.describe_code(), found.first.describe_code())
    yield "code", "the same" if found.has_same_code else codes
    yield "result", describe_result(found)
    if found.checks:
        yield "checks", list_briefly(show_change(f"{line['code']} {line['title']}", line) for line in found.checks)


def describe_result(found: RunComparison) -> str:
    """Return the main metric of both runs, and the paired gain in it or why there is none."""
    values, reason = "", found.gain_reason
    if found.metrics:
        metric = found.metrics[0]
        shown = {side: show_interval(metric[side]) for side in ("first", "second") if side in metric}
        values = show_change(f"holdout {metric['name']}", shown)
    if found.gain:
        gain = Interval(*(found.gain[end] for end in ("value", "low", "high")))
        words = "the same predictions as in the last run"
        if not found.gain["same_predictions"]:
            words = describe_paired(found.gain["metric"], "the last run", gain, found.gain["confidence"])
        reason = f"on the same {format_count(found.gain['rows'], 'row')} {words}"
    return "; ".join(part for part in (values, reason) if part)


def show_change(name: str, line: Mapping[str, Any]) -> str:
    """Return a value of the last run and of this one.

    >>> show_change("folds", {"first": 10, "second": 5}), show_change("trials", {"first": 5})
    ('folds 5 → 10', 'trials – → 5')
    """
    return f"{name} {show_arrow(line.get('second', '–'), line.get('first', '–'))}"


def show_arrow(before: object, after: object) -> str:
    """Return a value before and after a change."""
    return f"{before} → {after}"
