"""Words for missing values, yes and no, and date formats are listed once, in `labkit.vocabulary`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import labkit
import pytest
from labkit import vocabulary

LIBRARY = Path(labkit.__file__).parent
OWNER = LIBRARY / "vocabulary.py"
MISSING = vocabulary.MISSING_AMONG_NUMBERS - {
    "",
    "-",
    ".",
    "*",
    "missing",
    "unknown",
    "null",
    "nil",
    "none",
    "nc",
    "na",
}
"""Words that mean nothing else in code."""
SPELLINGS = {*vocabulary.YES, *vocabulary.NO} - {
    "1",
    "0",
    "1.0",
    "0.0",
    "yes",
    "no",
    "y",
    "n",
    "on",
    "off",
    "true",
    "false",
}
"""Those that YAML does not have as well."""
LISTS = {"missing values": (MISSING, 3), "yes and no": (SPELLINGS, 2)}


def list_literals(code: str) -> Iterator[set[str]]:
    """Yield the strings of each list, tuple, set or dictionary that is written out in a module."""
    for node in ast.walk(ast.parse(code)):
        items = node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else []
        items = [key for key in node.keys if key] if isinstance(node, ast.Dict) else items
        flat = [part for item in items for part in (item.elts if isinstance(item, ast.Tuple) else [item])]
        yield {part.value.lower() for part in flat if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def find_copies(code: str) -> list[str]:
    """Return what a module lists a second time."""
    found = []
    for words in list_literals(code):
        found += [name for name, (known, enough) in LISTS.items() if len(words & known) >= enough]
        if sum("%d" in word and "%m" in word for word in words) >= 3:
            found.append("date formats")
    return found


@pytest.mark.slow
def test_no_module_lists_the_words_again() -> None:
    copies = {path.name: find_copies(path.read_text()) for path in LIBRARY.rglob("*.py") if path != OWNER}
    assert {name: found for name, found in copies.items() if found} == {}


def test_a_second_list_is_found() -> None:
    assert find_copies(OWNER.read_text()).count("date formats") >= 1
    assert find_copies('WORDS = {"n/a", "NaN", "k.a.", "x"}') == ["missing values"]
    assert set(find_copies('WORDS = (("yes", "no"), ("ja", "nein"))')) == {"yes and no"}
    assert find_copies('FORMS = ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y"]') == ["date formats"]
    assert find_copies('NAMES = ["a", "yes", "no"]') == []
