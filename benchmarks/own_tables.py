"""From a table of one's own to the open report: seconds on 10,000 rows, and what 1 GB of CSV takes.

    python benchmarks/own_tables.py              about ten minutes on two cores
    python benchmarks/own_tables.py --mb 100     a smaller file in place of the one of 1 GB

The 10,000 rows go the whole way, `labkit new` and `labkit run` with everything at its default, on kernels kept warm.
Writes a section of RESULTS.md.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from engine import call, make_checkout
from side_by_side import describe_machine, write_section

N_ROWS = 10_000


def make_customers() -> pd.DataFrame:
    """Return customers, some of whom leave: numbers, missing values, categories, dates, a boolean, an identifier."""
    draw = np.random.default_rng(7)
    months = draw.integers(1, 72, N_ROWS)
    fee, calls = draw.gamma(4, 15, N_ROWS).round(2), draw.poisson(1.5, N_ROWS)
    plan = draw.choice(["basic", "plus", "family", "business"], N_ROWS, p=[0.5, 0.25, 0.15, 0.1])
    likelihood = 1 / (1 + np.exp(0.05 * months - 0.015 * fee - 0.45 * calls + 0.8 * (plan == "family") + 1.2))
    return pd.DataFrame(
        {
            "customer": [f"C{number:06}" for number in range(N_ROWS)],
            "joined": (pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 1800, N_ROWS), "D")).date,
            "months": months,
            "monthly_fee": pd.Series(fee).mask(draw.random(N_ROWS) < 0.05),
            "calls": calls,
            "plan": plan,
            "city": draw.choice([f"city {number}" for number in range(80)], N_ROWS),
            "paperless": draw.choice(["yes", "no"], N_ROWS),
            "churned": np.where(draw.random(N_ROWS) < likelihood, "yes", "no"),
        }
    )


def time_customers() -> str:
    """Take 10,000 rows from the file to the report, and return the seconds of both commands."""
    with make_checkout() as root:
        make_customers().to_csv(root / "customers.csv", index=False)
        call("labkit", "warm", folder=root)
        try:
            moments = [time.monotonic()]
            call("labkit", "new", "churn", "--data", "customers.csv", "--target", "churned", folder=root)
            moments.append(time.monotonic())
            call("labkit", "run", "churn", folder=root)
            moments.append(time.monotonic())
        finally:
            call("labkit", "warm", "--stop", folder=root)
        if not (root / "reports" / "index.html").is_file():
            raise SystemExit("no report was made")
    new, run = np.diff(moments)
    return (
        f"{N_ROWS:,} rows of a CSV file, two classes, nine columns: `labkit new` {new:.1f} s, `labkit run` with all "
        f"candidates, on kernels kept warm, {run:.0f} s: **{(new + run) / 60:.1f} minutes** to champion and report."
    )


def main() -> None:
    """Do both and write what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1000, help="size of the large file in megabytes")
    size = parser.parse_args().mb
    machine, customers = describe_machine(), time_customers()
    print(customers, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, whose peak it is.
        command = [sys.executable, str(Path(__file__).with_name("big_csv.py")), str(size)]
        large = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    print(large)
    write_section("8. Own tables", "\n\n".join([machine, customers, f"One CSV file of {large}."]))


if __name__ == "__main__":
    main()
