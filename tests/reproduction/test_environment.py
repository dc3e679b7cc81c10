"""The environment of a run is compared with the installed one before anything is rebuilt."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labkit.reproduction.environment import list_machine_differences, list_package_differences
from labkit.storage.digests import compute_digest


@pytest.fixture
def rebuilt(params_root: Path, tmp_path: Path) -> Path:
    """Return the checkout of the code of a run, whose lock pins the installed numpy."""
    root = tmp_path / "rebuilt"
    (root / "lib" / "labkit").mkdir(parents=True)
    (root / "requirements.lock").write_text(f"numpy=={np.__version__} \\\n    --hash=sha256:00\n")
    return root


def make_record(root: Path, **environment: Any) -> dict[str, Any]:
    lock = {"sha256": compute_digest(root / "requirements.lock")}
    return {"environment": {"python": platform.python_version(), "labkit": "0", "lock": lock, **environment}}


def test_same_packages_differ_in_nothing(rebuilt: Path) -> None:
    assert list_package_differences(make_record(rebuilt), rebuilt) == []


def test_package_in_another_version_than_the_lock_differs(rebuilt: Path) -> None:
    (rebuilt / "requirements.lock").write_text("numpy==1.0\n")
    assert list_package_differences(make_record(rebuilt), rebuilt) == [f"numpy {np.__version__} (the run: 1.0)"]


def test_package_that_the_run_had_beside_its_lock_is_expected(rebuilt: Path) -> None:
    (rebuilt / "requirements.lock").write_text("numpy==1.0\n")
    packages = {"numpy": f"{np.__version__} (locked 1.0)", "gone": "not installed (locked 2)"}
    assert list_package_differences(make_record(rebuilt, packages=packages), rebuilt) == []


def test_changed_lock_other_python_and_other_labkit_differ(rebuilt: Path) -> None:
    record = make_record(rebuilt, python="3.8.1", labkit="0")
    (rebuilt / "requirements.lock").write_text(f"numpy=={np.__version__}\n")
    (rebuilt / "lib" / "labkit").rmdir()
    python, labkit, lock = list_package_differences(record, rebuilt)
    assert python == f"Python {platform.python_version()} (the run: 3.8.1)"
    assert labkit.endswith("(the run: 0)")
    assert lock.startswith("requirements.lock is not the recorded one")


def test_other_machine_is_listed(rebuilt: Path) -> None:
    record = make_record(rebuilt, platform="Plan9") | {"machine": {"cpu": {"model": "Z80", "flags": ["nx"]}}}
    system, processor, flags = list_machine_differences(record)
    assert system.endswith("(the run: Plan9)")
    assert processor.endswith("(the run: Z80)")
    assert flags == "instruction set"
