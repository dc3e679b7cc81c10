"""The gate, which decides whether a model may be published, and gives the reasons.

It makes decisions on metrics that were computed elsewhere. See `labkit.model.evaluation.gate_limits` for further checks
of a release, and `labkit.stages.publish`, which acts on them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labkit.errors import DataError, list_briefly
from labkit.model.estimators.constant import name_constant
from labkit.model.evaluation.blocks import DAY, Blocks
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.metrics import is_greater_better, name_metric
from labkit.params.evaluation import Gate
from labkit.units import (
    format_bytes,
    format_confidence,
    format_count,
    format_difference_alike,
    format_share,
    format_significant,
    shorten_value,
)

NEARLY_PERFECT = 0.995
"""Skill score (0: dummy, 1: perfect prediction) from which a metric is suspiciously good.

Errors are squared first, as in r2, so that all regression metrics find the same model suspicious.
"""

SQUARED_FIRST = ("mae", "rmse")
SMALLEST_DIFFERENCE = 1e-12
"""Difference of two metrics up to which they are the same number, computed in another order."""
CHAMPION_CHECK = "not worse than the champion"


@dataclass(frozen=True)
class Check:
    """The result of one check of a model, with evidence in words for people who did not train it.

    Attributes
    ----------
    warning
        What to examine before the model is used although the check passed, in a few words; may be empty.
    """

    name: str
    passed: bool
    evidence: str
    warning: str = ""

    def __str__(self) -> str:
        """Return the result, the name of the check and the evidence."""
        mark = "✗ failed:" if not self.passed else "⚠" if self.warning else "✓"
        return f"{mark} {self.name}: {self.evidence}"


@dataclass(frozen=True)
class Decision:
    """All checks together: a model passes if there is at least one check and every check passes."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed; a decision without checks has no evidence and does not pass."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain data."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    def list_concerns(self) -> list[str]:
        """Return the failed checks and the warnings, in a few words each."""
        failed = [f"failed check: {check.name}" for check in self.checks if not check.passed]
        return failed + [check.warning for check in self.checks if check.passed and check.warning]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Decision":
        """Return a decision from the result of `to_dict`.

        Raises
        ------
        DataError
            The content has another structure, or its `passed` contradicts its checks.
        """
        try:
            found = cls(tuple(Check(**check) for check in content["checks"]))
            claimed = content["passed"]
        except (KeyError, TypeError) as error:
            raise DataError(f"the gate's decision cannot be read ({error!r}): run the evaluation again") from error
        if claimed is not found.passed:
            raise DataError(f"the gate's decision contradicts its checks (passed: {claimed}): run the evaluation again")
        return found


def describe_limits(gate: Gate) -> str:
    """Return what the gate requires of every model and accepts against the champion, and why, as sentences.

    Examples
    --------
    >>> print(describe_limits(Gate(minimum_gain=5, champion_tolerance=1, reason="Less is not worth ten tests")))
    Required: a gain over the dummy above 5; against the champion, a loss of at most 1. Less is not worth ten tests.
    >>> describe_limits(Gate()).split(". ")[1]
    'Why: not stated (`evaluation.gate.reason`).'
    """
    losses = [f"{gate.champion_tolerance:g}"] if gate.champion_tolerance else []
    losses += [f"{format_share(gate.champion_tolerance_share)} of its value"] if gate.champion_tolerance_share else []
    accepted = f"a loss of at most {' or '.join(losses)}" if losses else "no loss"
    larger = ", whichever is larger" if len(losses) > 1 else ""
    return (
        f"Required: a gain over the dummy above {gate.minimum_gain:g}; against the champion, {accepted}{larger}. "
        f"{state_reason(gate.reason, missing='Why: not stated (`evaluation.gate.reason`)')}"
    )


def state_reason(reason: str, *, missing: str) -> str:
    """Return a declared reason as a sentence, or another one if none is declared.

    >>> state_reason("as in 2012 ", missing="not stated"), state_reason(" ", missing="not stated")
    ('as in 2012.', 'not stated.')
    """
    words = " ".join(reason.split()) or missing
    return words if words.endswith((".", "!", "?")) else f"{words}."


def check_days(blocks: Blocks, gate: Gate) -> list[Check]:
    """Check whether the holdout spans enough days for an evaluation; no check if rows have no time.

    Rows of one day share the effects of that day, so a few days are a few observations, however many rows they contain.
    """
    name = "enough days to evaluate"
    if blocks.unit != DAY:
        return []
    passed = blocks.n_blocks >= gate.fewest_days
    evidence = f"the holdout has rows of {blocks.n_blocks:,} days, {gate.fewest_days:,} are required"
    remedy = (
        "" if passed else ": move `data.split.holdout_from` to an earlier day, or set `evaluation.gate.fewest_days`"
    )
    return [Check(name, passed, evidence + remedy)]


