"""MLflow's scoring protocol gives the same rows in each of its forms."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from labkit.serving.engine import Engine
from labkit.serving.invocations import read_invocation
from labkit.serving.requests import RequestError

from tests.serving.running import open_engine

ROWS = [
    {"a b": 1.5, "a_b": 2, "größe": "rot", 'text, "x"': "x", "flag": True},
    {"a b": None, "a_b": 3.5, "größe": "3", 'text, "x"': "y", "flag": False},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
SPLIT = {"columns": list(COLUMNS), "data": [list(row.values()) for row in ROWS]}
CSV = 'a b,a_b,größe,"text, ""x""",flag,more\n1.5,2,rot,x,TRUE,1\n,3.5,3,y,no,2\n'


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_engine(tmp_path_factory.mktemp("release") / "r")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"dataframe_split": SPLIT}, "application/json"),
        ({"dataframe_split": {**SPLIT, "index": [0, 1]}, "params": {}}, "application/json; charset=utf-8"),
        ({"dataframe_records": ROWS}, "application/json"),
        ({"dataframe_records": [{**row, "more": 1} for row in ROWS]}, "application/json"),
        (json.dumps({"dataframe_records": ROWS}).replace("null", "NaN"), "application/json"),
        ({"instances": ROWS}, "application/json"),
        ({"inputs": COLUMNS}, "application/json"),
        ({"inputs": ROWS}, "application/json"),
        (CSV, "text/csv"),
    ],
)
def test_forms_give_the_same_rows(engine: Engine, body: Any, kind: str) -> None:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    read = [tuple(msgspec.structs.astuple(row)) for row in read_invocation(content, kind, engine)]
    assert read == [tuple(row.values()) for row in ROWS]


def test_column_that_may_be_missing_may_be_absent(engine: Engine) -> None:
    body = json.dumps({"instances": [{"a_b": 1, 'text, "x"': "x", "flag": True}]}).encode()
    (row,) = read_invocation(body, "application/json", engine)
    assert msgspec.structs.astuple(row) == (None, 1.0, None, "x", True)


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"{}", "text/plain", 415, "send application/json or text/csv"),
        (b"{", "application/json", 400, "the body is not JSON in UTF-8"),
        (b"{}", "application/json", 400, "the body is not an object with one of dataframe_split, dataframe_records"),
        (b'{"instances": [], "inputs": []}', "application/json", 400, "the body is not an object with one of"),
        (b'{"instances": [], "more": []}', "application/json", 400, "the body is not an object with one of"),
        (b'{"instances": [{"a": Infinity}]}', "application/json", 400, "the body is not JSON in UTF-8"),
        (b'{"instances": []}', "application/json", 400, "no rows: send at least one"),
        (b'{"instances": [1]}', "application/json", 400, "instances: not a list of rows with the columns as names"),
        (b'{"instances": [{}]}', "application/json", 400, "row 0: a_b: missing: send null if it is not known"),
        (b'{"inputs": {"a": [1], "b": [1, 2]}}', "application/json", 400, "inputs: its columns are not of one length"),
        (b'{"dataframe_split": []}', "application/json", 400, "dataframe_split: not an object with the lists"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[]]}}', "application/json", 400, "row 0: not a list of 1"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": []}}', "application/json", 400, "dataframe_split: a col"),
        (b"", "text/csv", 400, "no rows: send at least one"),
        (b"a,b\n1\n", "text/csv", 400, "row 0: 1 cells, the header has 2"),
        (b"a,a\n1,2\n", "text/csv", 400, "a column is named twice"),
        (b"\xff", "text/csv", 400, "the body is not CSV in UTF-8"),
        (json.dumps({"instances": [{**ROWS[0], "größe": "\ud800"}]}).encode(), "application/json", 400, "row 0: größe: not"),
        (CSV.replace("2,rot", "nan,rot").encode(), "text/csv", 400, "row 0: a_b: not a number between"),
    ],
)  # fmt: skip
def test_request_is_refused(engine: Engine, body: bytes, kind: str, status: int, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_invocation(body, kind, engine)
    assert caught.value.status == status
    assert caught.value.faults[0].message.startswith(message)


def test_release_is_loaded_with_its_digest_only(tmp_path: Path) -> None:
    open_engine(tmp_path / "r")
    (tmp_path / "r" / "MODEL_CARD.md").write_text("another")
    from labkit.errors import ModelError
    from labkit.serving.engine import load_engine

    with pytest.raises(ModelError, match=r"MODEL_CARD\.md: changed since it was released"):
        load_engine(tmp_path / "r", digest=None, version=1)
