"""The counts of a service in the text format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from labkit.serving.board import LATENCY_BOUNDS, Board
from labkit.serving.engine import Engine

PLAIN = {
    "rows": ("labkit_rows", "Rows predicted."),
    "values": ("labkit_values", "Values received in predicted rows."),
    "missing_values": ("labkit_missing_values", "Values received that were missing."),
    "outside_range": ("labkit_values_outside_range", "Numbers outside the range of the release's contract."),
    "log_rows": ("labkit_log_rows", "Rows passed to the prediction log."),
    "log_dropped": ("labkit_log_dropped_rows", "Rows not logged, because too much waited to be written."),
    "log_failures": ("labkit_log_failures", "Failed attempts to write the prediction log."),
    "feedback": ("labkit_feedback", "True values received."),
}
"""Name and meaning of each plain counter."""


class Collector:
    """Reads the shared counts of all workers whenever Prometheus asks any of them."""

    def __init__(self, board: Board, engine: Engine) -> None:
        self.board, self.engine = board, engine

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        counts = self.board.sum_counts()
        requests = CounterMetricFamily("labkit_requests", "Requests by HTTP status.", labels=["status"])
        for name, number in counts.items():
            if name.startswith("requests_"):
                requests.add_metric([name.removeprefix("requests_")], number)
        yield requests
        buckets, total = [], 0
        for place, bound in enumerate([*map(str, LATENCY_BOUNDS), "+Inf"]):
            total += counts[f"latency_{place}"]
            buckets.append((bound, total))
        seconds = HistogramMetricFamily("labkit_request_seconds", "Time from the headers of a request to its response.")
        seconds.add_metric([], buckets, counts["latency_microseconds"] / 1e6)
        yield seconds
        for name, (shown, meaning) in PLAIN.items():
            yield CounterMetricFamily(shown, meaning, value=counts[name])
        model = self.engine.describe()
        info = GaugeMetricFamily(
            "labkit_model", "The model in force; the value is its version.", labels=["experiment", "digest"]
        )
        info.add_metric([str(model["experiment"]), str(model["digest"])], model["version"] or 0)
        yield info


def make_metrics_text(board: Board, engine: Engine) -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(board, engine))
    return generate_latest(registry)
