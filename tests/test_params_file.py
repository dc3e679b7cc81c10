"""Params files: read strictly, overridden with their comments kept, described in full."""

import json
import time
from pathlib import Path

import pytest
from labkit import params_file
from labkit.errors import ParamsError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
)


def edit(root: Path, old: str, new: str) -> Path:
    """Replace a text in the diabetes params, which must be there."""
    path = root / "params" / "diabetes.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("experiment", ["diabetes", "breast_cancer"])
def test_shipped_params_are_valid(checkout: Path, experiment: str) -> None:
    assert params_file.load_params(experiment).experiment == experiment


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("training:", "trainig:", "params/diabetes.yaml:25: unknown key trainig: did you mean 'training'?"),
        ("  folds: 5", "  fold: 5", ":28: unknown key training.fold: did you mean 'folds'?"),
        ("folds: 5", "folds: five", "training.folds is 'five': input should be a valid integer"),
        ("folds: 5", "folds: 5.5", "training.folds is 5.5: input should be a valid integer"),
        ("folds: 5", "folds: true", "training.folds is True: input should be a valid integer"),
        ("folds: 5", "folds: 1", "training.folds is 1: input should be greater than or equal to 2"),
        ("folds: 5", "folds: .nan", "plain finite values"),
        ("metric: mae", "metric: may", "training.metric is 'may': did you mean 'mae'?"),
        ("metric: mae", "metric: roc_auc", "training.metric 'roc_auc' is not for regression"),
        ("task: regression", "task: regresion", "data.target.task is 'regresion': did you mean 'regression'?"),
        ("{minimum: 10, maximum: 80}", "{minimun: 10}", "unknown key wrangling.rules.bmi.minimun: did you mean 'min"),
        (
            "dataset: diabetes",
            "datasett: diabetes",
            "unknown key data.tables.patients.datasett: did you mean 'dataset'",
        ),
        ("holdout: 0.25", "holdout: 0.85", "leave less than 20 % of the rows"),
        ("seed: 42", "seed: 42\nseed: 43", "found duplicate key"),
        ("seed: 42", "seed: 1_000", "1_000 is read differently by YAML 1.1 and 1.2"),
        ("seed: 42", "seed: 042", "042 is read differently by YAML 1.1 and 1.2"),
        ("onnx: true", "onnx: yes", "yes is read differently by YAML 1.1 and 1.2"),
        ("onnx: true", "onnx: true\n  tolerance: 1e-5", "1e-5 is read differently by YAML 1.1 and 1.2"),
        ("folds: 5", "folds: &n 5", "anchors and aliases (& and *) are not allowed"),
        ("seed: 42", "seed: !!python/name:os.system", "the tag"),
        ("seed: 42", "seed:\t[42", "mend the YAML"),
        ("experiment: diabetes", "experiment: other", "the file's name says 'diabetes'"),
        ("eda:\n  most_columns: 12\n", "", "eda is missing: add it"),
    ],
)
def test_fault_is_named(checkout: Path, old: str, new: str, message: str) -> None:
    edit(checkout, old, new)
    with pytest.raises(ParamsError) as caught:
        params_file.load_params("diabetes")
    assert message in str(caught.value)
    assert str(caught.value).startswith("params/diabetes.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing where `section: values` are expected"),
        (b"- 1\n- 2\n", "a list where"),
        (b"just words\n", "a single value where"),
        (b"a: 1\n---\nb: 2\n", "expected a single document"),
        (b"a: \xe9\n", "not UTF-8 at byte 3"),
        (b"# " + b"x" * 1_000_001, "a params file has at most 1,000,000"),
        (BOMB.encode(), "anchors and aliases"),
    ],
)
def test_hostile_file_is_refused_quickly(checkout: Path, content: bytes, message: str) -> None:
    (checkout / "params" / "diabetes.yaml").write_bytes(content)
    started = time.monotonic()
    with pytest.raises(ParamsError, match=r"params/diabetes\.yaml") as caught:
        params_file.load_params("diabetes")
    assert message in str(caught.value)
    assert time.monotonic() - started < 1


