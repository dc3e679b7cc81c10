"""`labkit export`: one folder with all that is recorded of a run, which can be kept and verified without labkit.

It holds the record, the code with what was not committed, params, lock, digests of the data, pages, and the model with
its card; `README.md` describes it and `SHA256SUMS` verifies it.
"""

import codecs
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import DataError, DiskError, LabkitError, LostStoreError, ParamsError, list_briefly
from labkit.reproduction.differences import find_recorded_files
from labkit.reproduction.export_readme import make_readme
from labkit.reproduction.inputs import list_wanted, restore_inputs
from labkit.reproduction.recorded_run import RecordedRun
from labkit.reproduction.worktree import check_commit, check_outside, make_worktree, remove_worktree
from labkit.run.fingerprint.packages import LOCK_FILE
from labkit.run.records import tracking
from labkit.run.records.registry import MODEL, RELEASE
from labkit.run.records.run_record import PATCH_NAME, RECORD_NAME
from labkit.secrets.redaction import Mask
from labkit.storage.atomic import atomic_folder, copy_file, write_bytes, write_json, write_text
from labkit.storage.digests import compute_digest, list_files
from labkit.units import format_bytes, format_count

SUMS = "SHA256SUMS"
NOT_CODE = {".git", ".labkit"}
OWN_SETTINGS = ".dvc/config.local"
REPORT = "report"
"""Folder of a stage's artifacts with its page."""
RAW = "data"
"""Folder of the raw tables, which stay as they are: their digests are recorded."""
REMOTE = re.compile(r"(?!file:)[^/:]{2,}:")
"""Start of the URL of a repository, or of a host with a path on it as ssh writes it; others are local folders."""
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass
class Export:
    """A folder made of a run.

    Attributes
    ----------
    n_files, n_bytes
        Number and size of the files in it.
    missing
        What was never recorded or made, in words.
    lost
        What the run wrote that is no longer stored, in words.
    redacted
        Files in which strings were redacted as secrets, with the SHA-256 that each had before.
    """

    run: RecordedRun
    folder: Path
    has_data: bool = False
    n_files: int = 0
    n_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    redacted: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the export as plain data."""
        return {
            "run": self.run.name,
            "experiment": self.run.experiment,
            "folder": str(self.folder),
            "n_files": self.n_files,
            "n_bytes": self.n_bytes,
            "missing": self.missing,
            "lost": self.lost,
            "redacted": self.redacted,
        }


def export_run(
    run: RecordedRun, *, show: Callable[[str], None], folder: Path | None = None, has_data: bool = False
) -> Export:
    """Write a folder with all that is recorded of a run, and verify it.

    Parameters
    ----------
    show
        Called with lines about the progress.
    folder
        The folder, outside of the checkout, which must not exist; by default one beside the checkout.
    has_data
        Include the raw tables.

    Raises
    ------
    ParamsError
        The folder exists or is inside of the checkout, or the commit of the run is not here.
    MissingDataError
        Patch or params, or raw tables that are asked for, are no longer stored.
    DiskError
        A file cannot be written, or is not what was written.
    """
    root = paths.find_root()
    folder = check_outside(folder or root.with_name(f"{root.name}.exports") / run.name)
    if folder.exists():
        raise ParamsError(f"{folder}: exists: name a new folder with --to")
    check_commit(run)
    made = Export(run, folder, has_data)
    with atomic_folder(folder, is_new=True) as beside:
        write_documents(made, beside)
        show(f"record and params of {run.name}")
        export_code(made, beside, show)
        export_pages(made, beside, show)
        export_model(made, beside, show)
        redact_secrets(made, beside)
        readme = make_readme(run, [*made.missing, *made.lost], made.redacted, has_data=has_data)
        write_text(beside / "README.md", Mask().clean_text(readme))
        write_sums(beside)
        check_sums(beside)
    files = list_files(folder)
    made.n_files, made.n_bytes = len(files), sum(file.stat().st_size for file in files)
    show(f"{folder}: {format_count(made.n_files, 'file')}, {format_bytes(made.n_bytes)}, verified by {SUMS}")
    return made


def write_documents(made: Export, folder: Path) -> None:
    """Write the record, its parts that people look for first, params and patch."""
    run = made.run
    record = make_exported_record(run)
    outputs = {path: digest for one in run.outputs.values() for path, digest in one.items()}
    write_json(folder / RECORD_NAME, record)
    write_json(folder / "environment.json", {name: record.get(name, {}) for name in ("environment", "machine")})
    write_json(folder / "data.json", {**record.get("data", {}), "outputs": outputs})
    write_bytes(folder / "params" / f"{run.experiment}.yaml", run.load_params())
    if patch := run.load_patch():
        write_bytes(folder / PATCH_NAME, patch)
    made.missing += run.list_missing()


def make_exported_record(run: RecordedRun) -> dict[str, Any]:
    """Return the record of a run without secrets, and without the folder that the checkout was cloned from."""
    record: dict[str, Any] = Mask().clean(dict(run.record))
    origin = record["code"].get("origin")
    if origin and not REMOTE.match(origin):
        record["code"] = {name: one for name, one in record["code"].items() if name != "origin"}
    return record


def export_code(made: Export, folder: Path, show: Callable[[str], None]) -> None:
    """Write the code as it was, and the raw tables if they are asked for."""
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        place = Path(scratch) / "checkout"
        try:
            root = make_worktree(made.run, place)
            files = [file for file in list_files(root) if is_code(file, root)]
            for file in files:
                path = folder / "code" / file.relative_to(root)
                copy_file(file, path)
                if file.stat().st_mode & 0o100:
                    path.chmod(0o755)
            if (root / LOCK_FILE).is_file():
                copy_file(root / LOCK_FILE, folder / LOCK_FILE)
            show(f"code: {format_count(len(files), 'file')} of commit {made.run.commit}")
            if made.has_data:
                restore_inputs(made.run, root, show)
                for name in list_wanted(made.run, root):
                    copy_file(root / name, folder / RAW / name)
        finally:
            remove_worktree(place)


def is_code(file: Path, root: Path) -> bool:
    """Return whether a file of a fresh worktree is one of the commit or its patch, and no link out of it."""
    path = file.relative_to(root)
    is_inside = file.resolve().is_relative_to(root.resolve())
    return is_inside and path.parts[0] not in NOT_CODE and path.as_posix() != OWN_SETTINGS


def redact_secrets(made: Export, folder: Path) -> None:
    """Redact strings in the format of a token or password in every text file except the raw tables."""
    for file in list_files(folder):
        path = file.relative_to(folder)
        digest = compute_digest(file)
        if path.parts[0] != RAW and redact_file(file):
            made.redacted[path.as_posix()] = digest


def redact_file(path: Path) -> bool:
    """Redact strings in the format of a token or password in a text file; return whether there were any."""
    content = path.read_bytes()
    encoding, errors = ("utf-16", "replace") if content.startswith(UTF_16) else ("utf-8", "surrogateescape")
    if encoding == "utf-8" and b"\0" in content:
        return False  # a binary file, which would be damaged
    text = content.decode(encoding, errors)
    cleaned = Mask().clean_text(text)
    if cleaned != text:
        write_bytes(path, cleaned.encode(encoding, errors))
    return cleaned != text


def export_pages(made: Export, folder: Path, show: Callable[[str], None]) -> None:
    """Write page and executed notebook of each stage."""
    n_pages = 0
    for stage, run_id in list_stage_runs(made.run):
        try:
            download_to(run_id, REPORT, folder / "pages")
            n_pages += 1
        except LostStoreError:
            raise
        except LabkitError as error:
            made.lost.append(f"page of stage {stage}: {error}")
    show(f"pages of {format_count(n_pages, 'stage')}")


def list_stage_runs(run: RecordedRun) -> Iterator[tuple[str, str]]:
    """Yield the stages that have a run in MLflow, which may be that of an earlier run of the pipeline."""
    for stage, one in run.record.get("stages", {}).items():
        made_by: Mapping[str, Any] = one.get("made_by") or {}
        if run_id := one.get("mlflow_run_id") or made_by.get("mlflow_run_id"):
            yield stage, str(run_id)


def download_to(run_id: str, name: str, folder: Path) -> None:
    """Download the files of a folder of artifacts into a folder, beside those that are there."""
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        fetched = tracking.download_file(run_id, name, Path(scratch))
        for file in list_files(fetched):
            copy_file(file, folder / file.relative_to(fetched))


def export_model(made: Export, folder: Path, show: Callable[[str], None]) -> None:
    """Write the release with its card, verified, and if it was registered the model as MLflow loads it."""
    run = made.run
    place = f"data/{run.experiment}/{RELEASE}"
    recorded = next((outputs[place] for outputs in run.outputs.values() if place in outputs), None)
    if recorded is None:
        made.missing.append("a model: this run did not release one")
        return
    sources = [run.version.run_id] if run.version is not None else []
    sources += [run_id for _, run_id in list_stage_runs(run) if run_id not in sources]
    for run_id in sources:
        try:
            download_to(run_id, RELEASE, folder / RELEASE)
        except LostStoreError:
            raise
        except LabkitError:
            continue  # another run may have it
        export_tracked_model(made, folder, run_id)
        break
    else:
        for name, path in (find_recorded_files(run, place, recorded) or {}).items():
            copy_file(path, folder / RELEASE / name.removeprefix(f"{place}/"))
    if not (folder / RELEASE).is_dir():
        made.lost.append("the model: neither in MLflow nor in DVC's cache")
    elif compute_digest(folder / RELEASE) != recorded:
        raise DataError(
            f"run {run.name}: its release is stored, but not as it was recorded ({recorded[:12]}…): "
            "restore it from a copy"
        )
    else:
        show(f"model: release {recorded[:12]}…, as recorded")


def export_tracked_model(made: Export, folder: Path, run_id: str) -> None:
    """Write the model as MLflow loads it."""
    try:
        download_to(run_id, MODEL, folder / MODEL)
    except LostStoreError:
        raise
    except LabkitError as error:
        made.lost.append(f"the model as MLflow loads it: {error}")


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file, as `sha256sum` does."""
    lines = [f"{compute_digest(file)}  {file.relative_to(folder).as_posix()}" for file in list_files(folder)]
    write_text(folder / SUMS, "\n".join(lines) + "\n")


def check_sums(folder: Path) -> None:
    """Raise an error unless every file of a folder is as its list of digests says, and none is missing or new.

    Raises
    ------
    DiskError
        A file differs.
    """
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {file.relative_to(folder).as_posix(): file for file in list_files(folder) if file != folder / SUMS}
    wrong = sorted({*listed} ^ {*found})
    wrong += [name for name, file in found.items() if name in listed and compute_digest(file) != listed[name]]
    if wrong:
        raise DiskError(f"not what was written: {list_briefly(wrong, most=3)}: check the disk, export again")
