"""Seconds and peak memory of `labkit new` and the stage `source` on one large CSV file, made on the fly.

    python benchmarks/big_csv.py [megabytes]

1,000 MB is the default. Peak memory is that of the process, before the work and after each step.
"""

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

BLOCK_ROWS = 50_000
HEADER = ["customer", "age", "income", "city", "since", "note", "score", "bought"]


def write_big(path: Path, *, megabytes: int) -> None:
    """Write a CSV file of about so many megabytes: numbers, categories, dates, quoted strings."""
    draw = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        number = 0
        while stream.tell() < megabytes * 1_000_000:
            ages, incomes = draw.integers(18, 90, BLOCK_ROWS), draw.normal(3000, 900, BLOCK_ROWS).round(2)
            cities, days = draw.integers(0, 300, BLOCK_ROWS), draw.integers(0, 1500, BLOCK_ROWS)
            scores = draw.random(BLOCK_ROWS).round(6)
            since = (np.datetime64("2020-01-01") + days).astype(str)
            for age, income, city, day, score in zip(ages, incomes, cities, since, scores, strict=True):
                number += 1
                bought = "yes" if age + 40 * score > 70 else "no"
                comment = f'row {number}, of "many"'
                writer.writerow([number, age, income, f"city {city}", day, comment, score, bought])


def find_peak_megabytes() -> float:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_checkout(root: Path) -> None:
    """Make an empty checkout, and name it as the one to work in."""
    (root / "params").mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").touch()
    (root / "dvc.yaml").write_text("vars:\n- experiments: []\n\nstages: {}\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    os.environ["LABKIT_ROOT"] = str(root)


class Taken(NamedTuple):
    """Seconds of `labkit new`, of the stage `source`, and of that with a contract; megabytes before and at the peak."""

    new: float
    source: float
    again: float
    before: float
    peak: float

    def __str__(self) -> str:
        return (
            f"`labkit new` {self.new:.0f} s, stage source {self.source:.0f} s, with a contract {self.again:.0f} s; "
            f"peak memory {self.peak:,.0f} MB, {self.before:,.0f} MB of them taken before the file was opened"
        )


def measure(path: Path, root: Path) -> Taken:
    """Make an experiment of a file and place its table; return what that took."""
    from labkit.new.create import create_experiment
    from labkit.new.options import Choices
    from labkit.params.load import load_params
    from labkit.stages.source import place_tables

    make_checkout(root)
    (root / "warm.csv").write_text("a,b,y\n" + "1.5,2020-01-01,u\n2.5,2020-01-02,v\n2.5,2020-01-02,u\n" * 50)
    create_experiment("warm", [root / "warm.csv"], "y", choices=Choices())
    place_tables(load_params("warm"), root / "warm", root / "warm.json")
    before = find_peak_megabytes()
    started = time.monotonic()
    create_experiment("big", [path], "bought", choices=Choices())
    founded = time.monotonic()
    place_tables(load_params("big"), root / "raw", root / "contract.json")
    placed = time.monotonic()
    place_tables(load_params("big"), root / "raw", root / "contract.json")
    again = time.monotonic()
    peak = find_peak_megabytes()
    return Taken(founded - started, placed - founded, again - placed, before, peak)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        big = Path(scratch) / "big.csv"
        write_big(big, megabytes=int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
        print(f"{big.stat().st_size / 1e6:,.0f} MB: {measure(big, Path(scratch) / 'checkout')}")
