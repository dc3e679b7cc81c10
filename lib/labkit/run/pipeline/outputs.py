"""The outputs of stages: put in place as a whole, and verified by digest before they are read.

The SHA-256 of each file is recorded when its stage puts it in place, in `.labkit/outputs/<experiment>/<folder>.json`,
and compared with the file before it is opened. Files that DVC restored or another checkout made are verified with
dvc.lock instead. Files in scratch are not recorded and not verified.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import DataError, ParamsError
from labkit.params.yaml_text import load_written_yaml, parse_written_yaml
from labkit.paths import show_path
from labkit.run.checkout import Fault
from labkit.run.dvc_cache import check_object, find_object, load_listing
from labkit.run.pipeline.locked_stages import DVC_LOCK, is_marked, mark
from labkit.storage.atomic import parse_json, place_folder, write_json
from labkit.storage.digests import compute_digest, compute_md5, list_files

STAGE = re.compile(r"  ([^\s@]+)@(\S+):")
"""The first line of a stage in dvc.lock."""
LOCK_LOSS = "Only the knowledge of what is up to date is lost by it: those stages run again, or come from DVC's cache"
WHOLE_REMEDY = f"restore it from git, or remove it. {LOCK_LOSS}"


@dataclass(frozen=True)
class RecordedFile:
    """The record of one file: the stage that wrote it and its digest."""

    stage: str
    sha256: str | None = None
    md5: str | None = None

    def matches(self, path: Path) -> bool:
        """Return whether a file has the recorded digest."""
        if self.sha256 is not None:
            return compute_digest(path) == self.sha256
        return compute_md5(path) == self.md5


def place_outputs(outputs: Path, target: Path, *, experiment: str, stage: str) -> None:
    """Replace the folders in `target` by those that a stage wrote, after recording their digests.

    After a crash in between, the folder in place can still be verified: with the record if it is the new one, with
    dvc.lock if it is the old one.
    """
    for folder in sorted(outputs.iterdir()) if outputs.is_dir() else []:
        if target == paths.find_data_dir(experiment):
            record_folder(folder, experiment=experiment, stage=stage)
        place_folder(folder, target / folder.name)


def record_folder(folder: Path, *, experiment: str, stage: str) -> None:
    """Record the digests of all files in a folder, which is or will be one of the experiment's data folder."""
    digests = {path.relative_to(folder.parent).as_posix(): compute_digest(path) for path in list_files(folder)}
    write_json(find_record(experiment, folder.name), {"stage": stage, "files": digests})


def check_outputs(experiment: str, inputs: Iterable[Path]) -> None:
    """Raise an error for files, or files in folders, that were changed since a stage wrote them.

    Raises
    ------
    DataError
        A file was changed or cannot be verified.
    """
    data = paths.find_data_dir(experiment)
    for path in inputs:
        for file in list_files(path) if path.is_dir() else [path]:
            if file.is_relative_to(data) and not file.is_relative_to(paths.find_scratch_dir(experiment)):
                check_recorded_file(experiment, file)


def check_recorded_file(experiment: str, path: Path) -> None:
    """Raise an error for a file in an experiment's data folder that was changed since a stage wrote it."""
    place = path.relative_to(paths.find_data_dir(experiment)).as_posix()
    recorded = find_recorded(experiment, place)
    if recorded is not None and recorded.matches(path):
        return
    locked = find_locked(experiment, place)
    if locked is not None and locked.matches(path):
        return
    known = recorded or locked
    if known is not None:
        raise DataError(
            f"{show_path(path)}: changed since the stage `{known.stage}` wrote it, so it is not opened: "
            f"make it again with `labkit run {experiment} --force {known.stage}`"
        )
    record = find_record(experiment, place.partition("/")[0])
    if record.is_file() and not is_readable(record):
        raise DataError(
            f"{show_path(path)}: cannot be verified, so it is not opened: {show_path(record)}, which holds its digest, "
            f"is damaged, and {DVC_LOCK} does not list it: run `labkit run {experiment} --force` with the stage that "
            "writes it"
        )


