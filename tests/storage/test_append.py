"""Files of lines: nothing is lost while other processes append and the file is rewritten."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit.storage.append import append_line, read_lines, rewrite_lines


def test_no_line_is_lost_while_the_file_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, "old", mode=0o600)
    path.write_bytes(path.read_bytes() + b"torn")
    threads = [
        threading.Thread(target=lambda name=name: [append_line(path, f"{name} {n}") for n in range(100)])
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        rewrite_lines(path, lambda lines: (line for line in lines if line != b"old\n"))
    found = [line.decode().strip() for line in read_lines(path)]
    assert sorted(found, key=found.index) == found
    for name in ("one", "two"):
        assert [line for line in found if line.startswith(name)] == [f"{name} {n}" for n in range(100)]
    assert "old" not in found
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_failure_leaves_the_former_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, "old")

    def fail(lines: Iterator[bytes]) -> Iterator[bytes]:
        yield b"new\n"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        rewrite_lines(path, fail)
    append_line(path, "next")
    assert [*read_lines(path)] == [b"old\n", b"next\n"]
    assert [*read_lines(tmp_path / "none")] == []
