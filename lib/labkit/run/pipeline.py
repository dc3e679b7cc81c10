"""Which stages are stale, and running them in order: DVC.

Sole owner of dvc. `dvc.yaml` is the only definition of the pipeline. Not how a stage runs: DVC calls
`labkit stage`, see `labkit.run.stage`.
"""

import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockNoop
from dvc.repo import Repo

from labkit import paths
from labkit.errors import ParamsError, StageError, name_nearest
from labkit.params_file import load_yaml, make_plain
from labkit.run import fingerprint

PUBLISH = "publish"
"""The stage that DVC always calls and that decides itself whether there is anything to do."""
FINGERPRINT = "fingerprint"
"""The stage that DVC always calls to tell it of code and named files; people need not see it."""

EXPERIMENT = re.compile(r"[a-z][a-z0-9_]{0,62}")
LONGEST_GOODBYE_SECONDS = 30


@dataclass(frozen=True)
class StageState:
    """One stage: `reasons` is empty if its outputs are up to date."""

    name: str
    reasons: tuple[str, ...]


def open_repo() -> Repo:
    """Return the checkout's DVC repository, quiet.

    Raises
    ------
    ParamsError
        The checkout has none, or dvc.yaml is not valid.
    """
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    remove_torn_lock(paths.find_root() / ".dvc" / "tmp" / "rwlock")
    try:
        return Repo(str(paths.find_root()))
    except DvcException as error:
        raise ParamsError(f"{paths.find_root()}: {error}: is it a whole checkout?") from error


@contextmanager
def look_at_repo() -> Iterator[Repo]:
    """Yield the repository for looking only, whoever works in it: no lock is waited for, and none is in their way."""
    repo = open_repo()
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as folder:
        repo.lock = LockNoop()
        # Where DVC lists who reads and writes which file.
        repo.__dict__["tmp_dir"] = folder
        yield repo


def remove_torn_lock(path: Path) -> None:
    """Remove DVC's list of readers and writers if a killed process left it half-written: DVC itself would give up."""
    for _ in range(2):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(0.2)  # somebody may be writing it just now
        else:
            return
    path.unlink(missing_ok=True)


def list_stages(experiment: str) -> list[str]:
    """Return the stages in the order of dvc.yaml, which is the order in which they run.

    Raises
    ------
    ParamsError
        dvc.yaml does not list the experiment.
    """
    tree = make_plain(load_yaml(paths.find_root() / paths.MARKER))
    listed = find_listed(tree)
    if experiment not in listed:
        raise ParamsError(f"dvc.yaml does not list {experiment!r}: add it to `experiments` at its top")
    return list(tree["stages"])


def find_listed(tree: Mapping[str, Any]) -> list[str]:
    """Return the experiments that dvc.yaml lists, each a plain name: DVC writes them into commands for a shell.

    Raises
    ------
    ParamsError
        The list is no list of names.
    """
    entries = tree.get("vars", [])
    if not isinstance(entries, list) or not isinstance(tree.get("stages"), dict):
        raise ParamsError("dvc.yaml: `vars` is not a list or `stages` not a mapping: restore it from git")
    lists = [entry["experiments"] for entry in entries if isinstance(entry, dict) and "experiments" in entry]
    names: list[Any] = [name for listed in lists for name in (listed if isinstance(listed, list) else [listed])]
    for name in names:
        if not isinstance(name, str) or not EXPERIMENT.fullmatch(name):
            raise ParamsError(f"dvc.yaml: experiments: {name!r:.60} is no name: small letters, digits and _")
    return names


def check_stage(name: str, known: Iterable[str]) -> str:
    """Return a stage's name if the pipeline has it."""
    names = list(known)
    if name not in names:
        raise ParamsError(f"no stage {name!r}: {name_nearest(name, names)}")
    return name


def list_until(experiment: str, until: str | None) -> list[str]:
    """Return the stages in their order, those after `until` left out."""
    names = list_stages(experiment)
    return names[: names.index(until) + 1] if until else names


def find_states(repo: Repo, experiment: str, *, until: str | None = None) -> list[StageState]:
    """Return the stages of an experiment with the reasons why each is stale, in the order in which they run."""
    names = list_until(experiment, until)
    try:
        status = repo.status(targets=[f"{name}@{experiment}" for name in names])
    except DvcException as error:
        raise ParamsError(f"dvc: {error}") from error
    found = {key.rpartition(":")[2].partition("@")[0]: value for key, value in status.items()}
    return [StageState(name, explain_stage(repo, experiment, name, found.get(name, []))) for name in names]


