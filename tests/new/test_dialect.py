"""Awkward files: each becomes an experiment that reads, or is refused in one message and leaves nothing behind."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from labkit.errors import LabkitError
from labkit.new.create import Ask, NewExperiment, Query, create_experiment
from labkit.new.options import Choices
from labkit.params.load import load_params
from labkit.run.pipeline.dvc_repo import list_pipeline_experiments, open_repo
from labkit.run.pipeline.run_lock import hold_checkout
from labkit.stages.source import NOTES, place_tables

from tests.conftest import LABKIT, ROOT, call_labkit, make_environment
from tests.data import awkward, format_files
from tests.data.awkward import PLAIN, Case, csv, dump, rows

CASES = [*awkward.CASES, *format_files.CASES]


def make_small_checkout(root: Path) -> Path:
    """Return a checkout with nothing in it but an empty pipeline."""
    (root / "params").mkdir(parents=True)
    (root / "dvc.yaml").write_text("# The pipeline.\nvars:\n- experiments: [other]\n\n# All of them.\nstages: {}\n")
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout of its own: the more experiments one has, the longer DVC looks at all of them."""
    folder = make_small_checkout(tmp_path / "checkout")
    monkeypatch.setenv("LABKIT_ROOT", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder elsewhere, where strangers' files are."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def found_case(case: Case, folder: Path) -> NewExperiment:
    """Make the experiment of a case."""
    made = case.make(folder)
    files = made if isinstance(made, list) else [made]
    return create_experiment(case.name, files, case.target, choices=Choices(**case.choices), **case.options)


def list_files(root: Path) -> dict[str, bytes]:
    """Return every file of a checkout that is the user's."""
    files = [path for path in root.rglob("*") if path.is_file() and not {".git", ".dvc", ".labkit"} & {*path.parts}]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.runs], ids=lambda case: case.name)
def test_awkward_file_runs(root: Path, folder: Path, tmp_path: Path, case: Case) -> None:
    made = found_case(case, folder)
    params = load_params(case.name)
    reported = made.params_path.read_text() + "\n".join(
        f"{line.subject} {line.value} {line.reason}" for line in made.proposal.decisions
    )
    for words in case.messages:
        assert words in reported
    assert case.name in list_pipeline_experiments()
    # As the stage `source` reads it: strictly, twice to the same bytes, every row.
    for place in ("once", "again"):
        place_tables(params, tmp_path / place, tmp_path / "contract.json")
    first, second = (tmp_path / place / f"{case.name}.parquet" for place in ("once", "again"))
    assert first.read_bytes() == second.read_bytes()
    assert pq.read_metadata(first).num_rows == made.survey.raw.n_rows
    assert (tmp_path / "once" / NOTES).is_file()


@pytest.mark.parametrize("case", [case for case in CASES if not case.runs], ids=lambda case: case.name)
def test_awkward_file_is_refused_and_nothing_left(root: Path, folder: Path, case: Case) -> None:
    before = list_files(root)
    with pytest.raises(LabkitError) as refused:
        found_case(case, folder)
    assert refused.value.exit_code == 2
    for words in case.messages:
        assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list_files(root) == before
    assert not list((root / ".labkit" / "work").glob("new-*"))


def test_only_dates_before_the_question_become_lengths(root: Path, folder: Path) -> None:
    found_case(next(case for case in CASES if case.name == "date_after_a_time"), folder)
    assert load_params("date_after_a_time").features.expressions == {}


