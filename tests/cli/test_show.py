"""The commands that show something: readable at 80 columns, plain in a pipe, and one JSON document with --json."""

import json
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from labkit.cli import main
from labkit.run.records import ledger
from labkit.run.records.stage_record import StageRecord, save_record

from tests.conftest import Labkit, call_in_process

DRAWN = set("│┃─━┏┓┗┛┡┩╇╋┳┻├┤")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Call a command in this process and return what it printed to standard output."""
    assert main.call(main.cli, list(arguments)) == 0
    return capsys.readouterr().out


def parse(printed: str) -> Any:
    """Return the one document that was printed."""
    assert printed.isascii()
    return json.loads(printed)


@pytest.fixture
def ran(params_root: Path) -> ledger.Entry:
    """Return a finished run of one stage, in the ledger."""
    facts = {"commit": "a" * 40, "is_dirty": False, "asked": {"force": "eda"}, "params": {"seed": "42"}}
    with ledger.open_entry("diabetes", facts=facts) as run:
        run.plan({"eda": ["first run"], "features": []})
        with ledger.open_entry("diabetes", "eda", parent=run.run, facts={"inputs": {"data/x": "b" * 64}}):
            pass
    return run


def test_runs_as_json(ran: ledger.Entry, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = parse(call(capsys, "runs", "--json"))["runs"]
    assert list(row) == ["run", "what", "outcome", "stage", "seconds", "at"]
    assert (row["run"], row["outcome"]) == (ran.run, "finished")
    assert parse(call(capsys, "runs", "diabetes", "-n", "1", "--json"))["n_runs"] == 1


def test_runs_fit_into_80_columns(
    ran: ledger.Entry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    headings, row = call(capsys, "runs").splitlines()
    assert headings.split() == ["run", "ended", "took", "started"]
    assert row.split() == [ran.run, "finished", "0", "s", "now"]


def test_why_as_json(ran: ledger.Entry, capsys: pytest.CaptureFixture[str]) -> None:
    found = parse(call(capsys, "why", "diabetes", "--json"))
    assert (found["run"], found["experiment"], found["part_of"]) == (ran.run, "diabetes", None)
    assert found["facts"]["params"] == {"seed": "42"}
    [stage] = found["stages"]
    assert (stage["stage"], stage["outcome"], stage["inputs"]) == ("eda", "finished", {"data/x": "b" * 64})
    assert found["plan"] == [
        {"stage": "eda", "outcome": "ran", "why": "forced"},
        {"stage": "features", "outcome": "not run", "why": "up to date"},
    ]


def test_why_is_one_screen_and_shows_digests_only_if_asked(
    ran: ledger.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    brief, whole = call(capsys, "why", "diabetes"), call(capsys, "why", "diabetes", "-v")
    assert len(brief.splitlines()) < 24
    assert "eda          ran: forced" in brief
    assert f"labkit why {ran.run} -v" in brief
    assert "b" * 12 not in brief
    assert "b" * 12 in whole
    assert "seed = 42" in whole


def find_line(root: Path, content: str) -> int:
    """Return the number of the line of diabetes.yaml that has this content."""
    lines = (root / "params" / "diabetes.yaml").read_text().splitlines()
    return 1 + [line.strip() for line in lines].index(content)


def test_params_as_json(params_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "diabetes" in parse(call(capsys, "params", "--json"))["experiments"]
    found = parse(call(capsys, "params", "diabetes", "--json"))
    entries = {entry["name"]: entry for entry in found["params"]}
    assert entries["training.folds"] == {
        "name": "training.folds",
        "value": 5,
        "origin": f"params/diabetes.yaml:{find_line(params_root, 'folds: 5')}",
        "meaning": "cross-validation folds over the training rows",
        "is_changed": False,
    }
    assert entries["training.metric"]["is_changed"], "it has no default"


def test_params_are_grouped_by_section_with_two_lines_each(
    params_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.rstrip() for line in call(capsys, "params", "diabetes").splitlines()]
    sections = [line for line in lines if not line.startswith(" ")]
    assert len(sections) == len(set(sections))
    place = lines.index(f"  training.folds = 5  (params/diabetes.yaml:{find_line(params_root, 'folds: 5')})")
    assert lines[place + 1] == "      cross-validation folds over the training rows"
    assert "  training.tuning_trials = 0" in lines


def test_changed_params_differ_from_the_default(params_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = params_root / "params" / "diabetes.yaml"
    path.write_text(path.read_text().replace("folds: 5", "tuning_trials: 7"))
    found = parse(call(capsys, "params", "diabetes", "--changed", "--json"))["params"]
    names = {entry["name"] for entry in found if entry["name"].startswith("training.")}
    assert names == {"training.models", "training.metric", "training.tuning_trials"}
    assert "training.folds" not in call(capsys, "params", "diabetes", "--changed")


@pytest.mark.slow
def test_status_is_one_line_for_each_experiment(checkout: Path) -> None:
    done = call_in_process(checkout, "status", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    headings, *lines = done.stdout.splitlines()
    assert headings.split() == ["experiment", "state", "latest", "result"]
    assert [line.split(maxsplit=1) for line in map(str.rstrip, lines)] == [
        [name, "never run"] for name in ("breast_cancer", "diabetes", "flights")
    ]
    found = json.loads(call_in_process(checkout, "status", "diabetes", "--json").stdout)
    assert found["under_way"] is None
    [diabetes] = found["experiments"]
    assert (diabetes["experiment"], diabetes["state"], diabetes["result"]) == ("diabetes", "never run", None)
    assert diabetes["stages"][0] == {"stage": "source", "state": "never run", "reasons": ["first run"], "headline": ""}
    for words in (("status", "diabetes"), ("status", "-v")):
        shown = call_in_process(checkout, *words, COLUMNS="80").stdout
        assert shown.count("training     never run") == (1 if words[1] == "diabetes" else 3)
        assert not DRAWN & set(shown), "no drawn lines in a pipe"
        assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.slow
def test_doctor_as_json(checkout: Path) -> None:
    done = call_in_process(checkout, "doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found["n_faults"] else 0)
    assert found["n_faults"] == sum(not check["is_passed"] for check in found["checks"])
    assert list(found["checks"][0]) == ["about", "found", "remedy", "is_passed"]


def test_error_leaves_nothing_on_standard_output(params_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("runs", "diabets"), ("status", "diabets"), ("why", "diabets"), ("params", "diabets")):
        assert main.call(main.cli, [*words, "--json"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "diabets" in printed.err


@pytest.fixture
def reports(params_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the pages of two stages and the index, on a machine without a display."""
    folder = params_root / "reports" / "diabetes"
    for stage, page in (("training", "04_training"), ("evaluation", "05_evaluation")):
        save_record(StageRecord(stage, page, stage, "finished", "", 1.0, "", None), folder)
        (folder / f"{page}.html").touch()
    (folder.parent / "index.html").touch()
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ((), "index.html"),
        (("diabetes",), "diabetes/05_evaluation.html"),
        (("diabetes", "--stage", "training"), "diabetes/04_training.html"),
    ],
)
def test_address_of_the_report_is_printed_without_a_display(
    reports: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], page: str
) -> None:
    assert call(capsys, "open", *words) == f"{(reports.parent / page).as_uri()}\n"


