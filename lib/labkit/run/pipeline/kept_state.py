"""The state kept of the latest failed stage of an experiment: the paused kernel, its files, and what it was made from.

At most one per experiment, in `.labkit/resume/<experiment>/`. The kernel waits for an hour; see
`labkit.run.kernels.paused_kernel`. Whether a run may continue from it is decided by `labkit.run.pipeline.resume`.
"""

import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.run.kernels import process_tree
from labkit.run.kernels.servers import KEPT_SECONDS
from labkit.run.memory import KEPT_NAME
from labkit.run.notebook.checkpoints import Checkpoint, KeptCell
from labkit.run.records.ledger import find_process
from labkit.storage.atomic import parse_json, write_json
from labkit.units import format_duration

STATE_NAME, WORK_NAME = "state.json", "work"

Identity = Mapping[str, Mapping[str, str]]
"""Digests of everything that the state was made from, by kind and name."""


@dataclass(frozen=True)
class KeptState:
    """What is left of a failed run of a stage.

    Attributes
    ----------
    run
        Name in the ledger of the run.
    folder
        Name of the folder in which it worked, that of the first run that others have continued.
    cell
        Number of the cell to continue at, as in JupyterLab.
    seconds
        How long the cells before it took.
    why_not
        Why a run cannot continue there; empty if it can.
    started
        When the kernel's process started, as the system notes it.
    """

    stage: str
    run: str
    folder: str
    cell: int = 0
    seconds: float = 0.0
    why_not: str = ""
    checkpoint: Checkpoint | None = None
    started: float = 0.0
    identity: Identity = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return for the ledger what a run continues from."""
        return {"run": self.run, "folder": self.folder, "cell": self.cell, "seconds": self.seconds}

    def make_tags(self) -> dict[str, str]:
        """Return the tags of a run in MLflow that continues from here."""
        return {"labkit.resumed_run": self.run, "labkit.resumed_cell": str(self.cell)}

    def note(self) -> str:
        """Return for the page of a run that continues from here which outputs are not its own."""
        took = format_duration(self.seconds)
        return f"This run continued at cell {self.cell} of {self.run}: the cells above ran then, for {took}."

    def advise(self, experiment: str) -> str:
        """Return how to continue from here, empty if that is not possible."""
        if self.why_not:
            return ""
        saved, kept = format_duration(self.seconds), format_duration(KEPT_SECONDS)
        command = f"`labkit run {experiment} --resume` continues at cell {self.cell}"
        return f"{command} and saves the {saved} before it; the kernel is kept for {kept}."


def find_kept_dir(experiment: str) -> Path:
    """Return the folder of an experiment's kept state, whether or not it exists."""
    return paths.find_root() / ".labkit" / "resume" / experiment


def save_kept(experiment: str, kept: KeptState) -> None:
    """Write the state beside its files."""
    content = asdict(kept)
    if kept.checkpoint:
        # What is known of the files is read again when a run continues.
        content["checkpoint"] |= {"files": {}, "modules": []}
    write_json(find_kept_dir(experiment) / STATE_NAME, content)


def load_kept(experiment: str) -> KeptState | None:
    """Return the state kept of an experiment, None if there is none or it is damaged."""
    try:
        return make_kept(parse_json((find_kept_dir(experiment) / STATE_NAME).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def make_kept(content: dict[str, Any]) -> KeptState:
    """Return the state as `save_kept` wrote it."""
    point = content.pop("checkpoint")
    if point is None:
        return KeptState(**content)
    cells = tuple(KeptCell(**{**cell, "tags": tuple(cell["tags"])}) for cell in point["cells"])
    displays = {name: [(int(cell), int(place)) for cell, place in pairs] for name, pairs in point["displays"].items()}
    return KeptState(**content, checkpoint=Checkpoint(cells, displays, int(point["pid"]), str(point["address"])))


def is_waiting(kept: KeptState) -> bool:
    """Return whether the kernel of a state is still there."""
    if kept.checkpoint is None:
        return False
    process = find_process(kept.checkpoint.pid)
    is_same = process is not None and process.started == kept.started
    return is_same and process_tree.get_name(kept.checkpoint.pid) == KEPT_NAME


def discard_kept(experiment: str) -> None:
    """End the kernel that is kept of an experiment, and remove its files."""
    kept = load_kept(experiment)
    if kept:
        end_kernel(kept)
    shutil.rmtree(find_kept_dir(experiment), ignore_errors=True)


def end_kernel(kept: KeptState) -> None:
    """End the kernel of a state, if it is still there."""
    if kept.checkpoint and is_waiting(kept):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(kept.checkpoint.pid, signal.SIGTERM)
