"""A run is exported as one folder, which verifies itself and from which the run is made again."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from labkit.errors import DiskError
from labkit.reproduction.export import (
    SUMS,
    Export,
    check_sums,
    export_model,
    is_code,
    make_exported_record,
    redact_file,
    write_sums,
)
from labkit.reproduction.recorded_run import RecordedRun
from labkit.storage.digests import compute_digest

from tests.conftest import call_in_process, call_labkit
from tests.git import call_git, commit_all
from tests.run.small import make_small
from tests.shared_server import SharedServer

TOKEN = "ghp_" + "x" * 36
PASSWORD = "pass" + "word"
SECRETS = {
    "notebooks/access.py": f'token = "{TOKEN}"\n'.encode(),
    "notebooks/latin.py": f"# -*- coding: latin-1 -*-\n# \xe9 {TOKEN}\n".encode("latin-1"),
    "params/small.yaml": f"# {TOKEN}\n".encode(),
    "requirements.lock": f"--extra-index-url https://me:{PASSWORD}@index.example/simple\n".encode(),
    "lib/labkit/own.py": f'token = "{TOKEN}"\n'.encode(),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path, shared_server: SharedServer) -> Path:
    """Return a checkout with an untracked module and a token in the commit, in which one run was made."""
    root = make_small(tmp_path_factory.mktemp("export") / "checkout", "eda", store=store, eda="import helper")
    shared_server.lend(root)
    for name, added in SECRETS.items():
        path = root / name
        before = path.read_bytes() if path.is_file() else b""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before + added)
    commit_all(root, "tokens")
    (root / "notebooks" / "helper.py").write_text("rate = 2\n")
    done = call_labkit(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.mark.slow
@pytest.mark.xdist_group("export")
def test_folder_holds_what_was_recorded_and_makes_the_run_again(
    root: Path, tmp_path: Path, shared_server: SharedServer
) -> None:
    [kept] = (root / ".labkit" / "runs").iterdir()
    before = call_git(root, "status", "--porcelain", "--ignored")
    done = call_in_process(root, "export", kept.name, "--to", str(tmp_path / "kept"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert call_git(root, "status", "--porcelain", "--ignored") == before
    assert call_git(root, "worktree", "list").count("\n") == 1
    folder, result = tmp_path / "kept", json.loads(done.stdout)
    assert result["missing"] == ["a model: this run did not release one"]
    places = [*(f"code/{name}" for name in SECRETS), "params/small.yaml", "requirements.lock"]
    redacted = {place: compute_digest(root / place.removeprefix("code/")) for place in places}
    assert {name: result["redacted"][name] for name in places} == redacted
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    secrets = (TOKEN.encode(), f"me:{PASSWORD}@".encode())
    assert [path for path, one in content.items() if any(secret in one for secret in secrets)] == []
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", SUMS], cwd=folder, check=True)
    assert (folder / "record.json").read_bytes() == (kept / "record.json").read_bytes()
    assert {path.name for path in (folder / "pages").iterdir()} == {"01_eda.html", "01_eda.ipynb", "01_eda.json"}
    code = folder / "code"
    assert (code / "notebooks" / "helper.py").read_text() == "rate = 2\n"
    call_git(code, "init", "-q")
    commit_all(code, "code")
    assert call_labkit(shared_server.lend(code), "run", "small").returncode == 0
    outputs = json.loads((folder / "data.json").read_text())["outputs"]
    assert outputs == {path: compute_digest(code / path) for path in outputs}
    assert "labkit run small" in (folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.xdist_group("export")
def test_existing_folder_is_refused_and_nothing_is_left_after_an_error(root: Path, tmp_path: Path) -> None:
    [kept] = (root / ".labkit" / "runs").iterdir()
    done = call_in_process(root, "export", kept.name, "--to", str(tmp_path))
    assert (done.returncode, done.stderr) == (2, f"labkit: {tmp_path}: exists: name a new folder with --to\n")
    inside = root / "audit" / "small"
    done = call_in_process(root, "export", kept.name, "--to", str(inside))
    refused = f"labkit: --to {inside}: inside of the checkout: name a folder outside of it\n"
    assert (done.returncode, done.stderr) == (2, refused)
    assert not inside.parent.exists()
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True)
    [params] = copy.glob("mlruns/small/*/artifacts/small.yaml")
    params.write_text("experiment: other\n")
    done = call_in_process(copy, "export", kept.name, "--to", str(tmp_path / "kept"))
    assert done.returncode == 2
    assert "small.yaml in MLflow is not the one that was recorded" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.slow
@pytest.mark.xdist_group("export")
def test_export_without_a_page_that_was_stored_fails_and_names_it(root: Path, tmp_path: Path) -> None:
    [kept] = (root / ".labkit" / "runs").iterdir()
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True)
    for pages in copy.glob("mlruns/small/*/artifacts/report"):
        shutil.rmtree(pages)
    done = call_in_process(copy, "export", kept.name, "--to", str(tmp_path / "kept"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not recorded: a model: this run did not release one\n" in done.stdout
    assert "no longer stored: page of stage eda: " in done.stdout
    assert "- page of stage eda: " in (tmp_path / "kept" / "README.md").read_text()
    check_sums(tmp_path / "kept")


@pytest.mark.parametrize(
    ("origin", "is_kept"),
    [
        ("https://host.example/team/shop.git", True),
        ("ssh://git@host.example:22/team/shop.git", True),
        ("git@host.example:team/shop.git", True),
        ("/home/ada/shop", False),
        ("../shop", False),
        ("file:///home/ada/shop", False),
        ("C:/Users/ada/shop", False),
        ("/home/ada/a:b", False),
    ],
)
def test_record_keeps_an_origin_only_if_it_is_no_local_folder(origin: str, is_kept: bool) -> None:
    run = RecordedRun({"run": "small-1", "code": {"commit": "0" * 40, "origin": origin}})
    kept = {"origin": origin} if is_kept else {}
    assert make_exported_record(run) == {"run": "small-1", "code": {"commit": "0" * 40, **kept}}
    assert run.record["code"]["origin"] == origin


def test_model_that_is_no_longer_stored_is_lost(tmp_path: Path, params_root: Path) -> None:
    stages = {"packaging": {"status": "finished", "outputs": {"data/diabetes/release": "0" * 64}}}
    run = RecordedRun({"run": "diabetes-1", "experiment": "diabetes", "code": {}, "stages": stages})
    made = Export(run, tmp_path / "kept")
    export_model(made, tmp_path / "kept", print)
    assert (made.missing, made.lost) == ([], ["the model: neither in MLflow nor in DVC's cache"])


def test_links_out_of_the_code_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("private")
    root = tmp_path / "code"
    (root / ".dvc").mkdir(parents=True)
    for name in ("a.py", ".git", ".dvc/config.local", ".dvc/config"):
        (root / name).write_text("")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "inner").symlink_to("a.py")
    names = ("a.py", "inner", ".dvc/config", "link", ".git", ".dvc/config.local")
    assert [name for name in names if is_code(root / name, root)] == ["a.py", "inner", ".dvc/config"]


def test_changed_missing_and_new_files_do_not_pass(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / SUMS).write_text("of another program")
    write_sums(tmp_path)
    check_sums(tmp_path)
    (tmp_path / "a").write_text("2")
    with pytest.raises(DiskError, match="not what was written: a:"):
        check_sums(tmp_path)
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("1")
    with pytest.raises(DiskError, match="a; b"):
        check_sums(tmp_path)


@pytest.mark.parametrize(
    ("content", "redacted"),
    [
        (b"rate = 2\r\n", None),
        ("r\xe9sum\xe9 = 2\r\n".encode("latin-1"), None),
        (b"\x89PNG\0" + TOKEN.encode(), None),
        (TOKEN.encode(), b"[redacted]"),
        (f"# r\xe9sum\xe9 {TOKEN}\r\n".encode("latin-1"), b"# r\xe9sum\xe9 [redacted]\r\n"),
        (f"# r\xe9sum\xe9 {TOKEN}".encode("utf-16"), "# r\xe9sum\xe9 [redacted]".encode("utf-16")),
    ],
)
def test_secrets_are_redacted_in_text_of_any_encoding(tmp_path: Path, content: bytes, redacted: bytes | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o755)
    assert redact_file(path) == (redacted is not None)
    assert path.read_bytes() == (redacted or content)
    assert path.stat().st_mode & 0o777 == 0o755
