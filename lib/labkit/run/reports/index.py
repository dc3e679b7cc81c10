"""The index page: every experiment with its result, its stages and their pages."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite, nan
from pathlib import Path
from typing import Any

from labkit.run.records.stage_record import load_records
from labkit.run.reports.line_plot import LinePlot, Series
from labkit.run.reports.render import write_page
from labkit.storage.atomic import parse_json
from labkit.storage.locks import hold_lock

WELL = ("finished", "cached")
"""Status of a stage whose result stands."""
PUBLISHED = ("published", "already champion")
"""Decisions after which the latest release is in service."""


def render_index(reports_dir: Path) -> Path:
    """Write `index.html` over the stage records and publish decisions in a reports folder; return its path."""
    # Otherwise a run could replace the index of a later one by what it has read before.
    with hold_lock(reports_dir.parent / ".labkit" / "index.lock"):
        return write_index(reports_dir)


def write_index(reports_dir: Path) -> Path:
    """Write the index as `render_index` does, while no other process writes it."""
    folders = sorted(folder for folder in reports_dir.iterdir() if folder.is_dir()) if reports_dir.is_dir() else []
    experiments = [experiment for folder in folders if (experiment := load_experiment(folder))["stages"]]
    experiments.sort(key=rank_attention)
    path = reports_dir / "index.html"
    write_page(path, "index.html.j2", experiments=experiments)
    return path


def rank_attention(experiment: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return by what experiments are ordered: those that need attention first, others by their names.

    First are those with a stage that failed, then those whose release was not published, then those with more failed
    checks and warnings.
    """
    has_failed = any(stage["status"] not in WELL for stage in experiment["stages"])
    decision = (experiment["decision"] or {}).get("decision")
    statuses = [check["status"] for check in experiment["scorecard"]["checks"]]
    counts = (-statuses.count("issue"), -statuses.count("warning"))
    return (not has_failed, decision in PUBLISHED, *counts, experiment["name"])


def load_experiment(folder: Path) -> dict[str, Any]:
    """Return what the index shows of one experiment: its stages in order, the decision and its other pages."""
    stages = [asdict(record) for record in load_records(folder).values()]
    for stage in stages:
        name = str(stage.get("html") or "")
        stage["href"] = f"{folder.name}/{name}" if (folder / Path(name).name).is_file() else None
    mark_stale(stages)
    decision = load_decision(folder / "publish.json") if (folder / "publish.json").is_file() else None
    scorecard = load_scorecard(folder / "publish.json")
    linked = {stage["href"] for stage in stages}
    others = [(path.stem.replace("_", " "), f"{folder.name}/{path.name}") for path in sorted(folder.glob("*.html"))]
    return {
        "name": folder.name,
        "stages": stages,
        "decision": decision,
        "scorecard": link_checks(scorecard, stages, folder),
        "trend": make_trend(scorecard),
        "decision_page": f"{folder.name}/publish.html" if (folder / "publish.html").is_file() else None,
        "pages": [(name, href) for name, href in others if href not in linked and name != "publish"],
        "started": max((str(stage.get("started") or "") for stage in stages), default=""),
    }


def list_page_links(folder: Path) -> list[tuple[str, str]]:
    """Return title and file name of each page of an experiment: its stages in order, then the decision."""
    pages = [(record.page.replace("_", " "), f"{record.page}.html") for record in load_records(folder).values()]
    pages = [(title, name) for title, name in pages if (folder / name).is_file()]
    return [*pages, *((name, f"{name}.html") for name in ("publish",) if (folder / f"{name}.html").is_file())]


def load_decision(path: Path) -> dict[str, Any]:
    """Return the latest decision about publishing; one that cannot be read is shown as such."""
    try:
        decision = parse_json(path.read_bytes())
    except ValueError:
        decision = None
    return decision if isinstance(decision, dict) else {"decision": "unreadable"}


def load_scorecard(path: Path) -> dict[str, Any]:
    """Return the scorecard that was written beside a decision; empty if there is none."""
    decision = load_decision(path) if path.is_file() else {}
    scorecard = decision.get("scorecard")
    return scorecard if isinstance(scorecard, dict) else {}


def make_trend(scorecard: dict[str, Any]) -> LinePlot | None:
    """Return the plot of the main metric over the versions that were champion; None of fewer than two."""
    entries = [
        entry
        for entry in scorecard.get("versions", [])
        if isinstance(entry, dict) and isinstance(entry.get("value"), int | float) and isfinite(entry["value"])
    ]
    if len(entries) < 2:
        return None
    low, high = ([nan if entry[end] is None else entry[end] for entry in entries] for end in ("low", "high"))
    better = "higher" if scorecard["is_greater_better"] else "lower"
    values, metric, unit = [entry["value"] for entry in entries], scorecard["metric"], scorecard["unit"]
    return LinePlot(
        title="Published versions",
        fact=f"Each measured on the holdout of its run; {better} is better.",
        x_label="version",
        y_label=f"{metric} ({unit})" if unit else metric,
        series=[Series("holdout", [*range(len(entries))], values, low, high, has_marks=True)],
        x_names=[f"v{entry['version']}" for entry in entries],
    )


def link_checks(scorecard: dict[str, Any], stages: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Return a scorecard whose checks link to the sections that have their details.

    The first digit of a check's code is the number of its page; checks of the decision are on the page of publishing.
    """
    pages = {str(stage["page"])[:2]: stage["href"] for stage in stages if stage["href"]}
    decided = f"{folder.name}/publish.html" if (folder / "publish.html").is_file() else None
    checks = [
        check | {"href": f"{page}#{check['section'].replace(' ', '-')}" if page else decided}
        for check in scorecard.get("checks", [])
        if isinstance(check, dict) and set(check) >= {"code", "section", "status", "title", "evidence"}
        for page in [pages.get(f"0{check['code'][2:3]}")]
    ]
    return scorecard | {"checks": checks}


def mark_stale(stages: list[dict[str, Any]]) -> None:
    """Mark the stages after one that failed: their results are of an earlier run."""
    is_stale = False
    for stage in stages:
        stage["is_stale"] = is_stale
        is_stale = is_stale or stage["status"] in ("failed", "interrupted")
