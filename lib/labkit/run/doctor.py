"""Checks of the checkout, the installation and the machine, each with what to do about a fault.

Read only, and fast: neither DVC nor MLflow is imported. As with every command, runs that were killed are closed first:
see `labkit.run.records.recovery`.
"""

import configparser
import importlib.metadata
import os
import re
import shlex
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from labkit import console, paths
from labkit.errors import LabkitError, list_briefly
from labkit.params.load import list_experiments
from labkit.paths import show_path
from labkit.run import checkout, dvc_cache
from labkit.run.checkout import Fault
from labkit.run.dvc_yaml import make_output_patterns
from labkit.run.fingerprint import packages
from labkit.run.kernels import servers
from labkit.run.pipeline import outputs, run_lock
from labkit.run.pipeline.locked_stages import DVC_LOCK
from labkit.run.records import artifact_locations, ledger_index
from labkit.storage.atomic import PART, parse_json
from labkit.units import format_count, format_size

PYTHONS = ((3, 11), (3, 14))
SHOWN_PACKAGES = (
    "labkit",
    "dvc",
    "mlflow",
    "papermill",
    "nbclient",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "onnxruntime",
)
LEAST_FREE_BYTES = 1_000_000_000
OLDEST_SECONDS = 3600
"""Temporary files older than this belong to no running process."""
SKIPPED_FOLDERS = {".git", ".venv", "cache", "node_modules", "__pycache__", "scratch"}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `remedy` is empty if it passed."""

    about: str
    found: str
    remedy: str = ""


def examine() -> list[CheckResult]:
    """Run all checks and return their results, in a fixed order.

    Raises
    ------
    ParamsError
        The current directory is not in a checkout.
    """
    root = paths.find_root()
    checks = (
        check_python,
        check_packages,
        check_lock_file,
        check_programs,
        lambda: check_disk(root),
        lambda: check_modes(root),
        lambda: check_run_lock(root / ".dvc" / "tmp" / "rwlock"),
        check_ledger,
        lambda: check_runs(root / "mlflow.db"),
        check_locations,
        lambda: check_leftovers(root),
        lambda: check_damaged(root),
        lambda: make_result("git", checkout.find_git_fault(), "the checkout is a repository"),
        check_output_folders,
        lambda: make_result(DVC_LOCK, outputs.find_lock_fault(), "readable, or not created yet"),
        check_cache,
        lambda: check_remote(root / ".dvc"),
        lambda: check_listeners(root),
        check_warm,
    )
    return [check() for check in checks]


def make_results_document(results: Sequence[CheckResult]) -> dict[str, Any]:
    """Return the results as plain data."""
    checks = [{**asdict(result), "is_passed": not result.remedy} for result in results]
    return {"checks": checks, "n_faults": sum(not check["is_passed"] for check in checks)}


def show_results(results: Sequence[CheckResult]) -> int:
    """Print the results as a table and return the exit code: 1 if something needs attention."""
    rows = []
    for result in results:
        mark = console.make_cell("!", "red") if result.remedy else console.make_cell("✓", "green")
        rows.append((mark, result.about, result.found, result.remedy))
    n_bad = sum(bool(result.remedy) for result in results)
    console.print_table(("", "", "found", "what to do"), rows)
    console.echo(f"{n_bad} of {len(results)} need{'s' * (n_bad == 1)} attention" if n_bad else "No problems found.")
    return 1 if n_bad else 0


def check_python() -> CheckResult:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    is_known = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    return CheckResult("Python", version, "" if is_known else "use Python 3.11, 3.12 or 3.13")


def check_packages() -> CheckResult:
    """List the versions of the main packages; `check_lock_file` compares all of them with the lock."""
    versions = {name: version for name in SHOWN_PACKAGES if (version := find_installed_version(name))}
    return CheckResult("packages", ", ".join(f"{name} {version}" for name, version in versions.items()), "")


def check_lock_file() -> CheckResult:
    """Compare the installed packages with the lock file."""
    about, lock_file = "lock", packages.load_lock()
    if not lock_file:
        return CheckResult(about, f"{packages.LOCK_FILE} pins no package: runs cannot record their packages", "")
    wrong = [f"{name} {what}" for name, what in packages.find_wrong_versions().items()]
    n_missing = sum(name not in packages.list_installed_packages() for name in lock_file)
    missing = f"; {n_missing} of its {len(lock_file)} packages are not installed" if n_missing else ""
    if not wrong:
        return CheckResult(about, f"the installed packages are those of {packages.LOCK_FILE}{missing}")
    return CheckResult(about, f"not those of {packages.LOCK_FILE}: {list_briefly(wrong)}{missing}", packages.REMEDY)


def find_installed_version(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_programs() -> CheckResult:
    """Check that the programs labkit calls are installed."""
    found = [f"git {'found' if shutil.which('git') else 'missing'}"]
    browser = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
    found.append(f"{browser} found" if browser else "no Chromium, which only the tests need")
    remedy = "" if shutil.which("git") else "install git: without it no run knows its commit"
    return CheckResult("programs", ", ".join(found), remedy)


def check_disk(root: Path) -> CheckResult:
    """Check the free disk space."""
    free = shutil.disk_usage(root).free
    few = free < LEAST_FREE_BYTES
    remedy = "free disk space: `dvc gc --workspace` removes what no current stage needs from DVC's cache" if few else ""
    return CheckResult("free disk", format_size(free), remedy)


def check_modes(root: Path) -> CheckResult:
    """Check for files that other users may change, and passwords that they may read."""
    open_ones = [path for path in walk_checkout(root) if not path.is_symlink() and path.stat().st_mode & 0o002]
    secret = root / ".dvc" / "config.local"
    is_read = secret.is_file() and secret.stat().st_mode & 0o077
    if open_ones:
        return CheckResult(
            "file modes",
            f"writable by everyone: {list_briefly([*map(show_path, open_ones)], most=3)}",
            f"chmod o-w {shlex.join(map(show_path, open_ones[:9]))}",
        )
    if is_read:
        return CheckResult("file modes", f"readable by others: {show_path(secret)}", f"chmod 600 {show_path(secret)}")
    return CheckResult("file modes", "only you may write")


def walk_checkout(root: Path) -> Iterator[Path]:
    """Yield the folders and files of the checkout that are checked, the root first."""
    yield root
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        yield from (Path(folder) / name for name in (*folders, *files) if (Path(folder) / name).exists())


def check_run_lock(path: Path) -> CheckResult:
    """Check who holds the locks of the checkout, and DVC's own list of readers and writers."""
    about = "locks"
    if holders := run_lock.find_holders():
        verb = "is" if len(holders) == 1 else "are"
        return CheckResult(about, f"{run_lock.describe_holders(holders)} {verb} under way")
    try:
        content: Any = parse_json(path.read_bytes())
        entries = [one for held in content.values() for one in [held.get("write"), *held.get("read", [])] if one]
        pids = {int(entry["pid"]) for entry in entries}
    except FileNotFoundError:
        return CheckResult(about, "none held")
    except (ValueError, TypeError, KeyError, AttributeError):
        return CheckResult(about, f"{show_path(path)} is damaged", "the next `labkit run` fixes it")
    alive = sorted(pid for pid in pids if psutil.pid_exists(pid))
    if alive:
        return CheckResult(about, f"DVC works in process {', '.join(map(str, alive))}")
    return CheckResult(
        about, "none held" if not pids else "left by a process that has ended; the next run takes them over"
    )


