"""The raw tables of a run: put in place in a checkout of its code, from this checkout, DVC's cache or its remote."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import LabkitError, MissingDataError, ParamsError, list_briefly
from labkit.params.yaml_text import load_plain, load_written_yaml
from labkit.reproduction.recorded_run import RecordedRun
from labkit.run import dvc_cache
from labkit.run.dvc_cache import check_relative_path
from labkit.storage.atomic import copy_file
from labkit.storage.digests import compute_digest
from labkit.units import format_bytes, format_count


def restore_inputs(run: RecordedRun, root: Path, show: Callable[[str], None]) -> None:
    """Put the raw tables of a run in place, verified, and code that was too large for its patch.

    Parameters
    ----------
    root
        A checkout of the code of the run.
    show
        Called with a line about what was done.

    Raises
    ------
    MissingDataError
        A file is neither in this checkout, nor in DVC's cache or remote, as it was.
    """
    wanted = list_wanted(run, root)
    missing = [name for name, digest in wanted.items() if not is_recorded_file(root / name, digest)]
    n_bytes = 0
    left = []
    for name in missing:
        path = find_recorded_file(name, wanted[name], root)
        if path is None:
            left.append(name)
            continue
        copy_file(path, root / name)
        n_bytes += path.stat().st_size
    if left:
        digests = [f"{name} (SHA-256 {wanted[name] or 'not recorded'})" for name in left]
        raise MissingDataError(
            f"run {run.name}: no longer in this checkout, in DVC's cache or on its remote: "
            f"{list_briefly(digests, most=3)}: put the file in its place in this checkout, then do this again"
        )
    if missing:
        show(f"data: {format_count(len(missing), 'file')}, {format_bytes(n_bytes)}, as recorded")


def list_wanted(run: RecordedRun, root: Path) -> dict[str, str | None]:
    """Return the SHA-256 of each file that the run read, by path; None where it is not recorded."""
    files = run.record.get("data", {}).get("files")
    code = run.record["code"]
    others = {name: one.get("sha256") for name, one in code.get("others", {}).items()}
    wanted: dict[str, str | None] = {name: others.get(name) for name in list_named(run, root)}
    wanted = wanted if files is None else dict(files)
    wanted |= {name: code.get("files", {}).get(name, {}).get("sha256") for name in code.get("left_out", {})}
    for name in wanted:
        check_relative_path(name, f"run {run.name}")
    return wanted


def list_named(run: RecordedRun, root: Path) -> Iterator[str]:
    """Yield the files that the params of a run name as raw tables; the params may be those of an earlier version."""
    tables = load_plain(root / "params" / f"{run.experiment}.yaml").get("data", {}).get("tables", {})
    for table in tables.values() if isinstance(tables, dict) else ():
        if isinstance(table, dict) and not table.get("package") and not table.get("dataset"):
            yield from [table["path"]] if "path" in table else table.get("paths", [])


def is_recorded_file(path: Path, digest: str | None) -> bool:
    """Return whether a file exists and is the recorded one."""
    return path.is_file() and digest in (None, compute_digest(path))


def find_recorded_file(name: str, digest: str | None, root: Path) -> Path | None:
    """Return a file with the recorded content, in this checkout or in DVC's cache, filled from its remote."""
    ours = paths.find_root() / name
    pointer = root / f"{name}.dvc"
    # The pointer of the run names the content, where its digest is not recorded.
    if digest is not None and is_recorded_file(ours, digest):
        return ours
    if md5 := read_pointer(pointer):
        found = find_cached(md5, name)
        return found if found is not None and is_recorded_file(found, digest) else None
    return ours if digest is None and ours.is_file() else None


def find_cached(md5: str, name: str) -> Path | None:
    """Return an object in DVC's cache, fetched from the remote if it is not there; None if it is nowhere."""
    if not dvc_cache.find_object(md5).is_file() and dvc_cache.find_remotes():
        # Imported here: DVC takes a second.
        from labkit.run.pipeline.dvc_remote import fetch_objects

        fetch_objects([md5])
    return next((path for place, path in dvc_cache.list_objects(md5, name) if place == name), None)


def read_pointer(path: Path) -> str | None:
    """Return the MD5 in a pointer of DVC, None if there is none."""
    if not path.is_file():
        return None
    try:
        outs: Any = load_written_yaml(path)["outs"]
        return str(outs[0]["md5"])
    except (ParamsError, KeyError, IndexError, TypeError) as error:
        raise LabkitError(f"{path}: not a pointer of DVC ({error})") from error
