"""The service of one worker, without a process: between requests it follows releases and joins the rows of tables."""

import asyncio
import json
import threading
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from labkit.serving.access import Access
from labkit.serving.app import Service
from labkit.serving.board import ANNOUNCED, CURRENT, SEEN, Board
from labkit.serving.challenger_state import ChallengerState
from labkit.serving.following import load_pointed
from labkit.serving.main_rows import MainRows
from labkit.serving.prediction_log import PredictionLog, iterate_lines
from labkit.serving.routes import make_routes
from labkit.serving.settings import FEEDBACK, LOOPBACK, Settings

from tests.serving.running import make_pointer
from tests.serving.shop_release import TABLES, feed, list_orders, make_orders, write_shop_release

RATES = list_orders(TABLES["rates"])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop_release(tmp_path_factory.mktemp("shop") / "release")


@pytest.fixture
def service(tmp_path: Path, release: Path) -> Service:
    """Return a worker's service whose champion has generation 1."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    settings = Settings("shop", str(run_dir), None, str(tmp_path / FEEDBACK), 1, LOOPBACK, canary_percent=10)
    board = Board(settings.board_path, n_workers=1)
    board.words[CURRENT] = board.words[ANNOUNCED] = 1
    engine = load_pointed(make_pointer(release, 1), settings.state_dir)
    return Service(settings, engine, board, 0, access=Access(LOOPBACK, None), log=None)


def watch_until(service: Service, *steps: Callable[[], Any]) -> None:
    """Let the service watch until each of some conditions has held, one after the other."""

    async def run() -> None:
        watching = asyncio.ensure_future(service.watch())
        for step in steps:
            async with asyncio.timeout(20):
                while not await asyncio.to_thread(step):
                    await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(run())


def announce(service: Service, release: Path, generation: int) -> bool:
    make_pointer(release, generation).save(Path(service.settings.folder) / "next.json")
    service.board.words[ANNOUNCED] = generation
    return True


def count_rates(service: Service, generation: int) -> int:
    fed = service.champion.prepared[generation].fed
    assert fed is not None
    return int(fed.describe()["rates"]["rows"])


def put_in_force(service: Service, generation: int) -> bool:
    service.board.words[CURRENT] = generation
    return True


def test_rows_reach_a_model_before_and_after_it_is_in_force_without_a_request(service: Service, release: Path) -> None:
    other = load_pointed(make_pointer(release, 9), service.settings.state_dir)
    watch_until(
        service,
        lambda: announce(service, release, 2),
        lambda: 2 in service.champion.prepared,
        lambda: feed(other, "rates", *RATES[:5]),
        lambda: count_rates(service, 2) == 5,
        lambda: put_in_force(service, 2),
        lambda: service.board.slots[0, SEEN] == 2,
        lambda: feed(other, "rates", *RATES),
        lambda: count_rates(service, 2) == len(RATES),
    )
    assert service.engine.generation == 2  # what a challenger is compared with


def test_rows_are_joined_while_a_model_is_loaded(service: Service, release: Path) -> None:
    other, is_seen = load_pointed(make_pointer(release, 9), service.settings.state_dir), threading.Event()

    def load(pointer: object) -> Any:
        assert is_seen.wait(30)
        return other

    service.champion.load = load
    watch_until(
        service,
        lambda: announce(service, release, 2),
        lambda: service.champion.tried == 2,
        lambda: feed(other, "rates", *RATES),
        lambda: count_rates(service, 1) == len(RATES),
        lambda: is_seen.set() or True,
    )


def test_only_the_model_in_force_and_the_newest_stay_in_memory(service: Service, release: Path) -> None:
    for generation in (2, 3):
        announce(service, release, generation)
        service.champion.prepare()
    assert sorted(service.champion.prepared) == [1, 3]


def ask(service: Service, path: str, *, body: bytes = b"", headers: dict[bytes, bytes] | None = None) -> Any:
    """Return the decoded response to a request."""
    return asyncio.run(ask_beside_others(service, path, body=body, headers=headers))


async def ask_beside_others(
    service: Service, path: str, *, body: bytes = b"", headers: dict[bytes, bytes] | None = None
) -> Any:
    """As `ask`, in a running event loop."""
    given = {b"host": b"localhost", b"content-type": b"application/json", **(headers or {})}
    method = "POST" if body else "GET"
    scope = {
        "type": "http", "path": path, "method": method, "headers": list(given.items()), "query_string": b"",
        "root_path": "",
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    service.others = make_routes(service)
    await service(scope, receive, send)
    return json.loads(sent[1]["body"])


def test_health_shows_what_is_known_of_the_data_only_to_those_with_the_token(service: Service) -> None:
    reason = "requests to the champion do not fit the challenger: row 0: income: missing"
    ChallengerState("refused", 2, reason=reason).save(Path(service.settings.folder))
    open_to_all = ask(service, "/health")
    assert (open_to_all["tables"].keys(), open_to_all["challenger"]["reason"]) == (TABLES.keys() - {"orders"}, reason)
    service.access = Access(LOOPBACK, "secret")
    assert ask(service, "/health", headers={b"authorization": b"Bearer secret"}) == open_to_all
    for headers in ({}, {b"authorization": b"Bearer other"}):
        told = ask(service, "/health", headers=headers)
        assert (told["tables"], told["challenger"]["reason"]) == (None, None)
        assert (told["live"], told["model"], told["challenger"]["state"]) == (True, open_to_all["model"], "refused")


def test_many_rows_of_the_main_table_are_joined_beside_other_requests(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(service.engine, "rates", *RATES)
    threads: list[int] = []
    plain = MainRows.convert

    def convert(reader: MainRows, rows: Any) -> Any:
        threads.append(threading.get_ident())
        return plain(reader, rows)

    monkeypatch.setattr(MainRows, "convert", convert)
    rows = list_orders(make_orders(400)[0])
    for path, body in {"/predict": {"rows": rows}, "/invocations": {"dataframe_records": rows}}.items():
        assert len(ask(service, path, body=json.dumps(body).encode())["predictions"]) == 400
    assert "has no background rows" in str(ask(service, "/explain", body=json.dumps({"rows": rows}).encode()))
    assert len(ask(service, "/predict", body=json.dumps({"rows": rows[:2]}).encode())["predictions"]) == 2
    assert [one == threading.get_ident() for one in threads] == [False, False, False, True]


def test_failing_canary_is_logged_once_for_each_version_and_its_rows_are_counted_once(
    service: Service, release: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    feed(service.engine, "rates", *RATES)
    assert service.canary is not None
    challenger = load_pointed(make_pointer(release, 2))
    service.canary.follower.engine = challenger
    monkeypatch.setattr(service.canary.follower, "follow", lambda: challenger)
    monkeypatch.setattr(type(service.canary), "takes", lambda *_: True)
    object.__setattr__(challenger, "opened", SimpleNamespace(predict_columns=lambda values: np.full((2, 2), np.nan)))
    body = json.dumps({"rows": list_orders(make_orders()[0])[:2]}).encode()
    for _ in range(2):
        assert ask(service, "/predict", body=body)["model"]["version"] == 1
    counts = service.board.sum_counts()
    assert (counts["canary_refused"], counts["rows"]) == (4, 4)
    assert caplog.messages == [
        "version 2 failed as canary, and the champion answered: predicts numbers that are not finite"
    ]


def test_only_the_user_may_read_true_values(service: Service) -> None:
    assert ask(service, "/feedback", body=b'{"values": [{"id": "a-0", "true": 1}]}') == {"recorded": 1}
    assert Path(service.settings.feedback_path).stat().st_mode & 0o777 == 0o600


def test_interface_names_the_tables_and_columns_of_the_model(service: Service) -> None:
    paths = ask(service, "/openapi.json")["paths"]
    table = paths["/tables/{table}"]["post"]
    assert table["parameters"][0]["schema"]["enum"] == ["customers", "regions", "rates"]
    body = table["requestBody"]["content"]["application/json"]["schema"]
    rates = body["properties"]["rows"]["items"]["anyOf"][2]
    assert (rates["required"], rates["additionalProperties"]) == ([*RATES[0]], True)
    assert {"type": "string", "maxLength": 64, "format": "date-time"} in rates["properties"]["at"].get(
        "anyOf", [rates["properties"]["at"]]
    )
    outcome = paths["/outcomes"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    row = outcome["properties"]["outcomes"]["items"]["properties"]["row"]
    predicted = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert row["anyOf"] == [form["properties"]["rows"]["items"] for form in predicted]
    assert paths["/feedback"]["post"]["responses"].keys() >= {"400", "413", "415", "422"}


def test_feedback_names_the_fault(service: Service) -> None:
    values = [{"id": "a-0", "true": 1}, {"id": "", "true": 1}]
    refusal = ask(service, "/feedback", body=json.dumps({"values": values}).encode())
    assert (refusal["faults"][0]["row"], refusal["faults"][0]["column"]) == (1, "id")
    assert refusal["error"].startswith('row 1: id: expected str of length >= 1: send {"values": [{"id": "…"')
    assert ask(service, "/feedback", body=b'{"values": [')["error"] == "the body is not JSON in UTF-8"
    surrogate = json.dumps({"rows": [{"\ud800": 1}]}).encode()
    assert "\\ud800: known: " in ask(service, "/predict", body=surrogate)["error"]


def test_requests_of_one_moment_are_logged_each_with_its_own_rows_until_the_log_closes(
    service: Service, tmp_path: Path
) -> None:
    feed(service.engine, "rates", *RATES)
    orders = list_orders(make_orders(9)[0])
    bodies = [json.dumps({"rows": rows}).encode() for rows in (orders[:1], orders[1:5], orders[5:])]
    service.log = PredictionLog(tmp_path / "log", worker=0, counter=service.counter)

    async def ask_all() -> list[Any]:
        found = await asyncio.gather(*[ask_beside_others(service, "/predict", body=body) for body in bodies[:2]])
        found.append(await ask_beside_others(service, "/predict", body=bodies[2]))
        service.log.close()  # as when the process is told to stop, at once
        return found

    answers, logged = asyncio.run(ask_all()), [*iterate_lines(tmp_path / "log")]
    expected = {
        f"{answer['id']}-{number}": (predicted, probabilities, answer["model"]["digest"])
        for answer in answers
        for number, (predicted, probabilities) in enumerate(
            zip(answer["predictions"], answer.get("probabilities") or repeat(None), strict=False)
        )
    }
    assert {line["id"]: (line["prediction"], line.get("probabilities"), line["digest"]) for line in logged} == expected
    assert len(logged) == len(orders) == service.board.sum_counts()["log_rows"]
    alone = [ask(service, "/predict", body=body)["predictions"] for body in bodies]
    assert [answer["predictions"] for answer in answers] == alone
