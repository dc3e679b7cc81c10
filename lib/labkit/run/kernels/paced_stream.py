"""Standard output and error of a kernel, sent in pieces of limited size and at a limited rate.

ipykernel's own stream buffers what a cell prints until its thread sends it: for a cell that prints in an infinite loop
that is hundreds of megabytes at once, in the kernel and in its client. Used by every kernel of the kernelspec in
`jupyter/` beside this file.
"""

import os
import time

from ipykernel.iostream import OutStream

MOST_UNSENT = 1_000_000
"""Characters that may be buffered."""
MOST_UNPACED = 10_000_000
"""Characters that a cell may print at full speed: the runner keeps no more of them."""
CHARACTERS_PER_SECOND = 20_000_000


class PacedStream(OutStream):
    """A kernel's stream that slows down a cell that prints too much."""

    n_waiting = 0
    n_sent = 0
    request = ""
    """Id of the execute request whose output `n_sent` counts."""

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
        self.flush()  # type: ignore[no-untyped-call]
        request = str(self.parent_header.get("msg_id", ""))
        if request != self.request:
            self.request, self.n_sent = request, 0
        self.n_sent += n_characters
        if self.n_sent > MOST_UNPACED:
            time.sleep(n_characters / CHARACTERS_PER_SECOND)
