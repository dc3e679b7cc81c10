"""The socket of a service."""

import socket

from labkit import paths
from labkit.errors import ParamsError
from labkit.serving.settings import Options

PASSED_SOCKET = 3
"""File descriptor of a socket that systemd holds and passes on: the first one after the standard streams."""


def bind(options: Options) -> socket.socket:
    """Return the listening socket: the one that systemd passes on, or else a new one."""
    passed = paths.count_passed_sockets()
    if passed > 1:
        raise ParamsError(f"systemd passes {passed} sockets: declare one, with one ListenStream")
    if passed:
        return socket.socket(fileno=PASSED_SOCKET)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(2048)
    except (OSError, UnicodeError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not an address"
        raise ParamsError(f"{options.host}:{options.port}: {reason}: choose another with --host and --port") from error
    listener.set_inheritable(True)
    return listener
