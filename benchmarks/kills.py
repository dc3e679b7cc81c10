"""Whether anything is lost when runs are killed: runs of a small experiment, each killed at a random moment.

python benchmarks/kills.py           200 kills, about an hour on two cores
python benchmarks/kills.py 20 --seed 7 --in-a-row 4 --after 5
python benchmarks/kills.py 200 --every 0.05 --busy 6    the runner, at each 50 ms of its first 10 s, on a busy machine
python benchmarks/kills.py 20 --beside    beside a run of another experiment, which must not notice

Each trial changes what the experiment computes, starts `labkit run`, kills one process of it (the runner, the kernels'
server, a keeper, a kernel, a stage process) at a random moment, or several runs so one after another, and runs again.
The data, predictions and metrics in place then must be byte for byte those of an undisturbed run, and still be so half
a minute later (`--after`); ledger and MLflow must agree on every run. Their runners are forks of a process that has
imported everything, so that none is killed before it does something; with `--every` they are programs.
With `--beside`, a run of another experiment starts at the same moment; it has to finish with the same outputs. Half of
the runs are not killed but interrupted.
With `--every`, kernels are warm, so that their server has seconds to import, and every process of the
checkout is examined, not only those below the runner when it was killed.

Prints one line per trial and a summary, which goes into RESULTS.md if there were a hundred or more; ends with 1 if
anything was lost, doubled or left over.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from labkit.params.yaml_text import parse_written_yaml as parse_yaml
from labkit.run.kernels import socket_dirs
from labkit.storage.locks import open_lock, take_lock
from mlflow import MlflowClient
from side_by_side import describe_machine, write_section

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import call_labkit, call_program  # noqa: E402
from tests.run.small import STAGES, is_alive, load_ledger, make_small, start, start_program  # noqa: E402

LONGEST_SECONDS = 2
"""How long something may outlive a kill."""
FEWEST_TO_TELL = 100
INTERRUPTED_SHARE = 0.5
OTHER = "other"
"""The experiment that runs beside the one that is killed."""
SOURCES = {
    "eda": "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\ntime.sleep(0.3)",
    "wrangling": "time.sleep(0.5)",
    "features": """
(folder / "predictions.csv").write_text("\\n".join(f"{n},{n * seed % 97}" for n in range(5000)))
(folder / "metrics.json").write_text(json.dumps({"mae": seed / 7}))
time.sleep(0.3)
""",
}
"""What the cells do in addition: a child that would outlive its kernel, and time to be killed in."""


@dataclass
class Tally:
    """What was seen over all kills."""

    killed: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    n_left: int = 0


def find_role(process: psutil.Process, runner: int) -> str:
    """Return which part of a run a process is."""
    words = " ".join(process.cmdline())
    if process.pid == runner:
        return "runner"
    if "ipykernel_launcher" in words:
        return "kernel"
    if "labkit.run.kernels.fork_server" in words:
        parent = process.parent()
        return "keeper" if parent and "labkit.run.kernels.fork_server" in " ".join(parent.cmdline()) else "server"
    if "labkit" in words and " stage " in words:
        return "stage"
    return "other"


def list_parts(runner: int) -> dict[str, list[psutil.Process]]:
    """Return the processes of a run by role."""
    parts: dict[str, list[psutil.Process]] = {}
    try:
        process = psutil.Process(runner)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {}
    for one in family:
        try:
            parts.setdefault(find_role(one, runner), []).append(one)
        except psutil.Error:
            continue
    return parts


def set_seed(root: Path, seed: int) -> None:
    """Change what the experiment computes: the first stage's code, and with it all that comes after."""
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if source.startswith("stage, seed = "):
                head, _, rest = source.partition("\n")
                cell["source"] = f"{head.rpartition(', ')[0]}, {seed}\n{rest}"
        path.write_text(json.dumps(notebook))


