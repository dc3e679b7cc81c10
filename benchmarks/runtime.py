"""What a released model costs where it serves: its ONNX runtime beside the scikit-learn pipeline of the same release.

Run as `python benchmarks/runtime.py data/diabetes/release data/breast_cancer/release …`. Each way in turn, in
processes of their own: importing and opening, then single rows, then the largest resident memory.
"""

import json
import subprocess
import sys
from pathlib import Path

from side_by_side import Timing, describe_machine, write_section

ROUNDS = 5
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
ask = opened.predict_proba if hasattr(opened[-1], "classes_") else opened.predict
predict = lambda: ask(frame)
"""
MEASURED = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
folder, example = Path(sys.argv[1]), json.loads((Path(sys.argv[1]) / "input_example.json").read_text())
rows = [dict(zip(example["columns"], example["data"][0]))]
{open}
first = predict()
opened_seconds = time.perf_counter() - start
times = []
for _ in range(300):
    begin = time.perf_counter()
    predict()
    times.append(time.perf_counter() - begin)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([opened_seconds, sorted(times)[len(times) // 2], peak / 1024]))
"""


def measure(folder: Path, code: str) -> tuple[float, float, float]:
    """Return seconds to the first prediction, median seconds of one row, and peak memory in MB, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(open=code), folder], capture_output=True, text=True, check=True
    )
    seconds, row, peak = json.loads(done.stdout)
    return seconds, row, peak


def compare(folder: Path) -> str:
    """Return one line of the table for one release."""
    found: dict[str, list[tuple[float, float, float]]] = {"runtime": [], "pipeline": []}
    for _ in range(ROUNDS):
        found["runtime"].append(measure(folder, RUNTIME))
        found["pipeline"].append(measure(folder, PIPELINE))
    start, row, peak = (
        {name: Timing(runs[0][place], tuple(run[place] for run in runs[1:])).median for name, runs in found.items()}
        for place in range(3)
    )
    cells = [f"{start[name]:.2f} s" for name in found] + [f"{row[name] * 1e3:.2f} ms" for name in found]
    return " | ".join(["| " + folder.parent.name, *cells, *(f"{peak[name]:.0f} MB" for name in found)]) + " |"


def main() -> None:
    """Measure the releases named on the command line."""
    folders = [Path(name) for name in sys.argv[1:]]
    lines = [
        describe_machine(),
        "",
        "To the first prediction from a cold process (imports, digests checked, model opened), one more row, and peak "
        "memory: by the ONNX graph and numpy alone, and by the scikit-learn pipeline of the same release.",
        "",
        "| release | first: runtime | pipeline | one row: runtime | pipeline | memory: runtime | pipeline |",
        "|---|---|---|---|---|---|---|",
        *(compare(folder) for folder in folders),
    ]
    write_section("9. Serving one row", "\n".join(lines))


if __name__ == "__main__":
    main()
