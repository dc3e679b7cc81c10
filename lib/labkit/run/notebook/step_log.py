"""What a notebook reported through its step: the lines that `labkit.run.notebook.step` appended to the run's log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.run.notebook.result import Failure
from labkit.secrets.redaction import Mask
from labkit.storage import atomic

NO_BRACKETS = str.maketrans("", "", "[]")


@dataclass(frozen=True)
class Log:
    """What a notebook reported through its step."""

    metrics: dict[str, float]
    children: list[dict[str, Any]]
    headline: str
    is_finished: bool
    n_torn: int = 0
    findings: Sequence[str] = ()
    checks: Sequence[Mapping[str, str]] = ()


def load_log(path: Path, mask: Mask) -> Log:
    """Read what the notebook reported, without secrets, and count damaged lines."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    entries = [entry for line in lines if (entry := parse_entry(line, mask)) is not None]
    metrics = {key: value for entry in entries if entry["kind"] == "metrics" for key, value in entry["metrics"].items()}
    ends = [entry for entry in entries if entry["kind"] == "finish"]
    children = [entry for entry in entries if entry["kind"] == "child"]
    last = next((entry for entry in reversed(entries) if entry["kind"] == "conclusion"), {"findings": (), "checks": ()})
    headline, n_torn = ends[-1]["headline"] if ends else "", len(lines) - len(entries)
    return Log(metrics, children, headline, bool(ends), n_torn, last["findings"], last["checks"])


def parse_entry(line: bytes, mask: Mask) -> dict[str, Any] | None:
    """Return the content of a line of the log, without secrets; None if it is damaged."""
    try:
        entry = atomic.parse_json(line)
    except ValueError:
        return None
    return clean_entry(entry, mask) if isinstance(entry, dict) and "kind" in entry else None


def clean_entry(entry: dict[str, Any], mask: Mask) -> dict[str, Any]:
    """Return a reported line without secrets, and without the brackets in names that MLflow does not allow."""
    cleaned = mask.clean(entry)
    named = {
        kind: {key.translate(NO_BRACKETS): value for key, value in cleaned[kind].items()}
        for kind in ("metrics", "params")
        if kind in cleaned
    }
    return {**cleaned, **named}


def check_finished(log: Log, n_cells: int) -> Failure | None:
    """Return a failure if the notebook did not call `step.finish()`, or lines that it reported are damaged."""
    if log.is_finished and not log.n_torn:
        return None
    torn = f"{log.n_torn} of the lines that the notebook reported are damaged, so its results are incomplete"
    return Failure(n_cells, n_cells, "", "", "StageError", torn if log.n_torn else "the notebook has no step.finish()")
