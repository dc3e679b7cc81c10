"""What DVC records of params can be read again, whatever the names of columns are, and a change of them is seen."""

import typing
from pathlib import Path
from typing import Any

import pytest
from labkit.names import EXPERIMENT_NAME, METRIC_NAME, normalize_spaces
from labkit.params import load, override
from labkit.params.experiment import Params
from labkit.params.section import check_import_path, find_wordings
from labkit.params.yaml_text import load_plain, make_commented, make_yaml
from labkit.run.dvc_yaml import compute_key, compute_section_digests, load_declarations
from labkit.run.pipeline import dvc_repo
from labkit.stages import builtin
from pydantic import BaseModel

from tests.hostile_strings import make_names


def write_names(root: Path, names: list[str]) -> None:
    """Let every mapping of the diabetes params that is keyed by columns, and some lists, hold these names."""
    path = root / "params" / "diabetes.yaml"
    tree = load_plain(path)
    tree["data"]["tables"]["patients"] |= {"times": names, "formats": dict.fromkeys(names, "%d")}
    tree["wrangling"] |= {
        "drop": {name: f"because of {name}" for name in names},
        "rules": {name: {"map": {one: one for one in names[:20]}} for name in names[:50]},
    }
    tree["features"] = {"text": {name: {"most_words": 3} for name in names}, "drop": [name for name in names if name]}
    tree["deploy"] = {"intended_use": "\n".join(names)}
    with path.open("w", encoding="utf-8") as stream:
        make_yaml().dump(make_commented(tree), stream)


def record(*stages: str) -> None:
    """Have DVC record stages of diabetes as if they had run, on files that hold anything."""
    repo = dvc_repo.open_repo()
    found = [one for one in repo.index.stages if one.addressing in {f"{stage}@diabetes" for stage in stages}]
    for file in (file for one in found for file in (*one.outs, *one.deps)):
        path = Path(file.fs_path)
        path = path if path.suffix else path / "anything"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("anything")
    for one in found:
        repo.commit(one.addressing, force=True)
    repo.close()


