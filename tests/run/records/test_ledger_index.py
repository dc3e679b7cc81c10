"""The index of the ledger finds what the ledger has, whatever happens to either, and reads no more than it needs."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labkit.run.records import ledger, ledger_index
from labkit.run.records.ledger import Entry

STAGES = ("source", "eda", "training")


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / ".labkit").mkdir()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    monkeypatch.setattr(ledger_index, "SMALL_BYTES", 0)
    return ledger.find_ledger_path()


def make_run(run: str, experiment: str, stage: str | None, parent: str | None, **facts: Any) -> list[dict[str, Any]]:
    """Return the lines of a run that finished."""
    start = {"experiment": experiment, "stage": stage, "parent": parent, "pid": 1, "boot": "b", "process_started": 1.0}
    end = {"outcome": "finished", "reason": "", "exit_code": 0, "seconds": 1.0, "peak_bytes": 0, "is_settled": True}
    output = {"path": f"data/{stage}", "sha256": run, "bytes": 1}
    return [
        {"kind": "start", "run": run, **start, "at": "2026-01-01T00:00:00+00:00", "store": "", "facts": facts},
        {"kind": "opened", "run": run, "tracked": f"t{run}"},
        {"kind": "output", "run": run, **output},
        {"kind": "done", "run": run, **end},
    ]


def write_runs(path: Path, n_runs: int, *, first: int = 0) -> None:
    """Append pipeline runs with their stages."""
    lines: list[dict[str, Any]] = []
    for number in range(first, first + n_runs):
        experiment = ("mine", "other")[number % 2]
        top, *rest = make_run(f"{experiment}-{number:05}", experiment, None, None)
        below = [
            line for stage in STAGES for line in make_run(f"{stage}-{number:05}", experiment, stage, str(top["run"]))
        ]
        lines += [top, *below, *rest]
    with path.open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def check_all() -> None:
    """Compare what the index finds with what the whole ledger has."""
    every = ledger.load_entries(with_interactive=True)
    tops = [one for one in every if one.parent is None]
    below = {top.run: [one for one in every if one.parent == top.run] for top in tops}
    assert ledger_index.list_latest(None, most=3) == ([(top, below[top.run]) for top in tops[:-4:-1]], len(tops))
    assert ledger_index.find_unfinished() == [one for one in every if one.is_open or not one.is_settled]
    assert [name.run for name in ledger_index.list_recorded_runs()] == [one.run for one in every]
    for entry in random.Random(1).sample(every, min(len(every), 20)):
        assert ledger_index.find_entry(entry.run) == entry
        assert [name.run for name in ledger_index.find_matching_runs(entry.tracked or entry.run)] == [entry.run]
    last = tops[-1]
    before = every[: every.index(last)]
    made = {str(one.stage): one.run for one in before if one.stage and one.experiment == last.experiment}
    assert ledger_index.find_producers(last) == made


def test_index_follows_what_is_appended(path: Path) -> None:
    for first in range(0, 60, 20):
        write_runs(path, 20, first=first)
        check_all()
    assert path.with_name(ledger_index.INDEX_NAME).is_file()


def count_lines(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> int:
    """Return how many lines of the ledger something reads."""
    lines: list[object] = []

    def read_line(content: dict[str, Any], entries: dict[str, Entry]) -> None:
        lines.append(content)
        ledger.read_line(content, entries)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_index, "read_line", read_line)
        work()
    return len(lines)


@pytest.mark.parametrize(
    "work",
    [
        lambda: ledger_index.list_latest(None, most=20),
        lambda: ledger_index.find_unfinished(),
        lambda: ledger_index.find_current("mine"),
        lambda: ledger_index.find_entry("mine-00002"),
        lambda: ledger_index.list_stages_of_run("mine-00002"),
        lambda: ledger_index.find_latest_entry("mine", lambda one: one.outcome == "finished"),
        lambda: ledger_index.find_matching_runs("mine"),
    ],
)
def test_a_longer_ledger_costs_no_more_lines(
    path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
) -> None:
    write_runs(path, 50)
    ledger_index.find_unfinished()
    few = count_lines(monkeypatch, work)
    write_runs(path, 450, first=50)
    ledger_index.find_unfinished()
    assert count_lines(monkeypatch, work) == few <= 20 * 16


def test_only_new_lines_are_read_into_the_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_runs(path, 500)
    assert count_lines(monkeypatch, ledger_index.find_unfinished) == 500 * 16
    write_runs(path, 1, first=500)
    assert count_lines(monkeypatch, ledger_index.find_unfinished) == 16


def test_damaged_lines_are_skipped_as_in_the_whole_ledger(path: Path) -> None:
    write_runs(path, 4)
    start, opened, _, done = make_run("mine-99999", "mine", None, None)
    lines = [opened, start, {**start, "experiment": "late"}, {"kind": "done", "run": "mine-99999", "outcome": "failed"}]
    with path.open("ab") as stream:
        stream.write(b'{"kind": "start", "run": "torn-1", "exp\n[]\n{}\n\xff\n"x"\n{"kind": "start", "run": "half"}\n')
        stream.writelines(json.dumps(line).encode() + b"\n" for line in lines)
        stream.write(json.dumps(done).encode()[:40])
    check_all()
    ledger.append("settled", run="mine-99999")
    write_runs(path, 3, first=100)
    check_all()


@pytest.mark.parametrize("n_left", [0, 1, 30])
def test_index_of_another_ledger_is_made_again(path: Path, n_left: int) -> None:
    write_runs(path, 20)
    check_all()
    path.unlink()
    write_runs(path, n_left, first=1)
    write_runs(path, 1, first=0)
    check_all()


def test_ledger_that_was_edited_in_the_middle_is_read_again(path: Path) -> None:
    write_runs(path, 400)
    check_all()
    content = path.read_text()
    place = content.index('"mine-00200"')
    assert 4096 < place < len(content) - 4096
    path.write_text(content.replace("mine-00200", "mine-x0200"))
    assert ledger_index.find_entry("mine-00200") is None
    assert ledger_index.find_entry("mine-x0200") is not None
    check_all()


def test_damaged_index_is_made_again(path: Path) -> None:
    write_runs(path, 20)
    index = path.with_name(ledger_index.INDEX_NAME)
    index.write_bytes(b"no database" * 1000)
    check_all()
    assert index.read_bytes().startswith(b"SQLite format 3")


def test_without_a_place_for_an_index_all_is_found(path: Path) -> None:
    write_runs(path, 20)
    path.with_name(ledger_index.INDEX_NAME).mkdir()
    check_all()


def test_short_ledger_has_no_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_index, "SMALL_BYTES", 1_000_000)
    assert ledger_index.list_latest(None, most=3) == ([], 0)
    write_runs(path, 20)
    check_all()
    assert not path.with_name(ledger_index.INDEX_NAME).exists()


PROGRAM = """
from labkit.run.records import ledger, ledger_index
ledger_index.SMALL_BYTES = 0
for number in range(10):
    ledger.append("settled", run="mine-00000")
    assert ledger_index.find_unfinished() == []
print(len(ledger_index.list_recorded_runs()))
"""


def test_processes_extend_the_index_at_once(path: Path) -> None:
    write_runs(path, 300)
    command = [sys.executable, "-c", PROGRAM]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["1200"] * 4
    check_all()
