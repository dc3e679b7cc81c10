"""Finds stale stages and runs them in order with DVC.

`dvc.yaml` is the only definition of the pipeline. To run a stage, DVC calls `labkit stage`: see
`labkit.run.pipeline.stage_run`. What of DVC is undocumented: `labkit.run.upstream_internals`.
"""

import logging
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.dvcfile import load_file
from dvc.exceptions import DvcException
from dvc.lock import LockError, LockNoop
from dvc.repo import Repo, lock_repo
from dvc.stage.cache import StageCache

from labkit import paths
from labkit.console import echo
from labkit.errors import DataError, LabkitError, ParamsError, StageError, list_briefly, name_nearest
from labkit.names import EXPERIMENT_NAME
from labkit.params.yaml_text import load_plain
from labkit.run import checkout, dvc_cache
from labkit.run.dvc_yaml import FINGERPRINT, is_of, load_declarations
from labkit.run.fingerprint import fingerprint_file
from labkit.run.pipeline import dvc_sharing, outputs
from labkit.run.pipeline.locked_stages import DVC_LOCK, load_locked_stages
from labkit.storage.disk import describe_full, is_full

PUBLISH = "publish"
"""The stage that DVC runs every time and that decides itself whether there is anything to do."""

FIRST_RUN = "first run"
"""The reason of a stage that has never run."""

DVC_THREAD_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class StageState:
    """The state of one stage; `reasons` is empty if its outputs are up to date."""

    name: str
    reasons: tuple[str, ...]


class CheckedCache(StageCache):  # type: ignore[misc]
    """DVC's run cache, which verifies every object before it restores it.

    Also caches stages whose outputs persist. DVC does not, because such a stage may build on its previous outputs; ours
    write into an empty folder and keep the previous outputs only until the new ones replace them.
    """

    is_restoring = False

    def restore(self, stage: Any, *arguments: Any, **options: Any) -> None:
        """Restore the outputs of a stage instead of running it."""
        self.is_restoring = True
        try:
            with as_if_removed(stage):
                super().restore(stage, *arguments, **options)
        finally:
            self.is_restoring = False

    def save(self, stage: Any) -> None:
        """Save a run of a stage."""
        with as_if_removed(stage):
            super().save(stage)

    def _create_stage(self, cache: Mapping[str, Any], wdir: str | None = None) -> Any:
        """Create the stage to restore from the cache entry of an earlier run."""
        for out in cache["outs"] if self.is_restoring else ():
            dvc_cache.check_relative_path(out["path"], "an earlier run in DVC's cache")
            if out.get("hash") == "md5":
                list(dvc_cache.list_objects(out["md5"], out["path"], Path(self.repo.cache.local.path).parents[1]))
        made = super()._create_stage(cache, wdir=wdir)
        # The previous outputs persist; they are overwritten without asking.
        made.checkout = partial(made.checkout, force=True)
        return made


@contextmanager
def as_if_removed(stage: Any) -> Iterator[None]:
    """Treat the outputs of a stage as not persisting during the block."""
    persisting = [out for out in stage.outs if out.persist]
    for out in persisting:
        out.persist = False
    try:
        yield
    finally:
        for out in persisting:
            out.persist = True


def open_repo(report: Callable[[str], None] | None = None) -> Repo:
    """Return the DVC repository of the checkout, with DVC's logging off.

    Parameters
    ----------
    report
        Called with a line about a command of DVC that is waited for; by default it goes to standard error.

    Raises
    ------
    ParamsError
        There is no DVC repository, or dvc.yaml or dvc.lock is not valid.
    """
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    outputs.check_dvc_lock()
    dvc_sharing.remove_torn_list(paths.find_root() / ".dvc" / "tmp" / dvc_sharing.READERS_AND_WRITERS)
    try:
        repo = Repo(str(paths.find_root()))
    except DvcException as error:
        if fault := checkout.find_git_fault():
            raise ParamsError(f"{fault.found}: {fault.remedy}") from error
        raise ParamsError(f"{paths.find_root()}: {error}: is it a whole checkout?") from error
    dvc_sharing.share(repo, report or partial(echo, is_error=True))
    repo.stage_cache = CheckedCache(repo)
    return repo


@contextmanager
def look_at_repo() -> Iterator[Repo]:
    """Yield the repository for reading, without taking or waiting for any lock.

    The current folder is the root during the block: DVC names stages and files relative to it.
    """
    repo = open_repo()
    with chdir(paths.find_root()), tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as folder:
        repo.lock = LockNoop()
        # DVC keeps its list of readers and writers there.
        repo.__dict__["tmp_dir"] = folder
        yield repo


