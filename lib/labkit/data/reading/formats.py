"""The formats that tables come in: how a file shows which one it is, and the way out where it is not read.

First bytes count before names. Not how a file of a format is read: that is `labkit.data.reading.raw_table`.
"""

import mmap
import re
import zipfile
from pathlib import Path

from labkit.errors import DataError


def name_file(format_name: str) -> str:
    """Return a format with its article.

    >>> name_file("Parquet"), name_file("Arrow"), name_file("SPSS")
    ('a Parquet file', 'an Arrow file', 'an SPSS file')
    """
    return f"{'an' if format_name[0] in 'AO' or format_name == 'SPSS' else 'a'} {format_name} file"


DELIMITERS = (",", ";", "\t", "|", "^", ":")


HEAD_BYTES = 1 << 16


TEXT = (".csv", ".tsv", ".txt", ".tab", ".dat", ".data")


COMPRESSED = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ", ".zip": b"PK\x03\x04"}
"""Endings of compressed files, and what such files begin with."""


SPREADSHEETS = {".xlsx": "Excel", ".xlsm": "Excel", ".xlsb": "Excel", ".xls": "Excel", ".ods": "OpenDocument"}


JSON = (".json", ".jsonl", ".ndjson")


ARFF = (".arff",)


COLUMNAR = {".parquet": "Parquet", ".pq": "Parquet", ".feather": "Arrow", ".arrow": "Arrow", ".orc": "ORC"}


LABELLED = {
    ".dta": "Stata", ".sav": "SPSS", ".zsav": "SPSS", ".por": "SPSS", ".sas7bdat": "SAS", ".xpt": "SAS",
}  # fmt: skip
"""Endings of files of statistics programs, which may hold labels for their codes."""


TYPED = (*COLUMNAR, *LABELLED, *ARFF)
"""Endings of files that hold the types of their columns."""


ENDINGS = (*TEXT, *SPREADSHEETS, *JSON, *TYPED, *COMPRESSED)
"""Endings of all files that are read."""


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
"""First bytes of the binary formats that are read, and the ending of each."""


OLE = b"\xd0\xcf\x11\xe0"
"""First bytes of old Office files, and of new ones that are encrypted."""


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
"""First bytes of formats that are not read: the name of each, and the way out."""


UNREAD_ENDINGS = {
    ".rds": UNREAD[b"RDX"], ".rda": UNREAD[b"RDX"], ".rdata": UNREAD[b"RDX"],
    ".sas7bcat": ("a catalog of SAS formats", "name the .sas7bdat file that holds the rows"),
    ".dbf": ("a dBASE file", "save it as CSV or Excel"),
    ".numbers": ("an Apple Numbers document", "export it as CSV or Excel"),
}  # fmt: skip
"""Endings of formats that are not read and cannot be recognised by their first bytes."""


PARTS = {
    "word/": ("a Word document", "get the table itself as CSV or Excel"),
    "ppt/": ("a PowerPoint document", "get the table itself as CSV or Excel"),
    "Index/Document.iwa": UNREAD_ENDINGS[".numbers"],
}
"""Members of zip archives that show what they are."""


def find_ending(path: Path, where: str) -> str:
    """Return the ending that a file should have, by its first bytes and then by its name, e.g. `.csv.gz`.

    Raises
    ------
    DataError
        It is of a format that is not read, with the way out.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
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
        return named  # which its reader will refuse with what is wrong
    check_head(head, path, where)
    return find_text_ending(path.suffixes, head)


def find_binary_ending(path: Path, head: bytes, where: str) -> str:
    """Return the ending of a binary format that is read; empty for text files."""
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
    """Return the ending of the binary format that first bytes belong to; empty if they are of none that is read."""
    # A table of text may begin with a column called PAR1 or ORCID.
    is_binary = CONTROL.search(head) is not None
    found = (ending for magic, ending in SIGNATURES.items() if head.startswith(magic) and (is_binary or len(magic) > 8))
    return next(found, "")


def check_unread(head: bytes, where: str) -> None:
    """Refuse a binary format that is not read, naming it and the way out."""
    if not CONTROL.search(head):
        return
    for magic, (name, remedy) in UNREAD.items():
        if head.startswith(magic):
            raise refuse_format(where, name, remedy)
    if PICKLE.match(head):
        raise refuse_format(where, "a Python pickle", "load it in Python and write it with to_parquet")


def find_archive(path: Path, where: str) -> str:
    """Return the ending of a spreadsheet that is a zip archive; empty for any other archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            kind = archive.read("mimetype")[:100] if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError):
        return path.suffix.lower() if path.suffix.lower() in SPREADSHEETS else ""
    for part, (name, remedy) in PARTS.items():
        if any(member.startswith(part) for member in names):
            raise refuse_format(where, name, remedy)
    if b"opendocument" in kind:
        if b"spreadsheet" not in kind:
            raise refuse_format(
                where, "an OpenDocument file that is no spreadsheet", "get the table as CSV or a spreadsheet"
            )
        return ".ods"
    if any(member.endswith(".npy") for member in names):
        raise refuse_format(where, *UNREAD[b"\x93NUMPY"])
    if any(member.startswith("xl/") for member in names):
        return ".xlsb" if "xl/workbook.bin" in names else ".xlsx"
    return ""


