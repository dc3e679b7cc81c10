"""Whether a run may continue a failed stage at the cell that failed, and what is kept of a failed stage for that.

A continued run must write the same as a run from the first cell. So everything that the cells above could depend on has
to be as it was: their sources, the params, inputs, code that they loaded, files and variables that they read, packages.
What they did outside of the kernel's memory and the run's own folder cannot be taken back: then nothing is kept. Each
reason is one line, which the user sees when the run starts from the first cell instead.
"""

import json
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import list_briefly
from labkit.params.experiment import Params
from labkit.params.load import list_experiments
from labkit.params.yaml_lines import write_flow
from labkit.run.cell_states import INJECTED
from labkit.run.fingerprint.dependencies import DEPENDENCY_KINDS, Dependencies
from labkit.run.fingerprint.fingerprint_file import GIVEN, find_fingerprint_dir, load_fingerprint
from labkit.run.fingerprint.footprint import Footprint, load_footprint
from labkit.run.fingerprint.import_graph import Checkout
from labkit.run.fingerprint.observation import compute_stage_reads, observe
from labkit.run.kernels.servers import ask_state
from labkit.run.notebook.checkpoints import Checkpoint, Checkpointer, find_side_effect, keep_process
from labkit.run.notebook.source import NotebookSource
from labkit.run.notebook.work_files import note_files, restore_work
from labkit.run.pipeline.kept_state import (
    WORK_NAME,
    Identity,
    KeptState,
    discard_kept,
    end_kernel,
    find_kept_dir,
    is_waiting,
    load_kept,
    save_kept,
)
from labkit.run.pipeline.kernel_environment import make_kernel_environment
from labkit.run.records.ledger import find_process
from labkit.run.tracing.trace import TRACE_NAME
from labkit.secrets.redaction import Mask
from labkit.storage import atomic
from labkit.storage.atomic import write_text
from labkit.storage.digests import compute_digest
from labkit.units import format_duration

REPLY_SECONDS = 20
EDITED_SUFFIXES = (".ipynb", ".md", ".py")
"""Files that people edit while a stage runs: whether it read them is known, and it does not write them."""
UNCHECKED = frozenset({".ipynb_checkpoints", "__pycache__", "fingerprint", "node_modules"})
WHAT = {
    "params": "{} changed in the params",
    "packages": "{} changed",
    "inputs": "{} changed, which the stage reads",
    "given": "{} changed",
    "code": "{} changed, which cells above have loaded",
    "files": "{} changed, which cells above may have read",
    "listings": "the names in {} changed",
    "variables": "the environment variable {} changed",
}


@dataclass
class Resume:
    """What one `labkit run` does about failed stages.

    Parameters
    ----------
    is_asked
        Whether to continue at the cell that failed.
    show
        Shows a line.
    """

    is_asked: bool
    show: Callable[[str], None]
    is_first: bool = True

    def find(self, stage: str, params: Params, source: NotebookSource, inputs: Mapping[str, str]) -> KeptState | None:
        """Return the state to continue a stage from; without one, or if it does not apply any more, show why.

        A state of this stage that is not used is removed, because the stage starts again.
        """
        experiment = params.experiment
        kept, is_first, self.is_first = load_kept(experiment), self.is_first, False
        if kept is None or kept.stage != stage:
            if self.is_asked and kept is None and is_first:
                self.show(f"{stage} starts at its first cell: no failed run of {experiment} has left its state.")
            return None
        if self.is_asked:
            why_not = kept.why_not or find_reason_to_start(kept, stage, params, source, inputs)
            if not why_not:
                above = f"the cells above, which took {format_duration(kept.seconds)}, are unchanged"
                self.show(f"{stage} continues at cell {kept.cell} of {kept.run}: {above}.")
                return kept
            self.show(f"{stage} starts at its first cell: {why_not}.")
        discard_kept(experiment)
        return None

    def forget(self, experiment: str, stage: str) -> None:
        """Remove the state of a stage, which has finished."""
        kept = load_kept(experiment)
        if kept and kept.stage == stage:
            discard_kept(experiment)


def find_reason_to_start(
    kept: KeptState, stage: str, params: Params, source: NotebookSource, inputs: Mapping[str, str]
) -> str:
    """Return why a run may not continue from a state, empty if it may."""
    assert kept.checkpoint
    work = find_kept_dir(params.experiment) / WORK_NAME
    if not is_waiting(kept):
        return "its kernel has ended, which waits for an hour"
    if not work.is_dir():
        return f"the run that continued at cell {kept.cell} was killed, with the files of the cells above"
    if found := find_changed_cell(kept.checkpoint, source):
        return found
    environment = make_kernel_environment(paths.find_work_dir() / kept.folder)
    state = ask_state(Path(kept.checkpoint.address), seconds=REPLY_SECONDS, environment=environment)
    if state is None or "changed" not in state:
        return "its kernel does not reply"
    if state["changed"]:
        return f"{list_briefly(state['changed'], most=3)} changed in the environment"
    return find_changed_part(kept, stage, params, inputs)


