"""Stages of the user's own: declared by a notebook, written to dvc.yaml, checked before anything starts."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import labkit
import pytest
from labkit.errors import DataError, ParamsError
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.dvc_yaml import compute_section_digests, load_declarations
from labkit.run.notebook.stage_table import load_stage_section, read_stage
from labkit.run.pipeline import dvc_repo
from labkit.run.records import ledger
from labkit.run.records.current_experiment import choose_experiment
from labkit.stages.own_stages import check_own_stages

from tests.conftest import ROOT, call_in_process, make_environment
from tests.own_stage import COMMANDS, call_for_message, copy_notebooks, write_stage, write_table
from tests.run.small import load_ledger

OWN = "notebooks/diabetes/07_segments.ipynb"


@pytest.fixture
def root(params_root: Path) -> Path:
    """Return a checkout of params, dvc.yaml and labkit's notebooks."""
    return copy_notebooks(params_root)


@pytest.fixture
def own(root: Path) -> Path:
    """Return a checkout in which diabetes has the stage `segments`."""
    write_stage(root / OWN)
    assert call_for_message("stages", "--update")[0] == 0
    return root


def test_notebook_becomes_a_stage_of_its_experiment_and_nothing_else_changes(root: Path) -> None:
    before = (root / "dvc.yaml").read_text()
    write_stage(root / OWN)
    code, printed = call_for_message("stages")
    assert (code, printed.splitlines()[-1]) == (
        1,
        f"dvc.yaml: {OWN}: dvc.yaml does not have the stage segments as declared there",
    )
    assert (root / "dvc.yaml").read_text() == before
    assert call_for_message("stages", "--update")[1].endswith("dvc.yaml: updated\n")
    after = (root / "dvc.yaml").read_text()
    start, end = after.index("  segments:\n"), after.index("  explanation:\n")
    assert after[:start] + after[end:] == before
    assert dvc_repo.list_stages("diabetes")[-3:] == ["segments", "explanation", "publish"]
    assert "segments" not in dvc_repo.list_stages("flights")
    assert "segments" not in load_declarations("flights")
    declared = load_declarations("diabetes")["segments"]
    assert declared.inputs[2:] == ("data/diabetes/clean/training.parquet", "data/diabetes/contract.json")
    assert declared.outputs == ("segments/segments.parquet", "segments/sizes.json")
    assert declared.digested == ("data.target.column", "stages.segments")
    assert call_for_message("stages", "--update")[1].endswith("dvc.yaml: up to date\n")
    assert (root / "dvc.yaml").read_text() == after
    (root / OWN).unlink()
    assert call_for_message("stages")[1].endswith("dvc.yaml: the stage segments has no notebook any more\n")
    call_for_message("stages", "--update")
    assert (root / "dvc.yaml").read_text() == before


def test_name_that_makes_no_stage_is_named(root: Path) -> None:
    for name in (
        "diabetes/08_My segments.ipynb",
        "09-more.ipynb",
        "diabetes/04_training.conflict.ipynb",
        "rough.ipynb",
    ):
        write_stage(root / "notebooks" / name)
    code, printed = call_for_message("stages")
    assert (code, [line.partition(": no stage: ")[0] for line in printed.splitlines() if "no stage: " in line]) == (
        0,
        ["notebooks/09-more.ipynb", "notebooks/diabetes/08_My segments.ipynb"],
    )


def test_shared_notebook_is_a_stage_of_every_experiment_and_reads_from_another(own: Path) -> None:
    write_table(own / "notebooks" / "10_late.ipynb", reads="`row_features`", writes="`late.json`")
    write_table(own / "notebooks" / "diabetes" / "08_more.ipynb", reads="`sizes`", writes="`more.json`")
    assert call_for_message("stages", "--update")[0] == 0
    assert dvc_repo.list_stages("diabetes")[-5:] == ["segments", "more", "explanation", "late", "publish"]
    assert dvc_repo.list_stages("flights")[-2:] == ["late", "publish"]
    assert "data/diabetes/segments/sizes.json" in load_declarations("diabetes")["more"].inputs
    assert "data/flights/features/row_features.npz" in load_declarations("flights")["late"].inputs
    document = json.loads(call_for_message("stages", "--json")[1])
    assert [one["experiments"] for one in document["stages"]] == [
        ["diabetes"],
        ["diabetes"],
        ["flights", "diabetes", "breast_cancer"],
    ]
    assert document["is_up_to_date"]


