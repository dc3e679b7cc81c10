"""Blocks of code and commands in the pages of the documentation."""

import re

from tests.conftest import ROOT


def find_blocks(page: str, language: str = "") -> list[str]:
    """Return the blocks of code of a page in a language."""
    content = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", content, flags=re.DOTALL | re.MULTILINE)
    return [block for named, block in blocks if named == language]


def find_commands(page: str) -> list[str]:
    """Return the commands in the blocks of a page."""
    lines = [line for block in find_blocks(page) for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if re.match(r"(make|labkit|papermill|dvc|mlflow) ", line)]
