"""Rows of joined tables that are sent to a running service are joined by all of its processes, and stay."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labkit.errors import DataError
from labkit.features.main_table import MainTable
from labkit.model.release import bundle
from labkit.serving import fed_tables
from labkit.serving.engine import Engine, load_engine
from labkit.serving.requests import RequestError

from tests.serving.running import Client, get_port, make_pointer, start, wait_for
from tests.serving.shop_release import TABLES, feed, list_orders, make_orders, write_shop_release

ORDERS, JOINED = make_orders()
ROWS, RATES = list_orders(ORDERS), list_orders(TABLES["rates"])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop_release(tmp_path_factory.mktemp("shop") / "release")


def open_engine(release: Path, folder: Path) -> Engine:
    """Return the model as a worker loads it."""
    return load_engine(release, digest=None, version=None, state_dir=folder)


def encode(*rows: Any) -> bytes:
    return json.dumps({"rows": list(rows)}).encode()


def predict(engine: Engine) -> np.ndarray:
    rows = engine.read(encode(*ROWS))
    return engine.predict(engine.reader.make_columns(rows))


def test_rows_are_joined_by_each_process_and_after_a_restart(release: Path, tmp_path: Path) -> None:
    first, second = open_engine(release, tmp_path), open_engine(release, tmp_path)
    with pytest.raises(RequestError, match="no rows of the table rates are known"):
        predict(first)
    assert feed(first, "rates", *RATES[:20]) == {"recorded": 20, "rows": 20}
    assert feed(first, "rates", *RATES[20:]) == {"recorded": len(RATES) - 20, "rows": len(RATES)}
    expected = bundle.load_release(release).predict(JOINED)
    np.testing.assert_array_equal(predict(first), expected)
    assert second.fed is not None
    second.fed.refresh()
    np.testing.assert_array_equal(predict(second), expected)
    np.testing.assert_array_equal(predict(open_engine(release, tmp_path)), expected)


def test_a_later_row_replaces_one_of_the_same_key_also_of_the_release(release: Path, tmp_path: Path) -> None:
    engine = open_engine(release, tmp_path)
    feed(engine, "rates", *RATES)
    feed(engine, "customers", {"id": 10_000, "city": "Oslo", "since": None})
    corrected = {**RATES[0], "at": RATES[0]["at"] + "Z", "value": 9.5}  # the same time, written in another way
    assert feed(engine, "rates", corrected) == {"recorded": 1, "rows": len(RATES)}
    new = {**ROWS[1], "customer": 10_000, "kind": RATES[0]["kind"], "ordered": RATES[0]["at"]}
    (row,) = engine.read(encode(new))
    values = dict(zip(engine.reader.kinds, [getattr(row, name) for name in row.__struct_fields__], strict=True))
    assert (values["customer_city"], values["rate_value"]) == ("Oslo", 9.5)
    assert engine.fed is not None
    told = engine.fed.describe()
    assert told["customers"]["rows"] == len(TABLES["customers"]) + 1
    assert told["rates"]["latest"].startswith(str(TABLES["rates"]["at"].max())[:10])
    assert 0 <= told["rates"]["age_seconds"] < 60
    assert told["regions"]["age_seconds"] is None


REFUSED = [
    ("prices", encode(RATES[0]), 404, "the model joins no such table: known: customers, rates, regions"),
    ("rates", b"[]", 422, 'the body is not an object with "rows", a list of rows'),
    ("rates", b'{"rows": [{"kind": "shoe", "kind": "hat", "at": "2024-01-01", "value": 1}]}', 400,
     "a name occurs twice in one object: send each column once"),
    ("rates", encode(), 422, "no rows: send at least one"),
    ("rates", encode({"kind": "shoe", "at": "2024-01-01"}), 422, "row 0: value: missing: send null if it is not known"),
    ("rates", encode({**RATES[0], "at": None}), 422, "row 0: at: not an ISO 8601 time, and never null"),
    ("rates", encode(RATES[0], {**RATES[1], "value": "high"}), 422,
     "row 1: value: not a number between -3.4e+38 and 3.4e+38"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "body", "status", "message"), REFUSED, ids=[one[3][:30] for one in REFUSED])
def test_fault_is_named_and_nothing_is_kept(
    release: Path, tmp_path: Path, table: str, body: bytes, status: int, message: str
) -> None:
    engine = open_engine(release, tmp_path)
    assert engine.fed is not None
    with pytest.raises(RequestError) as caught:
        engine.fed.add(table, body)
    assert (caught.value.status, caught.value.faults[0].message) == (status, message)
    assert not list(tmp_path.iterdir())


def test_rows_that_are_nested_too_deeply_to_be_read_are_refused(release: Path, tmp_path: Path) -> None:
    engine, messages = open_engine(release, tmp_path), set()
    assert engine.fed is not None
    for depth in range(500, 1000, 2):  # the parsers give up at different depths
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        try:
            engine.fed.add("rates", encode({**RATES[0], "other": 0}).replace(b'"other": 0', b'"other": ' + nested))
        except RequestError as error:
            messages.add((error.status, error.faults[0].message))
    assert (400, "the body is nested too deeply") in messages


def test_a_table_is_bounded(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fed_tables, "MOST_FED_ROWS", 10)
    engine = open_engine(release, tmp_path)
    feed(engine, "rates", *RATES[:8])
    with pytest.raises(RequestError, match="the table would have 11 rows, at most 10 are kept") as caught:
        feed(engine, "rates", *RATES[8:11])
    assert caught.value.status == 413


def test_damaged_lines_are_skipped_and_counted_and_a_removed_file_is_forgotten(release: Path, tmp_path: Path) -> None:
    feed(open_engine(release, tmp_path), "rates", *RATES)
    path = tmp_path / "tables" / "rates.jsonl"
    path.write_bytes(b'not json\n{"time": 1, "rows": [{"kind": 1}]}\n' + path.read_bytes() + b'{"torn')
    engine = open_engine(release, tmp_path)
    assert engine.fed is not None
    assert engine.fed.describe()["rates"]["damaged_lines"] == 2
    np.testing.assert_array_equal(predict(engine), bundle.load_release(release).predict(JOINED))
    path.unlink()
    engine.fed.refresh()
    assert engine.fed.describe()["rates"]["rows"] == 0


def test_rows_that_a_later_model_refuses_are_left_out_and_counted(release: Path, tmp_path: Path) -> None:
    path = tmp_path / "tables" / "rates.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps({"time": 1.0, "rows": [*RATES, {**RATES[0], "value": "high"}, 5]}) + "\n")
    engine = open_engine(release, tmp_path)
    assert engine.fed is not None
    told = engine.fed.describe()["rates"]
    assert (told["rows"], told["refused_rows"], told["damaged_lines"]) == (len(RATES), 2, 1)
    np.testing.assert_array_equal(predict(engine), bundle.load_release(release).predict(JOINED))


def test_rows_that_cannot_be_joined_are_counted_and_the_former_ones_go_on(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine(release, tmp_path)
    feed(engine, "rates", *RATES[:20])
    feed(open_engine(release, tmp_path), "rates", *RATES[20:])
    assert engine.fed is not None

    def refuse(main_table: object, table: str, rows: object) -> None:
        raise DataError("rows share their key")

    monkeypatch.setattr(MainTable, "with_rows", refuse)
    engine.fed.refresh()
    told = engine.fed.describe()["rates"]
    assert (told["rows"], told["failed_joins"]) == (20, 1)
    assert caplog.messages == ["the rows of the table rates cannot be joined: rows share their key"]


def test_a_file_is_bounded_in_bytes_also_if_its_rows_replace_each_other(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(release, tmp_path)
    feed(engine, "rates", *RATES[:8])
    size = (tmp_path / "tables" / "rates.jsonl").stat().st_size
    monkeypatch.setattr(fed_tables, "MOST_FED_BYTES", size + 10)
    with pytest.raises(RequestError) as caught:
        feed(engine, "rates", {**RATES[0], "unknown": "x" * 100})
    assert caught.value.status == 413
    assert caught.value.faults[0].message.endswith(
        f" bytes, at most {size + 10:,} are kept: remove tables/rates.jsonl from the service's folder first, and send "
        "the rows again that are still needed"
    )
    assert (tmp_path / "tables" / "rates.jsonl").stat().st_size == size


def test_a_file_that_was_emptied_or_replaced_is_read_from_its_start(release: Path, tmp_path: Path) -> None:
    engine, path = open_engine(release, tmp_path), tmp_path / "tables" / "rates.jsonl"
    assert engine.fed is not None
    feed(engine, "rates", *RATES[:5])
    first = path.read_bytes()
    path.write_bytes(b"")  # the same inode
    engine.fed.refresh()
    assert engine.fed.describe()["rates"]["rows"] == 0
    feed(engine, "rates", *RATES[:5])
    other = json.dumps({"time": 1.0, "rows": RATES}).encode() + b"\n"
    assert len(other) > len(first)
    path.write_bytes(other)
    engine.fed.refresh()
    told = engine.fed.describe()["rates"]
    assert (told["rows"], told["damaged_lines"]) == (len(RATES), 0)


def test_only_the_user_may_read_the_rows(release: Path, tmp_path: Path) -> None:
    feed(open_engine(release, tmp_path), "rates", *RATES[:1])
    assert (tmp_path / "tables" / "rates.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
@pytest.mark.xdist_group("service")
def test_running_service_joins_what_it_is_sent_also_with_another_model(tmp_path: Path, release: Path) -> None:
    other = write_shop_release(tmp_path / "other", columns=["customer", "price", "customer_city", "rate_value"])

    def ask_all(supervisor: Any, version: int) -> list[Any]:
        """Return what each of some new connections is answered, so that both workers are among them."""
        answers = [Client(get_port(supervisor)).ask("/predict", {"rows": ROWS}) for _ in range(12)]
        found = [json.loads(content) for _, content in answers]
        return [one.get("probabilities") if one.get("model", {}).get("version") == version else None for one in found]

    def check(supervisor: Any, version: int, folder: Path) -> None:
        expected = [{"0": row[0], "1": row[1]} for row in bundle.load_release(folder).predict(JOINED).tolist()]
        wait_for(lambda: all(one == expected for one in ask_all(supervisor, version)))

    with start(tmp_path, release, n_workers=2) as supervisor:
        client = Client(get_port(supervisor))
        assert client.ask("/predict", {"rows": ROWS})[0] == 422
        assert client.ask("/tables/rates", {"rows": RATES})[0] == 200
        check(supervisor, 1, release)
        assert json.loads(client.ask("/health")[1])["tables"]["rates"]["rows"] == len(RATES)
        assert supervisor.promote(make_pointer(other, 2))
        check(supervisor, 2, other)
