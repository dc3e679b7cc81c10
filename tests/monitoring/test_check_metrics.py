"""Metrics of the last check for Prometheus, and the dashboard and the rules that read them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from labkit.monitoring.check_metrics import find_metrics_dir, make_check_metrics, write_check_metrics
from labkit.serving.board import Board
from labkit.serving.metrics_text import make_metrics_text
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.serving.running import open_engine, write_release

RECORD = {
    "experiment": "small",
    "at": "2026-03-01T12:00:00+00:00",
    "version": 3,
    "verdict": "stop",
    "rows": 900,
    "judged_rows": 600,
    "actions": {"LK703": "stop"},
    "checks": [
        {"code": "LK701", "status": "passed"},
        {"code": "LK703", "status": "issue"},
        {"code": "LK704", "status": "skipped"},
    ],
}
ALERTS = [{"severity": "stop"}, {"severity": "watch"}, {"severity": "watch"}]


def read_samples(content: bytes) -> dict[str, float]:
    """Return the value of each sample, by its name and the labels other than the experiment's."""
    found = {}
    for family in text_string_to_metric_families(content.decode()):
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if name != "experiment"]
            found[" ".join([sample.name, *labels])] = sample.value
    return found


def test_metrics_are_those_of_the_check() -> None:
    found = read_samples(make_check_metrics(RECORD, ALERTS, data_end="2026-02-01T00:00:00"))
    prefix = "labkit_monitoring_"
    assert {name.removeprefix(prefix): value for name, value in found.items()} == {
        "check_timestamp_seconds": 1772366400, "training_data_end_timestamp_seconds": 1769904000,
        "champion_version": 3, "rows": 900, "judged_rows": 600,
        "verdict ok": 0, "verdict watch": 0, "verdict retrain": 0, "verdict stop": 1,
        "finding LK701": 0, "finding LK703": 1,
        "open_alerts watch": 2, "open_alerts retrain": 0, "open_alerts stop": 1,
    }  # fmt: skip
    assert "labkit_monitoring_training_data_end_timestamp_seconds" not in read_samples(
        make_check_metrics(RECORD, (), data_end=None)
    )


def test_each_experiment_has_a_file_of_its_own(params_root: Path) -> None:
    for name in ("small", "other"):
        path = write_check_metrics({**RECORD, "experiment": name}, ALERTS, data_end=None)
        assert f'labkit_monitoring_rows{{experiment="{name}"}} 900.0' in path.read_text()
    assert sorted(path.name for path in find_metrics_dir().iterdir()) == ["other.prom", "small.prom"]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the labels of every sample that checks and services expose, by its name."""
    folder = write_release(tmp_path_factory.mktemp("shop") / "release")
    engine, board = open_engine(folder), Board(folder.parent / "board", n_workers=1)
    content = make_check_metrics(RECORD, ALERTS, data_end="2026-02-01") + make_metrics_text(board, engine, None)
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def find_expressions(content: Any) -> Iterator[str]:
    """Yield the queries of a dashboard or of rules."""
    for name, value in content.items() if isinstance(content, dict) else ():
        if name in ("expr", "query") and isinstance(value, str) and "labkit" in value:
            yield value
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from find_expressions(value)


@pytest.mark.parametrize("file", ["grafana/labkit.json", "prometheus/labkit.rules.yml"])
def test_queries_name_metrics_and_labels_that_exist(exposed: dict[str, set[str]], file: str) -> None:
    text = (ROOT / "deploy" / file).read_text()
    expressions = [*find_expressions(yaml.safe_load(text))]
    assert expressions
    for expression in expressions:
        for name, labels in re.findall(r"(labkit_\w+)(?:\{(.*?)\})?", expression):
            assert name in exposed, f"{expression}: no metric {name}"
            assert set(re.findall(r"(\w+)=", labels)) <= exposed[name], expression
        for label in re.findall(r"by \((\w+)\)", expression):
            assert any(label in exposed[name] for name in re.findall(r"labkit_\w+", expression)), expression
    assert "labkit_nothing" not in exposed


def test_dashboard_can_be_imported() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/labkit.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) == variables
