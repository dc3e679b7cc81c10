"""Predictions in parts: folders of files, parts that are kept after an interruption, and a destination that is whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labkit.errors import LabkitError
from labkit.serving import batch, batch_parts
from labkit.serving.batch import predict_file
from labkit.serving.batch_files import list_row_files
from labkit.serving.batch_parts import Parts
from labkit.serving.batch_progress import BatchProgress
from labkit.storage.atomic import name_beside
from labkit.storage.locks import hold_lock

from tests.serving.small_champion import INPUTS, TABLE
from tests.serving.small_champion import champion as champion


@pytest.fixture
def parted(champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose files have 12 rows in all, of which five are a part."""
    (tmp_path / "rows").mkdir()
    INPUTS.head(7).to_parquet(tmp_path / "rows" / "a.parquet", index=False)
    INPUTS.tail(5).to_parquet(tmp_path / "rows" / "b.parquet", index=False)
    (tmp_path / "rows" / "_SUCCESS").touch()
    (tmp_path / "rows" / ".a.parquet.crc").touch()
    monkeypatch.setattr(batch, "PART_ROWS", 5)
    return tmp_path


def predict(folder: Path, name: str = "out.parquet") -> pd.DataFrame:
    """Predict the rows of the folder and return the predictions."""
    predict_file("e", folder / "rows", folder / name)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [], "nothing is left over"
    return pd.read_parquet(folder / name) if name.endswith(".parquet") else pd.read_csv(folder / name)


def interrupt(monkeypatch: pytest.MonkeyPatch, *, number: int) -> list[int]:
    """Interrupt when a part is to be written, and return the numbers of those that are written."""
    written: list[int] = []
    save = Parts.save

    def save_or_stop(self: Parts, place: int, *given: Any) -> None:
        if place == number:
            raise KeyboardInterrupt
        written.append(place)
        save(self, place, *given)

    monkeypatch.setattr(Parts, "save", save_or_stop)
    return written


