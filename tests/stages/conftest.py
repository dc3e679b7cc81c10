"""A checkout with a registry of its own, and an experiment for each test that publishes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labkit.artifacts import PLACES
from labkit.data.table_files import save_table
from labkit.params.experiment import Params
from labkit.storage.atomic import write_json

from tests.own_store import work_in
from tests.run.small import make_small
from tests.stages.releases import PASSED, TABLE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Path]:
    """Return a checkout with a store of its own, which labkit finds in this process."""
    with work_in(make_small(tmp_path_factory.mktemp("publish") / "checkout", "eda", store=store)) as root:
        yield root


@pytest.fixture
def params(root: Path, request: pytest.FixtureRequest) -> Params:
    """Return the params of an experiment that only this test has, with its holdout in place."""
    name = "e" + format(abs(hash(request.node.nodeid)), "x")[:12]
    content: dict[str, Any] = {
        "experiment": name,
        "seed": 0,
        "data": {"tables": {"t": {"path": "t.csv"}}, "target": {"column": "y", "task": "regression"}},
        "training": {"metric": "mae"},
        "evaluation": {"bootstrap_samples": 100},
        **{section: {} for section in ("eda", "wrangling", "features", "deploy")},
    }
    data = root / "data" / name
    (data / "clean").mkdir(parents=True)
    (data / "evaluation").mkdir()
    (root / "reports" / name).mkdir(parents=True)
    save_table(data / PLACES["clean_holdout"], TABLE[200:].rename_axis(index="row"))
    write_json(data / PLACES["gate"], PASSED)
    return Params.model_validate_json(json.dumps(content))
