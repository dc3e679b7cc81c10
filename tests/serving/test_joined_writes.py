"""Headers and body of a response are one write; whatever has no body, or more than one part, arrives as well."""

import asyncio
from typing import Any

import pytest
import uvicorn
from labkit.serving.joined_writes import JoinedWrites
from labkit.serving.worker import DeadlineProtocol
from uvicorn.server import ServerState

WRITTEN: list[bytes] = []


class Recorder(JoinedWrites):
    """A transport that records what is written to it, and writes it."""

    def write(self, data: bytes) -> None:
        WRITTEN.append(bytes(data))
        self.transport.write(data)


class RecordingProtocol(DeadlineProtocol):
    """The service's protocol, whose writes are recorded."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Recorder(transport))  # type: ignore[arg-type]


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer as the path says."""
    while (await receive()).get("more_body"):
        pass
    has_length = scope["path"] != "/parts"
    headers = [(b"content-length", b"5")] if has_length else []
    status = 204 if scope["path"] == "/empty" else 200
    await send({"type": "http.response.start", "status": status, "headers": headers if status == 200 else []})
    if scope["path"] == "/fails":
        raise ValueError("after the headers")
    if scope["path"] == "/parts":
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"" if status == 204 else b"hello"})


async def exchange(*requests: bytes) -> list[bytes]:
    """Return what a service writes for requests on one connection, the last of which closes it."""
    WRITTEN.clear()
    config = uvicorn.Config(answer, http=RecordingProtocol, ws="none", lifespan="off", log_level="critical")
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: RecordingProtocol(config, state, {}), "127.0.0.1", 0
    )
    async with server, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"".join(requests))
        received = await reader.read()
        writer.close()
    assert received == b"".join(WRITTEN)
    return [*WRITTEN]


def request(path: str, method: str = "GET", *, more: str = "connection: close\r\n", body: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n{body}".encode()


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        (request("/"), [b"\r\n\r\nhello"]),
        (request("/", "HEAD"), [b"\r\n\r\n"]),
        (request("/empty"), [b"\r\n\r\n"]),
        (request("/parts"), [b"\r\n\r\n3\r\none\r\n", b"5\r\nhello\r\n0\r\n\r\n"]),
        (request("/fails"), [b"\r\n\r\n"]),
        (b"nonsense\r\n\r\n", [b"Invalid HTTP request received."]),
        (
            request("/", "POST", more="expect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n", body="{}"),
            [b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n\r\nhello"],
        ),
    ],
    ids=["body", "head", "empty", "parts", "failing", "nonsense", "continue"],
)
def test_headers_are_written_with_what_follows(given: bytes, ends: list[bytes]) -> None:
    written = asyncio.run(exchange(given))
    assert len(written) == len(ends), written
    for one, end in zip(written, ends, strict=True):
        assert one.startswith((b"HTTP/1.1 ", b"5\r\n"))
        assert one.endswith(end)


def test_each_request_of_a_connection_is_one_write() -> None:
    given = [request("/", more=""), request("/", "HEAD", more=""), request("/empty", more=""), request("/")]
    written = asyncio.run(exchange(*given))
    assert [one.count(b"HTTP/1.1 ") for one in written] == [1] * 4
    assert [one.rpartition(b"\r\n\r\n")[2] for one in written] == [b"hello", b"", b"", b"hello"]
