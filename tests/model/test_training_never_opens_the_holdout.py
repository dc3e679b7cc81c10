"""Training has no way to the holdout: it does not open it, does not need it, and DVC does not hand it over."""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.model.experiments import ROOT, make_experiment, run_notebook

OVERRIDES = '{"models": ["dummy", "linear", "lightgbm"], "folds": 2, "tuning_trials": 3, "calibrate": True}'
IN_OPEN = 0x20
EVENT = struct.Struct("iIII")


@contextmanager
def watch_opens(*folders: Path) -> Iterator[list[str]]:
    """Collect the names of the files that any process opens in some folders, also outside of Python (inotify)."""
    libc, opened = ctypes.CDLL(None, use_errno=True), []
    watch = libc.inotify_init()
    for folder in folders:
        assert libc.inotify_add_watch(watch, str(folder).encode(), IN_OPEN) > 0
    os.set_blocking(watch, False)
    try:
        yield opened
        content, place = read_all(watch), 0
        while place < len(content):
            *_, length = EVENT.unpack_from(content, place)
            place += EVENT.size + length
            opened.append(content[place - length : place].rstrip(b"\0").decode())
    finally:
        os.close(watch)


def read_all(descriptor: int) -> bytes:
    """Return all that can be read without waiting."""
    pieces = []
    with contextlib.suppress(BlockingIOError):
        while True:
            pieces.append(os.read(descriptor, 1 << 20))
    return b"".join(pieces)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    monkeypatch.delenv("LABKIT_RUN_DIR", raising=False)
    return make_experiment(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows who opens a file")
def test_training_opens_no_holdout_file(data: Path, tmp_path: Path) -> None:
    with watch_opens(data / "features", data / "clean") as opened:
        done = run_notebook("04_training.ipynb", tmp_path, OVERRIDES)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"training.parquet", "validation.parquet"} <= set(opened), "the watch sees nothing"
    assert not [name for name in opened if "holdout" in name or "aside" in name]
    assert (data / "scratch" / "model" / "model.skops").is_file()


@pytest.mark.slow
def test_training_runs_where_there_is_no_holdout(data: Path, tmp_path: Path) -> None:
    held = list(data.rglob("*holdout*"))
    assert held
    for path in held:
        path.unlink()
    done = run_notebook("04_training.ipynb", tmp_path, OVERRIDES)
    assert done.returncode == 0, done.stderr[-2000:]


def test_training_stage_is_not_handed_the_holdout() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    folder = "data/${item}"
    held = [f"{folder}/{part}/holdout.parquet" for part in ("clean", "features")]
    for dependency in stages["training"]["do"]["deps"]:
        assert not [path for path in held if path == dependency or path.startswith(f"{dependency}/")]
    assert f"{folder}/features/training.parquet" in stages["training"]["do"]["deps"]
