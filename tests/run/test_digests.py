"""What stages wrote is known by digest: a single changed bit is refused before anything is opened."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import labkit as package
import pandas as pd
import pytest
import yaml
from labkit.data.table_files import load_table, save_table
from labkit.errors import DataError, DiskError, ModelError, ParamsError, StageError
from labkit.model.onnx import converters
from labkit.model.release import bundle, skops_file
from labkit.params.yaml_text import load_written_yaml
from labkit.run import dvc_cache
from labkit.run.pipeline import dvc_repo, dvc_sharing, outputs
from labkit.storage.atomic import write_json

from tests.conftest import make_checkout
from tests.model.tables import make_model, make_table
from tests.services import skip_outside_of_ci

PLACES = {
    "table": "clean/holdout.parquet",
    "metrics": "evaluation/metrics.json",
    "model": "model/model.skops",
    "graph": "release/model.onnx",
}
N_FLIPS = {"table": 300, "metrics": 100, "model": 100, "graph": 500}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one output of each kind."""
    folder = tmp_path_factory.mktemp("written")
    save_table(folder / PLACES["table"], make_table())
    write_json(folder / PLACES["metrics"], {"holdout": {"mae": {"value": 44.1}}})
    skops_file.save_model(folder / PLACES["model"], make_model("linear", "binary"))
    model = make_model("lightgbm", "binary")
    options = {"facts": {"task": "classification"}, "contract": "{}", "card": "# Card\n", "example": make_table()}
    bundle.write_release(folder / "release", model, graph=converters.convert(model), **options)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def data(checkout: Path, written: Path, tmp_path: Path) -> Path:
    """Return the data folder of an experiment whose stages have just put their outputs in place."""
    shutil.copytree(written, tmp_path / "work")
    target = checkout / "data" / "diabetes"
    outputs.place_outputs(tmp_path / "work", target, experiment="diabetes", stage="training")
    return target


def flip(content: bytes, number: int) -> bytes:
    """Return the content with one bit changed, another one for each number."""
    place = random.Random(number).randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLACES)
def test_every_flipped_bit_is_refused(data: Path, kind: str) -> None:
    path = data / PLACES[kind]
    content = path.read_bytes()
    outputs.check_outputs("diabetes", [path])
    for number in range(N_FLIPS[kind]):
        path.write_bytes(flip(content, number))
        with pytest.raises(DataError) as refused:
            outputs.check_outputs("diabetes", [path])
    assert str(refused.value) == (
        f"data/diabetes/{PLACES[kind]}: changed since the stage `training` wrote it, so it is not opened: "
        "make it again with `labkit run diabetes --force training`"
    )
    path.write_bytes(content)
    outputs.check_outputs("diabetes", [path])


@pytest.mark.slow
def test_checksums_of_pages_are_a_second_net(tmp_path: Path) -> None:
    """They cover the values; the names and types behind them are covered by the digest alone."""
    path, frame = tmp_path / "x.parquet", make_table()
    save_table(path, frame)
    content, n_refused = path.read_bytes(), 0
    n_pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for number in range(300):
        path.write_bytes(flip(content[:n_pages], number) + content[n_pages:])
        try:
            read = load_table(path)
        except DataError:
            n_refused += 1
            continue
        pd.testing.assert_frame_equal(read, load_whole(tmp_path, content), obj=f"flip {number}")
    assert n_refused > 100


def load_whole(folder: Path, content: bytes) -> pd.DataFrame:
    (folder / "whole.parquet").write_bytes(content)
    return load_table(folder / "whole.parquet")