def test_unknown_experiment_names_the_nearest(checkout: Path) -> None:
    with pytest.raises(ParamsError, match="no experiment 'diabets' in params/: did you mean 'diabetes'"):
        params_file.load_params("diabets")


def test_five_faults_are_listed_and_the_rest_counted(checkout: Path) -> None:
    edit(checkout, "  folds: 5", "  a: 1\n  b: 1\n  c: 1\n  d: 1\n  e: 1\n  f: 1\n  g: 1")
    with pytest.raises(ParamsError) as caught:
        params_file.load_params("diabetes")
    assert str(caught.value).count("unknown key") == 5
    assert "… and 2 more" in str(caught.value)


def test_override_keeps_comments_and_prints_the_diff(checkout: Path) -> None:
    path = checkout / "params" / "diabetes.yaml"
    before = path.read_text().splitlines()
    diff = params_file.apply_overrides("diabetes", ["training.folds=7", "training.models=lightgbm,linear"])
    after = path.read_text().splitlines()
    assert "-  folds: 5" in diff
    assert "+  folds: 7" in diff
    assert "+  models: [lightgbm, linear]" in diff
    assert "kg/m²" in path.read_text()
    changed = [line for line in after if line not in before]
    assert changed == ["  models: [lightgbm, linear]", "  folds: 7"]
    assert params_file.load_params("diabetes").training.models == ("lightgbm", "linear")


def test_override_reaches_a_default(checkout: Path) -> None:
    params_file.apply_overrides("diabetes", ["evaluation.gate.minimum_gain=2.5", "eda.correlation_alert=0.9"])
    params = params_file.load_params("diabetes")
    assert params.evaluation.gate.minimum_gain == 2.5
    assert params.eda.correlation_alert == 0.9


def test_override_that_changes_nothing_writes_nothing(checkout: Path) -> None:
    path = checkout / "params" / "diabetes.yaml"
    before = path.stat().st_mtime_ns
    assert params_file.apply_overrides("diabetes", ["training.folds=5"]) == ""
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.folds", "no '='"),
        ("training.fold=5", "unknown key training.fold: did you mean 'folds'?"),
        ("trainings.folds=5", "no section 'trainings': did you mean 'training'?"),
        ("training.folds=many", "training.folds is 'many'"),
        ("training.folds=yes", "read differently"),
        ("training.folds=[1", "mend the YAML"),
        ("seed.x=1", "seed holds one value"),
        ("training.folds=100", "less than or equal to 20"),
    ],
)
def test_bad_override_writes_nothing(checkout: Path, setting: str, message: str) -> None:
    path = checkout / "params" / "diabetes.yaml"
    before = path.read_bytes()
    with pytest.raises(ParamsError) as caught:
        params_file.apply_overrides("diabetes", ["seed=7", setting])
    assert message in str(caught.value)
    assert path.read_bytes() == before


def test_every_value_has_origin_and_meaning(checkout: Path) -> None:
    entries = {entry.name: entry for entry in params_file.describe_params("diabetes")}
    assert entries["training.folds"].origin == "params/diabetes.yaml:28"
    assert entries["evaluation.confidence"].origin == "default"
    assert [name for name, entry in entries.items() if not entry.meaning] == []


def test_schema_for_editors_is_current() -> None:
    path = Path(__file__).parents[1] / "params" / "schema.json"
    assert path.read_text() == params_file.make_schema(), "run `labkit params --schema`"
    assert json.loads(path.read_text())["additionalProperties"] is False


def test_papermill_and_labkit_read_the_same_values(checkout: Path) -> None:
    import yaml

    for experiment in params_file.list_experiments():
        path = checkout / "params" / f"{experiment}.yaml"
        assert yaml.safe_load(path.read_text()) == params_file.make_plain(params_file.load_yaml(path))
