"""Only an experiment's part of dvc.lock is read, if that is sure to be the same."""

from pathlib import Path
from typing import Any

import pytest
from labkit.params.yaml_text import load_written_yaml, parse_written_yaml
from labkit.run.pipeline import locked_stages, outputs
from labkit.run.pipeline.locked_stages import load_locked_stages

LOCK = """schema: '2.0'
stages:
  eda@mine:
    cmd: labkit stage eda mine
    params:
      params/mine.yaml:
        seed: 42
        note: "first

          last"
  eda@other:
    cmd: labkit stage eda other
  training@mine:
    cmd: labkit stage training mine
    outs:
    - path: data/mine/model
      md5: 0123456789abcdef0123456789abcdef.dir
"""


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    return tmp_path / "dvc.lock"


def test_part_is_what_the_whole_has(path: Path) -> None:
    path.write_text(LOCK)
    assert load_locked_stages("mine") is None  # not before the whole file was found to be sound
    assert outputs.find_lock_fault() is None
    whole = load_written_yaml(path)["stages"]
    for experiment in ("mine", "other", "none"):
        expected = {name: stage for name, stage in whole.items() if name.endswith(f"@{experiment}")}
        assert load_locked_stages(experiment) == expected


def test_changed_file_is_read_as_a_whole_again(path: Path) -> None:
    path.write_text(LOCK)
    assert outputs.find_lock_fault() is None
    path.write_text(LOCK.replace("seed: 42", "seed: 43"))
    assert load_locked_stages("mine") is None
    path.write_text(LOCK + "  broken@other: [\n")
    fault = outputs.find_lock_fault()
    assert fault is not None
    assert "in the part of the stage" in fault.found
    assert load_locked_stages("mine") is None


@pytest.mark.parametrize(
    "content",
    [
        "stages: {eda@mine: {cmd: x}}\nschema: '2.0'\n",
        LOCK.replace("  eda@other:\n", "  'eda@other':\n"),
        LOCK.replace("  eda@other:\n    cmd: labkit stage eda other\n", "  eda@other: {cmd: x}\n"),
        LOCK + "datasets: []\n",
    ],
)
def test_file_in_another_layout_is_read_as_a_whole(path: Path, content: str) -> None:
    path.write_text(content)
    assert outputs.find_lock_fault() is None
    assert load_locked_stages("mine") is None


def test_more_experiments_add_nothing_to_what_is_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def parse(content: bytes | str, where: str) -> Any:
        parsed.append(len(content))
        return parse_written_yaml(content, where)

    monkeypatch.setattr(locked_stages, "parse_written_yaml", parse)
    for n_others in (1, 300):
        path.write_text(LOCK + "".join(f"  eda@other{number}:\n    cmd: x\n" for number in range(n_others)))
        assert outputs.find_lock_fault() is None
        assert set(load_locked_stages("mine") or {}) == {"eda@mine", "training@mine"}
    assert parsed[0] == parsed[1]
