"""The record of work by hand in a notebook: what was executed, in which order, and what the notebook does not show.

An entry of the ledger and a run in MLflow, both marked as interactive, so that neither is taken for a run of the
pipeline: it is no candidate for the gate, and the ledger leaves it out wherever runs of the pipeline are looked for.
Runs inside the kernel, by IPython's events. Each execution is on disk when it begins, so that the record of a kernel
that dies ends with the cell that killed it.
"""

import atexit
import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import LabkitError, ParamsError
from labkit.params.experiment import Params
from labkit.run.notebook.hidden_state import find_hidden_state
from labkit.run.notebook.source import read_notebook
from labkit.run.records import ledger, provenance, tracking
from labkit.run.records.interactive import CELLS_NAME, SUMMARY_NAME, Executed, load_executed
from labkit.run.records.tracking_client import NOTE_TAG
from labkit.run.tracing import trace
from labkit.secrets.redaction import Mask
from labkit.storage.append import append_line
from labkit.storage.atomic import write_json

CODE_NAME = "executed.py"
NOTE = "Interactive run in a notebook, not a run of the pipeline: cells may have been edited or run in any order."


class InteractiveRun:
    """Records what a kernel executes until `stop`, or until the kernel ends.

    Parameters
    ----------
    params
        The experiment's.
    stage
        The stage of the notebook.
    notebook
        The notebook's file; None if it is not known.
    shell
        IPython's shell of this kernel.
    mask
        Removes secrets from what is stored.
    """

    def __init__(self, params: Params, stage: str, *, notebook: Path | None, shell: Any, mask: Mask) -> None:
        self.notebook, self.shell, self.mask, self.pid = notebook, shell, mask, os.getpid()
        self.is_over, self.begun, self.begun_count = False, 0.0, 0
        shown = paths.show_path(notebook) if notebook else ""
        facts = {"kind": ledger.INTERACTIVE, "notebook": shown, **provenance.collect()}
        tags = {
            "labkit.kind": ledger.INTERACTIVE,
            "labkit.interactive": stage,
            "labkit.finished": "false",
            NOTE_TAG: NOTE,
        }
        with ExitStack() as stack:
            self.entry = stack.enter_context(ledger.open_entry(params.experiment, stage, facts=facts))
            name = f"{ledger.INTERACTIVE} {stage}"
            opened = tracking.open_run(params, name, parent_id=None, tags=tags, entry=self.entry)
            self.record = stack.enter_context(opened)
            self.open = stack.pop_all()
        self.folder = ledger.find_run_folder(self.entry.run)
        # As typed: `In` has the code into which IPython transforms magics.
        for count, source in enumerate(shell.history_manager.input_hist_raw[1 : shell.execution_count], 1):
            self.write("before", count, "", source)
        shell.events.register("pre_run_cell", self.begin_cell)
        shell.events.register("post_run_cell", self.end_cell)
        atexit.register(self.stop_quietly)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.entry.run!r})"

    def write(self, kind: str, count: int, cell_id: str | None, source: str, **more: Any) -> None:
        """Append an event to the file of executions; a full disk must not fail the user's cell."""
        line = {"kind": kind, "count": count, "cell_id": cell_id or "", "source": self.mask.clean_text(source), **more}
        with suppress(LabkitError, OSError), trace.paused():
            append_line(self.folder / CELLS_NAME, json.dumps(line, ensure_ascii=False))

    def begin_cell(self, info: Any) -> None:
        """Record that a cell begins."""
        if info.store_history:
            self.begun, self.begun_count = time.monotonic(), self.shell.execution_count
            self.write("begin", self.begun_count, info.cell_id, info.raw_cell)

    def end_cell(self, result: Any) -> None:
        """Record how a cell ended; the one that started the recording had begun before."""
        if result.info.store_history:
            seconds = round(time.monotonic() - self.begun, 3) if self.begun else None
            count = self.begun_count or result.execution_count
            outcome = "finished" if result.success else "failed"
            info = result.info
            self.write("end", count, info.cell_id, info.raw_cell, outcome=outcome, seconds=seconds)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Record metrics in MLflow when the run ends."""
        self.record.metrics.update(metrics)

    def find_warnings(self, executed: list[Executed]) -> list[str]:
        """Return warnings about what the saved notebook does not show."""
        if self.notebook is None:
            return ["not compared with the notebook, whose file is not known: step.track(notebook=…)"]
        try:
            return find_hidden_state(read_notebook(self.notebook).notebook, executed, mask=self.mask)
        except LabkitError as error:
            return [f"the notebook cannot be read: {error}"]

    def stop(self) -> list[str]:
        """End the record; return warnings about hidden state, as the notebook is saved now.

        Raises
        ------
        LostStoreError
            MLflow's store failed; the record on disk is complete.
        """
        if self.is_over or os.getpid() != self.pid:
            return []
        self.is_over = True
        for name, callback in (("pre_run_cell", self.begin_cell), ("post_run_cell", self.end_cell)):
            self.shell.events.unregister(name, callback)
        with trace.paused(), self.open:
            executed = load_executed(self.entry.run)
            warnings = [self.mask.clean_text(line) for line in self.find_warnings(executed)]
            cells = [asdict(one) for one in executed]
            summary = {"run": self.entry.run, "warnings": warnings, "cells": cells}
            write_json(self.folder / SUMMARY_NAME, summary)
            tracking.log_file(self.record.run_id, self.folder / SUMMARY_NAME)
            tracking.log_text(self.record.run_id, format_code(executed), CODE_NAME)
            n_failed = sum(one.outcome == "failed" for one in executed)
            self.record.metrics.update(n_executions=len(executed), n_failed=n_failed, n_warnings=len(warnings))
            self.record.tags["labkit.finished"] = "true"
            self.record.status = "FINISHED"
        return warnings

    def stop_quietly(self) -> None:
        """End the record when the kernel ends; what cannot be recorded then stays marked as unfinished."""
        with suppress(LabkitError, OSError):
            self.stop()


def start_tracking(params: Params, stage: str, *, notebook: str | Path | None, mask: Mask) -> InteractiveRun:
    """Begin an interactive run in this kernel.

    Raises
    ------
    ParamsError
        This is not a notebook, or the file does not exist.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    # IPython in a terminal has a shell, but no kernel and no notebook.
    if not hasattr(shell, "kernel"):
        raise ParamsError("step.track(): only in a notebook")
    path = Path(notebook).absolute() if notebook else paths.find_session_notebook()
    if path and not path.is_file():
        raise ParamsError(f"step.track(notebook={str(notebook)!r}): no such file: name this notebook's file")
    return InteractiveRun(params, stage, notebook=path, shell=shell, mask=mask)


def format_code(executed: list[Executed]) -> str:
    """Return the code as it was executed, in this order, as a script with cells."""
    return "\n\n".join(f"# %% [{one.count}] {one.cell_id} {one.outcome}\n{one.source}" for one in executed) + "\n"