@pytest.mark.slow
def test_files_of_a_folder_are_predicted_as_one_file(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = predict(parted)
    assert found["row"].tolist() == list(range(1, 13))
    pd.testing.assert_frame_equal(predict(parted, "out.csv"), found, check_dtype=False)
    monkeypatch.setattr(batch, "PART_ROWS", 100)
    INPUTS.to_parquet(parted / "whole.parquet", index=False)
    predict_file("e", parted / "whole.parquet", parted / "one.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(parted / "one.parquet"), found)


@pytest.mark.slow
def test_interrupted_prediction_goes_on_with_the_parts_that_are_whole(
    parted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(parted, "expected.parquet")
    with monkeypatch.context() as patch:
        assert interrupt(patch, number=2) == []
        with pytest.raises(KeyboardInterrupt):
            predict_file("e", parted / "rows", parted / "out.parquet")
    assert not (parted / "out.parquet").exists()
    first = parted / ".out.parquet.parts" / "000000.parquet"
    content = bytearray(first.read_bytes())
    content[20] ^= 1
    first.write_bytes(content)  # damaged: its checksum tells
    with monkeypatch.context() as patch:
        written = interrupt(patch, number=-1)
        pd.testing.assert_frame_equal(predict(parted), expected)
        assert written == [0, 2]


def test_what_a_killed_process_wrote_of_the_destination_is_removed(tmp_path: Path) -> None:
    destination, left = tmp_path / "out.csv", name_beside(tmp_path / "out.csv")
    left.touch()
    name_beside(tmp_path / "other.csv").touch()
    with batch_parts.open_parts(destination, {}):
        assert not left.exists()
    assert [path.name.split(".")[1] for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.slow
def test_parts_of_other_rows_are_not_taken(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, number=2)
        with pytest.raises(KeyboardInterrupt):
            predict_file("e", parted / "rows", parted / "out.parquet")
    INPUTS.head(7)[::-1].to_parquet(parted / "rows" / "a.parquet", index=False)
    written = interrupt(monkeypatch, number=-1)
    found = predict(parted)
    assert written == [0, 1, 2]
    assert found["probability_up"].tolist()[:7] != found["probability_up"].tolist()[6::-1]


@pytest.mark.slow
def test_a_fault_in_a_later_file_leaves_nothing(parted: Path) -> None:
    INPUTS.tail(5).assign(x=np.inf).to_parquet(parted / "rows" / "b.parquet", index=False)
    with pytest.raises(LabkitError, match="column 'x' holds infinite numbers"):
        predict(parted)
    assert [path.name for path in parted.iterdir()] == ["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("column", ["x", "id", "y"])
def test_files_of_other_types_are_refused_before_anything_is_predicted(
    parted: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    INPUTS.head(7).assign(**{column: 1}).to_parquet(parted / "rows" / "a.parquet", index=False)
    INPUTS.tail(5).assign(**{column: "many"}).to_parquet(parted / "rows" / "b.parquet", index=False)
    written = interrupt(monkeypatch, number=-1)
    with pytest.raises(LabkitError) as refused:
        predict_file("e", parted / "rows", parted / "out.csv", keep=["id"] if column == "id" else [])
    what = "is int64 in one file and string in another: write it alike in all files"
    assert str(refused.value) == f"{parted / 'rows' / 'a.parquet'}: column {column!r} {what}"
    assert (written, refused.value.exit_code) == ([], 2)
    assert [path.name for path in parted.iterdir()] == ["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_file_that_changes_meanwhile_is_refused(parted: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save = Parts.save

    def save_and_change(self: Parts, place: int, *given: Any) -> None:
        save(self, place, *given)
        if place == 1:
            INPUTS.head(7)[::-1].to_parquet(parted / "rows" / "a.parquet", index=False)

    monkeypatch.setattr(Parts, "save", save_and_change)
    with pytest.raises(LabkitError, match=r"a\.parquet: changed while it was read: predict again when it is complete$"):
        predict_file("e", parted / "rows", parted / name)
    assert [path.name for path in parted.iterdir()] == ["rows"]


@pytest.mark.slow
def test_a_file_that_is_added_meanwhile_is_refused(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_joined_rows = batch.open_joined_rows

    @contextmanager
    def add_later(source: Path, *given: Any, **named: Any) -> Iterator[Any]:
        with open_joined_rows(source, *given, **named) as joined:
            INPUTS.to_parquet(source / "c.parquet", index=False)
            yield joined

    monkeypatch.setattr(batch, "open_joined_rows", add_later)
    with pytest.raises(LabkitError, match=r"c\.parquet: changed while it was read"):
        predict_file("e", parted / "rows", parted / "out.csv")


@pytest.mark.slow
def test_two_predictions_do_not_write_one_file(parted: Path) -> None:
    with (
        hold_lock(parted / ".out.parquet.parts" / batch_parts.LOCK),
        pytest.raises(LabkitError, match=r"out\.parquet: another labkit predict is writing it: wait, or name another"),
    ):
        predict_file("e", parted / "rows", parted / "out.parquet")


def test_parts_are_not_shared_with_a_process_that_opened_their_lock_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = tmp_path / "out.csv"
    take_lock = batch_parts.take_lock

    def finish_and_take(handle: int, *, is_waiting: bool) -> bool:
        monkeypatch.setattr(batch_parts, "take_lock", take_lock)
        with batch_parts.open_parts(destination, {}):
            pass
        return take_lock(handle, is_waiting=is_waiting)

    monkeypatch.setattr(batch_parts, "take_lock", finish_and_take)
    with (
        batch_parts.open_parts(destination, {}) as parts,
        pytest.raises(LabkitError, match="another labkit predict is writing it"),
        batch_parts.open_parts(destination, {}),
    ):
        assert parts.folder.is_dir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_known_true_values_are_scored_over_all_parts(
    champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TABLE.to_csv(tmp_path / "in.csv", index=False)
    whole = predict_file("e", tmp_path / "in.csv", tmp_path / "out.csv").score
    monkeypatch.setattr(batch, "PART_ROWS", 7)
    assert predict_file("e", tmp_path / "in.csv", tmp_path / "out.csv").score == whole
    monkeypatch.setattr(batch, "MOST_SCORED", 50)
    sampled = predict_file("e", tmp_path / "in.csv", tmp_path / "out.csv").score
    every_third = TABLE[::3].reset_index(drop=True)
    every_third.to_csv(tmp_path / "third.csv", index=False)
    third = predict_file("e", tmp_path / "third.csv", tmp_path / "out.csv").score
    assert sampled is not None
    assert third is not None
    assert (sampled.value, sampled.n_rows) == (third.value, 40)
    assert str(sampled).startswith("roc_auc on 40 of these rows ")


HUGE = 2**53 + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
@pytest.mark.parametrize("n_first", [7, 12])
def test_kept_integers_are_exact_beside_missing_values(parted: Path, name: str, n_first: int) -> None:
    ids = pd.Series([*range(HUGE, HUGE + 6), *[None] * 6], dtype="Int64")
    at = pd.to_datetime(["2024-01-01 00:00"] * 7 + ["2024-01-01 10:30"] * 5)
    rows = INPUTS.assign(id=ids, at=at, is_kept=ids.gt(HUGE), code=ids)
    rows.head(n_first).to_parquet(parted / "rows" / "a.parquet", index=False)
    rows[n_first:].to_parquet(parted / "rows" / "b.parquet", index=False)
    if n_first == 12:
        (parted / "rows" / "b.parquet").unlink()
    predict_file("e", parted / "rows", parted / name, keep=["id", "at", "is_kept", "code"])
    if name == "out.parquet":
        schema = pq.read_schema(parted / name)
        assert [schema.field(kept).type for kept in ("id", "is_kept", "code")] == [pa.int64(), pa.bool_(), pa.int64()]
        found = pq.read_table(parted / name).select(["id", "is_kept"]).to_pydict()
        assert found["id"] == [*range(HUGE, HUGE + 6), *[None] * 6]
        assert found["is_kept"] == [False, *[True] * 5, *[None] * 6]
        return
    lines = [line.split(",") for line in (parted / name).read_text().splitlines()]
    assert lines[1][1:5] == [str(HUGE), "2024-01-01 00:00:00", "False", str(HUGE)]
    assert lines[12][1:5] == ["", "2024-01-01 10:30:00", "", ""]


@pytest.mark.slow
def test_kept_column_is_missing_in_a_whole_file(parted: Path) -> None:
    INPUTS.head(7).assign(id=HUGE, note="a").to_parquet(parted / "rows" / "a.parquet", index=False)
    INPUTS.tail(5).assign(id=None, note=None).to_parquet(parted / "rows" / "b.parquet", index=False)
    predict_file("e", parted / "rows", parted / "out.parquet", keep=["id", "note"])
    found = pq.read_table(parted / "out.parquet").select(["id", "note"]).to_pydict()
    assert found == {"id": [HUGE] * 7 + [None] * 5, "note": ["a"] * 7 + [None] * 5}


@pytest.mark.slow
def test_integers_that_fit_no_type_of_all_files_are_refused(parted: Path) -> None:
    INPUTS.head(7).assign(id=HUGE).to_parquet(parted / "rows" / "a.parquet", index=False)
    INPUTS.tail(5).assign(id=0.5).to_parquet(parted / "rows" / "b.parquet", index=False)
    with pytest.raises(
        LabkitError, match=r"a\.parquet: column 'id' is int64 .* double does not hold exactly .*: write it"
    ):
        predict_file("e", parted / "rows", parted / "out.csv", keep=["id"])
    assert [path.name for path in parted.iterdir()] == ["rows"]


BAD_FOLDERS = [
    ([], "the folder has no files: name one with files of rows"),
    (["a.csv", "b/"], "has a folder 'b' in it: name a folder with files of rows only"),
    (["a.csv", "b.json"], r"'a.csv' (.csv) and 'b.json' (.json) differ in format: give one format only"),
]


@pytest.mark.parametrize(("names", "message"), BAD_FOLDERS)
def test_folder_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("x,y\n1,2\n")
    with pytest.raises(LabkitError) as refused:
        list_row_files(tmp_path)
    assert str(refused.value) == f"{tmp_path}: {message}"


@pytest.mark.parametrize(
    ("target", "message"),
    [("nowhere.csv", "no such file"), ("/proc/self/mem", "cannot be read (Input/output error): is it the right file?")],
)
def test_link_to_what_cannot_be_read_is_refused(tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "first.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").symlink_to(target)
    with pytest.raises(LabkitError) as refused:
        list_row_files(tmp_path)
    assert (str(refused.value), refused.value.exit_code) == (f"{tmp_path / 'b.csv'}: {message}", 2)


def test_destination_is_not_among_the_files_to_predict(champion: Path, tmp_path: Path) -> None:
    INPUTS.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(LabkitError, match="is in the folder with the rows to predict, .*: name another place"):
        predict_file("e", tmp_path, tmp_path / "out.csv")


def test_progress_is_shown_every_ten_seconds_from_the_speed_of_this_attempt() -> None:
    lines: list[str] = []
    times = iter([0, 1, 6, 12, 15, 25])
    progress = BatchProgress(lines.append, clock=lambda: next(times))
    progress(200, 1000, is_kept=True)
    for n_done in (300, 400, 500, 600):
        progress(n_done, 1000)
    progress(1000, 1000)
    assert lines == ["500 of 1,000 rows predicted (50 %), about 20.0 s left"]
