"""How time and memory of the exploration grow with the rows of a table.

python benchmarks/exploration.py              100,000, 1 and 10 million rows of 12 columns, about five minutes
python benchmarks/exploration.py 1000000

Orders of one year, split by time, as `labkit new` proposes it for their date: 60 % of the rows may be described. CPU
seconds are those of `labkit run --until eda` and all its processes, the stage `source` before it apart; peak memory is
that of the notebook's kernel, as the ledger has it. Writes a section of RESULTS.md, if no sizes are given.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from side_by_side import describe_machine, write_section

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import make_checkout, make_environment  # noqa: E402

LABKIT = Path(sys.executable).with_name("labkit")
SIZES = (100_000, 1_000_000, 10_000_000)
CHUNK_ROWS = 500_000


def make_orders(n_rows: int, random: np.random.Generator) -> pa.Table:
    """Return rows of numbers, categories, times and a target that depends on one number and one category."""
    size, channel = random.normal(size=n_rows), random.integers(0, 12, n_rows)
    minutes = random.integers(0, 365 * 24 * 60, n_rows).astype("timedelta64[m]")
    is_returned = size + 0.3 * (channel == 3) + 1.5 * random.normal(size=n_rows) > 0.8
    return pa.table(
        {
            "amount": np.exp(size).round(2),
            "age": random.integers(18, 90, n_rows),
            "score": pa.array(random.random(n_rows), mask=random.random(n_rows) < 0.05),
            "distance": random.gamma(2, 300, n_rows).round(1),
            "visits": random.poisson(3, n_rows),
            "ratio": random.normal(size=n_rows),
            "channel": name_all("channel", channel),
            "city": name_all("city", random.integers(0, 400, n_rows)),
            "device": name_all("device", random.integers(0, 3, n_rows)),
            "ordered": pa.array((np.datetime64("2024-01-01T00:00") + minutes).astype("datetime64[us]")),
            "discount": (30 * random.random(n_rows)).round(),
            "returned": pa.array(np.where(is_returned, "yes", "no")),
        }
    )


def name_all(kind: str, numbers: np.ndarray) -> pa.Array:
    """Return numbered names."""
    names = pa.array([f"{kind} {number}" for number in range(int(numbers.max()) + 1)])
    return pa.DictionaryArray.from_arrays(numbers, names).cast(pa.string())


def write_orders(path: Path, n_rows: int) -> None:
    """Write the table in chunks."""
    random = np.random.default_rng(0)
    schema = make_orders(10, np.random.default_rng(1)).schema
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, CHUNK_ROWS):
            writer.write_table(make_orders(min(CHUNK_ROWS, n_rows - start), random))


def call(root: Path, *arguments: str) -> float:
    """Run the command line and return the CPU seconds of all its processes."""
    process = subprocess.Popen([LABKIT, *arguments], cwd=root, env=make_environment(root), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"labkit {' '.join(arguments)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def measure(folder: Path, n_rows: int) -> str:
    """Explore a table of that size and return a row of the results."""
    root, source = make_checkout(folder / "checkout"), folder / "orders.parquet"
    write_orders(source, n_rows)
    call(root, "new", "orders", "--data", str(source), "--target", "returned")
    read, explored = (
        call(root, "run", "orders", "--until", "source", "--cold"),
        call(root, "run", "orders", "--until", "eda", "--cold"),
    )
    lines = [json.loads(line) for line in (root / ".labkit" / "ledger.jsonl").read_text().splitlines()]
    peak = max(line.get("peak_bytes", 0) for line in lines if line["kind"] == "done")
    mega = source.stat().st_size / 1e6
    return f"| {n_rows:,} | {mega:,.0f} MB | {read:.0f} | {explored:.0f} | {peak / 1e9:.2f} GB |"


def main() -> None:
    """Measure each size and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="*")
    sizes, machine = parser.parse_args().sizes, describe_machine()
    table = [
        "| rows | Parquet | CPU-s of `source` | CPU-s of `eda` | peak of the kernel |",
        "|---:|---:|---:|---:|---:|",
    ]
    for n_rows in sizes or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            table.append(measure(Path(folder), n_rows))
        print(table[-1], flush=True)
    if not sizes:
        about = (
            "12 columns, one of them the target; a split by time, so 60 % of the rows are described. What a column "
            "explains, correlations, leaks and odd values are measured on samples, which the page states; all else on "
            "all rows."
        )
        write_section("13. Exploration of large tables", "\n\n".join([machine, about, "\n".join(table)]))


if __name__ == "__main__":
    main()
