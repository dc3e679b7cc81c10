"""`labkit reproduce`: makes a run again from its record, in a worktree of its own, and compares what both wrote.

The run is made by the `labkit` of its own commit, without publishing and with an empty cache, so nothing is restored
instead of computed. An interrupted rebuild continues.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError, StageError, list_briefly
from labkit.reproduction.differences import ComparedOutput, compare_outputs_of
from labkit.reproduction.environment import list_machine_differences, list_package_differences
from labkit.reproduction.inputs import restore_inputs
from labkit.reproduction.recorded_run import RecordedRun
from labkit.reproduction.worktree import check_commit, check_outside, find_prefix, make_worktree, remove_worktree
from labkit.run.dvc_yaml import list_stage_names
from labkit.run.fingerprint.packages import LOCK_FILE
from labkit.run.pipeline.dvc_repo import PUBLISH
from labkit.storage.atomic import parse_json, write_json
from labkit.storage.locks import open_lock, take_lock
from labkit.units import format_count

CHECKOUT, PREPARED, RESULT, LOCK = "checkout", "prepared.json", "reproduction.json", "lock"
"""What is in the folder of a rebuild: its worktree, the mark that it is complete, the result, the lock."""
OWNED = "rebuild.json"
"""Marks a folder in which `checkout` was made here, and may be removed."""
OF_ANOTHER = ("LABKIT_", "MLFLOW_", "DVC_")
"""Prefixes of environment variables that belong to this checkout."""


@dataclass(frozen=True)
class Reproduction:
    """What came of a rebuild.

    Attributes
    ----------
    version
        The version of the model that was named, None if a run was.
    missing
        What the record lacked.
    packages, machine
        How the environment differs from that of the run.
    folder
        Where the rebuilt checkout is; None if it was removed.
    """

    run: str
    experiment: str
    version: int | None
    commit: str
    outputs: tuple[ComparedOutput, ...]
    missing: tuple[str, ...]
    packages: tuple[str, ...]
    machine: tuple[str, ...]
    folder: str | None

    @property
    def is_identical(self) -> bool:
        """Whether every recorded output was written again, the same to the byte."""
        return all(one.is_identical for one in self.outputs)

    @property
    def verdict(self) -> str:
        """The result in words."""
        n_same, stages = sum(one.is_identical for one in self.outputs), {one.stage for one in self.outputs}
        of = f"{format_count(len(self.outputs), 'output')} of {format_count(len(stages), 'stage')}"
        if self.is_identical:
            return f"identical to the byte: {of}"
        first = next(one for one in self.outputs if not one.is_identical)
        return f"{n_same} of {of} identical; the first that differs is of stage {first.stage}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        outputs = [asdict(one) | {"is_identical": one.is_identical} for one in self.outputs]
        return {**asdict(self), "is_identical": self.is_identical, "outputs": outputs}

    def describe(self) -> list[tuple[str, str]]:
        """Return the result as pairs of a name and a text."""
        model = f" (version {self.version} of {self.experiment})" if self.version is not None else ""
        pairs = [("run", f"{self.run}{model}"), ("commit", self.commit), ("result", self.verdict)]
        differing = [one for one in self.outputs if not one.is_identical]
        pairs += [
            (one.stage, make_printable("; ".join((f"{one.path}: {one.details[0]}", *one.details[1:]))))
            for one in differing
        ]
        pairs += [("not recorded", one) for one in self.missing]
        pairs += [("packages", "\n".join(self.packages))] if self.packages else []
        pairs += [("machine", "\n".join(self.machine))] if self.machine else []
        return [*pairs, *([("rebuilt in", self.folder)] if self.folder else [])]


def reproduce_run(
    run: RecordedRun,
    *,
    show: Callable[[str], None],
    folder: Path | None = None,
    is_any_lock: bool = False,
    is_kept: bool = False,
    output: int | None = None,
) -> Reproduction:
    """Make a run again and compare what both wrote.

    Parameters
    ----------
    show
        Called with lines about the progress.
    folder
        Folder for the rebuild, outside of the checkout; by default one beside the checkout.
    is_any_lock
        Warn about packages that differ instead of raising an error.
    is_kept
        Keep the rebuilt checkout although it is identical.
    output
        File descriptor for what the run prints, None for standard output.

    Raises
    ------
    ParamsError, MissingDataError
        The run cannot be rebuilt here.
    StageError
        A stage failed; finished stages are kept.
    """
    check_commit(run)
    folder = check_place(folder or find_rebuild_folder(run))
    with hold_folder(folder, run):
        root = prepare_checkout(run, folder, show)
        packages = check_run_packages(run, root, show, is_any_lock=is_any_lock)
        restore_inputs(run, root, show)
        make_again(run, root, show, output)
        outputs, machine = (
            tuple(compare_outputs_of(run, root, sort_stages(run, root))),
            list_machine_differences(run.record),
        )
        is_removed = not is_kept and all(one.is_identical for one in outputs)
        found = Reproduction(
            run.name,
            run.experiment,
            None if run.version is None else run.version.number,
            str(run.commit),
            outputs,
            tuple(run.list_missing()),
            tuple(packages),
            tuple(machine),
            None if is_removed else str(root),
        )
        write_json(folder / RESULT, found.to_dict())
        if is_removed:
            (folder / PREPARED).unlink(missing_ok=True)
            remove_worktree(folder / CHECKOUT)
            (folder / OWNED).unlink()
    return found


def find_rebuild_folder(run: RecordedRun) -> Path:
    """Return the folder of the rebuild of a run beside the checkout."""
    root = paths.find_root()
    return root.with_name(f"{root.name}.reproduced") / run.name


def check_place(folder: Path) -> Path:
    """Return the absolute path of a folder outside of the checkout.

    Raises
    ------
    ParamsError
        It is inside of the checkout, or holds something else.
    """
    folder = check_outside(folder)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    is_foreign = CHECKOUT in names and OWNED not in names
    if folder.exists() and (not folder.is_dir() or is_foreign or names - {CHECKOUT, PREPARED, RESULT, LOCK, OWNED}):
        raise ParamsError(f"--to {folder}: holds something else: name a new or empty folder")
    return folder


@contextmanager
def hold_folder(folder: Path, run: RecordedRun) -> Iterator[None]:
    """Let one process at a time rebuild in a folder."""
    with open_lock(folder / LOCK) as handle:
        if not take_lock(handle, is_waiting=False):
            raise ParamsError(f"run {run.name} is being rebuilt in {folder}: wait for it, or end it")
        write_json(folder / OWNED, {"run": run.name})
        yield


def prepare_checkout(run: RecordedRun, folder: Path, show: Callable[[str], None]) -> Path:
    """Return the checkout of the code of a run, made unless an interrupted rebuild left it."""
    mark, place = folder / PREPARED, folder / CHECKOUT
    wanted = {"run": run.name, "commit": run.commit}
    root = place / find_prefix(paths.find_root())
    if mark.is_file() and root.is_dir() and parse_json(mark.read_bytes()) == wanted:
        show(f"continues in {place}")
        return root
    mark.unlink(missing_ok=True)
    show(f"code: commit {run.commit}{', with its uncommitted changes' if run.record['code'].get('patch') else ''}")
    root = make_worktree(run, place)
    write_json(mark, wanted)
    return root


def check_run_packages(run: RecordedRun, root: Path, show: Callable[[str], None], *, is_any_lock: bool) -> list[str]:
    """Return how the installed packages differ from those of a run, after a warning.

    Raises
    ------
    ParamsError
        They differ, and `is_any_lock` is not set.
    """
    found = list_package_differences(run.record, root)
    if not found:
        return []
    listed = list_briefly(found, most=5)
    if not is_any_lock:
        raise ParamsError(
            f"run {run.name}: the installed packages are not those that it was made with: {listed}: install them into "
            f"an environment of their own, `uv venv NEW` and `uv pip install --python NEW --require-hashes -r "
            f"{root / LOCK_FILE}`, and reproduce with its labkit; or --any-lock to rebuild with these packages"
        )
    show(f"warning: the packages are not those of the run, so numbers may differ: {listed}")
    return found


def make_again(run: RecordedRun, root: Path, show: Callable[[str], None], output: int | None) -> None:
    """Run the stages of a run again, up to the last one that has outputs, without publishing.

    Raises
    ------
    StageError
        A stage failed.
    """
    last = [stage for stage in sort_stages(run, root) if stage != PUBLISH][-1]
    arguments = ["run", run.experiment, "--until", last]
    show(f"labkit {' '.join(arguments)}, in {root}")
    code = call_labkit(root, arguments, output)
    if code:
        raise StageError(
            f"run {run.name}: its rebuild stopped with exit code {code}, see above; it is kept in {root}: the same "
            "command continues there"
        )


def sort_stages(run: RecordedRun, root: Path) -> list[str]:
    """Return the stages of a run that have outputs, in the order of its pipeline."""
    with paths.use_root(root):
        order = list_stage_names()
    return [stage for stage in order if stage in run.outputs]


def call_labkit(root: Path, arguments: list[str], output: int | None) -> int:
    """Run the command line in another checkout, with the library of that checkout, and return its exit code."""
    environment = {name: one for name, one in paths.copy_environment().items() if not name.startswith(OF_ANOTHER)}
    library = os.pathsep.join(filter(None, [str(root / "lib"), environment.get("PYTHONPATH")]))
    store = paths.make_sqlite_uri(root / "mlflow.db")
    own = {"LABKIT_ROOT": str(root), "MLFLOW_TRACKING_URI": store, "PYTHONPATH": library}
    # In a session of its own: Ctrl-C would reach it twice, as it is passed on below.
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("labkit")), *arguments],
        cwd=root,
        env={**environment, **own},
        stdin=subprocess.DEVNULL,
        stdout=output,
        start_new_session=True,
    )
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
