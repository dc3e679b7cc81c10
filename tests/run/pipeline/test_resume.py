"""`labkit run --resume` continues at the cell that failed if the result is the same, or starts again and says why."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from labkit.params.load import load_params
from labkit.run.fingerprint.footprint import Footprint
from labkit.run.kernels import process_tree
from labkit.run.memory import PENDING_NAME
from labkit.run.notebook.source import read_source
from labkit.run.pipeline.kept_state import load_kept
from labkit.run.pipeline.resume import find_changed_cell, find_changed_part, find_hidden_change
from labkit.run.records.provenance import collect_stage

from tests.conftest import call_in_process, call_labkit
from tests.run.kernels.warm_kernels import make_bare
from tests.run.resumed import Experiment, make_experiment, wait_for_end
from tests.run.small import load_ledger, make_small, started, wait_until
from tests.shared_server import SharedServer

GOES_ON, STARTS = "eda continues at cell ", "eda starts at its first cell: "
FIRST = "import random; random.seed(7); numbers = [random.random() for _ in range(3)]"
SAVE = "(folder / 'numbers.txt').write_text(str(numbers))"


@pytest.fixture
def made(tmp_path: Path, store: Path, shared_server: SharedServer) -> Iterator[Experiment]:
    made = make_experiment(tmp_path / "checkout", store, shared_server)
    yield made
    made.end()


def test_resumed_run_goes_on_at_the_failed_cell_and_is_recorded_as_that(made: Experiment) -> None:
    printed = made.fail(FIRST, "numbers.append(random.random()); 1 / 0", SAVE)
    kept = made.load_kept()
    assert kept is not None
    assert kept.why_not == ""
    assert (
        "Fix it and run again: finished stages are kept.\n`labkit run small --resume` continues at cell 5 and saves the "
        in printed
    )
    made.write(FIRST, "numbers.append(random.random())", SAVE)
    code, printed = made.run("--resume")
    assert code == 0, printed
    assert f"{GOES_ON}5 of {kept.run}: the cells above, which took " in printed
    lines = [line["resumed"] for line in load_ledger(made.root) if line["kind"] == "resumed"]
    assert [(line["run"], line["cell"]) for line in lines] == [(kept.run, 5)]
    page = (made.root / "reports" / "small" / "01_eda.html").read_text()
    assert f"This run continued at cell 5 of {kept.run}: the cells above ran then" in page
    assert find_tags(made.root)["labkit.resumed_run"] == kept.run
    assert f"resumed  at cell 5 of {kept.run}" in call_in_process(made.root, "why", "small", "-v").stdout
    assert list((made.root / ".labkit" / "work").iterdir()) == []
    assert kept.checkpoint
    wait_for_end(kept.checkpoint.pid)
    written, shown = made.list_outputs(), made.list_shown()
    assert made.run("--force", "eda")[0] == 0
    assert made.list_outputs() == written
    assert made.list_shown() == shown


def find_tags(root: Path) -> dict[str, str]:
    """Return the tags of the latest run of the stage in MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment
    return dict(client.search_runs([experiment.experiment_id], "tags.`labkit.stage` = 'eda'")[0].data.tags)


def test_stage_that_fails_again_can_be_resumed_again(made: Experiment) -> None:
    made.fail(FIRST, "1 / 0", "middle = random.random()", "2 / 0", SAVE)
    made.write(FIRST, "second = random.random()", "middle = random.random()", "numbers.append(2 / 0)", SAVE)
    before = made.load_kept()
    code, printed = made.run("--resume")
    assert code == 1, printed
    assert "`labkit run small --resume` continues at cell 7 and saves the " in printed, "later than before"
    assert before
    assert before.checkpoint
    wait_for_end(before.checkpoint.pid)
    printed = made.resume_with(
        FIRST, "second = random.random()", "middle = random.random()", "numbers += [second, middle]", SAVE
    )
    assert f"{GOES_ON}7 of " in printed