def list_stages(experiment: str) -> list[str]:
    """Return the stages in the order of dvc.yaml, which is the order in which they run.

    Raises
    ------
    ParamsError
        dvc.yaml does not list the experiment.
    """
    if experiment not in list_pipeline_experiments():
        raise ParamsError(f"dvc.yaml does not list {experiment!r}: add it to `experiments` at its top")
    stages = load_plain(paths.find_root() / paths.MARKER)["stages"]
    return [name for name, stage in stages.items() if is_of(stage, experiment)]


def parse_experiments(tree: Mapping[str, Any]) -> list[str]:
    """Return the experiments listed in dvc.yaml after checking their names: DVC inserts them into shell commands.

    Raises
    ------
    ParamsError
        The list is invalid, or a name has other characters than lowercase letters, digits and _.
    """
    entries = tree.get("vars", [])
    if not isinstance(entries, list) or not isinstance(tree.get("stages"), dict):
        raise ParamsError("dvc.yaml: `vars` is not a list or `stages` not a mapping: restore it from git")
    lists = [entry["experiments"] for entry in entries if isinstance(entry, dict) and "experiments" in entry]
    names: list[Any] = [name for listed in lists for name in (listed if isinstance(listed, list) else [listed])]
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(EXPERIMENT_NAME, name):
            raise ParamsError(
                f"dvc.yaml: experiments: {name!r:.60} is not a valid name: use lowercase letters, digits and _"
            )
    return names


def check_stage(name: str, known: Iterable[str]) -> str:
    """Return the name of a stage, or raise an error if the pipeline has no such stage."""
    names = list(known)
    if name not in names:
        raise ParamsError(f"no stage {name!r}: {name_nearest(name, names)}")
    return name


def list_until(experiment: str, until: str | None) -> list[str]:
    """Return the stages in order, up to and including `until`."""
    names = list_stages(experiment)
    return names[: names.index(until) + 1] if until else names


def find_stage_states(repo: Repo, experiment: str, *, until: str | None = None) -> list[StageState]:
    """Return the state of each stage of an experiment, in the order in which they run."""
    names = list_until(experiment, until)
    try:
        with lock_repo(repo):
            stages = find_stages_of(repo, experiment)
            return [StageState(name, explain_stage(stages[f"{name}@{experiment}"], experiment, name)) for name in names]
    except DvcException as error:
        raise ParamsError(f"dvc: {error}") from error


def find_stages_of(repo: Repo, experiment: str) -> Mapping[str, Any]:
    """Return DVC's stages by name; dvc.yaml and dvc.lock are read once, if possible without other experiments."""
    locked = load_locked_stages(experiment)
    if locked is None:
        return {stage.addressing: stage for stage in repo.index.stages}
    file = load_file(repo, str(paths.find_root() / paths.MARKER))
    file.lockfile_contents = {"schema": "2.0", "stages": locked}
    stages: Mapping[str, Any] = file.stages
    return stages


def explain_stage(stage: Any, experiment: str, name: str) -> tuple[str, ...]:
    """Return the reasons why a stage is stale."""
    changes = stage.status().get(stage.addressing, [])
    before = {str(dep): dep.hash_info.value for dep in stage.deps if dep.hash_info}
    if name != FINGERPRINT and not before:
        return (FIRST_RUN,)

    sections = {str(dep): dep for dep in stage.deps if isinstance(dep, ParamsDependency)}

    def explain(path: str) -> list[str]:
        if path in sections:
            keys = list_changed_keys(before.get(path) or {}, sections[path].read_params(flatten=False))
            return [f"params {list_briefly(keys, most=3)} changed"]
        if path != f"data/{experiment}/{FINGERPRINT}/{name}.json":
            return []
        return fingerprint_file.describe_fingerprint_change(experiment, name, before.get(path))

    return tuple(describe_changes(changes, explain))


def describe_changes(changes: Iterable[Any], explain: Callable[[str], list[str]]) -> list[str]:
    """Return DVC's status of one stage as phrases; if its outputs are missing, only that.

    `explain` returns more specific phrases for a modified file, or none.
    """
    changes = list(changes)
    mappings = [change for change in changes if isinstance(change, dict)]
    outputs = [what for change in mappings for what in change.get("changed outs", {}).values()]
    if outputs and set(outputs) == {"deleted"}:
        return ["its outputs are missing"]
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
                better = explain(path) if what == "modified" or isinstance(what, dict) else []
                reasons += better or [describe_status_change(side, path, what)]
    return reasons


