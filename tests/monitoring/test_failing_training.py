"""A training that fails again and again on the same data, code and parameters waits for a change, and an alert says so."""

import errno
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from labkit.errors import DiskError, LostStoreError, StageError, TrackingError
from labkit.monitoring import retraining
from labkit.monitoring.alerts import list_open_alerts, load_lines, update_alerts
from labkit.monitoring.champion_check import find_history
from labkit.monitoring.retraining_records import is_transient, load_records_of_retrainings
from labkit.monitoring.watch import Work, train
from labkit.monitoring.watch_state import State
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.notebook.result import Execution, Failure
from labkit.run.pipeline.stage_error import make_error
from labkit.run.records.champion_moves import load_champion
from labkit.stages.recipe import compute_recipe_digest
from labkit.storage.append import append_line

from tests.conftest import call_in_process
from tests.monitoring.trained import NAME, make_table, work_in_trained, work_through

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC)


class Trainings:
    """A pipeline that fails with an error, and how often it ran."""

    def __init__(self) -> None:
        self.n_runs, self.lines = 0, list[str]()
        self.error: BaseException | None = StageError("training failed: no memory")

    def run(self, params: Params) -> None:
        self.n_runs += 1
        if self.error is not None:
            raise self.error
        work_through(params)

    def retrain(self, name: str, source: Path | None, reason: str | None = None) -> dict[str, Any]:
        return retraining.retrain(
            load_params(name), source, reason=reason, now=datetime.now(UTC), run=self.run, report=self.lines.append
        )

    def train(self) -> str:
        """Train as the watch does, and return what came of it."""
        work = Work(timedelta(hours=1), self.retrain, self.lines.append)
        try:
            return train(load_params(NAME), State(NAME), work)
        except (StageError, TrackingError, KeyboardInterrupt):
            return "failed"


@pytest.fixture
def root(tmp_path: Path, store: Path) -> Iterator[Path]:
    """Return a checkout whose champion was found to need a training."""
    with work_in_trained(tmp_path / "checkout", store) as root:
        champion = load_champion(NAME)
        line = (
            f'{{"experiment": "{NAME}", "at": "{NOW:%Y-%m-%dT%H:%M:%S+00:00}", "digest": "{champion.digest}", '
            f'"version": {champion.number}, "verdict": "retrain", "reasons": ["growth"], "actions": {{"LK712": "retrain"}}, '
            '"checks": []}'
        )
        append_line(find_history(NAME), line)
        yield root


def list_alerts() -> list[tuple[str, str]]:
    return [(one["event"], one["code"]) for one in load_lines(NAME) if one["code"] == "LK727"]


def test_third_failure_is_the_last_until_something_changes(root: Path) -> None:
    trainings = Trainings()
    assert [trainings.train() for _ in range(5)] == ["failed"] * 3 + ["held back"] * 2
    assert trainings.n_runs == 3
    assert [one["state"] for one in load_records_of_retrainings(NAME)] == ["begun", "failed"] * 3
    assert list_alerts() == [("opened", "LK727")], "once"
    (alert,) = [one for one in list_open_alerts(load_lines(NAME)) if one["code"] == "LK727"]
    assert alert["evidence"].startswith("the training failed 3 times in a row on the same data, code and parameters")
    assert alert["evidence"].endswith(": training failed: no memory")
    done = call_in_process(root, "retrain", NAME)
    assert (done.returncode, "waits for a change of one of them" in done.stdout) == (1, True)
    apply_overrides(NAME, ["training.folds=4"])
    assert trainings.train() == "failed", "other parameters"
    assert trainings.n_runs == 4


def test_new_rows_and_people_try_again_and_success_ends_the_alert(root: Path) -> None:
    trainings = Trainings()
    assert [trainings.train() for _ in range(4)][-1] == "held back"
    with pytest.raises(StageError):
        trainings.retrain(NAME, None, reason="more memory")
    assert trainings.train() == "held back"
    make_table(50).to_csv(root / "arrived.csv", index=False)
    with pytest.raises(StageError):
        trainings.retrain(NAME, root / "arrived.csv")
    assert trainings.n_runs == 5, "other rows"
    trainings.error = None
    trainings.retrain(NAME, root / "arrived.csv")
    update_alerts(NAME, now=datetime.now(UTC), report=trainings.lines.append)
    assert list_alerts() == [("opened", "LK727"), ("resolved", "LK727")]


@pytest.mark.parametrize("error", [TrackingError("no server"), KeyboardInterrupt()])
def test_failures_that_have_other_causes_do_not_count(root: Path, error: BaseException) -> None:
    trainings = Trainings()
    trainings.error = error
    assert [trainings.train() for _ in range(4)] == ["failed"] * 4
    assert list_alerts() == []


def make_stage_error(cause: BaseException) -> StageError:
    error = StageError("stage eda failed")
    error.__cause__ = cause
    return error


def make_failure(name: str, message: str) -> StageError:
    """Return the error of a stage whose notebook stopped with an error."""
    path = Path("notebooks/01_eda.ipynb")
    execution = Execution(1.0, Failure(1, 2, "", "", name, message), (), "failed")
    assert execution.failure is not None
    error = make_error(path, execution, execution.failure, Path("reports"), [])
    assert isinstance(error, StageError)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (make_stage_error(OSError(errno.ENOSPC, "No space left on device")), True),
        (make_stage_error(DiskError("disk full")), True),
        (make_stage_error(LostStoreError("no server")), True),
        (make_stage_error(FileNotFoundError(errno.ENOENT, "no such file")), False),
        (make_failure("OSError", "OSError: [Errno 28] No space left on device: disk full: needs more"), True),
        (make_failure("DiskError", "data/t.parquet: disk full: needs 3 MB"), True),
        (make_failure("LostStoreError", "no server"), True),
        (make_failure("FileNotFoundError", "[Errno 2] No such file or directory: 'x.csv'"), False),
        (make_failure("ValueError", "could not convert string to float"), False),
    ],
)
def test_causes_of_a_failed_stage_tell_whether_it_may_succeed_later(error: StageError, expected: bool) -> None:
    assert is_transient(error) is expected


def test_recipe_is_code_parameters_and_raw_files(root: Path) -> None:
    first = compute_recipe_digest(load_params(NAME))
    notebook = next((root / "notebooks").glob("*.ipynb"))
    content = notebook.read_text(encoding="utf-8")
    assert compute_recipe_digest(load_params(NAME)) == first
    apply_overrides(NAME, ["seed=7"])
    assert compute_recipe_digest(load_params(NAME)) != first
    apply_overrides(NAME, ["seed=0"])
    assert compute_recipe_digest(load_params(NAME)) == first
    cells = json.loads(content)
    next(cell for cell in cells["cells"] if cell["cell_type"] == "markdown")["source"] = ["other prose"]
    notebook.write_text(json.dumps(cells), encoding="utf-8")
    assert compute_recipe_digest(load_params(NAME)) == first
    next(cell for cell in cells["cells"] if cell["cell_type"] == "code")["source"] = ["print(417)"]
    notebook.write_text(json.dumps(cells), encoding="utf-8")
    assert compute_recipe_digest(load_params(NAME)) != first
    notebook.write_text(content, encoding="utf-8")
    make_table(45).to_csv(root / "data" / "t.csv", index=False)
    assert compute_recipe_digest(load_params(NAME)) != first