def test_run_without_resume_starts_again_and_keeps_nothing(made: Experiment) -> None:
    made.fail(FIRST, "1 / 0", SAVE)
    kept = made.load_kept()
    made.write(FIRST, "2", SAVE)
    code, printed = made.run()
    assert code == 0
    assert GOES_ON not in printed
    assert kept
    assert kept.checkpoint
    wait_for_end(kept.checkpoint.pid)
    assert not (made.root / ".labkit" / "resume" / "small").exists()


EDITS: dict[str, tuple[Callable[[Experiment], object], str]] = {
    "prose": (lambda made: made.write(*CELLS, prose="Other words."), ""),
    "the failed cell": (lambda made: made.write(*CELLS[:3], "pass", SAVE), ""),
    "a new cell": (lambda made: made.write(*CELLS[:3], "new = 1", *CELLS[3:]), ""),
    "a module that only the failed cell uses": (lambda made: edit(made, "notebooks/later.py"), ""),
    "a limit": (lambda made: edit(made, "params/small.yaml", "  cell_seconds: 77\n"), ""),
    "a cell above": (
        lambda made: made.write(CELLS[0], CELLS[1] + " + 1", *CELLS[2:]),
        "cell 5 changed, which is above the one to continue at",
    ),
    "a tag above": (
        lambda made: made.write(*CELLS, tags=["skip-execution"]),
        "cell 4 changed, which is above the one to continue at",
    ),
    "cells above": (lambda made: made.write(), "cell 4 changed, which is above the one to continue at"),
    "the params": (lambda made: replace_seed(made), "seed changed in the params"),
    "a loaded module": (
        lambda made: edit(made, "notebooks/early.py"),
        "notebooks/early.py changed, which cells above have loaded",
    ),
    "a file that was read": (
        lambda made: edit(made, "notebooks/rates.txt"),
        "notebooks/rates.txt changed, which cells above may have read",
    ),
    "a listed folder": (lambda made: edit(made, "notebooks/parts/c.txt"), "the names in notebooks/parts/*.txt changed"),
    "the lock": (lambda made: edit(made, "requirements.lock", "other==2\n"), "requirements.lock changed"),
}
CELLS = (
    "import early; rate = float(pathlib.Path('rates.txt').read_text())",
    "numbers = [early.VALUE]",
    "names = sorted(path.name for path in pathlib.Path('parts').glob('*.txt'))",
    "import later; 1 / 0",
    SAVE,
)


def edit(made: Experiment, name: str, added: str = "# edited\n") -> None:
    """Add a line to a file of the checkout."""
    with (made.root / name).open("a") as stream:
        stream.write(added)


