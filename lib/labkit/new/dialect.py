"""Detect how a user's file is read: format, encoding, delimiter, header and decimal character.

The whole file is read where that is cheap, and its beginning otherwise. The findings become a `Table` in the params;
from then on reading is strict, see `labkit.data.reading.raw_table`.
"""

import codecs
import csv
import io
import itertools
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from labkit.data.reading.column_types import guess_separators
from labkit.data.reading.encoding import BYTE_ORDER_MARKS, guess_encoding, list_sample_words
from labkit.data.reading.formats import (
    ARFF,
    DELIMITERS,
    ENDINGS,
    HEAD_BYTES,
    JSON,
    LABELLED,
    SPREADSHEETS,
    check_head,
    find_format,
    name_format,
)
from labkit.data.reading.header import MOST_HEADER_ROWS, count_name_rows, is_data, join_rows, looks_like_data
from labkit.data.reading.raw_table import RawTable
from labkit.data.reading.text_scan import scan_text
from labkit.data.reading.text_stream import PIECE_BYTES, Utf8Stream, open_bytes
from labkit.errors import DataError, MissingDataError, ParamsError, list_briefly, name_nearest
from labkit.names import normalize_spaces
from labkit.new.options import Choices, ParamsDecision
from labkit.params.tables import Table

SAMPLE_CHARACTERS = 1 << 18


MOST_PREAMBLE = 30


LARGEST_BYTES = Table.model_fields["max_bytes"].default


def check_source_file(path: Path, *, follow: bool) -> Path:
    """Return a path if it is a regular file that can be read.

    Raises
    ------
    ParamsError
        It is an address, a directory, a device, or a symbolic link without `follow`.
    MissingDataError
        It does not exist or cannot be read.
    """
    if address := re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/+(.*)", str(path)):
        raise ParamsError(
            f"{address[1]}://{address[2]}: a URL, not a file: download it first, or read a database with --sql"
        )
    if path.is_symlink() and not follow:
        raise ParamsError(f"{path}: a symbolic link to {path.readlink()}: name that file, or add --follow")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        names = [near.name for near in path.parent.glob("*")] if path.parent.is_dir() else []
        raise MissingDataError(f"{path}: no such file: {name_nearest(path.name, names)}") from error
    except OSError as error:
        raise MissingDataError(f"{path}: {error.strerror}: name a file that can be read") from error
    if stat.S_ISDIR(mode):
        raise ParamsError(f"{path}: a folder: name the files in it, each with --data")
    if not stat.S_ISREG(mode):
        raise ParamsError(f"{path}: not a regular file: write its content to a file first")
    if not os.access(path, os.R_OK):
        raise MissingDataError(f"{path}: permission denied: change its mode or owner")
    return path


def make_file_name(path: Path, ending: str, taken: set[str]) -> str:
    """Return a plain and unique file name for a user's file.

    >>> from pathlib import Path
    >>> make_file_name(Path("My Data (1).CSV"), ".csv", set()), make_file_name(Path("a.gz"), ".csv.gz", {"a.csv.gz"})
    ('My_Data_1.csv', 'a_2.csv.gz')
    """
    known = {*ENDINGS, ".dvc"}
    stem = path.name
    while (shorter := Path(stem)).suffix.lower() in known:
        stem = shorter.stem
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", stem).strip("_")[:80] or "table"
    name, number = f"{stem}{ending}", 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}{ending}"
    return name


def find_reading(
    path: Path, where: str, target: str, choices: Choices
) -> tuple[dict[str, object], list[ParamsDecision]]:
    """Return how to read a file, as fields of a `Table`, and the decisions with their reasons.

    Raises
    ------
    DataError
        It is not a text file, or not one in its encoding.
    ParamsError
        An option is not valid, or no column has the name of the target and the first row looks like data.
    """
    if name_format(path):
        return find_header_only(path, where, target, choices)
    encoding, decisions = find_encoding(path, where, choices)
    if (ending := Path(where).suffix.lower()) in SPREADSHEETS:
        reason = f"it is one, though its name ends in {ending}"
        decisions.insert(0, ParamsDecision("format", "text", reason, is_warning=True))
    sample = normalize_spaces(read_text_sample(path, where, encoding))
    delimiter, quote, skip = find_dialect(sample, target, choices)
    fields: dict[str, object] = {"encoding": encoding, "delimiter": delimiter, "quote": quote, "skip_lines": skip}
    rows = list(read_rows(sample, delimiter, quote, skip))
    if r"\"" in sample and quote == '"' and not re.search(r'\\"(,|;|\t|\||\r?\n)', sample):
        fields["escape"] = "\\"
    width = len(rows[0]) if rows else 0
    shown = {"\t": "tab"}.get(delimiter, delimiter)
    reason = "given" if choices.delimiter else f"{width} cells in the first row, and in those below it"
    decisions.append(ParamsDecision("delimiter", shown, reason, ("delimiter",)))
    if skip:
        decisions.append(ParamsDecision("skipped lines", str(skip), "come before the header", ("skip_lines",)))
    header, header_decisions = find_header(rows, target, where, choices)
    return fields | header, decisions + header_decisions


