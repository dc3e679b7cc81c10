"""A checkout with a finished run on rows with times and a champion, made in process."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from labkit.artifacts import CONTRACT, PLACES
from labkit.data.cleaning import clean_table
from labkit.data.joins import join_tables
from labkit.data.split import describe_split, split_rows
from labkit.data.table_files import load_table, save_table
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.run.pipeline import experiments
from labkit.stages import publish
from labkit.stages.source import place_tables
from labkit.storage.atomic import write_json

from tests.git import commit_all
from tests.own_store import work_in
from tests.run.small import make_small
from tests.stages.releases import PASSED, TABLE, put_release

NAME = "small"


def make_table(n_days: int, per_day: int = 6) -> pd.DataFrame:
    """Return rows of so many days from 1 January 2026 on; the same first days for any number."""
    n_rows = n_days * per_day
    values = np.random.default_rng(5).normal(size=(400 * per_day, 3))[:n_rows]
    days = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.repeat(np.arange(n_days), per_day), unit="D")
    return pd.DataFrame({"day": days, "a": values[:, 0], "b": values[:, 1], "y": values[:, 0] + values[:, 2] / 5})


@contextmanager
def work_in_trained(folder: Path, store: Path) -> Iterator[Path]:
    """Work in a checkout with a finished run on 40 days and a champion, and a file of 50 days beside it."""
    with work_in(make_small(folder, "eda", store=store)) as root:
        content: dict[str, Any] = {
            "experiment": NAME,
            "seed": 0,
            "data": {
                "tables": {"t": {"path": "data/t.csv", "times": ["day"]}},
                "time": {"predict_at": "day", "outcome_known_at": "day + hours(30)", "zone": "America/New_York"},
                "target": {"column": "y", "task": "regression"},
                "split": {"method": "time", "validation_from": "2026-01-21", "holdout_from": "2026-01-31"},
            },
            "training": {"metric": "mae"},
            "evaluation": {"bootstrap_samples": 100},
            **{section: {} for section in ("eda", "wrangling", "features", "deploy")},
        }
        (root / "params" / f"{NAME}.yaml").write_text(json.dumps(content))
        (root / "data").mkdir(exist_ok=True)
        make_table(40).to_csv(root / "data" / "t.csv", index=False)
        make_table(50).to_csv(root / "new.csv", index=False)
        experiments.add_files([root / "data" / "t.csv"])
        (root / "reports" / NAME).mkdir(parents=True)
        params = load_params(NAME)
        work_through(params)
        put_release(root, params, "a")
        publish.publish(params)
        commit_all(root)
        yield root


def work_through(params: Params) -> None:
    """Do what the stages up to the split do."""
    data = Path(os.environ["LABKIT_ROOT"], "data", NAME)
    place_tables(params, data / PLACES["raw"], data / CONTRACT)
    joined = join_tables({"t": load_table(data / PLACES["raw"] / "t.parquet")}, params.data)
    parts = split_rows(clean_table(joined, params.wrangling)[0], params.data, seed=0)
    write_json(data / PLACES["split"], describe_split(parts, params.data, seed=0, embargoed={}))
    save_table(data / PLACES["clean_holdout"], TABLE[200:].rename_axis(index="row"))
    write_json(data / PLACES["gate"], PASSED)
