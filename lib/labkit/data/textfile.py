"""The bytes of a text file: unpacked, bounded, decoded, and looked over before anything is parsed.

Not how lines become rows: that is `labkit.data.delimited`. A file is read in pieces; none is ever whole in memory.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from labkit.data.encodings import MARKS, SINGLE_BYTE, guess_encoding
from labkit.data.formats import HEAD_BYTES, check_head
from labkit.errors import DataError, list_briefly
from labkit.params import Table

PIECE_BYTES = 1 << 20
PACKING_ERRORS = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, OSError)


@dataclass(frozen=True)
class TextScan:
    """What a text file is like as a whole."""

    n_bytes: int
    n_lines: int
    has_quotes: bool
    has_last_newline: bool


class BoundedStream(io.RawIOBase):
    """An unpacked file that is refused above a number of bytes, whatever a small packed file says it holds."""

    def __init__(self, inner: BinaryIO, most: int, where: str) -> None:
        super().__init__()
        self.inner, self.most, self.where, self.n_bytes = inner, most, where, 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer, refusing what is too much or cut short."""
        try:
            piece = self.inner.read(len(buffer))
        except PACKING_ERRORS as error:
            raise DataError(f"{self.where}: compressed file cut short or damaged: copy it again") from error
        self.n_bytes += len(piece)
        if self.n_bytes > self.most:
            raise DataError(
                f"{self.where}: more than {self.most:,} bytes unpacked: raise `max_bytes` of the table if that is right"
            )
        buffer[: len(piece)] = piece
        return len(piece)


class Utf8Stream(io.RawIOBase):
    """Text of any encoding as UTF-8 bytes, a byte-order mark left out."""

    def __init__(self, inner: BinaryIO, encoding: str) -> None:
        super().__init__()
        self.inner, self.rest = inner, b""
        self.decoder = codecs.getincrementaldecoder(encoding)()
        self.is_first = True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer."""
        while not self.rest:
            piece = self.inner.read(PIECE_BYTES)
            text = self.decoder.decode(piece, final=not piece)
            if self.is_first and text:
                text, self.is_first = text.removeprefix("\ufeff"), False
            self.rest = text.encode("utf-8")
            if not piece:
                break
        taken, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@contextmanager
def open_bytes(path: Path, *, most_bytes: int, where: str) -> Iterator[BinaryIO]:
    """Yield an unpacked file; what is packed is told by its ending.

    Raises
    ------
    DataError
        It is not packed as its ending says, cut short, an archive of several files, or too large.
    """
    ending = path.suffix.lower()
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with path.open("rb") as raw:
        if ending == ".zip":
            with open_member(raw, where) as member:
                yield io.BufferedReader(BoundedStream(member, most_bytes, where), PIECE_BYTES)
        elif ending in openers:
            with openers[ending](raw, "rb") as unpacked:
                yield io.BufferedReader(BoundedStream(unpacked, most_bytes, where), PIECE_BYTES)
        else:
            yield io.BufferedReader(BoundedStream(raw, most_bytes, where), PIECE_BYTES)


@contextmanager
def open_text(path: Path, table: Table, where: str) -> Iterator[TextIO]:
    """Yield a file as text, line ends as they are."""
    with open_bytes(path, most_bytes=table.max_bytes, where=where) as stream:
        yield io.TextIOWrapper(io.BufferedReader(Utf8Stream(stream, table.encoding)), encoding="utf-8", newline="")


@contextmanager
def open_member(raw: BinaryIO, where: str) -> Iterator[BinaryIO]:
    """Yield the only file of a zip archive."""
    try:
        archive = zipfile.ZipFile(raw)
    except zipfile.BadZipFile as error:
        raise DataError(f"{where}: not a zip archive, or cut short: copy it again") from error
    with archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(names) != 1:
            found = list_briefly(names) if names else "nothing"
            raise DataError(f"{where}: {len(names)} files in the archive ({found}): unpack the one that is meant")
        try:
            member = archive.open(names[0])
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in an unknown way
            is_encrypted = archive.getinfo(names[0]).flag_bits & 1
            what = "encrypted" if is_encrypted else "compressed in a way that is not read"
            raise DataError(f"{where}: the file in the archive is {what}: unpack it") from error
        with member:
            yield member  # type: ignore[misc]


def scan_text(path: Path, table: Table, where: str) -> TextScan:
    """Look over a whole text file: limits, encoding, NUL bytes, quotes and the end.

    Raises
    ------
    DataError
        It is not text in the table's encoding, with line and byte.
    """
    with open_bytes(path, most_bytes=table.max_bytes, where=where) as stream:
        check_head(stream.peek(HEAD_BYTES)[:HEAD_BYTES], path, where)  # type: ignore[attr-defined]
        counter = Counter(table, where)
        while piece := stream.read(PIECE_BYTES):
            counter.add(piece)
        return counter.finish()


class Counter:
    """Counts over the pieces of one text file."""

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
        """Count one more piece."""
        if not self.n_bytes:
            self.check_mark(piece)
        try:
            text = self.decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            raise self.describe(error, piece) from error
        self.check_utf8(piece)
        self.n_bytes += len(piece)
        if "\0" in text:
            line = self.n_lines + text.count("\n", 0, text.index("\0")) + 1
            raise DataError(
                f"{self.where}: NUL byte at line {line:,}: not a text file, or one in another encoding or torn: "
                "write it again"
            )
        self.n_pairs += text.count("\r\n") + (self.last == "\r" and text.startswith("\n"))
        self.n_newlines += text.count("\n")
        self.n_returns += text.count("\r")
        self.n_quotes += text.count(self.quote) if self.quote else 0
        self.last = text[-1:] or self.last
        self.has_text = self.has_text or not text.removeprefix("\ufeff").isspace()

    @property
    def n_lines(self) -> int:
        """Number of line ends so far: of both kinds, and of the two together as one."""
        return self.n_newlines + self.n_returns - self.n_pairs

    def check_mark(self, piece: bytes) -> None:
        """Refuse a byte-order mark that says another encoding."""
        marked = next((name for mark, name in MARKS.items() if piece.startswith(mark)), None)
        said = codecs.lookup(self.encoding).name
        if marked and not said.startswith(marked):
            raise DataError(f"{self.where}: {marked.upper()} (byte-order mark): set `encoding: {marked}` for the table")

    def check_utf8(self, piece: bytes) -> None:
        """Refuse UTF-8 where each byte should be a letter: every byte fits, and every accent would become two letters.

        Chance alone never makes UTF-8 of accents, so one that fits to the end of the file is meant.
        """
        if self.utf8 is None:
            return
        try:
            text = self.utf8.decode(piece, final=not piece)
        except UnicodeDecodeError:
            self.utf8 = None
            return
        self.n_accents += len(text) - len(text.encode("ascii", "ignore"))
        if not piece and self.n_accents:
            raise DataError(
                f"{self.where}: UTF-8, not {self.encoding.upper()} ({self.n_accents:,} accents would be torn): set "
                "`encoding: utf-8` for the table, or write the file as the others are"
            )

    def describe(self, error: UnicodeError, piece: bytes) -> DataError:
        """Say where the text is not in its encoding, and which other it looks like."""
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
        """Return the counts of the whole file."""
        self.add(b"")
        if not self.has_text:
            raise DataError(f"{self.where} is empty (blanks only, {self.n_bytes:,} bytes): is it the right file?")
        has_end = self.last in ("\n", "\r")
        return TextScan(self.n_bytes, self.n_lines + (not has_end), self.n_quotes > 0, has_end)
