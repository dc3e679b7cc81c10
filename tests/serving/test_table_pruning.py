"""The file of a table loses the rows that no prediction needs, whatever happens meanwhile, and nothing else."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labkit.features.table_join import TableJoin
from labkit.serving.engine import Engine, load_engine
from labkit.serving.outcome_pruning import KEPT_DAYS
from labkit.serving.table_pruning import Key, Needed, find_needed_keys, prune_rows
from labkit.storage.append import append_line

from tests.serving.shop_release import feed, list_orders, make_orders, write_shop_release

DAY = 86_400.0
NOW = time.time()
CUTOFF = NOW - KEPT_DAYS * DAY
OLD, RECENT = CUTOFF - DAY, CUTOFF + DAY


def write(path: Path, *lines: tuple[float, list[Any]] | bytes) -> Path:
    content = [one if isinstance(one, bytes) else encode(*one) + b"\n" for one in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(content))
    return path


def encode(written: float, rows: list[Any]) -> bytes:
    return json.dumps({"time": written, "rows": rows}).encode()


def list_rows(path: Path) -> list[list[Any]]:
    """Return the rows of each line."""
    return [json.loads(line)["rows"] for line in path.read_bytes().splitlines()]


def read_keys(rows: Any) -> list[Key | None]:
    """Return the keys of rows such as `["a", 1]`; rows without a value cannot be read."""
    return [(row[0],) if len(row) == 2 else None for row in rows]


def prune(path: Path, *needed: str) -> int:
    return prune_rows(path, Needed({(name,) for name in needed}, CUTOFF, read_keys))


def test_only_old_rows_go_that_are_replaced_not_needed_or_cannot_be_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl",
        (OLD, [["replaced", 1], ["kept", 1], ["unneeded", 1]]),
        b"damaged\n",
        (OLD, [["unreadable"]]),
        (OLD, [["replaced", 2], ["twice", 1], ["twice", 2]]),
        (RECENT, [["replaced", 3], ["unneeded", 2], ["recent", 1], ["unreadable"]]),
        (RECENT, [["recent", 2]]),
    )
    assert prune(path, "replaced", "kept", "twice", "recent") == 5
    assert list_rows(path) == [
        [["kept", 1]],
        [["twice", 2]],
        [["replaced", 3], ["unneeded", 2], ["recent", 1], ["unreadable"]],
        [["recent", 2]],
    ]
    before = path.stat()
    assert prune(path, "replaced", "kept", "twice", "recent") == 0
    assert path.stat().st_ino == before.st_ino


def test_a_file_without_old_lines_is_not_touched(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", (RECENT, [["a", 1]]), (RECENT, [["a", 2]]), b'{"torn')
    before = path.stat()
    assert prune(path) == 0
    assert (path.stat().st_ino, path.read_bytes()[-6:]) == (before.st_ino, b'{"torn')
    assert prune(tmp_path / "none.jsonl") == 0


def test_of_a_table_joined_by_time_the_rows_stay_that_later_predictions_find() -> None:
    cutoff = datetime.fromtimestamp(CUTOFF, UTC).replace(tzinfo=None)
    keys = [(kind, cutoff + timedelta(hours=hours)) for kind in ("a", "b") for hours in (-40, -30, -2, 3)]
    keys = [key for key in keys if key != ("b", keys[2][1])]

    def find(*joins: TableJoin) -> list[Any]:
        found = find_needed_keys(keys, ["kind", "at"], joins, cutoff=CUTOFF)
        return [f"{kind}{round((at - cutoff).total_seconds() / 3600)}" for kind, at in keys if (kind, at) in found]

    latest = TableJoin("t", {"kind": "kind"}, {}, as_of="at")
    near = TableJoin("t", {"kind": "kind"}, {}, as_of="at", within_hours=24)
    assert find(latest) == ["a-2", "a3", "b-30", "b3"]
    assert find(near) == ["a-2", "a3", "b3"]
    assert find(near, latest) == find(latest)
    assert find(latest, TableJoin("t", {"kind": "kind"}, {})) == ["a-40", "a-30", "a-2", "a3", "b-40", "b-30", "b3"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop_release(tmp_path_factory.mktemp("shop") / "release")


def predict(engine: Engine, orders: list[dict[str, Any]]) -> np.ndarray:
    assert engine.fed is not None
    engine.fed.refresh()
    return engine.predict(engine.reader.make_columns(engine.read(json.dumps({"rows": orders}).encode())))


def test_predictions_stay_the_same_in_every_process(release: Path, tmp_path: Path) -> None:
    hours = range(0, 24 * 150, 5)
    rates = [
        {"kind": kind, "at": datetime.fromtimestamp(NOW - 3600 * hour, UTC).isoformat(), "value": hour / 1000}
        for hour in reversed(hours)
        for kind in ("book", "shoe", "coat")
    ]
    written = [(OLD - DAY, rates[start : start + 50]) for start in range(0, len(rates), 50)]
    moved = {"id": 1, "city": "Oslo", "since": None}
    path = write(tmp_path / "tables" / "rates.jsonl", *written, (OLD, [{**rates[-1], "value": 7.0}]))
    write(tmp_path / "tables" / "customers.jsonl", (OLD, [{**moved, "city": "Rome"}]), (RECENT, [moved]))
    orders = list_orders(make_orders(200)[0])
    random = np.random.default_rng(0)
    for order in orders:
        asked = datetime.fromtimestamp(NOW - DAY * random.uniform(0, KEPT_DAYS), UTC)
        order |= {"ordered": asked.isoformat(), "customer": 1}
    first, second = (load_engine(release, digest=None, version=None, state_dir=tmp_path) for _ in range(2))
    expected = predict(first, orders)
    assert len(np.unique(expected)) > 100
    n_before, size = sum(map(len, list_rows(path))), path.stat().st_size
    feed(first, "rates", {**rates[0], "kind": "hat"})
    feed(first, "customers", {"id": 10_000, "city": "Oslo", "since": None})
    assert sum(map(len, list_rows(path))) < 0.65 * n_before
    assert path.stat().st_size < 0.65 * size
    assert [row["city"] for rows in list_rows(tmp_path / "tables" / "customers.jsonl") for row in rows] == ["Oslo"] * 2
    later = load_engine(release, digest=None, version=None, state_dir=tmp_path)
    for engine in (first, second, later):
        np.testing.assert_array_equal(predict(engine, orders), expected)


KILLED = """
import sys, time
from pathlib import Path
from labkit.serving.table_pruning import Needed, prune_rows
n_calls = 0

