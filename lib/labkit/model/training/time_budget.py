"""A budget of time for comparing and tuning: what is over when it is used up, and what then is not reproducible."""

import time
from dataclasses import dataclass, field

from labkit.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """Seconds from now on; without a limit if None."""

    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def is_used_up(self) -> bool:
        """Whether the time is over."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds

    def check(self) -> None:
        """Refuse to go on when the time is over.

        Raises
        ------
        BudgetError
            It is.
        """
        if self.is_used_up:
            raise BudgetError(f"the budget of {self.seconds:g} s was used up")
