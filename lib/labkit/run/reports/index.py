"""The index page: every experiment with its result, its stages and their pages."""

import re
from pathlib import Path
from typing import Any

from labkit.run.reports.render import write_page
from labkit.storage.atomic import parse_json


def render_index(reports_dir: Path) -> Path:
    """Write `index.html` over the stages' sidecars and publish decisions in a reports folder; return its path."""
    folders = sorted(folder for folder in reports_dir.iterdir() if folder.is_dir()) if reports_dir.is_dir() else []
    experiments = [experiment for folder in folders if (experiment := load_experiment(folder))["stages"]]
    path = reports_dir / "index.html"
    write_page(path, "index.html.j2", experiments=experiments)
    return path


def load_experiment(folder: Path) -> dict[str, Any]:
    """Read the sidecars of one experiment's reports: its stages in order, the decision and its other pages."""
    sidecars = [path for path in folder.glob("*.json") if path.name != "publish.json"]
    stages = [load_sidecar(path) for path in sorted(sidecars, key=order_by_number)]
    for stage in stages:
        name = str(stage.get("html") or "")
        stage["href"] = f"{folder.name}/{name}" if (folder / Path(name).name).is_file() else None
    decision = load_sidecar(folder / "publish.json") if (folder / "publish.json").is_file() else None
    linked = {stage["href"] for stage in stages}
    others = [(path.stem.replace("_", " "), f"{folder.name}/{path.name}") for path in sorted(folder.glob("*.html"))]
    return {
        "name": folder.name,
        "stages": stages,
        "decision": decision,
        "pages": [(name, href) for name, href in others if href not in linked],
        "started": max((str(stage.get("started") or "") for stage in stages), default=""),
    }


def load_sidecar(path: Path) -> dict[str, Any]:
    """Read one sidecar; one that cannot be read becomes a row that says so, and the other rows still show."""
    try:
        row = parse_json(path.read_bytes())
    except ValueError:
        row = None
    unreadable = {"stage": path.stem, "status": "unreadable", "decision": "unreadable"}
    return {"started": "", "seconds": None, **(row if isinstance(row, dict) else unreadable)}


def order_by_number(path: Path) -> tuple[int, str]:
    """Return a sort key that puts 2_x before 10_x and names without a number first."""
    number = re.match(r"\d+", path.name)
    return (int(number[0]) if number else -1, path.name)
