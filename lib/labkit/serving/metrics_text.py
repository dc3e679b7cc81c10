"""The counts of a service in the text format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from labkit.serving.board import LATENCY_BOUNDS, Board
from labkit.serving.challenger_state import ChallengerState
from labkit.serving.engine import Engine

PLAIN = {
    "rows": ("labkit_rows", "Rows predicted."),
    "values": ("labkit_values", "Values received in predicted rows."),
    "missing_values": ("labkit_missing_values", "Values received that were missing."),
    "numbers": ("labkit_numbers", "Values received in numeric columns, missing ones too."),
    "outside_range": ("labkit_values_outside_range", "Numbers outside the range of the release's contract."),
    "log_rows": ("labkit_log_rows", "Rows passed to the prediction log."),
    "log_dropped": ("labkit_log_dropped_rows", "Rows not logged, because too much waited to be written."),
    "log_failures": ("labkit_log_failures", "Failed attempts to write the prediction log."),
    "feedback": ("labkit_feedback", "True values received."),
    "explained": ("labkit_explained_rows", "Rows whose prediction was explained."),
}
"""Name and meaning of each plain counter."""
BY_RESULT = {
    "labkit_canary_rows": (
        "Rows of the challenger's share of the requests.",
        {"answered": "canary_rows", "refused": "canary_refused"},
    ),
    "labkit_shadow_rows": (
        "Rows of the log for the challenger to predict.",
        {"predicted": "shadow_rows", "refused": "shadow_refused", "dropped": "shadow_dropped"},
    ),
}
"""Meaning of each counter with a label `result`, and its counts by the value of the label."""


class Collector:
    """Reads the shared counts of all workers whenever Prometheus asks any of them."""

    def __init__(self, board: Board, engine: Engine, challenger: ChallengerState | None) -> None:
        self.board, self.engine, self.challenger = board, engine, challenger

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
        for shown, (meaning, by_result) in BY_RESULT.items():
            family = CounterMetricFamily(shown, meaning, labels=["result"])
            for result, name in by_result.items():
                family.add_metric([result], counts[name])
            yield family
        yield self.describe_models()

    def describe_models(self) -> Metric:
        """Return the versions in force, by role."""
        model, names = self.engine.describe(), ["experiment", "digest", "role"]
        info = GaugeMetricFamily("labkit_model", "The models in force; the value is the version.", labels=names)
        info.add_metric([str(model["experiment"]), str(model["digest"]), "champion"], model["version"] or 0)
        if self.challenger is not None and self.challenger.state == "in force":
            labels = [str(model["experiment"]), str(self.challenger.digest), "challenger"]
            info.add_metric(labels, self.challenger.version or 0)
        return info


def make_metrics_text(board: Board, engine: Engine, challenger: ChallengerState | None) -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(board, engine, challenger))
    return generate_latest(registry)