def digest_outputs(root: Path, experiment: str = "small") -> dict[str, str]:
    """Return the digest of every file that the stages wrote."""
    folders = [root / "data" / experiment / stage for stage in STAGES]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_ledger(root: Path) -> list[str]:
    """Return what is wrong with the ledger: a start without one done, a done without a start, two of either."""
    lines = load_ledger(root)
    kinds = Counter((line["run"], line["kind"]) for line in lines if line["kind"] in ("start", "done"))
    runs = {run for run, _ in kinds}
    return [f"{run}: {kinds[run, 'start']} start, {kinds[run, 'done']} done" for run in sorted(runs)
            if (kinds[run, "start"], kinds[run, "done"]) != (1, 1)]  # fmt: skip


def check_tracked(root: Path, experiment: str = "small") -> list[str]:
    """Return where MLflow and the ledger disagree about the runs of an experiment."""
    lines = [line for line in load_ledger(root) if line["run"].startswith(f"{experiment}-")]
    stages = {line["run"]: line["stage"] for line in lines if line["kind"] == "start"}
    ends = {line["run"]: line["outcome"] for line in lines if line["kind"] == "done"}
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    tracked = client.get_experiment_by_name(experiment)
    found = client.search_runs([tracked.experiment_id], max_results=10_000)
    statuses = {run.data.tags["labkit.run"]: run.info.status for run in found if "labkit.run" in run.data.tags}
    faults = [f"MLflow holds {run.info.run_name}, RUNNING" for run in found if run.info.status == "RUNNING"]
    faults += [f"MLflow holds {run}, which the ledger does not know" for run in statuses if run not in ends]
    faults += [f"MLflow lacks {run}" for run in ends if stages[run] and ends[run] == "finished" and run not in statuses]
    for run, status in statuses.items():
        if run in ends and status != {"finished": "FINISHED", "interrupted": "KILLED"}.get(ends[run], "FAILED"):
            faults.append(f"{run}: {ends[run]} in the ledger, {status} in MLflow")
    return faults


def expect_outputs(seed: int, experiment: str = "small") -> dict[str, str]:
    """Return what an undisturbed run writes, which is compared with one at the start."""
    contents = {f"{stage}/numbers.json": json.dumps([stage, seed, *range(2000)]) for stage in STAGES}
    contents["features/predictions.csv"] = "\n".join(f"{n},{n * seed % 97}" for n in range(5000))
    contents["features/metrics.json"] = json.dumps({"mae": seed / 7})
    return {
        f"data/{experiment}/{name}": hashlib.sha256(content.encode()).hexdigest() for name, content in contents.items()
    }


def kill_one(root: Path, *, longest_seconds: float, rng: random.Random, tally: Tally) -> str:
    """Start a run, kill one of its processes at a random moment, and describe in a line what was killed."""
    run = start(root, "run", "small", "--cold")
    time.sleep(rng.uniform(0, longest_seconds))
    parts = list_parts(run.pid)
    family = [process for processes in parts.values() for process in processes]
    roles = sorted(role for role in parts if role != "other")
    role = rng.choice(roles) if roles else "none"
    if roles:
        rng.choice(parts[role]).send_signal(signal.SIGKILL)
    run.communicate(timeout=120)
    _, alive = psutil.wait_procs([process for process in family if process.pid != run.pid], timeout=2)
    n_left = sum(map(is_alive, alive))
    tally.n_left += n_left
    tally.killed[role] += 1
    return f"{role} of {', '.join(roles) or 'nothing'}, {n_left} left"


def find_processes(root: Path) -> list[psutil.Process]:
    """Return every process of a checkout, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if is_alive(process) and process.environ().get("LABKIT_ROOT") == str(root):
                found.append(process)
    return found


@contextmanager
def keep_busy(n: int) -> Iterator[None]:
    """Let `n` processes do nothing but use CPU time while the block runs."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def kill_at(root: Path, moment: float, tally: Tally) -> str:
    """Start a run with warm kernels, kill its runner after some seconds, and return in a line what was left."""
    run = start_program(root, "run", "small")
    time.sleep(moment)
    run.send_signal(signal.SIGKILL)
    run.wait()
    killed = time.monotonic()
    while (left := find_processes(root)) and time.monotonic() - killed < LONGEST_SECONDS:
        time.sleep(0.02)
    seconds = time.monotonic() - killed
    names = [f"{find_role(process, run.pid)} ({process.pid})" for process in left]
    for process in left:
        process.kill()
    tally.killed["runner"] += 1
    tally.n_left += len(left)
    return f"runner after {moment:.2f} s, {', '.join(names) or f'nothing left after {seconds:.2f} s'}"


