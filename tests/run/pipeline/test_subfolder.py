"""Commands work in every folder of a checkout: DVC names stages relative to the current one."""

from pathlib import Path

import pytest

from tests import preloaded
from tests.conftest import LABKIT, make_environment
from tests.run.small import make_small


@pytest.mark.slow
def test_status_and_run_work_below_the_root(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store)
    environment = make_environment(root)
    del environment["LABKIT_ROOT"]
    for command, shown in (("status", "never run"), ("run", "ran "), ("status", "up to date")):
        words = [LABKIT, command, "small", *(["--cold"] if command == "run" else [])]
        done = preloaded.run(words, cwd=root / "notebooks", env=environment, timeout=600)
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout
