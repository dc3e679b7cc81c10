"""Checkouts with a tracking store of their own in which this process works."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from labkit.run.records import provenance, tracking_client


def forget_store() -> None:
    """Let this process open its store, and look at the checkout's commit, as if it had just started."""
    tracking_client.get_client.cache_clear()
    tracking_client.find_experiment_in.cache_clear()
    provenance.collect_for.cache_clear()


@contextmanager
def work_in(root: Path) -> Iterator[Path]:
    """Let this process work in a checkout and its store for the time of the block, as if it had just started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_ROOT", str(root))
        for name in ("MLFLOW_TRACKING_URI", "LABKIT_RUN_DIR"):
            patch.delenv(name, raising=False)
        forget_store()
        try:
            yield root
        finally:
            forget_store()
