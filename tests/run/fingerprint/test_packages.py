"""What is installed is compared with the lock: reported, recorded, and a reason to run a stage again."""

import json
import re
import sys
from pathlib import Path

import pytest
from labkit import paths
from labkit.errors import ParamsError
from labkit.model.release.bundle import REQUIRED
from labkit.run.doctor import check_lock_file
from labkit.run.fingerprint import packages
from labkit.run.fingerprint.import_graph import Checkout
from labkit.run.fingerprint.stage_key import compute_fingerprints
from labkit.stages.builtin import PLAIN_MODULES

from tests.conftest import call_labkit, make_checkout
from tests.run.small import load_ledger, make_small

IMPORTS = "import tiny_tool"


def install(folder: Path, name: str, version: str, *, requires: str = "", module: str = "") -> Path:
    """Put a package into a folder as an installer would, and return the folder."""
    module = module or name.lower().replace("-", "_")
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text(f"version = {version!r}\n")
    described = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    described.mkdir()
    needed = f"Requires-Dist: {requires}\n" if requires else ""
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
    (described / "RECORD").write_text(f"{module}/__init__.py,,\n{described.name}/METADATA,,\n")
    return folder


@pytest.fixture
def root(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout in which this process works, with an empty lock and what was looked at forgotten."""
    root = make_small(tmp_path / "checkout", "eda", "features", store=store, eda=IMPORTS)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    forget()
    yield root
    forget()


def forget() -> None:
    """Let this process look again at what is installed."""
    for function in (packages.list_installed_packages, packages.map_modules, packages.parse_lock):
        function.cache_clear()


def enter(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let this process find what is in some folders first."""
    monkeypatch.setattr(sys, "path", [*map(str, folders), *sys.path])
    forget()


def compare(root: Path, lock: str) -> dict[str, dict[str, str]]:
    """Return the packages by stage that are not those of a lock."""
    (root / "requirements.lock").write_text(lock)
    return packages.find_packages(
        {path.stem[3:]: [f"notebooks/{path.name}"] for path in root.glob("notebooks/*.ipynb")}
    )


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        ("tiny-tool==1.0 \\\n    --hash=sha256:00\n", {}),
        ("Tiny_Tool==1.0.0\n", {}),
        ("tiny-tool==2.0\n", {"tiny-tool": "1.0 (locked 2.0)"}),
        ("tiny-tool==2.0 ; python_version < '3'\nother==1\n", {"tiny-tool": "1.0 (not locked)"}),
        (
            "tiny-tool==1.0 ; python_version < '3'\ntiny-tool==2.0 ; python_version >= '3'\n",
            {"tiny-tool": "1.0 (locked 2.0)"},
        ),
        ("other==1\n", {"tiny-tool": "1.0 (not locked)"}),
        ("# no pins\n", {}),
    ],
)
def test_package_that_a_stage_imports_is_compared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str, expected: dict[str, str]
) -> None:
    enter(monkeypatch, install(tmp_path / "site", "Tiny-Tool", "1.0"))
    assert compare(root, lock) == {"eda": expected, "features": {}}


def test_package_that_is_not_installed_is_compared_too(root: Path) -> None:
    """As PyCaret may be: what is chosen from differs then."""
    assert compare(root, "tiny-tool==1.0\n")["eda"] == {"tiny-tool": "not installed (locked 1.0)"}


def test_package_that_an_imported_one_requires_counts_and_no_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    install(site, "tiny-distribution", "1.0", requires="inner-tool[fast]>=1 ; python_version>='3'", module="tiny_tool")
    install(site, "inner-tool", "1.0", requires="fast-part ; extra == 'fast'")
    for name in ("fast-part", "unrelated"):
        install(site, name, "1.0")
    enter(monkeypatch, site)
    lock = "tiny-distribution==1.0\ninner-tool==2.0\nfast-part==2.0\nunrelated==2.0\n"
    expected = {"fast-part": "1.0 (locked 2.0)", "inner-tool": "1.0 (locked 2.0)"}
    assert compare(root, lock) == {"eda": expected, "features": {}}
    assert sorted(packages.find_wrong_versions()) == ["fast-part", "inner-tool", "unrelated"]


