"""What is recorded of an interactive run on disk: its executions, and when it has ended its warnings.

Written by `labkit.run.notebook.interactive_run`.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from labkit.run.records import ledger
from labkit.storage.atomic import parse_json

CELLS_NAME, SUMMARY_NAME = "cells.jsonl", "interactive.json"
MOST_SHOWN = 20


@dataclass(frozen=True)
class Executed:
    """One execution of a cell.

    Attributes
    ----------
    cell_id
        Id of the cell; empty if the front end did not send it, or if it ran before tracking began.
    outcome
        `finished`, `failed`, or `running` if the kernel has not finished it.
    """

    count: int
    cell_id: str
    source: str
    outcome: str = "finished"
    seconds: float | None = None


def load_executed(run: str) -> list[Executed]:
    """Return what an interactive run has executed, in this order; a cell that did not end is `running`."""
    path = ledger.find_run_folder(run) / CELLS_NAME
    found: dict[int, Executed] = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            place = (event["count"], event["cell_id"], event["source"])
            is_running = event["kind"] == "begin"
            outcome = "running" if is_running else event.get("outcome", "finished")
            found[event["count"]] = Executed(*place, outcome, event.get("seconds"))
    return list(found.values())


def load_warnings(run: str) -> list[str] | None:
    """Return the warnings about hidden state; None for a run that has not ended."""
    try:
        content = parse_json((ledger.find_run_folder(run) / SUMMARY_NAME).read_bytes())
        return [str(line) for line in content["warnings"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe_interactive(run: str) -> list[tuple[str, str]]:
    """Return what an interactive run executed, and its warnings, as pairs of a heading and a description."""
    executed, warnings = load_executed(run), load_warnings(run)
    lines = [f"[{one.count}] {one.cell_id or '-'} {one.outcome}" for one in executed[-MOST_SHOWN:]]
    left_out = len(executed) - len(lines)
    pairs = [("executed", "\n".join([*([f"… and {left_out} before"] if left_out else []), *lines]))]
    shown = "unfinished: not compared with the saved notebook" if warnings is None else "\n".join(warnings) or "none"
    return [("kind", "interactive: not a run of the pipeline"), *pairs, ("hidden state", shown)]


def make_interactive_document(run: str) -> dict[str, Any]:
    """Return the same as plain data."""
    executed = [
        {"count": one.count, "cell_id": one.cell_id, "outcome": one.outcome, "source": one.source}
        for one in load_executed(run)
    ]
    return {"executed": executed, "warnings": load_warnings(run)}
