"""Whatever is sent to a service, it answers or refuses: no server error, nothing of the machine, and the fault is named.

Bodies are valid ones, changed at random places with a fixed seed. `benchmarks/fuzz_service.py` sends many more.
"""

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labkit.serving.access import Access
from labkit.serving.app import Service
from labkit.serving.board import Board
from labkit.serving.following import load_pointed
from labkit.serving.routes import make_routes
from labkit.serving.settings import FEEDBACK, LOOPBACK, Settings

from tests.model.tables import make_new_rows
from tests.serving.running import make_pointer, make_rows, write_release
from tests.serving.shop_release import TABLES, list_orders, make_orders, write_shop_release

LEAKS = ("Traceback", "site-packages", ".py", "/tmp/", "/home/", "/root/", "/usr/lib", "msgspec", "numpy")
ODD: list[Any] = [
    None, True, 0, -1, 1e308, 10**400, 1.5, "", "x", "NaN", "1", "\ud800", "\0", "<script>", "é" * 300, "x" * 30_000, [],
    [[]], {}, {"a": 1}, [None], "2024-02-30", "2024-01-01T00:00:00+99:00", "0001-01-01", "9999-12-31T23:59:59.999999Z",
]  # fmt: skip
NAMES = ("new", "__proto__", "", "\ud800", "x" * 3000, "true")
KINDS = (b"application/json", b"application/json", b"application/json", b"text/csv", b"text/plain", b"")
N_REQUESTS = 250
"""To each path."""


def list_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container within a body, with a key or index of it."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from list_places(value[key])


def change(valid: Any, draw: random.Random) -> bytes:
    """Return a body with one to three faults."""
    body = copy.deepcopy(valid)
    for _ in range(draw.randint(1, 3)):
        places = list(list_places(body))
        if not places:
            break
        container, key = draw.choice(places)
        match draw.randrange(4):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[draw.choice(NAMES)] = copy.deepcopy(draw.choice(ODD))
            case 2 if isinstance(container, list):
                container += copy.deepcopy([container[key]]) * draw.choice([1, 30])
            case _:
                container[key] = copy.deepcopy(draw.choice(ODD))
    sent = json.dumps(body).encode()
    match draw.randrange(12):
        case 0:
            return sent[: draw.randrange(len(sent) + 1)]
        case 1:
            place = draw.randrange(len(sent))
            return sent[:place] + bytes([draw.randrange(256)]) + sent[place + 1 :]
        case 2:
            return draw.choice(
                [b"", b"null", b"[" * 100_000, b"\xff\xfe", b"a,b\n1,2\n", sent.replace(b"{", b'{"a":1,"a":2,')]
            )
    return sent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def open_service(folder: Path, release: Path) -> Service:
    (run_dir := folder / "run").mkdir(parents=True)
    settings = Settings("shop", str(run_dir), None, str(folder / FEEDBACK), 1, LOOPBACK)
    engine = load_pointed(make_pointer(release, 1), settings.state_dir)
    board = Board(settings.board_path, n_workers=1)
    service = Service(settings, engine, board, 0, access=Access(LOOPBACK, None), log=None)
    service.others = make_routes(service)
    return service


def make_bodies(name: str) -> dict[str, Any]:
    """Return a valid body for each path."""
    feedback = {"values": [{"id": "a-0", "true": 1}, {"id": "a-1", "true": "yes"}]}
    if name == "plain":
        rows = make_rows(make_new_rows().head(3))
        split = {"columns": [*rows[0]], "data": [[*row.values()] for row in rows]}
        return {"/predict": {"rows": rows}, "/explain": {"rows": rows[:1]}, "/feedback": feedback,
                "/invocations": {"dataframe_split": split}}  # fmt: skip
    orders = list_orders(make_orders(3)[0])
    outcomes = [
        {"id": f"o{n}", "row": row, "true": 1, "known_at": "2030-01-01T00:00:00Z"} for n, row in enumerate(orders)
    ]
    rates, customers = (list_orders(TABLES[table].head(3)) for table in ("rates", "customers"))
    return {"/tables/rates": {"rows": rates}, "/tables/customers": {"rows": customers}, "/predict": {"rows": orders},
            "/outcomes": {"outcomes": outcomes}, "/invocations": {"dataframe_records": orders}}  # fmt: skip


def find_fault(status: int, content: bytes) -> str:
    """Return what is wrong with a response; empty if nothing is."""
    if status == 200:
        return ""
    if not 400 <= status < 500:
        return "not a refusal"
    text = content.decode()
    if leaks := [word for word in LEAKS if word in text]:
        return f"names {leaks[0]}"
    refusal = json.loads(text)
    names = ("row", "body", "values", "outcomes", "dataframe_", "column", "inputs", "send ", "tables", "background")
    if len(text) > 20_000 or refusal["n_faults"] < 1 or not any(name in refusal["error"] for name in names):
        return "does not say what is wrong"
    first = refusal["faults"][0]
    is_named = status != 422 or {"row", "column"} & {*first} or first["message"].startswith(("the body", "no rows"))
    return "" if is_named else "names no field"


@pytest.mark.parametrize("name", ["plain", "joined"])
def test_nothing_that_is_sent_makes_the_service_fail(name: str, folder: Path) -> None:
    release = (write_release if name == "plain" else write_shop_release)(folder / name / "release")
    service, draw, counts = open_service(folder / name, release), random.Random(20261130), Counter[int]()

    async def ask(path: str, body: bytes, kind: bytes) -> tuple[int, bytes]:
        headers = [(b"host", b"localhost"), (b"content-type", kind)]
        scope = {
            "type": "http",
            "path": path,
            "method": "POST",
            "headers": headers,
            "query_string": b"",
            "root_path": "",
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await service(scope, receive, send)
        return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])

    async def ask_all() -> None:
        for path, valid in make_bodies(name).items():
            status, content = await ask(path, json.dumps(valid).encode(), KINDS[0])
            assert status == 200, (path, content)
            for _ in range(N_REQUESTS):
                body, kind = change(valid, draw), draw.choice(KINDS) if draw.random() < 0.1 else KINDS[0]
                status, content = await ask(path, body, kind)
                counts[status] += 1
                assert find_fault(status, content) == "", (path, status, content[:500], body[:2000])

    asyncio.run(ask_all())
    assert {200, 400, 415, 422} <= {*counts}
    assert counts[422] > N_REQUESTS
