"""What checkpoints cost a run that does not fail, and what `--resume` saves after a failure in the last cell.

python benchmarks/resume.py [N_ROUNDS]        three rounds, about ten minutes on two cores

Both in `04_training` of diabetes, in two checkouts in turn: with checkpoints as they are by default, and without.
CPU seconds are those of the command and of all that it starts. Verified in each round: the stage that was resumed
wrote the same bytes as the one that started at its first cell. Writes a section of RESULTS.md.
"""

import argparse
import ctypes
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import nbformat
from side_by_side import describe_machine, write_section

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import LABKIT, make_checkout, make_environment  # noqa: E402

SET_CHILD_SUBREAPER = 36
WAYS = ("without", "with")
RUN = ("run", "diabetes", "--until", "training")


def call(root: Path, *arguments: str, code: int = 0) -> tuple[float, float]:
    """Run the command line, and return its wall and CPU seconds with those of all processes that have ended since."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([LABKIT, *arguments], cwd=root, env=make_environment(root), capture_output=True, text=True)
    wall = time.monotonic() - begun
    if done.returncode != code:
        sys.exit(done.stdout + done.stderr)
    if "--resume" in arguments and "continues at cell" not in done.stdout:
        sys.exit(f"not resumed: {done.stdout}")
    time.sleep(1)  # kernels of a failed run end by themselves
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def end_last_cell_with(root: Path, line: str) -> None:
    """Replace the last line of the last cell of the notebook that trains, a comment at first."""
    path = root / "notebooks" / "04_training.ipynb"
    notebook = nbformat.read(path, as_version=4)
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    kept = [one for one in last.source.splitlines() if not one.endswith("# of the benchmark")]
    last.source = "\n".join([*kept, f"{line}  # of the benchmark"])
    nbformat.write(notebook, path)


def digest_model(root: Path) -> str:
    """Return a digest of all that the stage wrote."""
    files = sorted(path for path in (root / "data" / "diabetes" / "model").rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def measure_round(roots: dict[str, Path], number: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Measure an ordinary run in each checkout, then the run after a failure in the last cell."""
    taken = {}
    ways = WAYS if number % 2 == 0 else WAYS[::-1]
    for way in ways:
        taken["no failure", way] = call(roots[way], *RUN, "--force", "training")
    for way in ways:
        end_last_cell_with(roots[way], "1 / 0")
        call(roots[way], *RUN, code=1)
        end_last_cell_with(roots[way], f"round = {number}")
        taken["after the failure", way] = call(roots[way], *RUN, *(["--resume"] if way == "with" else []))
    if digest_model(roots["with"]) != digest_model(roots["without"]):
        sys.exit("the resumed stage wrote other bytes")
    return taken


def main() -> None:
    """Measure, compare and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_rounds", nargs="?", type=int, default=3)
    n_rounds, machine = parser.parse_args().n_rounds, describe_machine()
    # What outlives a command, such as a kept kernel, becomes a child of this process, which counts its CPU seconds.
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        roots = {way: make_checkout(Path(folder, way, "checkout")) for way in WAYS}
        for way, root in roots.items():
            call(root, *RUN[:-1], "features", "-S", f"limits.checkpoint_seconds={10 if way == 'with' else 'null'}")
            call(root, *RUN)
        for number in range(n_rounds):
            rounds.append(measure_round(roots, number))
            print(rounds[-1], flush=True)
    lines = ["| | without: wall, CPU | with: wall, CPU | ratio of wall | ratio of CPU |", "|---|---:|---:|---:|---:|"]
    for what in ("no failure", "after the failure"):
        walls, cpus = ([[one[what, way][at] for one in rounds] for way in WAYS] for at in (0, 1))
        cells = [
            f"{statistics.median(wall):.1f} s, {statistics.median(cpu):.1f} s"
            for wall, cpu in zip(walls, cpus, strict=True)
        ]
        ratios = [statistics.median(b / a for a, b in zip(*taken, strict=True)) for taken in (walls, cpus)]
        lines.append(f"| {what} | {cells[0]} | {cells[1]} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    summary = (
        "`labkit run diabetes --until training`, of which only `04_training` runs: with [checkpoints]"
        "(../docs/pipeline.md#resume-inside-a-notebook) as they are by default, and without; then after a failure in "
        f"its last cell, with `--resume` and without. Medians of {n_rounds} rounds, in which the ways alternated. The "
        "resumed stage wrote the same bytes each time. Each command also starts labkit and DVC, and imports what "
        "kernels need."
    )
    write_section("16. Resuming a stage", "\n\n".join([machine, summary, "\n".join(lines)]))


if __name__ == "__main__":
    main()
