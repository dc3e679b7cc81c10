"""The provenance of a run: user, commit and uncommitted changes, lock file, Python, machine.

Read only, and without heavy imports. What is needed to reproduce a run: `labkit.run.records.run_record`.
"""

import functools
import getpass
import importlib.metadata
import os
import platform
import socket
from pathlib import Path
from typing import Any

import psutil

from labkit import paths
from labkit.params.describe import describe_params
from labkit.params.experiment import Params
from labkit.run.dvc_yaml import load_declarations
from labkit.run.records import ledger
from labkit.run.records.changes import find_changed_files, read_head
from labkit.storage.digests import compute_digest

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads: see `labkit.paths.make_environment`."""


def collect() -> dict[str, Any]:
    """Return the provenance common to all runs of this process; missing facts are left out."""
    return dict(collect_for(paths.find_code_root()))


@functools.cache
def collect_for(root: Path) -> dict[str, Any]:
    """Return the provenance common to all runs of a checkout in this process, collected once."""
    lock = root / "requirements.lock"
    found: dict[str, Any] = {
        "labkit": importlib.metadata.version("labkit"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "user": find_user(),
        "host": socket.gethostname(),
        "cpu": find_cpu()["model"],
    }
    if lock.is_file():
        found["lock_sha256"] = compute_digest(lock)
    if commit := read_head(root):
        changes = find_changed_files(root)
        found |= {"commit": commit, "is_dirty": changes.is_dirty, "changed": changes.list_code()}
    return found


def collect_stage(params: Params, stage: str, sample_rows: int | None) -> dict[str, Any]:
    """Return the digests of the inputs of a stage, one of which is the fingerprint of its code."""
    declared = load_declarations(params.experiment).get(stage)
    if declared is None or not declared.sections:  # it only publishes what other stages wrote
        return {}
    if sample_rows is None:
        return {"inputs": ledger.collect_digests(list(declared.inputs))}
    # A sample run reads from scratch what exists there.
    root, data = paths.find_root(), paths.find_data_dir(params.experiment).relative_to(paths.find_root()).as_posix()
    moved = [name.replace(f"{data}/", f"{data}/scratch/", 1) for name in declared.inputs]
    names = [there if (root / there).exists() else name for name, there in zip(declared.inputs, moved, strict=True)]
    return {"sample_rows": sample_rows, "inputs": ledger.collect_digests(names)}


def list_params(experiment: str) -> dict[str, str]:
    """Return the parameters that are not at their defaults, as strings."""
    return {entry.name: str(entry.value) for entry in describe_params(experiment) if entry.origin != "default"}


def find_user() -> str:
    """Return the name of the user, or the user id if the system has no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"uid {os.getuid()}"


def name_person() -> str:
    """Return the current user and machine as `user@host`."""
    return f"{find_user()}@{socket.gethostname()}"


@functools.cache
def find_cpu() -> dict[str, Any]:
    """Return model, instruction set and number of the processors available to this process."""
    facts: dict[str, Any] = {"model": platform.processor() or platform.machine(), "flags": []}
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "flags", "Features") and value.strip():
            key = "model" if name.strip() == "model name" else "flags"
            facts[key] = value.strip() if key == "model" else sorted(value.split())
        elif not line.strip():
            break  # the other processors are the same
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {**facts, "machine": platform.machine(), "cores": psutil.cpu_count(logical=False), "usable": usable}


def find_threads() -> dict[str, str]:
    """Return the number of threads of kernels by environment variable."""
    environment = paths.make_environment()
    return {name: environment[name] for name in THREADS}


def find_blas() -> list[dict[str, Any]]:
    """Return the linear algebra libraries that numpy and scikit-learn use: build, version, kind of core, threads."""
    import numpy  # noqa: F401  # loads the libraries
    from threadpoolctl import threadpool_info

    names = ("user_api", "internal_api", "version", "architecture", "threading_layer", "num_threads")
    return [{name: info[name] for name in names if name in info} for info in threadpool_info()]
