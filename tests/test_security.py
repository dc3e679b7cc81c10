"""SECURITY.md claims nothing without a test: each that it names is there, beside the file that it names."""

import ast
import re

import pytest

from tests.source_tree import LIB, ROOT

ROWS = re.findall(r"^\| (.+) \| (.+) \| `(tests/.+)` \|$", (ROOT / "SECURITY.md").read_text(), flags=re.MULTILINE)


def test_every_claim_has_a_row() -> None:
    section = (ROOT / "SECURITY.md").read_text().partition("## What is checked")[2].partition("## What is not")[0]
    assert len(ROWS) == section.count("\n| ") - 1
    assert len(ROWS) > 15


@pytest.mark.parametrize(("claim", "file", "test"), ROWS, ids=[test.partition("::")[2] for _, _, test in ROWS])
def test_claim_names_a_file_and_a_test_that_are_there(claim: str, file: str, test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, claim
    assert file == "all" or (LIB / file.strip("`")).is_file()
