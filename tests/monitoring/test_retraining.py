"""Training again on the data up to now: what is refused, what moves, what is restored, and what a kill leaves."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from labkit.artifacts import CONTRACT
from labkit.errors import DataError, MissingDataError, ParamsError, StageError
from labkit.monitoring import retraining, retraining_journal
from labkit.monitoring.champion_check import find_history
from labkit.monitoring.retraining_records import load_records_of_retrainings
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.run.records.champion_moves import load_champion
from labkit.stages import publish
from labkit.storage.append import append_line

from tests.conftest import call_in_process
from tests.monitoring.trained import NAME, make_table, work_in_trained, work_through
from tests.own_store import forget_store
from tests.servers import find_free_port
from tests.stages.releases import find_champion, put_release

pytestmark = pytest.mark.slow
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path, store: Path) -> Iterator[Path]:
    """Return a checkout with a finished run on 40 days and a champion, and a file of 50 days beside it."""
    with work_in_trained(tmp_path / "checkout", store) as root:
        yield root


def run_better(params: Params) -> None:
    """Run a pipeline whose model is better."""
    work_through(params)
    put_release(Path(os.environ["LABKIT_ROOT"]), params, "ab")
    publish.publish(params)


def train_again(root: Path, run: Callable[[Params], None] = run_better, **given: Any) -> dict[str, Any]:
    given = {"source": root / "new.csv", "reason": "more days"} | given
    return retraining.retrain(
        load_params(NAME), given["source"], reason=given["reason"], now=NOW, run=run, report=print
    )


def read_state(root: Path) -> dict[str, bytes]:
    """Return what a retraining may change."""
    names = ["data/t.csv", "data/t.csv.dvc", f"params/{NAME}.yaml", f"data/{NAME}/{CONTRACT}"]
    return {name: (root / name).read_bytes() for name in names}


def note_check(verdict: str, digest: str) -> None:
    record = {"at": "2026-02-28T00:00:00+00:00", "verdict": verdict, "digest": digest}
    growth = {"reasons": ["Growth: 25 % more rows"], "actions": {"LK712": "retrain", "LK704": "watch"}}
    append_line(find_history(NAME), json.dumps(record | growth))


def test_new_data_replace_the_old_and_the_split_moves_on(root: Path) -> None:
    record = train_again(root)
    assert (record["decision"], record["version"], find_champion(load_params(NAME))) == (
        "published", 2, 2,
    )  # fmt: skip
    # Ten more days: each part begins ten days later.
    assert record["data"]["settings"] == [
        'data.split.validation_from="2026-01-31"', 'data.split.holdout_from="2026-02-10"',
    ]  # fmt: skip
    assert (root / "data" / "t.csv").read_bytes() == (root / "new.csv").read_bytes()
    assert str(load_params(NAME).data.split.holdout_from) == "2026-02-10"
    begun, finished = load_records_of_retrainings(NAME)
    assert (begun["state"], finished["state"], finished["reason"]) == ("begun", "finished", "more days")
    assert (finished["data"]["rows_before"], finished["data"]["rows_after"]) == (240, 300)
    assert not retraining_journal.is_interrupted(NAME)


def test_reason_is_that_of_the_finding(root: Path) -> None:
    params = load_params(NAME)
    champion = load_champion(NAME)
    with pytest.raises(ParamsError, match="the champion was never checked"):
        train_again(root, reason=None)
    note_check("retrain", "of another release")
    with pytest.raises(ParamsError, match="the champion was never checked"):
        train_again(root, reason=None)
    note_check("stop", champion.digest)
    with pytest.raises(ParamsError, match="says stop .*, not retrain: give a reason"):
        train_again(root, reason=None)
    with pytest.raises(ParamsError, match="--reason is empty"):
        train_again(root, reason=" ")
    note_check("retrain", champion.digest)
    plan = retraining.show_plan(params, root / "new.csv", reason=None, now=NOW)
    assert (plan["reason"], plan["finding"]["codes"]) == ("Growth: 25 % more rows", ["LK712"])
    assert load_records_of_retrainings(NAME) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.tail(60), "new.csv has 60 rows, the last run had 240: give the whole table up to now"),
        (
            lambda table: table.drop(columns="a"),
            "raw table t violates its contract: column 'a' is missing: fix the data",
        ),
        (
            lambda table: table.assign(a="x"),
            "raw table t violates its contract: column 'a' is str, expected float64: fix the data",
        ),
        (
            lambda table: table.assign(day=table["day"].iloc[0]),
            r"the part 'validation' has no rows: change data.split \(time\)",
        ),
    ],
)
def test_bad_new_data_change_nothing(root: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    before = read_state(root)
    spoil(make_table(50)).to_csv(root / "new.csv", index=False)
    with pytest.raises((DataError, ParamsError), match=message):
        train_again(root)
    assert read_state(root) == before
    assert load_records_of_retrainings(NAME) == []
    assert not retraining_journal.find_work_folder(NAME).exists()


def test_failure_restores_data_and_split(root: Path) -> None:
    before = read_state(root)

    def fail(params: Params) -> None:
        assert str(params.data.split.holdout_from) == "2026-02-10"
        work_through(params)
        raise StageError("training failed")

    with pytest.raises(StageError, match="training failed\nThe data and the split are as before this retraining."):
        train_again(root, fail)
    assert read_state(root) == before
    assert [one["state"] for one in load_records_of_retrainings(NAME)] == ["begun", "failed"]
    assert find_champion(load_params(NAME)) == 1


def test_killed_retraining_is_continued_and_promotes_once(root: Path) -> None:
    draw = random.Random(7)
    for _ in range(6):
        child = os.fork()
        if child == 0:
            try:
                train_again(root, lambda params: (work_through(params), time.sleep(60)))  # type: ignore[arg-type,return-value]
            finally:
                os._exit(1)
        time.sleep(draw.uniform(0.05, 1.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    record = train_again(root)
    assert (record["version"], find_champion(load_params(NAME))) == (2, 2)
    assert (root / "data" / "t.csv").read_bytes() == (root / "new.csv").read_bytes()
    assert str(load_params(NAME).data.split.holdout_from) == "2026-02-10"
    again = train_again(root, reason="again")
    assert (again["decision"], again["version"]) == ("already champion", 2)
    assert again["data"]["settings"] == [], "the split moves only with the rows"


def test_kill_followed_by_other_data_restores_first(root: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            train_again(root, lambda params: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert retraining_journal.is_interrupted(NAME)
    assert retraining_journal.check_retrainings().found == f"interrupted: {NAME}"
    make_table(45).to_csv(root / "other.csv", index=False)
    record = train_again(root, source=root / "other.csv")
    assert record["data"]["settings"][1] == 'data.split.holdout_from="2026-02-05"', "from the split before the kill"


def begin_and_be_killed(root: Path, run: Callable[[Params], object], **given: Any) -> None:
    """Train again in a process that is killed by what `run` does, or after it."""
    child = os.fork()
    if child == 0:
        try:
            train_again(root, run, **given)  # type: ignore[arg-type]
        finally:
            os._exit(1)
    os.waitpid(child, 0)


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_new_data_after_an_interrupted_retraining_without_any_are_used(root: Path) -> None:
    begin_and_be_killed(root, die, source=None)
    with pytest.raises(MissingDataError, match=r"--data \S+/gone.csv: no such file"):
        train_again(root, source=root / "gone.csv")
    with pytest.raises(ParamsError, match=f"was interrupted: `labkit retrain {NAME}` continues it"):
        retraining.show_plan(load_params(NAME), None, reason="x", now=NOW)
    record = train_again(root)
    assert (record["data"]["rows_after"], (root / "data" / "t.csv").read_bytes()) == (
        300,
        (root / "new.csv").read_bytes(),
    )
    states = [one["state"] for one in load_records_of_retrainings(NAME)]
    assert states == ["begun", "failed", "begun", "finished"]


def test_params_that_were_edited_meanwhile_stay(root: Path) -> None:
    begin_and_be_killed(root, die)
    path = root / "params" / f"{NAME}.yaml"
    assert "2026-02-10" in path.read_text()
    path.write_text(path.read_text().replace('"bootstrap_samples": 100', '"bootstrap_samples": 150'))
    assert load_params(NAME).evaluation.bootstrap_samples == 150

    def fail(params: Params) -> None:
        raise StageError("training failed")

    with pytest.raises(StageError, match="as before this retraining"):
        train_again(root, fail)
    params = load_params(NAME)
    assert (params.evaluation.bootstrap_samples, str(params.data.split.holdout_from)) == (150, "2026-01-31")


def test_raw_file_that_dvc_does_not_have_is_not_replaced(root: Path) -> None:
    path = root / "data" / "t.csv"
    path.write_text(path.read_text() + "2026-02-09,1.0,1.0,1.0\n")
    edited = path.read_bytes()
    with pytest.raises(DataError, match=r"data/t.csv is not the file of t.csv.dvc .* `dvc add data/t.csv` accepts"):
        train_again(root)
    assert path.read_bytes() == edited


def test_kill_while_the_work_folder_is_removed_leaves_nothing_to_continue(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def run(params: Params) -> None:
            run_better(params)
            patch.setattr(retraining_journal.shutil, "rmtree", die)

        begin_and_be_killed(root, run)
    assert retraining_journal.find_work_folder(NAME).is_dir()
    assert not retraining_journal.is_interrupted(NAME)
    assert find_champion(load_params(NAME)) == 2
    assert train_again(root, reason="again")["decision"] == "already champion"


def test_lost_registry_keeps_the_journal_and_the_first_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_state(root)
    with monkeypatch.context() as patch:

        def lose(params: Params) -> None:
            patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{find_free_port()}")
            forget_store()
            raise StageError("training failed")

        with pytest.raises(
            StageError, match=f"training failed\nThe data .* not restored yet .*retrain {NAME}` continues"
        ):
            train_again(root, lose)
    forget_store()
    assert retraining_journal.is_interrupted(NAME)
    with pytest.raises(StageError, match="as before this retraining"):
        train_again(root, lambda params: (_ for _ in ()).throw(StageError("training failed again")))
    assert read_state(root) == before


def test_command_shows_what_it_would_do(root: Path) -> None:
    done = call_in_process(root, "retrain", NAME, "--data", "new.csv", "--reason", "more days", "--dry-run")
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "  rows: 240 before, 300 now"), done.stderr
    gone = call_in_process(root, "retrain", NAME, "--data", "gone.csv", "--reason", "x", "--json", "--dry-run")
    assert (gone.returncode, "--data gone.csv: no such file" in gone.stderr) == (2, True)