def replace_seed(made: Experiment) -> None:
    """Change a parameter."""
    path = made.root / "params" / "small.yaml"
    path.write_text(path.read_text().replace("seed: ", "seed: 1"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory, store: Path, shared_server: SharedServer) -> Iterator[Experiment]:
    made = make_experiment(tmp_path_factory.mktemp("failed") / "checkout", store, shared_server)
    (made.root / "notebooks" / "parts").mkdir()
    for name, content in {"early.py": "VALUE = 1\n", "later.py": "", "rates.txt": "2", "parts/a.txt": ""}.items():
        (made.root / "notebooks" / name).write_text(content)
    made.fail(*CELLS)
    yield made
    made.end()


@pytest.mark.parametrize("name", EDITS)
def test_what_changed_since_decides(failed: Experiment, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, expected = EDITS[name]
    monkeypatch.setenv("LABKIT_ROOT", str(failed.root))
    kept = load_kept("small")
    assert kept
    assert kept.checkpoint
    places = [failed.root, *(failed.root / name for name in ("notebooks", "notebooks/parts", "params"))]
    before = {path: path.read_bytes() for place in places for path in place.iterdir() if path.is_file()}
    try:
        change(failed)
        params, source = load_params("small"), read_source(failed.notebook)
        found = find_changed_cell(kept.checkpoint, source)
        inputs = collect_stage(params, "eda", None)["inputs"]
        assert (found or find_changed_part(kept, "eda", params, inputs)) == expected
    finally:
        (failed.root / "notebooks" / "parts" / "c.txt").unlink(missing_ok=True)
        for path, content in before.items():
            path.write_bytes(content)
    assert find_changed_part(kept, "eda", load_params("small"), inputs) == ""


SIDE_EFFECTS = {
    "a file beside the notebook": (
        "pathlib.Path('made.txt').write_text('x')",
        "it changed notebooks/made.txt, outside",
    ),
    "a program": ("os.system('true')", "not all that it depends on can be compared: It starts `true`"),
    "a large file that the failed cell changed": (
        "(folder / 'large.bin').write_bytes(bytes(2_000_000))",
        "the failed cell had changed outputs/eda/large.bin",
    ),
}


@pytest.mark.parametrize("name", SIDE_EFFECTS)
def test_nothing_is_kept_of_cells_that_did_more_than_change_memory(made: Experiment, name: str) -> None:
    cell, words = SIDE_EFFECTS[name]
    fails = "(folder / 'large.bin').open('ab').write(b'x'); 1 / 0"
    printed = made.fail(cell, fails, SAVE)
    assert "--resume" not in printed
    kept = made.load_kept()
    assert kept
    assert kept.why_not.startswith(words), kept.why_not
    assert kept.checkpoint is None
    made.write("numbers = 1", SAVE)
    code, printed = made.run("--resume")
    assert code == 0
    assert f"{STARTS}{words}" in printed


def test_resumed_run_goes_on_before_what_cannot_be_copied(made: Experiment) -> None:
    temporary = "import tempfile; held = tempfile.TemporaryDirectory(); (pathlib.Path(held.name) / 'x').touch()"
    printed = made.fail(FIRST, temporary, "1 / 0", SAVE)
    assert "`labkit run small --resume` continues at cell 5 and saves the " in printed
    assert f"{GOES_ON}5 of " in made.resume_with(FIRST, temporary, "numbers += os.listdir(held.name)", SAVE)


def test_other_environment_starts_again(made: Experiment) -> None:
    made.fail(FIRST, "1 / 0", SAVE)
    made.write(FIRST, "1", SAVE)
    assert f"{STARTS}RATE changed in the environment" in made.resume(RATE="3")


def test_terminal_and_number_of_cores_may_differ(made: Experiment) -> None:
    made.write(FIRST, "1 / 0", SAVE)
    assert made.run(NO_COLOR="", PYTHONUNBUFFERED="")[0] == 1
    made.write(FIRST, "1", SAVE)
    different = {"LABKIT_CORES": "1", "COLUMNS": "44", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", "MAKELEVEL": "1"}
    assert f"{GOES_ON}5 of " in made.resume(**different)


OWN_FILES = ("data/small/raw/x.bin", "notebooks/x.bin", "notebooks/small/x.bin", "lib/x.bin", "params/small.yaml")
OTHERS_FILES = (
    "data/other/raw/x.bin", "notebooks/other/x.bin", "notebooks/small/x.ipynb", "lib/x.py", "params/other.yaml",
    "mlflow.db-wal", "run.json",
)  # fmt: skip


def test_only_what_an_experiment_has_for_itself_must_not_change_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(make_bare(tmp_path)))
    for name in (*OWN_FILES, *OTHERS_FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    time.sleep(0.1)
    footprint = Footprint(began=time.time())
    for name in OTHERS_FILES:
        (tmp_path / name).write_text("x")
    assert find_hidden_change(footprint, "small") == ""
    for name in OWN_FILES:
        (tmp_path / name).write_text("x")
        assert find_hidden_change(footprint, "small") == f"{name} was changed while it ran"
        (tmp_path / name).unlink()


def test_two_experiments_are_resumed_by_one_command(tmp_path: Path, store: Path, shared_server: SharedServer) -> None:
    names = ("small", "other")
    root = make_small(tmp_path / "checkout", "eda", store=store, experiments=names)
    shared_server.lend(root)
    kept_by_name = [Experiment(root, name) for name in names]
    for one in kept_by_name:
        one.keep_each(seconds="0")
    made = kept_by_name[0]
    made.write(FIRST, "1 / 0", SAVE)
    try:
        failed = call_labkit(root, "run", *names)
        assert failed.returncode == 1
        made.write(FIRST, "numbers.append(experiment)", SAVE)
        done = call_labkit(root, "run", *names, "--resume")
        assert done.returncode == 0, done.stdout + done.stderr
        for name, one in zip(names, kept_by_name, strict=True):
            assert f"`labkit run {name} --resume` continues at cell 5 and saves the " in failed.stdout
            assert f"| {GOES_ON}5 of {name}-" in done.stdout
            written = one.list_outputs()
            assert one.run("--force", "eda")[0] == 0
            assert one.list_outputs() == written
    finally:
        for one in kept_by_name:
            one.end()


def test_resumed_run_that_is_killed_takes_the_state_along(made: Experiment) -> None:
    made.fail(FIRST, "1 / 0", SAVE)
    made.write(FIRST, "time.sleep(300)", SAVE)
    log = made.root / "reports" / "small" / "01_eda.log"
    with started(made.root, "run", "small", "--resume") as run:
        wait_until(lambda: log.exists() and "cell 5" in log.read_text() and "1 / 0" not in log.read_text(), seconds=200)
        run.send_signal(signal.SIGKILL)
    made.write(FIRST, "2", SAVE)
    printed = made.resume()
    assert f"{STARTS}the run that continued at cell 5 was killed, with the files of the cells above." in printed
    assert list((made.root / ".labkit" / "work").iterdir()) == []
    lines = load_ledger(made.root)
    stages = [line["run"] for line in lines if line["kind"] == "start" and line["stage"] == "eda"]
    outcomes = [line["outcome"] for run in stages for line in lines if line["kind"] == "done" and line["run"] == run]
    assert outcomes == ["failed", "killed", "finished", "finished"]


def test_quick_stage_keeps_nothing_and_says_so_when_asked(
    tmp_path: Path, store: Path, shared_server: SharedServer
) -> None:
    made = make_experiment(tmp_path / "checkout", store, shared_server, seconds="1000")
    assert "--resume" not in made.fail("1 / 0")
    made.write("1")
    assert f"{STARTS}its cells had run for less than 16 min 40 s.\n" in made.run("--resume")[1]
    made.write("2")
    assert f"{STARTS}no failed run of small has left its state.\n" in made.run("--resume")[1]


@pytest.mark.parametrize("other", [["--sample", "20"], ["--force", "eda"], ["--cold"]])
def test_options_that_start_at_the_first_cell_exclude_resume(made: Experiment, other: list[str]) -> None:
    code, printed = made.run("--resume", *other)
    assert code == 2
    assert "starts at the first cell: leave out" in printed
    assert load_ledger(made.root) == []


def test_cold_run_keeps_nothing(made: Experiment) -> None:
    made.write("1 / 0")
    code, printed = made.run("--cold")
    assert code == 1
    assert "--resume" not in printed
    assert not (made.root / ".labkit" / "resume").exists()


def test_killed_run_leaves_nothing_running(made: Experiment) -> None:
    made.write(FIRST, "time.sleep(300)", SAVE)
    with started(made.root, "run", "small") as run:
        log = made.root / "reports" / "small" / "01_eda.log"
        wait_until(lambda: log.exists() and "cell 5" in log.read_text(), seconds=200)
        pending = list_pending(made.root)
        assert len(pending) == 1
        run.send_signal(signal.SIGKILL)
    wait_for_end(pending[0])


def list_pending(root: Path) -> list[int]:
    """Return the processes of checkpoints that are not kept, of a checkout."""
    named = [one.pid for one in psutil.process_iter() if process_tree.get_name(one.pid) == PENDING_NAME]
    return [pid for pid in named if Path(f"/proc/{pid}/cwd").resolve().is_relative_to(root)]
