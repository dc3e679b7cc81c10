"""One notebook with many sets of parameters: `labkit sweep` beside DVC's queue and `labkit run` one after another.

python benchmarks/sweep.py [--points 10]

All three train the same points of `diabetes` with two jobs (`labkit run` with one), in checkouts of their own in which
the earlier stages are up to date. Writes a section of RESULTS.md; ends with 1 if a point failed or wrote other bytes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML
from side_by_side import describe_machine, write_section

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from labkit.storage.digests import compute_md5  # noqa: E402

from tests.conftest import make_checkout, make_environment  # noqa: E402

MODEL, LONGEST_SECONDS = "data/diabetes/model", 1800
Files = dict[str, str]


def call(root: Path, *command: str) -> None:
    """Call a command in a checkout; its output is shown if it fails."""
    # DVC runs its points in copies of the checkout, which labkit finds by itself; all are recorded in one store.
    environment = {name: value for name, value in make_environment(root).items() if name != "LABKIT_ROOT"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def make_base(root: Path) -> None:
    """Make a checkout whose stages before training are up to date and committed."""
    make_checkout(root)
    path = root / "params" / "diabetes.yaml"
    call(root, "git", "config", "user.email", "benchmark@localhost")
    call(root, "git", "config", "user.name", "benchmark")
    call(root, "labkit", "run", "diabetes", "--until", "features", "-S", "training.models=[dummy, decision_tree]")
    assert "decision_tree" in path.read_text()
    call(root, "git", "add", "-A")
    call(root, "git", "commit", "-qm", "features")


def copy_base(base: Path, root: Path) -> Path:
    """Copy a checkout, without the records in MLflow, which name its place."""
    shutil.copytree(base, root, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))
    return root


def read_cached(root: Path, lock: str) -> Files:
    """Return the MD5 of each file of the model that a dvc.lock names."""
    outputs = YAML(typ="safe").load(lock)["stages"]["training@diabetes"]["outs"]
    md5 = next(output["md5"] for output in outputs if output["path"] == MODEL)
    content = (root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


def read_folder(folder: Path) -> Files:
    """Return the MD5 of each file of a folder."""
    return {path.relative_to(folder).as_posix(): compute_md5(path) for path in folder.rglob("*") if path.is_file()}


def run_queue(root: Path, folds: list[int]) -> list[Files]:
    """Run the points in DVC's queue, and wait for the last success."""
    for number in folds:
        setting = f"params/diabetes.yaml:training.folds={number}"
        call(root, "dvc", "exp", "run", "--queue", "--name", f"folds{number}", "-S", setting, "training@diabetes")
    call(root, "dvc", "queue", "start", "-j", "2")
    names = [f"folds{number}" for number in folds]
    until, found = time.monotonic() + LONGEST_SECONDS, dict[str, str]()
    while len(found) < len(folds) and time.monotonic() < until:
        time.sleep(0.5)
        listed = subprocess.run(
            ["git", "for-each-ref", "--format=%(refname)", "refs/exps"], cwd=root, capture_output=True, text=True
        )
        found = {name.rsplit("/", 1)[1]: name for name in listed.stdout.split() if name.endswith(tuple(names))}
    locks = [["git", "show", f"{found[name]}:dvc.lock"] if name in found else [] for name in names]
    return [read_cached(root, subprocess.check_output(one, cwd=root, text=True)) if one else {} for one in locks]


def run_in_turn(root: Path, folds: list[int]) -> list[Files]:
    """Run the points one after another."""
    found = []
    for number in folds:
        call(root, "labkit", "run", "diabetes", "--until", "training", "-S", f"training.folds={number}")
        found.append(read_folder(root / MODEL))
    return found


def run_sweep(root: Path, folds: list[int]) -> list[Files]:
    """Run the points as a sweep."""
    call(root, "labkit", "sweep", "diabetes", "--jobs", "2", "-S", f"training.folds={','.join(map(str, folds))}")
    sweeps = root / ".labkit" / "sweeps" / "diabetes"
    rows = sorted(json.loads((sweeps / "latest.json").read_text())["rows"], key=lambda row: row["number"])
    return [read_folder(sweeps / "nodes" / row["keys"]["training"][:32] / MODEL) for row in rows]


def count_same(found: list[Files], expected: list[Files]) -> int:
    """Return how many points wrote the same bytes."""
    return sum(one == other and bool(one) for one, other in zip(found, expected, strict=True))


WAYS: dict[str, Callable[[Path, list[int]], list[Files]]] = {
    "`dvc exp run --queue`, `dvc queue start -j 2`": run_queue,
    "`labkit run`, one after another": run_in_turn,
    "`labkit sweep --jobs 2`": run_sweep,
}


def main() -> None:
    """Run the three in turn and write what came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10, choices=range(1, 19), metavar="N", help="1 to 18 points")
    folds = list(range(2, 2 + parser.parse_args().points))
    folds = [one if one < 5 else one + 1 for one in folds]  # 5 is the checkout's own
    machine, seconds, files, loads = describe_machine(), {}, {}, []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        make_base(base)
        for number, (name, run) in enumerate(WAYS.items()):
            root = copy_base(base, Path(folder) / f"way{number}")
            loads.append(os.getloadavg()[0])
            started = time.monotonic()
            files[name] = run(root, folds)
            seconds[name] = time.monotonic() - started
            print(f"{name}: {seconds[name]:.0f} s", flush=True)
    *_, fastest = WAYS
    same = {name: count_same(found, list(files.values())[1]) for name, found in files.items()}
    lines = [
        f"| {name} | {seconds[name]:.0f} s | {seconds[name] / seconds[fastest]:.2f} | {load:.1f} "
        f"| {same[name]} of {len(folds)} |"
        for name, load in zip(WAYS, loads, strict=True)
    ]
    text = (
        f"{len(folds)} points of one notebook, the training of `diabetes` with a dummy and a decision tree in other "
        "numbers of folds; earlier stages are up to date. Wall time from the first command to the last result, start "
        "included; the ways ran one after another on a shared machine, so ratios are rough. The last column counts the "
        "points whose model, leaderboard and choice have the bytes of `labkit run`."
    )
    table = ["| | wall | ratio | load at the start | same bytes |", "|---|---:|---:|---:|---:|", *lines]
    write_section("10. Sweeps", "\n\n".join([machine, text, "\n".join(table)]))
    print(*table, sep="\n")
    sys.exit(any(number < len(folds) for number in same.values()))


if __name__ == "__main__":
    main()