def find_header_only(
    path: Path, where: str, target: str, choices: Choices
) -> tuple[dict[str, object], list[ParamsDecision]]:
    """Return what remains to be detected in a file that is not delimited text."""
    ending, format_name = find_format(path), name_format(path)
    found = [ParamsDecision("format", format_name, f"the file begins as {format_name} files do")]
    if ending in SPREADSHEETS:
        fields, decisions = find_sheet_reading(path, where, target, choices)
        return fields, [*found, *decisions]
    if ending in (*JSON, *ARFF):
        encoding, decisions = find_encoding(path, where, choices)
        return {"encoding": encoding}, [*found, *decisions]
    if ending in LABELLED:
        fields, decisions = find_labelled_reading(path, where, choices)
        return fields, [*found, *decisions]
    return {}, found


def find_labelled_reading(path: Path, where: str, choices: Choices) -> tuple[dict[str, object], list[ParamsDecision]]:
    """Return the labelled columns that are read as numbers: those in which only some of the values have a label."""
    from labkit.data.reading.labelled import LabelledReader

    fields: dict[str, object] = {"encoding": choices.encoding} if choices.encoding else {}
    reader = LabelledReader(path, Table.model_validate({"path": path.name, **fields}), where)
    codes = [name for name in reader.partial if name in reader.labels]
    named = [name for name in reader.labels if name not in codes]
    decisions = []
    if named:
        reason = "every code has a label, which becomes the name of the category"
        decisions.append(ParamsDecision("columns with labels", list_briefly(named), reason))
    if codes:
        fields["codes"] = codes
        reason = "some values have no label, so all are read as numbers"
        decisions.append(
            ParamsDecision("columns with labels", list_briefly(codes), reason, ("codes",), is_warning=True)
        )
    return fields, decisions


def find_sheet_reading(
    path: Path, where: str, target: str, choices: Choices
) -> tuple[dict[str, object], list[ParamsDecision]]:
    """Return the number of rows above the table of a sheet, and its header."""
    from labkit.data.reading.spreadsheet import Spreadsheet, find_title_rows

    table = Table(path=path.name, sheet=choices.sheet, header=False)
    given = choices.reading.get("skip_lines")
    if not isinstance(given, int | None):
        raise ParamsError(f"--read skip_lines={given}: give a whole number")
    skip = find_title_rows(path, table, where, target) if given is None else given
    # The first rows may differ in length if all of them hold names.
    table = table.model_copy(update={"skip_lines": skip, "header_rows": MOST_HEADER_ROWS})
    sheet = Spreadsheet(path, table, where)
    rows = [[normalize_spaces(cell) for cell in row] for row in itertools.islice(sheet.read_rows(), 50)]
    header, found = find_header(rows, target, where, choices)
    if skip and given is None:
        found.append(ParamsDecision("skipped rows", str(skip), "come before the header", ("skip_lines",)))
    return {"sheet": choices.sheet, "skip_lines": skip} | header, found


def find_encoding(path: Path, where: str, choices: Choices) -> tuple[str, list[ParamsDecision]]:
    """Return the encoding of a text file: its byte-order mark, UTF-8 if every byte fits, else the most likely one."""
    if choices.encoding:
        return choices.encoding, [ParamsDecision("encoding", choices.encoding, "given", ("encoding",))]
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path, most_bytes=LARGEST_BYTES, where=where) as stream:
        head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]  # type: ignore[attr-defined]
        marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
        if marked:
            return marked, [ParamsDecision("encoding", marked, "given by a byte-order mark", ("encoding",))]
        check_head(head, path, where)
        piece = head
        try:
            while piece := stream.read(PIECE_BYTES):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            found = guess_encoding(piece or head)
            if found is None:
                raise DataError(f"{where}: not a text file: name its encoding with --encoding if it is one") from None
            shown = list_briefly(map(repr, list_sample_words((piece or head).decode(found, errors="ignore"))))
            reason = f"not UTF-8; in this encoding it holds {shown}: if that is wrong, use --encoding"
            return found, [ParamsDecision("encoding", found, reason, ("encoding",), is_warning=True)]
    if head.count(0) > len(head) / 5 and (wide := guess_encoding(head)):
        return wide, [ParamsDecision("encoding", wide, "every second byte is zero", ("encoding",))]
    return "utf-8", [ParamsDecision("encoding", "utf-8", "every byte fits")]


