"""How long an explanation takes, and how exactly it adds up, by kind of model.

python benchmarks/explain.py          all kinds, 5,000 training rows; prints a table for SERVING.md
python benchmarks/explain.py 50000    the same with more training rows; kinds can be named after the number
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from labkit.features.row_features import RowFeatures
from labkit.model.estimators import candidates, preprocessing
from labkit.model.explanation.background import choose_background, make_background_files
from labkit.model.explanation.explaining_time import count_affordable_rows
from labkit.model.onnx import converters
from labkit.model.onnx.compact import compact
from labkit.model.release import bundle
from labkit.model.training import comparison
from labkit.params.tables import Target
from labkit.params.training import DUMMY
from labkit.serving.engine import Engine, load_engine
from side_by_side import describe_machine

N_ROWS, N_EXPLAINED, N_ROUNDS = 5000, 20, 3
TASKS = ("two classes", "four classes", "regression")


def make_table(task: str, n_rows: int) -> tuple[pd.DataFrame, pd.Series]:
    """Return 20 columns of numbers and 6 of categories, and a target that depends on half of them."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(n_rows, 20))).rename(columns="n{}".format)
    for place in range(6):
        frame[f"c{place}"] = random.choice(["a", "b", "c", "d", "e"], n_rows)
    score = frame[[f"n{place}" for place in range(10)]].sum(axis=1) + 2 * (frame["c0"] == "a") * frame["n0"]
    score += random.normal(size=n_rows)
    if task == "regression":
        return frame, 100 * score
    n_classes = 2 if task == "two classes" else 4
    return frame, pd.qcut(score, n_classes, labels=[f"class {place}" for place in range(n_classes)]).astype(str)


def make_engine(folder: Path, name: str, task: str, n_rows: int) -> tuple[Engine, pd.DataFrame]:
    """Return an engine with the release of a model, and rows to explain."""
    frame, y_true = make_table(task, n_rows)
    target = Target(column="y", task="regression" if task == "regression" else "classification")
    row_features = RowFeatures().fit(frame)
    features = row_features.transform(frame)
    candidate = candidates.make_candidate(name, target, preprocessing.find_kinds(features), seed=0)
    model = comparison.fit_model(candidate, row_features, [(features, y_true)], target=target, seed=0)
    predict = model.predict if task == "regression" else model.predict_proba
    classes = [] if task == "regression" else model[-1].classes_.tolist()
    facts = {"experiment": "t", "task": target.task, "classes": classes, "target": "y", "positive": None}
    graph, agreed = compact(converters.convert(model), row_features), json.dumps({"columns": {}})
    bundle.write_release(folder, model, graph=graph, facts=facts, contract=agreed, card="", example=frame)
    n_background = count_affordable_rows(model, len(frame.columns), 20)
    chosen = choose_background(frame, predict, n_rows=n_background, seed=0)
    bundle.extend_release(folder, make_background_files(chosen))
    return load_engine(folder, digest=None, version=None), frame.tail(N_EXPLAINED)


def measure(name: str, task: str, n_rows: int) -> str:
    """Return a line of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        engine, frame = make_engine(Path(scratch) / "release", name, task, n_rows)
        columns = engine.reader.make_columns(engine.reader.convert(json.loads(frame.to_json(orient="records"))))
        assert engine.background is not None
        cpu, wall = [], []
        for _ in range(N_ROUNDS):
            started, spent = time.perf_counter(), time.process_time()
            found = engine.explain(columns, engine.background)
            wall.append(1000 * (time.perf_counter() - started) / N_EXPLAINED)
            cpu.append(1000 * (time.process_time() - spent) / N_EXPLAINED)
        sums = [one.base + one.contributions.sum(axis=0) - one.prediction for one in found]
        predicted = engine.predict(columns).reshape(N_EXPLAINED, -1)
        apart = max(float(np.abs(one.prediction - row).max()) for one, row in zip(found, predicted, strict=True))
        scale = max(1.0, float(np.abs(predicted).max()))
        cells = [name.replace("_", " "), task, str(found[0].n_background), f"{min(cpu):.1f}", f"{min(wall):.1f}"]
        cells += [f"{np.abs(sums).max() / scale:.0e}", f"{apart / scale:.0e}"]
        return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(describe_machine())
    head = [
        "model",
        "task",
        "background rows",
        "CPU ms/row",
        "ms/row",
        "sum − prediction",
        "prediction − that of /predict",
    ]
    print(f"| {' | '.join(head)} |\n|---|---|---:|---:|---:|---:|---:|")
    n_rows = int(sys.argv[1]) if sys.argv[1:] else N_ROWS
    for name in sys.argv[2:] or [name for name in candidates.ESTIMATORS if name != DUMMY]:  # that has no graph
        for task in TASKS:
            if candidates.ESTIMATORS[name][task == "regression"] is not None:
                print(measure(name, task, n_rows), flush=True)
