"""Watching: what is due or has arrived is checked once, acted on once, and survives failures and kills."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from labkit.artifacts import PLACES
from labkit.errors import LabkitError, StageError
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.release import bundle
from labkit.monitoring import retraining, retraining_journal
from labkit.monitoring.alerts import load_lines
from labkit.monitoring.champion_check import load_earlier
from labkit.monitoring.profile_files import make_profile_files
from labkit.monitoring.reference_profile import profile_release
from labkit.monitoring.retraining_records import load_records_of_retrainings
from labkit.monitoring.watch import Work, begin_watch, look, resume, sign, train, watch_experiments
from labkit.monitoring.watch_state import State, check_watches, describe_watch, hold_watch, load_watch_state, save_state
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.pipeline import run_lock
from labkit.run.records.champion_moves import load_moves
from labkit.stages import publish

from tests.conftest import call_in_process
from tests.monitoring.trained import NAME, make_table, work_in_trained, work_through
from tests.services import fork
from tests.stages.releases import find_champion, fit, put_release

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
Run = Callable[[Params], object]


def put_profiled(params: Params, columns: str, n_days: int) -> None:
    """Publish a model on some columns, with a profile of so many days."""
    folder = Path(os.environ["LABKIT_ROOT"])
    put_release(folder, params, columns)
    rows = make_table(n_days)
    rows = rows.rename(columns={"day": PREDICT_AT}).assign(**{PREDICT_AT: rows["day"].dt.tz_localize("UTC")})
    profile = profile_release(NAME, fit(columns), rows, rows, facts={"classes": []})
    bundle.extend_release(folder / "data" / NAME / PLACES["release"], make_profile_files(profile))
    publish.publish(params)


def run_better(params: Params) -> None:
    work_through(params)
    put_profiled(params, "ab", 60)


def run_worse(params: Params) -> None:
    work_through(params)
    put_profiled(params, "b", 60)


@pytest.fixture
def watched(tmp_path: Path, store: Path) -> Iterator[Path]:
    """Return a checkout whose champion can be checked; its params name the file in which the table up to now arrives."""
    with work_in_trained(tmp_path / "checkout", store) as root:
        put_profiled(load_params(NAME), "a", 40)
        apply_overrides(NAME, ["monitoring.incoming=arrived.csv"])
        yield root


def arrive(root: Path, n_days: int = 60) -> None:
    path = root / "arrived.csv"
    make_table(n_days).to_csv(path, index=False)
    os.utime(path, (NOW.timestamp() - 60, NOW.timestamp() - 60))
    state = load_watch_state(NAME)
    state.seen[str(path)] = [*sign(path), int(NOW.timestamp()) - 60]
    save_state(state, now=NOW, doing=state.doing)


def make_work(lines: list[str], run: Run | None = run_better) -> Work:
    def retrain(name: str, source: Path | None) -> dict[str, Any]:
        assert run is not None
        with run_lock.hold_checkout(name, report=lines.append):
            return retraining.retrain(
                load_params(name), source, reason=None, now=datetime.now(UTC), run=run, report=lines.append
            )

    return Work(HOUR, None if run is None else retrain, lines.append)


def look_after(lines: list[str], minutes: float = 0, run: Run | None = run_better) -> int:
    return look(load_watch_state(NAME), make_work(lines, run), now=NOW + timedelta(minutes=minutes))


def strip(lines: list[str]) -> list[str]:
    """Return the lines on the experiment without their times, and empty the list."""
    found = [line.partition(" ")[2] for line in lines if ": alert " not in line]
    lines.clear()
    return found


def list_finished() -> list[str]:
    return [one["decision"] for one in load_records_of_retrainings(NAME) if one["state"] == "finished"]


def test_new_rows_are_checked_trained_on_and_the_new_champion_is_checked(watched: Path) -> None:
    lines: list[str] = []
    arrive(watched)
    assert look_after(lines) == 0
    first, trained, second = strip(lines)
    assert first.startswith(
        f"{NAME} v2: retrain: Growth of the data: 120 rows later than those of the training run, 50 % of the 240"
    )
    assert trained.startswith(f"{NAME}: trained again: version 3 is now the champion")
    assert second.startswith(f"{NAME} v3: ok")
    events = [(one["event"], one["code"], one["severity"]) for one in load_lines(NAME)]
    assert events == [("opened", "LK712", "retrain"), ("resolved", "LK712", "retrain")]
    assert look_after(lines, 1) == look_after(lines, 59) == 0
    assert lines == [], "nothing is due, and nothing has arrived"
    arrive(watched, 61)
    os.utime(watched / "arrived.csv", (NOW.timestamp() + 1798, NOW.timestamp() + 1798))
    look_after(lines, 30)
    assert lines == [], "it may still be written"
    look_after(lines, 30.1)
    assert lines == [], "it may still be written"
    look_after(lines, 30.2)
    assert [line.partition(":")[0] for line in strip(lines)] == [f"{NAME} v3"]
    look_after(lines, 92)
    assert len(lines) == 1, "an hour after the last check"
    assert list_finished() == ["published"]


def test_model_that_the_gate_refused_is_not_trained_again_on_the_same_rows(watched: Path) -> None:
    lines: list[str] = []
    arrive(watched)
    runs: list[Params] = []

    def run(params: Params) -> None:
        runs.append(params)
        run_worse(params)

    look_after(lines, run=run)
    assert ": trained again: version 2 stays champion" in strip(lines)[1]
    look_after(lines, 61, run=run)
    assert ": nothing new to train on: version 2 stays champion" in "".join(lines)
    assert (len(runs), list_finished(), len(load_earlier(NAME))) == (1, ["kept champion"], 2)
    assert [one["event"] for one in load_lines(NAME)] == ["opened"]
    arrive(watched, 70)
    look_after(lines, 62, run=run)
    assert len(runs) == 2


@pytest.mark.fault
def test_trigger_that_fires_twice_at_once_trains_once(watched: Path) -> None:
    arrive(watched)
    lines: list[str] = []
    look_after(lines, run=None)
    assert " v2: retrain: " in lines[-1]

    def run(params: Params) -> None:
        with (watched / "runs").open("a") as file:
            file.write("run\n")
        run_worse(params)

    children = [fork(lambda: make_work(lines, run).retrain(NAME, watched / "arrived.csv")) for _ in range(2)]  # type: ignore[misc]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert (watched / "runs").read_text() == "run\n"
    assert list_finished() == ["kept champion"]


def test_failures_back_off_and_arriving_rows_are_tried_at_once(watched: Path) -> None:
    lines: list[str] = []
    assert look_after(lines, 0) == 2
    [line] = strip(lines)
    assert line == (
        f"{NAME}: failed: arrived.csv (monitoring.incoming) has not arrived, and there is no log of predictions "
        "(again in 1 min)"
    )
    assert look_after(lines, 0.5) == 0
    assert look_after(lines, 1) == look_after(lines, 3) == 2
    assert [line.rpartition("again in ")[2] for line in strip(lines)] == ["2 min)", "4 min)"]
    assert describe_watch(load_watch_state(NAME), now=NOW)[0].endswith("3 failures in a row")

    def fail(params: Params) -> None:
        raise StageError("training failed")

    arrive(watched)
    assert look_after(lines, 3.5, run=fail) == 1
    assert ": failed: training failed (again in 8 min)" in strip(lines)[-1]
    assert look_after(lines, 4) == 0
    assert lines == []
    assert look_after(lines, 12) == 0
    assert (load_watch_state(NAME).failures, list_finished()) == (0, ["published"])


def test_training_is_postponed_while_its_file_is_written(watched: Path) -> None:
    lines: list[str] = []
    path = watched / "arrived.csv"

    def report(line: str) -> None:
        lines.append(line)
        if "v2: retrain" in line:
            with path.open("a") as file:
                file.write("2026-03-02,0.1,0.2,0.3\n")

    arrive(watched)
    look(load_watch_state(NAME), replace(make_work([]), report=report), now=NOW)
    assert strip(lines)[1:] == [f"{NAME}: training postponed: arrived.csv is still being written"]
    assert load_records_of_retrainings(NAME) == []
    look_after(lines, 1)
    assert lines == [], "it changed during the check"
    look_after(lines, 1.2)
    assert [line.partition(":")[0] for line in strip(lines)] == [f"{NAME} v2", NAME, f"{NAME} v3"]
    assert list_finished() == ["published"]

    state = load_watch_state(NAME)
    state.taken[str(path)] = [1, 1]
    trained: list[Path | None] = []
    work = Work(HOUR, lambda _, source: trained.append(source) or {}, lines.append)  # type: ignore[func-returns-value]
    assert train(load_params(NAME), state, work) == "postponed", "never on the tables as they are instead"
    assert (trained, state.is_postponed) == ([], True)
    state.taken[str(path)] = sign(path)
    lines.clear()
    look(state, make_work(lines), now=NOW + timedelta(minutes=2))
    assert (len(lines), state.is_postponed) == (1, False), "checked again once it is whole"


def test_no_training_begins_after_sigterm(watched: Path) -> None:
    lines: list[str] = []
    stopping: list[int] = []

    def report(line: str) -> None:
        lines.append(line)
        stopping.append(signal.SIGTERM)

    arrive(watched)
    state = load_watch_state(NAME)
    look(state, replace(make_work([]), report=report, stopping=stopping), now=NOW)
    assert (len(strip(lines)), load_records_of_retrainings(NAME), state.due) == (1, [], "")
    look_after(lines)
    assert list_finished() == ["published"]


def test_no_other_experiment_is_begun_after_sigterm(params_root: Path) -> None:
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        assert check_watches(now=datetime.now(UTC)).remedy == ""
        if len(lines) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    save_state(State("other", due=NOW.isoformat()), now=NOW - HOUR, doing="waiting")
    assert watch_experiments([NAME, "other"], Work(HOUR, None, report), is_once=True) == 2
    assert len(lines) == 1


def test_check_is_due_no_later_than_the_time_between_checks(params_root: Path) -> None:
    for due, expected in ((24 * HOUR, HOUR), (HOUR / 2, HOUR / 2)):
        state = State(NAME, due=(NOW + due).isoformat())
        begin_watch(state, make_work([]), now=NOW)
        assert load_watch_state(NAME).due == (NOW + expected).isoformat()


def test_one_process_has_one_sign_of_life_for_all_its_experiments(params_root: Path) -> None:
    waiting, busy = State("a"), State("b")
    with ExitStack() as held:
        for state in (waiting, busy):
            held.enter_context(hold_watch(state.experiment))
        save_state(waiting, now=NOW, doing="waiting")
        save_state(busy, now=NOW + HOUR, doing="training")
        assert describe_watch(waiting, now=NOW + 2 * HOUR) == ("last beat 1 h ago, training b for 1 h", "")
        save_state(busy, now=NOW + 2 * HOUR, doing="waiting")
        assert describe_watch(waiting, now=NOW + 2 * HOUR) == ("last beat 0 s ago", "")
        save_state(busy, now=NOW + 2 * HOUR, doing="training")
    with hold_watch("a"):
        assert "hangs" in describe_watch(waiting, now=NOW + 2 * HOUR)[1], "another process had the same number"


def test_one_process_watches_an_experiment(params_root: Path) -> None:
    with hold_watch(NAME):
        child = fork(lambda: hold_watch(NAME).__enter__())
        assert os.waitpid(child, 0)[1] != 0
        state = load_watch_state(NAME)
        save_state(state, now=NOW, doing="waiting")
        with pytest.raises(LabkitError, match=rf"small is already watched \(process {os.getpid()}\): end that"):
            watch_experiments([NAME], make_work([]), is_once=True)
        assert describe_watch(state, now=NOW + timedelta(seconds=25)) == ("last beat 25 s ago", "")
        found, remedy = describe_watch(state, now=NOW + timedelta(minutes=3))
        assert (found, remedy.partition(":")[0]) == ("last beat 3 min ago", "it hangs")
        save_state(state, now=NOW, doing="training")
        assert describe_watch(state, now=NOW + HOUR) == ("last beat 1 h ago, training for 1 h", "")
    check = check_watches(now=NOW + HOUR)
    assert check.found == "small: last beat 1 h ago, then killed while training"
    assert check.remedy == "start `labkit watch` again: it continues"
    save_state(state, now=NOW, doing="stopped")
    assert check_watches(now=NOW + HOUR).remedy == ""


def test_check_that_was_killed_is_due_at_once(params_root: Path) -> None:
    for doing, due in (("checking", ""), ("training", ""), ("waiting", NOW.isoformat())):
        save_state(State(NAME, due=NOW.isoformat()), now=NOW, doing=doing)
        state = load_watch_state(NAME)
        resume(state)
        assert state.due == due


@pytest.mark.parametrize("content", [b"", b"[]", b'{"experiment": "small", "beat": 3}', b'{"unknown": 1}'])
def test_damaged_state_is_as_none(params_root: Path, content: bytes) -> None:
    save_state(State(NAME), now=NOW, doing="waiting")
    path = params_root / ".labkit" / "watch" / f"{NAME}.json"
    path.write_bytes(content)
    assert load_watch_state(NAME) == State(NAME)


def test_sigterm_lets_a_training_finish(watched: Path) -> None:
    arrive(watched)

    def run(params: Params) -> None:
        (watched / "begun").touch()
        time.sleep(1)
        run_better(params)

    child = fork(lambda: watch_experiments([NAME], make_work([], run), is_once=False))
    until = time.monotonic() + 60
    while not (watched / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == 0
    assert (list_finished(), load_watch_state(NAME).doing) == (["published"], "stopped")


@pytest.mark.fault
def test_kills_lose_nothing_and_repeat_nothing(watched: Path) -> None:
    n_kills = int(os.environ.get("WATCH_KILLS", "5"))
    draw = random.Random(3)
    arrive(watched)
    for _ in range(n_kills):
        child = fork(lambda: watch_experiments([NAME], make_work([]), is_once=False))
        time.sleep(draw.uniform(0.05, 1.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    lines: list[str] = []
    assert watch_experiments([NAME], make_work(lines), is_once=True) == 0
    assert find_champion(load_params(NAME)) == 3
    assert [move.after for move in load_moves(NAME)] == [1, 2, 3]
    assert list_finished() in (["published"], ["already champion"])
    assert [(one["event"], one["code"]) for one in load_lines(NAME)] == [("opened", "LK712"), ("resolved", "LK712")]
    assert not retraining_journal.is_interrupted(NAME)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the experiments to watch, or use --all"),
        (["small", "--all"], "name the experiments to watch, or use --all"),
        (["small", "--every", "5"], "'5' is not a time span: give a number and a unit, e.g. 30min, 1h or 1d"),
        (["small", "--every", "2s"], "'2s' is not a time span"),
        (["smal"], "no experiment 'smal'"),
    ],
)
def test_bad_arguments_start_nothing(params_root: Path, arguments: list[str], message: str) -> None:
    done = call_in_process(params_root, "watch", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (params_root / ".labkit" / "watch").exists()