def read_text_sample(path: Path, where: str, encoding: str) -> str:
    """Return the beginning of a text file, cut at the end of a line."""
    with open_bytes(path, most_bytes=LARGEST_BYTES, where=where) as stream:
        lines = io.TextIOWrapper(io.BufferedReader(Utf8Stream(stream, encoding)), encoding="utf-8", newline="")
        try:
            sample = lines.read(SAMPLE_CHARACTERS)
        except UnicodeError:
            scan_text(path, Table(path=path.name, encoding=encoding), where)  # raises an error that names the line
            raise
    if len(sample) == SAMPLE_CHARACTERS and (end := max(sample.rfind("\n"), sample.rfind("\r"))) > 0:
        sample = sample[: end + 1]
    return sample


def read_rows(sample: str, delimiter: str, quote: str, skip: int) -> Iterator[list[str]]:
    """Yield the rows of a sample up to the first that cannot be parsed, without blank ones."""
    lines = io.StringIO(sample, newline="")
    for _ in range(skip):
        lines.readline()
    if quote:
        reader = csv.reader(lines, delimiter=delimiter, quotechar=quote)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    try:
        yield from (row for row in reader if row)
    except csv.Error:
        return


def find_dialect(sample: str, target: str, choices: Choices) -> tuple[str, str, int]:
    """Return the delimiter, the quote character and the number of lines before the table."""
    first, _, _ = sample.partition("\n")
    declared = re.fullmatch(r"sep=(.)\s*", first)
    candidates = [choices.delimiter] if choices.delimiter else [declared[1]] if declared else list(DELIMITERS)
    quote = "'" if '"' not in sample and len(re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|\r\n])", sample)) > 20 else '"'
    start = 1 if declared else 0
    best: tuple[float, ...] = ()
    found = (candidates[0], quote, start)
    for order, delimiter in enumerate(candidates):
        skip = find_start(sample, target, delimiter, quote, start)
        rows = list(read_rows(sample, delimiter, quote, skip))[:2000]
        if not rows:
            continue
        width, n_alike = Counter(map(len, rows)).most_common(1)[0]
        names_target = any(cell.strip() == target for cell in rows[0])
        # A row that names the target shows where the table begins and its delimiter. Without such a row, the best
        # delimiter splits most rows into the same number of cells, at least two.
        score = (names_target and width > 1, width > 1 and n_alike / len(rows), names_target, width, -order)
        if not best or tuple(map(float, score)) > best:
            best, found = tuple(map(float, score)), (delimiter, quote, skip)
    return found


def find_start(sample: str, target: str, delimiter: str, quote: str, start: int) -> int:
    """Return the number of lines before the header, which is the row that names the target."""
    first = next(read_rows(sample, delimiter, quote, start), [])
    if target in (cell.strip() for cell in first):
        return start
    lines = re.split(r"\r\n|\r|\n", sample)[:MOST_PREAMBLE]
    named = next((n for n, line in enumerate(lines) if has_cell(line, target, delimiter, quote)), None)
    return named if named and is_preamble(lines[:named], lines[named], delimiter, quote) else start


def has_cell(line: str, target: str, delimiter: str, quote: str) -> bool:
    """Return whether one cell of a line is the target's name."""
    if target not in line:
        return False
    rows = csv.reader([line], delimiter=delimiter, quotechar=quote)
    return any(cell.strip() == target for row in rows for cell in row)


def is_preamble(lines: list[str], header: str, delimiter: str, quote: str) -> bool:
    """Return whether the lines before the header are a preamble: comments, a title or blank lines."""
    if sum(line.count(quote) for line in lines) % 2:
        return False  # inside a cell that spans several lines
    width = header.count(delimiter)
    return all(line.startswith(("#", "sep=")) or line.count(delimiter) < width or not line.strip() for line in lines)


