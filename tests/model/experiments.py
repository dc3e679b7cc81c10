"""A small experiment up to the features, in a checkout of its own, and notebooks run on it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from labkit.artifacts import PLACES, save_artifact
from labkit.data.table_files import save_table
from labkit.features.row_features import RowFeatures
from labkit.params.load import load_params
from labkit.stages.source import load_bundled

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "breast_cancer"
PARTS = {"training": (0, 300), "validation": (300, 440), "holdout": (440, 569)}

RUN_NOTEBOOK = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in json.loads(open(sys.argv[1], encoding="utf-8").read())["cells"]:
    source = "".join(cell["source"])
    if "parameters" in cell["metadata"].get("tags", []):
        source = f"experiment = {sys.argv[2]!r}; training = {sys.argv[3]}"
    if cell["cell_type"] == "code":
        shell.run_cell(source).raise_error()
"""


def make_experiment(root: Path) -> Path:
    """Write params, notebooks and features below `root`, which is the checkout that labkit finds; return the data."""
    for name in ("params", "notebooks"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "dvc.yaml", root)
    params, data = load_params(EXPERIMENT), root / "data" / EXPERIMENT
    frame = load_bundled("t", EXPERIMENT).sample(frac=1, random_state=0).reset_index(drop=True)
    target = params.data.target.column
    row_features = RowFeatures().fit(frame[: PARTS["training"][1]].drop(columns=target))
    save_artifact("row_features", data / PLACES["row_features"], row_features, params)
    for part, (start, end) in PARTS.items():
        rows = frame[start:end]
        features: pd.DataFrame = row_features.transform(rows.drop(columns=target)).assign(**{target: rows[target]})
        save_artifact(f"features_{part}", data / PLACES[f"features_{part}"], features, params)
        save_table(data / PLACES[f"clean_{part}"], rows)
    return data


def run_notebook(name: str, root: Path, overrides: str, *, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a notebook's cells in a process of their own, after the code `before`."""
    return subprocess.run(
        [sys.executable, "-c", before + RUN_NOTEBOOK, str(root / "notebooks" / name), EXPERIMENT, overrides],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
