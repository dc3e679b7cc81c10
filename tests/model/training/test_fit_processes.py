"""Candidates and trials evaluated in several processes: the same results as in one, whatever happens to a process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from labkit.model.estimators import candidates
from labkit.model.training import fit_processes, tuning
from labkit.model.training.comparison import Comparison, compare, find_kinds
from labkit.model.training.cross_validation import make_folds
from labkit.params.tables import Target
from labkit.params.training import Training
from labkit.run import capacity
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from tests.conftest import ROOT
from tests.model.tables import make_timeline
from tests.model.training.real_tables import CANCER, DIABETES, load

CORES = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="on one core there is one process")


@contextmanager
def use_cores(n_cores: int) -> Iterator[None]:
    """Allow this process no more cores."""
    os.sched_setaffinity(0, CORES[:n_cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


@pytest.fixture(autouse=True, scope="module")
def _no_server_of_other_tests() -> None:
    """End the server that a sweep in this process may have started: its forks have the folder of that checkout."""
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
        server._stop()


@pytest.fixture(autouse=True)
def _few_rows_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_processes, "FEWEST_ROWS", 100)


def run(
    features: pd.DataFrame, y_true: pd.Series, target: Target, training: Training, **more: Any
) -> tuple[Comparison, tuning.Tuning]:
    options = {"target": target, "training": training, "seed": 3, "timeline": make_timeline(len(features))}
    compared = compare(features, y_true, **options, **more)
    return compared, tuning.tune(compared, features, y_true, **options)


def describe(found: tuple[Comparison, tuning.Tuning]) -> str:
    """Return all results to their last digit; without times."""
    compared, tuned = found
    frames = [frame.to_csv(float_format="%.17g") for frame in (compared.frame, tuned.frame)]
    by_fold = {name: values.tolist() for name, values in compared.by_fold.items()}
    trials = [values.tolist() for values in tuned.by_fold]
    return "\n".join([*frames, repr((by_fold, trials, tuned.model, tuned.best, tuned.settings))])


class Hasty(DummyClassifier):
    """An estimator that some settings fail with."""

    def __init__(self, C: float = 1.0) -> None:
        super().__init__(strategy="prior")
        self.C = C

    def fit(self, X: object, y: object, sample_weight: object = None) -> "Hasty":
        if self.C > 10:
            raise ValueError(f"C is {self.C:.1f}")
        return super().fit(X, y)


def test_results_are_the_same_in_one_process_and_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """More trials than are proposed at once, of which some are pruned and, of one model, some fail."""
    failing = (lambda seed: Hasty(), None)
    for name, target, models, metric in (
        ("breast_cancer", CANCER, ("dummy", "lightgbm", "naive_bayes", "decision_tree"), "roc_auc"),
        ("diabetes", DIABETES, ("naive_bayes", "linear", "dummy", "extra_trees"), "mae"),
        ("breast_cancer", CANCER, ("linear", "dummy"), "log_loss"),
    ):
        if metric == "log_loss":
            monkeypatch.setitem(candidates.ESTIMATORS, "linear", failing)
        features, y_true, _ = load(name)
        training = Training(models=models, metric=metric, folds=3, tuning_trials=14)
        found = []
        for n_cores in (1, 2):
            with use_cores(n_cores):
                found.append(run(features, y_true, target, training))
        assert describe(found[0]) == describe(found[1])
        states = set(found[1][1].frame["state"])
        assert states == ({"complete", "failed"} if metric == "log_loss" else {"complete", "pruned"})
        assert len(found[1][1].seconds) == 14
        assert all(seconds > 0 for one in found for seconds in one[0].seconds.values())


@pytest.mark.slow
def test_no_estimator_depends_on_its_number_of_threads() -> None:
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.normal(size=(12_000, 20))).add_prefix("x").round(2)
    y_true = pd.Series(np.where(features["x0"] * features["x1"] + random.normal(size=12_000) > 0, "yes", "no"))
    target = Target(column="y", task="classification", positive="yes")
    models = ("lightgbm", "hist_gradient_boosting", "random_forest", "extra_trees", "gradient_boosting", "blend")
    training = Training(models=models, metric="log_loss", folds=2, tuning_trials=4)
    found = []
    for n_cores in (1, 2):
        with use_cores(n_cores):
            found.append(run(features, y_true, target, training))
    assert describe(found[0]) == describe(found[1])


def test_on_one_core_and_with_little_memory_there_is_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit_processes.count_processes(1_000) == len(CORES)
    assert fit_processes.count_processes(99) == 1
    own = fit_processes.measure_memory(os.getpid())
    for n_kernels, n_processes in ((0.5, 1), (1.5, 1), (2.5, 2)):
        monkeypatch.setattr(fit_processes, "find_free", lambda n_kernels=n_kernels: int(own * n_kernels))
        monkeypatch.setattr(capacity, "MEMORY_SHARE", 1.0)
        assert fit_processes.count_processes(1_000) == n_processes
    monkeypatch.undo()
    monkeypatch.setattr(fit_processes, "FEWEST_ROWS", 100)
    monkeypatch.setattr(fit_processes, "find_free", lambda: int(capacity.find_total() * 0.2))
    assert fit_processes.count_processes(1_000) == 1
    monkeypatch.undo()
    monkeypatch.setattr(fit_processes, "FEWEST_ROWS", 100)
    features, y_true, _ = load("diabetes")
    before, during = set(multiprocessing.active_children()), set[Any]()
    with use_cores(1):
        assert fit_processes.count_processes(1_000) == 1
        training = Training(models=("dummy", "linear"), metric="mae", folds=2)
        note = lambda *_: during.update(multiprocessing.active_children())  # noqa: E731
        run(features, y_true, DIABETES, training, on_candidate=note)
    assert during <= before


class Dying(DummyRegressor):
    """An estimator whose process is killed: always, or until a file exists."""

    def __init__(self, path: str = "") -> None:
        super().__init__()
        self.path = path

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Dying":
        assert multiprocessing.parent_process(), "not in the process of the tests"
        if not self.path or not Path(self.path).exists():
            if self.path:
                Path(self.path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)


def test_candidate_whose_process_is_killed_has_failed_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    features, y_true, _ = load("diabetes")
    training = Training(models=("decision_tree", "linear", "dummy", "lightgbm"), metric="mae", folds=3)
    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (None, lambda seed: Dying()))
    reported: list[str] = []
    compared, _ = run(
        features, y_true, DIABETES, training, on_candidate=lambda name, result: reported.append(f"{name} {result}")
    )
    error = (
        "its process was killed (SIGKILL), also while no other ran: perhaps memory ran out, in fold 1 of 3: fewer rows "
        "(training.most_rows) need less"
    )
    assert dict(zip(compared.frame["model"], compared.frame["error"], strict=True))["linear"] == error
    assert reported[1] == f"linear {error}"
    assert (compared.frame["error"] == "").sum() == 3
    assert [one.split()[0] for one in reported] == ["decision_tree", "linear", "dummy", "lightgbm"]


class Lonely(Dying):
    """An estimator whose process is killed once, and that fails if others are there when that fold is fitted again."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Dying":
        first, again, fold = Path(self.path), Path(f"{self.path} again"), str(float(np.sum(y)))
        if not first.exists():
            first.write_text(fold)
            os.kill(os.getpid(), signal.SIGKILL)
        if first.read_text() == fold and not again.exists():
            again.touch()
            if (number := len(psutil.Process(os.getppid()).children())) > 1:
                raise ValueError(f"one of {number} processes")
        return super().fit(X, y)


