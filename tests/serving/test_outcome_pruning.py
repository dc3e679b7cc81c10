"""The file of outcomes loses what the champion's release holds, and nothing that anyone may still need."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
from labkit.serving.outcome_lines import Line, Observation, Outcome, Undo, load_observations
from labkit.serving.outcome_pruning import KEPT_DAYS, prune_outcomes
from labkit.storage.append import append_line

DAY = 86_400.0
NOW = time.time()
OLD, RECENT = NOW - (KEPT_DAYS + 1) * DAY, NOW - (KEPT_DAYS - 1) * DAY
EARLY, LATE = "2024-03-01T00:00:00Z", "2024-05-01T00:00:00Z"
HELD_UNTIL = 1_711_929_600_000_000
"""1 April 2024."""


def make_outcomes(*ids: str, known_at: str = EARLY) -> list[Outcome]:
    return [Outcome(id, {"kind": "shoe"}, 1.0, known_at) for id in ids]


def make_record(id: str) -> Observation:
    return Observation(id, "2026-01-01T00:00:00+00:00", "me", "why", 1, {"a.csv": "1"}, 2)


def write(path: Path, *lines: Line | bytes) -> Path:
    path.write_bytes(b"".join(line if isinstance(line, bytes) else msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def list_ids(path: Path) -> list[list[str]]:
    """Return the ids on each line."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [[one["id"] for one in line.get("outcomes", [])] for line in lines]


def prune(path: Path) -> int:
    return prune_outcomes(path, held_until=HELD_UNTIL, now=NOW)


def test_only_what_is_old_and_held_by_the_release_goes(tmp_path: Path) -> None:
    late = make_outcomes("late", known_at=LATE)
    path = write(
        tmp_path / "o.jsonl",
        Line(OLD, [*make_outcomes("gone", "again"), *late]),
        b"damaged\n",
        Line(OLD),
        Line(OLD, make_outcomes("gone too")),
        Line(RECENT, make_outcomes("again", "recent")),
    )
    assert prune(path) == 2
    assert list_ids(path) == [["again", "late"], ["again", "recent"]]
    content = path.read_bytes()
    assert prune(path) == 0
    assert path.read_bytes() == content


def test_an_id_goes_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """Else an outcome that another one had replaced would count again."""
    path = write(
        tmp_path / "o.jsonl",
        Line(OLD, make_outcomes("moved", known_at=LATE)),
        Line(OLD, make_outcomes("moved", "gone")),
        Line(OLD, make_outcomes("gone")),
    )
    assert prune(path) == 2
    assert list_ids(path) == [["moved"], ["moved"]]


def test_observations_stay_on_record_and_one_undone_lately_stays_whole(tmp_path: Path) -> None:
    path = write(
        tmp_path / "o.jsonl",
        Line(OLD, make_outcomes("a", "b"), observation="first"),
        Line(OLD, record=make_record("first")),
        Line(OLD, make_outcomes("c", "d"), observation="second"),
        Line(OLD, record=make_record("second")),
        Line(OLD, make_outcomes("e", "f"), observation="third"),
        Line(OLD, record=make_record("third")),
        Line(OLD, undo=Undo("first", "2026-01-02", "me", "wrong")),
        Line(RECENT, undo=Undo("second", "2026-01-02", "me", "wrong")),
    )
    assert prune(path) == 4
    assert list_ids(path) == [[], ["c", "d"], [], [], [], []]
    found: list[Any] = load_observations(path)
    assert [(one.record.id, one.record.n_removed, one.undo is not None) for one in found] == [
        ("first", 2, True),
        ("second", 0, True),
        ("third", 2, False),
    ]


def test_a_file_whose_old_outcomes_are_all_needed_is_not_replaced(tmp_path: Path) -> None:
    late = make_outcomes("late", known_at=LATE)
    path = write(tmp_path / "o.jsonl", Line(OLD, late), Line(OLD), Line(OLD, make_outcomes("again")))
    append_line(path, msgspec.json.encode(Line(RECENT, make_outcomes("again"))).decode())
    before = path.stat()
    assert prune(path) == 0
    assert path.stat().st_ino == before.st_ino
    append_line(path, msgspec.json.encode(Line(OLD, make_outcomes("gone"))).decode())
    assert prune(path) == 1
    assert (path.stat().st_ino != before.st_ino, list_ids(path)) == (True, [["late"], ["again"], ["again"]])


def test_a_file_without_old_outcomes_is_not_touched(tmp_path: Path) -> None:
    path = write(tmp_path / "o.jsonl", Line(RECENT, make_outcomes("a")), b"torn")
    before = path.stat()
    assert prune(path) == 0
    assert (path.stat().st_ino, path.read_bytes()[-4:]) == (before.st_ino, b"torn")
    assert prune(tmp_path / "none.jsonl") == 0