def check_ledger() -> CheckResult:
    """Check for killed runs that are still open, and for runs whose end the tracking store does not have."""
    about, entries = "ledger", ledger_index.find_unfinished()
    dead = [entry.run for entry in entries if entry.is_open and not entry.process.is_alive()]
    if dead:
        return CheckResult(about, f"killed and not closed: {list_briefly(dead, most=3)}", "`labkit runs` closes them")
    unreported = [entry for entry in entries if not entry.is_open and not entry.is_settled]
    if unreported:
        stores = sorted({entry.store for entry in unreported})
        remedy = (
            "start the tracking server, set MLFLOW_TRACKING_URI as it was then, and `labkit runs` closes them there"
        )
        return CheckResult(about, f"{len(unreported)} ended without being recorded in {list_briefly(stores)}", remedy)
    n_alive = sum(entry.is_open for entry in entries)
    n_runs = ledger_index.count_recorded_runs()
    return CheckResult(
        about, f"{format_count(n_runs, 'run')}, {n_alive} of them under way" if n_runs else "nothing has run yet"
    )


def check_runs(database: Path) -> CheckResult:
    """Check the embedded MLflow store for unfinished runs."""
    about = "unfinished runs"
    if not database.is_file():
        return CheckResult(about, "no store yet, or one elsewhere")
    try:
        connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1)
        found = connection.execute(
            "select run_uuid, name from runs where status = 'RUNNING' and lifecycle_stage = 'active'"
        ).fetchall()
        connection.close()
    except sqlite3.Error as error:
        return CheckResult(
            about, f"{show_path(database)}: {error}", "restore it from a copy, or move it away to start over"
        )
    if not found:
        return CheckResult(about, "none")
    if holders := run_lock.find_holders():
        whose = "the run that is" if len(holders) == 1 else "the runs that are"
        return CheckResult(about, f"{len(found)} in MLflow, of {whose} under way")
    remedy = f"not of `labkit run`: if nothing works on them any more, mlflow runs delete --run-id {found[0][0]}"
    return CheckResult(
        about, f"{len(found)} in MLflow: {list_briefly([str(name) for _, name in found], most=3)}", remedy
    )


def check_locations() -> CheckResult:
    """Check that the artifacts of the embedded store are in this checkout."""
    about = "artifacts"
    try:
        moved = artifact_locations.find_moved(paths.find_own_store())
    except LabkitError:
        return CheckResult(about, "the store cannot be read")  # which another check reports
    if not any(one.n_runs for one in moved):
        return CheckResult(about, "in this checkout, or where a server keeps them")
    folders = list_briefly(sorted({str(one.folder) for one in moved}), most=3)
    runs = format_count(sum(one.n_runs for one in moved), "run")
    found = f"those of {runs} are expected in {folders}: this checkout was copied or moved"
    return CheckResult(about, found, "the next `labkit run` or `labkit predict` corrects it")


