"""Terminal output as HTML: its colours as nbconvert shows them, in one pass, and nothing in it that anything obeys."""

import random
import re
import unicodedata

import pytest
from labkit.run.reports.sanitize import Outline, render_colours
from nbconvert.filters.ansi import ansi2html

NUMBERS = (0, 1, 3, 4, 5, 7, 21, 22, 24, 27, 30, 31, 37, 39, 40, 44, 49, 58, 90, 97, 100, 107)


def make_output(seed: int) -> str:
    """Return output with colours of all kinds, on and off in any order."""
    rng, parts = random.Random(seed), []
    for _ in range(rng.randint(1, 30)):
        numbers = ";".join(str(rng.choice(NUMBERS)) for _ in range(rng.randint(0, 3)))
        red, green, blue = (rng.randint(0, 255) for _ in range(3))
        plain = "".join(rng.choice("ab<&>\"' \n") for _ in range(rng.randint(1, 6)))
        codes = [f"\x1b[{numbers}m", f"\x1b[38;5;{red}m", f"\x1b[1;48;2;{red};{green};{blue}m", "\x1b[2K"]
        parts.append(rng.choice([plain, plain, *codes]))
    return "".join(parts)


def merge(html: str) -> str:
    """Return HTML with neighbouring spans of one look as one."""
    before = ""
    while before != html:
        before, html = html, re.sub(r"(<span[^>]*>)((?:(?!</?span).)*)</span>\1", r"\1\2", html, flags=re.DOTALL)
    return html


@pytest.mark.parametrize("seed", range(200))
def test_colours_are_those_of_nbconvert(seed: int) -> None:
    output = make_output(seed)
    assert merge(str(render_colours(output))) == merge(ansi2html(output))


@pytest.mark.slow
@pytest.mark.parametrize(
    "output",
    [
        "\x1b[31mx\x1b[1;38;5;7my" * 300_000,
        "\x1b[31m" * 500_000,
        "\x1b[" * 500_000,
        "\x1b[1;" * 300_000,
        f"\x1b[{'1;' * 1_000_000}m",
        "\x1b[38;5;" * 200_000,
    ],
    ids=["on and never off", "without text", "unfinished", "unfinished numbers", "a long code", "half a colour"],
)
def test_codes_without_end_take_one_pass(output: str) -> None:
    """Taken one after another off the front of the output, they took minutes."""
    assert render_colours(output).count("x") == output.count("x") + render_colours(output).count(r"\x")


@pytest.mark.parametrize(
    "output", ["\x1b]0;title\x07", "a\u202eb\u200b", "\x9b31m", "a\x08b", "\x1bP+q544e\x1b\\", "\x1b[38;5;999mx"]
)
def test_nothing_invisible_is_left(output: str) -> None:
    shown = str(render_colours(output))
    assert {unicodedata.category(letter) for letter in shown} & {"Cc", "Cf"} == set()


@pytest.mark.slow
def test_tables_in_tables_are_left_alone() -> None:
    assert Outline("x").clean("<table><tr><td>" * 2000).count("<table") == 2000