def test_module_of_the_checkout_is_no_package(root: Path) -> None:
    (root / "notebooks" / "tiny_tool.py").write_text("version = 1\n")
    assert compare(root, "other==1\n") == {"eda": {}, "features": {}}


@pytest.mark.slow
def test_other_version_is_warned_of_recorded_and_makes_its_stages_stale(root: Path, tmp_path: Path) -> None:
    one, two = (install(tmp_path / version, "tiny-tool", version) for version in ("1.0", "1.1"))
    (root / "requirements.lock").write_text("tiny-tool==1.0\n")
    done = call_labkit(root, "run", "small", PYTHONPATH=str(one))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout
    states = call_labkit(root, "status", "small", PYTHONPATH=str(two)).stdout
    assert "packages changed (tiny-tool 1.1 (locked 1.0))" in states
    assert re.search(r"^features +up to date", states, re.MULTILINE)
    n_lines = len(load_ledger(root))
    done = call_labkit(root, "run", "small", "--locked", PYTHONPATH=str(two))
    assert done.returncode == 2
    warning = "the packages are not those of requirements.lock: tiny-tool 1.1 (locked 1.0)"
    remedy = "uv pip install --require-hashes -r requirements.lock"
    assert done.stderr == f"labkit: {warning}: {remedy}; nothing was run\n"
    assert len(load_ledger(root)) == n_lines
    done = call_labkit(root, "run", "small", PYTHONPATH=str(two))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"warning: {warning}; {remedy}" in done.stdout
    [record] = [
        content
        for path in root.glob(".labkit/runs/*/record.json")
        if (content := json.loads(path.read_text()))["environment"]["packages"]
    ]
    assert record["environment"]["packages"] == {"tiny-tool": "1.1 (locked 1.0)"}
    assert {name: stage["status"] for name, stage in record["stages"].items()} == {
        "eda": "finished",
        "features": "cached",
    }
    assert "tiny-tool 1.1 (locked 1.0)" in call_labkit(root, "why", "small").stdout
    states = call_labkit(root, "status", "small", PYTHONPATH=str(one)).stdout
    assert "packages changed (tiny-tool matches the lock again)" in states
    done = call_labkit(root, "run", "small", "--locked", PYTHONPATH=str(one))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "eda          ran" not in done.stdout, "DVC remembers what the locked version wrote"


def test_locked_without_a_lock_is_refused(root: Path) -> None:
    (root / "requirements.lock").write_text("")
    with pytest.raises(ParamsError, match="--locked: requirements.lock pins no package"):
        packages.check_environment([], is_locked=True, warn=print)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("whole") / "checkout")


@pytest.mark.slow
@pytest.mark.parametrize("name", REQUIRED)
def test_release_is_written_again_if_what_it_requires_is_of_another_version(
    whole: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(whole))
    path = whole / "requirements.lock"
    source = path.read_text()
    forget()
    found = packages.list_installed_packages()[name].version
    try:
        assert packages.find_packages(compute_fingerprints(Checkout(paths.find_root()), PLAIN_MODULES))["deploy"] == {}
        path.write_text(source.replace(f"\n{name}=={found} ", f"\n{name}==0.1 "))
        differing = packages.find_packages(compute_fingerprints(Checkout(paths.find_root()), PLAIN_MODULES))
        assert differing["deploy"] == {name: f"{found} (locked 0.1)"}
        assert check_lock_file().found.startswith(f"not those of requirements.lock: {name} {found} (locked 0.1)")
        assert check_lock_file().remedy == packages.REMEDY
    finally:
        path.write_text(source)


def test_this_environment_is_that_of_the_lock(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(whole))
    forget()
    differing = packages.find_packages(compute_fingerprints(Checkout(paths.find_root()), PLAIN_MODULES))
    assert {stage: found for stage, found in differing.items() if found} == {}
    assert check_lock_file().remedy == ""