def check_leftovers(root: Path) -> CheckResult:
    """Look for incomplete files that ended processes left."""
    eldest = time.time() - OLDEST_SECONDS
    work = root / ".labkit" / "work"
    found = list(work.iterdir()) if work.is_dir() else []
    found = [path for path in found if path.is_dir()]
    found += [path for path in walk_checkout(root) if path.name.startswith(".") and path.name.endswith(PART)]
    found += [path for path in walk_checkout(root / "mlruns") if path.name.startswith(".artifact.uploading.")]
    old = [path for path in found if path.exists() and path.lstat().st_mtime < eldest]
    if old:
        return CheckResult(
            "leftovers",
            f"incomplete: {list_briefly([*map(show_path, old)], most=3)}",
            f"rm -r {shlex.join(map(show_path, old))}",
        )
    in_cache = dvc_cache.list_leftovers(dvc_cache.find_cache())
    if in_cache:
        return CheckResult(
            "leftovers", f"incomplete in DVC's cache: {len(in_cache)}", "the next `labkit run` removes them"
        )
    return CheckResult("leftovers", "none")


def check_damaged(root: Path) -> CheckResult:
    """Check for damaged objects of DVC's cache that were set aside."""
    folder = root / ".labkit" / "damaged"
    aside = sorted(folder.iterdir()) if folder.is_dir() else []
    remedy = f"check the disk, then rm -r {show_path(folder)}" if aside else ""
    return CheckResult("damaged objects", f"{len(aside)} set aside" if aside else "none", remedy)


def make_result(about: str, fault: Fault | None, otherwise: str) -> CheckResult:
    """Return the result of a check that found a fault or none."""
    return CheckResult(about, fault.found, fault.remedy) if fault else CheckResult(about, otherwise)


def check_output_folders() -> CheckResult:
    """Check that DVC would not write outside of the checkout."""
    try:
        fault = checkout.find_place_fault(list_experiments())
    except (OSError, LabkitError, TypeError, KeyError, AttributeError):
        fault = None  # DVC reports a broken dvc.yaml
    return make_result("outputs", fault, "inside the checkout")


def check_cache() -> CheckResult:
    """Check that DVC's cache holds the outputs that dvc.lock lists."""
    about, missing, places = "DVC's cache", [], set[str]()
    uncached = make_output_patterns(is_uncached=True)
    for _, out in outputs.list_locked():
        if any(pattern.fullmatch(out["path"]) for pattern in uncached):
            continue
        try:
            if not dvc_cache.is_whole(out["md5"]):
                missing.append(out["path"])
        except LabkitError as error:
            return CheckResult(about, str(error), "restore dvc.lock from git, or remove it and run again")
        places.add(out["path"])
    if not missing:
        return CheckResult(
            about, f"{format_count(len(places), 'output')}, all present" if places else "nothing has run yet"
        )
    remedy = "`labkit pull` if there is a remote, else `labkit run` makes them again when needed"
    return CheckResult(about, f"missing: {list_briefly(sorted(missing), most=3)}", remedy)


def check_remote(folder: Path) -> CheckResult:
    """Check that a DVC remote is configured."""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read([folder / "config", folder / "config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        return CheckResult(
            "DVC remote", f"{show_path(folder / 'config')}: {str(error).splitlines()[0]}", "restore it from git"
        )
    names = re.findall(r"remote\s+\"?([\w.-]+)", " ".join(config.sections()))
    return CheckResult("DVC remote", ", ".join(names) if names else "none: the data are on this machine only")


def check_listeners(root: Path) -> CheckResult:
    """Check for processes of this checkout that listen on public addresses."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline", "pid"]):
        folder, command = process.info["cwd"] or "", process.info["cmdline"] or []
        if not (Path(folder).is_relative_to(root) or any(str(root) in word for word in command)):
            continue
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        addresses = [one.laddr for one in connections if one.status == psutil.CONN_LISTEN]
        program = Path(command[0]).name if command else "?"
        found += [f"{program} (process {process.pid}) on {a.ip}:{a.port}" for a in addresses if not is_loopback(a.ip)]
    remedy = "end it and start it with --host 127.0.0.1: anyone on the network can send requests to it" if found else ""
    return CheckResult("listeners", list_briefly(found, most=3) if found else "none that others can reach", remedy)


def is_loopback(address: str) -> bool:
    """Return whether an address is a loopback address.

    >>> [is_loopback(address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::")]
    [True, True, True, False, False]
    """
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


def check_warm() -> CheckResult:
    """Check the server from which warm kernels are forked."""
    try:
        state = servers.ask_state(servers.make_address(), seconds=0.5)
    except LabkitError as error:
        return CheckResult("warm kernels", str(error).partition(": ")[0], str(error).partition(": ")[2])
    if not state:
        return CheckResult("warm kernels", "none running; `labkit warm` starts some")
    return CheckResult("warm kernels", f"process {state['pid']}, {format_count(state['modules'], 'module')}")
