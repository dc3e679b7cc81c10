"""The shadow reads each line of the prediction log once."""

import json
from pathlib import Path
from typing import Any

import pytest
from labkit.serving.board import CHALLENGER_SEAT, Board
from labkit.serving.settings import FEEDBACK, LOOPBACK, Pointer, Settings
from labkit.serving.shadow import LogTail, Shadow

from tests.serving.running import make_pointer, write_release


def test_tail_of_the_log_gives_each_whole_line_once(tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    first.write_bytes(b"before\n")
    tail = LogTail(tmp_path)
    assert tail.read() == []
    with first.open("ab") as stream:
        stream.write(b"a\nb\ntor")
    second.write_bytes(b"c\n")
    assert tail.read() == [b"a", b"b"]
    first.write_bytes(first.read_bytes() + b"n\n")
    assert sorted([tail.read(), tail.read()]) == [[b"c"], [b"torn"]]
    second.write_bytes(second.read_bytes() + b"d\n" * 100)
    assert tail.skip(most_bytes=500) == 0
    assert tail.skip(most_bytes=10) == 100
    first.unlink()
    assert tail.read() == []


def test_tail_of_the_log_goes_on_without_a_file_that_is_removed_while_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    tail = LogTail(tmp_path)
    first.write_bytes(b"a\n")
    second.write_bytes(b"b\n")
    plain_glob, plain_open = Path.glob, Path.open

    def list_both(folder: Path, pattern: str) -> list[Path]:
        return [*plain_glob(folder, pattern), tmp_path / "0.jsonl"]

    def remove_first(path: Path, mode: str) -> Any:
        first.unlink(missing_ok=True)
        return plain_open(path, mode)

    monkeypatch.setattr(Path, "glob", list_both)
    monkeypatch.setattr(Path, "open", remove_first)
    assert tail.read() == [b"b"]


def test_tail_of_the_log_goes_on_where_the_process_before_stopped(tmp_path: Path) -> None:
    log, kept = tmp_path / "log", tmp_path / "shadow-places.json"
    log.mkdir()
    (log / "1.jsonl").write_bytes(b"before\n")
    assert LogTail(log, kept).read() == []
    with (log / "1.jsonl").open("ab") as stream:
        stream.write(b"a\nb\n")
    assert LogTail(log, kept).read() == [b"a", b"b"]
    with (log / "1.jsonl").open("ab") as stream:
        stream.write(b"c\n")
    (log / "2.jsonl").write_bytes(b"d\n")
    tail = LogTail(log, kept)
    assert [tail.read(), tail.read(), tail.read()] == [[b"c"], [b"d"], []]
    assert LogTail(log, kept).read() == []


def test_reason_of_a_refusal_names_no_folder_of_the_champion(tmp_path: Path) -> None:
    release, run_dir = write_release(tmp_path / "release"), tmp_path / "run"
    run_dir.mkdir()
    Pointer(1, str(tmp_path / "gone"), "0" * 64, 1).save(run_dir / "current.json")
    make_pointer(release, 2).save(run_dir / "challenger-next.json")
    settings = Settings(
        "shop", str(run_dir), str(tmp_path / "log"), str(tmp_path / FEEDBACK), 1, LOOPBACK,
        shadow_folder=str(tmp_path / "shadow"),
    )  # fmt: skip
    board = Board(settings.board_path, n_workers=1)
    board.words[CHALLENGER_SEAT.announced] = 2
    shadow = Shadow(settings, board, 1)
    shadow.work()
    shadow.close()
    reason = json.loads((run_dir / "challenger-refused.json").read_text())["reason"]
    assert reason.startswith("the champion's release")
    assert str(tmp_path) not in reason
