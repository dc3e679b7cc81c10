"""How many cores each of some jobs may use."""

import os
from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.run.capacity import count_cores
from labkit.run.core_share import share_cores

from tests.conftest import call_in_process
from tests.run.small import make_small


def test_cores_are_shared_and_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_CORES", raising=False)
    assert share_cores() == count_cores()
    assert share_cores(count_cores()) == share_cores(2 * count_cores()) == 1
    for value, cores in (("1", 1), (str(count_cores() + 5), count_cores()), ("", count_cores())):
        monkeypatch.setenv("LABKIT_CORES", value)
        assert share_cores() == cores
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    try:
        assert share_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_invalid_limit_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CORES", value)
    with pytest.raises(ParamsError) as raised:
        share_cores()
    assert str(raised.value) == f"LABKIT_CORES is {value!r}: set it to a whole number from 1 on, or unset it"


def test_run_with_an_invalid_limit_is_refused_before_it_starts(tmp_path: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda")
    done = call_in_process(root, "run", "small", "--cold", LABKIT_CORES="abc")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("labkit: LABKIT_CORES is 'abc': set it to a whole number")
    assert not (root / ".labkit" / "ledger.jsonl").exists()