def find_office(path: Path, where: str) -> str:
    """Return the ending of an old Office file that is a workbook, refusing others."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        streams = ("EncryptedPackage", "Workbook", "Book")
        found = [name for name in streams if content.find(name.encode("utf-16-le")) >= 0]
    if "EncryptedPackage" in found:
        raise DataError(f"{where}: protected by a password: save it without one")
    if not found and path.suffix.lower() not in SPREADSHEETS:
        raise refuse_format(where, "an old Office file that is no workbook", "save the table as .xlsx or CSV")
    return ".xls"


def list_inner(path: Path, packing: str) -> list[str]:
    """Return the ending of the only file of a zip archive; none for what else is compressed."""
    if packing != ".zip":
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except zipfile.BadZipFile:
        return []
    return [Path(names[0]).suffix] if len(names) == 1 else []


def find_text_ending(suffixes: list[str], head: bytes) -> str:
    """Return the ending of a text file by what it begins with, and by the endings of its name."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    named = [suffix.lower() for suffix in suffixes]
    if looks_like_json(start) and not (start.startswith(b"{") and any(ending in TEXT[:2] for ending in named)):
        return next((ending for ending in named if ending in JSON), ".json")
    if re.match(rb"(%[^\n]*\n|\s)*@relation\b", start[:4096], re.IGNORECASE):
        return ".arff"
    return next((ending for ending in named if ending in (*TEXT, *JSON, *ARFF)), ".csv")


def looks_like_json(start: bytes) -> bool:
    """Return whether a text begins like records in JSON.

    >>> looks_like_json(b'[{"a": 1}]'), looks_like_json(b'{"a": 1}'), looks_like_json(b"[1],2")
    (True, True, False)
    """
    return re.match(rb'\{\s*["}]|\[\s*[\[{]', start) is not None


def check_head(head: bytes, path: Path, where: str) -> None:
    """Refuse a file whose first bytes show that it is no text table, saying what it is."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        raise DataError(f"{where} is empty (0 bytes): is it the right file?")
    for ending, magic in COMPRESSED.items():
        if head.startswith(magic):
            kind = "gzip" if ending == ".gz" else ending[1:]
            raise DataError(f"{where}: {kind} data: rename it to {path.name}{ending}")
    if ending := find_signature(head):
        name = (COLUMNAR | LABELLED)[ending]
        raise DataError(f"{where}: not a text file ({name}): give it the ending of what it is, {ending}")
    check_unread(head, where)
    if head.startswith(OLE):
        raise DataError(f"{where}: not a text file (an old Office file): give it the ending of what it is, .xls")
    check_text_head(head, start, path, where)


def check_text_head(head: bytes, start: bytes, path: Path, where: str) -> None:
    """Refuse text that is no table: a page, a pointer to another file, blanks."""
    if start.startswith((b"<!doctype html", b"<html", b"<table")):
        raise DataError(
            f"{where}: this is an HTML page, perhaps an error shown instead of the file: download it again, or save "
            "the table in it as CSV or Excel"
        )
    if start.startswith(b"<?xml"):
        raise refuse_format(where, "an XML file", "save the table in it as CSV or Excel, or use pandas.read_xml")
    if looks_like_json(start) and start.startswith(b"[") and find_format(path) not in JSON:
        raise DataError(f"{where}: a JSON file: give it the ending .json")
    if start.startswith(b"version https://git-lfs"):
        raise DataError(f"{where}: a Git LFS pointer, not the file: run `git lfs pull`")
    if start.startswith((b"outs:\n- md5:", b"outs:\r\n- md5:", b"outs:\n- hash:", b"md5:")) and b"path:" in head:
        raise DataError(f"{where}: a DVC pointer, not the file: run `dvc pull`")
    if not start.strip(b"\x00"):
        raise DataError(f"{where} is empty (blanks only, {len(head):,} bytes): is it the right file?")


def refuse_format(where: str, name: str, remedy: str) -> DataError:
    """Return the error about a format that is not read."""
    return DataError(f"{where}: {name}, which is not read: {remedy}")


def find_format(path: Path) -> str:
    """Return the ending that says how a file is read: its last one, or the one before that of a compressed file.

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
