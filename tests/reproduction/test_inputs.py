"""Raw tables of a run are put in place as they were, from wherever they are still kept."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from labkit.errors import DataError, MissingDataError
from labkit.reproduction.inputs import restore_inputs
from labkit.reproduction.recorded_run import RecordedRun

TABLE = b"id,y\n1,2\n"
DIGEST = hashlib.sha256(TABLE).hexdigest()
MD5 = hashlib.md5(TABLE).hexdigest()
POINTER = f"outs:\n- md5: {MD5}\n  size: {len(TABLE)}\n  hash: md5\n  path: rows.csv\n"
PARAMS = "data:\n  tables:\n    rows: {path: tables/rows.csv}\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return this checkout, with an empty cache of DVC."""
    root = tmp_path / "checkout"
    for name in ("params", "tables", ".dvc"):
        (root / name).mkdir(parents=True)
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    return root


@pytest.fixture
def rebuilt(tmp_path: Path) -> Path:
    """Return the checkout of the code of the run."""
    root = tmp_path / "rebuilt"
    (root / "params").mkdir(parents=True)
    (root / "params" / "shop.yaml").write_text(PARAMS)
    return root


def make_run(**data: Any) -> RecordedRun:
    return RecordedRun({"run": "shop-1", "experiment": "shop", "version": 1, "code": {}, "data": data})


def restore(run: RecordedRun, root: Path) -> list[str]:
    """Restore the inputs of a run and return what was reported."""
    lines: list[str] = []
    restore_inputs(run, root, lines.append)
    return lines


def test_table_is_taken_from_the_checkout_if_it_is_the_recorded_one(checkout: Path, rebuilt: Path) -> None:
    (checkout / "tables" / "rows.csv").write_bytes(TABLE)
    assert restore(make_run(files={"tables/rows.csv": DIGEST}), rebuilt) == ["data: 1 file, 9 bytes, as recorded"]
    assert (rebuilt / "tables" / "rows.csv").read_bytes() == TABLE
    assert restore(make_run(files={"tables/rows.csv": DIGEST}), rebuilt) == [], "it is in place"


def test_changed_table_is_taken_from_the_cache(checkout: Path, rebuilt: Path) -> None:
    (checkout / "tables" / "rows.csv").write_bytes(b"id,y\n1,3\n")
    kept = checkout / ".dvc" / "cache" / "files" / "md5" / MD5[:2] / MD5[2:]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(TABLE)
    (rebuilt / "tables").mkdir()
    (rebuilt / "tables" / "rows.csv.dvc").write_text(POINTER)
    for run in (make_run(files={"tables/rows.csv": DIGEST}), make_run()):
        (rebuilt / "tables" / "rows.csv").unlink(missing_ok=True)
        assert restore(run, rebuilt)
        assert (rebuilt / "tables" / "rows.csv").read_bytes() == TABLE


def test_table_that_is_nowhere_is_named_with_its_digest(checkout: Path, rebuilt: Path) -> None:
    (checkout / "tables" / "rows.csv").write_bytes(b"id,y\n1,3\n")
    message = (
        f"run shop-1: no longer in this checkout, in DVC's cache or on its remote: tables/rows.csv (SHA-256 {DIGEST})"
    )
    with pytest.raises(MissingDataError, match=re.escape(message)):
        restore(make_run(files={"tables/rows.csv": DIGEST}), rebuilt)
    assert not (rebuilt / "tables").exists()


def test_table_of_an_early_record_is_found_by_its_params(checkout: Path, rebuilt: Path) -> None:
    (checkout / "tables" / "rows.csv").write_bytes(TABLE)
    assert restore(make_run(), rebuilt) == ["data: 1 file, 9 bytes, as recorded"]


def test_nothing_is_written_outside_of_the_rebuild(checkout: Path, rebuilt: Path) -> None:
    with pytest.raises(DataError, match="is outside of its folder"):
        restore(make_run(files={"../rows.csv": DIGEST}), rebuilt)
