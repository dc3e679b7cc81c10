"""The replay of an experiment: from the stored rows to its page."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from labkit import paths
from labkit.artifacts import PLACES, load_artifact
from labkit.data.split import list_days
from labkit.data.table_files import save_table
from labkit.errors import ParamsError
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.release.bundle import load_release
from labkit.monitoring.replay import POLICIES, Replay
from labkit.monitoring.replay_fits import FitWork, open_fits
from labkit.monitoring.replay_result import summarise_replay, tabulate_predictions
from labkit.params.experiment import Params
from labkit.run.records.champion_moves import load_champion
from labkit.run.reports import render
from labkit.run.reports.index import list_page_links
from labkit.run.reports.line_plot import LinePlot, Series
from labkit.stages.publish import fetch_champion
from labkit.storage.atomic import write_json
from labkit.units import format_interval, format_number

PAGE = "replay.html"


def load_clean_rows(params: Params) -> pd.DataFrame:
    """Return the rows of all parts of the split.

    Raises
    ------
    DataError
        A part is missing or was changed since its stage wrote it.
    """
    folder = paths.find_data_dir(params.experiment)
    names = ["training", "validation", "holdout", *(["aside"] if "aside" in list_days(params.data) else [])]
    parts = [load_artifact(f"clean_{name}", folder / PLACES[f"clean_{name}"], params) for name in names]
    return pd.concat(parts)


def replay_policies(
    params: Params,
    policies: Sequence[str],
    *,
    begin: datetime | None,
    now: datetime,
    report: Callable[[str], None],
    dask: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Replay policies with the recipe of the champion, and return the result and the path of its page.

    Parameters
    ----------
    begin
        First day that is replayed; None for the period after the first quarter.
    now
        Time of the replay in UTC, by which its record is named.
    report
        Called with a line for each decision.
    dask
        The cluster whose workers fit, see `labkit.run.cluster.address.open_cluster`; None to fit here.

    Raises
    ------
    ParamsError
        There is no champion, no time is declared, nothing is left to replay, or there is no such cluster.
    DataError
        The clean rows cannot be used.
    """
    champion = load_champion(params.experiment)
    if params.data.time is None:
        raise ParamsError(f"{params.experiment}: rows have no times, so nothing can be replayed: declare data.time")
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        release = load_release(fetch_champion(params.experiment, champion, Path(scratch)))
        with release.code.active(), ExitStack() as stack:
            rows, first = load_clean_rows(params), None if begin is None else pd.Timestamp(begin)
            replay = Replay(params, rows, release.pipeline, begin=first)
            if dask is not None:
                work = FitWork(release.folder, replay.rows, params.data.target, params.seed)
                times = dict.fromkeys(at for name in policies for at in replay.list_trainings(name))
                replay.fit = stack.enter_context(open_fits(release, work, dask, times))
            runs = [replay.run(name, report) for name in policies]
            result, predicted = summarise_replay(replay, runs), tabulate_predictions(replay, runs)
    split = load_artifact("split", paths.find_data_dir(params.experiment) / PLACES["split"], params)
    result |= {"at": now.isoformat(timespec="seconds"), "champion": champion.number}
    result |= {"embargoed": sum(split["embargoed"].values())}
    record = paths.find_data_dir(params.experiment) / "monitoring" / "replays" / f"{now:%Y%m%dT%H%M%SZ}.json"
    save_table(record.with_suffix(".parquet"), predicted)
    write_json(record, result)
    return result, write_replay(result, paths.show_path(record))


def write_replay(result: Mapping[str, Any], record: str) -> Path:
    """Write a replay as a page beside the reports of the experiment, and return its path."""
    path = paths.find_reports_dir(result["experiment"]) / PAGE
    render.write_page(
        path,
        "replay.html.j2",
        result=result,
        record=record,
        lines=[describe_policy(result, one) for one in result["policies"]],
        plots=make_replay_plots(result),
        decisions=list_decisions(result),
        meanings=[(one["policy"], POLICIES[one["policy"]]) for one in result["policies"]],
        neighbours=list_page_links(path.parent),
    )
    return path


def describe_policy(result: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, str]:
    """Return what the page shows of one policy in a line."""
    is_base, mean = one is result["policies"][0], one["mean"]
    found = {name: Interval.from_dict(one[name]) for name in ("gain", "saved") if name in one}
    shown = {name: "–" if is_base else format_interval(has.value, has.low, has.high) for name, has in found.items()}
    return {
        "policy": one["policy"],
        "trainings": str(one["trainings"]),
        "promoted": str(one["promoted"]),
        "mean": "–" if mean is None else f"{mean:.3f}" if abs(mean) < 10 else format_number(mean, 4),
        "cost": f"{one['mean_cost']:.3f}" if "saved" in shown else "",
        "saved": "",
        **shown,
    }


def describe_best_policy(result: Mapping[str, Any], name: str, noun: str) -> str:
    """Return which policy has the largest gain over the first one, among those whose interval is above 0."""
    base, *others = result["policies"]
    better = [one for one in others if (one[name]["low"] or 0) > 0]
    if not better:
        return f"On all rows, no {noun} over {base['policy']} has an interval above 0."
    best = max(better, key=lambda one: one[name]["value"])
    return f"Largest {noun} over {base['policy']} on all rows: {best['policy']}."


def make_replay_plots(result: Mapping[str, Any]) -> list[LinePlot]:
    """Return the courses of the policies: the metric, the cost, and how many were predicted and came."""
    names, policies = result["periods"], result["policies"]
    places, unit = range(len(names)), result["unit"]

    def draw(title: str, fact: str, label: str, key: str) -> LinePlot:
        courses = [[math.nan if value is None else value for value in one[key]] for one in policies]
        series = [
            Series(one["policy"], places, course, has_marks=True) for one, course in zip(policies, courses, strict=True)
        ]
        return LinePlot(title, fact, unit, label, series, x_names=shorten_periods(names))

    metric = result["metric"]
    plots = [draw(f"{metric} by {unit}", describe_best_policy(result, "gain", "gain"), metric, "values")]
    if "costs" in policies[0]:
        label = f"cost per row [{result['cost_unit']}]" if result["cost_unit"] else "cost per row"
        plots.append(draw(f"Cost by {unit}", describe_best_policy(result, "saved", "saving"), label, "costs"))
    if "true_share" in policies[0]:
        shares = [Series(one["policy"], places, one["predicted_share"], has_marks=True) for one in policies]
        shares.append(Series("true", places, policies[0]["true_share"], has_marks=True))
        fact = "Mean predicted probability of the class of interest, and its true share."
        plots.append(LinePlot("Predicted and true share", fact, unit, "share", shares, x_names=shorten_periods(names)))
    return plots


def shorten_periods(names: Sequence[str]) -> list[str]:
    """Return names of periods without what all share: the year of months, the end of weeks.

    >>> shorten_periods(["2013-04", "2013-05"]), shorten_periods(["2013-04-01/2013-04-07"])
    (['04', '05'], ['04-01'])
    """
    begins = [name.partition("/")[0] for name in names]
    return [name[5:] for name in begins] if len({name[:4] for name in begins}) == 1 else begins


def list_decisions(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the decisions of all policies that ever train again, in order of time."""
    found = [one for policy in result["policies"] for one in policy["decisions"] if policy["trainings"]]
    return sorted(found, key=lambda one: one["period"])
