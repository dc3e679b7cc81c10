"""The nodes of a sweep: each with inputs of its own, and verified before it is used again."""

from pathlib import Path
from threading import Thread

import pytest
from labkit import paths
from labkit.params.load import load_file
from labkit.run.dvc_yaml import FINGERPRINT
from labkit.storage.locks import open_lock, take_lock
from labkit.sweep.light_checkout import make_light_checkout
from labkit.sweep.nodes import find_node_root, finish_node, load_node, prepare_node

from tests.run.small import wait_until

KEY, NEXT = "a" * 64, "b" * 64
RAW = "data/diabetes/raw/table.parquet"


@pytest.fixture
def source(params_root: Path) -> Path:
    """Return the light checkout of a node that is done."""
    file, root = load_file("diabetes"), find_node_root("diabetes", KEY)
    make_light_checkout(root, "diabetes", file.content)
    (root / RAW).parent.mkdir()
    (root / RAW).write_text("rows")
    (root / "data" / "diabetes" / "contract.json").write_text("{}")
    with paths.use_root(root):
        finish_node(file.params, "source", KEY)
    return root


def make_next(params_root: Path, source: Path) -> Path:
    """Return the light checkout of a node that takes what the other one wrote."""
    file, fingerprints = load_file("diabetes"), params_root / FINGERPRINT
    fingerprints.mkdir()
    return prepare_node(file.params, file.content, "eda", NEXT, fingerprints=fingerprints, sources={"source": source})


def test_input_written_in_place_does_not_reach_the_node_that_made_it(params_root: Path, source: Path) -> None:
    root = make_next(params_root, source)
    with (root / RAW).open("a") as stream:
        stream.write(" and more")
    assert (source / RAW).read_text() == "rows"


def test_copies_of_inputs_are_removed_when_a_node_is_done(params_root: Path, source: Path) -> None:
    root = make_next(params_root, source)
    assert (root / RAW).is_file()
    with paths.use_root(root):
        finish_node(load_file("diabetes").params, "eda", NEXT)
    assert not (root / RAW).exists()
    assert (source / RAW).is_file()


def test_node_whose_files_were_changed_has_to_run_again(source: Path) -> None:
    params = load_file("diabetes").params
    assert load_node(params, "source", KEY)
    (source / RAW).touch()
    assert load_node(params, "source", KEY), "the same content"
    (source / RAW).write_text("sums")
    assert load_node(params, "source", KEY) is None


def test_folders_named_like_those_that_stages_write_are_shared(params_root: Path) -> None:
    for name in ("data-2024", "params-shared", "mlruns-old"):
        (params_root / name).mkdir()
    for name in ("mlflow.db", "mlflow.db-wal", "mlflow.db.lock", "dvc.lock"):
        (params_root / name).write_text("")
    root = params_root / ".labkit" / "light"
    make_light_checkout(root, "diabetes", "")
    assert {path.name for path in root.iterdir() if path.is_symlink()} == {
        "data-2024",
        "params-shared",
        "mlruns-old",
        "dvc.yaml",
    }


def test_light_checkout_is_not_replaced_while_a_process_works_in_it(source: Path) -> None:
    with open_lock(source / ".labkit" / "run.lock") as handle:
        assert take_lock(handle)
        thread = Thread(target=make_light_checkout, args=(source, "diabetes", ""))
        thread.start()
        thread.join(0.3)
        assert (source / RAW).exists()
    wait_until(lambda: not thread.is_alive())
    assert not (source / RAW).exists()