def test_parameters_are_typed_and_come_from_the_params_file(own: Path) -> None:
    step = labkit.start("segments", "diabetes", {"n_segments": 3, "scaled": True})
    assert (step.params.n_segments, step.params.scaled, step.overrides) == (3, True, {})
    assert ("n_segments", 3, "default", "number of segments") in step.describe()
    digest = compute_section_digests(load_params("diabetes"))["segments"]
    apply_overrides("diabetes", ["stages.segments.n_segments=5"])
    assert compute_section_digests(load_params("diabetes"))["segments"] != digest
    step = labkit.start("segments", "diabetes", {"n_segments": 3, "scaled": True})
    assert (step.params.n_segments, step.overrides) == (5, {})
    [(_, _, origin, _)] = [one for one in step.describe() if one[0] == "n_segments"]
    assert origin.startswith("params/diabetes.yaml:")
    step = labkit.start("segments", "diabetes", {"n_segments": 4, "scaled": True})
    assert (step.params.n_segments, step.overrides) == (4, {"n_segments": 4})
    apply_overrides("diabetes", ["stages.segments.n_segments=3"])
    step = labkit.start("segments", "diabetes", {"n_segments": 3, "scaled": True})
    assert step.params.n_segments == 3, "-S sets the file, also to the default"
    with pytest.raises(ParamsError, match=r"^parameter n_segments is '4': write a whole number"):
        labkit.start("segments", "diabetes", {"n_segments": "4"})


def test_table_may_have_a_row_for_each_name(root: Path) -> None:
    path = write_table(
        root / OWN,
        reads="`clean_training`",
        writes="`a.json`",
        parameters="`seed` |\n| `contract` | `b.json` | |\n|||`data`",
    )
    stage = read_stage(path)
    assert stage.reads == ("clean_training", "contract")
    assert stage.writes == {"a": "segments/a.json", "b": "segments/b.json"}
    assert stage.sections == ("seed", "data")


def test_step_has_the_artifacts_that_the_table_declares(own: Path) -> None:
    write_table(own / "notebooks" / "diabetes" / "08_more.ipynb", reads="`sizes`", writes="`more.json`")
    labkit.start("segments", "diabetes").save("sizes", {"0": 3})
    assert (own / "data/diabetes/scratch/segments/sizes.json").is_file()
    step = labkit.start("more", "diabetes")
    assert step.load("sizes") == {"0": 3}
    message = r"^notebooks/diabetes/08_more.ipynb, cell cell-0, line 7: declares no artifact 'clean_holdout': known: "
    with pytest.raises(DataError, match=message):
        step.load("clean_holdout")


def test_help_of_papermill_shows_the_parameters(own: Path) -> None:
    import papermill

    found = papermill.inspect_notebook(str(own / OWN))
    assert found["n_segments"] == {
        "name": "n_segments", "inferred_type_name": "int", "default": "3", "help": "number of segments",
    }  # fmt: skip


def add(name: str, **table: str) -> Callable[[Path], None]:
    """Return a change that adds a notebook to those of diabetes."""

    def change(root: Path) -> None:
        write_table(root / "notebooks" / "diabetes" / name, **({"writes": "`more.json`"} | table))

    return change


def add_circle(root: Path) -> None:
    add("08_left.ipynb", reads="`right`", writes="`left.json`")(root)
    add("10_right.ipynb", reads="`left`", writes="`right.json`")(root)


def lose_parameters(root: Path) -> None:
    path = root / OWN
    path.write_text(path.read_text().replace('"parameters"\n', '"other"\n'))


def lose_table(root: Path) -> None:
    write_stage(root / OWN, **{"| reads |": "| in |"})


def lose_separator(root: Path) -> None:
    write_stage(root / OWN, **{"|---|---|---|\n": ""})


