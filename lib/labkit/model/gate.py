"""The gate: whether a model may be published, and why.

Pure decisions on figures that others computed. Read next: `labkit.live.publish`, which acts on them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from labkit.model.metrics import Interval, is_greater_better
from labkit.params import Gate


@dataclass(frozen=True)
class Check:
    """One question to a model, with the answer in words for people who did not train it."""

    name: str
    passed: bool
    evidence: str

    def __str__(self) -> str:
        """Return the answer, the question and what shows it."""
        return f"{'✓' if self.passed else '✗ not shown to be so:'} {self.name}: {self.evidence}"


@dataclass(frozen=True)
class Decision:
    """All checks together: a model passes if every one does."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain data."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Decision":
        """Return a decision from what `to_dict` gave."""
        return cls(tuple(Check(**check) for check in content["checks"]))


def check_dummy(metric: str, gain: Interval, gate: Gate, *, confidence: float) -> Check:
    """Ask whether the model is better than answering the same for everybody.

    Parameters
    ----------
    gain
        Paired gain over the dummy on the holdout, positive is better.
    """
    passed = gain.low > gate.minimum_gain
    verdict = "lies above" if passed else "does not lie above"
    return Check(
        "better than always giving the same answer",
        passed,
        f"{describe_gain(metric, gain, confidence)} over the dummy; the lower end {verdict} the least gain asked for, "
        f"{gate.minimum_gain:g}",
    )


def check_champion(metric: str, gain: Interval, gate: Gate, *, confidence: float, champion: str) -> Check:
    """Ask whether the model is at least about as good as the published one.

    Parameters
    ----------
    gain
        Paired gain over the champion on the same holdout, positive is better.
    """
    passed = gain.low >= -gate.champion_tolerance
    verdict = "is within" if passed else "is beyond"
    return Check(
        "not worse than the champion",
        passed,
        f"{describe_gain(metric, gain, confidence)} over {champion}; the lower end {verdict} the accepted loss of "
        f"{gate.champion_tolerance:g}",
    )


def check_parity(parity: Mapping[str, Any]) -> Check:
    """Ask whether what serves gives the answers that were judged.

    Parameters
    ----------
    parity
        As `labkit.model.onnx_graph.Parity.to_dict` gives it. A release without a graph serves the pipeline itself, so
        a recorded reason passes; a graph passes only with its proof.
    """
    name = "serves the answers that were judged"
    if parity["reason"]:
        return Check(name, True, f"no ONNX graph ({parity['reason']}), so the scikit-learn pipeline itself serves")
    difference, tolerance = parity["largest_difference"], parity["tolerance"]
    if difference is None or not parity["rows"]:
        return Check(name, False, "the ONNX graph was not held against the pipeline on any row")
    passed = difference <= tolerance
    verdict = "within" if passed else "beyond"
    evidence = f"on {parity['rows']:,} rows the ONNX graph differs from the pipeline by at most {difference:.2g}, "
    return Check(name, passed, f"{evidence}{verdict} the accepted {tolerance:.2g}")


def write_figure(value: float) -> str:
    """Return a figure of merit as people read it: four digits, thousands separated and whole.

    >>> write_figure(0.76123), write_figure(121748.2), write_figure(-4022.1)
    ('0.7612', '121,748', '-4,022')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def describe_paired(metric: str, other: str, gain: Interval, confidence: float) -> str:
    """Say in words whether a model is better than another on the same rows, or whether that cannot be told.

    >>> describe_paired("mae", "dummy", Interval(5.0, 3.0, 7.0), 0.95)
    'better than dummy in mae by 5, 95 % interval 3 to 7'
    >>> describe_paired("mae", "plain LightGBM", Interval(1.0, -2.0, 4.0), 0.95)
    'not told apart from plain LightGBM: 1 better in mae, but the 95 % interval, -2 to 4, holds 0'
    """
    sure, span = f"{confidence:.0%}".replace("%", " %"), f"{write_figure(gain.low)} to {write_figure(gain.high)}"
    word = "better" if gain.value >= 0 else "worse"
    by = write_figure(abs(gain.value))
    if gain.low <= 0 <= gain.high:
        return f"not told apart from {other}: {by} {word} in {metric}, but the {sure} interval, {span}, holds 0"
    return f"{word} than {other} in {metric} by {by}, {sure} interval {span}"


def describe_gain(metric: str, gain: Interval, confidence: float) -> str:
    """Say a gain and its interval in words."""
    kind = "gain" if is_greater_better(metric) else "reduction"
    span = f"{write_figure(gain.low)} to {write_figure(gain.high)}"
    return f"{metric} {kind} of {write_figure(gain.value)} ({confidence:.0%} interval {span})"
