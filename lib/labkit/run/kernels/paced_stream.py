"""Standard output and error of a kernel, sent in pieces of limited size and at a limited rate.

ipykernel's own stream buffers what a cell prints until its thread sends it: for a cell that prints in an infinite loop
that is hundreds of megabytes at once, in the kernel and in its client. It also drops what other programs wrote to the
file descriptor if its thread has not read it yet when the cell ends. Its socket drops messages when a thousand are
waiting to be sent, including the one that reports the end of the cell. Used by every kernel of the kernelspec in
`jupyter/` beside this file.
"""

import array
import fcntl
import os
import select
import sys
import termios
import threading
import time
from typing import Any

from ipykernel.iostream import PIPE_BUFFER_SIZE, OutStream

MOST_UNSENT = 1_000_000
"""Characters that may be buffered."""
MOST_UNPACED = 10_000_000
"""Characters that a cell may print at full speed: the runner keeps no more of them."""
CHARACTERS_PER_SECOND = 20_000_000


class PacedStream(OutStream):
    """A kernel's stream that slows down a cell that prints too much, and completes its output before the cell ends."""

    n_waiting = 0
    n_sent = 0
    request = ""
    """Id of the execute request whose output `n_sent` counts."""
    n_passed_on = 0
    """Bytes written to the file descriptor that have been added to the stream."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # Before the stream starts its thread, which uses it.
        self.passed_on = threading.Condition()
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        # Only its own thread may use the socket.
        self.pub_thread.schedule(self.wait_for_clients)

    def wait_for_clients(self) -> None:
        """Make the socket wait when the queue of a client is full, instead of dropping messages.

        A client that never reads holds up the cell until it disconnects; runs and JupyterLab always read.
        """
        self.pub_thread.socket.xpub_nodrop = True

    def _watch_pipe_fd(self) -> None:
        """Add to the stream what is written to the file descriptor, such as by other programs."""
        try:
            while self.pass_on(self._fid):
                pass
        except Exception:
            # Printed when the stream is closed, as by ipykernel's own method.
            self._exc = sys.exc_info()
        with self.passed_on:
            self.passed_on.notify_all()

    def pass_on(self, file_descriptor: Any) -> bool:
        """Add the next piece written to the file descriptor; return False when the stream is closed."""
        select.select([file_descriptor], [], [])
        if not self._should_watch:
            return False
        with self.passed_on:
            content = os.read(file_descriptor, PIPE_BUFFER_SIZE)
            self.write(content.decode(errors="replace"))
            os.write(self._original_stdstream_copy, content)
            self.n_passed_on += len(content)
            self.passed_on.notify_all()
        return bool(content)

    def is_watched_elsewhere(self) -> bool:
        """Return whether another thread reads the file descriptor, one that does not wait for this thread."""
        if not self._should_watch or os.getpid() != self._master_pid or self.pub_thread is None:
            return False
        return threading.current_thread() not in (self.watch_fd_thread, self.pub_thread.thread)

    def flush(self) -> None:
        """Send the buffer, and before it what the file descriptor has received so far."""
        if self.is_watched_elsewhere():
            with self.passed_on:
                until = self.n_passed_on + count_unread(self._fid)
                self.passed_on.wait_for(lambda: self.n_passed_on >= until or self._exc, timeout=self.flush_timeout)
        super().flush()  # type: ignore[no-untyped-call]

    def write(self, string: str) -> int:
        """Write a string, and wait for the buffer to be sent when it is full."""
        if isinstance(string, str) and len(string) > MOST_UNSENT:
            return sum(self.write(string[start : start + MOST_UNSENT]) for start in range(0, len(string), MOST_UNSENT))
        super().write(string)
        self.n_waiting += len(string)
        # A process forked by a cell passes its output to this one.
        if self.n_waiting >= MOST_UNSENT and os.getpid() == self._master_pid:
            self.pace()
        return len(string)

    def pace(self) -> None:
        """Send the buffer, and pause if the cell has printed too much."""
        n_characters, self.n_waiting = self.n_waiting, 0
        super().flush()  # type: ignore[no-untyped-call]
        request = str(self.parent_header.get("msg_id", ""))
        if request != self.request:
            self.request, self.n_sent = request, 0
        self.n_sent += n_characters
        if self.n_sent > MOST_UNPACED:
            time.sleep(n_characters / CHARACTERS_PER_SECOND)


def count_unread(file_descriptor: Any) -> int:
    """Return how many bytes a pipe holds."""
    size = array.array("i", [0])
    fcntl.ioctl(file_descriptor, termios.FIONREAD, size)
    return size[0]