PLACE = "notebooks/diabetes/08_more.ipynb, cell cell-0, line 7: "
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "one number": (
        add("06_more.ipynb"),
        "notebooks/: 06_deploy.ipynb and diabetes/06_more.ipynb have the same number, which sets the order",
    ),
    "read of nothing": (
        add("08_more.ipynb", reads="`segmnts`"),
        f"{PLACE}reads `segmnts`, which no stage writes: did you mean 'segments'?",
    ),
    "no backticks": (
        add("08_more.ipynb", reads="`contract`, clean_training"),
        f"{PLACE}clean_training is not in backticks: write `clean_training`, or leave it out",
    ),
    "later stage": (
        add("08_more.ipynb", reads="`late`"),
        f"{PLACE}reads `late`, which 10_late.ipynb writes later: give this notebook a higher number",
    ),
    "circle": (
        add_circle,
        "notebooks/diabetes/08_left.ipynb, cell cell-0, line 7: each reads what the next writes, in a circle: "
        "08_left → 10_right → 08_left: break it",
    ),
    "no table": (lose_table, f"{OWN}: no table `| reads | writes | parameters |` that declares its stage: "),
    "no separator": (
        lose_separator,
        f"{OWN}, cell cell-0, line 6: write `|---|---|---|` below the table's header",
    ),
    "no parameters cell": (lose_parameters, f"{OWN}: 0 cells are tagged `parameters`: tag exactly one"),
    "no file": (add("08_more.ipynb", writes="`more.csv`"), f"{PLACE}writes `more.csv`: name a file such as `more."),
    "two writers": (
        add("08_more.ipynb", writes="`sizes.json`"),
        f"{PLACE}writes `sizes`, as does {OWN}: choose another name",
    ),
    "artifact of labkit": (
        add("08_more.ipynb", writes="`model.json`"),
        f"{PLACE}writes `model`, as does labkit's own stages: choose another name",
    ),
    "folder of labkit": (
        add("08_clean.ipynb"),
        "notebooks/diabetes/08_clean.ipynb: data/<experiment>/clean belongs to labkit's own stages: rename the notebook",
    ),
    "unknown section": (
        add("08_more.ipynb", parameters="`trainig`"),
        f"{PLACE}unknown parameter `trainig`: did you mean 'training",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_one_message_before_anything_starts(own: Path, case: str) -> None:
    damage, message = BAD[case]
    if case == "later stage":
        add("10_late.ipynb", writes="`late.json`")(own)
    damage(own)
    before = (own / "dvc.yaml").read_text()
    for arguments in (["run", "diabetes"], ["stages"], ["stages", "--update"], ["stage", "segments", "diabetes"]):
        code, printed = call_for_message(*arguments)
        assert (code, printed.startswith(message)) == (2, True), printed
        assert "\n" not in printed
    assert (own / "dvc.yaml").read_text() == before
    assert load_ledger(own) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages.segmnts.depth=1", "params/diabetes.yaml: stages.segmnts: no notebook NN_segmnts.ipynb: did you mean"),
        ("stages.segments.n_segment=1", ": stages.segments.n_segment: the stage segments has no parameter 'n_segment'"),
        ("stages.segments.n_segments=two", ": stages.segments.n_segments is 'two': write a whole number"),
    ],
)
def test_params_of_stages_are_checked_before_anything_starts(own: Path, setting: str, message: str) -> None:
    code, printed = call_for_message("run", "diabetes", "-S", setting)
    assert (code, message in printed) == (2, True), printed
    assert "stages" not in (own / "params" / "diabetes.yaml").read_text()
    path = own / "params" / "diabetes.yaml"
    _, stage, rest = setting.partition("=")[0].split(".")
    path.write_text(f"{path.read_text()}stages:\n  {stage}:\n    {rest}: {setting.partition('=')[2]}\n")
    code, printed = call_for_message("run", "diabetes")
    assert (code, printed.startswith("params/diabetes.yaml:")) == (2, True), printed
    assert load_ledger(own) == []