def find_changed_part(kept: KeptState, stage: str, params: Params, inputs: Mapping[str, str]) -> str:
    """Return what changed of that which the cells above could depend on, empty if nothing did."""
    read = Dependencies(*(tuple(kept.identity.get(kind, ())) for kind in DEPENDENCY_KINDS))
    identity = compute_identity(stage, params, inputs=inputs, code=kept.identity.get("code", ()), names=read)
    for kind, lead in WHAT.items():
        before, now = kept.identity.get(kind, {}), identity.get(kind, {})
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if names:
            return lead.format(list_briefly(map(paths.make_printable_name, names), most=3))
    return ""


def find_changed_cell(checkpoint: Checkpoint, source: NotebookSource) -> str:
    """Return which of the cells above differs from what ran, empty if none does."""
    ran = [cell for cell in checkpoint.cells if INJECTED not in cell.tags]
    numbered = [(number, cell) for number, cell in enumerate(source.notebook.cells, 1) if cell.cell_type == "code"]
    for before, (number, cell) in zip(ran, numbered, strict=False):
        if before.source != cell.source or before.tags != tuple(cell.metadata.get("tags", ())):
            return f"cell {number} changed, which is above the one to continue at"
    return "" if len(ran) <= len(numbered) else "cells above the one to continue at are gone"


def find_cell_number(checkpoint: Checkpoint, source: NotebookSource) -> int:
    """Return the number of the first cell that is not in a checkpoint, as in JupyterLab."""
    n_kept = sum(INJECTED not in cell.tags for cell in checkpoint.cells)
    numbers = [number for number, cell in enumerate(source.notebook.cells, 1) if cell.cell_type == "code"]
    return numbers[n_kept] if n_kept < len(numbers) else len(source.notebook.cells)


def compute_identity(
    stage: str, params: Params, *, inputs: Mapping[str, str], code: Iterable[str], names: Dependencies
) -> Identity:
    """Return the digests of all that the cells before a checkpoint could depend on, as it is now.

    Parameters
    ----------
    inputs
        Digests of the declared inputs.
    code
        The files of modules that the kernel has loaded.
    names
        What it has read besides.
    """
    root = paths.find_root()
    fingerprint = load_fingerprint(find_fingerprint_dir(params.experiment) / f"{stage}.json")
    reads = compute_stage_reads(params, (), names, Checkout(root))
    return {
        "params": dict(flatten_params(params.model_dump(mode="json", exclude={"limits"}))),
        "packages": {
            "Python": f"{sys.version} {sys.executable}",
            "the installed packages": str(Path(sysconfig.get_path("purelib")).stat().st_mtime_ns),
            "requirements.lock": find_digest(root / "requirements.lock"),
        },
        "inputs": {name: one for name, one in inputs.items() if "/fingerprint/" not in name},
        "given": {kind: repr(sorted(fingerprint.get(kind, {}).items())) for kind in GIVEN},
        "code": {name: find_digest(root / name) for name in code},
        **{kind: reads.get(kind, {}) for kind in DEPENDENCY_KINDS},
    }


