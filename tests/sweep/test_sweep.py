"""A sweep: what points share runs once, killed processes lose nothing, and the checkout stays as it is."""

import json
import re
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from labkit.storage.digests import compute_digest
from labkit.sweep.engine import LocalEngine
from labkit.sweep.result import Row, rank_points
from labkit.sweep.worker import Task

from tests.conftest import call_in_process, call_labkit, make_checkout
from tests.git import call_git
from tests.run.small import find_done, find_tracked, load_ledger, make_small, start, wait_until
from tests.shared_server import SharedServer
from tests.shop import SHOP, change, write_tables

SWEEP = ("sweep", "small", "-S", "seed=1,2", "--jobs", "2")


def make_task(n_bytes: int) -> Task:
    """Return a task that is expected to need this memory."""
    return Task("key", "small", "eda", Path("root"), n_bytes, {}, "")


def test_nodes_stay_within_cores_and_memory() -> None:
    engine = LocalEngine(3, most_bytes=100)
    assert engine.has_room(1000), "one node may always run"
    engine.running[0] = (None, make_task(60))  # type: ignore[assignment]
    assert engine.has_room(40)
    assert not engine.has_room(41)
    engine.running |= {1: (None, make_task(10)), 2: (None, make_task(10))}  # type: ignore[dict-item]
    assert not engine.has_room(10)


def test_points_are_ranked_by_cross_validation_only() -> None:
    rows = [
        Row(1, ("seed=1",), is_done=True, score=3.0, holdout=(0.1, 0.0, 0.2)),
        Row(2, ("seed=2",), failure="stage training failed"),
        Row(3, ("seed=3",), is_done=True, score=2.0, holdout=(0.9, 0.8, 1.0)),
        Row(4, ("seed=4",), score=9.0),
    ]
    assert [row.number for row in rank_points(rows, is_greater=False)] == [3, 1, 2, 4]
    assert [row.number for row in rank_points(rows, is_greater=True)] == [1, 3, 2, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "0"], "Invalid value for '--jobs'"),
        (["-S", "seed=1,1"], "points 1 and 2 are the same"),
        (["-S", "seed=1,2", "--until", "publishing"], "no stage 'publishing'"),
        (["--adopt", "best"], "small: no sweep yet"),
        (["--adopt", "best", "-S", "seed=1"], "leave out the other options"),
    ],
)
def test_invalid_sweep_starts_nothing(plain_small: Path, options: list[str], message: str) -> None:
    done = call_in_process(plain_small, "sweep", "small", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (plain_small / ".labkit" / "sweeps").exists()
    assert load_ledger(plain_small) == []


@pytest.fixture(scope="module")
def plain_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("plain") / "checkout")


def find_worker(root: Path) -> psutil.Process | None:
    """Return the process of a node that runs, None until there is one."""
    for path in root.glob(".labkit/sweeps/small/nodes/*/.labkit/run-small.lock"):
        if (path.parent / "ledger.jsonl").exists() and (content := path.read_bytes()):
            with suppress(psutil.NoSuchProcess):  # killed before
                return psutil.Process(json.loads(content)["pid"])
    return None


def list_nodes(root: Path) -> dict[str, str]:
    """Return the digest of what each node wrote."""
    nodes = root / ".labkit" / "sweeps" / "small" / "nodes"
    return {path.name: compute_digest(path / "data" / "small") for path in nodes.iterdir()}