def is_readable(record: Path) -> bool:
    """Return whether a record of digests can be read."""
    try:
        return isinstance(parse_json(record.read_bytes())["files"], dict)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def find_record(experiment: str, folder: str) -> Path:
    """Return where the digests of a folder's files are recorded."""
    return paths.find_root() / ".labkit" / "outputs" / experiment / f"{folder}.json"


def find_recorded(experiment: str, place: str) -> RecordedFile | None:
    """Return labkit's own record of a file, or None."""
    try:
        record: Any = parse_json(find_record(experiment, place.partition("/")[0]).read_bytes())
        return RecordedFile(str(record["stage"]), sha256=str(record["files"][place]))
    except (OSError, ValueError, TypeError, KeyError):
        return None  # the caller falls back to dvc.lock


def find_locked(experiment: str, place: str) -> RecordedFile | None:
    """Return the record of a file in dvc.lock, or None."""
    full = f"data/{experiment}/{place}"
    for stage, out in list_locked():
        if out["path"] == full:
            return RecordedFile(stage.partition("@")[0], md5=out["md5"])
        if full.startswith(f"{out['path']}/"):
            md5 = find_in_folder(out["md5"], full.removeprefix(f"{out['path']}/"))
            return RecordedFile(stage.partition("@")[0], md5=md5) if md5 else None
    return None


def list_locked() -> list[tuple[str, dict[str, str]]]:
    """Return each output in dvc.lock with its stage; none if the file is invalid, which DVC reports itself."""
    try:
        stages = load_written_yaml(paths.find_root() / DVC_LOCK)["stages"]
        return [
            (str(name), {"path": str(out["path"]), "md5": str(out["md5"])})
            for name, stage in stages.items()
            for out in stage.get("outs", [])
            if "md5" in out
        ]
    except (OSError, ParamsError, TypeError, KeyError, AttributeError):
        return []


def check_dvc_lock() -> None:
    """Raise an error if dvc.lock is invalid, because DVC could then not run any experiment.

    Raises
    ------
    ParamsError
        The message names the experiment whose lines are invalid and what to remove.
    """
    if fault := find_lock_fault():
        raise ParamsError(f"{fault.found}: {fault.remedy}")


def find_lock_fault() -> Fault | None:
    """Return what is wrong with dvc.lock and what to do about it, None if nothing is."""
    path = paths.find_root() / DVC_LOCK
    try:
        content = path.read_bytes()
        if is_marked(content):
            return None
        tree = parse_written_yaml(content, DVC_LOCK)
    except FileNotFoundError:
        return None
    except ParamsError as error:
        place = getattr(error.__cause__, "problem_mark", None)
        return locate_fault(path.read_text(encoding="utf-8", errors="replace"), place.line + 1 if place else 1)
    is_sound = isinstance(tree, dict) and "schema" in tree and isinstance(tree.get("stages", {}), dict)
    if not is_sound:
        return Fault(f"{DVC_LOCK}: not in DVC's format", WHOLE_REMEDY)
    mark(content, tree)
    return None


def locate_fault(content: str, line: int) -> Fault:
    """Return the fault of a line of dvc.lock that is not YAML, with the stage it belongs to."""
    lines = content.splitlines()
    starts = [(number, found) for number, one in enumerate(lines, 1) if (found := STAGE.fullmatch(one))]
    above = [start for start in starts if start[0] <= line]
    if not above:
        return Fault(f"{DVC_LOCK}:{line}: not YAML", WHOLE_REMEDY)
    (first, found), last = above[-1], next((number - 1 for number, _ in starts if number > line), len(lines))
    where = f"{DVC_LOCK}:{line}: not YAML, in the part of the stage {found[1]} of {found[2]}"
    return Fault(
        f"{where}, so that no experiment can run", f"remove lines {first} to {last}, or the whole file. {LOCK_LOSS}"
    )


def find_in_folder(md5: str, name: str) -> str | None:
    """Return the MD5 of a file in a folder with an MD5 of its own, None if the listing of the folder is missing."""
    listing = find_object(md5)
    try:
        check_object(listing, md5, name)
        return load_listing(listing).get(name)
    except (OSError, DataError):
        return None
