"""A sweep whose points Optuna proposes: the same ones each time, whatever is killed or fails."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from labkit.errors import ParamsError
from labkit.params.load import load_file
from labkit.sweep.proposed_points import find_own_values, make_search_space
from labkit.sweep.search import Search, count_drawn
from labkit.sweep.search_space import Range, parse_range, parse_space

from tests.conftest import call_in_process, call_labkit
from tests.run.small import find_tracked, make_small, start, wait_until
from tests.shared_server import SharedServer

SEEDS = {"seed": Range(1, 1000)}
SCORE = """
lines = pathlib.Path(os.environ["LABKIT_ROOT"], "params", "small.yaml").read_text().splitlines()
value = next(int(line.split(": ")[1]) for line in lines if line.startswith("seed: "))
time.sleep(0.5)
assert value < 500, "too large"
emit(kind="metrics", metrics={"cv_mae": abs(value - 300)})
"""


def compute_score(settings: tuple[str, ...]) -> float | None:
    """Return what the notebook above logs; None if it fails."""
    value = int(settings[0].removeprefix("seed="))
    return abs(value - 300) if value < 500 else None


def propose(path: Path, n_trials: int, score: Callable[[tuple[str, ...]], float | None]) -> list[tuple[str, ...]]:
    """Return what is proposed in rounds of four if nothing is interrupted."""
    search = Search(SEEDS, metric="mae", seed=42, path=path, first={"seed": 42})
    found: list[tuple[str, ...]] = []
    for _ in range(0, n_trials, 4):
        asked = [search.propose() for _ in range(4)]
        for number, settings in asked:
            search.conclude(number, score(settings))
        found += [settings for _, settings in asked]
    return found


def test_first_point_is_what_the_params_file_has_and_scores_decide_what_follows(tmp_path: Path) -> None:
    near_300 = propose(tmp_path / "study", 24, compute_score)
    assert near_300[0] == ("seed=42",)
    assert near_300 == propose(tmp_path / "study", 24, compute_score)
    near_900 = propose(tmp_path / "study", 24, lambda settings: abs(int(settings[0].removeprefix("seed=")) - 900))
    assert near_300[:4] == near_900[:4]
    means = [sum(int(one[0].removeprefix("seed=")) for one in found[8:]) / 16 for found in (near_300, near_900)]
    assert means[1] - means[0] > 200


def test_first_point_has_all_digits_of_the_params_file(tmp_path: Path) -> None:
    space = {"eda.correlation_alert": Range(0.5, 0.99), "training.penalty": Range(1e-6, 0.1, is_log=True)}
    own = {"eda.correlation_alert": 0.87654, "training.penalty": 1e-05}
    search = Search(space, metric="mae", seed=42, path=tmp_path / "study", first=own)
    assert search.propose()[1] == ("eda.correlation_alert=0.87654", "training.penalty=0.00001")
    search.close()


@pytest.mark.parametrize("size", [4, 5, 6])
def test_scores_decide_only_what_is_proposed_after_the_points_at_random(tmp_path: Path, size: int) -> None:
    found = []
    for aim in (300, 900):
        search = Search(SEEDS, metric="mae", seed=42, path=tmp_path / "study", first={"seed": 42})
        proposed: list[int] = []
        while len(proposed) < count_drawn(size) + 2 * size:
            asked = [search.propose() for _ in range(size)]
            values = [int(settings[0].removeprefix("seed=")) for _, settings in asked]
            for (number, _), value in zip(asked, values, strict=True):
                search.conclude(number, abs(value - aim))
            proposed += values
        found.append(proposed)
    n_drawn = count_drawn(size)
    assert found[0][:n_drawn] == found[1][:n_drawn]
    assert found[0][n_drawn : n_drawn + size] != found[1][n_drawn : n_drawn + size]


def test_more_points_continue_the_same_search(tmp_path: Path) -> None:
    assert propose(tmp_path / "study", 12, compute_score) == propose(tmp_path / "study", 20, compute_score)[:12]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5..50", Range(5, 50)),
        ("-1..1.5", Range(-1, 1.5)),
        ("1e-3..0.1:log", Range(1e-3, 0.1, is_log=True)),
        ("../tables", None),
        ("[1..2]", None),
    ],
)
def test_ranges_are_told_from_values(value: str, expected: Range | None) -> None:
    assert parse_range(value) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.folds=5..3"], "-S training.folds=5..3: the lower end of a range comes first"),
        (["training.folds=0..3:log"], "-S training.folds=0..3:log: a range with :log begins above 0"),
        (["training.folds=3..5,7"], "-S training.folds=3..5,7: give one range, or values without a range"),
        (["training.folds=3..100"], "training.folds"),
        (["training.folds=3.5..5"], "training.folds"),
        (["training.metric=mae,rmse"], "training.metric decides what is measured"),
        (["training.folds=3..5", "seed=1,2"], "--optuna 6: there are only 6 combinations"),
        (["seed=1..9", "seed=3"], "-S seed: given twice"),
        (["eda.correlation_alert=-1e999..1"], "-S eda.correlation_alert=-1e999..1: the ends of a range are finite"),
        (["eda.correlation_alert=-1e308..1e308"], "the ends of a range are finite numbers, and not further apart"),
        ([f"seed=1..{'9' * 310}"], "the ends of a range are finite numbers"),
        ([f"seed=1..{'9' * 5000}"], "the ends of a range are finite numbers"),
    ],
)
def test_spaces_that_cannot_be_searched_are_refused(params_root: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ParamsError) as raised:
        make_search_space(load_file("diabetes"), settings, 6)
    assert message in str(raised.value)


def test_own_values_are_proposed_only_if_all_are_in_the_space(params_root: Path) -> None:
    file = load_file("diabetes")
    models = f"[{', '.join(file.params.training.models)}]"
    space = parse_space([("training.models", ["[linear]", models]), ("training.folds", ["2..9"])])
    assert find_own_values(file, space) == {"training.models": models, "training.folds": file.params.training.folds}
    assert find_own_values(file, {**space, "seed": Range(1, 9)}) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-S", "seed=1..9"], "-S seed: a range needs --optuna N"),
        (["-S", "seed=1..9", "--optuna", "3", "--random", "2"], "give one of them"),
        (["-S", "seed=1..9", "--optuna", "3", "--until", "eda"], "--optuna needs the score of the stage training"),
        (["-S", "seed=-5..9", "--optuna", "3"], "seed"),
    ],
)
def test_invalid_search_starts_nothing(tmp_path: Path, options: list[str], message: str) -> None:
    root = make_small(tmp_path / "checkout", "eda", "training")
    done = call_in_process(root, "sweep", "small", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (root / ".labkit" / "sweeps").exists()


@pytest.mark.slow
@pytest.mark.fault
def test_search_goes_on_after_kills_and_failures(tmp_path: Path, store: Path, shared_server: SharedServer) -> None:
    root = make_small(tmp_path / "checkout", "training", store=store, training=SCORE)
    shared_server.lend(root)
    command = ("sweep", "small", "-S", "seed=1..1000", "--optuna", "12", "--jobs", "2")
    run = start(root, "sweep", "small", "-S", "seed=1..1000", "--optuna", "8", "--jobs", "2")
    nodes = root / ".labkit" / "sweeps" / "small" / "nodes"
    wait_until(lambda: len(list(nodes.glob("*/.labkit/node.json"))) >= 2)
    run.send_signal(signal.SIGKILL)
    assert "with --optuna 8, no point is proposed from scores: that begins after 8 points" in run.communicate()[0]
    done = call_labkit(root, *command, "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    result = json.loads(done.stdout)
    rows = sorted(result["rows"], key=lambda row: row["number"])
    expected = propose(tmp_path / "study", 12, compute_score)
    assert [tuple(row["settings"]) for row in rows] == list(dict.fromkeys(expected))
    assert [row["score"] for row in rows] == [compute_score(tuple(row["settings"])) for row in rows]
    assert any("too large" in row["failure"] for row in rows)
    assert {status for status, _ in find_tracked(root).values()} <= {"FINISHED", "FAILED"}
    # The study is Optuna's own, and can be opened by its tools.
    journal = optuna.storages.journal.JournalFileBackend(str(root / ".labkit/sweeps/small/study.journal"))
    study = optuna.load_study(study_name="cv_mae", storage=optuna.storages.JournalStorage(journal))
    states = [trial.state.name for trial in study.trials]
    assert states == ["PRUNED" if compute_score(one) is None else "COMPLETE" for one in expected]
    best = result["rows"][0]
    assert best["score"] == study.best_value
    adopted = call_in_process(root, "sweep", "small", "--adopt", "best")
    assert f"+{best['settings'][0].replace('=', ': ')}" in adopted.stdout