def find_header(
    rows: list[list[str]], target: str, where: str, choices: Choices
) -> tuple[dict[str, object], list[ParamsDecision]]:
    """Return whether there is a header, judged by the target's name, how many rows it has, and if names are missing."""
    n_rows, decisions = find_header_rows(rows, choices)
    first = join_rows(rows[:n_rows]) if rows else []
    fields: dict[str, object] = {"header_rows": n_rows} if n_rows > 1 else {}
    if choices.header is not None:
        decisions.insert(0, ParamsDecision("header", "yes" if choices.header else "no", "given", ("header",)))
        return {**fields, "header": choices.header, **find_unnamed(first, choices.header)}, decisions
    cells = [cell.strip() for cell in first]
    is_place = re.fullmatch(r"column_[0-9]+", target) is not None and target not in cells
    if is_place or (target not in cells and is_data([first, *rows[n_rows:]])):
        if not is_place:
            shown = ", ".join(first[:4])
            raise ParamsError(
                f"{where}: no column {target!r}: the first row ({shown} …) looks like data: add --no-header, and name "
                "the target by its position, e.g. column_5"
            )
        return {"header": False}, [ParamsDecision("header", "no", "the target is named by its position", ("header",))]
    fields |= find_unnamed(first, True)
    if n_rows == 1:
        reason = "the first row names the target" if target in cells else "reads like names"
        decisions.insert(0, ParamsDecision("header", "yes", reason))
    if looks_like_data(first):
        fields["header"] = True
        decisions[0] = ParamsDecision("header", "yes", "the first row names the target", ("header",))
    if "name_unnamed" in fields:
        places = [str(place) for place, cell in enumerate(first, 1) if not cell.strip()]
        named = ", ".join(f"column_{place}" for place in places[:5])
        decisions.append(
            ParamsDecision("unnamed columns", named, "had no name in the first row", ("name_unnamed",), is_warning=True)
        )
    return fields, decisions


def find_header_rows(rows: list[list[str]], choices: Choices) -> tuple[int, list[ParamsDecision]]:
    """Return the number of header rows, given or detected, and the decision if there are several."""
    given = choices.reading.get("header_rows")
    if not isinstance(given, int | None) or isinstance(given, bool):
        raise ParamsError(f"--header-rows {given}: give 1, 2 or 3")
    n_rows = given or (count_name_rows(rows) if rows and choices.header is not False else 1)
    if n_rows == 1 or len(rows) < n_rows:
        return 1, []
    names = list_briefly((repr(name) for name in join_rows(rows[:n_rows]) if ": " in name), most=3)
    words = list_briefly(map(repr, dict.fromkeys(cell.strip() for cell in rows[1] if cell.strip())), most=3)
    reason = f"the second row ({words}) holds no values" + (f"; names such as {names}" if names else "")
    reason += "" if given else ": if that is wrong, use --header-rows 1"
    return n_rows, [
        ParamsDecision("header", f"{n_rows} rows, joined", reason, ("header_rows",), is_warning=given is None)
    ]


def find_unnamed(first: list[str], header: bool) -> dict[str, object]:
    """Return the field that names unnamed columns by their position, if there are any."""
    return {"name_unnamed": True} if header and not all(cell.strip() for cell in first) else {}


def decide_separators(raw: RawTable, choices: Choices) -> tuple[dict[str, object], list[ParamsDecision]]:
    """Return the decimal character and thousands separator with which string columns become numeric.

    Returns
    -------
    tuple
        Fields of a `Table`, empty if nothing was detected, and the decisions with their reasons.
    """
    found: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], tuple[str, str]] = {}
    for name, facts in raw.facts.items():
        guess = guess_separators(facts.words) if facts.dtype == "str" and facts.words else None
        if guess:
            found[guess] += 1
            examples.setdefault(guess, (name, next(iter(facts.words))))
    if choices.decimal:
        groups = next((group for decimal, group in found if decimal == choices.decimal and group), "")
        return {"decimal": choices.decimal, "thousands": groups}, [
            ParamsDecision("decimal", choices.decimal, "given", ("decimal",))
        ]
    if not found:
        return {}, []
    decimals = Counter({decimal: 0 for decimal, _ in found})
    for (decimal, _), count in found.items():
        decimals[decimal] += count
    decimal = "," if raw.table.delimiter == ";" and "," in decimals else decimals.most_common(1)[0][0]
    if raw.table.delimiter == ";" and decimal == "." and all(group == "," for _, group in found):
        decimal = ","  # with ; as the delimiter, 1,234 has a decimal comma, not a thousands separator
    groups = next((group for kind, group in found if kind == decimal and group and group != decimal), "")
    name, cell = examples.get((decimal, groups)) or next(iter(examples.values()))
    decisions = (
        [ParamsDecision("decimal", decimal, f"column {name!r} holds {cell!r}", ("decimal",))] if decimal == "," else []
    )
    if groups:
        decisions.append(ParamsDecision("thousands", repr(groups), f"column {name!r} holds {cell!r}", ("thousands",)))
    return {"decimal": decimal, "thousands": groups}, decisions
