"""Params files: read strictly, overridden with their comments kept, described in full."""

import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import labkit as package
import pytest
import yaml
from labkit.errors import ParamsError
from labkit.params import describe, load, override, yaml_text
from labkit.params.yaml_lines import quote
from labkit.run.pipeline import dvc_repo

from tests.hostile_strings import HOSTILE as STRINGS

HOSTILE = [string for string in STRINGS if "${" not in string and len(string) < 1000]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
)


def edit(root: Path, old: str, new: str) -> Path:
    """Replace a string in the diabetes params, which must be there."""
    path = root / "params" / "diabetes.yaml"
    string = path.read_text()
    assert old in string
    path.write_text(string.replace(old, new, 1))
    return path


@pytest.mark.parametrize("experiment", ["diabetes", "breast_cancer"])
def test_shipped_params_are_valid(params_root: Path, experiment: str) -> None:
    assert load.load_params(experiment).experiment == experiment


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("training:", "trainig:", "params/diabetes.yaml:38: unknown key trainig: did you mean 'training'?"),
        ("  folds: 5", "  fold: 5", ":41: unknown key training.fold: did you mean 'folds'?"),
        ("folds: 5", "folds: five", "training.folds is 'five': write a whole number"),
        ("folds: 5", "folds: 5.5", "training.folds is 5.5: write a whole number"),
        ("folds: 5", "folds: true", "training.folds is True: write a whole number"),
        ("folds: 5", "folds: 1", "training.folds is 1: write 2 or more"),
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
        ("seed: 42", "seed:\t[42", "fix the YAML"),
        ("experiment: diabetes", "experiment: other", "the file's name is 'diabetes'"),
        ("eda:\n  most_columns: 12\n", "", "eda is missing: add it"),
        ("seed: 42", "seed: 42\n# again\nseed: 43", ':8: while constructing a mapping, found duplicate key "seed"'),
        ("folds: 5", "folds: 5\n  folds: 6", ':42: while constructing a mapping, found duplicate key "folds"'),
        ("seed: 42", "seed: 1:30", "1:30 is read differently by YAML 1.1 and 1.2"),
        ("seed: 42", "seed: 1.0e+400", ":6: seed is inf: use plain finite values"),
        ("seed: 42", "seed: -.inf", ":6: seed is -inf: use plain finite values"),
        ("seed: 42", "seed: .NaN", ":6: seed is nan: use plain finite values"),
        ("seed: 42", f"seed: {'9' * 5000}", "integer"),
        ("onnx: true", 'onnx: true\n  owner: "\\ud800"', "deploy.owner is not valid Unicode: a lone surrogate"),
        ("onnx: true", f"onnx: true\n  owner: {'x' * 65_537}", "deploy.owner is a string of 65,537 bytes, over 65,536"),
        ("folds: 5", f"folds: {'[' * 15}{']' * 15}", "is nested more than 10 deep: flatten it"),
        (
            "onnx: true",
            "onnx: true\n  owner: ${USER}",
            ":52: deploy holds ${USER}: placeholders are not filled in: write the",
        ),
        (
            "onnx: true",
            "onnx: true\n  owner: me ${USER:-you}",
            "deploy holds ${USER:-you}: placeholders are not filled in",
        ),
        (
            "metric: mae",
            "metric: mae\n  api_key: hidden",
            ":41: training.api_key looks like a secret: name it under `sec",
        ),
        ("seed: 42", "seed: 42\npassword: hidden", ":7: password looks like a secret: name it under `secrets`, e.g."),
        ("onnx: true", "onnx: true\n  owner: mysql://me:hidden@db/x", ":54: deploy.owner looks like a secret: name it"),
        ("onnx: true", "onnx: true\n  owner: AKIAIOSFODNN7EXAMPLE", "deploy.owner looks like a secret"),
        (
            "seed: 42",
            "seed: 42\nsecrets: {warehouse: hidden}",
            ":7: secrets.warehouse: a name in lowercase and the",
        ),
        ("seed: 42", "seed: 42\nsecrets: {Ware: X}", "secrets.Ware: a name in lowercase and the environment"),
        ("seed: 42", "seed: 42\nsecrets: {a: AKIAIOSFODNN7EXAMPLE}", "secrets.a looks like a secret"),
        ("seed: 42", "seed: 42\nsecrets: [A]", "secrets: a name in lowercase and the environment variable"),
        ("seed: 42", "seed: 42\nexperiment: ghp_" + "a1" * 18, "found duplicate key"),
    ],
)
def test_fault_is_named(params_root: Path, old: str, new: str, message: str) -> None:
    edit(params_root, old, new)
    with pytest.raises(ParamsError) as caught:
        load.load_params("diabetes")
    assert message in str(caught.value)
    assert str(caught.value).startswith("params/diabetes.yaml")
    assert "\n" not in str(caught.value)
    assert not any(word in str(caught.value) for word in ("hidden", "AKIA", "ghp_"))


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
        (b"a: " + b"[" * 9_000 + b"]" * 9_000, ":1: nested more than 20 deep: flatten it"),
        (b"a: " + b"{a: " * 9_000, ":1: nested more than 20 deep: flatten it"),
        (b"\xef\xbb\xbfexperiment: diabetes\n", "begins with a byte order mark: save it as UTF-8 without one"),
        ("experiment: diabetes\n".encode("utf-16"), "not UTF-8 at byte 0: save it as UTF-8"),
        (b"a:\n\tb: 1\n", ":2: while scanning"),
        (b"a: 1\n\x00", "fix the YAML"),
        (b"? [a, b]\n: 1\n", "experiment is missing: add it"),
        ("experiment: a\n# \u2028".encode(), ":2: the line separator U+2028 would become a space: write"),
        (b"a: !!python/object/apply:os.system [touch pwned]\n", "the tag"),
        (b"a: !!binary aGVsbG8=\n", "the tag"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_hostile_file_is_refused(params_root: Path, content: bytes, message: str) -> None:
    (params_root / "params" / "diabetes.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=r"params/diabetes\.yaml") as caught:
        load.load_params("diabetes")
    assert message in str(caught.value)


def test_unknown_experiment_names_the_nearest(params_root: Path) -> None:
    with pytest.raises(ParamsError, match="no experiment 'diabets' in params/: did you mean 'diabetes'"):
        load.load_params("diabets")


def test_five_faults_are_listed_and_the_rest_counted(params_root: Path) -> None:
    edit(params_root, "  folds: 5", "  a: 1\n  b: 1\n  c: 1\n  d: 1\n  e: 1\n  f: 1\n  g: 1")
    with pytest.raises(ParamsError) as caught:
        load.load_params("diabetes")
    assert str(caught.value).count("unknown key") == 5
    assert "… and 2 more" in str(caught.value)


def test_message_that_begins_with_a_key_gets_its_line(params_root: Path) -> None:
    lines = (params_root / "params" / "diabetes.yaml").read_text().splitlines()
    for key, words in {
        "training.folds": "  folds:",
        "training.models.0": "  models:",
        "features.functions.bmi.kg": "features:",
    }.items():
        line = next(number for number, one in enumerate(lines, 1) if one.startswith(words))
        assert load.locate_message("diabetes", f"{key}: no: never") == f"params/diabetes.yaml:{line}: {key}: no: never"
    assert load.locate_message("diabetes", "checks.mute: no") == "params/diabetes.yaml: checks.mute: no"


def test_override_keeps_comments_and_prints_the_diff(params_root: Path) -> None:
    path = params_root / "params" / "diabetes.yaml"
    before = path.read_text().splitlines()
    diff = override.apply_overrides("diabetes", ["training.folds=7", "training.models=lightgbm,linear"])
    after = path.read_text().splitlines()
    assert "-  folds: 5" in diff
    assert "+  folds: 7" in diff
    assert "+  models: [lightgbm, linear]" in diff
    assert "kg/m²" in path.read_text()
    changed = [line for line in after if line not in before]
    assert changed == ["  models: [lightgbm, linear]", "  folds: 7"]
    assert load.load_params("diabetes").training.models == ("lightgbm", "linear")


def test_override_reaches_a_default(params_root: Path) -> None:
    override.apply_overrides("diabetes", ["evaluation.gate.minimum_gain=2.5", "eda.correlation_alert=0.9"])
    params = load.load_params("diabetes")
    assert params.evaluation.gate.minimum_gain == 2.5
    assert params.eda.correlation_alert == 0.9


def test_override_that_changes_nothing_writes_nothing(params_root: Path) -> None:
    path = params_root / "params" / "diabetes.yaml"
    before = path.stat().st_mtime_ns
    assert override.apply_overrides("diabetes", ["training.folds=5"]) == ""
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.folds", "no '='"),
        ("training.fold=5", "unknown key training.fold: did you mean 'folds'?"),
        ("trainings.folds=5", "no section 'trainings': did you mean 'training'?"),
        ("training.folds=many", "training.folds is 'many'"),
        ("training.folds=yes", "read differently"),
        ("training.folds=[1", "fix the YAML"),
        ("seed.x=1", "seed holds one value"),
        ("training.folds=100", "training.folds is 100: write 20 or less"),
        ("training.folds=1e5", "1e5 is read differently"),
        ("training.folds=007", "007 is read differently"),
        ("training.folds=1_000", "1_000 is read differently"),
        ("training.folds=1:30", "1:30 is read differently"),
        ("training.folds=true", "training.folds is True: write a whole number"),
        ("training.folds=null", "training.folds is None: write a whole number"),
        ("training.folds=", "training.folds is None: write a whole number"),
        ("training.folds=None", "training.folds is 'None'"),
        ("training.folds='5'", "training.folds is '5'"),
        ("training.folds=5.0", "training.folds is 5.0: write a whole number"),
        ("deploy.owner=true", "deploy.owner is True: write a string"),
        ("deploy.owner=7", "deploy.owner is 7: write a string"),
        ("deploy.onnx=yes", "yes is read differently"),
        ("deploy.onnx=1", "deploy.onnx is 1: write true or false"),
        ("deploy.tolerance=nan", "deploy.tolerance is 'nan': write a number"),
        ("deploy.tolerance=inf", "deploy.tolerance is 'inf'"),
        ("deploy.tolerance=.nan", "deploy.tolerance is nan: use plain finite values"),
        ("deploy.tolerance=1e400", "1e400 is read differently"),
        ("deploy.tolerance=1.0e+400", "deploy.tolerance is inf: use plain finite values"),
        ("training.metric=roc_auc", "not for regression: use r2, mae, rmse, median_absolute_error"),
        ("training.folds=5\nseed: 9", "more than one value: write one -S for each"),
        ("training.folds=&a 5", "anchors and aliases"),
        ("training.folds=!!int 5", "the tag"),
        ("deploy.owner=${USER}", "deploy holds ${USER}: placeholders are not filled in"),
        ("=5", "unknown key : known: checks, data,"),
        ("deploy.owner='a\x85b'", "the line separator U+0085 would become a space"),
        ("deploy.owner='a\x7fb'", "unacceptable character #x007f"),
        ("training..folds=5", "unknown key training."),
        ("__class__.x=1", "no section '__class__'"),
        ("training.api_key=hidden", "training.api_key looks like a secret: name it under `secrets`"),
        ("deploy.owner=mysql://me:hidden@db/x", "-S deploy.owner looks like a secret"),
        ("AKIAIOSFODNN7EXAMPLE", "looks like a secret"),
        ("secrets.api_key=hidden", "secrets.api_key: a name in lowercase"),
    ],
)
def test_bad_override_writes_nothing(params_root: Path, setting: str, message: str) -> None:
    path = params_root / "params" / "diabetes.yaml"
    before = path.read_bytes()
    with pytest.raises(ParamsError) as caught:
        override.apply_overrides("diabetes", ["seed=7", setting])
    assert message in str(caught.value)
    assert not any(word in str(caught.value) for word in ("hidden", "AKIA"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "place", "value"),
    [
        ("seed=+5", "seed", 5),
        ("seed= 5 ", "seed", 5),
        ("deploy.onnx=False", "deploy.onnx", False),
        ("deploy.owner='007'", "deploy.owner", "007"),
        ("deploy.owner=nan", "deploy.owner", "nan"),
        ("training.most_rows=null", "training.most_rows", None),
        ("deploy.tolerance=1", "deploy.tolerance", None),
        ("secrets.api_key=API_KEY", "secrets", {"api_key": "API_KEY"}),
        ('wrangling.drop={customer_key: "only a number"}', "wrangling.drop", {"customer_key": "only a number"}),
    ],
)
def test_command_line_value_is_typed_by_the_field_alone(
    params_root: Path, setting: str, place: str, value: object
) -> None:
    if setting == "deploy.tolerance=1":
        with pytest.raises(ParamsError, match=r"deploy\.tolerance is 1: write 0\.01 or less"):
            override.apply_overrides("diabetes", [setting])
        return
    override.apply_overrides("diabetes", [setting])
    found: object = load.load_params("diabetes")
    for name in place.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("string", HOSTILE, ids=ascii)
