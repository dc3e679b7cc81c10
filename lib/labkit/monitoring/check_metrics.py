"""The result of the last check of a champion for Prometheus, as a file for node_exporter's textfile collector.

A check is no service: it ends before anyone could ask it, and a model that predicts in batches has no service at all.
So there is one file for each experiment in one folder, which node_exporter reads.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from labkit import paths
from labkit.monitoring.delivery import parse_time
from labkit.monitoring.health import VERDICTS
from labkit.storage.atomic import write_bytes

SEVERITIES = VERDICTS[1:]


def make_check_metrics(
    record: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]], *, data_end: str | None
) -> bytes:
    """Return the metrics of a check in the text format of Prometheus.

    Parameters
    ----------
    record
        What is kept of the check in the history.
    alerts
        The alerts that are open.
    data_end
        Time of the latest training row, ISO 8601; None if they have no times.
    """
    registry, name = CollectorRegistry(), record["experiment"]

    def add(metric: str, meaning: str, value: float, **labels: str) -> None:
        labels = {"experiment": name, **labels}
        known = gauges.get(metric) or Gauge(f"labkit_monitoring_{metric}", meaning, [*labels], registry=registry)
        gauges[metric] = known
        known.labels(**labels).set(value)

    gauges: dict[str, Gauge] = {}
    add("check_timestamp_seconds", "Time of the last check.", parse_time(record["at"]).timestamp())
    add("champion_version", "Version that was checked.", record["version"])
    add("rows", "Rows that the last check read.", record["rows"])
    add("judged_rows", "Rows of the windows that the last check compared.", record["judged_rows"])
    if data_end is not None:
        at = parse_time(data_end[:19]).timestamp()
        add("training_data_end_timestamp_seconds", "Time of the latest training row.", at)
    for verdict in VERDICTS:
        add("verdict", "1 for the verdict of the last check.", verdict == record["verdict"], verdict=verdict)
    for check in record["checks"]:
        if check["status"] in ("issue", "warning", "passed"):
            is_found = check["code"] in record["actions"]
            add("finding", "1 for checks that need attention.", is_found, code=check["code"])
    for severity in SEVERITIES:
        n_open = sum(alert["severity"] == severity for alert in alerts)
        add("open_alerts", "Alerts that are open.", n_open, severity=severity)
    return generate_latest(registry)


def write_check_metrics(
    record: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]], *, data_end: str | None
) -> Path:
    """Write the metrics of a check for the textfile collector, and return their file; see `make_check_metrics`."""
    path = find_metrics_dir() / f"{record['experiment']}.prom"
    write_bytes(path, make_check_metrics(record, alerts, data_end=data_end))
    return path


def find_metrics_dir() -> Path:
    """Return the folder with the metrics of the last checks, one file for each experiment."""
    return paths.find_root() / ".labkit" / "metrics"
