"""An empty store of MLflow, made once: to make one takes longer than most tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.small import make_small


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of MLflow in which nothing has been recorded."""
    root = make_small(tmp_path_factory.mktemp("store") / "checkout", "eda")
    code = "from labkit.run.records.tracking import get_client; get_client()"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LABKIT_", "MLFLOW_"))}
    environment = {**kept, "LABKIT_ROOT": str(root)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return root / "mlflow.db"