def test_unknown_stage_is_named_with_its_own_line(own: Path) -> None:
    path = own / "params" / "diabetes.yaml"
    content = path.read_text() + "stages:\n  segments:\n    n_segments: 2\n  segmnts:\n    n_segments: 2\n"
    path.write_text(content)
    line = content.splitlines().index("  segmnts:") + 1
    with pytest.raises(ParamsError, match=f"^params/diabetes.yaml:{line}: stages.segmnts: no notebook NN_segmnts"):
        check_own_stages(load_params("diabetes"))


def test_stage_that_dvc_yaml_does_not_have_as_declared_is_refused(own: Path) -> None:
    check_own_stages(load_params("diabetes"))
    write_stage(own / OWN, **{"`clean_training`": "`clean_holdout`"})
    code, printed = call_for_message("run", "flights")
    assert (code, printed) == (
        2,
        f"{OWN}: dvc.yaml does not have the stage segments as declared there: labkit stages --update",
    )


def test_pipeline_of_this_checkout_is_up_to_date() -> None:
    for path in sorted((ROOT / "params").glob("*.yaml")):
        check_own_stages(load_params(path.stem))


def test_experiment_comes_from_the_environment_else_the_last_run_else_the_first(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LABKIT_EXPERIMENT", raising=False)
    assert choose_experiment() == ("breast_cancer", "the first in params/")
    with ledger.open_entry("flights", facts={}):
        pass
    assert choose_experiment() == ("flights", "the last one run")
    monkeypatch.setenv("LABKIT_EXPERIMENT", "diabetes")
    step = labkit.start("eda", "", {})
    assert step.whole.experiment == "diabetes"
    assert capsys.readouterr().out.startswith("Experiment: diabetes (LABKIT_EXPERIMENT). ")
    assert "eda of diabetes" in step._repr_html_()
    monkeypatch.setenv("LABKIT_EXPERIMENT", "diabets")
    with pytest.raises(ParamsError, match="^LABKIT_EXPERIMENT: no experiment 'diabets': did you mean 'diabetes'"):
        labkit.start("eda", "")
    assert load_stage_section(load_params("diabetes"), "eda") == load_params("diabetes").eda


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_documented_stage_runs_like_any_other(finished: tuple[Path, str]) -> None:
    root, _ = finished
    kept = {name: (root / name).read_bytes() for name in ("dvc.yaml", "dvc.lock", "params/diabetes.yaml")}
    write_stage(root / OWN)
    try:
        for command in COMMANDS[COMMANDS.index("labkit stages --update") :]:
            done = subprocess.run(
                shlex.split(command), cwd=root, env=make_environment(root), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        sizes = json.loads((root / "data/diabetes/segments/sizes.json").read_text())
        assert len(sizes) == 4
        page = (root / "reports/diabetes/07_segments.html").read_text()
        assert "stages.segments" in page or "n_segments" in page
        assert "diabetes/07_segments.html" in (root / "reports/index.html").read_text()
        [status] = json.loads(call_in_process(root, "status", "diabetes", "--json").stdout)["experiments"]
        assert {one["stage"]: one["state"] for one in status["stages"]}["segments"] == "up to date"
        n_lines = len(load_ledger(root))
        assert call_in_process(root, "run", "diabetes", "--until", "segments").returncode == 0
        assert "segments" not in [line.get("stage") for line in load_ledger(root)[n_lines:] if line["kind"] == "start"]
        failing = (root / OWN).read_text().replace("step.params.scaled", "step.params.scale")
        (root / OWN).write_text(failing)
        failed = call_in_process(root, "run", "diabetes", "--until", "segments")
        assert (failed.returncode, "stage segments failed: AttributeError" in failed.stderr) == (1, True), failed.stderr
        assert "n_segments=4" in failed.stderr
    finally:
        shutil.rmtree(root / "notebooks" / "diabetes")
        for folder in ("data/diabetes/segments", "data/diabetes/scratch/segments"):
            shutil.rmtree(root / folder, ignore_errors=True)
        (root / "out.ipynb").unlink(missing_ok=True)
        for path in (root / "reports/diabetes").glob("07_segments.*"):
            path.unlink()
        for name, content in kept.items():
            (root / name).write_bytes(content)