def check_dummy(metric: str, gain: Interval, gate: Gate, *, confidence: float, blocks: Blocks, n_classes: int) -> Check:
    """Check whether the model is better than the dummy, the best constant prediction.

    Parameters
    ----------
    gain
        Paired gain over the dummy on the holdout; positive is better.
    n_classes
        Number of classes of the target, 0 for regression; with the metric, it determines the name of the constant.
    """
    passed, constant = gain.low > gate.minimum_gain, name_constant(metric, n_classes=n_classes)
    verdict = "is above" if passed else "is not above"
    return Check(
        "better than the dummy",
        passed,
        f"{describe_gain(metric, gain, confidence, blocks)} over always predicting {constant}; the lower end {verdict} "
        f"{gate.minimum_gain:g}",
    )


def check_champion(
    metric: str,
    gain: Interval,
    gate: Gate,
    *,
    confidence: float,
    blocks: Blocks,
    champion: str,
    value: float = 0.0,
    is_same: bool = False,
) -> Check:
    """Check whether the model is at least about as good as the champion.

    Parameters
    ----------
    gain
        Paired gain over the champion on the same holdout; positive is better.
    champion
        Name of the champion in the evidence.
    value
        The champion's metric.
    is_same
        Whether both predict the same for every row of the holdout.
    """
    if is_same:
        return Check(CHAMPION_CHECK, True, f"predicts the same as {champion} on every holdout row")
    tolerance = max(gate.champion_tolerance, gate.champion_tolerance_share * abs(value))
    passed = gain.low >= -tolerance
    verdict = "is within" if passed else "is beyond"
    return Check(
        CHAMPION_CHECK,
        passed,
        f"{describe_gain(metric, gain, confidence, blocks)} over {champion}; the lower end {verdict} the accepted loss "
        f"of {tolerance:.4g}",
    )


def check_too_good(metric: str, value: float, dummy: float, *, perfect: float, relies_on: Sequence[str]) -> Check:
    """Check whether the metric is so close to perfect that a leak is more likely than such a good model.

    The check always passes, because some problems are easy, but the model should not be used before its inputs have
    been examined.

    Parameters
    ----------
    value, dummy
        The metric of the model and of the dummy.
    perfect
        The metric of predictions that equal the true values.
    relies_on
        Raw columns that the model relies on most, in descending order of importance.
    """
    skill = (value - dummy) / (perfect - dummy) if perfect != dummy else 0.0
    if metric in SQUARED_FIRST:
        skill = 1 - (1 - skill) ** 2 if skill > 0 else skill
    name = "plausible result"
    named = ", ".join(f"`{column}`" for column in relies_on[:3])
    if not skill >= NEARLY_PERFECT:
        beside = f"the dummy has {format_significant(dummy)}, and {perfect:g} would be perfect"
        return Check(name, True, f"{metric} is {format_significant(value)}; {beside}")
    return Check(
        name,
        True,
        f"{metric} is {format_significant(value)}, nearly perfect. Check that no input is known only after the outcome"
        + (f"; the model relies most on {named}" if relies_on else ""),
        warning="nearly perfect, look for a leak" + (f" in {shorten_value(relies_on[0])}" if relies_on else ""),
    )


def check_classes(learned: Collection[Any], evaluated: Collection[Any]) -> Check:
    """Check whether the holdout has exactly the classes that the model predicts.

    The check always passes: rows of an unknown class already count as errors.

    Parameters
    ----------
    learned, evaluated
        Classes that the model predicts, and those of the holdout.
    """
    name = "same classes in training and holdout"
    new, gone = sorted(map(str, {*evaluated} - {*learned})), sorted(map(str, {*learned} - {*evaluated}))
    if not new and not gone:
        return Check(name, True, f"the holdout has rows of each of the {len(learned)} classes that the model predicts")
    found = [f"only in the holdout, so the model cannot predict them: {list_briefly(new)}"] if new else []
    found += [f"learned, but without a row in the holdout to evaluate them: {list_briefly(gone)}"] if gone else []
    warning = "classes that training lacks" if new else "classes that the holdout lacks"
    return Check(name, True, ", and ".join(found), warning=warning)


def check_parity(parity: Mapping[str, Any], *, is_refitted: bool = False) -> Check:
    """Check whether the served model makes the predictions of the pipeline that was evaluated, or refitted since then.

    Parameters
    ----------
    parity
        As returned by `labkit.model.onnx.parity.Parity.to_dict`. A release without an ONNX graph serves the pipeline
        itself, so it passes with the recorded reason; a graph passes only if its parity was proved.
    """
    name = (
        "serves the predictions of the refitted model" if is_refitted else "serves the predictions that were evaluated"
    )
    if parity["reason"]:
        return Check(name, True, f"no ONNX graph ({parity['reason']}), so the scikit-learn pipeline itself is served")
    difference, tolerance = parity["largest_difference"], parity["tolerance"]
    if difference is None or not parity["rows"]:
        return Check(name, False, "the ONNX graph was not compared with the pipeline on any row")
    passed = difference <= tolerance
    verdict = "within" if passed else "beyond"
    evidence = f"on {parity['rows']:,} rows the ONNX graph differs from the pipeline by at most {difference:.2g}, "
    return Check(name, passed, f"{evidence}{verdict} the accepted {tolerance:.2g}")