@pytest.fixture
def inside(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout, and be in it: DVC finds no stages from elsewhere."""
    monkeypatch.chdir(checkout)
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_any_name_of_a_column_can_be_recorded_and_read_again(inside: Path, seed: int) -> None:
    names = make_names(seed)
    write_names(inside, names)
    params = load.load_params("diabetes")
    assert list(params.wrangling.drop) == list(map(normalize_spaces, names))
    builtin.perform_fingerprint(params, None)
    stages = dvc_repo.list_stages("diabetes")
    record(*stages)
    states = dvc_repo.find_stage_states(dvc_repo.open_repo(), "diabetes")
    assert {state.name: state.reasons for state in states} == dict.fromkeys(stages, ())


def list_free(model: type[BaseModel], place: str) -> list[str]:
    """Return the fields of a section that hold keys or strings of any kind."""
    found = []
    for name, info in model.model_fields.items():
        found += find_free(info.annotation, f"{place}.{name}")
    return found


def find_free(kind: Any, place: str) -> list[str]:
    """Return the place of a type, or places in it, that may hold any key or string."""
    if any(getattr(one, "func", None) is check_import_path for one in getattr(kind, "__metadata__", ())):
        return []  # identifiers, dots and one colon
    marks = [mark for one in getattr(kind, "__metadata__", ()) for mark in getattr(one, "metadata", ())]
    if {f"^{EXPERIMENT_NAME}$", f"^{METRIC_NAME}$"} & {getattr(mark, "pattern", None) for mark in marks}:
        return []  # small letters, digits and underscores
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list_free(kind, place)
    if typing.get_origin(kind) is typing.Literal:
        return []
    if kind in (str, Any) or typing.get_origin(kind) is dict:
        return [place]
    return [one for part in typing.get_args(kind) for one in find_free(part, place)]


@pytest.mark.parametrize(
    "stage", ["source", "eda", "wrangling", "features", "training", "evaluation", "deploy", "explanation"]
)
def test_what_dvc_copies_holds_numbers_and_fixed_words_only(checkout: Path, stage: str) -> None:
    """A name of a column as a key, or a string with a line separator, cannot be read again as it was."""
    declared = load_declarations("diabetes")[stage]
    copied = {name.partition(".")[0] for name in set(declared.sections) - set(declared.digested)}
    kinds = {name: Params.model_fields[name].annotation for name in copied}
    assert [place for name, kind in kinds.items() for place in find_free(kind, name)] == []
    assert set(declared.sections) >= {"data"}


WORDS = ("question", "row", "data.target.labels", "data.columns")


@pytest.mark.parametrize("stage", ["eda", "wrangling", "features", "evaluation", "deploy", "explanation"])
def test_stage_that_shows_words_runs_again_when_they_change(checkout: Path, stage: str) -> None:
    assert tuple(find_wordings(Params)) == WORDS
    assert set(WORDS) <= set(load_declarations("diabetes")[stage].digested)


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        (["question=How far?", "row=person"], {"eda", "wrangling", "features", "evaluation", "deploy", "explanation"}),
        (
            ["data.columns.age.unit=months"],
            {"eda", "wrangling", "features", "evaluation", "deploy", "explanation"},
        ),
        (["evaluation.worst_slices=3"], {"evaluation"}),
        (["features.most_categories=10"], {"features"}),
        (["features.drop=[bmi]"], {"wrangling", "features"}),
        (["wrangling.rules={age: {minimum: 0}}"], {"wrangling", "features", "evaluation", "deploy", "explanation"}),
        (["evaluation.checks={OWN01: 'own:check'}"], {"evaluation"}),
    ],
)
def test_change_of_params_leaves_the_stages_that_do_not_read_them(
    checkout: Path, settings: list[str], stages: set[str]
) -> None:
    before, declared = load.load_params("diabetes"), load_declarations("diabetes")
    override.apply_overrides("diabetes", settings)
    after = load.load_params("diabetes")
    digests = compute_section_digests(before), compute_section_digests(after)
    assert {stage for stage in declared if digests[0][stage] != digests[1][stage]} == stages
    keys = [
        {stage: compute_key("", one, declared[stage].sections, {}) for stage in declared} for one in (before, after)
    ]
    assert {stage for stage in declared if keys[0][stage] != keys[1][stage]} == stages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "stage", "reason"),
    [
        ("wrangling.drop={bmi: unused}", "features", "params wrangling.drop changed"),
        ("data.split.holdout=0.3", "training", "params data.split changed"),
        ("deploy.intended_use=none", "deploy", "params deploy.intended_use changed"),
        ("training.folds=4", "training", "params training.folds changed"),
        ("evaluation.gate.minimum_gain=9", "evaluation", "params evaluation.gate changed"),
        ("row=person", "eda", "params row changed"),
    ],
)
def test_change_of_a_section_is_named(inside: Path, setting: str, stage: str, reason: str) -> None:
    builtin.perform_fingerprint(load.load_params("diabetes"), None)
    record(stage)
    override.apply_overrides("diabetes", [setting])
    builtin.perform_fingerprint(load.load_params("diabetes"), None)
    states = {state.name: state.reasons for state in dvc_repo.find_stage_states(dvc_repo.open_repo(), "diabetes")}
    assert states[stage] == (reason,)


@pytest.mark.slow
def test_section_that_a_stage_no_longer_declares_is_not_named_as_changed(inside: Path) -> None:
    path, params = inside / "dvc.yaml", load.load_params("diabetes")
    now = path.read_text()
    path.write_text(
        now.replace("meta: {sections: [data, wrangling.drop]}", "meta: {sections: [data, wrangling.drop, features]}")
    )
    assert path.read_text() != now
    builtin.perform_fingerprint(params, None)
    record("source", "eda")
    path.write_text(now)
    builtin.perform_fingerprint(params, None)
    states = {state.name: state.reasons for state in dvc_repo.find_stage_states(dvc_repo.open_repo(), "diabetes")}
    assert (states["source"], states["eda"]) == (("the list of what it reads changed",), ())