def test_report_is_opened_where_there_is_a_display(
    reports: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Browser(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            opened.append(url)
            return True

    webbrowser.register("test_show", None, Browser(), preferred=True)
    monkeypatch.setenv("DISPLAY", ":0")
    assert call(capsys, "open") == ""
    assert opened == [(reports.parent / "index.html").as_uri()]
    assert call(capsys, "open", "--print") == f"{opened[0]}\n"
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "reports/index.html: no report yet: run `labkit run EXPERIMENT`"),
        (("diabetes",), "reports/diabetes/index.html: no report yet: run `labkit run diabetes`"),
        (("diabetes", "--stage", "eda"), "no report yet: run `labkit run diabetes --until eda`"),
        (("diabetes", "--stage", "edaa"), "no stage 'edaa': did you mean 'eda'?"),
        (("--stage", "eda"), "--stage: name the experiment too"),
        (("diabets",), "no experiment 'diabets' in params/: did you mean 'diabetes'?"),
    ],
)
def test_report_that_is_not_there_is_explained(
    params_root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert main.call(main.cli, ["open", *words]) == 2
    assert message in capsys.readouterr().err


def test_misspelt_path_is_reported_before_anything_heavy_is_imported(checkout: Path, labkit: Labkit) -> None:
    (checkout / "patients.csv").write_text("a\n1\n")
    done = labkit("predict", "diabetes", "patient.csv", "out.csv", "--json", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "labkit: patient.csv: no such file: did you mean 'patients.csv'?" in done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "labkit.serving.batch_files" in imported
    assert not imported & {"mlflow", "pandas", "sklearn", "pyarrow"}
