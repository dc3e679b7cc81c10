"""Progress of a long batch prediction, as a line every few seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from labkit.units import format_duration, format_share

EVERY_SECONDS = 10.0


@dataclass
class BatchProgress:
    """Shows how many rows are done, and about how long the rest takes; nothing for what takes only a few seconds.

    Parameters
    ----------
    show
        Called with each line.
    clock
        Returns seconds.
    """

    show: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    started: float | None = None
    n_before: int = 0
    shown: float = field(init=False, default=0.0)

    def __call__(self, n_done: int, n_rows: int, *, is_kept: bool = False) -> None:
        """Show a line if the last one was long ago.

        Parameters
        ----------
        n_done, n_rows
            Rows done, and all rows.
        is_kept
            Whether the rows done last were predicted by an earlier attempt, so that they say nothing about the rest.
        """
        now = self.clock()
        if self.started is None or is_kept:
            self.started, self.n_before, self.shown = now, n_done, now
        if now - self.shown < EVERY_SECONDS or n_done == n_rows:
            return
        self.shown = now
        rest = (now - self.started) / (n_done - self.n_before) * (n_rows - n_done)
        done = f"{n_done:,} of {n_rows:,} rows predicted ({format_share(n_done / n_rows)})"
        self.show(f"{done}, about {format_duration(rest)} left")
