"""Detect the format of a table file, and suggest a conversion if the format is not supported.

First bytes take precedence over file names. For reading a file, see `labkit.data.reading.raw_table`.
"""

import mmap
import os
import re
import zipfile
from pathlib import Path

from labkit.errors import DataError


def name_file(format_name: str) -> str:
    """Return the name of a format with its article.

    >>> name_file("Parquet"), name_file("Arrow"), name_file("SPSS")
    ('a Parquet file', 'an Arrow file', 'an SPSS file')
    """
    return f"{'an' if format_name[0] in 'AO' or format_name == 'SPSS' else 'a'} {format_name} file"


DELIMITERS = (",", ";", "\t", "|", "^", ":")


HEAD_BYTES = 1 << 16


TEXT = (".csv", ".tsv", ".txt", ".tab", ".dat", ".data")


COMPRESSED = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ", ".zip": b"PK\x03\x04"}
"""Extensions of compressed files, and their first bytes."""


SPREADSHEETS = {".xlsx": "Excel", ".xlsm": "Excel", ".xlsb": "Excel", ".xls": "Excel", ".ods": "OpenDocument"}


JSON = (".json", ".jsonl", ".ndjson")


ARFF = (".arff",)


COLUMNAR = {".parquet": "Parquet", ".pq": "Parquet", ".feather": "Arrow", ".arrow": "Arrow", ".orc": "ORC"}


LABELLED = {
    ".dta": "Stata", ".sav": "SPSS", ".zsav": "SPSS", ".por": "SPSS", ".sas7bdat": "SAS", ".xpt": "SAS",
}  # fmt: skip
"""Extensions of files of statistics programs, which may hold labels for their codes."""


TYPED = (*COLUMNAR, *LABELLED, *ARFF)
"""Extensions of files with typed columns."""


ENDINGS = (*TEXT, *SPREADSHEETS, *JSON, *TYPED, *COMPRESSED)
"""Extensions of all supported files."""


SIGNATURES = {
    b"PAR1": ".parquet",
    b"ARROW1": ".feather",
    b"ORC": ".orc",
    b"<stata_dta>": ".dta",
    b"$FL2": ".sav",
    b"$FL3": ".zsav",
    b"HEADER RECORD*******LIB": ".xpt",
    bytes(12) + b"\xc2\xea\x81\x60\xb3\x14\x11\xcf\xbd\x92\x08\x00\x09\xc7\x31\x8c": ".sas7bdat",
}
"""First bytes of the supported binary formats, and the extension of each."""


OLE = b"\xd0\xcf\x11\xe0"
"""First bytes of legacy Office files, and of encrypted new ones."""


PICKLE = re.compile(rb"\x80[\x02-\x05][\x95c}\]\x8c(]")


CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


TO_PARQUET = "write it as Parquet or CSV with the program that made it"


IN_PANDAS = "write it as Parquet, e.g. pandas.{}(…).to_parquet(…)"


