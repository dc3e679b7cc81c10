"""What is printed: nothing in it that a terminal obeys, and nothing lost of it."""

import io
import logging
import sys

import pytest
from labkit.console import (
    PrintableStream,
    echo,
    guard_streams,
    make_cell,
    make_printable,
    print_item,
    print_json,
    print_pairs,
    print_table,
    wrap_words,
)
from rich.console import Console

from tests.hostile_strings import find_controls

HOSTILE = [
    "\x1b]0;title\x07",  # sets the window's title
    "\x1b[31;8m",
    "\x1b[2J\x1b[H",
    "\x9b31m",  # the same in one character
    "\x1bP+q544e\x1b\\",
    "a\rb",
    "a\x08\x08b",
    "a\u202eb\u2066c",  # reorders the rest of the line
    "a\u200bb\u2060c\ufeff",
    "a\u2028b\x85c\x0bd\x0ce",
    "a\tb\x00c\x7f",
    "\udcff",
]


@pytest.mark.parametrize("string", HOSTILE, ids=ascii)
def test_nothing_that_a_terminal_obeys_is_printed(string: str, capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"one {string} line\nand another")
    echo(f"an error {string}", is_error=True)
    print_table(["what", string], [["a", string], ["b", make_cell(string, "red")]], title=string)
    print_pairs([(string, f"{string}\n{string}")])
    print_item(string, string)
    print_json({string: string})
    printed = capsys.readouterr()
    assert find_controls(printed.out + printed.err) == set()
    assert printed.out.startswith(f"one {make_printable(string)} line\nand another\n")


@pytest.mark.parametrize(
    ("string", "shown"),
    [
        ("\x1b[0m", r"\x1b[0m"),
        ("a\nb", r"a\nb"),
        ("a\u202eb", r"a\u202eb"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_code_of_a_character_shows_which_it_was(string: str, shown: str) -> None:
    assert make_printable(string) == shown


@pytest.mark.parametrize("string", ["Größe [kg]", "価格", "price 🚗", "[red]x[/red]", "a  b", "50 %", "x" * 300])
def test_what_can_be_seen_stays_as_it_is(string: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_printable(string) == string
    echo(string)
    assert capsys.readouterr().out == f"{string}\n"


def test_what_others_print_is_guarded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    guard_streams()
    guard_streams()
    assert isinstance(sys.stdout, PrintableStream)
    assert sys.stdout.stream is out
    print("printed \x1b]0;t\x07")
    sys.stderr.writelines(["written \x1b[1m\n"])
    logging.StreamHandler().emit(logging.LogRecord("x", 30, "", 0, "logged \x1b[2J", None, None))
    error = ValueError("raised \x1b[2J")
    sys.excepthook(type(error), error, None)
    assert out.getvalue() == "printed \\x1b]0;t\\x07\n"
    assert err.getvalue() == "written \\x1b[1m\nlogged \\x1b[2J\nValueError: raised \\x1b[2J\n"


def test_terminal_shows_what_its_encoding_has(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii", errors="strict"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    guard_streams()
    echo("20 × 'é' → 3 …")
    print_table(["✓ what"], [["the result…"]], title="ü")
    sys.stdout.flush()
    first, *table = content.getvalue().decode("ascii").splitlines()
    assert first == r"20 x '\xe9' -> 3 ..."
    assert table[0].strip() == r"\xfc"
    assert table[1].strip() == "+ what"
    assert table[2].strip() == "the result..."


def test_words_are_kept_whole_on_a_terminal_and_lines_in_a_pipe() -> None:
    string = "one two-and-a-half three four"
    terminal = Console(file=io.StringIO(), width=40, force_terminal=True)
    assert wrap_words(string, indent=20, console=terminal) == f"one two-and-a-half\n{' ' * 20}three four"
    assert wrap_words(string, indent=20, console=Console(file=io.StringIO(), width=40)) == string


def test_end_of_colours_passes_alone_and_nothing_else_does() -> None:
    stream = io.StringIO()
    guarded = PrintableStream(stream)
    for string in ("\x1b[0m", "\x1b[31m", "a\x1b[0m"):
        guarded.write(string)
    assert stream.getvalue() == "\x1b[0m" + r"\x1b[31m" + r"a\x1b[0m"
