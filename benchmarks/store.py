"""Whether the tracking store holds when many come at once, come first, or are killed as they make it.

python benchmarks/store.py           1,600 runs of 8 processes, 20 first uses by 8, 50 kills: about ten minutes
python benchmarks/store.py --small   a tenth of it

Writes a section of RESULTS.md; ends with 1 if a run was lost, a process failed or a store was not whole.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import describe_machine, write_section

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.run.small import make_small  # noqa: E402
from tests.run.together import check_whole, kill_maker, list_runs, start_together  # noqa: E402

N_PROCESSES = 8


def use_together(root: Path, n_runs: int) -> tuple[list[str], list[float]]:
    """Let eight processes record so many runs each, and return what went wrong and the seconds of each run."""
    process = start_together(root, N_PROCESSES, n_runs, stdout=subprocess.PIPE)
    output, _ = process.communicate()
    faults = check_whole(root) + ([f"ended with {process.returncode}"] if process.returncode else [])
    names = sorted(run.info.run_name for run in list_runs(root) if run.info.status == "FINISHED")
    if names != [f"run {number}" for number in range(N_PROCESSES) for _ in range(n_runs)]:
        faults.append(f"{len(names)} runs instead of {N_PROCESSES * n_runs}")
    return faults, [float(line) for line in output.split()]


def main() -> None:
    """Do all three and write what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tenth of it")
    n_runs, n_rounds, n_kills = (20, 2, 5) if parser.parse_args().small else (200, 20, 50)
    machine, faults = describe_machine(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n_rounds):
            # Another place each time: this process keeps a database open that it has looked into.
            found, _ = use_together(make_small(Path(folder) / f"round{number}", "eda"), 1)
            faults += found
            print(f"first use {number + 1}/{n_rounds}: {'; '.join(found) or 'well'}", flush=True)
        root, n_unmade = make_small(Path(folder) / "checkout", "eda"), 0
        for number in range(n_kills):
            n_unmade += kill_maker(root, random.uniform(0, 1.0))
            print(f"kill {number + 1}/{n_kills}: {n_unmade} before the store was there", flush=True)
        found, seconds = use_together(root, n_runs)
        faults += found
    summary = (
        f"**{len(faults)} faults.** {n_rounds} first uses by {N_PROCESSES} processes at once: each time one "
        f"complete store with every run in it. {n_kills} kills while the store was created, {n_unmade} of them "
        "before it "
        f"existed: the next process completed it. Then {N_PROCESSES} processes recorded {n_runs} runs each: one took "
        f"{statistics.median(seconds):.2f} s, the longest, including its wait for the others, {max(seconds):.1f} s."
    )
    write_section("6. The tracking store", "\n\n".join([machine, summary, *faults]))
    print(summary, *faults, sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
