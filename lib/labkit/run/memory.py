"""The memory of a kernel and its child processes, sampled while it runs.

Pages that processes share are counted once where the system reports them.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLING_SECONDS = 0.5
LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
USED_FILES = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
CACHE_NAMES = ("inactive_file", "total_inactive_file")
GIGABYTE = 1024**3
PENDING_NAME, KEPT_NAME = "labkit-pending", "labkit-kept"
"""Names of the process of a checkpoint of a kernel: while the kernel works, and when it is kept after a failure."""


@dataclass
class Gauge:
    """The current and the peak memory of one process tree, in bytes."""

    now_bytes: int = 0
    peak_bytes: int = 0

    def look(self, pid: int) -> None:
        """Measure a process and its children."""
        self.now_bytes = measure_memory(pid)
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def describe(self) -> str:
        """Return the peak memory and the total memory as a phrase.

        >>> Gauge(peak_bytes=3 * GIGABYTE).describe().startswith("peak memory 3.0 of ")
        True
        """
        return f"peak memory {self.peak_bytes / GIGABYTE:.1f} of {find_total() / GIGABYTE:.1f} GB"


def measure_memory(pid: int) -> int:
    """Return the memory of a process and its children in bytes, 0 if it has ended.

    A checkpoint of a kernel does not count: it shares its memory with the kernel, and gives it back when that ends.
    """
    try:
        process = psutil.Process(pid)
        family = process.children(recursive=True)
        total = int(process.memory_info().rss)
    except psutil.Error:
        return 0
    for child in family:
        try:
            if child.name() in (PENDING_NAME, KEPT_NAME):
                continue
            taken = child.memory_info()
        except psutil.Error:
            continue
        total += max(0, int(taken.rss) - int(getattr(taken, "shared", 0)))
    return total


def find_free() -> int:
    """Return the memory in bytes that no process uses: of the machine, or of the container if that is less."""
    free = int(psutil.virtual_memory().available)
    for limit, used, cache in zip(LIMIT_FILES, USED_FILES, CACHE_NAMES, strict=True):
        try:
            most = int(Path(limit).read_text(encoding="ascii"))
            taken = int(Path(used).read_text(encoding="ascii"))
            lines = Path(used).with_name("memory.stat").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        # Files that are kept in memory give way to processes.
        given_up = sum(int(line.split()[1]) for line in lines if line.split()[0] == cache)
        free = min(free, max(most - taken + given_up, 0))
    return free


def find_total() -> int:
    """Return the total memory in bytes: that of the machine, or the limit of the container if it is lower."""
    total = int(psutil.virtual_memory().total)
    for name in LIMIT_FILES:
        try:
            total = min(total, int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return total