@pytest.mark.slow
def test_release_is_refused_at_every_flipped_bit_of_its_graph_wherever_it_lies(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "release", tmp_path / "r")
    graph = tmp_path / "r" / bundle.GRAPH
    content = graph.read_bytes()
    for number in range(500):
        graph.write_bytes(flip(content, number))
        with pytest.raises(ModelError, match=r"model\.onnx: changed since it was released"):
            bundle.load_release(tmp_path / "r")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place"), [("clean_holdout", "table"), ("metrics", "metrics"), ("model", "model"), ("release", "graph")]
)
def test_step_opens_nothing_that_was_changed(data: Path, name: str, place: str) -> None:
    path = data / PLACES[place]
    path.write_bytes(flip(path.read_bytes(), 7))
    step = package.start("evaluation", "diabetes")
    with pytest.raises(DataError, match=f"data/diabetes/{PLACES[place]}: changed since the stage `training` wrote it"):
        step.load(name)


def test_arrays_beside_row_features_are_checked_too(checkout: Path, tmp_path: Path) -> None:
    work = tmp_path / "work" / "features"
    write_json(work / "row_features.json", {})
    (work / "row_features.npz").write_bytes(b"arrays")
    outputs.place_outputs(tmp_path / "work", checkout / "data/diabetes", experiment="diabetes", stage="features")
    (checkout / "data/diabetes/features/row_features.npz").write_bytes(b"arrayz")
    with pytest.raises(DataError, match=r"row_features\.npz: changed since"):
        package.start("training", "diabetes").load("row_features")


@pytest.mark.slow
def test_scratch_is_written_by_hand_and_not_checked(data: Path, checkout: Path) -> None:
    scratch = checkout / "data/diabetes/scratch/evaluation/metrics.json"
    write_json(scratch, {"by": "hand"})
    scratch.write_text('{"by": "another hand"}')
    assert package.start("deploy", "diabetes").load("metrics") == {"by": "another hand"}


@pytest.mark.slow
def test_outputs_of_a_sample_do_not_count_for_the_pipeline(data: Path, checkout: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "sample/evaluation/metrics.json", {"of": "a sample"})
    scratch = checkout / "data/diabetes/scratch"
    outputs.place_outputs(tmp_path / "sample", scratch, experiment="diabetes", stage="evaluation")
    outputs.check_outputs("diabetes", [data / PLACES["metrics"], scratch / PLACES["metrics"]])


@pytest.mark.slow
def test_outputs_that_cannot_be_recorded_are_not_put_in_place(data: Path, tmp_path: Path) -> None:
    """Else a crash in between would leave files in place that cannot be distinguished from changed ones."""
    record, path = outputs.find_record("diabetes", "evaluation"), data / PLACES["metrics"]
    before = path.read_bytes()
    record.unlink()
    record.mkdir()
    write_json(tmp_path / "next/evaluation/metrics.json", {"of": "the next run"})
    with pytest.raises(DiskError, match=r"evaluation\.json: cannot be written"):
        outputs.place_outputs(tmp_path / "next", data, experiment="diabetes", stage="evaluation")
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": 1}', "\x00"])
def test_damaged_record_verifies_nothing_and_dvc_lock_is_asked(data: Path, checkout: Path, content: str) -> None:
    outputs.find_record("diabetes", "evaluation").write_text(content)
    path = data / PLACES["metrics"]
    with pytest.raises(DataError, match=r"metrics\.json: cannot be verified, .*evaluation\.json.* is damaged"):
        outputs.check_outputs("diabetes", [path])
    out = {"path": "data/diabetes/evaluation/metrics.json", "md5": hashlib.md5(path.read_bytes()).hexdigest()}
    (checkout / "dvc.lock").write_text(yaml.safe_dump({"stages": {"evaluation@diabetes": {"outs": [out]}}}))
    outputs.check_outputs("diabetes", [path])


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1, 2"])
def test_damaged_json_that_nobody_recorded_is_named(checkout: Path, content: bytes) -> None:
    path = checkout / "data/diabetes/evaluation/metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.json: damaged .*: remove it and run the stage that writes it again"):
        package.start("deploy", "diabetes").load("metrics")