UNREAD = {
    b"\x89HDF": ("an HDF5 file", IN_PANDAS.format("read_hdf")),
    b"SQLite format 3": ("an SQLite database", "read a query of it with --sql and --database-env"),
    b"%PDF": ("a PDF", "get the table itself as CSV or Excel"),
    b"FEA1": ("a Feather file of version 1", IN_PANDAS.format("read_feather")),
    b"PARE": ("an encrypted Parquet file", "write it without encryption"),
    b"Obj\x01": ("an Avro file", TO_PARQUET),
    b"\x93NUMPY": ("a NumPy array", "give its columns names and write it as Parquet or CSV"),
    b"MATLAB 5": ("a MATLAB file", "write it with writetable(…, 'table.csv')"),
    b"\x00\x01\x00\x00Standard": ("an Access database", "export the table as CSV or Excel"),
    b"RDX": ("an R data file", "write it with write.csv(…) or arrow::write_parquet(…)"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it, or compress the file with gzip"),
    b"Rar!": ("a RAR archive", "unpack it, or compress the file with gzip"),
    b"\x28\xb5\x2f\xfd": ("a file compressed with Zstandard", "unpack it, or compress it with gzip"),
    b"\x89PNG": ("a picture", "get the table itself as CSV or Excel"),
    b"\xff\xd8\xff": ("a picture", "get the table itself as CSV or Excel"),
}  # fmt: skip
"""First bytes of unsupported formats, with the name of each and the fix."""


UNREAD_ENDINGS = {
    ".rds": UNREAD[b"RDX"], ".rda": UNREAD[b"RDX"], ".rdata": UNREAD[b"RDX"],
    ".sas7bcat": ("a catalog of SAS formats", "name the .sas7bdat file that holds the rows"),
    ".dbf": ("a dBASE file", "save it as CSV or Excel"),
    ".numbers": ("an Apple Numbers document", "export it as CSV or Excel"),
}  # fmt: skip
"""Extensions of unsupported formats that cannot be recognised by their first bytes."""


OFFICE_PARTS = {
    "word/": ("a Word document", "get the table itself as CSV or Excel"),
    "ppt/": ("a PowerPoint document", "get the table itself as CSV or Excel"),
    "Index/Document.iwa": UNREAD_ENDINGS[".numbers"],
}
"""Members of zip archives by which unsupported documents are recognised."""


def find_ending(path: Path, where: str) -> str:
    """Return the extension that a file should have, by its first bytes and then by its name, e.g. `.csv.gz`.

    Raises
    ------
    DataError
        The file is empty or cannot be read, or its format is not supported; names the fix.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({os.strerror(error.errno or 0)}): is it the right file?") from error
    if not head:
        raise DataError(f"{where} is empty (0 bytes): is it the right file?")
    named = path.suffix.lower()
    if named in UNREAD_ENDINGS:
        raise refuse_format(where, *UNREAD_ENDINGS[named])
    if found := find_binary_ending(path, head, where):
        return found
    packing = next((ending for ending, magic in COMPRESSED.items() if head.startswith(magic)), "")
    if packing:
        return find_text_ending([*path.suffixes, *list_inner(path, packing)], b"") + packing
    if (named in TYPED and named not in ARFF) or (named in SPREADSHEETS and b"\0" in head):
        return named  # its reader will report what is wrong
    check_head(head, path, where)
    return find_text_ending(path.suffixes, head)


def find_binary_ending(path: Path, head: bytes, where: str) -> str:
    """Return the extension of a supported binary format; empty for text files and other archives."""
    if ending := find_signature(head):
        return ending
    if b"ASCII SPSS PORT FILE" in head[:600]:
        return ".por"
    named = path.suffix.lower()
    if named == ".dta" and re.match(rb"[\x66-\x73][\x01\x02]\x01\x00", head):  # up to version 115
        return named
    if head.startswith(COMPRESSED[".zip"]):
        return find_archive(path, where)
    if head.startswith(OLE):
        return find_office(path, where)
    check_unread(head, where)
    return ""


def find_signature(head: bytes) -> str:
    """Return the extension of the supported binary format with these first bytes, or an empty string."""
    # A text table may begin with a column named PAR1 or ORCID.
    is_binary = CONTROL.search(head) is not None
    found = (ending for magic, ending in SIGNATURES.items() if head.startswith(magic) and (is_binary or len(magic) > 8))
    return next(found, "")


def check_unread(head: bytes, where: str) -> None:
    """Reject an unsupported binary format, with its name and the fix."""
    if not CONTROL.search(head):
        return
    for magic, (name, remedy) in UNREAD.items():
        if head.startswith(magic):
            raise refuse_format(where, name, remedy)
    if PICKLE.match(head):
        raise refuse_format(where, "a Python pickle", "load it in Python and write it with to_parquet")


def find_archive(path: Path, where: str) -> str:
    """Return the extension of a zipped spreadsheet; empty for other archives; reject other documents."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            kind = archive.read("mimetype")[:100] if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError):
        return path.suffix.lower() if path.suffix.lower() in SPREADSHEETS else ""
    for part, (name, remedy) in OFFICE_PARTS.items():
        if any(member.startswith(part) for member in names):
            raise refuse_format(where, name, remedy)
    if b"opendocument" in kind:
        if b"spreadsheet" not in kind:
            raise refuse_format(
                where, "an OpenDocument file that is not a spreadsheet", "get the table as CSV or a spreadsheet"
            )
        return ".ods"
    if any(member.endswith(".npy") for member in names):
        raise refuse_format(where, *UNREAD[b"\x93NUMPY"])
    if any(member.startswith("xl/") for member in names):
        return ".xlsb" if "xl/workbook.bin" in names else ".xlsx"
    return ""


def find_office(path: Path, where: str) -> str:
    """Return the extension of a legacy Office workbook; reject other legacy and encrypted files."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        streams = ("EncryptedPackage", "Workbook", "Book")
        found = [name for name in streams if content.find(name.encode("utf-16-le")) >= 0]
    if "EncryptedPackage" in found:
        raise DataError(f"{where}: protected by a password: save it without a password")
    if not found and path.suffix.lower() not in SPREADSHEETS:
        raise refuse_format(where, "an old Office file that is not a workbook", "save the table as .xlsx or CSV")
    return ".xls"


def list_inner(path: Path, packing: str) -> list[str]:
    """Return the extension of the only file in a zip archive as a list; empty for other files."""
    if packing != ".zip":
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except zipfile.BadZipFile:
        return []
    return [Path(names[0]).suffix] if len(names) == 1 else []


def find_text_ending(suffixes: list[str], head: bytes) -> str:
    """Return the extension of a text file by its first bytes, then by the extensions of its name."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    named = [suffix.lower() for suffix in suffixes]
    if looks_like_json(start) and not (start.startswith(b"{") and any(ending in TEXT[:2] for ending in named)):
        return next((ending for ending in named if ending in JSON), ".json")
    if re.match(rb"(%[^\n]*\n|\s)*@relation\b", start[:4096], re.IGNORECASE):
        return ".arff"
    return next((ending for ending in named if ending in (*TEXT, *JSON, *ARFF)), ".csv")


def looks_like_json(start: bytes) -> bool:
    """Return whether a text file begins like JSON records.

    >>> looks_like_json(b'[{"a": 1}]'), looks_like_json(b'{"a": 1}'), looks_like_json(b"[1],2")
    (True, True, False)
    """
    return re.match(rb'\{\s*["}]|\[\s*[\[{]', start) is not None


def check_head(head: bytes, path: Path, where: str) -> None:
    """Raise an error if the first bytes show that a file is not a text table.

    Raises
    ------
    DataError
        The file is empty, binary, compressed, or text that is not a table; names what it is and the fix.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        raise DataError(f"{where} is empty (0 bytes): is it the right file?")
    for ending, magic in COMPRESSED.items():
        if head.startswith(magic):
            kind = "gzip" if ending == ".gz" else ending[1:]
            raise DataError(f"{where}: {kind} data: rename it to {path.name}{ending}")
    if ending := find_signature(head):
        name = (COLUMNAR | LABELLED)[ending]
        raise DataError(f"{where}: not a text file ({name}): rename it with its true extension, {ending}")
    check_unread(head, where)
    if head.startswith(OLE):
        raise DataError(f"{where}: not a text file (an old Office file): rename it with its true extension, .xls")
    check_text_head(head, start, path, where)


def check_text_head(head: bytes, start: bytes, path: Path, where: str) -> None:
    """Reject text that is not a table: HTML, XML, JSON, a pointer to another file, or blanks."""
    if start.startswith((b"<!doctype html", b"<html", b"<table")):
        raise DataError(
            f"{where}: this is an HTML page, perhaps an error shown instead of the file: download it again, or save "
            "the table in it as CSV or Excel"
        )
    if start.startswith(b"<?xml"):
        raise refuse_format(where, "an XML file", "save the table in it as CSV or Excel, or use pandas.read_xml")
    if looks_like_json(start) and start.startswith(b"[") and find_format(path) not in JSON:
        raise DataError(f"{where}: a JSON file: rename it with the extension .json")
    if start.startswith(b"version https://git-lfs"):
        raise DataError(f"{where}: a Git LFS pointer, not the file: run `git lfs pull`")
    if start.startswith((b"outs:\n- md5:", b"outs:\r\n- md5:", b"outs:\n- hash:", b"md5:")) and b"path:" in head:
        raise DataError(f"{where}: a DVC pointer, not the file: run `dvc pull`")
    if not start.strip(b"\x00"):
        raise DataError(f"{where} is empty (blanks only, {len(head):,} bytes): is it the right file?")


def refuse_format(where: str, name: str, remedy: str) -> DataError:
    """Return the error for an unsupported format."""
    return DataError(f"{where}: {name}, which is not supported: {remedy}")


def find_format(path: Path) -> str:
    """Return the extension that determines the reader: the last one, or the one before the compression suffix.

    >>> [find_format(Path(name)) for name in ("a.csv", "a.JSON.gz", "a.xlsx", "a.gz")]
    ['.csv', '.json', '.xlsx', '.csv']
    """
    endings = [suffix.lower() for suffix in path.suffixes]
    if endings and endings[-1] in COMPRESSED:
        return next((ending for ending in reversed(endings[:-1]) if ending in (*JSON, *ARFF)), ".csv")
    return endings[-1] if endings and endings[-1] in ENDINGS else ".csv"


def name_format(path: Path) -> str:
    """Return the name of a file's format, e.g. `Stata`; empty for delimited text.

    >>> name_format(Path("a.dta")), name_format(Path("a.csv"))
    ('Stata', '')
    """
    ending = find_format(path)
    names = {**SPREADSHEETS, **COLUMNAR, **LABELLED, **dict.fromkeys(JSON, "JSON"), **dict.fromkeys(ARFF, "ARFF")}
    return names.get(ending, "")
