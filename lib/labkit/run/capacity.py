"""How much may run at a time: within the cores that this process may use, and within the memory of the machine."""

from collections.abc import Sequence

from labkit.run.memory import GIGABYTE, find_total

MEMORY_SHARE = 0.8
"""Part of the memory that all may be expected to fill together."""
USUAL_BYTES = GIGABYTE
"""Memory that a stage is expected to need as long as no run of it was measured."""


def count_cores() -> int:
    """Return the number of cores that this process may use: its affinity and the CPU quota of its container count."""
    from joblib import cpu_count  # takes a tenth of a second

    return int(cpu_count())


def find_most_bytes() -> int:
    """Return the memory that all may be expected to need together, in bytes."""
    return int(find_total() * MEMORY_SHARE)


def has_room(running: Sequence[int], more: int, *, n_jobs: int, most_bytes: int) -> bool:
    """Return whether one more may start; the first always may.

    Parameters
    ----------
    running
        The memory that each under way is expected to need, in bytes.
    more
        The memory that the next is expected to need, in bytes.
    n_jobs
        Largest number at a time.
    most_bytes
        Memory that all may be expected to need together.

    Examples
    --------
    >>> has_room([], 9, n_jobs=2, most_bytes=8), has_room([5], 3, n_jobs=2, most_bytes=8)
    (True, True)
    >>> has_room([5], 4, n_jobs=2, most_bytes=8), has_room([1, 1], 1, n_jobs=2, most_bytes=8)
    (False, False)
    """
    return not running or (len(running) < n_jobs and sum(running) + more <= most_bytes)