def stop(rows):
    global n_calls
    n_calls += 1
    if n_calls == int(sys.argv[2]):
        print("here", flush=True)
        time.sleep(600)
    return [(row[0],) for row in rows]

prune_rows(Path(sys.argv[1]), Needed({("a",)}, float(sys.argv[3]), stop))
"""


@pytest.mark.parametrize("n_calls", [1, 51, 52, 101, 130, 151])
def test_file_is_whole_if_killed_in_the_middle_and_what_is_left_over_goes(tmp_path: Path, n_calls: int) -> None:
    """Of 50 lines, calls 1 to 51 look for rows to remove, 52 to 101 count them, and 102 to 151 write the new file."""
    path = write(tmp_path / "t.jsonl", *((OLD, [["a", number], ["b", 0]]) for number in range(50)))
    content = path.read_bytes()
    command = [sys.executable, "-c", KILLED, str(path), str(n_calls), str(CUTOFF)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert any(tmp_path.glob(".t.jsonl.*")) == (n_calls > 51)
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == content
    append_line(path, encode(RECENT, [["c", 1]]).decode())
    assert prune(path, "a") == 99
    assert list_rows(path) == [[["a", 49]], [["c", 1]]]
    assert [one.name for one in tmp_path.iterdir()] == ["t.jsonl"]
