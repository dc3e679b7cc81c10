"""How the cost of commands grows with the runs on record and with the experiments in dvc.yaml.

python benchmarks/growth.py CHECKOUT   copies of a checkout in which `labkit run diabetes` has finished

Whole runs in the ledger are copies of the latest one with other names, experiments copies of diabetes with its part
of dvc.lock. CPU seconds of the process and of all that it starts; the better of two, so an index that is made once is
not in them. Writes a section of RESULTS.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import describe_machine, write_section

LABKIT = Path(sys.executable).with_name("labkit")
RUNS, EXPERIMENTS = (10, 100, 1_000, 10_000), (3, 30, 300)
NAME = "diabetes"
COMMANDS = (["runs"], ["why", NAME], ["status", NAME], ["doctor"], ["run", NAME, "--cold"])


def copy_checkout(source: Path, folder: Path) -> Path:
    """Copy a checkout, with the times of its files, by which DVC knows them."""
    shutil.copytree(source, folder, symlinks=True)
    return folder


def add_runs(root: Path, n_runs: int) -> int:
    """Put copies of the latest run with most stages before the runs of the ledger, and return its size in bytes."""
    path = root / ".labkit" / "ledger.jsonl"
    content = path.read_text()
    lines = [(json.loads(line), line) for line in content.splitlines()]
    stages = dict[str, list[str]]()
    for entry, _ in lines:
        if entry["kind"] == "start" and entry["parent"]:
            stages.setdefault(entry["parent"], []).append(entry["run"])
    whole = max(reversed(stages), key=lambda run: len(stages[run]))
    names = [whole, *stages[whole]]
    template = "".join(f"{line}\n" for entry, line in lines if entry["run"] in names)
    for name in names:
        template = template.replace(name, f"{name}-NUMBER")
    with path.open("w") as stream:
        stream.writelines(template.replace("-NUMBER", f"-{number:05}") for number in range(n_runs))
        stream.write(content)
    return path.stat().st_size


def add_experiments(root: Path, n_experiments: int) -> None:
    """Add copies of diabetes to params, dvc.yaml and dvc.lock, as many as bring the pipeline to so many experiments."""
    listed = (root / "dvc.yaml").read_text()
    before = listed.partition("experiments: [")[2].partition("]")[0]
    names = [f"copy{number:03}" for number in range(n_experiments - len(before.split(",")))]
    (root / "dvc.yaml").write_text(listed.replace(f"[{before}]", f"[{', '.join([before, *names])}]"))
    params, lock = (root / "params" / f"{NAME}.yaml").read_text(), (root / "dvc.lock").read_text()
    for name in names:
        (root / "params" / f"{name}.yaml").write_text(params.replace(f"experiment: {NAME}", f"experiment: {name}"))
    own = lock.partition("stages:\n")[2]
    (root / "dvc.lock").write_text(lock + "".join(own.replace(NAME, name) for name in names))


def measure_cpu(root: Path, command: list[str]) -> tuple[float, float]:
    """Return CPU seconds and peak megabytes of a command, the better of two."""
    found = []
    for _ in range(2):
        process = subprocess.Popen([LABKIT, *command], cwd=root, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        found.append((used.ru_utime + used.ru_stime, used.ru_maxrss / 1000))
        if command[0] != "doctor" and process.returncode:
            raise SystemExit(f"labkit {' '.join(command)} ended with {process.returncode} in {root}")
    return min(found)


def main() -> None:
    """Measure both curves and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    source, machine = parser.parse_args().checkout, describe_machine()
    heading = "| | " + " | ".join(f"`{' '.join(command)}`" for command in COMMANDS) + " |"
    rows, sizes = [heading, "|---|" + "---:|" * len(COMMANDS)], []
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        for number, (n_runs, n_experiments) in enumerate(
            [*((one, 3) for one in RUNS), *((0, one) for one in EXPERIMENTS)]
        ):
            root = copy_checkout(source, Path(folder) / str(number))
            if n_runs:
                sizes.append(add_runs(root, n_runs))
            else:
                add_experiments(root, n_experiments)
            what = f"{n_runs:,} runs" if n_runs else f"{n_experiments} experiments"
            cells = [f"{seconds:.2f} ({peak:.0f})" for seconds, peak in (measure_cpu(root, one) for one in COMMANDS)]
            rows.append(f"| {what} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
            shutil.rmtree(root)
    about = (
        "CPU seconds (peak memory in MB). A run has nothing to do; the ledger of "
        f"{RUNS[-1]:,} runs has {sizes[-1] / 1e6:.0f} MB."
    )
    write_section("11. Growth", "\n\n".join([machine, about, "\n".join(rows)]))


if __name__ == "__main__":
    main()
