"""A checkout with a published model of a small table."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.features.row_features import RowFeatures
from labkit.model.release import bundle
from labkit.model.training import comparison
from labkit.params.load import load_params
from labkit.run.records import registry
from labkit.run.records.champion_moves import CHAMPION
from labkit.stages import publish
from labkit.storage import digests

from tests.own_store import work_in
from tests.run.small import make_small

CITIES, N = ("red", "green", "blue"), 120
TABLE = pd.DataFrame(
    {
        "x": np.random.default_rng(0).normal(size=N),
        "city": [CITIES[n % 3] for n in range(N)],
        "flag": ["yes" if n % 2 else "no" for n in range(N)],
        "is_new": [n % 5 == 0 for n in range(N)],
        "code": [f"{n % 4}" for n in range(N)],
    }
).assign(y=lambda table: np.where(table["x"] + (table["city"] == "red") > 0, "up", "down"))
INPUTS = TABLE.drop(columns="y").head(12)
PARAMS = """\
experiment: e
seed: 0
data:
  tables: {t: {path: data/e/t.csv, texts: [code]}}
  target: {column: "y", task: classification, positive: up}
eda: {}
wrangling: {}
features: {}
training: {metric: roc_auc}
evaluation: {}
deploy: {}
"""


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a checkout with a published model of the table."""
    with work_in(make_small(tmp_path_factory.mktemp("scoring") / "checkout", "eda")) as root:
        (root / "params" / "e.yaml").write_text(PARAMS)
        params = load_params("e")
        row_features = RowFeatures.from_params(params).fit(TABLE.drop(columns="y"))
        parts = [(row_features.transform(TABLE), TABLE["y"])]
        model = comparison.fit_model("linear", row_features, parts, target=params.data.target, seed=0)
        facts = {"experiment": "e", "task": "classification", "classes": ["down", "up"], "positive": "up",
                 "metric": "roc_auc", "metrics": {"holdout_roc_auc": 0.9}, "onnx": {"reason": "off"}}  # fmt: skip
        folder = root / "data" / "e" / "release"
        folder.mkdir(parents=True)
        bundle.write_release(
            folder, model, graph=None, facts=facts, contract="{}", card="# Card\n", example=TABLE.drop(columns="y")
        )
        version = publish.register(params, bundle.load_release(folder), digests.compute_digest(folder))
        registry.set_alias("e", CHAMPION, version)
        yield root
