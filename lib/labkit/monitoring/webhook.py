"""The webhook that alerts are sent to: one POST of a JSON object each, with a time limit and a few attempts.

The address may contain a secret, as those of Slack and Mattermost do: it comes from the environment only, and is never
shown or recorded.
"""

import json
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from labkit import paths
from labkit.errors import ParamsError

TIMEOUT_SECONDS = 10
PAUSES_SECONDS = (1, 4)
"""Pauses before the second and the third attempt."""


class RedirectRefusal(HTTPRedirectHandler):
    """Treats a redirect as a failure: following it would turn the POST into a GET without the alert."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Follow no redirect."""
        return


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
    send = build_opener(RedirectRefusal).open
    for pause in (*PAUSES_SECONDS, None):
        try:
            with send(request, timeout=TIMEOUT_SECONDS):
                return ""
        except HTTPError as error:
            problem, is_final = f"HTTP status {error.code}", 300 <= error.code < 500 and error.code not in (408, 429)
            error.close()
        except (OSError, HTTPException, ValueError) as error:
            problem, is_final = describe_lost_connection(error), False
        if is_final or pause is None:
            break
        time.sleep(pause)
    return problem


def describe_lost_connection(error: Exception) -> str:
    """Return a failed connection in words that cannot contain the address."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, TimeoutError):
        return f"no response within {TIMEOUT_SECONDS} seconds"
    # The text of an error of TLS may have the host's name.
    known = cause.strerror if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) else None
    return known or type(cause).__name__