def test_hostile_string_survives_the_command_line_and_the_file(params_root: Path, string: str) -> None:
    path = params_root / "params" / "diabetes.yaml"
    quoted = re.sub(
        "[\x7f\x85\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(string, ensure_ascii=False)
    )
    override.apply_overrides("diabetes", [f"deploy.intended_use={quoted}"])
    assert load.load_params("diabetes").deploy.intended_use == string
    assert "kg/m²" in path.read_text()
    assert yaml.safe_load(path.read_text())["deploy"]["intended_use"] == string, "DVC and papermill read it by PyYAML"


def test_every_value_has_origin_and_meaning(params_root: Path) -> None:
    entries = {entry.name: entry for entry in describe.describe_params("diabetes")}
    assert entries["training.folds"].origin == "params/diabetes.yaml:41"
    assert entries["evaluation.confidence"].origin == "default"
    assert [name for name, entry in entries.items() if not entry.meaning] == []


def test_schema_for_editors_is_current() -> None:
    path = Path(__file__).parents[2] / "params" / "schema.json"
    assert path.read_text() == describe.make_schema(), "run `labkit params --schema`"
    assert json.loads(path.read_text())["additionalProperties"] is False


def test_pipeline_has_the_experiments_that_have_params(params_root: Path) -> None:
    assert (params_root / "dvc.yaml").is_file()
    assert sorted(dvc_repo.list_pipeline_experiments()) == load.list_experiments()