def test_replacing_needs_force_and_leaves_no_contract_of_the_old_table(root: Path, folder: Path) -> None:
    path = csv(PLAIN)(folder)
    create_experiment("shop", [path], "y", choices=Choices())
    (root / "data" / "shop" / "contract.json").write_text("{}")
    with pytest.raises(LabkitError, match="there is an experiment 'shop' already: choose another name, or replace it"):
        create_experiment("shop", [path], "y", choices=Choices())
    path.write_text(dump(rows(seed=3)))
    create_experiment("shop", [path], "y", choices=Choices(), force=True)
    assert (root / "data" / "shop" / "source" / "t.csv").read_text() == dump(rows(seed=3))
    assert not (root / "data" / "shop" / "contract.json").exists()
    assert list_pipeline_experiments() == ["other", "shop"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Shop", "'Shop' is not a valid experiment name"),
        ("../shop", "is not a valid experiment name"),
        ("a" * 64, "is not a valid experiment name"),
        ("", "is not a valid"),
    ],
)
def test_name_is_refused(root: Path, folder: Path, name: str, message: str) -> None:
    with pytest.raises(LabkitError, match=message):
        create_experiment(name, [csv(PLAIN)(folder)], "y", choices=Choices())


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "replaced"])
def test_failure_at_the_last_step_leaves_everything_as_it_was(root: Path, folder: Path, is_there: bool) -> None:
    path = csv(PLAIN)(folder)
    if is_there:
        create_experiment("shop", [path], "y", choices=Choices())
    # With a pipeline that lists nothing, the line in dvc.yaml cannot be added, after all else has been put in place.
    (root / "dvc.yaml").write_text("stages: {}\n")
    before = list_files(root)
    path.write_text(dump(rows(seed=3)))
    with pytest.raises(LabkitError, match=r"dvc\.yaml: no `vars: \[experiments: \[\.\.\.\]\]` at its top"):
        create_experiment("shop", [path], "y", choices=Choices(), force=True)
    assert list_files(root) == before


def test_no_leaves_nothing(root: Path, folder: Path) -> None:
    before = list_files(root)
    with pytest.raises(LabkitError, match="shop: not created, as requested"):
        create_experiment("shop", [csv(PLAIN)(folder)], "y", choices=Choices(), ask=lambda survey, proposal: False)
    assert list_files(root) == before


def test_changed_words_are_written_and_checked(root: Path, folder: Path) -> None:
    def ask(row: str) -> Ask:
        return lambda survey, proposal: proposal.tree.update(row=row) is None

    before, path = list_files(root), csv(PLAIN)(folder)
    with pytest.raises(LabkitError, match="row: 'a/b/c' is no noun"):
        create_experiment("shop", [path], "y", choices=Choices(), ask=ask("a/b/c"))
    assert list_files(root) == before
    create_experiment("shop", [path], "y", choices=Choices(), ask=ask("purchase"))
    assert load_params("shop").row == "purchase"


def test_dvc_yaml_keeps_its_comments(root: Path, folder: Path) -> None:
    create_experiment("shop", [csv(PLAIN)(folder)], "y", choices=Choices())
    assert (root / "dvc.yaml").read_text() == (
        "# The pipeline.\nvars:\n- experiments: [other, shop]\n\n# All of them.\nstages: {}\n"
    )


def test_pointer_is_for_git_and_the_file_is_not(root: Path, folder: Path) -> None:
    create_experiment("shop", [csv(PLAIN)(folder)], "y", choices=Choices())
    seen = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all", "data"], cwd=root, capture_output=True, text=True
    ).stdout
    assert sorted(line[3:] for line in seen.splitlines()) == [
        "data/shop/source/.gitignore",
        "data/shop/source/t.csv.dvc",
    ]


def test_file_that_is_not_the_agreed_one_is_refused(root: Path, folder: Path, tmp_path: Path) -> None:
    create_experiment("shop", [csv(PLAIN)(folder)], "y", choices=Choices())
    source = root / "data" / "shop" / "source" / "t.csv"
    source.unlink()  # DVC may have linked it to its cache
    source.write_text(PLAIN.replace("red", "bed", 1))
    with pytest.raises(LabkitError, match=r"data/shop/source/t\.csv is not the file of t\.csv\.dvc"):
        place_tables(load_params("shop"), tmp_path / "raw", tmp_path / "contract.json")
    source.unlink()
    with pytest.raises(LabkitError, match=r"is not here, only its DVC pointer: run `dvc pull`"):
        place_tables(load_params("shop"), tmp_path / "raw", tmp_path / "contract.json")


