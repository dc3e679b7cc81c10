"""What labkit prints: the one place through which text reaches a terminal, without anything that a terminal would obey.

Names, values and messages come from data, notebooks, files and servers, and may hold escape sequences, line breaks or
characters that reorder a line. They are shown as their codes. What the terminal's encoding does not have is shown in
ASCII. Sole owner of rich, with `labkit.run.pipeline.progress`.
"""

import codecs
import io
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
"""What stands for a character that labkit prints, where a terminal cannot show it."""
ENCODING_ERRORS = "labkit.console"


def make_printable(string: str) -> str:
    r"""Return a string on one line, each character that cannot be seen as its code.

    >>> print(make_printable("a\x1b[31mb\nc\u202ed"))
    a\x1b[31mb\nc\u202ed
    """
    if string.isprintable():
        return string
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in string)


def make_printable_lines(string: str) -> str:
    r"""Return a string with its line breaks, each other character that cannot be seen as its code.

    >>> print(make_printable_lines("one\ntwo\r\x07"))
    one
    two\r\x07
    """
    return "\n".join(map(make_printable, string.split("\n")))


def echo(string: str, *, is_error: bool = False) -> None:
    """Print a string and a line break to standard output, or to standard error."""
    print(make_printable_lines(string), file=sys.stderr if is_error else sys.stdout, flush=True)


class PrintableStream:
    """A text stream that writes every character which cannot be seen as its code; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, string: str) -> int:
        """Write a string."""
        self.stream.write(make_printable_lines(string))
        return len(string)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several strings."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def substitute(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding does not have, and where encoding goes on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(SUBSTITUTES.get(letter, ascii(letter)[1:-1]) for letter in letters), error.end


def guard_streams() -> None:
    """Let everything that this process prints from now on pass a `PrintableStream`: libraries, logs, tracebacks too.

    Only `make_console` reaches the terminal itself, for colours and for a line that is drawn again. What the
    encoding of a stream does not have is substituted.
    """
    codecs.register_error(ENCODING_ERRORS, substitute)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)
        if not isinstance(stream, PrintableStream):
            setattr(sys, name, PrintableStream(stream))
    # Python's own hook writes colours of its own where it takes the stream for a terminal.
    sys.excepthook = traceback.print_exception


def make_console() -> "Console":
    """Return rich's console on standard output; give it cells that `make_cell` made."""
    from rich.console import Console

    stream: Any = sys.stdout
    return Console(file=stream.stream if isinstance(stream, PrintableStream) else stream, highlight=False)


def make_cell(string: object, style: str = "") -> "Text":
    """Return a cell for rich that is shown as it is: no markup, and nothing that a terminal obeys."""
    from rich.text import Text

    return Text(make_printable_lines(str(string)), style=style)


def make_column(heading: str, *, is_number: bool = False, is_folded: bool = False, is_whole: bool = False) -> "Column":
    """Return a column of a table: numbers to the right, long words folded instead of cut, or never narrowed."""
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
    """Print a table; a cell is a string on one line, or what `make_cell` made of one on several."""
    from rich.table import Table

    columns = [make_column(heading) if isinstance(heading, str) else heading for heading in headings]
    table = Table(
        *columns, title=make_cell(make_printable(title), "table.title") if title else None, title_justify="left"
    )
    for row in rows:
        table.add_row(*(make_cell(make_printable(cell)) if isinstance(cell, str) else cell for cell in row))
    (console or make_console()).print(table)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print headings, each with its text beside it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for heading, string in pairs:
        cell = make_cell(string)
        cell.overflow = "fold"
        table.add_row(make_cell(heading, "bold"), cell)
    make_console().print(table)