def kill_in_turn(n: int, *, every: float, n_busy: int, folder: Path) -> Tally:
    """Kill the runner of `n` runs, each a little later than the one before, and return what was seen."""
    tally = Tally()
    root = make_small(folder / "checkout", **SOURCES)
    assert call_program(root, "run", "small").returncode == 0
    with keep_busy(n_busy):
        for number in range(n):
            set_seed(root, number)
            print(kill_at(root, number * every, tally), flush=True)
    seed = n + 1
    set_seed(root, seed)
    tally.faults += run_again(root, seed)
    return tally


def list_abandoned(before: float) -> list[Path]:
    """Return the folders of sockets older than a moment whose owner is gone: the run after it removes them."""
    owners = Path(tempfile.gettempdir()).glob(f"{socket_dirs.PREFIX}*/{socket_dirs.OWNER}")
    return [path.parent for path in owners if path.stat().st_mtime < before and is_free(path)]


def is_free(path: Path) -> bool:
    """Return whether nobody holds the lock that a file carries."""
    with open_lock(path) as handle:
        return take_lock(handle, is_waiting=False)


def run_again(root: Path, seed: int) -> list[str]:
    """Run to the end after kills, and return what differs from an undisturbed run or was left over."""
    old = time.time() - socket_dirs.YOUNGEST_SECONDS
    again = call_labkit(root, "run", "small", "--cold")
    faults = check_ledger(root) + check_tracked(root)
    if again.returncode:
        faults.append(f"run again ended with {again.returncode}: {again.stderr[-500:]}")
    if digest_outputs(root) != expect_outputs(seed):
        faults.append("other outputs than an undisturbed run")
    if list((root / ".labkit" / "work").iterdir()) or list(root.rglob(".*.part")) or list_abandoned(old):
        faults.append("left-over files")
    return faults


def kill_beside(n: int, *, seed: int, folder: Path) -> Tally:
    """Kill or interrupt `n` runs beside those of another experiment, and return what was seen."""
    rng, tally = random.Random(seed), Tally()
    root = make_small(folder / "checkout", experiments=("small", OTHER), **SOURCES)
    begun = time.monotonic()
    assert call_labkit(root, "run", "small", "--cold").returncode == 0
    longest = 1.5 * (time.monotonic() - begun)
    for trial in range(n):
        changed = 1000 * (seed + 1) + trial
        set_seed(root, changed)
        pair = [start(root, "run", name, "--cold") for name in ("small", OTHER)]
        killed = end_one(pair[0], longest_seconds=longest, rng=rng, tally=tally)
        printed = [run.communicate(timeout=300) for run in pair]
        faults = []
        if pair[1].returncode:
            faults.append(f"the other run ended with {pair[1].returncode}: {printed[1][1][-500:]}")
        if digest_outputs(root, OTHER) != expect_outputs(changed, OTHER):
            faults.append("other outputs of the other run")
        stages = parse_yaml((root / "dvc.lock").read_bytes(), "dvc.lock")["stages"]
        faults += [f"dvc.lock lacks {stage}@{OTHER}" for stage in STAGES if f"{stage}@{OTHER}" not in stages]
        faults += run_again(root, changed) + check_tracked(root, OTHER)
        if len(parse_yaml((root / "dvc.lock").read_bytes(), "dvc.lock")["stages"]) != 2 * (len(STAGES) + 1):
            faults.append("dvc.lock lacks stages")
        tally.faults += [f"seed {changed}: {fault}" for fault in faults]
        print(f"seed {changed}: {killed}", *faults, flush=True)
    return tally


