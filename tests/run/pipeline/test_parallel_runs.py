"""`labkit run` with several experiments: each as by a command of its own, one line about each, the highest exit code."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from labkit.cli.run import show_runs
from labkit.run import capacity
from labkit.run.pipeline.parallel_runs import RunEnd, expect_bytes
from labkit.run.records.stage_record import StageRecord, save_record

from tests.conftest import call_in_process, call_labkit
from tests.run.small import is_alive, load_ledger, make_small, start, wait_until

EXPERIMENTS = ("small", "other")
FAIL = 'if experiment == "other":\n    raise ValueError("no rows")'
MEET = """
terminal = {"COLUMNS", "NO_COLOR", "PYTHONUNBUFFERED"} & {*os.environ}
emit(kind="metrics", metrics={"cores": int(os.environ["LABKIT_CORES"]), "of_terminal": len(terminal)})
root = pathlib.Path(os.environ["LABKIT_ROOT"])
(root / f"began-{experiment}").touch()
while len(list(root.glob("began-*"))) < 2:
    time.sleep(0.1)
"""
WAIT = MEET.replace("< 2", "< 3")
"""Waits for as long as a test does not stop it."""


@pytest.fixture
def make(tmp_path: Path, store: Path) -> Callable[[str], Path]:
    def make_root(eda: str) -> Path:
        return make_small(tmp_path / "checkout", "eda", "wrangling", store=store, experiments=EXPERIMENTS, eda=eda)

    return make_root


def list_ends(root: Path) -> dict[str, str]:
    """Return how the whole run of each experiment ended."""
    starts = {one["run"]: one["experiment"] for one in load_ledger(root) if one["kind"] == "start" and not one["stage"]}
    return {starts[one["run"]]: one["outcome"] for one in load_ledger(root) if one.get("run") in starts and
            one["kind"] == "done"}  # fmt: skip


@pytest.mark.slow
def test_both_run_at_the_same_time_and_have_a_line_each(make: Callable[[str], Path]) -> None:
    """Each waits for the other in its notebook."""
    root = make(MEET)
    done = call_labkit(root, "run", *EXPERIMENTS, "--jobs", "2", "--cold")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in EXPERIMENTS:
        assert re.search(rf"^{name} \| eda          ran  .* eda done$", done.stdout, re.MULTILINE)
        assert re.search(rf"^{name} +finished +\S+ s +wrangling done *$", done.stdout, re.MULTILINE)
        record = json.loads((root / "reports" / name / "01_eda.json").read_text())
        assert record["metrics"]["cores"] == max(1, capacity.count_cores() // 2)
        assert record["metrics"]["of_terminal"] == 0
    assert done.stdout.count("Tracking: ") == 1
    assert list_ends(root) == dict.fromkeys(EXPERIMENTS, "finished")


@pytest.mark.slow
def test_one_that_fails_does_not_stop_the_others_and_counts(make: Callable[[str], Path]) -> None:
    root = make(FAIL)
    done = call_labkit(root, "run", "other", "small", "--jobs", "1", "--cold", "--until", "eda")
    assert done.returncode == 1
    assert re.search(r"^other \| labkit: .*ValueError: no rows", done.stdout, re.MULTILINE)
    assert re.search(r"^other +failed +\S+ s +.*no rows", done.stdout, re.MULTILINE)
    assert re.search(r"^small +finished +\S+ s +eda done", done.stdout, re.MULTILINE)
    assert list_ends(root) == {"other": "failed", "small": "finished"}
    kinds = [(line["kind"], line["run"].rpartition("-")[0]) for line in load_ledger(root) if line["kind"] != "settled"]
    order = [run.partition("-")[0] for _, run in kinds]
    assert order == sorted(order, key=["other", "small"].index), "one after the other"
    listed = call_labkit(root, "run", "other", "small", "--json", "--cold", "--until", "eda")
    assert listed.returncode == 1
    failed, finished = json.loads(listed.stdout)["runs"]
    assert (failed["experiment"], failed["exit_code"]) == ("other", 1)
    assert "no rows" in failed["error"]
    assert (finished["experiment"], finished["exit_code"]) == ("small", 0)
    assert [line["outcome"] for line in finished["stages"]] == ["up to date"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_all_of_them(make: Callable[[str], Path], number: signal.Signals) -> None:
    root = make(WAIT)
    both = start(root, "run", *EXPERIMENTS, "--cold")
    wait_until(lambda: len(list(root.glob("began-*"))) == 2)
    family = psutil.Process(both.pid).children(recursive=True)
    both.send_signal(number)
    _, printed = both.communicate(timeout=60)
    assert both.returncode == 130
    assert printed.strip() == "labkit: interrupted; finished stages are kept"
    assert list_ends(root) == dict.fromkeys(EXPERIMENTS, "interrupted")
    assert [process for process in family if is_alive(process)] == []


@pytest.mark.fault
@pytest.mark.slow
def test_nothing_outlives_it(make: Callable[[str], Path]) -> None:
    root = make(WAIT)
    both = start(root, "run", *EXPERIMENTS, "--cold")
    wait_until(lambda: len(list(root.glob("began-*"))) == 2)
    family = psutil.Process(both.pid).children(recursive=True)
    both.kill()
    both.communicate()
    wait_until(lambda: not any(map(is_alive, family)), seconds=5)
    closed = call_in_process(root, "runs")
    assert len(re.findall(r"was killed \(process \d+ is gone\)", closed.stdout)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small", "small"], "small is named twice"),
        (["small", "smal"], "no experiment 'smal' in params/: did you mean 'small'?"),
        (["small", "other", "--until", "edda"], "no stage 'edda': did you mean 'eda'?"),
        (["small", "other", "-S", "seed=x"], "seed"),
        (["small", "other", "--sample", "20", "--force", "eda"], "--sample runs every stage: leave out --force"),
        ([], "Missing argument 'EXPERIMENT...'"),
    ],
)
def test_nothing_starts_if_anything_is_wrong(make: Callable[[str], Path], arguments: list[str], message: str) -> None:
    root = make("1 + 1")
    done = call_in_process(root, "run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert load_ledger(root) == []


def test_a_run_is_expected_to_need_what_its_largest_stage_did(
    make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make("1 + 1")
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    assert expect_bytes("small") == capacity.USUAL_BYTES
    for stage, peak_bytes in (("eda", 5), ("wrangling", 3)):
        record = StageRecord(
            stage=stage, page=f"01_{stage}", title="", status="finished", started="", seconds=1.0, headline="", run_id="", run="",
            key="", html="", peak_bytes=peak_bytes,
        )  # fmt: skip
        save_record(record, root / "reports" / "small")
    assert expect_bytes("small") == 5


def test_page_of_each_sample_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    ended = [RunEnd(name, 0, 1.0, {"report": f"reports/{name}/sample/index.html"}, "") for name in EXPERIMENTS]
    show_runs([*ended, RunEnd("third", 1, 1.0, {}, "no rows")], sample=50)
    printed = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert f"Report:    reports/{name}/sample/index.html   (sample of 50 rows, never published)\n" in printed
    assert "Reports: " not in printed