def make_database(path: Path) -> str:
    """Make a database with one table, and return its address."""
    with sqlite3.connect(path) as connection:
        connection.execute("create table loans (x real, colour text, y text, blank integer)")
        values = [(float(row["x"]), row["colour"], row["y"], None) for row in rows()]
        connection.executemany("insert into loans values (?, ?, ?, ?)", values)
    return f"sqlite:///{path}"


def test_rows_of_a_query(root: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", make_database(folder / "secret.db"))
    made = create_experiment("loans", Query("select * from loans", "WAREHOUSE_URL"), "y", choices=Choices())
    assert made.survey.raw.n_rows == 60
    assert 'blank: "empty: no value in any row"' in made.params_path.read_text()
    place_tables(load_params("loans"), tmp_path / "raw", tmp_path / "contract.json")
    # The address, which may hold a password, is nowhere on the disk.
    assert not [name for name, content in list_files(root).items() if b"secret.db" in content]


@pytest.mark.parametrize(
    ("sql", "address", "message"),
    [
        ("select * from loans", None, "--database-env WAREHOUSE_URL: not set: set it to the database's address"),
        ("select * from loans", "no address", "the variable does not hold a valid address"),
        ("select * from loan", "", "--sql: .*no such table: loan.*: fix the query"),
        ("select * from loans where x > 1e9", "", "the query returns 0 rows"),
        ("select x, x, y from loans", "", "duplicate column names: 'x'"),
        ("create table other (a integer)", "", "the statement returns no rows"),
        ("select colour as y, case when x > 0 then 'a' else 1 end as z from loans", "", "column 'z'"),
    ],
)
def test_query_is_refused(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, sql: str, address: str | None, message: str
) -> None:
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    usual = make_database(folder / "secret.db")
    if address is not None:
        monkeypatch.setenv("WAREHOUSE_URL", address or usual)
    before = list_files(root)
    with pytest.raises(LabkitError, match=message) as refused:
        create_experiment("loans", Query(sql, "WAREHOUSE_URL"), "y", choices=Choices())
    assert "secret.db" not in str(refused.value)
    assert list_files(root) == before


def test_choices_override_what_is_inferred(root: Path, folder: Path) -> None:
    table = [{**row, "at": f"{n % 28 + 1:02d}.{n % 12 + 1:02d}.2024", "code": str(n % 5), "n": str(n)}
             for n, row in enumerate(rows())]  # fmt: skip
    choices = Choices(
        positive="no", metric="accuracy", kinds={"code": "category", "at": "category"}, missing={"x": ("0.5",)},
        drop=("colour",), keep=("n",), task="classification",
    )  # fmt: skip
    create_experiment("shop", [csv(dump(table))(folder)], "y", choices=choices)
    params = load_params("shop")
    assert params.data.target.positive == "no"
    assert params.training.metric == "accuracy"
    assert params.data.tables["shop"].texts == ("code",)
    assert params.data.tables["shop"].times == ()
    assert params.wrangling.rules["x"].missing == (0.5,)
    assert params.wrangling.drop == {"colour": "left out as requested"}
    assert params.data.split.method == "random"


@pytest.mark.slow
def test_large_tables_get_bounded_work(root: Path, folder: Path) -> None:
    made = create_experiment("shop", [csv(dump(rows(30_000)))(folder)], "y", choices=Choices())
    training = load_params("shop").training
    assert (training.folds, training.most_rows) == (3, None)
    assert made.survey.is_whole
    wide = [{**row, **{f"c{place}": str((place * n) % 7) for place in range(250)}} for n, row in enumerate(rows())]
    create_experiment("wide", [csv(dump(wide), "w.csv")(folder)], "y", choices=Choices())
    assert load_params("wide").training.models == ("dummy", "linear", "lightgbm")


@pytest.mark.slow
def test_command_line_explains_what_it_decided_and_why(root: Path, folder: Path) -> None:
    path = csv(dump(rows(), ";"))(folder)
    done = call_labkit(root, "new", "shop", "--data", str(path), "--target", "y", "--kind", "colour=identifier")
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "60 rows",
        "delimiter",
        "3 cells in the first row",
        "the target holds 2 different words",
        "it means yes",
    ):
        assert words in done.stdout
    assert "Made:      params/shop.yaml, and data/shop/source under DVC" in done.stdout
    [line] = re.findall(r"^For git: +(git add .*)$", done.stdout, re.MULTILINE)
    subprocess.run(shlex.split(line), cwd=root, check=True)
    staged = subprocess.run(["git", "diff", "--cached", "--name-only"], cwd=root, capture_output=True, text=True).stdout
    assert staged.split() == [
        "data/shop/source/.gitignore",
        "data/shop/source/t.csv.dvc",
        "dvc.yaml",
        "params/shop.yaml",
    ]
    assert load_params("shop").wrangling.drop == {"colour": "identifier: given"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "none.csv", "--target", "y"], "labkit: none.csv: no such file: did you mean 't.csv'?"),
        (["--target", "y"], "name files with --data, or a query with --sql and --database-env"),
        (["--data", "t.csv", "--target", "y", "--kind", "x"], "--kind x: write COLUMN=VALUE"),
        (["--data", "t.csv"], "Missing option '--target'"),
        (["--data", "t.csv", "--target", "Y"], "labkit: t.csv: --target: no column 'Y': "),
    ],
)
def test_command_line_refuses_in_one_message(root: Path, folder: Path, arguments: list[str], message: str) -> None:
    csv(PLAIN)(folder)
    before = list_files(root)
    runner = [LABKIT, "new", "shop", *arguments]
    done = subprocess.run(
        runner, cwd=folder, env=make_environment(root), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert list_files(root) == before


@contextmanager
def touched_all_the_time(path: Path) -> Iterator[None]:
    """Let another thread write to a file for as long as the block lasts."""
    is_over = threading.Event()

    def touch() -> None:
        while not is_over.wait(0.0005):
            os.utime(path)

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
def test_file_that_changes_while_it_is_read_is_refused(root: Path, folder: Path, tmp_path: Path) -> None:
    path = csv(dump(rows(20_000)))(folder)
    create_experiment("shop", [path], "y", choices=Choices())
    source = root / "data" / "shop" / "source" / "t.csv"
    source.chmod(0o644)
    with (
        touched_all_the_time(source),
        pytest.raises(LabkitError, match=r"a file of data\.tables changed while it was read: run again"),
    ):
        place_tables(load_params("shop"), tmp_path / "raw", tmp_path / "contract.json")
    assert not list((tmp_path / "raw").glob("*"))


@pytest.mark.slow
def test_two_experiments_made_at_once_are_both_listed(root: Path, folder: Path) -> None:
    path = csv(PLAIN)(folder)
    runs = [
        subprocess.Popen(
            [LABKIT, "new", name, "--data", str(path), "--target", "y"],
            cwd=root, env=make_environment(root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name in ("first", "second")
    ]  # fmt: skip
    for run in runs:
        printed, _ = run.communicate(timeout=300)
        assert run.returncode == 0, printed
    assert sorted(list_pipeline_experiments()) == ["first", "other", "second"]


def test_new_waits_for_the_run_of_the_checkout(root: Path, folder: Path) -> None:
    path, reported, is_waiting = csv(PLAIN)(folder), list[str](), threading.Event()

    def report(line: str) -> None:
        reported.append(line)
        is_waiting.set()

    thread = threading.Thread(target=lambda: create_experiment("shop", [path], "y", choices=Choices(), report=report))
    with hold_checkout("other", report=reported.append):
        before = list_files(root)
        thread.start()
        assert is_waiting.wait(60)
        assert list_files(root) == before
    thread.join(60)
    assert reported == [line for line in reported if line.startswith("waiting for the run of other (process ")]
    assert len(reported) == 1
    assert sorted(list_pipeline_experiments()) == ["other", "shop"]


def test_new_beside_a_command_of_dvc_is_refused_and_nothing_left(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0)
    path = csv(PLAIN)(folder)
    before = list_files(root)
    with (
        open_repo().lock.own,
        pytest.raises(LabkitError, match="a DVC command is running in this checkout: nothing was created"),
    ):
        create_experiment("shop", [path], "y", choices=Choices())
    assert list_files(root) == before
