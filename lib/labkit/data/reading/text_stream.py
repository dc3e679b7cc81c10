"""Open a text file as a stream: decompressed, limited in size and decoded before anything is parsed.

For splitting lines into rows, see `labkit.data.reading.delimited`. Files are read in pieces, never as a whole.
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
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from labkit.errors import DataError, list_briefly
from labkit.params.tables import Table

PIECE_BYTES = 1 << 20


PACKING_ERRORS = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, OSError)


class BoundedStream(io.RawIOBase):
    """A decompressed file with a size limit in bytes, whatever size the compressed file declares."""

    def __init__(self, inner: BinaryIO, most: int, where: str) -> None:
        super().__init__()
        self.inner, self.most, self.where, self.n_bytes = inner, most, where, 0

    def readable(self) -> bool:
        """Return True: the stream can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer and return the number of bytes.

        Raises
        ------
        DataError
            The file is too large, truncated or damaged.
        """
        try:
            piece = self.inner.read(len(buffer))
        except PACKING_ERRORS as error:
            raise DataError(f"{self.where}: compressed file truncated or damaged: copy it again") from error
        self.n_bytes += len(piece)
        if self.n_bytes > self.most:
            raise DataError(
                f"{self.where}: more than {self.most:,} bytes uncompressed: raise `max_bytes` of the table if that "
                "is expected"
            )
        buffer[: len(piece)] = piece
        return len(piece)


class Utf8Stream(io.RawIOBase):
    """Text in any encoding as UTF-8 bytes, without a byte-order mark."""

    def __init__(self, inner: BinaryIO, encoding: str) -> None:
        super().__init__()
        self.inner, self.rest = inner, b""
        self.decoder = codecs.getincrementaldecoder(encoding)()
        self.is_first = True

    def readable(self) -> bool:
        """Return True: the stream can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer and return the number of bytes."""
        while not self.rest:
            piece = self.inner.read(PIECE_BYTES)
            decoded = self.decoder.decode(piece, final=not piece)
            if self.is_first and decoded:
                decoded, self.is_first = decoded.removeprefix("\ufeff"), False
            self.rest = decoded.encode("utf-8")
            if not piece:
                break
        taken, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@contextmanager
def open_bytes(path: Path, *, most_bytes: int, where: str) -> Iterator[BinaryIO]:
    """Yield a file as decompressed bytes; its extension determines the compression.

    Raises
    ------
    DataError
        The file is not compressed as its extension indicates, truncated, encrypted, an archive of several files, or
        too large.
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
    """Yield a file as text, with unchanged line ends.

    Raises
    ------
    DataError
        See `open_bytes`.
    """
    with open_bytes(path, most_bytes=table.max_bytes, where=where) as stream:
        yield io.TextIOWrapper(io.BufferedReader(Utf8Stream(stream, table.encoding)), encoding="utf-8", newline="")


@contextmanager
def open_member(raw: BinaryIO, where: str) -> Iterator[BinaryIO]:
    """Yield the only file of a zip archive."""
    try:
        archive = zipfile.ZipFile(raw)
    except zipfile.BadZipFile as error:
        raise DataError(f"{where}: not a zip archive, or truncated: copy it again") from error
    with archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(names) != 1:
            found = list_briefly(names) if names else "nothing"
            raise DataError(f"{where}: {len(names)} files in the archive ({found}): unpack the right one")
        try:
            member = archive.open(names[0])
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or compressed in an unknown way
            is_encrypted = archive.getinfo(names[0]).flag_bits & 1
            what = "encrypted" if is_encrypted else "compressed with an unsupported method"
            raise DataError(f"{where}: the file in the archive is {what}: unpack it") from error
        with member:
            yield member  # type: ignore[misc]
