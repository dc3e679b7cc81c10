"""Comparison and tuning of candidates, side by side in processes and one after another.

python benchmarks/training.py CHECKOUT [--before EARLIER] [--experiment flights] [--models …] [--trials 6] [--rounds 2]

In CHECKOUT, `labkit run EXPERIMENT --until features` has finished; EARLIER has the code of an earlier commit.
The ways alternate. CPU seconds are those of a process and of all that it starts; start-up is included, reading the
features is not. What was found has to be the same in all ways, to the last digit. Writes a section of RESULTS.md.
"""

import argparse
import ctypes
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from side_by_side import describe_machine, write_section

LIB = Path(__file__).resolve().parents[1] / "lib"
SET_CHILD_SUBREAPER = 36


def compare_and_tune(experiment: str, models: Sequence[str], n_trials: int) -> tuple[float, str]:
    """Return the seconds that comparison and tuning take, and a digest of everything that they find."""
    import pandas as pd
    from labkit.data.timeline import drop_labels, find_timeline
    from labkit.model.training.comparison import compare
    from labkit.model.training.tuning import tune
    from labkit.params.load import load_params

    params = load_params(experiment)
    target = params.data.target
    training = params.training.model_copy(update={"tuning_trials": n_trials, "models": tuple(models)})
    rows = pd.read_parquet(Path("data") / experiment / "features" / "training.parquet")
    given = drop_labels(rows, params.data), rows[target.column]
    options = {"target": target, "training": training, "seed": params.seed, "timeline": find_timeline(rows)}
    started = time.monotonic()
    compared = compare(*given, **options)
    tuned = tune(compared, *given, **options)
    seconds = time.monotonic() - started
    frames = [frame.to_csv(float_format="%.17g") for frame in (compared.frame, tuned.frame)]
    folds = [values.tolist() for values in (*compared.by_fold.values(), *tuned.by_fold)]
    return seconds, hashlib.sha256(repr((frames, folds, tuned.settings)).encode()).hexdigest()


def measure(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run one way in a process of its own, and return its seconds and digest."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run_once(experiment: str, models: Sequence[str], n_trials: int) -> None:
    """Fork a process that compares and tunes, adopt what it starts, and print the measurements of all."""
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reading, writing = os.pipe()
    if not os.fork():
        seconds, found = compare_and_tune(experiment, models, n_trials)
        os.write(writing, json.dumps({"wall": seconds, "digest": found}).encode())
        return
    os.close(writing)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({**json.loads(os.read(reading, 1000)), "cpu": taken.ru_utime + taken.ru_stime}))


def main() -> None:
    """Measure all ways in turn, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--experiment", default="flights")
    parser.add_argument("--models", nargs="+", default=["dummy", "hist_gradient_boosting"])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--once", action="store_true")
    chosen = parser.parse_args()
    if chosen.once:
        os.chdir(chosen.checkout)
        run_once(chosen.experiment, chosen.models, chosen.trials)
        return
    from labkit import paths

    machine = describe_machine()
    os.chdir(chosen.checkout)
    fixed = paths.make_environment()
    ways = {
        **({"before, two threads": {"PYTHONPATH": str(chosen.before / "lib")}} if chosen.before else {}),
        "one process, two threads": {"PYTHONPATH": str(LIB), "LABKIT_CORES": "1"},
        "a process on each core": {"PYTHONPATH": str(LIB)},
    }
    asked = [".", "--once", "--experiment", chosen.experiment, "--trials", str(chosen.trials), "--models"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, environment in ways.items():
            found[name].append(measure([*asked, *chosen.models], {**fixed, **environment}))
            print(name, found[name][-1], flush=True)
    digests = {one["digest"] for measured in found.values() for one in measured}
    medians = {
        name: [statistics.median(one[kind] for one in measured) for kind in ("wall", "cpu")]
        for name, measured in found.items()
    }
    first = next(iter(medians.values()))
    lines = [
        f"| {name} | {wall:.1f} s | {wall / first[0]:.2f} | {cpu:.1f} s | {cpu / first[1]:.2f} |"
        for name, (wall, cpu) in medians.items()
    ]
    same = "the same to the last digit in all ways" if len(digests) == 1 else "NOT the same in all ways"
    compared = f"Comparison of {', '.join(chosen.models)} and {chosen.trials} trials of the best"
    rounds = f"medians of {chosen.rounds} rounds, in which the ways alternated. Results: {same}"
    table = "\n".join(["| | wall | ratio | CPU | ratio |", "|---|---:|---:|---:|---:|", *lines])
    write_section(
        "15. Candidates side by side",
        f"{machine}\n\n{compared}, on the features of `{chosen.experiment}`; {rounds}.\n\n{table}",
    )


if __name__ == "__main__":
    main()