def end_one(run: "subprocess.Popen[str]", *, longest_seconds: float, rng: random.Random, tally: Tally) -> str:
    """Kill one process of a run at a random moment, or interrupt the run, and describe in a line what was done."""
    moment = rng.uniform(0, longest_seconds)
    time.sleep(moment)
    parts = list_parts(run.pid)
    roles = sorted(role for role in parts if role != "other")
    if not roles or rng.random() < INTERRUPTED_SHARE:
        run.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        tally.killed["interrupted"] += 1
        return f"interrupted after {moment:.1f} s"
    role = rng.choice(roles)
    rng.choice(parts[role]).send_signal(signal.SIGKILL)
    tally.killed[role] += 1
    return f"{role} killed after {moment:.1f} s"


def kill_runs(n: int, *, in_a_row: int, seed: int, after_seconds: float, folder: Path) -> Tally:
    """Kill `n` runs and return what was seen."""
    rng, tally = random.Random(seed), Tally()
    root = make_small(folder / "checkout", **SOURCES)
    for number in range(2):  # the first makes the database
        set_seed(root, number)
        begun = time.monotonic()
        done = call_labkit(root, "run", "small", "--cold")
        assert done.returncode == 0, done.stderr
        assert digest_outputs(root) == expect_outputs(number)
    longest = time.monotonic() - begun
    for first in range(0, n, in_a_row):
        changed = 1000 * (seed + 1) + first
        set_seed(root, changed)
        killed = [
            kill_one(root, longest_seconds=longest, rng=rng, tally=tally) for _ in range(min(in_a_row, n - first))
        ]
        faults = [f"seed {changed}: {fault}" for fault in run_again(root, changed)]
        tally.faults += faults
        print(f"seed {changed}: killed {'; then '.join(killed)}", *faults, flush=True)
    before = digest_outputs(root)
    time.sleep(after_seconds)
    if digest_outputs(root) != before:
        tally.faults.append("outputs changed after the last run had ended")
    return tally


def main() -> None:
    """Read the words, kill, and sum up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.0, help="Seconds by which each kill of a runner comes later.")
    parser.add_argument("--beside", action="store_true", help="Kill beside a run of another experiment.")
    parser.add_argument("--busy", type=int, default=0, help="Processes that keep the machine busy, with --every.")
    parser.add_argument("--in-a-row", type=int, default=1, help="How many runs are killed before one may end.")
    parser.add_argument(
        "--after", type=float, default=30.0, help="Seconds in which what a kill left behind may still come to its end."
    )
    words = parser.parse_args()
    begun, machine = time.monotonic(), describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        # Of these runs alone, whatever others leave at the same time.
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        if words.beside:
            tally = kill_beside(words.n, seed=words.seed, folder=Path(folder))
        elif words.every:
            tally = kill_in_turn(words.n, every=words.every, n_busy=words.busy, folder=Path(folder))
        else:
            tally = kill_runs(
                words.n, in_a_row=words.in_a_row, seed=words.seed, after_seconds=words.after, folder=Path(folder)
            )
    killed = ", ".join(f"{role} {count}" for role, count in tally.killed.most_common())
    print(f"{words.n} kills ({killed}) in {(time.monotonic() - begun) / 60:.0f} min")
    print(f"{tally.n_left} processes left 2 s after a kill, {len(tally.faults)} faults")
    if words.n >= FEWEST_TO_TELL and not words.every and not words.beside:
        summary = (
            f"{words.n} runs killed at a random moment ({killed}), each run again: **{len(tally.faults)} faults**, "
            f"{tally.n_left} processes left 2 s after a kill. Verified each time: whether data, predictions and "
            "metrics are byte for byte those of an undisturbed run, whether ledger and MLflow agree on every run, "
            f"whether anything is left over; and {words.after:g} s after the last, whether this still holds."
        )
        write_section("7. Killed runs", "\n\n".join([machine, summary, *tally.faults]))
    print("\n".join(tally.faults))
    sys.exit(bool(tally.faults or tally.n_left))


if __name__ == "__main__":
    main()
