"""Cost of serving a released model: labkit's ONNX runtime, the scikit-learn pipeline and MLflow's pyfunc, side by side.

Run as `python benchmarks/runtime.py data/diabetes/release data/breast_cancer/release …`. Every measurement runs in a
new process; the three ways take turns.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from side_by_side import describe_machine, write_section

N_ROUNDS = 7
RUNTIME = """
from labkit.model.release.runtime import load_runtime
opened = load_runtime(folder)
predict = lambda: opened.predict(rows)
"""
PIPELINE = """
import pandas as pd
from labkit.model.release.skops_file import load_model
opened = load_model(folder / "model.skops")
frame = pd.DataFrame(rows)
score = opened.predict_proba if hasattr(opened[-1], "classes_") else opened.predict
predict = lambda: score(frame)
"""
PYFUNC = """
import pandas as pd
import mlflow
opened = mlflow.pyfunc.load_model(sys.argv[2])
frame = pd.DataFrame(rows)
predict = lambda: opened.predict(frame)
"""
MEASUREMENT = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
folder, example = Path(sys.argv[1]), json.loads((Path(sys.argv[1]) / "input_example.json").read_text())
rows = [dict(zip(example["columns"], example["data"][0]))]
{code}
predict()
first_seconds = time.perf_counter() - start
times = []
for _ in range(300):
    begin = time.perf_counter()
    predict()
    times.append(time.perf_counter() - begin)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([first_seconds, sorted(times)[len(times) // 2], peak / 1024]))
"""


def find_ways(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, code and model folder of each way to serve a release; pyfunc only if MLflow stores the model here."""
    yield "labkit runtime (ONNX, numpy)", RUNTIME, ""
    yield "scikit-learn pipeline (skops)", PIPELINE, ""
    experiment, root = folder.parent.name, folder.absolute().parents[2]
    stored = sorted(root.glob(f"mlruns/{experiment}/*/artifacts/model/MLmodel"), key=lambda path: path.stat().st_mtime)
    if stored:
        yield "MLflow pyfunc", PYFUNC, str(stored[-1].parent)


def measure_process(folder: Path, code: str, model: str) -> list[float]:
    """Return seconds to the first prediction, median seconds per row and peak memory in MiB, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", MEASUREMENT.format(code=code), str(folder), model],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{folder}: {done.stderr}")
    measured: list[float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def compare_ways(folder: Path) -> str:
    """Return the table of one release, under a sentence that sums it up."""
    ways = list(find_ways(folder))
    found: dict[str, list[list[float]]] = {name: [] for name, _, _ in ways}
    for number in range(N_ROUNDS):
        for name, code, model in ways:
            found[name].append(measure_process(folder, code, model))
            print(f"  {folder.parent.name}, {name}, round {number + 1}: {found[name][-1]}", flush=True)
    medians = {name: [statistics.median(values) for values in zip(*runs, strict=True)] for name, runs in found.items()}
    base = medians[ways[0][0]]
    slowest = list(medians)[-1]
    first_ratio, row_ratio, peak_ratio = (value / best for value, best in zip(medians[slowest], base, strict=True))
    lines = [
        f"`{folder.parent.name}`: compared with {slowest}, labkit's runtime makes its first prediction "
        f"**{first_ratio:.1f} "
        f"times** as fast and each further row {row_ratio:.0f} times as fast, with {peak_ratio:.1f} times less memory.",
        "",
        "| | first prediction, median (range) | ratio | one more row | ratio | peak memory | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, (first, row, peak) in medians.items():
        firsts = [run[0] for run in found[name]]
        lines.append(
            f"| {name} | {first:.2f} s ({min(firsts):.2f}–{max(firsts):.2f}) | {first / base[0]:.2f} "
            f"| {row * 1e3:.2f} ms | {row / base[1]:.2f} | {peak:.0f} MiB | {peak / base[2]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the releases named on the command line."""
    machine = describe_machine()
    tables = [compare_ways(Path(name)) for name in sys.argv[1:]]
    lines = [
        machine,
        "",
        f"Median of {N_ROUNDS} rounds, in turn, each time in a new process: seconds from the first "
        "import until the first prediction (imports, digests, opening the model), one further row (median of 300), "
        "and the largest resident memory. Ratios are relative to labkit's runtime; on a busy machine only they are "
        "meaningful.",
        "",
        "\n\n".join(tables),
    ]
    write_section("9. Serving one row", "\n".join(lines))


if __name__ == "__main__":
    main()
