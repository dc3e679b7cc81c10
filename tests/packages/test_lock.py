"""Part of a lock: what is named and all that it requires, with hashes, for every version of Python."""

from importlib.metadata import version
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.packages.lock import START, select_locked

from tests.conftest import ROOT


def test_selection_has_what_is_required_with_hashes_for_every_python() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    selected = select_locked(ROOT / "requirements.lock", ["uvicorn", "numpy"])
    found = {one["name"] for one in START.finditer(selected)}
    assert {"click", "h11", "numpy", "uvicorn"} <= found
    assert not {"httptools", "pandas"} & found
    for line in selected.splitlines():
        assert line in lock.splitlines()
    assert selected.count("numpy==") == lock.count("\nnumpy==")
    assert selected.count("--hash=sha256:") > 20


def test_extras_that_nobody_asked_for_are_left_out_and_others_followed(tmp_path: Path) -> None:
    plain = select_locked(ROOT / "requirements.lock", ["moto"])
    asked = select_locked(ROOT / "requirements.lock", ["moto[s3]"])
    assert "py-partiql-parser==" in asked
    assert "py-partiql-parser==" not in plain


@pytest.mark.parametrize(
    ("lock", "message"),
    [
        (None, "requirements.lock: not found: make it with `make lock`"),
        ("click==1.0 \\\n    --hash=sha256:0\n", "does not have h11, which a service needs: run `make lock`"),
        ("h11==0.0.1 \\\n    --hash=sha256:0\n", f"has h11 0.0.1, installed is {version('h11')}: run `make install`"),
    ],
)
def test_lock_that_does_not_fit_is_refused(tmp_path: Path, lock: str | None, message: str) -> None:
    path = tmp_path / "requirements.lock"
    if lock is not None:
        path.write_text(lock)
    with pytest.raises(ParamsError, match=message):
        select_locked(path, ["h11"])
