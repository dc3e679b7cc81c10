"""Every request that is not as the release declares is refused with each of its faults; all others are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labkit.features.arrays import MANY_TIMES
from labkit.model.release import bundle
from labkit.serving.engine import Engine, name_each, predict_each
from labkit.serving.requests import MOST_ROWS, RequestError, RowReader

from tests.model.tables import TASKS, make_new_rows
from tests.serving.running import PLAIN_COLUMNS, make_rows, open_engine

ROW = {"a b": 1.5, "a_b": 2, "größe": "rot", 'text, "x"': "x", "flag": True}


@pytest.fixture(scope="module", params=[(), PLAIN_COLUMNS], ids=["escaped names", "plain names"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_engine(tmp_path_factory.mktemp("release") / "r", columns=request.param)


def fit(body: bytes, engine: Engine) -> bytes:
    """Leave out the column that only one of both models has."""
    other = b', "text, \\"x\\"": "x"'
    return body.replace(other, b"") if engine.reader.is_plain else body


def refuse(engine: Engine, body: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        engine.reader.read(fit(body, engine))
    return caught.value


def encode(*rows: Any, **changes: Any) -> bytes:
    return json.dumps({"rows": list(rows) or [{**ROW, **changes}]}).encode()


def without(name: str) -> bytes:
    return encode({key: value for key, value in ROW.items() if key != name})


@pytest.mark.parametrize("columns", [(), PLAIN_COLUMNS], ids=["escaped names", "plain names"])
@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_of_the_release(tmp_path: Path, task: str, columns: tuple[str, ...]) -> None:
    engine = open_engine(tmp_path / "r", task, columns=columns)
    frame = make_new_rows().drop(index=[40])  # its number is above what a request may hold
    frame = frame[list(columns)] if columns else frame
    rows = engine.reader.read(json.dumps({"rows": make_rows(frame)}).encode())
    expected = bundle.load_release(tmp_path / "r").predict(frame)
    np.testing.assert_array_equal(engine.predict(engine.reader.make_columns(rows)), expected)
    together, _ = predict_each(engine, [rows[:1], rows[1:30], rows[30:]])
    np.testing.assert_array_equal(np.concatenate(together), expected)
    assert name_each(engine, together) == [engine.name_predictions(one) for one in together]


REFUSED = [
        (b"", 400, "the body is not JSON in UTF-8"),
        (b"nonsense", 400, "the body is not JSON in UTF-8"),
        (b"\xff\xfe", 400, "the body is not JSON in UTF-8"),
        (json.dumps({"rows": [ROW]}).encode("utf-16"), 400, "the body is not JSON in UTF-8"),
        (b"\xef\xbb\xbf" + encode(), 400, "the body is not JSON in UTF-8"),
        (b"[" * 100_000, 400, "the body is not JSON in UTF-8"),
        (encode().replace(b"1.5", b"NaN"), 400, "the body is not JSON in UTF-8"),
        (encode().replace(b"1.5", b"Infinity"), 400, "the body is not JSON in UTF-8"),
        (encode().replace(b"1.5", b"9" * 5000), 400, "the body is not JSON in UTF-8"),
        (b"null", 422, 'the body is not an object with "rows", a list of rows'),
        (b"[]", 422, 'the body is not an object with "rows", a list of rows'),
        (b"7", 422, 'the body is not an object with "rows", a list of rows'),
        (b"{}", 422, 'the body is not an object with "rows", a list of rows'),
        (b'{"rows": {}}', 422, 'the body is not an object with "rows", a list of rows'),
        (b'{"rows": [], "more": 1}', 422, 'the body has more than "rows": more'),
        (b'{"rows": []}', 422, "no rows: send at least one"),
        (b'{"rows": [1]}', 422, "row 0: not an object with the columns as names"),
        (b'{"rows": [[1, 2]]}', 422, "row 0: not an object with the columns as names"),
        (b'{"rows": [{}]}', 422, "row 0: a b: missing: send null if it is not known"),
        (without("größe"), 422, "row 0: größe: missing: send null if it is not known"),
        (encode({**ROW, "grösse": 1}), 422, "row 0: grösse: did you mean 'größe'?"),
        (encode(ROW, {**ROW, "__proto__": 1}), 422, "row 1: __proto__: known: a b, a_b, flag, größe, text, \"x\""),
        (encode(**{"a_b": "1"}), 422, "row 0: a_b: not a number between -3.4e+38 and 3.4e+38, and never null"),
        (encode(**{"a b": "one"}), 422, "row 0: a b: not a number between -3.4e+38 and 3.4e+38"),
        (encode(**{"a b": True}), 422, "row 0: a b: not a number between -3.4e+38 and 3.4e+38"),
        (encode(**{"a b": 1e39}), 422, "row 0: a b: not a number between -3.4e+38 and 3.4e+38"),
        (encode().replace(b"1.5", b"1e999"), 422, "row 0: a b: not a number between -3.4e+38 and 3.4e+38"),
        (encode(**{"a b": [1]}), 422, "row 0: a b: not a number between -3.4e+38 and 3.4e+38"),
        (encode(**{"a b": {}}), 422, "row 0: a b: not a number between -3.4e+38 and 3.4e+38"),
        (encode(a_b=None), 422, "row 0: a_b: not a number between -3.4e+38 and 3.4e+38, and never null"),
        (encode(größe=True), 422, "row 0: größe: not a string of at most 20,000 characters"),
        (encode(größe="\ud800"), 422, "row 0: größe: not a string of at most 20,000 characters"),
        (encode(größe="x" * 20_001), 422, "row 0: größe: not a string of at most 20,000 characters"),
        (encode(flag="yes"), 422, "row 0: flag: not true or false, and never null"),
        (encode().replace(b'"a_b"', b'"a_b": 1, "a_b"'), 400, "a name occurs twice in one object: send each column once"),
        (encode(**{"a b": None}, größe='":').replace(b'"a_b"', b'"a_b": 1, "a_b"'), 400, "a name occurs twice in one object: send each column once"),
        (encode(*[ROW] * (MOST_ROWS + 1)), 413, "10,001 rows: send at most 10,000 in one request"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), REFUSED, ids=range(len(REFUSED)))
def test_request_is_refused(engine: Engine, body: bytes, status: int, message: str) -> None:
    refusal = refuse(engine, body)
    known = message.replace(', text, "x"', "") if engine.reader.is_plain else message
    assert (refusal.status, refusal.faults[0].message) == (status, known)


def test_all_faults_are_named_and_no_value_is_repeated(engine: Engine) -> None:
    bad = {**ROW, "a_b": "<script>", "flag": "<script>"}
    refusal = refuse(engine, encode(ROW, bad, {**bad, "größe": 1.5})).to_dict()
    assert [(fault["row"], fault["column"]) for fault in refusal["faults"]] == [
        (1, "a_b"), (1, "flag"), (2, "a_b"), (2, "flag"),
    ]  # fmt: skip
    assert "<script>" not in json.dumps(refusal)


def test_many_faults_are_counted_and_some_shown(engine: Engine) -> None:
    refusal = refuse(engine, encode({**ROW, **{f"x{number}": 1 for number in range(20_000)}})).to_dict()
    assert (len(refusal["faults"]), refusal["n_faults"]) == (20, 20_000)


@pytest.mark.parametrize(
    "changes",
    [{"a b": None}, {"größe": None}, {"größe": 3}, {"größe": '":'}, {"flag": False}, {"a_b": 10**15}],
)
def test_request_is_read(engine: Engine, changes: dict[str, Any]) -> None:
    assert len(engine.reader.read(fit(encode(**changes), engine))) == 1
    spaced = json.dumps(json.loads(fit(encode(**changes), engine)), indent=3).encode()
    assert len(engine.reader.read(spaced)) == 1


def test_unusual_values_are_counted(engine: Engine) -> None:
    rows = engine.reader.read(fit(encode({**ROW, "a b": None, "größe": None}, {**ROW, "a_b": -6000.0}), engine))
    columns = engine.reader.make_columns(rows)
    assert (columns.n_missing, columns.n_outside) == (2, 1)


AGREED = {"age": {"nullable": True, "greater_than_or_equal_to": 18, "less_than_or_equal_to": 99}}


def make_mixed_rows(n_rows: int) -> list[dict[str, Any]]:
    """Return rows with missing values and numbers outside the range of `AGREED`."""
    return [
        {
            "at": None if number % 7 == 3 else f"2024-02-{1 + number % 29:02}T10:00:00Z",
            "age": None if number % 5 == 2 else 17.0 + number % 90,
            "city": ("Bonn", "", None, "Köln")[number % 4],
            "height": 1.5 + number / 8,
        }
        for number in range(n_rows)
    ]


@pytest.mark.parametrize("n_rows", [1, 2, MANY_TIMES + 9, 1000])
def test_rows_together_are_the_columns_of_each_alone(n_rows: int) -> None:
    reader = RowReader({"at": "time", "age": "number", "city": "category", "height": "number"}, AGREED)
    content = make_mixed_rows(n_rows)
    rows = reader.read(json.dumps({"rows": content}).encode())
    together, alone = reader.make_columns(rows), [reader.make_columns([row]) for row in rows]
    for name, values in together.values.items():
        np.testing.assert_array_equal(values, np.concatenate([one.values[name] for one in alone]))
        expected = [np.nan if row[name] is None and name == "age" else row[name] for row in content]
        np.testing.assert_array_equal(values, np.array(expected, values.dtype))
    ages = [row["age"] for row in content if row["age"] is not None]
    assert together.n_missing == sum(value is None for row in content for value in row.values())
    assert together.n_outside == sum(not 18 <= age <= 99 for age in ages)


def test_no_rows_and_no_numbers_make_columns() -> None:
    reader = RowReader({"city": "category", "at": "time"}, {})
    assert reader.make_columns([]).values["at"].shape == (0,)
    found = reader.make_columns(reader.read(b'{"rows": [{"city": "Bonn", "at": null}, {"city": null, "at": null}]}'))
    assert (found.n_missing, found.n_outside, found.values["city"].tolist()) == (3, 0, ["Bonn", None])


def test_each_time_that_is_none_is_named_among_many_rows() -> None:
    reader = RowReader({"at": "time", "age": "number"}, {})
    content = [{"at": "2024-02-29T10:00:00Z", "age": 1}] * (2 * MANY_TIMES)
    content[3], content[-1] = {"at": "yesterday", "age": 1}, {"at": "2023-02-29T10:00:00Z", "age": None}
    with pytest.raises(RequestError) as caught:
        reader.read(json.dumps({"rows": content}).encode())
    assert caught.value.status == 422
    assert [fault.message for fault in caught.value.faults] == [
        "row 3: at: not an ISO 8601 time",
        f"row {2 * MANY_TIMES - 1}: at: not an ISO 8601 time",
    ]
