"""A transport that sends the headers of a response together with what follows them.

uvicorn writes both by themselves, which are two packets, and wakes the client twice.
"""

import asyncio
from typing import Any

STATUS_LINE, CONTINUE, END = b"HTTP/1.1 ", b"HTTP/1.1 100", b"\r\n\r\n"


class JoinedWrites:
    """The transport of a connection, as uvicorn's protocol uses it.

    Parameters
    ----------
    transport
        The transport that writes.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport, self.head = transport, b""

    def write(self, data: bytes) -> None:
        """Write, unless these are the headers of a response: they wait for its body, or its end."""
        if not self.head and data.startswith(STATUS_LINE) and data.endswith(END) and not data.startswith(CONTINUE):
            self.head = data
            return
        self.transport.write(self.head + data)
        self.head = b""

    def flush(self) -> None:
        """Write headers that still wait: those of a response without a body."""
        if self.head:
            self.write(b"")

    def close(self) -> None:
        """Close after everything has been written."""
        self.flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)
