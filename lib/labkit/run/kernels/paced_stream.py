"""Standard output and error of a kernel, sent in pieces of bounded size and not faster than a client takes them.

ipykernel's own stream collects what a cell prints until its thread comes round to sending it: of a cell that prints
without end that is hundreds of megabytes at once, in the kernel and in its client. Used by every kernel of the
kernelspec in `jupyter/` beside this file.
"""

import os
import time

from ipykernel.iostream import OutStream

MOST_UNSENT = 1_000_000
"""Characters that may wait to be sent."""
MOST_UNPACED = 10_000_000
"""Characters that a cell prints at full speed: a runner keeps no more of them."""
CHARACTERS_PER_SECOND = 20_000_000


class PacedStream(OutStream):
    """A kernel's stream that makes a cell wait which prints faster than anybody could read or keep it."""

    n_waiting = 0
    n_sent = 0
    request = ""
    """The cell, by the request that it answers, which `n_sent` counts for."""

    def write(self, string: str) -> int:
        """Write a text; now and then wait until what was written before has been sent."""
        if isinstance(string, str) and len(string) > MOST_UNSENT:
            return sum(self.write(string[start : start + MOST_UNSENT]) for start in range(0, len(string), MOST_UNSENT))
        super().write(string)
        self.n_waiting += len(string)
        # A process that a cell forked hands its output to this one.
        if self.n_waiting >= MOST_UNSENT and os.getpid() == self._master_pid:
            self.pace()
        return len(string)

    def pace(self) -> None:
        """Send what waits, and rest where there was too much before."""
        n_characters, self.n_waiting = self.n_waiting, 0
        self.flush()  # type: ignore[no-untyped-call]
        request = str(self.parent_header.get("msg_id", ""))
        if request != self.request:
            self.request, self.n_sent = request, 0
        self.n_sent += n_characters
        if self.n_sent > MOST_UNPACED:
            time.sleep(n_characters / CHARACTERS_PER_SECOND)