LINE = """
import sys
from pathlib import Path
word = Path("word.txt").read_text()
folder = Path("data/diabetes/raw")
folder.mkdir(parents=True, exist_ok=True)
for name in ("a.txt", "b.txt"):
    (folder / name).write_text(name + word * 1000)
Path("data/diabetes/model.bin").write_text(word * 2000)
with open("calls", "a") as stream:
    stream.write("x")
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout whose pipeline is one small stage, which has run on `one`, then on `two`."""
    root = make_checkout(tmp_path_factory.mktemp("small") / "checkout")
    (root / "make.py").write_text(LINE)
    stage = {
        "cmd": f"{sys.executable} make.py ${{item}}",
        "deps": ["word.txt"],
        "outs": [{"data/${item}/raw": {"persist": True}}, {"data/${item}/model.bin": {"persist": True}}],
    }
    tree = {"vars": [{"experiments": ["diabetes"]}], "stages": {"source": {"foreach": "${experiments}", "do": stage}}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(tree))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_ROOT", str(root))
        for word in ("one", "two"):
            run(root, word)
    return root


@pytest.fixture
def small(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that checkout, which is also the one that labkit finds."""
    root = tmp_path / "checkout"
    shutil.copytree(template, root)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    return root


def run(root: Path, word: str, *, force: str | None = None) -> int:
    """Let DVC run the stage on a word, and return how often it has run by now."""
    (root / "word.txt").write_text(word)
    before = Path.cwd()
    os.chdir(root)
    try:
        dvc_repo.reproduce(dvc_repo.open_repo(), "diabetes", until=None, force=force)
    finally:
        os.chdir(before)
    return len((root / "calls").read_text())


def find_cached(root: Path, word: str) -> Path:
    """Return the cache's object of the model that was made of a word."""
    found = [path for path in (root / ".dvc/cache/files").rglob("*") if path.is_file()]
    return next(path for path in found if path.read_bytes() == (word * 2000).encode())


def change(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    path.chmod(0o444)


def empty(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"")
    path.chmod(0o444)


def change_in_secret(path: Path) -> None:
    """Change a byte as a disk does: same size, same times, same permissions."""
    times = path.stat()
    change(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [change, empty, change_in_secret])
def test_damaged_object_of_the_cache_is_refused_by_name_and_made_again(
    small: Path, spoil: Callable[[Path], None]
) -> None:
    cached = find_cached(small, "one")
    spoil(cached)
    with pytest.raises(StageError) as refused:
        run(small, "one")
    md5 = cached.parent.name + cached.name
    assert str(refused.value) == (
        f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}: damaged, so data/diabetes/model.bin is not restored from it: "
        f"moved to .labkit/damaged/{md5}; the next run makes it again"
    )
    assert not cached.exists()
    assert run(small, "one") == 3, "it ran again"
    assert (small / "data/diabetes/model.bin").read_text() == "one" * 2000
    assert cached.read_bytes() == b"one" * 2000


@pytest.mark.slow
def test_whole_objects_are_restored_without_a_run(small: Path) -> None:
    assert run(small, "one") == 2
    assert (small / "data/diabetes/model.bin").read_text() == "one" * 2000
    assert (small / "data/diabetes/raw/a.txt").read_text() == "a.txt" + "one" * 1000


def test_missing_object_is_made_again(small: Path) -> None:
    find_cached(small, "one").unlink()
    assert run(small, "one") == 3
    assert (small / "data/diabetes/model.bin").read_text() == "one" * 2000


def put_listing(root: Path, content: bytes) -> None:
    """Put a listing into the cache under its own name, and let dvc.lock name it for the folder."""
    md5 = hashlib.md5(content).hexdigest() + ".dir"
    path = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    lock = root / "dvc.lock"
    tree = load_written_yaml(lock)
    outs = tree["stages"]["source@diabetes"]["outs"]
    raw = next(out for out in outs if out["path"].endswith("raw"))
    raw["md5"] = md5
    lock.write_text(yaml.safe_dump(tree))
    shutil.rmtree(root / "data/diabetes/raw")


LISTINGS = {
    "upwards": ("../../../pwned", "is outside of its folder"),
    "absolute": ("/tmp/pwned", "is outside of its folder"),
    "in the middle": ("a/../../../../pwned", "is outside of its folder"),
    "backslashes": ("..\\pwned", "is outside of its folder"),
    "drive": ("C:pwned", "is outside of its folder"),
    "empty": ("", "is outside of its folder"),
    "zero byte": ("a\0b", "is outside of its folder"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", LISTINGS)
def test_listing_that_leads_out_of_its_folder_is_refused(small: Path, case: str) -> None:
    name, message = LISTINGS[case]
    md5 = find_cached(small, "two")
    entry = {"md5": md5.parent.name + md5.name, "relpath": name}
    put_listing(small, json.dumps([entry]).encode())
    with pytest.raises(StageError, match=message):
        run(small, "two")
    assert not list(small.parent.rglob("pwned"))
    assert not Path("/tmp/pwned").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not a directory listing"),
        (b"{}", ""),
        (b"7", "not a directory listing"),
        (b'[{"relpath": "a"}]', "not a directory listing"),
        (b'[{"relpath": "a", "md5": "..BAIT"}]', "is not the MD5 of an object"),
    ],
)
def test_invalid_listing_is_refused_or_made_again(small: Path, content: bytes, message: str) -> None:
    # What follows the first two characters of an object's name is taken for a path of its own.
    bait = small / "bait"
    bait.write_text("of somebody")
    put_listing(small, content.replace(b"BAIT", str(bait).encode()))
    if not message:
        assert run(small, "two") == 3
        return
    with pytest.raises(StageError, match=message):
        run(small, "two")
    assert bait.read_text() == "of somebody"


@pytest.mark.parametrize("place", ["../pwned", "/tmp/pwned", "data/../../pwned"])
def test_lock_that_leads_out_of_the_checkout_is_refused(small: Path, place: str) -> None:
    lock = small / "dvc.lock"
    lock.write_text(lock.read_text().replace("data/diabetes/model.bin", place))
    with pytest.raises(StageError, match=r"dvc\.lock: .* is outside of its folder: nothing is restored"):
        run(small, "one")


@pytest.mark.parametrize("place", ["../pwned", "/tmp/pwned"])
def test_pointer_that_leads_out_of_the_checkout_is_refused(small: Path, place: str) -> None:
    (small / "evil.dvc").write_text(f"outs:\n- md5: {'a' * 32}\n  hash: md5\n  path: {place}\n")
    with pytest.raises(StageError, match="is outside of"):
        run(small, "one")
    assert not list(small.parent.rglob("pwned"))


def test_dvc_lock_knows_what_no_record_does(small: Path) -> None:
    """As in a clone whose data came by `dvc pull`."""
    inputs = [small / "data/diabetes/model.bin", small / "data/diabetes/raw"]
    assert not outputs.find_record("diabetes", "raw").exists()
    outputs.check_outputs("diabetes", inputs)
    for path in (inputs[0], inputs[1] / "b.txt"):
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(flip(content, 3))
        with pytest.raises(DataError, match="changed since the stage `source` wrote it"):
            outputs.check_outputs("diabetes", inputs)
        path.write_bytes(content)


def test_what_dvc_restored_is_not_taken_for_changed(small: Path) -> None:
    outputs.record_folder(small / "data/diabetes/raw", experiment="diabetes", stage="source")
    run(small, "one")
    outputs.check_outputs("diabetes", [small / "data/diabetes/raw"])


@pytest.mark.slow
def test_old_leftovers_in_the_cache_go_unless_somebody_writes(small: Path) -> None:
    folder = small / ".dvc/cache/files/md5/ab"
    folder.mkdir(parents=True, exist_ok=True)
    old, young = folder / "x.AbC_12.tmp", folder / "y.AbC_12.tmp"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, 0))
    repo = dvc_repo.open_repo()
    holder = "import sys, zc.lockfile; l = zc.lockfile.LockFile(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    lock = subprocess.Popen(
        [sys.executable, "-c", holder, str(small / ".dvc/tmp/lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert lock.stdout.readline()
    dvc_repo.remove_leftovers(repo)
    assert old.exists()
    lock.communicate()
    dvc_repo.remove_leftovers(repo)
    assert not old.exists()
    assert young.exists()


def test_run_removes_old_leftovers_of_the_cache(small: Path) -> None:
    old = small / ".dvc/cache/files/md5/ab/x.AbC_12.tmp"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_text("half")
    os.utime(old, (0, 0))
    run(small, "two")
    assert not old.exists()


def test_cache_is_where_the_configuration_puts_it(small: Path, tmp_path: Path) -> None:
    assert dvc_cache.find_cache() == small / ".dvc/cache"
    (small / ".dvc/config.local").write_text(f"[cache]\n    dir = {tmp_path / 'elsewhere'}\n")
    assert dvc_cache.find_cache() == tmp_path / "elsewhere"
    assert dvc_cache.find_cache() == Path(dvc_repo.open_repo().cache.local.path).parents[1]


@pytest.mark.fault
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"], ids=["empty", "cut short", "no text", "a list"])
def test_torn_list_of_readers_and_writers_stops_no_run(small: Path, content: bytes) -> None:
    (small / ".dvc/tmp/rwlock").write_bytes(content)
    assert run(small, "one") == 2


def test_whole_list_of_readers_and_writers_is_left_to_dvc(small: Path) -> None:
    path = small / ".dvc/tmp/rwlock"
    path.write_text("{}")
    dvc_sharing.remove_torn_list(path)
    assert path.read_text() == "{}"


@pytest.mark.fault
def test_full_disk_of_the_cache_is_reported(small: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=False).returncode:
        skip_outside_of_ci("only root may mount a small disk")
    try:
        (small / ".dvc/config.local").write_text(f"[cache]\n    dir = {disk}\n")
        with pytest.raises(StageError, match=rf"disk full: needs more, for DVC's cache, .* free at {disk}"):
            run(small, "three" * 20)
        assert (small / "data/diabetes/model.bin").read_text() == "three" * 20 * 2000
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("place", ["a", "a/b.parquet", "…/ü", ".hidden", "a..b"])
def test_plain_places_are_allowed(place: str) -> None:
    dvc_cache.check_relative_path(place, "x")


LOST = ". Only the knowledge of what is up to date is lost by it: those stages run again, or come from DVC's cache"


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        (
            "schema: '2.0'\nstages:\n  eda@seats:\n    cmd: x\n    params:\n      params/seats.yaml:\n"
            "        on a long flight how many\n          times: 1\n  eda@diabetes:\n    cmd: x\n",
            "dvc.lock:8: not YAML, in the part of the stage eda of seats, so that no experiment can run: "
            "remove lines 3 to 8, or the whole file",
        ),
        (
            "schema: '2.0'\nstages:\n  eda@seats:\n    cmd: 'x\n",
            "dvc.lock:5: not YAML, in the part of the stage eda of seats",
        ),
        ("<<<<<<< HEAD\nschema: '2.0'\n", "dvc.lock:2: not YAML: restore it from git, or remove it"),
        ("\0", "dvc.lock:1: not YAML: restore it from git, or remove it"),
        ("[]", "dvc.lock: not in DVC's format: restore it from git, or remove it"),
        ("stages: 7", "dvc.lock: not in DVC's format: restore it from git, or remove it"),
        ("", "dvc.lock: not in DVC's format: restore it from git, or remove it"),
    ],
)
def test_lock_that_cannot_be_read_names_the_experiment_and_what_to_do(checkout: Path, lock: str, message: str) -> None:
    (checkout / "dvc.lock").write_text(lock)
    with pytest.raises(ParamsError) as caught:
        dvc_repo.open_repo()
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(LOST)


@pytest.mark.parametrize("lock", ["schema: '2.0'\n", "schema: '2.0'\nstages: {}\n"])
def test_lock_without_stages_is_no_fault(checkout: Path, lock: str) -> None:
    (checkout / "dvc.lock").write_text(lock)
    assert outputs.find_lock_fault() is None