def explain_stage(repo: Repo, experiment: str, name: str, changes: Iterable[Any]) -> tuple[str, ...]:
    """Return in words why a stage is stale."""
    stages = repo.stage.collect(f"{name}@{experiment}")
    before = {str(dep): dep.hash_info.value for stage in stages for dep in stage.deps if dep.hash_info}
    if name != FINGERPRINT and not before:
        return ("it has not run yet",)

    def explain(path: str) -> list[str]:
        if path != f"data/{experiment}/{FINGERPRINT}/{name}.json":
            return []
        return fingerprint.describe_change(experiment, name, before.get(path))

    return tuple(describe_changes(changes, explain))


def describe_changes(changes: Iterable[Any], explain: Callable[[str], list[str]]) -> list[str]:
    """Turn DVC's status of one stage into words; of one whose outputs are gone only that is told.

    `explain` knows more of some files than that they are modified.
    """
    changes = list(changes)
    mappings = [change for change in changes if isinstance(change, dict)]
    outputs = [what for change in mappings for what in change.get("changed outs", {}).values()]
    if outputs and set(outputs) == {"deleted"}:
        return ["its outputs are not there"]
    reasons = []
    for change in changes:
        if change == "always changed":
            continue
        if isinstance(change, str):
            reasons.append(change)
            continue
        for kind, entries in change.items():
            side = "output" if kind == "changed outs" else "input"
            for path, what in entries.items():
                better = explain(path) if what == "modified" else []
                reasons += better or [describe_change(side, path, what)]
    return reasons


def describe_change(side: str, path: str, what: Any) -> str:
    """Say in a few words what changed."""
    if isinstance(what, dict):
        return "params " + ", ".join(f"{name} {state}" for name, state in what.items())
    if what in ("deleted", "not in cache") and side == "output":
        return f"{path} has not been made" if what == "deleted" else f"{path} is not in the cache"
    return f"{path} {what}"


def reproduce(repo: Repo, experiment: str, *, until: str | None, force: str | None) -> None:
    """Run the stale stages of an experiment, with `force` one more, stopping after `until`.

    Raises
    ------
    StageError
        A stage failed; the caller knows why.
    """
    names = list_stages(experiment)
    targets = [f"{name}@{experiment}" for name in list_until(experiment, until)]
    try:
        if force:
            before = [f"{name}@{experiment}" for name in names[: names.index(force)]]
            if before:
                repo.reproduce(targets=before)
            repo.reproduce(targets=[f"{force}@{experiment}"], force=True, single_item=True)
        repo.reproduce(targets=targets)
    except DvcException as error:
        cause = error.__cause__ or error
        raise StageError(f"dvc: {cause}") from error


def reproduce_beside(work: Callable[[], None], serve: Callable[[threading.Event], None]) -> None:
    """Run `work` in a thread while this one serves its stages, and raise what `work` raised.

    DVC waits for the stage command, and the stage command asks this process to do the work: so they need two
    threads, and notebooks get the main one, where signals arrive.
    """
    is_over = threading.Event()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            work()
        except BaseException as error:  # handed to the main thread below
            raised.append(error)
        finally:
            is_over.set()

    thread = threading.Thread(target=call, name="dvc", daemon=True)
    thread.start()
    try:
        serve(is_over)
    finally:
        # Also when interrupted: DVC writes its lock files in this thread, and half a lock file blocks every later run.
        thread.join(LONGEST_GOODBYE_SECONDS)
    if raised:
        raise raised[0]


@dataclass(frozen=True)
class Declaration:
    """What dvc.yaml says of one stage: the params sections it reads, the outputs it writes, the files it reads."""

    sections: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()


def load_declarations(experiment: str) -> dict[str, Declaration]:
    """Read dvc.yaml without DVC: each stage's declaration.

    Outputs are relative to the experiment's data folder, inputs to the root.
    """
    stages = load_yaml(paths.find_root() / paths.MARKER)["stages"]
    folder = f"data/{experiment}/"
    found = {}
    for name, stage in stages.items():
        body = make_plain(stage.get("do", stage))
        sections = [key for entry in body.get("params", []) for keys in entry.values() for key in keys]
        listed = [*body.get("outs", []), *body.get("metrics", []), *body.get("plots", [])]
        outputs = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in listed]
        named = [output.replace("${item}", experiment).removeprefix(folder) for output in outputs]
        inputs = [dep.replace("${item}", experiment) for dep in body.get("deps", [])]
        found[str(name)] = Declaration(tuple(sections), tuple(named), tuple(inputs))
    return found
