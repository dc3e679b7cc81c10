"""The page of the delivery metrics of an experiment."""

from pathlib import Path

from labkit import paths
from labkit.monitoring.delivery import FAIL_WINDOW, Delivery, describe_spans, measure_commits
from labkit.run.reports import render
from labkit.run.reports.index import list_page_links
from labkit.run.reports.line_plot import LinePlot, Series
from labkit.units import format_count

PAGE = "delivery.html"
HOUR = 3600


def write_delivery(found: Delivery) -> Path:
    """Write the metrics as a page beside the reports of the experiment, and return its path."""
    path = paths.find_reports_dir(found.experiment) / PAGE
    render.write_page(
        path,
        "delivery.html.j2",
        experiment=found.experiment,
        found=found,
        since=found.since.isoformat(),
        until=found.until.isoformat(),
        plots=make_plots(found),
        events=[describe_deployment(found, place) for place in reversed(range(len(found.deployments)))],
        fail_days=FAIL_WINDOW.days,
        neighbours=list_page_links(path.parent),
    )
    return path


def make_plots(found: Delivery) -> list[LinePlot]:
    """Return the trends by month, once there are two months to compare."""
    months = found.list_months()
    if len(months) < 2:
        return []
    names, places = [name for name, *_ in months], range(len(months))
    made = [float(n) for _, n, _, _ in months]
    failed = [float(n) for *_, n in months]
    hours = [float("nan") if median is None else median / HOUR for _, _, median, _ in months]
    plots = [
        LinePlot(
            title="Deployments by month",
            fact=f"{format_count(len(found.deployments), 'deployment')}, {found.n_failed} of them rolled back in time "
            "to count as failed.",
            x_label="month",
            y_label="deployments",
            series=[
                Series("deployments", places, made, has_marks=True),
                Series("failed", places, failed, has_marks=True),
            ],
            x_names=names,
        )
    ]
    if found.commit_seconds:
        plots.append(
            LinePlot(
                title="Change lead time by month",
                fact=f"Median of all commits: {describe_spans(found.commit_seconds).partition(';')[0]}.",
                x_label="month",
                y_label="median lead time [h]",
                series=[Series("median", places, hours, has_marks=True)],
                x_names=names,
            )
        )
    return plots


def describe_deployment(found: Delivery, place: int) -> dict[str, str]:
    """Return what the page shows of one deployment."""
    one = found.deployments[place]
    move, made = one.deployment.move, one.deployment
    outcome = {True: "rolled back", False: "succeeded", None: "too early to know"}[one.has_failed]
    spans = measure_commits(made)
    if made.commits is None:
        lead = "not measured"
    else:
        lead = f"{format_count(len(spans), 'commit')}, {describe_spans(sorted(spans))}" if spans else "no new commit"
    return {
        "at": move.at,
        "version": str(move.after),
        "kind": move.kind,
        "by": move.by,
        "reason": move.reason,
        "lead": lead,
        "outcome": outcome + (" (rework)" if one.is_rework else ""),
    }