def test_papermill_and_labkit_read_the_same_values(params_root: Path) -> None:
    for experiment in load.list_experiments():
        path = params_root / "params" / f"{experiment}.yaml"
        assert yaml.safe_load(path.read_text()) == yaml_text.make_plain(yaml_text.load_yaml(path))


NUMBERS = (
    0.0, -0.0, 0.1, 2e-08, 1e-05, -1e-07, 1.5e-300, 5e-324, 1e16, 1e22, -1.5e22, 1.7976931348623157e308, 123456789.125, 1e15,
    0, -7, 10**20,
)  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_number_that_is_written_is_read_back_by_both_versions_of_yaml(number: float) -> None:
    tree = {"plain": number, "list": [number, number], "map": {"key": number}}
    stream = StringIO()
    yaml_text.make_yaml().dump(yaml_text.make_commented(tree), stream)
    proposed = f"list: [{quote(number)}]\n"
    for string, expected in ((stream.getvalue(), tree), (proposed, {"list": [number]})):
        for found in (yaml.safe_load(string), yaml_text.make_plain(yaml_text.parse_yaml(string, "t.yaml"))):
            assert repr(found) == repr(expected)


def count_readings(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Count from now on how often params files are opened, and which contents are parsed as YAML."""
    counts: dict[str, list[str]] = {"opened": [], "parsed": []}
    read_bytes, check_events = Path.read_bytes, yaml_text.check_events

    def count_opened(path: Path) -> bytes:
        if path.parent.name == "params":
            counts["opened"].append(path.name)
        return read_bytes(path)

    def count_parsed(content: str, where: str) -> None:
        if where.startswith("params/"):
            counts["parsed"].append(content)
        check_events(content, where)

    monkeypatch.setattr(Path, "read_bytes", count_opened)
    monkeypatch.setattr(yaml_text, "check_events", count_parsed)
    return counts


@pytest.mark.parametrize(
    ("command", "n_opened", "n_contents"),
    [
        (lambda: load.load_params("diabetes"), 1, 1),
        (lambda: describe.describe_params("diabetes"), 1, 1),
        (lambda: override.override_file(load.load_file("diabetes"), ["seed=7", "training.folds=7"]), 1, 2),
        (lambda: override.apply_overrides("diabetes", ["seed=7", "training.folds=7"]), 1, 2),
        (lambda: override.apply_overrides("diabetes", ["training.folds=5"]), 1, 1),
        (lambda: override.override_section(load.load_params("diabetes"), "training", {"folds": 7}), 1, 1),
        (lambda: package.start("training", "diabetes", {"folds": 7}), 1, 1),
    ],
    ids=["load", "describe", "override", "write", "write nothing", "override a section", "notebook"],
)
def test_params_file_is_read_in_one_pass(
    params_root: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[], object], n_opened: int, n_contents: int
) -> None:
    counts = count_readings(monkeypatch)
    command()
    assert counts["opened"] == ["diabetes.yaml"] * n_opened
    assert len(counts["parsed"]) == n_contents, "once as it is read, once as it is written"


@pytest.mark.slow
def test_run_parses_its_params_once(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labkit.cli.main import cli
    from labkit.run.pipeline import experiment_run

    def stop(*_: object, **__: object) -> None:
        raise ParamsError("stopped before the first stage")

    # Everything up to the first stage is the command's own: what it reads, checks and writes.
    monkeypatch.setattr(experiment_run, "open_pipeline", stop)
    counts = count_readings(monkeypatch)
    with pytest.raises(ParamsError, match="stopped before"):
        cli(["run", "diabetes", "-S", "training.folds=7", "--cold"], standalone_mode=False)
    assert load.load_params("diabetes").training.folds == 7
    assert len(counts["parsed"]) == len(set(counts["parsed"])) == 2, "the file before the setting, and after it"
