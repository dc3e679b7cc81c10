"""How benchmarks compare: in turn, in one run, as ratios of medians, with the first time separate from the later ones.

Machines differ and are shared: a ratio of two measurements taken moments apart is more reliable than seconds.
"""

import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = (
    "papermill",
    "nbclient",
    "ipykernel",
    "jupyter_client",
    "jupyterlab",
    "dvc",
    "mlflow",
    "pandas",
    "scikit-learn",
)


@dataclass(frozen=True)
class Timing:
    """Seconds of one competitor: first and later times."""

    first: float
    later: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the later times, of the first if there are no others."""
        return statistics.median(self.later or (self.first,))


def measure(competitors: Mapping[str, Callable[[], object]], *, n_later: int) -> dict[str, Timing]:
    """Run the competitors in turn, once and then `n_later` more times."""
    taken: dict[str, list[float]] = {name: [] for name in competitors}
    for turn in range(1 + n_later):
        for name, work in competitors.items():
            started = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - started)
            print(f"  {name}, {'first' if turn == 0 else f'later {turn}'}: {taken[name][-1]:.2f} s", flush=True)
    return {name: Timing(times[0], tuple(times[1:])) for name, times in taken.items()}


def make_table(timings: Mapping[str, Timing], *, base: str) -> str:
    """Return the timings as a Markdown table with ratios to one of them."""
    lines = ["| | first | later, median (range) | ratio |", "|---|---:|---:|---:|"]
    for name, timing in timings.items():
        spread = f" ({min(timing.later):.2f}–{max(timing.later):.2f})" if timing.later else ""
        ratio = timing.median / timings[base].median
        lines.append(f"| {name} | {timing.first:.2f} s | {timing.median:.2f} s{spread} | {ratio:.2f} |")
    return "\n".join(lines)


def describe_machine() -> str:
    """Describe the machine and the versions of packages."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    memory = psutil.virtual_memory().total / 2**30
    load = psutil.getloadavg()[0]
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}; load before the start {load:.1f}. {versions}."
    )


def write_section(title: str, content: str) -> None:
    """Write a section of RESULTS.md, replacing the one with the same title."""
    head = "# Results\n\nWritten by `make bench`; the rows of each table were measured in one run, in turn.\n"
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else head
    parts = old.split("\n## ")
    kept = [part for part in parts[1:] if not part.startswith(f"{title}\n")]
    sections = sorted([*kept, f"{title}\n\n{content.strip()}\n"], key=lambda part: int(part.partition(".")[0]))
    RESULTS.write_text("\n## ".join([parts[0].rstrip() + "\n", *sections]), encoding="utf-8")
