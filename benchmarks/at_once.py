"""Two experiments run at once beside the same two run in turn, each pair in fresh checkouts.

python benchmarks/at_once.py        three pairs, about fifteen minutes on two cores

Verified of each pair: outputs, metrics, predictions, ONNX graphs and dvc.lock are byte for byte the same, and so are
the records of the runs apart from names, times and memory. Writes a section of RESULTS.md; ends with 1 if anything
differs.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from side_by_side import describe_machine, write_section

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import LABKIT, make_checkout, make_environment  # noqa: E402
from tests.run.small import strip_ledger  # noqa: E402

EXPERIMENTS = ("diabetes", "breast_cancer")


def digest_results(root: Path) -> dict[str, str]:
    """Return the digests of all that the stages wrote, and of dvc.lock."""
    folders = [root / "data" / name for name in EXPERIMENTS]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and "scratch" not in path.parts]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in [root / "dvc.lock", *files]}  # fmt: skip


def run_all(root: Path, *, is_at_once: bool) -> tuple[float, float]:
    """Run both experiments and return wall and CPU seconds."""
    begun, before = time.monotonic(), os.times()
    commands = [[*EXPERIMENTS, "--jobs", "2"]] if is_at_once else [[name] for name in EXPERIMENTS]
    for names in commands:
        subprocess.run([LABKIT, "run", *names], cwd=root, env=make_environment(root), check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - begun, used


def compare(in_turn: Path, at_once: Path) -> list[str]:
    """Return what differs between two checkouts."""
    one, other = digest_results(in_turn), digest_results(at_once)
    faults = [f"{name} differs" for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    kept = [name for name in EXPERIMENTS if strip_ledger(in_turn, name) != strip_ledger(at_once, name)]
    return faults + [f"records of {name} differ" for name in kept]


def main() -> None:
    """Measure, compare and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_pairs", nargs="?", type=int, default=3)
    n_pairs, machine = parser.parse_args().n_pairs, describe_machine()
    lines = ["| pair | load | in turn | at once | ratio |", "|---|---:|---:|---:|---:|"]
    ratios, faults, n_files = [], list[str](), 0
    for pair in range(n_pairs):
        with tempfile.TemporaryDirectory() as folder:
            # Folders of the same name, which may be in what is recorded.
            roots = {is_at_once: Path(folder, str(is_at_once), "checkout") for is_at_once in (False, True)}
            for root in roots.values():
                make_checkout(root)
            load, taken = psutil.getloadavg()[0], dict[bool, tuple[float, float]]()
            for is_at_once in (False, True) if pair % 2 == 0 else (True, False):
                taken[is_at_once] = run_all(roots[is_at_once], is_at_once=is_at_once)
            faults += [f"pair {pair + 1}: {fault}" for fault in compare(roots[False], roots[True])]
            n_files = len(digest_results(roots[True]))
        ratios.append(taken[True][0] / taken[False][0])
        wall = [f"{taken[is_at_once][0]:.0f} s ({taken[is_at_once][1]:.0f} s CPU)" for is_at_once in (False, True)]
        lines.append(f"| {pair + 1} | {load:.1f} | {wall[0]} | {wall[1]} | {ratios[-1]:.2f} |")
        print(lines[-1], *faults, flush=True)
    summary = (
        f"`labkit run {' '.join(EXPERIMENTS)} --jobs 2` beside the two runs in turn, in fresh checkouts: it takes "
        f"**{statistics.median(ratios):.2f} times** as long (median of {n_pairs} pairs). Compared of each pair: "
        f"{n_files - 1} files that stages wrote, dvc.lock, and the records of the runs apart from names and times; "
        f"**{len(faults)} differences**."
    )
    print(json.dumps(faults), summary)
    write_section("12. Experiments at once", "\n\n".join([machine, summary, "\n".join(lines), *faults]))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
