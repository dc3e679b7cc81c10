"""What is written as YAML is read again as it was, by every reader."""

from io import StringIO
from typing import Any

import pytest
import yaml as yaml_of_papermill
from labkit.params.yaml_text import make_commented, make_plain, make_yaml, parse_yaml

from tests.hostile_strings import make_names


def write(tree: Any) -> str:
    stream = StringIO()
    make_yaml().dump(tree, stream)
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("seed", [3, 4])
def test_any_string_round_trips(seed: int, depth: int) -> None:
    for name in make_names(seed, 150):
        for tree in ({name: 1}, {name: {"a": name}}, {name: [name, name]}, {"a": name}):
            for _ in range(depth):
                tree = {"a": tree}
            string = write(make_commented(tree))
            assert make_plain(parse_yaml(string, "x")) == tree
            if name.isprintable():
                assert yaml_of_papermill.safe_load(string) == tree


@pytest.mark.parametrize("length", range(100, 130))
def test_plain_key_that_somebody_wrote_stays_one(length: int) -> None:
    key = ("on a long flight " * 9)[:length].strip()
    string = f"wrangling:\n  drop:\n    {key}: unused\n  outliers: {{{key}: {{k: 3}}}}\n"
    tree = parse_yaml(string, "x")
    tree["seed"] = 1
    assert make_plain(parse_yaml(write(tree), "x")) == {**make_plain(parse_yaml(string, "x")), "seed": 1}


def test_long_sentence_and_long_list_are_still_broken() -> None:
    sentence = "a sentence of many words " * 10
    string = write(make_commented({"a": sentence.strip(), "b": ["word"] * 60}))
    assert max(map(len, string.splitlines())) <= 125
