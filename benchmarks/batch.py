"""Batch prediction: memory and rows per CPU second of `labkit predict` beside MLflow's pyfunc, by number of rows.

python benchmarks/batch.py flights [CHECKOUT] [--rows 300000 3000000]

The checkout holds finished runs of the experiment. Its holdout is repeated as a folder of Parquet files, from which
either reads. Each measurement is a process of its own; what 1,000 rows take is subtracted from its CPU time, as they
measure starting and loading. Prints a table; `benchmarks/SERVING.md` holds the result of one run.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

PART_ROWS = 1_000_000
FEW_ROWS = 1_000
LABKIT = "from labkit.cli.main import main; raise SystemExit(main())"
PYFUNC = """
import sys
import mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}@champion")
rows = pd.read_parquet(sys.argv[2])
schema = model.metadata.get_input_schema()
types = {spec.name: spec.type.to_numpy() if hasattr(spec.type, "to_numpy") else "O" for spec in schema.inputs}
for name, kind in types.items():
    if rows[name].dtype.kind == "M":
        rows[name] = rows[name].astype(str)
    elif np.dtype(kind).kind in "if" and rows[name].dtype != kind:
        rows[name] = rows[name].astype(kind)
predicted = model.predict(rows[[*types]])
"""
"""What a user of pyfunc writes; the signature takes no whole numbers and no times."""


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command and return its CPU seconds and its peak memory in megabytes."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(errors.decode())
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def write_rows(holdout: pd.DataFrame, folder: Path, n_rows: int) -> Path:
    """Write the rows of the holdout, repeated, as a folder of Parquet files."""
    made = folder / f"rows{n_rows}"
    made.mkdir()
    for number, start in enumerate(range(0, n_rows, PART_ROWS)):
        places = np.arange(start, min(start + PART_ROWS, n_rows)) % len(holdout)
        holdout.take(places).to_parquet(made / f"{number:03}.parquet", index=False)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("checkout", nargs="?", type=Path, default=Path())
    parser.add_argument("--rows", type=int, nargs="+", default=[300_000, 3_000_000])
    parser.add_argument("--pyfunc-rows", type=int, default=300_000, help="pyfunc holds all rows in memory")
    given = parser.parse_args()
    root = given.checkout.resolve()
    holdout = pd.read_parquet(root / "data" / given.experiment / "clean" / "holdout.parquet")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("| | rows | rows per CPU second | peak memory | load |", "|---|---:|---:|---:|---:|", sep="\n")
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("pyfunc", "labkit predict"):
            start = 0.0
            for n_rows in [FEW_ROWS, *([given.pyfunc_rows] if name == "pyfunc" else given.rows)]:
                rows = Path(scratch) / f"rows{n_rows}"
                rows = rows if rows.is_dir() else write_rows(holdout, Path(scratch), n_rows)
                out = Path(scratch) / "out.parquet"
                labkit = [sys.executable, "-c", LABKIT, "predict", given.experiment, str(rows), str(out)]
                command = [sys.executable, "-c", PYFUNC, given.experiment, str(rows)] if name == "pyfunc" else labkit
                cpu, peak = measure(command, root)
                if n_rows == FEW_ROWS:
                    start = cpu
                    continue
                speed, load = n_rows / (cpu - start), os.getloadavg()[0]
                print(f"| {name} | {n_rows:,} | {speed:,.0f} | {peak:,.0f} MB | {load:.1f} |", flush=True)
                if name != "pyfunc":
                    assert pq.ParquetFile(out).metadata.num_rows == n_rows


if __name__ == "__main__":
    main()
