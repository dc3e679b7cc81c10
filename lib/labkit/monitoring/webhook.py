"""The webhook that alerts are sent to: one POST of a JSON object each, with time limits and a few attempts.

The address may contain a secret, as those of Slack and Mattermost do: it comes from the environment only, and is never
shown or recorded.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from labkit import paths
from labkit.errors import ParamsError

TIMEOUT_SECONDS = 10
"""Longest wait for the next byte."""
DEADLINE_SECONDS = 30
"""Time for all attempts together, with their pauses: a receiver that sends a byte now and then would never time out."""
PAUSES_SECONDS = (1, 4)
"""Pauses before the second and the third attempt."""


class RedirectRefusal(HTTPRedirectHandler):
    """Treats a redirect as a failure: following it would turn the POST into a GET without the alert."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow no redirect."""
        return


class Connections:
    """Keeps the connections of an attempt, so that it can be ended from outside; mixed into the handlers of urllib."""

    opened: list[HTTPConnection]

    def do_open(self, http_class: Any, req: Request, **settings: Any) -> Any:
        """Open a connection as urllib does, and keep it."""

        def connect(*where: Any, **how: Any) -> HTTPConnection:
            connection: HTTPConnection = http_class(*where, **how)
            self.opened.append(connection)
            return connection

        return super().do_open(connect, req, **settings)  # type: ignore[misc]


class PlainConnections(Connections, HTTPHandler):
    """Connections of HTTP."""


class EncryptedConnections(Connections, HTTPSHandler):
    """Connections of HTTPS."""


def find_webhook() -> str | None:
    """Return the address of the webhook; None if there is none.

    Raises
    ------
    ParamsError
        It is not an address of HTTP or HTTPS.
    """
    address = paths.get_variable(paths.WEBHOOK_VARIABLE)
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not address.isascii() or not address.isprintable() or " " in address:
        raise ParamsError(f"{paths.WEBHOOK_VARIABLE} is not an address https://…: correct it, or unset it")
    return address


def post_alert(address: str, content: Mapping[str, Any]) -> str:
    """Send a JSON object and return why that failed, without the address; empty if the receiver took it."""
    headers = {"content-type": "application/json", "user-agent": "labkit"}
    request = Request(address, json.dumps(content, ensure_ascii=False).encode(), headers, method="POST")
    end = time.monotonic() + DEADLINE_SECONDS
    for pause in (*PAUSES_SECONDS, None):
        problem, is_final = try_until(request, end)
        if not problem or is_final or pause is None or time.monotonic() + pause >= end:
            break
        time.sleep(pause)
    return problem


def try_until(request: Request, end: float) -> tuple[str, bool]:
    """Send a request once; return why that failed, empty if it did not, and whether another attempt would fail too.

    Parameters
    ----------
    end
        Time of `time.monotonic` at which the attempt is given up: it runs in a thread, whose connection is then cut.
    """
    found: list[tuple[str, bool]] = []
    handlers = PlainConnections(), EncryptedConnections()
    opened: list[HTTPConnection] = []
    for handler in handlers:
        handler.opened = opened
    send = build_opener(RedirectRefusal, *handlers).open
    attempt = threading.Thread(target=lambda: found.append(try_once(send, request)), daemon=True)
    attempt.start()
    attempt.join(max(end - time.monotonic(), 0))
    if found:
        return found[0]
    for connection in opened:
        with suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    return f"no whole response within {DEADLINE_SECONDS} seconds", True


def try_once(send: Any, request: Request) -> tuple[str, bool]:
    """Send a request; return as `try_until`."""
    try:
        with send(request, timeout=TIMEOUT_SECONDS):
            return "", True
    except HTTPError as error:
        error.close()
        return f"HTTP status {error.code}", 300 <= error.code < 500 and error.code not in (408, 429)
    except (OSError, HTTPException, ValueError) as error:
        return describe_lost_connection(error), False


def describe_lost_connection(error: Exception) -> str:
    """Return a failed connection in words that cannot contain the address."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, TimeoutError):
        return f"no response within {TIMEOUT_SECONDS} seconds"
    # The text of an error of TLS may have the host's name.
    known = cause.strerror if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) else None
    return known or type(cause).__name__
