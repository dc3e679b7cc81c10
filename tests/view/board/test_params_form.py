"""The form for parameters: fields from the schema, and settings as on the command line."""

from pathlib import Path

import pytest
from labkit.errors import LabkitError, ParamsError
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.pipeline import run_lock
from labkit.view.board.params_form import CHOICE, FIXED, FormField, find_schema, list_fields, write_field


def find_field(experiment: str, name: str) -> FormField:
    return {field.name: field for fields in list_fields(experiment).values() for field in fields}[name]


def test_fields_have_type_range_and_meaning_of_the_schema(params_root: Path) -> None:
    folds = find_field("diabetes", "training.folds")
    assert (folds.kind, folds.value, folds.hint) == ("number", "5", "whole number, at least 2, at most 20")
    assert folds.meaning == "cross-validation folds over the training rows"
    assert folds.origin.startswith("params/diabetes.yaml:")
    assert find_field("diabetes", "training.most_rows").hint == "whole number, at least 100, empty: not set"
    metric = find_field("diabetes", "training.metric")
    assert (metric.kind, metric.value, "mae" in metric.choices) == (CHOICE, "mae", True)
    apply_overrides("diabetes", ["evaluation.metrics=['churn.metrics:profit']"])
    assert find_field("diabetes", "training.metric").choices == (*metric.choices, "profit")
    assert find_field("diabetes", "training.calibrate").kind == "switch"
    assert find_field("diabetes", "evaluation.gate.minimum_gain").value == "5.0"
    assert find_field("diabetes", "data.tables").kind == FIXED


def test_every_parameter_has_a_schema(params_root: Path) -> None:
    names = [field.name for fields in list_fields("flights").values() for field in fields]
    assert len(names) > 50
    assert all(find_schema(name)[0] for name in names)


@pytest.mark.parametrize(
    ("name", "entered", "value"),
    [
        ("training.folds", "7", 7),
        ("training.most_rows", "200", 200),
        ("training.most_rows", "", None),
        ("training.models", "linear, dummy", ("linear", "dummy")),
        ("training.models", "linear", ("linear",)),
        ("training.calibrate", "true", True),
        ("deploy.owner", "Ada, Grace: 'both'", "Ada, Grace: 'both'"),
        ("deploy.owner", "", ""),
        ("evaluation.gate.minimum_gain", "0.5", 0.5),
    ],
)
def test_what_is_entered_is_written_and_comments_stay(
    params_root: Path, name: str, entered: str, value: object
) -> None:
    write_field("diabetes", find_field("diabetes", name), entered)
    found: object = load_params("diabetes")
    for key in name.split("."):
        found = getattr(found, key)
    assert found == value
    assert "# values outside are typing errors" in (params_root / "params" / "diabetes.yaml").read_text()


def test_invalid_value_has_the_message_of_the_command_line(params_root: Path) -> None:
    before = (params_root / "params" / "diabetes.yaml").read_text()
    with pytest.raises(ParamsError, match="training.folds is 1000: write 20 or less"):
        write_field("diabetes", find_field("diabetes", "training.folds"), "1000")
    with pytest.raises(ParamsError, match="training.models.1 is 'xgbost'"):
        write_field("diabetes", find_field("diabetes", "training.models"), "linear, xgbost")
    assert (params_root / "params" / "diabetes.yaml").read_text() == before


def test_nothing_is_written_during_a_run(params_root: Path) -> None:
    field = find_field("diabetes", "training.folds")
    with (
        run_lock.hold_experiment("diabetes", report=lambda _: None),
        pytest.raises(LabkitError, match=r"^the run of diabetes \(process \d+, since .*\) is under way: wait for it"),
    ):
        write_field("diabetes", field, "7")
    assert load_params("diabetes").training.folds == 5
