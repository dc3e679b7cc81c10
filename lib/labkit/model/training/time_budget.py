"""A time budget for comparison and tuning; results under a budget are not reproducible."""

import time
from dataclasses import dataclass, field

from labkit.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """A number of seconds from now; unlimited if None."""

    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def is_used_up(self) -> bool:
        """Whether the time is used up."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds

    def check(self) -> None:
        """Raise an error if the time is used up.

        Raises
        ------
        BudgetError
            The time is used up.
        """
        if self.is_used_up:
            raise BudgetError(f"the budget of {self.seconds:g} s was used up")