def test_fold_whose_process_was_killed_is_evaluated_while_no_other_process_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    features, y_true, _ = load("diabetes")
    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (None, lambda seed: Lonely(str(tmp_path / "killed"))))
    folds, kinds = make_folds(y_true, target=DIABETES, n_folds=3, seed=0), find_kinds(features)
    with fit_processes.open_fits(fit_processes.Rows(features, y_true, DIABETES, folds), n_processes=3) as fits:
        for model in ("decision_tree", "linear"):
            fits.plan(model, partial(candidates.make_candidate, model, DIABETES, kinds, seed=0))
        errors = [score.error for model in ("decision_tree", "linear") for score in fits.list_scores(model)]
    assert errors == [""] * 6
    assert (tmp_path / "killed again").exists()


@pytest.mark.parametrize("is_running", [False, True])
def test_no_child_process_is_left_that_was_not_there_before(is_running: bool) -> None:
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    if is_running:
        forkserver.ensure_running()
    before, during = set(psutil.Process().children()), set[psutil.Process]()
    features, y_true, _ = load("diabetes")
    training = Training(models=("dummy", "decision_tree"), metric="mae", folds=2)
    note = lambda *_: during.update(psutil.Process().children())  # noqa: E731
    compare(features, y_true, target=DIABETES, training=training, seed=3, on_candidate=note)
    assert len(during - before) == (0 if is_running else 2)
    assert set(psutil.Process().children()) == before


