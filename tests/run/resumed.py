"""Runs that fail, are edited and resumed, compared byte for byte with a run from the first cell."""

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from labkit.run.pipeline import kept_state

from tests.conftest import call_in_process
from tests.run.small import make_small
from tests.shared_server import SharedServer

N_HEAD = 3
"""Cells before those of a test: title, parameters, beginning."""


@dataclass
class Experiment:
    """A checkout with one stage, whose notebook has the cells of a test."""

    root: Path
    name: str = "small"

    def keep_each(self, *, seconds: str) -> None:
        """Have kernels keep their state before each cell, or after so many seconds."""
        with (self.root / "params" / f"{self.name}.yaml").open("a") as params:
            params.write(f"limits:\n  checkpoint_seconds: {seconds}\n")

    @property
    def notebook(self) -> Path:
        return self.root / "notebooks" / "01_eda.ipynb"

    def write(self, *sources: str, prose: str = "", tags: Sequence[str] = ()) -> None:
        """Write the cells between the beginning and the end, each after prose if there is any; tags are the first's."""
        notebook = nbformat.read(self.notebook, as_version=4)
        cells = []
        for number, source in enumerate(sources):
            cells += [nbformat.v4.new_markdown_cell(prose)] if prose else []
            cells.append(
                nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags and not number else {})
            )
        notebook.cells = [*notebook.cells[:N_HEAD], *cells, notebook.cells[-1]]
        nbformat.write(notebook, self.notebook)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Run the experiment and return the exit code and what is printed."""
        done = call_in_process(self.root, "run", self.name, *arguments, **variables)
        return done.returncode, done.stdout + done.stderr

    def fail(self, *sources: str, **options: str) -> str:
        """Run cells the last of which fails, and return what is printed."""
        self.write(*sources, **options)
        code, printed = self.run()
        assert code == 1, printed
        return printed

    def resume_with(self, *sources: str, prose: str = "", tags: Sequence[str] = ()) -> str:
        """Edit the cells and resume: see `resume`."""
        self.write(*sources, prose=prose, tags=tags)
        return self.resume()

    def resume(self, *arguments: str, **variables: str) -> str:
        """Run with --resume, and check that a run from the first cell writes the same; return what the former prints."""
        code, printed = self.run("--resume", *arguments, **variables)
        assert code == 0, printed
        written, shown = self.list_outputs(), self.list_shown()
        assert not self.is_waiting(), "of no use any more"
        code, again = self.run("--force", "eda", **variables)
        assert code == 0, again
        assert self.list_outputs() == written, printed
        assert self.list_shown() == shown, printed
        return printed

    def list_outputs(self) -> dict[str, str]:
        """Return the digest of each file that the stage wrote."""
        folder = self.root / "data" / self.name / "eda"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def list_shown(self) -> list[tuple[str, int | None, str]]:
        """Return source, number and outputs of each code cell of the executed notebook."""
        executed = nbformat.read(self.root / "reports" / self.name / "01_eda.ipynb", as_version=4)
        return [
            (one.source, one.execution_count, str(one.outputs)) for one in executed.cells if one.cell_type == "code"
        ]

    def load_kept(self) -> kept_state.KeptState | None:
        """Return what is kept of the failed run."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LABKIT_ROOT", str(self.root))
            return kept_state.load_kept(self.name)

    def is_waiting(self) -> bool:
        """Return whether a kernel of the failed run is waiting."""
        kept = self.load_kept()
        return kept is not None and kept_state.is_waiting(kept)

    def end(self) -> None:
        """End the kernel that is waiting, if there is one."""
        kept = self.load_kept()
        if kept and kept.checkpoint and kept_state.is_waiting(kept):
            with suppress(ProcessLookupError):
                os.kill(kept.checkpoint.pid, signal.SIGKILL)


def make_experiment(root: Path, store: Path, shared_server: SharedServer, *, seconds: str = "0") -> Experiment:
    """Make an experiment whose kernels keep their state before each cell, or after so many seconds."""
    made = Experiment(make_small(root, "eda", store=store))
    made.keep_each(seconds=seconds)
    shared_server.lend(made.root)
    return made


def wait_for_end(pid: int, seconds: float = 20) -> None:
    """Wait until a process has ended."""
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.02)
