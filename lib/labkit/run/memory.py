"""How much memory a kernel and everything below it take, looked at now and then while it works.

Pages that processes share count once as far as the system says so.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLING_SECONDS = 0.5
LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
GIGABYTE = 1024**3


@dataclass
class Gauge:
    """The memory of one process tree: what it takes now and the most it was seen to take, in bytes."""

    now_bytes: int = 0
    peak_bytes: int = 0

    def look(self, pid: int) -> None:
        """Look at a process and all below it."""
        self.now_bytes = measure_memory(pid)
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def describe(self) -> str:
        """Say the peak beside what there is.

        >>> Gauge(peak_bytes=3 * GIGABYTE).describe().startswith("peak memory 3.0 of ")
        True
        """
        return f"peak memory {self.peak_bytes / GIGABYTE:.1f} of {find_total() / GIGABYTE:.1f} GB"


def measure_memory(pid: int) -> int:
    """Return the bytes that a process and all below it take, 0 if it has ended."""
    try:
        process = psutil.Process(pid)
        family = process.children(recursive=True)
        total = int(process.memory_info().rss)
    except psutil.Error:
        return 0
    for child in family:
        try:
            taken = child.memory_info()
        except psutil.Error:
            continue
        total += max(0, int(taken.rss) - int(getattr(taken, "shared", 0)))
    return total


def find_total() -> int:
    """Return the bytes of memory that there are here: the machine's, or fewer if this container may have fewer."""
    total = int(psutil.virtual_memory().total)
    for name in LIMIT_FILES:
        try:
            total = min(total, int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return total
