"""Batch predictions by the workers of a Dask cluster of real processes, which are killed on the way."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from labkit.errors import StageError
from labkit.serving import batch
from labkit.serving.batch import BatchSummary, predict_file
from labkit.serving.batch_parts import Parts

from tests.conftest import call_in_process
from tests.dask_cluster import open_cluster
from tests.serving.small_champion import INPUTS
from tests.serving.small_champion import champion as champion

Cluster = tuple[str, list["subprocess.Popen[bytes]"]]


@pytest.fixture
def source(champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of rows, of which one is a part."""
    monkeypatch.setattr(batch, "PART_ROWS", 1)
    (champion / ".git").mkdir(exist_ok=True)
    INPUTS.to_parquet(tmp_path / "rows.parquet", index=False)
    return tmp_path / "rows.parquet"


@pytest.fixture
def cluster(source: Path, champion: Path) -> Iterator[Cluster]:
    """Return the address of a cluster, and its processes: the scheduler and two workers."""
    with open_cluster(champion, 2) as opened:
        yield opened


def kill_after(
    monkeypatch: pytest.MonkeyPatch, process: "subprocess.Popen[bytes] | psutil.Process", *, n_parts: int
) -> None:
    """Kill a process as soon as so many parts are written."""
    save = Parts.save

    def save_and_kill(self: Parts, number: int, *given: Any) -> None:
        save(self, number, *given)
        if number == n_parts - 1:
            process.send_signal(signal.SIGKILL)
            process.wait()

    monkeypatch.setattr(Parts, "save", save_and_kill)


def predict(source: Path, name: str, *, dask: str | None = None) -> tuple[BatchSummary, bytes]:
    """Predict the rows, and return the summary and the file."""
    summary = predict_file("e", source, source.with_name(name), dask=dask)
    assert [path.name for path in source.parent.iterdir() if path.name.startswith(".out")] == []
    return summary, source.with_name(name).read_bytes()


@pytest.mark.slow
@pytest.mark.fault
def test_predictions_of_a_cluster_are_the_same_bytes_also_if_a_worker_is_killed(
    source: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, (_, worker, _) = cluster
    summary, expected = predict(source, "out.parquet")
    kill_after(monkeypatch, worker, n_parts=2)
    made, found = predict(source, "out.parquet", dask=address)
    assert found == expected
    assert made == summary
    assert worker.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.fault
def test_prediction_goes_on_with_the_worker_that_takes_the_place_of_the_only_one(
    source: Path, champion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = predict(source, "out.parquet")
    with open_cluster(champion, 1, has_nannies=True) as (address, (_, nanny)):
        worker = max(psutil.Process(nanny.pid).children(), key=lambda one: one.memory_info().rss)
        kill_after(monkeypatch, worker, n_parts=2)
        assert predict(source, "out.parquet", dask=address)[1] == expected
        assert not worker.is_running()


@pytest.mark.slow
@pytest.mark.fault
def test_prediction_goes_on_where_the_scheduler_was_killed(
    source: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, (scheduler, *_) = cluster
    with monkeypatch.context() as patch:
        kill_after(patch, scheduler, n_parts=3)
        lost = f"the Dask cluster {address} is gone, with [0-9]+ parts under way: start it, then run the same command"
        with pytest.raises(StageError, match=lost):
            predict(source, "out.parquet", dask=address)
    kept = sorted(path.name for path in (source.parent / ".out.parquet.parts").glob("*.parquet"))
    assert kept[:3] == ["000000.parquet", "000001.parquet", "000002.parquet"]
    assert len(kept) < len(INPUTS)
    written: list[int] = []
    save = Parts.save
    monkeypatch.setattr(Parts, "save", lambda self, number, *rest: (written.append(number), save(self, number, *rest)))
    predict(source, "out.parquet")
    assert written == list(range(len(kept), len(INPUTS)))
    assert pq.read_metadata(source.with_name("out.parquet")).num_rows == len(INPUTS)


@pytest.mark.parametrize("address", ["somewhere", "tcp://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_predicts_nothing(source: Path, champion: Path, address: str) -> None:
    destination = source.with_name("out.parquet")
    done = call_in_process(champion, "predict", "e", str(source), str(destination), "--dask", address)
    assert (done.returncode, f"--dask {address}: " in done.stderr) == (2, True), done.stderr
    assert [path.name for path in source.parent.iterdir() if "out" in path.name] == []