def flatten_params(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of nested params by dotted name.

    >>> dict(flatten_params({"training": {"folds": 5, "models": ["dummy"]}}))
    {'training.folds': '5', 'training.models': '[dummy]'}
    """
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flatten_params(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", write_flow(value)


def find_digest(path: Path) -> str:
    """Return the digest of a file, empty if it is not there."""
    return compute_digest(path) if path.is_file() else ""


def find_kept(
    checkpointer: Checkpointer,
    *,
    stage: str,
    params: Params,
    source: NotebookSource,
    run: str,
    inputs: Mapping[str, str],
    before: KeptState | None,
) -> KeptState:
    """Return what can be kept of a stage that failed, with the run's folder as it was at the checkpoint.

    Parameters
    ----------
    run
        The run in whose folder the stage worked.
    before
        The state from which the run continued.
    """
    point, work = checkpointer.latest or checkpointer.start, checkpointer.work
    nothing = KeptState(stage, run, work.name)
    if point is None:
        least = format_duration(params.limits.checkpoint_seconds)
        return replace(nothing, why_not=checkpointer.obstacle or f"its cells had run for less than {least}")
    footprint = load_footprint(work / TRACE_NAME)
    why_not = find_side_effect(work) or find_hidden_change(footprint, params.experiment)
    if why_not:
        return replace(nothing, why_not=why_not)
    if name := restore_work(work, point.files):
        return replace(nothing, why_not=f"the failed cell had changed {name}")
    seen = observe(work, stage, params=params, start=source.path, mask=Mask())
    if seen.untracked:
        return replace(nothing, why_not=f"not all that it depends on can be compared: {seen.untracked[0]}".rstrip("."))
    if point is checkpointer.start and before:
        return before
    if edited := find_edited(point.modules, footprint):
        return replace(nothing, why_not=f"{edited} was changed while the stage ran")
    process = find_process(point.pid)
    if process is None or not checkpointer.is_kept:
        return replace(nothing, why_not="its kernel has ended")
    code = sorted({paths.show_path(Path(name)) for name in point.modules})
    names = replace(seen.names, files=tuple(name for name in seen.names.files if name not in code))
    return KeptState(
        stage,
        run,
        work.name,
        find_cell_number(point, source),
        round(sum(cell.seconds for cell in point.cells), 1),
        checkpoint=point,
        started=process.started,
        identity=compute_identity(stage, params, inputs=inputs, code=code, names=names),
    )


def find_hidden_change(footprint: Footprint, experiment: str) -> str:
    """Return a file of an experiment that was changed while its stage ran, such as by a C library.

    What other experiments have for themselves does not count, because they may be running.
    """
    began = (footprint.began or 0) - 0.01
    for path in list_own_files(experiment):
        try:
            state = path.lstat()
        except OSError:  # it was removed meanwhile
            continue
        if max(state.st_mtime, state.st_ctime) >= began:
            return f"{paths.show_path(path)} was changed while it ran"
    return ""


def list_own_files(experiment: str) -> Iterator[Path]:
    """Yield the files of an experiment's data, and of the notebooks, code and params that it uses; without sources."""
    yield paths.find_params_path(experiment)
    others = {paths.find_notebooks_dir(name) for name in list_experiments() if name != experiment}
    for place in (paths.find_data_dir(experiment), paths.find_notebooks_dir(), paths.find_library_dir()):
        for folder, folders, files in os.walk(place):
            paths_below = {name: Path(folder, name) for name in folders if name not in UNCHECKED}
            folders[:] = [name for name, one in paths_below.items() if one not in others and not one.is_symlink()]
            named = (Path(folder, name) for name in files if not name.startswith("."))
            yield from (path for path in named if path.suffix not in EDITED_SUFFIXES)


def find_edited(modules: Sequence[str], footprint: Footprint) -> str:
    """Return a loaded module, or another file that cells read, that was changed while the stage ran."""
    began = footprint.began or 0
    for name in modules:
        path = Path(name)
        if not path.is_file() or path.stat().st_mtime >= began:
            return paths.show_path(path)
    changed = [name for name, reading in footprint.readings.items() if reading.is_changed(Path(name))]
    return paths.show_path(Path(changed[0])) if changed else ""


def take_work(kept: KeptState, experiment: str) -> Checkpoint:
    """Put the folder of a kept state back in its place; return the checkpoint with what the folder holds."""
    assert kept.checkpoint
    work = paths.find_work_dir() / kept.folder
    work.rmdir()
    atomic.move(find_kept_dir(experiment) / WORK_NAME, work)
    begin_again(work / TRACE_NAME)
    return replace(kept.checkpoint, files=note_files(work))


def begin_again(trace: Path) -> None:
    """Have a trace begin now: what people changed since the failure was not changed while the stage ran."""
    notes = [atomic.parse_json(line) for line in trace.read_bytes().splitlines()]
    begun = [{**note, "at": time.time()} if note["kind"] == "begin" else note for note in notes]
    write_text(trace, "".join(f"{json.dumps(note)}\n" for note in begun))


def store_kept(kept: KeptState, experiment: str, work: Path) -> None:
    """Keep a state and its folder, in the place of what was kept before."""
    before = load_kept(experiment)
    if before and before.checkpoint != kept.checkpoint:
        discard_kept(experiment)
    folder = find_kept_dir(experiment)
    if kept.checkpoint:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.move(work, folder / WORK_NAME)
        save_kept(experiment, kept)
        if not keep_process(kept.checkpoint.pid):
            end_kernel(kept)
    else:
        save_kept(experiment, kept)
