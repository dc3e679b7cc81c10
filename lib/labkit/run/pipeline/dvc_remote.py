"""Fetching the data that others have pushed: what dvc.lock and the pointers of tables name, checked before it is used.

Owner of dvc together with `labkit.run.pipeline.dvc_repo`. Plain `dvc pull` asks for the outputs of every experiment
that dvc.yaml lists, and fails if one of them has never run anywhere.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.exceptions import DownloadError, DvcException
from dvc.fs import RemoteMissingDepsError
from dvc.repo import Repo

from labkit.errors import DataError, LabkitError, MissingDataError, ParamsError, StageError, list_briefly
from labkit.run import dvc_cache
from labkit.run.pipeline.dvc_repo import check_output_paths, open_repo
from labkit.units import format_count


def pull(experiments: Sequence[str] = ()) -> str:
    """Fetch the data of some experiments, or of all, put them in place and return a sentence on it.

    Raises
    ------
    ParamsError
        There is no remote, what speaks to it is not installed, or nothing has run that could be fetched.
    MissingDataError
        Something was not pushed.
    DataError
        Something that was fetched is damaged, or a file in place that was never recorded would be lost.
    StageError
        The remote cannot be reached.
    """
    repo = open_repo()
    try:
        check_output_paths(repo)
        stages = find_stages(repo, experiments)
        if not stages:
            named = f" of {', '.join(experiments)}" if experiments else ""
            raise ParamsError(f"dvc.lock names no data{named}: `git pull` brings that of others, `labkit run` makes it")
        targets = [str(stage.addressing) for stage in stages]
        n_files = fetch(repo, targets)
        check_fetched(repo, stages)
        restore_outputs(repo, targets)
    finally:
        repo.close()
    n_outputs = sum(len(list_cached_outputs(stage)) for stage in stages)
    return (
        f"{format_count(n_files, 'file')} fetched; {format_count(n_outputs, 'output')} of "
        f"{format_count(len(stages), 'stage')} in place"
    )


def find_stages(repo: Repo, experiments: Sequence[str]) -> list[Any]:
    """Return the stages, and the pointers of tables, whose outputs are known: somebody has run or added them."""
    folders = tuple(f"data/{name}/" for name in experiments)
    found = [stage for stage in repo.index.stages if list_cached_outputs(stage)]
    return [
        stage
        for stage in found
        if not experiments or any(name.startswith(folders) for name, _ in list_cached_outputs(stage))
    ]


def list_cached_outputs(stage: Any) -> list[tuple[str, str]]:
    """Return path and MD5 of each output of a stage that DVC keeps and knows."""
    root = Path(stage.repo.root_dir)
    return [
        (Path(out.fs_path).relative_to(root).as_posix(), str(out.hash_info.value))
        for out in stage.outs
        if out.use_cache and out.hash_info and out.is_in_repo
    ]


class CauseCollector(logging.Handler):
    """Collects the errors that DVC only logs, as it goes on with other files."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take in what one line of the log was caused by."""
        if record.exc_info and record.exc_info[1] is not None:
            self.found.append(record.exc_info[1])


@contextmanager
def collect_causes() -> Iterator[list[BaseException]]:
    """Yield what goes wrong during the block, none of which reaches the terminal."""
    causes = CauseCollector()
    kept = {logger: logger.handlers for logger in map(logging.getLogger, ("dvc_data", "dvc_objects"))}
    for logger in kept:
        logger.handlers, logger.propagate = [causes], False
    try:
        yield causes.found
    finally:
        for logger, handlers in kept.items():
            logger.handlers, logger.propagate = handlers, True


def fetch(repo: Repo, targets: Sequence[str]) -> int:
    """Fetch the outputs of some stages into the cache and return how many files came."""
    remotes = dvc_cache.find_remotes()
    if not remotes:
        raise ParamsError("no DVC remote to fetch from: dvc remote add -d team s3://bucket/path")
    remote = next(iter(remotes.values()))
    try:
        with collect_causes() as causes:
            return int(repo.fetch(targets=list(targets)))
    except NoRemoteError as error:
        raise ParamsError(f"no DVC remote is the default one: dvc remote default {next(iter(remotes))}") from error
    except RemoteMissingDepsError as error:
        extra = "uv pip install 'labkit[s3]'" if remote.startswith("s3:") else str(error).splitlines()[0]
        raise ParamsError(f"{remote}: what speaks to it is not installed: {extra}") from error
    except Exception as error:  # of DVC, or of what speaks to the remote
        if isinstance(error, DownloadError) and not causes:
            return 0  # some files are not there: which, is found out below
        cause = causes[0] if causes else error
        problem = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise StageError(f"{remote}: cannot be fetched from ({problem}); nothing was changed") from cause


def check_fetched(repo: Repo, stages: Sequence[Any]) -> None:
    """Refuse to put anything in place unless all of it has come, and as it was made."""
    cache, missing = Path(repo.cache.local.path).parents[1], []
    for name, md5 in [output for stage in stages for output in list_cached_outputs(stage)]:
        for _ in dvc_cache.list_objects(md5, name, cache):
            pass  # one that is damaged is refused
        if not dvc_cache.is_whole(md5, cache):
            missing.append(name)
    if missing:
        raise MissingDataError(
            f"not on the remote, nor here: {list_briefly(sorted(missing), most=3)}: who made them has to `dvc push`, "
            "or `labkit run` makes them again; nothing was changed"
        )


def restore_outputs(repo: Repo, targets: Sequence[str]) -> None:
    """Put the outputs of some stages in place."""
    try:
        repo.checkout(targets=list(targets))
    except LabkitError:
        raise
    except DvcException as error:
        lines = [line for line in str(error).splitlines() if line]
        raise DataError(
            f"{list_briefly(lines[1:] or lines, most=3)}: changed here and kept nowhere else: move it away, "
            "then pull again"
        ) from error
