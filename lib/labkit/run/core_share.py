"""The cores that one of several jobs may use, each of which may start processes of its own."""

from labkit import paths
from labkit.run.capacity import count_cores


def share_cores(n_jobs: int = 1) -> int:
    """Return how many cores each of some jobs may use: an equal part of those of this process, at most `LABKIT_CORES`.

    Raises
    ------
    ParamsError
        `LABKIT_CORES` is not valid.
    """
    return max(min(count_cores(), paths.get_most_cores() or count_cores()) // n_jobs, 1)
