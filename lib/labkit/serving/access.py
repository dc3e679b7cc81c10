"""Who may send a request: names of the host, origins of pages, and the token."""

import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from labkit.serving.requests import Fault, RequestError

OPEN_PATHS = ("/ping", "/health")
"""Paths that need neither a token nor a known host: a load balancer asks for them by the address of the machine."""


class Access:
    """The rules of one service.

    Parameters
    ----------
    hosts
        Names under which clients may address the service: a page of another site that resolves its own name to this
        machine has another.
    token
        Token that clients send as `Authorization: Bearer <token>`; None to ask for none.
    """

    def __init__(self, hosts: Iterable[str], token: str | None) -> None:
        self.hosts = {host.lower() for host in hosts}
        self.token = None if token is None else f"Bearer {token}".encode()

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request that may not be answered.

        Parameters
        ----------
        path
            Path of the request.
        headers
            Headers, names in lower case.

        Raises
        ------
        RequestError
            421 for another host, 403 for a page of another origin, 401 without the token.
        """
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if path not in OPEN_PATHS and name not in self.hosts and "*" not in self.hosts:
            raise RequestError(421, Fault("this service does not go by that host name"))
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != host:
            raise RequestError(403, Fault("pages of other origins may not use this service"))
        if path not in OPEN_PATHS and not self.has_token(headers):
            raise RequestError(401, Fault("send the token of this service as Authorization: Bearer <token>"))

    def has_token(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether a request has the token, or none is asked for."""
        return self.token is None or hmac.compare_digest(headers.get(b"authorization", b""), self.token)
