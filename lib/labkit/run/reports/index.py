"""The index page: every experiment with its result, its stages and their pages."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit.run.records.stage_record import load_records
from labkit.run.reports.render import write_page
from labkit.storage.atomic import parse_json


def render_index(reports_dir: Path) -> Path:
    """Write `index.html` over the stage records and publish decisions in a reports folder; return its path."""
    folders = sorted(folder for folder in reports_dir.iterdir() if folder.is_dir()) if reports_dir.is_dir() else []
    experiments = [experiment for folder in folders if (experiment := load_experiment(folder))["stages"]]
    path = reports_dir / "index.html"
    write_page(path, "index.html.j2", experiments=experiments)
    return path


def load_experiment(folder: Path) -> dict[str, Any]:
    """Return what the index shows of one experiment: its stages in order, the decision and its other pages."""
    stages = [asdict(record) for record in load_records(folder).values()]
    for stage in stages:
        name = str(stage.get("html") or "")
        stage["href"] = f"{folder.name}/{name}" if (folder / Path(name).name).is_file() else None
    decision = load_decision(folder / "publish.json") if (folder / "publish.json").is_file() else None
    linked = {stage["href"] for stage in stages}
    others = [(path.stem.replace("_", " "), f"{folder.name}/{path.name}") for path in sorted(folder.glob("*.html"))]
    return {
        "name": folder.name,
        "stages": stages,
        "decision": decision,
        "pages": [(name, href) for name, href in others if href not in linked],
        "started": max((str(stage.get("started") or "") for stage in stages), default=""),
    }


def load_decision(path: Path) -> dict[str, Any]:
    """Return the latest decision about publishing; one that cannot be read is shown as such."""
    try:
        decision = parse_json(path.read_bytes())
    except ValueError:
        decision = None
    return decision if isinstance(decision, dict) else {"decision": "unreadable"}
