"""`labkit pull`: fetches the data that dvc.lock and the pointers of tables name, and verifies them before use.

Uses dvc together with `labkit.run.pipeline.dvc_repo`. Plain `dvc pull` asks for the outputs of every experiment in
dvc.yaml and fails if one of them has never run anywhere.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.exceptions import DownloadError, DvcException
from dvc.fs import RemoteMissingDepsError
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from labkit.errors import DataError, LabkitError, MissingDataError, ParamsError, StageError, list_briefly
from labkit.run import dvc_cache
from labkit.run.pipeline.dvc_repo import check_output_paths, open_repo
from labkit.units import format_count


def pull(experiments: Sequence[str] = ()) -> str:
    """Fetch the data of some experiments, or of all, put them in place and return a summary.

    Raises
    ------
    ParamsError
        There is no remote, the package for it is not installed, or dvc.lock names no data.
    MissingDataError
        An output was not pushed.
    DataError
        A fetched object is damaged, or a local file that is recorded nowhere would be overwritten.
    StageError
        The remote cannot be reached.
    """
    repo = open_repo()
    try:
        check_output_paths(repo)
        stages = find_stages(repo, experiments)
        if not stages:
            named = f" of {', '.join(experiments)}" if experiments else ""
            raise ParamsError(f"dvc.lock names no data{named}: `git pull` gets that of others, `labkit run` makes it")
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
    """Return the stages, and the pointers of tables, whose outputs have a recorded digest."""
    folders = tuple(f"data/{name}/" for name in experiments)
    found = [stage for stage in repo.index.stages if list_cached_outputs(stage)]
    return [
        stage
        for stage in found
        if not experiments or any(name.startswith(folders) for name, _ in list_cached_outputs(stage))
    ]


def list_cached_outputs(stage: Any) -> list[tuple[str, str]]:
    """Return path and MD5 of each output of a stage that DVC caches and has a digest of."""
    root = Path(stage.repo.root_dir)
    return [
        (Path(out.fs_path).relative_to(root).as_posix(), str(out.hash_info.value))
        for out in stage.outs
        if out.use_cache and out.hash_info and out.is_in_repo
    ]


class CauseCollector(logging.Handler):
    """Collects the errors that DVC only logs before it continues with other files."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect the exception of one log record."""
        if record.exc_info and record.exc_info[1] is not None:
            self.found.append(record.exc_info[1])


@contextmanager
def collect_causes() -> Iterator[list[BaseException]]:
    """Yield the errors that DVC logs during the block; none of them reaches the terminal."""
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
    """Fetch the outputs of some stages into the cache and return the number of files."""
    return fetch_with(lambda: int(repo.fetch(targets=list(targets))))


def fetch_objects(md5s: Sequence[str]) -> None:
    """Fetch objects, and what they list, into the cache by their MD5; those that the remote lacks are left out.

    Raises
    ------
    ParamsError
        There is no remote, or the package for it is not installed.
    StageError
        The remote cannot be reached.
    """
    repo = open_repo()
    cache = Path(repo.cache.local.path).parents[1]

    def pull_all(names: Sequence[str]) -> int:
        return len(repo.cloud.pull([HashInfo("md5", name) for name in names]).transferred)

    try:
        fetch_with(lambda: pull_all(md5s))
        listings = [
            path for md5 in md5s if md5.endswith(".dir") and (path := dvc_cache.find_object(md5, cache)).is_file()
        ]
        listed = [one for path in listings for one in dvc_cache.load_listing(path).values()]
        if listed:
            fetch_with(lambda: pull_all(listed))
    finally:
        repo.close()


def fetch_with(transfer: Callable[[], int]) -> int:
    """Call what fetches from the remote and return what it returns, the number of files."""
    remotes = dvc_cache.find_remotes()
    if not remotes:
        raise ParamsError("no DVC remote to fetch from: dvc remote add -d team s3://bucket/path")
    remote = next(iter(remotes.values()))
    try:
        with collect_causes() as causes:
            return transfer()
    except NoRemoteError as error:
        raise ParamsError(f"no DVC remote is the default one: dvc remote default {next(iter(remotes))}") from error
    except RemoteMissingDepsError as error:
        extra = "uv pip install 'labkit[s3]'" if remote.startswith("s3:") else str(error).splitlines()[0]
        raise ParamsError(f"{remote}: the package for it is not installed: {extra}") from error
    except Exception as error:  # of DVC, or of the library that accesses the remote
        if isinstance(error, DownloadError) and not causes:
            return 0  # some files are missing; `check_fetched` names them
        cause = causes[0] if causes else error
        problem = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise StageError(f"{remote}: cannot be fetched from ({problem}); nothing was changed") from cause


def check_fetched(repo: Repo, stages: Sequence[Any]) -> None:
    """Raise an error unless every output was fetched and is undamaged."""
    cache, missing = Path(repo.cache.local.path).parents[1], []
    for name, md5 in [output for stage in stages for output in list_cached_outputs(stage)]:
        for _ in dvc_cache.list_objects(md5, name, cache):
            pass  # raises for a damaged object
        if not dvc_cache.is_whole(md5, cache):
            missing.append(name)
    if missing:
        raise MissingDataError(
            f"neither on the remote nor here: {list_briefly(sorted(missing), most=3)}: run `dvc push` in the checkout "
            "that made them, or make them again with `labkit run`; nothing was changed"
        )


def restore_outputs(repo: Repo, targets: Sequence[str], *, is_forced: bool = False) -> None:
    """Put the outputs of some stages in place; those that are saved nowhere are only replaced if that is forced."""
    if not targets:
        return  # for DVC, no targets are all of them
    try:
        repo.checkout(targets=list(targets), force=is_forced)
    except LabkitError:
        raise
    except DvcException as error:
        lines = [line for line in str(error).splitlines() if line]
        raise DataError(
            f"{list_briefly(lines[1:] or lines, most=3)}: changed here and saved nowhere else: move it away, "
            "then pull again"
        ) from error