def test_on_one_core_large_tables_are_fitted_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, set[int]]] = []

    class Counting(DummyRegressor):
        def __init__(self, n_jobs: int = 2) -> None:
            super().__init__()
            self.n_jobs = n_jobs

        def fit(self, X: object, y: object, sample_weight: object = None) -> "Counting":
            used.append((self.n_jobs, {one["num_threads"] for one in threadpool_info()}))
            return super().fit(X, y)

    features, y_true, _ = load("diabetes")
    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (None, lambda seed: Counting()))
    options = {"target": DIABETES, "training": Training(models=("linear",), metric="mae", folds=2), "seed": 3}
    monkeypatch.setenv("LABKIT_CORES", "1")
    with threadpool_limits(2):
        compare(features, y_true, **options)
        assert used == [(1, {1})] * 2
        monkeypatch.setattr(fit_processes, "FEWEST_ROWS", 1_000)
        compare(features, y_true, **options)
    assert used[2:] == [(2, {2})] * 2


def test_process_that_is_killed_once_costs_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    features, y_true, _ = load("diabetes")
    training = Training(models=("decision_tree", "linear", "dummy", "lightgbm"), metric="mae", folds=3)
    found = []
    for path in (tmp_path / "killed", tmp_path / "killed"):  # the second time, no process is killed
        monkeypatch.setitem(candidates.ESTIMATORS, "linear", (None, lambda seed, path=path: Dying(str(path))))
        found.append(describe(run(features, y_true, DIABETES, training)))
    assert found[0] == found[1]
    assert "killed" not in found[0]


class KilledAtStart(fit_processes.Rows):
    """Rows that kill the process that reads them, before it has read all: each, or the first only."""

    path = ""

    def __reduce__(self) -> Any:
        return get_last, (Killer(self.path), fit_processes.Rows(self.features, self.y_true, self.target, self.folds))


@dataclass
class Killer:
    """What kills the process that unpickles it, unless a file exists, which it makes."""

    path: str

    def __reduce__(self) -> Any:
        return kill_once, (self.path,)


def kill_once(path: str) -> None:
    if not path or not Path(path).exists():
        if path:
            Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def get_last(*given: Any) -> Any:
    return given[-1]


@pytest.mark.parametrize("is_once", [True, False])
def test_process_that_is_killed_while_it_starts(is_once: bool, tmp_path: Path) -> None:
    features, y_true, _ = load("breast_cancer")
    folds = make_folds(y_true, target=CANCER, n_folds=2, seed=0)
    rows = KilledAtStart(features, y_true, CANCER, folds)
    object.__setattr__(rows, "path", str(tmp_path / "killed") if is_once else "")
    make = partial(candidates.make_candidate, "naive_bayes", CANCER, find_kinds(features), seed=0)
    with fit_processes.open_fits(rows, n_processes=2) as fits:
        fits.plan("one", make)
        fits.plan("other", make)
        errors = {key: next(fits.list_scores(key)).error for key in ("one", "other")}
    error = (
        "its process was killed (while it started), also while no other ran: perhaps memory ran out, in fold 1 of 2: "
        "fewer rows (training.most_rows) need less"
    )
    assert set(errors.values()) == {"" if is_once else error}


class NotPicklable(DummyRegressor):
    """An estimator that cannot be sent to another process."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()


class NotReadable(DummyRegressor):
    """An estimator that another process cannot read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Leaving(DummyRegressor):
    """An estimator that ends its process by itself."""

    def fit(self, X: object, y: object, sample_weight: object = None) -> "Leaving":
        assert multiprocessing.parent_process(), "not in the process of the tests"
        os._exit(3)


@pytest.mark.parametrize(
    ("estimator", "error"),
    [
        (NotPicklable, "TypeError: cannot pickle '_thread.lock' object"),
        (NotReadable, "ValueError: invalid literal for int() with base 10: 'no number'"),
        (Leaving, "its process ended by itself (exit code 3), also while no other ran, in fold 1 of 2"),
    ],
)
def test_candidate_that_no_process_can_fit_fails_alone(
    estimator: type, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, y_true, _ = load("diabetes")
    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (None, lambda seed: estimator()))
    training = Training(models=("decision_tree", "linear", "dummy"), metric="mae", folds=2, tuning_trials=1)
    compared, _ = run(features, y_true, DIABETES, training)
    errors = dict(zip(compared.frame["model"], compared.frame["error"], strict=True))
    assert errors == {"decision_tree": "", "linear": error, "dummy": ""}


def test_nearest_of_equally_distant_rows_are_the_same_in_one_process_and_in_two() -> None:
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.integers(0, 3, size=(4_000, 6))).add_prefix("x")
    y_true = pd.Series(random.choice(["yes", "no"], 4_000))
    target = Target(column="y", task="classification", positive="yes")
    training = Training(models=("nearest_neighbours",), metric="log_loss", folds=2)
    found = []
    for n_cores in (1, 2):
        with use_cores(n_cores), threadpool_limits(2):
            compared = compare(features, y_true, target=target, training=training, seed=3)
        found.append(compared.by_fold["nearest_neighbours"].tolist())
    assert found[0] == found[1]