def check_release_size(files: Mapping[str, int], gate: Gate) -> Check:
    """Check whether a release is small enough to be published.

    Parameters
    ----------
    files
        Size of each file of the release, in bytes.
    """
    total, largest = sum(files.values()), max(files, key=lambda name: files[name])
    passed = total <= gate.most_bytes
    evidence = f"{format_bytes(total)} in {format_count(len(files), 'file')}, {format_bytes(files[largest])} of it "
    evidence += f"{largest}; at most {format_bytes(gate.most_bytes)} are allowed"
    remedy = (
        ": leave the largest models out of `training.models` (a blend holds all its members; the model card lists the "
        "parts), or raise `evaluation.gate.most_bytes`"
    )
    return Check("small enough to be served", passed, evidence + ("" if passed else remedy))


def describe_paired(metric: str, other: str, gain: Interval, confidence: float) -> str:
    """Describe whether a model is better than another on the same rows, or whether the rows cannot show it.

    >>> describe_paired("mae", "dummy", Interval(5.0, 3.0, 7.0), 0.95)
    'better than dummy in mae by 5.0, 95 % interval 3.0 to 7.0'
    >>> describe_paired("mae", "plain LightGBM", Interval(1.0, -2.0, 4.0), 0.95)
    'not distinguishable from plain LightGBM: 1.0 better in mae, but the 95 % interval, -2.0 to 4.0, includes 0'
    >>> describe_paired("mae", "plain LightGBM", Interval(0.0, -2.0, 2.0), 0.95)
    'not distinguishable from plain LightGBM: the same mae, 95 % interval of the difference -2.0 to 2.0'
    >>> describe_paired("mae", "the last run", Interval(0.0, 0.0, -0.0), 0.95)
    'not distinguishable from the last run: the same mae in every resample'
    """
    word, is_same = "better" if gain.value >= 0 else "worse", abs(gain.value) < SMALLEST_DIFFERENCE
    if np.isnan([gain.low, gain.high]).any():
        by = format_significant(abs(gain.value))
        found = f"as good as {other} in {metric}" if is_same else f"{by} {word} than {other} in {metric}"
        return f"{found}, without an interval: too few independent rows"
    shown, low, high = format_difference_alike(gain.value, gain.low, gain.high)
    by, sure, span = shown.removeprefix("-"), format_confidence(confidence), f"{low} to {high}"
    if is_same and low == high:
        return f"not distinguishable from {other}: the same {metric} in every resample"
    if is_same or not by.strip("0."):  # at the digits that the interval justifies
        return f"not distinguishable from {other}: the same {metric}, {sure} interval of the difference {span}"
    if gain.low <= 0 <= gain.high:
        return f"not distinguishable from {other}: {by} {word} in {metric}, but the {sure} interval, {span}, includes 0"
    return f"{word} than {other} in {metric} by {by}, {sure} interval {span}"


def list_not_better(
    gains: Mapping[str, Mapping[str, Interval]], confidence: float, *, n_classes: int
) -> dict[str, list[str]]:
    """Return, by metric, why the model is not shown to be better than each baseline; metrics without doubt are absent.

    Parameters
    ----------
    gains
        Paired gains by baseline and metric, as returned by `labkit.model.evaluation.bootstrap.compare_models`.
    n_classes
        Number of classes of the target, 0 for regression: with two, metrics of predicted classes are at 0.5.
    """
    doubts: dict[str, list[str]] = {}
    for other, by_metric in gains.items():
        for metric, gain in by_metric.items():
            if not gain.low > 0:
                name = name_metric(metric, n_classes=n_classes)
                doubts.setdefault(metric, []).append(describe_paired(name, other, gain, confidence))
    return doubts


def describe_gain(metric: str, gain: Interval, confidence: float, blocks: Blocks) -> str:
    """Describe a gain and its interval."""
    kind = "gain" if is_greater_better(metric) else "reduction"
    if np.isnan([gain.low, gain.high]).any():
        return f"{metric} {kind} of {format_significant(gain.value)}, without an interval (resampling {blocks})"
    by, low, high = format_difference_alike(gain.value, gain.low, gain.high)
    return f"{metric} {kind} of {by} ({format_confidence(confidence)} interval {low} to {high}, resampling {blocks})"