@pytest.mark.slow
@pytest.mark.fault
def test_sweep_survives_kills_and_leaves_the_checkout_alone(
    tmp_path: Path, store: Path, shared_server: SharedServer
) -> None:
    root = make_small(tmp_path / "checkout", "eda", "wrangling", store=store, eda="time.sleep(2)")
    shared_server.lend(root)
    # The sweep itself, in the middle of its first stages.
    run = start(root, *SWEEP)
    worker = wait_until(lambda: find_worker(root))
    family = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert psutil.wait_procs([worker, *family], timeout=10)[1] == []
    # A worker of the same command, called again.
    run = start(root, *SWEEP, "--json")
    wait_until(lambda: find_worker(root)).kill()
    output, errors = run.communicate()
    assert run.returncode == 0, output + errors
    assert "killed, starts again" in errors
    result = json.loads(output)
    assert ([row["is_done"] for row in result["rows"]], result["n_ran"]) == ([True, True], 4), output + errors
    assert {status for status, _ in find_tracked(root).values()} <= {"FINISHED", "FAILED"}
    assert find_done(root)["run"]["outcome"] == "finished"
    # Nothing is left to do, and nothing changed.
    before = list_nodes(root)
    again = call_in_process(root, *SWEEP)
    assert "2 of 2 points done up to wrangling; 0 stages ran" in again.stdout
    assert list_nodes(root) == before
    assert call_git(root, "status", "--porcelain") in ("", None)
    assert not (root / "data" / "small" / "eda").exists()
    # A point is adopted by number.
    assert "+seed: 2" in call_in_process(root, "sweep", "small", "--adopt", "2").stdout


@pytest.mark.slow
def test_failed_point_names_the_page_that_shows_why(tmp_path: Path, store: Path, shared_server: SharedServer) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store, eda="raise ValueError('broken')")
    shared_server.lend(root)
    done = call_in_process(root, "sweep", "small", "-S", "seed=1,2", "--until", "eda")
    assert done.returncode == 1, done.stdout + done.stderr
    places = re.findall(r"Page: (\S+)   Notebook: (\S+)", done.stderr)
    assert len(places) == 2, done.stderr
    for page, notebook in places:
        assert page.startswith(".labkit/sweeps/small/nodes/")
        assert "ValueError: broken" in (root / page).read_text()
        assert (root / notebook).is_file()


def make_shop(root: Path, *, store: Path, place: str = "tables/customers.csv") -> Path:
    """Make a checkout with the experiment `shop`, one of whose tables is at this place."""
    root = make_checkout(root, store=store)
    (root / "params" / "shop.yaml").write_text(SHOP.replace("tables/customers.csv", place))
    change(root / "dvc.yaml", "experiments: [", "experiments: [shop, ")
    write_tables(root)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / "tables" / "customers.csv").rename(root / place)
    return root


def count_ran(root: Path) -> Counter[str]:
    """Return how often each stage was started by sweeps of the shop."""
    paths = (root / ".labkit" / "sweeps" / "shop" / "nodes").glob("*/.labkit/ledger.jsonl")
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return Counter(line["stage"] for line in lines if line["kind"] == "start")


@pytest.mark.slow
def test_points_read_tables_of_the_checkout(tmp_path: Path, store: Path, shared_server: SharedServer) -> None:
    root = make_shop(tmp_path / "checkout", store=store, place="data/shop/source/customers.csv")
    shared_server.lend(root)
    done = call_labkit(root, "sweep", "shop", "-S", "seed=1,2", "--until", "wrangling")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 points done up to wrangling; 5 stages ran" in done.stdout


@pytest.mark.slow
def test_each_distinct_stage_runs_once(tmp_path: Path, store: Path, shared_server: SharedServer) -> None:
    root = make_shop(tmp_path / "checkout", store=store)
    shared_server.lend(root)
    done = call_labkit(root, "run", "shop", "--until", "wrangling")
    assert done.returncode == 0, done.stdout + done.stderr
    # A column that does not exist is refused before anything starts.
    done = call_labkit(root, "sweep", "shop", "-S", "features.drop=[kind],[kinds]")
    assert done.returncode == 2
    assert "features.drop: no column 'kinds': did you mean 'kind'?" in done.stderr
    assert count_ran(root) == {}
    done = call_labkit(
        root, "sweep", "shop", "-S", "features.most_categories=2,20", "-S", "training.models=[linear],[decision_tree]"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 points done up to training; 6 stages ran" in done.stdout
    assert count_ran(root) == {"features": 2, "training": 4}
