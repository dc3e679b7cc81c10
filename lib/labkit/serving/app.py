"""The service as an ASGI application.

`POST /predict` is answered here, without a framework in between, because it has to be fast; all other paths belong to
FastAPI, see `labkit.serving.routes`. Requests that arrive in one turn of the event loop are predicted together, which
delays none of them.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from labkit.errors import DataError, LabkitError, ModelError
from labkit.serving.access import Access
from labkit.serving.board import CHALLENGER_SEAT, CHAMPION_SEAT, Board, Counter
from labkit.serving.canary import KEY_HEADER, Canary, check_challenger
from labkit.serving.engine import Engine, name_each, predict_each
from labkit.serving.following import Follower, load_pointed
from labkit.serving.prediction_log import CANARY, PredictionLog
from labkit.serving.requests import Columns, Fault, RequestError
from labkit.serving.settings import Pointer, Settings

MOST_INLINE_ROWS = 64
"""Rows above this number are predicted in a thread, so that other requests do not wait for them."""
MOST_INLINE_BYTES = 16 * 1024
"""Bodies above this size, about as many rows, are read in a thread if rows may have to be joined."""
FED_SECONDS = 0.2
"""Time between two looks for rows of joined tables and outcomes that other workers were sent."""
JSON = b"application/json"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass
class Waiting:
    """The rows of a request that wait to be predicted."""

    engine: Engine
    rows: Sequence[Any]
    is_canary: bool = False
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    done: "asyncio.Future[dict[str, Any]]" = field(init=False)

    def __post_init__(self) -> None:
        self.done = self.loop.create_future()

    def settle(self, result: dict[str, Any] | Exception) -> None:
        """Hand out the result, unless the client has gone."""
        if self.done.done():
            return
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class Service:
    """The ASGI application of one worker process.

    Parameters
    ----------
    engine
        The model in force when the worker starts.
    board, worker
        The words that the processes share, and the number of this one.
    log
        None for no log of predictions.
    """

    def __init__(
        self, settings: Settings, engine: Engine, board: Board, worker: int, *, access: Access,
        log: PredictionLog | None,
    ) -> None:  # fmt: skip
        self.settings, self.engine, self.board, self.worker = settings, engine, board, worker
        self.access, self.log, self.counter = access, log, Counter(board, worker)
        folder = Path(settings.folder)
        load = partial(load_pointed, state_dir=settings.state_dir)
        self.champion = Follower(CHAMPION_SEAT, board, worker, folder, engine=engine, load=load)
        self.canary: Canary | None = None
        if settings.canary_percent:
            challenger = Follower(CHALLENGER_SEAT, board, worker, folder, load=self.load_challenger)
            self.canary = Canary(challenger, settings.canary_percent, settings.canary_key)
        self.waiting: list[Waiting] = []
        self.tasks: set[asyncio.Future[None]] = set()
        self.failed: set[int] = set()
        self.thread = threading.get_ident()
        self.encoder = msgspec.json.Encoder()
        self.is_stopping = False
        self.others: Callable[[Scope, Receive, Send], Awaitable[None]] = refuse_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        try:
            self.access.check(scope["path"], dict(scope["headers"]))
            if scope["path"] == "/predict":
                check_method(scope, "POST")
                status, content = 200, await self.predict(scope, receive)
            else:
                await self.others(scope, receive, self.count_status(send, started))
                return
        except RequestError as error:
            status, content = error.status, self.encoder.encode(error.to_dict())
        except Exception:  # the client learns no more than that; the log of the process has the rest
            logging.getLogger(__name__).exception("a request failed")
            status, content = 500, b'{"error":"the service failed; its log says why"}'
        await respond(send, status, content, is_closing=self.is_stopping or status in (408, 413))
        self.counter.add_request(status, time.perf_counter() - started)

    def count_status(self, send: Send, started: float) -> Send:
        """Return a `send` that also counts the response."""

        async def count_and_send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.counter.add_request(message["status"], time.perf_counter() - started)
            await send(message)

        return count_and_send

    def follow(self) -> Engine:
        """Return the champion in force, which changes when the supervisor says so."""
        self.engine = self.champion.follow() or self.engine
        return self.engine

    def load_challenger(self, pointer: Pointer) -> Engine:
        """Load a challenger, and refuse one that does not take what the champion takes."""
        challenger = load_pointed(pointer, self.settings.state_dir)
        check_challenger(self.engine, challenger)
        return challenger

    async def predict(self, scope: Scope, receive: Receive) -> bytes:
        """Return the response to a request in labkit's own form."""
        check_json(scope)
        body = await read_body(scope, receive, most_bytes=self.settings.most_body_bytes)
        engine = self.follow()
        rows = await self.read(engine, engine.read, body)
        return await self.answer(engine, rows, key=get_header(scope, KEY_HEADER))

    async def read(self, engine: Engine, read: Callable[[bytes], Sequence[Any]], body: bytes) -> Sequence[Any]:
        """Return the rows that a function reads from a body, in a thread if there may be many to join."""
        if engine.main_rows is not None and len(body) > MOST_INLINE_BYTES:
            return await asyncio.to_thread(read, body)
        return read(body)

    async def answer(self, engine: Engine, rows: Sequence[Any], *, key: bytes = b"") -> bytes:
        """Predict rows with the champion, or with its challenger if that takes them; log them; return the response.

        Parameters
        ----------
        key
            What the client named as the key of the request, see `labkit.serving.canary`; empty if it named nothing.
        """
        scored = await self.try_challenger(engine, rows, key) if self.canary is not None else None
        role = None if scored is None else CANARY
        engine, rows, named = scored or (engine, rows, await self.score(engine, rows))
        model, id = engine.describe(), os.urandom(10).hex()
        if self.log is not None:
            self.log.add(id, engine.reader.name_rows(rows), named, model, role=role)
        return self.encoder.encode({"id": id, "model": model, **named})

    async def try_challenger(
        self, champion: Engine, rows: Sequence[Any], key: bytes
    ) -> tuple[Engine, Sequence[Any], dict[str, Any]] | None:
        """Return the challenger, the rows as it takes them and its predictions; None if the champion is to answer."""
        try:
            routed = self.canary.route(champion, rows, key) if self.canary is not None else None
            if routed is None:
                return None
            named = await self.score(*routed, is_canary=True)
        except Exception as error:  # whatever is wrong with the challenger, the client gets the champion's answer
            self.counter.add("canary_refused", len(rows))
            self.log_failure(error)
            return None
        self.counter.add("canary_rows", len(rows))
        return *routed, named

    def log_failure(self, error: Exception) -> None:
        """Log the first failure of each challenger."""
        challenger = None if self.canary is None else self.canary.follower.engine
        if challenger is not None and challenger.generation not in self.failed:
            self.failed.add(challenger.generation)
            failed = f"version {challenger.version} failed as canary, and the champion answered"
            logging.getLogger(__name__).warning("%s: %s", failed, error)

    async def score(self, engine: Engine, rows: Sequence[Any], *, is_canary: bool = False) -> dict[str, Any]:
        """Predict rows together with those of other requests of this turn of the event loop, and name the predictions.

        Parameters
        ----------
        is_canary
            Whether a challenger predicts them, whose failures the champion makes good.

        Raises
        ------
        RequestError
            422 if a value cannot be used.
        """
        waiting = Waiting(engine, rows, is_canary=is_canary)
        self.waiting.append(waiting)
        if len(self.waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)
        try:
            return await waiting.done
        except DataError as error:
            raise RequestError(422, Fault(str(error))) from error

    def flush(self) -> None:
        """Predict all that is waiting, with the engine by which each request was read."""
        waiting, self.waiting = self.waiting, []
        for engine in {id(one.engine): one.engine for one in waiting}.values():
            group = [one for one in waiting if one.engine is engine]
            if sum(len(one.rows) for one in group) <= MOST_INLINE_ROWS:
                self.predict_group(engine, group)
            else:
                task = asyncio.ensure_future(asyncio.to_thread(self.predict_group, engine, group))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    def predict_group(self, engine: Engine, group: list[Waiting]) -> None:
        """Predict the rows of several requests and hand out the results, from any thread."""
        try:
            predicted, columns = predict_each(engine, [one.rows for one in group])
            if group[0].is_canary:  # what it cannot predict, the champion predicts, and counts
                predicted = [check_finite(one) for one in predicted]
                counted = [
                    one.rows for one, result in zip(group, predicted, strict=True) if isinstance(result, np.ndarray)
                ]
                columns = engine.reader.make_columns([row for rows in counted for row in rows])
            named = iter(name_each(engine, [one for one in predicted if isinstance(one, np.ndarray)]))
        except Exception as error:  # a fault of the model must not leave requests without a response
            for one in group:
                one.loop.call_soon_threadsafe(one.settle, error)
            return
        self.count(engine, columns)
        is_here = threading.get_ident() == self.thread
        for one, result in zip(group, predicted, strict=True):
            settled = result if isinstance(result, Exception) else next(named)
            if is_here:
                one.settle(settled)
            else:
                one.loop.call_soon_threadsafe(one.settle, settled)

    def count(self, engine: Engine, columns: Columns) -> None:
        """Count the values of predicted rows."""
        n_rows = len(next(iter(columns.values.values())))
        self.counter.add_all({
            "rows": n_rows, "values": n_rows * len(columns.values), "numbers": n_rows * len(engine.reader.numbers),
            "missing_values": columns.n_missing, "outside_range": columns.n_outside,
        })  # fmt: skip

    async def watch(self) -> None:
        """Load each release that the supervisor announces, and follow it, also while no request comes."""
        followers = [self.champion, *([self.canary.follower] if self.canary is not None else [])]
        refreshing = asyncio.ensure_future(self.refresh_fed(followers))  # beside it: a release may take long to load
        try:
            while True:
                for follower in followers:
                    if follower.is_behind():
                        await asyncio.to_thread(follower.prepare)
                    follower.follow()
                    self.follow()  # before a challenger is compared with the champion
                await asyncio.sleep(0.02)
        finally:
            refreshing.cancel()

    async def refresh_fed(self, followers: Sequence[Follower]) -> None:
        """Use what other workers were sent, also for a model that is not yet in force."""
        while True:
            for engine in [engine for follower in followers for engine in list(follower.prepared.values())]:
                try:
                    await asyncio.to_thread(engine.refresh)
                except Exception:  # such as a broken disk: what is known so far goes on
                    logging.getLogger(__name__).exception("rows of joined tables or outcomes could not be read")
            await asyncio.sleep(FED_SECONDS)