def list_changed_keys(before: Any, after: Any, place: str = "") -> list[str]:
    """Return the dotted keys of params whose values differ, at the deepest level that both share.

    >>> list_changed_keys({"training": {"folds": 5, "seed": 1}}, {"training": {"folds": 4, "seed": 1}})
    ['training.folds']
    """
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [place]
    names = [*before, *(name for name in after if name not in before)]
    return [
        key
        for name in names
        for key in list_changed_keys(before.get(name), after.get(name), f"{place}.{name}" if place else str(name))
    ]


def describe_status_change(side: str, path: str, what: Any) -> str:
    """Return a phrase about one change."""
    if what in ("deleted", "not in cache") and side == "output":
        return f"{path} has not been made" if what == "deleted" else f"{path} is not in the cache"
    return f"{path} {what}"


def check_output_paths(repo: Repo) -> None:
    """Raise an error for outputs outside of the checkout, in dvc.yaml, dvc.lock or `.dvc` files, before DVC writes any.

    Raises
    ------
    DataError
        A path leads out of the checkout.
    """
    for _, out in outputs.list_locked():
        dvc_cache.check_relative_path(out["path"], DVC_LOCK)
        dvc_cache.check_listing(out["md5"], Path(repo.cache.local.path).parents[1])
    for out in repo.index.outs:
        if not out.is_in_repo:
            raise DataError(f"{out.stage.path_in_repo}: {out} is outside of the checkout: nothing is written there")


def remove_leftovers(repo: Repo) -> None:
    """Remove temporary files from DVC's cache, which would keep a full disk full, unless DVC is running."""
    cache = Path(repo.cache.local.path).parents[1]
    found = dvc_cache.list_leftovers(cache) if cache.is_dir() else []
    if not found:
        return
    try:
        with repo.lock.refuse_to_wait(), repo.lock:
            for path in found:
                path.unlink(missing_ok=True)
    except LockError:
        return  # the next run will do it


def list_ends(experiment: str, names: list[str]) -> list[str]:
    """Return the stages that no other of them depends on: running these runs all, and DVC reads dvc.yaml less often."""
    declared = load_declarations(experiment)
    folder = f"data/{experiment}/"
    read = {path for name in names for path in declared[name].inputs}

    def is_read(name: str) -> bool:
        written = [folder + output for output in declared[name].outputs]
        return any(path == out or path.startswith(f"{out}/") for out in written for path in read)

    return [name for name in names if not is_read(name)]


def reproduce(repo: Repo, experiment: str, *, until: str | None, force: str | None) -> None:
    """Run the stale stages of an experiment and the stage `force`, stopping after `until`.

    Raises
    ------
    StageError
        A stage failed; the caller has the reason.
    """

    def find_targets(names: list[str]) -> list[str]:
        return [f"{name}@{experiment}" for name in list_ends(experiment, names)]

    try:
        check_output_paths(repo)
        remove_leftovers(repo)
        if force:
            names = list_stages(experiment)
            if before := find_targets(names[: names.index(force)]):
                repo.reproduce(targets=before)
            repo.reproduce(targets=[f"{force}@{experiment}"], force=True, single_item=True)
        repo.reproduce(targets=find_targets(list_until(experiment, until)))
        address = f"{FINGERPRINT}@{experiment}"
        # The stages have added the files they read to their fingerprints.
        if any(one.addressing == address and one.outs[0].changed_checksum() for one in repo.index.stages):
            repo.commit(address, force=True)
    except (DvcException, DataError) as error:
        cause = error if isinstance(error, LabkitError) else error.__cause__ or error
        if is_full(error) and not isinstance(cause, LabkitError):
            raise StageError(describe_full(Path(repo.cache.local.path), "more, for DVC's cache")) from error
        raise StageError(f"{cause}" if isinstance(cause, LabkitError) else f"dvc: {cause}") from error


def reproduce_beside(work: Callable[[], None], serve: Callable[[threading.Event], None]) -> None:
    """Run `work` in a thread while `serve` runs in this one, and raise the error of `work`.

    DVC waits for the stage command, and the stage command asks this process to do the work, so two threads are needed.
    Notebooks run in the main thread, where signals arrive.
    """
    is_over = threading.Event()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            work()
        except BaseException as error:  # raised in the main thread below
            raised.append(error)
        finally:
            is_over.set()

    thread = threading.Thread(target=call, name="dvc", daemon=True)
    thread.start()
    try:
        serve(is_over)
    finally:
        # Also when interrupted: DVC writes its lock files in this thread, and half a lock file blocks every later run.
        thread.join(DVC_THREAD_TIMEOUT_SECONDS)
    if raised:
        raise raised[0]


def list_pipeline_experiments() -> list[str]:
    """Return the experiments that dvc.yaml lists, in its order."""
    return parse_experiments(load_plain(paths.find_root() / paths.MARKER))
