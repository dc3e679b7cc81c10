"""Comparison of the environment of a run with the one of this process: packages, Python, machine."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.run.fingerprint.packages import LOCK_FILE, is_same, list_installed_packages, parse_lock
from labkit.run.records import provenance
from labkit.storage.digests import compute_digest

NOT_LOCKED = "(not locked)"


def list_package_differences(record: Mapping[str, Any], root: Path) -> list[str]:
    """Return how the installed packages differ from those that a run was made with, in words.

    A package that the run itself had in another version than its lock is expected in that version.

    Parameters
    ----------
    root
        A checkout of the code of the run, with its lock.
    """
    return list(find_package_differences(record["environment"], root))


def find_package_differences(environment: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Yield each difference."""
    ours = provenance.collect()
    python = str(environment.get("python") or ours["python"])
    if find_series(python) != find_series(ours["python"]):
        yield f"Python {ours['python']} (the run: {python})"
    version = environment.get("labkit")
    if not (root / "lib" / "labkit").is_dir() and version and version != ours["labkit"]:
        yield f"labkit {ours['labkit']} (the run: {version})"
    lock, recorded = root / LOCK_FILE, environment["lock"]["sha256"]
    if recorded and (not lock.is_file() or compute_digest(lock) != recorded):
        yield f"{LOCK_FILE} is not the recorded one ({recorded[:12]}…)"
    expected = list_expected_versions(environment.get("packages", {}), lock)
    for name, wanted in sorted(expected.items()):
        found = list_installed_packages().get(name)
        if found is not None and not is_same(found.version, wanted):
            yield f"{name} {found.version} (the run: {wanted})"


def list_expected_versions(others: Mapping[str, str], lock: Path) -> dict[str, str]:
    """Return the version of each package that a run was made with.

    Parameters
    ----------
    others
        The packages that differed from the lock, as `record.json` holds them: `4.6 (locked 4.7)` by name.
    """
    locked = dict(parse_lock(lock.read_text(encoding="utf-8"))) if lock.is_file() else {}
    used = {name: what.partition(" ")[0] for name, what in others.items() if not what.startswith("not installed")}
    return {**locked, **used}


def find_series(version: str) -> str:
    """Return major and minor version of Python.

    >>> find_series("3.11.7")
    '3.11'
    """
    return ".".join(version.split(".")[:2])


def list_machine_differences(record: Mapping[str, Any]) -> list[str]:
    """Return how the machine differs from that of a run, which may change the last digits of numbers."""
    ours, environment, machine = provenance.collect(), record["environment"], record.get("machine", {})
    cpu = provenance.find_cpu()
    recorded = machine.get("cpu", {})
    pairs = {
        "Python": (ours["python"], environment.get("python")),
        "system": (ours["platform"], environment.get("platform")),
        "processor": (cpu["model"], recorded.get("model")),
        "instruction set": (cpu["flags"], recorded.get("flags")),
        "threads": (provenance.find_threads(), machine.get("threads")),
    }
    return [
        name if isinstance(ours, list | dict) else f"{name} {ours} (the run: {theirs})"
        for name, (ours, theirs) in pairs.items()
        if theirs is not None and ours != theirs
    ]
