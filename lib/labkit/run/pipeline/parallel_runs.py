"""Runs of several experiments at a time, each by a child process, within the cores and memory given.

A child is the same `labkit run` that users start, so results and records do not depend on what runs beside it. Children
end with this process.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.console import echo, make_console
from labkit.run import capacity
from labkit.run.core_share import share_cores
from labkit.run.kernels import process_tree
from labkit.run.records.stage_record import load_records

CHUNK_BYTES = 65_536
NARROWEST = 40
"""Columns that a run may use, at least."""
LOOK_SECONDS = 0.5
"""How often to look for a child that has ended while a process that it left keeps its output open."""
MESSAGE = "labkit: "
"""How the line begins with which a command ends that fails."""


@dataclass(frozen=True)
class RunEnd:
    """How one run ended.

    Attributes
    ----------
    document
        What `labkit run --json` printed; empty if it did not get that far.
    message
        Why it ended, if it did not finish; empty if it did not say.
    """

    experiment: str
    exit_code: int
    seconds: float
    document: Mapping[str, Any]
    message: str

    @property
    def outcome(self) -> str:
        """How it ended in a word, as in `labkit runs`."""
        named = {0: "finished", 1: "failed", 2: "refused", 130: "interrupted"}
        return named.get(self.exit_code, "killed" if self.exit_code > 128 else "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        error = {"error": self.message} if self.message else {}
        ended = {"exit_code": self.exit_code, "seconds": round(self.seconds, 1)}
        return {"experiment": self.experiment, **ended, **error, **self.document}


class ParallelRun:
    """One run under way, whose progress is printed line by line behind the name of its experiment."""

    def __init__(self, experiment: str, arguments: Sequence[str], *, prefix: str, n_cores: int) -> None:
        self.experiment, self.prefix, self.line, self.message = experiment, prefix, b"", ""
        self.bytes_expected = expect_bytes(experiment)
        self.started = time.monotonic()
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115
        columns = max(NARROWEST, make_console().width - len(prefix))
        shown = {"NO_COLOR": "1", "COLUMNS": str(columns), "PYTHONUNBUFFERED": "1"}
        environment = {**paths.copy_environment(), **shown, paths.CORES_VARIABLE: str(n_cores)}
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("labkit")), "run", experiment, "--json", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.printed,
            stderr=subprocess.PIPE,
            # The Ctrl-C of a terminal would reach it at once and a second time through `stop`.
            start_new_session=True,
            preexec_fn=process_tree.make_tie(),
        )
        assert self.process.stderr
        self.progress = self.process.stderr

    def read(self) -> bool:
        """Print what is new; return False at the end of the output."""
        new = os.read(self.progress.fileno(), CHUNK_BYTES)
        *lines, self.line = (self.line + new).split(b"\n")
        if not new and self.line:
            lines, self.line = [self.line], b""
        for line in lines:
            shown = line.decode(errors="replace")
            self.message = shown.removeprefix(MESSAGE) if shown.startswith(MESSAGE) else self.message
            echo(f"{self.prefix}{shown}")
        return bool(new)

    def stop(self) -> None:
        """Interrupt it: it ends its kernels, and records that it was interrupted."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self) -> RunEnd:
        """Wait until the process has ended, and return how."""
        code = self.process.wait()
        with self.progress, self.printed:
            self.printed.seek(0)
            content = self.printed.read()
        document: Mapping[str, Any] = json.loads(content) if code == 0 else {}
        # A shell counts a signal from 128 on, too.
        exit_code = code if code >= 0 else 128 - code
        return RunEnd(self.experiment, exit_code, time.monotonic() - self.started, document, self.message)


def expect_bytes(experiment: str) -> int:
    """Return the memory that a run is expected to need: as much as the largest of its stages did."""
    records = load_records(paths.find_reports_dir(experiment)).values()
    return max((record.peak_bytes for record in records), default=0) or capacity.USUAL_BYTES


def run_in_parallel(experiments: Sequence[str], arguments: Sequence[str], *, n_jobs: int | None) -> list[RunEnd]:
    """Run experiments and return how each ended, in the order given; a run that fails does not stop the others.

    Parameters
    ----------
    arguments
        Further arguments of each `labkit run`.
    n_jobs
        Largest number at a time; None for the number of cores. The cores are shared equally.
    """
    width, most_bytes = max(map(len, experiments)), capacity.find_most_bytes()
    n_jobs = min(n_jobs or share_cores(), len(experiments))
    n_cores = share_cores(n_jobs)
    waiting, ended, running = list(experiments), dict[str, RunEnd](), list[ParallelRun]()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and capacity.has_room(
                    [one.bytes_expected for one in running],
                    expect_bytes(waiting[0]),
                    n_jobs=n_jobs,
                    most_bytes=most_bytes,
                ):
                    name = waiting.pop(0)
                    running.append(ParallelRun(name, arguments, prefix=f"{name:<{width}} | ", n_cores=n_cores))
                    selector.register(running[-1].progress, selectors.EVENT_READ, running[-1])
                for one in print_new(selector, running):
                    running.remove(one)
                    ended[one.experiment] = one.end()
        finally:
            stop_all(selector, running)
    return [ended[experiment] for experiment in experiments]


def print_new(selector: selectors.BaseSelector, running: Sequence[ParallelRun]) -> list[ParallelRun]:
    """Print what is new, and return the runs that have ended."""
    gone = [one for one in running if one.process.poll() is not None]
    ready = {key.data for key, _ in selector.select(LOOK_SECONDS)}
    over = [one for one in running if (not one.read() if one in ready else one in gone)]
    for one in over:
        selector.unregister(one.progress)
    return over


def stop_all(selector: selectors.BaseSelector, running: Sequence[ParallelRun]) -> None:
    """Interrupt the runs that are under way, and wait until they have ended."""
    left = list(running)
    for one in left:
        one.stop()
    while left:
        for one in print_new(selector, left):
            left.remove(one)
            one.end()
