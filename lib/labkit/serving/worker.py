"""One process of the service: `python -m labkit.serving.worker SETTINGS WORKER SOCKET`.

It needs no pandas, scikit-learn or MLflow. The supervisor holds the socket, so that no connection is refused while a
worker starts or another one is stopped.
"""

import asyncio
import gc
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from labkit import paths
from labkit.serving import settings as serving_settings
from labkit.serving.access import Access
from labkit.serving.app import Service
from labkit.serving.board import LOADED, PID, SEEN, Board, Counter
from labkit.serving.following import load_pointed
from labkit.serving.joined_writes import JoinedWrites
from labkit.serving.prediction_log import PredictionLog
from labkit.serving.routes import make_routes


class DeadlineProtocol(HttpToolsProtocol):
    """HTTP with a time limit for what a client sends; without it, a slow client keeps its connection for ever.

    The headers and the body of a response are sent together.
    """

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first request."""
        super().connection_made(transport)
        self.writes = JoinedWrites(transport)
        self.transport = self.writes  # type: ignore[assignment]
        self.expect(serving_settings.HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self.expect(None)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Expect the headers."""
        super().on_message_begin()
        self.expect(serving_settings.HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        """Expect the body."""
        self.expect(serving_settings.BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect nothing: the request is complete."""
        self.expect(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Send what has no body."""
        self.writes.flush()
        super().on_response_complete()

    def expect(self, seconds: float | None) -> None:
        """Close the connection unless more arrives in time."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = None if seconds is None else self.loop.call_later(seconds, self.give_up)

    def give_up(self) -> None:
        """Close the connection of a client that is too slow."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


class DrainingServer(uvicorn.Server):
    """A server that answers what is already on its way when it is stopped."""

    service: Service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer with `connection: close` for a while, then close what is idle."""
        self.service.is_stopping = True
        for server in self.servers:
            server.close()
        waited = 0.0
        # A request sent on a connection in use, just before the client learns that it is closing, is still answered.
        while waited < serving_settings.DRAIN_SECONDS and (self.server_state.connections or waited < 0.2):
            if waited >= 0.5:
                for connection in list(self.server_state.connections):
                    connection.shutdown()
            await asyncio.sleep(0.05)
            waited += 0.05
        await super().shutdown(sockets)


async def serve_until_stopped(settings: serving_settings.Settings, worker: int, listener: socket.socket) -> None:
    """Serve until the process is told to stop."""
    board = Board(settings.board_path, n_workers=settings.n_workers)
    pointer = serving_settings.load_pointer(Path(settings.folder) / "current.json")
    engine = load_pointed(pointer, settings.state_dir)
    log = None
    if settings.log_folder is not None:
        log = PredictionLog(Path(settings.log_folder), worker=worker, counter=Counter(board, worker))
    access = Access(settings.hosts, paths.get_variable(serving_settings.TOKEN_VARIABLE))
    service = Service(settings, engine, board, worker, access=access, log=log)
    service.others = make_routes(service)
    config = uvicorn.Config(
        service,
        http=DeadlineProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=serving_settings.KEEP_ALIVE_SECONDS,
        limit_concurrency=serving_settings.MOST_CONNECTIONS,
    )
    server = DrainingServer(config)
    server.service = service
    watching = asyncio.ensure_future(service.watch())
    # What is loaded stays for good: collections need not walk it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    slot = board.slots[worker]
    slot[LOADED] = slot[SEEN] = engine.generation
    slot[PID] = os.getpid()
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
        if log is not None:
            log.close()


def main(arguments: list[str]) -> None:
    """Run the worker that the arguments describe."""
    settings_path, worker, descriptor = arguments
    settings = serving_settings.load_settings(Path(settings_path))
    listener = socket.socket(fileno=int(descriptor))
    factory: Any = uvicorn.Config(lambda: None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve_until_stopped(settings, int(worker), listener))


if __name__ == "__main__":
    main(sys.argv[1:])
