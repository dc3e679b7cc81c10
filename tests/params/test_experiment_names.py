"""One rule for the names of experiments: in a params file, in dvc.yaml and for `labkit new`."""

import ast
import re
from pathlib import Path

import labkit as package
import pytest
from labkit.errors import ParamsError
from labkit.names import EXPERIMENT_NAME
from labkit.new.create import check_experiment_name
from labkit.params.section import Name
from labkit.run.pipeline.dvc_repo import parse_experiments
from pydantic import TypeAdapter, ValidationError

NAMES = {
    **dict.fromkeys(("a", "shop", "shop_2", "a" * 63), True),
    **dict.fromkeys(
        ("", "2shop", "_shop", "Shop", "a" * 64, "shop\n", "a b", "a/b", "..", "a-b", "größe", "${a}"), False
    ),
}


@pytest.mark.parametrize(("name", "is_valid"), NAMES.items(), ids=ascii)
def test_every_place_takes_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_valid: bool
) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").write_text("vars:\n  - experiments: [other]\nstages: {}\n")

    def accepts(check: object, error: type[Exception]) -> bool:
        try:
            check(name)  # type: ignore[operator]
        except error:
            return False
        return True

    places = {
        "params": accepts(TypeAdapter(Name).validate_python, ValidationError),
        "dvc.yaml": accepts(
            lambda name: parse_experiments({"vars": [{"experiments": [name]}], "stages": {}}), ParamsError
        ),
        "labkit new": accepts(lambda name: check_experiment_name(name, force=True), ParamsError),
    }
    assert places == dict.fromkeys(places, is_valid)


def test_pattern_is_written_once() -> None:
    found = []
    for path in Path(package.__file__).parent.rglob("*.py"):
        strings = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        found += [path.name for value in strings if isinstance(value, str) and EXPERIMENT_NAME in value]
    assert found == ["names.py"]
    assert re.fullmatch(EXPERIMENT_NAME, "shop")
