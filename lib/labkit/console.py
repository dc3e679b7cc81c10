"""Terminal output of labkit: all text is printed here, without control characters that a terminal would act on.

Names, values and messages come from data, notebooks, files and servers, and may contain escape sequences, line breaks
or characters that reorder a line. They are shown as escape codes. Characters missing from the terminal's encoding are
replaced by ASCII. Only this module and `labkit.run.pipeline.progress` use rich.
"""

import codecs
import contextlib
import io
import json
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column
    from rich.text import Text

SUBSTITUTES = {
    "…": "...", "→": "->", "←": "<-", "✓": "+", "✗": "x", "⚠": "!", "×": "x", "·": "-", "–": "-", "—": "-", "−": "-",
    "±": "+-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "“": '"', "”": '"', "‘": "'", "’": "'", "•": "*",
    "²": "^2", "∞": "inf",
}  # fmt: skip
"""ASCII replacements of characters that labkit prints, for terminals that cannot show them."""
ENCODING_ERRORS = "labkit.console"
FEWEST_COLUMNS = 20
"""Fewest columns for a text beside its indent, on however narrow a terminal."""


def make_printable(string: str) -> str:
    r"""Return a string on one line, with non-printable characters as escape codes.

    Parameters
    ----------
    string
        Any string.

    Examples
    --------
    >>> print(make_printable("a\x1b[31mb\nc\u202ed"))
    a\x1b[31mb\nc\u202ed
    """
    if string.isprintable():
        return string
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in string)


def make_printable_lines(string: str) -> str:
    r"""Return a string with its line breaks, and other non-printable characters as escape codes.

    Parameters
    ----------
    string
        Any string.

    Examples
    --------
    >>> print(make_printable_lines("one\ntwo\r\x07"))
    one
    two\r\x07
    """
    return "\n".join(map(make_printable, string.split("\n")))


def echo(string: str, *, is_error: bool = False) -> None:
    """Print a string and a line break to standard output, or to standard error if `is_error`."""
    print(make_printable_lines(string), file=sys.stderr if is_error else sys.stdout, flush=True)


RESET = "\x1b[0m"
"""What colorama writes to a terminal at exit, by itself: it ends colours, so it may pass."""


class PrintableStream:
    """A text stream that writes non-printable characters as escape codes; other attributes are those of the stream."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, string: str) -> int:
        """Write a string; return its number of characters."""
        self.stream.write(string if string == RESET else make_printable_lines(string))
        return len(string)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several strings."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def substitute(error: UnicodeError) -> tuple[str, int]:
    """Return replacements for characters that an encoding lacks, and the position at which encoding continues."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(SUBSTITUTES.get(letter, ascii(letter)[1:-1]) for letter in letters), error.end


def guard_streams() -> None:
    """Send everything that this process prints through a `PrintableStream`, including libraries, logs and tracebacks.

    Only `make_console` writes to the terminal directly, for colours and progress lines. Characters that the encoding of
    a stream lacks are replaced.
    """
    codecs.register_error(ENCODING_ERRORS, substitute)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)
        if not isinstance(stream, PrintableStream):
            setattr(sys, name, PrintableStream(stream))
    # Python's own hook adds colours if it takes the stream for a terminal.
    sys.excepthook = traceback.print_exception


def make_console() -> "Console":
    """Return rich's console on standard output; pass it only cells from `make_cell`."""
    from rich.console import Console

    stream: Any = sys.stdout
    return Console(file=stream.stream if isinstance(stream, PrintableStream) else stream, highlight=False)


def make_cell(string: object, style: str = "") -> "Text":
    """Return a rich cell that is shown literally: no markup, no control characters.

    Parameters
    ----------
    string
        Content; line breaks are kept.
    style
        Style of rich.
    """
    from rich.text import Text

    return Text(make_printable_lines(str(string)), style=style)


def make_column(heading: str, *, is_number: bool = False, is_folded: bool = False, is_whole: bool = False) -> "Column":
    """Return a column of a table.

    Parameters
    ----------
    heading
        Heading of the column.
    is_number
        Whether cells are right-aligned.
    is_folded
        Whether long words are folded instead of truncated.
    is_whole
        Whether the column is never narrowed.
    """
    from rich.table import Column

    return Column(
        make_cell(make_printable(heading)),
        justify="right" if is_number else "left",
        overflow="fold" if is_folded else "ellipsis",
        no_wrap=is_whole,
    )


def print_table(
    headings: Sequence["str | Column"],
    rows: Iterable[Sequence["str | Text"]],
    *,
    title: str = "",
    console: "Console | None" = None,
) -> None:
    """Print a table: on a terminal with a line below the headings, elsewhere without any drawn line.

    Parameters
    ----------
    headings
        Headings, or columns from `make_column`.
    rows
        Cells; strings are printed on one line, cells from `make_cell` may have several.
    title
        Title above the table.
    console
        Console to print to; standard output if None.
    """
    from rich import box
    from rich.table import Table

    console = console or make_console()
    columns = [make_column(heading) if isinstance(heading, str) else heading for heading in headings]
    if title:
        # Not the table's own title, which wraps at the width of the table.
        console.print(make_cell(make_printable(title), "table.title"), soft_wrap=not console.is_terminal)
    table = Table(
        *columns,
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1) if console.is_terminal else (0, 2, 0, 0),
    )
    for row in rows:
        table.add_row(*(make_cell(make_printable(cell)) if isinstance(cell, str) else cell for cell in row))
    console.print(table)


def wrap_words(string: str, *, indent: int, console: "Console | None" = None) -> str:
    """Return a string broken between words to fit a terminal beside an indent; elsewhere it stays one line.

    Parameters
    ----------
    string
        Any string.
    indent
        Number of characters before it; further lines are indented by as many.
    console
        Console that it is printed to; standard output if None.
    """
    console = console or make_console()
    if not console.is_terminal:
        return string
    lines = make_cell(make_printable(string)).wrap(console, max(console.width - indent, FEWEST_COLUMNS))
    return f"\n{' ' * indent}".join(line.plain.rstrip() for line in lines)


def print_json(document: Any) -> None:
    """Print one JSON document in ASCII, with everything that has no JSON form as a string."""
    echo(json.dumps(document, indent=2, default=str))


def divert_output(is_wanted: bool = True) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which everything goes to standard error, so that standard output holds only a document."""
    return contextlib.redirect_stdout(sys.stderr) if is_wanted else contextlib.nullcontext()


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print pairs of a heading and the text next to it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for heading, string in pairs:
        cell = make_cell(string)
        cell.overflow = "fold"
        table.add_row(make_cell(heading, "bold"), cell)
    make_console().print(table)


def print_item(heading: str, string: str) -> None:
    """Print a heading, and below it a text that is indented further; both are wrapped between words."""
    from rich.padding import Padding

    console = make_console()
    console.print(Padding(make_cell(make_printable(heading)), (0, 0, 0, 2), expand=False))
    console.print(Padding(make_cell(make_printable(string), "dim"), (0, 0, 0, 6), expand=False))
