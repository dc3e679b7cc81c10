"""What differs from the commit is classified and restored from a patch, byte for byte."""

import subprocess
from pathlib import Path

import pytest
from labkit.params.override import apply_overrides
from labkit.run.records import provenance
from labkit.run.records.changes import LARGEST_PATCHED_FILE_BYTES, classify_file, find_changed_files, make_patch
from labkit.run.records.run_record import list_closure

from tests.git import call_git
from tests.run.small import make_small

ODD_NAME = "notebooks/an [odd] 'name' \"ü\" 100%.py"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout without changes."""
    root = make_small(tmp_path / "checkout", eda="import helper")
    enter(root, monkeypatch)
    return root


def enter(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process work in a checkout."""
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    provenance.collect_for.cache_clear()


def rebuild(root: Path, folder: Path, *, commit: bool = True) -> Path:
    """Return a clone at the commit with the patch of what differs in a checkout."""
    changes = find_changed_files(root, list_closure(root))
    patch = make_patch(root, changes)
    assert patch.left_out == {}
    if commit:
        subprocess.run(["git", "clone", "-q", str(root), str(folder)], check=True)
    else:
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
    call_git(folder, "apply", "--whitespace=nowarn", "-", given=patch.content)
    return folder


def read_files(root: Path, *patterns: str) -> dict[str, bytes]:
    """Return the bytes of files and the targets of links."""
    found = [path for pattern in patterns for path in root.glob(pattern)]
    return {
        str(path.relative_to(root)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in found
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize(
    ("path", "is_untracked", "kind"),
    [
        ("params/flights.yaml", False, "params"),
        ("params/schema.json", False, "code"),
        ("params/deep/flights.yaml", True, "code"),
        ("notebooks/rates.py", True, "code"),
        ("notebooks/Untitled.ipynb", True, "code"),
        ("Makefile", True, "code"),
        ("README.md", False, "code"),
        ("patients.csv", True, "other"),
        ("patients.csv", False, "code"),
        ("data/churn/source/churn.csv.dvc", True, "code"),
        ("data/churn/source/.gitignore", True, "output"),
        ("dvc.lock", True, "output"),
    ],
)
def test_changed_files_are_distinguished_by_kind(path: str, kind: str, *, is_untracked: bool) -> None:
    assert classify_file(path, [], is_untracked=is_untracked) == kind


def test_new_module_makes_the_code_differ(root: Path) -> None:
    assert not find_changed_files(root).is_dirty
    (root / "notebooks" / "helper.py").write_text("rate = 1\n")
    assert find_changed_files(root).code == {"notebooks/helper.py": "?"}
    assert provenance.collect()["is_dirty"]
    assert provenance.collect()["changed"] == ["? notebooks/helper.py"]


def test_module_that_git_ignores_and_a_notebook_imports_is_code(root: Path) -> None:
    with (root / ".git" / "info" / "exclude").open("a") as stream:
        stream.write("helper.py\nunused.py\n")
    for name in ("helper.py", "unused.py"):
        (root / "notebooks" / name).write_text("rate = 1\n")
    assert find_changed_files(root, list_closure(root)).code == {"notebooks/helper.py": "?"}


def test_setting_alone_is_no_change_of_code(root: Path) -> None:
    apply_overrides("small", ["seed=7"])
    for name in ("data/small/eda/numbers.json", "dvc.lock", "reports/small/01_eda.html"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("made by a run\n")
    changes = find_changed_files(root)
    assert (changes.is_dirty, changes.params) == (False, {"params/small.yaml": "M"})
    assert not provenance.collect()["is_dirty"]


def test_outputs_that_git_tracks_are_no_change_of_code(root: Path) -> None:
    path = root / "data" / "small" / "eda" / "numbers.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]\n")
    call_git(root, "add", "--force", str(path))
    call_git(root, "commit", "-qm", "outputs")
    path.write_text("[1]\n")
    assert not find_changed_files(root).is_dirty


def test_contract_that_was_not_committed_is_in_the_patch_and_no_change_of_code(root: Path) -> None:
    pipeline = root / "dvc.yaml"
    pipeline.write_text(
        pipeline.read_text()
        + "  source:\n    cmd: labkit stage source small\n    outs:\n    - data/${item}/contract.json:\n        cache: false\n"
        + "    metrics:\n    - data/${item}/metrics.json:\n        cache: false\n"
    )
    call_git(root, "commit", "-qam", "contract")
    (root / "data" / "small").mkdir(parents=True)
    for name in ("contract.json", "metrics.json"):
        (root / "data" / "small" / name).write_text("{}\n")
    changes = find_changed_files(root)
    assert (changes.is_dirty, changes.continued) == (False, {"data/small/contract.json": "?"})
    patch = make_patch(root, changes).content
    assert b"data/small/contract.json" in patch
    assert b"metrics.json" not in patch


@pytest.mark.parametrize("settings", [{}, {"diff.noprefix": "true", "color.ui": "always", "diff.external": "false"}])
def test_patch_makes_the_code_again_whatever_its_bytes(root: Path, tmp_path: Path, settings: dict[str, str]) -> None:
    (root / "notebooks" / "latin.py").write_bytes("# Grüße\r\nrate = 1\r\n".encode("latin-1"))
    (root / "notebooks" / "picture.png").write_bytes(bytes(range(256)) * 9)
    (root / "notebooks" / "gone.py").write_text("rate = 1\n")
    call_git(root, "add", "-A")
    call_git(root, "commit", "-qm", "more")
    for name, value in settings.items():
        call_git(root, "config", name, value)
    (root / "notebooks" / "latin.py").write_bytes("# Größe\r\nrate = 2".encode("latin-1"))
    (root / "notebooks" / "picture.png").write_bytes(bytes(range(255, -1, -1)) * 9)
    (root / "notebooks" / "gone.py").unlink()
    (root / "notebooks" / "helper.py").write_text("rate = 3\n")
    (root / "notebooks" / "link.py").symlink_to("helper.py")
    (root / ODD_NAME).write_text("rate = 4\n")
    (root / "dvc.yaml").write_text((root / "dvc.yaml").read_text() + "# changed\n")
    call_git(root, "add", "dvc.yaml")
    before = call_git(root, "status", "--porcelain")
    clone = rebuild(root, tmp_path / "clone")
    assert read_files(clone, "notebooks/*", "dvc.yaml") == read_files(root, "notebooks/*", "dvc.yaml")
    after = call_git(root, "status", "--porcelain")
    assert after == before, "the user's own index is left alone"


def test_checkout_within_a_larger_repository(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    subprocess.run(["git", "init", "-q", str(whole)], check=True)
    (root / ".git").rename(tmp_path / "former")
    root.rename(whole / "inner")
    call_git(whole, "add", "-A")
    call_git(whole, "commit", "-qm", "start")
    enter(whole / "inner", monkeypatch)
    (whole / "other.py").write_text("not of this checkout\n")
    (whole / "inner" / "notebooks" / "helper.py").write_text("rate = 1\n")
    changes = find_changed_files(whole / "inner")
    assert changes.code == {"notebooks/helper.py": "?"}
    assert b"b/notebooks/helper.py" in make_patch(whole / "inner", changes).content


@pytest.mark.parametrize("is_repository", [True, False], ids=["before the first commit", "outside of git"])
def test_code_without_a_commit_is_kept_whole(root: Path, tmp_path: Path, *, is_repository: bool) -> None:
    (root / ".git").rename(tmp_path / "former")
    if is_repository:
        subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / "notebooks" / "helper.py").write_text("rate = 1\n")
    rebuilt = rebuild(root, tmp_path / "clone", commit=False)
    assert read_files(rebuilt, "notebooks/*", "dvc.yaml") == read_files(root, "notebooks/*", "dvc.yaml")
    assert "commit" not in provenance.collect()


def test_large_file_is_named_and_left_out(root: Path) -> None:
    (root / "notebooks" / "helper.py").write_text("rate = 1\n")
    (root / "notebooks" / "large.py").write_text("#" * (LARGEST_PATCHED_FILE_BYTES + 1))
    patch = make_patch(root, find_changed_files(root))
    assert patch.left_out == {"notebooks/large.py": LARGEST_PATCHED_FILE_BYTES + 1}
    assert b"helper.py" in patch.content
    assert b"large.py" not in patch.content