def check_finite(predicted: np.ndarray | LabkitError) -> np.ndarray | LabkitError:
    """Return predictions, or what is wrong with them."""
    if isinstance(predicted, np.ndarray) and not np.isfinite(predicted).all():
        return ModelError("predicts numbers that are not finite")
    return predicted


async def refuse_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 404: there is nothing but `/predict`."""
    await respond(send, 404, b'{"error":"no such path"}', is_closing=False)


def get_header(scope: Scope, name: bytes) -> bytes:
    """Return a header of a request; empty if it is absent."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def check_method(scope: Scope, method: str) -> None:
    """Refuse another method."""
    if scope["method"] != method:
        raise RequestError(405, Fault(f"this path takes {method}: see /docs"))


def check_json(scope: Scope) -> None:
    """Refuse a body that is compressed, or is declared as something else than JSON in UTF-8."""
    kind, _, options = get_header(scope, b"content-type").lower().partition(b";")
    charset = options.strip().replace(b'"', b"")
    if kind.strip() != JSON or charset not in (b"", b"charset=utf-8"):
        raise RequestError(415, Fault("send JSON in UTF-8, with content-type: application/json"))
    if get_header(scope, b"content-encoding") not in (b"", b"identity"):
        raise RequestError(415, Fault("send the body without compression"))


async def read_body(scope: Scope, receive: Receive, *, most_bytes: int) -> bytes:
    """Return the body of a request; refuse one that is too large before it is read to its end."""
    declared = get_header(scope, b"content-length")
    if declared.isdigit() and int(declared) > most_bytes:
        raise RequestError(413, Fault(f"the body has {int(declared):,} bytes: send at most {most_bytes:,}"))
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(408, Fault("the body did not arrive"))
        part = message.get("body", b"")
        size += len(part)
        if size > most_bytes:
            raise RequestError(413, Fault(f"the body is too large: send at most {most_bytes:,} bytes"))
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def respond(send: Send, status: int, content: bytes, *, is_closing: bool) -> None:
    """Send a response."""
    headers = [(b"content-type", JSON), (b"content-length", str(len(content)).encode())]
    headers += [(b"connection", b"close")] if is_closing else []
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