def test_warnings_are_shown_by_the_process_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    features, y_true, _ = load("breast_cancer")
    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (lambda seed: LogisticRegression(max_iter=1), None))
    training = Training(models=("dummy", "linear"), metric="roc_auc", folds=2)
    shown = []
    for n_cores in (1, 2):
        with use_cores(n_cores), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(features, y_true, CANCER, training)
        shown.append([(one.category, str(one.message)) for one in caught])
    assert shown[0] == shown[1]
    assert {category for category, _ in shown[1]} == {ConvergenceWarning}


SCRIPT = """
    import multiprocessing
    import numpy as np, pandas as pd
    from labkit.model.training import fit_processes
    from labkit.model.training.comparison import compare
    from labkit.params.tables import Target
    from labkit.params.training import Training

    if __name__ == "__main__":
        random = np.random.default_rng(0)
        features = pd.DataFrame(random.normal(size=(60_000, 30))).add_prefix("x")
        training = Training(models=("random_forest", "extra_trees"), metric="mae", folds=2)
        print("start", flush=True)
        try:
            compare(features, features["x1"] + features["x2"], target=Target(column="y", task="regression"),
                    training=training, seed=0, on_candidate=print)
        except KeyboardInterrupt:
            print("interrupted,", len(multiprocessing.active_children()), "left", flush=True)
            raise
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_an_interrupt_or_a_kill(how: signal.Signals, tmp_path: Path) -> None:
    """A Ctrl-C reaches the whole process group; a kill only the process itself."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    ) as started:  # fmt: skip
        below: list[psutil.Process] = []
        for _ in range(600):
            below = psutil.Process(started.pid).children(recursive=True)
            if sum(one.cpu_times().user > 2 for one in below if one.is_running()) >= 2:  # both are fitting
                break
            time.sleep(0.1)
        assert len(below) >= 3, "the processes have not started"
        if how == signal.SIGINT:
            os.killpg(started.pid, how)
        else:
            started.send_signal(how)
        printed, errors = started.communicate(timeout=60)
    assert started.returncode == -how
    assert printed == ("start\ninterrupted, 0 left\n" if how == signal.SIGINT else "start\n")
    if how == signal.SIGINT:
        assert errors.count("Traceback") == 1
    gone, alive = psutil.wait_procs(below, timeout=10)
    assert not alive
    assert len(gone) == len(below)


def test_the_unchanged_candidate_is_not_fitted_again_as_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    features, y_true, _ = load("breast_cancer")
    fitted: list[float] = []

    class Counted(Hasty):
        def fit(self, X: object, y: object, sample_weight: object = None) -> "Counted":
            fitted.append(self.C)
            return super().fit(X, y)

    monkeypatch.setitem(candidates.ESTIMATORS, "linear", (lambda seed: Counted(), None))
    training = Training(models=("linear",), metric="roc_auc", folds=3, tuning_trials=2)
    with use_cores(1):
        _, tuned = run(features, y_true, CANCER, training)
    assert fitted.count(1.0) == 3
    assert tuned.frame["folds"].tolist()[0] == 3
    assert tuned.frame["state"].tolist()[0] == "complete"


TRACED = """
    import multiprocessing
    import os
    from pathlib import Path

    from labkit.run.tracing.trace import Trace

    from tests.model.training.real_tables import DIABETES, load

    if __name__ == "__main__":
        from labkit.model.training import fit_processes
        from labkit.model.training.comparison import compare
        from labkit.params.training import Training

        fit_processes.FEWEST_ROWS = 0
        features, y_true, _ = load("diabetes")
        trace = Trace(Path.cwd(), None)
        trace.install()
        training = Training(models=("dummy", "decision_tree"), metric="mae", folds=2)
        compare(features, y_true, target=DIABETES, training=training, seed=3)
        print([note for note in trace.notes if note["kind"] == "workers"])
        process = multiprocessing.get_context("forkserver").Process(target=os.getpid)
        process.start()
        process.join()
        print([note for note in trace.notes if note["kind"] == "workers"])
"""


def test_processes_of_fits_are_no_workers_whose_files_are_unknown(tmp_path: Path) -> None:
    """They read no file: candidates and metrics of the user's own stay in the process of the notebook."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(TRACED))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "lib"), str(ROOT)])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == "[]\n[{'kind': 'workers'}]\n", done.stderr
