"""Scan a text file in one pass: check its encoding, and count bytes, lines and quotes."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from labkit.data.reading.encoding import BYTE_ORDER_MARKS, SINGLE_BYTE, guess_encoding
from labkit.data.reading.formats import HEAD_BYTES, check_head
from labkit.data.reading.text_stream import PIECE_BYTES, open_bytes
from labkit.errors import DataError
from labkit.params.tables import Table


@dataclass(frozen=True)
class TextScan:
    """Properties of a whole text file."""

    n_bytes: int
    n_lines: int
    has_quotes: bool
    has_last_newline: bool


def scan_text(path: Path, table: Table, where: str) -> TextScan:
    """Scan a whole text file: size limit, encoding, NUL bytes, quotes and last line.

    Raises
    ------
    DataError
        The file is empty, too large, or not text in the table's encoding; names line and byte.
    """
    with open_bytes(path, most_bytes=table.max_bytes, where=where) as stream:
        check_head(stream.peek(HEAD_BYTES)[:HEAD_BYTES], path, where)  # type: ignore[attr-defined]
        counter = Counter(table, where)
        while piece := stream.read(PIECE_BYTES):
            counter.add(piece)
        return counter.finish()


class Counter:
    """Checks and counts over the pieces of one text file."""

    def __init__(self, table: Table, where: str) -> None:
        self.encoding, self.quote, self.where = table.encoding, table.quote, where
        self.decoder = codecs.getincrementaldecoder(table.encoding)()
        is_single = codecs.lookup(table.encoding).name.startswith(SINGLE_BYTE)
        self.utf8 = codecs.getincrementaldecoder("utf-8")() if is_single else None
        self.n_accents = 0
        self.n_bytes = self.n_newlines = self.n_returns = self.n_pairs = self.n_quotes = 0
        self.last = ""
        self.has_text = False

    def add(self, piece: bytes) -> None:
        """Check and count the next piece; an empty piece ends the file."""
        if not self.n_bytes:
            self.check_mark(piece)
        try:
            decoded = self.decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            raise self.describe(error, piece) from error
        self.check_utf8(piece)
        self.n_bytes += len(piece)
        if "\0" in decoded:
            line = self.n_lines + decoded.count("\n", 0, decoded.index("\0")) + 1
            raise DataError(
                f"{self.where}: NUL byte at line {line:,}: not a text file, or one in another encoding or damaged: "
                "write it again"
            )
        self.n_pairs += decoded.count("\r\n") + (self.last == "\r" and decoded.startswith("\n"))
        self.n_newlines += decoded.count("\n")
        self.n_returns += decoded.count("\r")
        self.n_quotes += decoded.count(self.quote) if self.quote else 0
        self.last = decoded[-1:] or self.last
        self.has_text = self.has_text or not decoded.removeprefix("\ufeff").isspace()

    @property
    def n_lines(self) -> int:
        """Number of line ends so far: CR, LF, and CR LF counted as one."""
        return self.n_newlines + self.n_returns - self.n_pairs

    def check_mark(self, piece: bytes) -> None:
        """Reject a byte-order mark of another encoding."""
        marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if piece.startswith(mark)), None)
        declared = codecs.lookup(self.encoding).name
        if marked and not declared.startswith(marked):
            raise DataError(f"{self.where}: {marked.upper()} (byte-order mark): set `encoding: {marked}` for the table")

    def check_utf8(self, piece: bytes) -> None:
        """Reject UTF-8 where a single-byte encoding is declared: it decodes, but garbles every accented letter."""
        # Accented letters in a single-byte encoding practically never form valid UTF-8 by coincidence, so a file that
        # is valid UTF-8 to its end is UTF-8.
        if self.utf8 is None:
            return
        try:
            decoded = self.utf8.decode(piece, final=not piece)
        except UnicodeDecodeError:
            self.utf8 = None
            return
        self.n_accents += len(decoded) - len(decoded.encode("ascii", "ignore"))
        if not piece and self.n_accents:
            raise DataError(
                f"{self.where}: UTF-8, not {self.encoding.upper()} ({self.n_accents:,} accented characters would be "
                "garbled): set `encoding: utf-8` for the table, or write it in the encoding of the others"
            )

    def describe(self, error: UnicodeError, piece: bytes) -> DataError:
        """Return the error for text that is not in its encoding, with the place and the likely encoding."""
        place = error.start if isinstance(error, UnicodeDecodeError) else 0
        data = error.object if isinstance(error, UnicodeDecodeError) else piece
        line = self.n_lines + bytes(data[:place]).count(b"\n") + 1
        guess = guess_encoding(bytes(data))
        if guess is None:
            return DataError(f"{self.where}: not a text file (byte 0x{data[place]:02X}, line {line:,})")
        return DataError(
            f"{self.where}: not {self.encoding.upper()} (byte 0x{data[place]:02X}, line {line:,}); looks like {guess}: "
            f"set `encoding: {guess}` for the table"
        )

    def finish(self) -> TextScan:
        """Return the counts for the whole file, rejecting a blank one."""
        self.add(b"")
        if not self.has_text:
            raise DataError(f"{self.where} is empty (blanks only, {self.n_bytes:,} bytes): is it the right file?")
        has_end = self.last in ("\n", "\r")
        return TextScan(self.n_bytes, self.n_lines + (not has_end), self.n_quotes > 0, has_end)
