"""Awkward files, each made by the case itself: what `labkit new` and the stage `source` do with them.

Shared by the tests and by `benchmarks/awkward_files.py`. A case either runs, or is refused with a message in which every
one of `messages` stands; where it runs, each of `messages` stands in the params file or among the decisions.
"""

import bz2
import gzip
import lzma
import os
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

N = 60


@dataclass(frozen=True)
class Case:
    """One awkward file: how it is made, what is asked of it, and what is to come of it."""

    name: str
    make: Callable[[Path], Path | list[Path]]
    runs: bool
    messages: Sequence[str] = ()
    target: str = "y"
    choices: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def rows(n: int = N, seed: int = 0) -> list[dict[str, str]]:
    """Return plain rows: a number, a category and a two-class target that depends on the number."""
    draw = random.Random(seed)
    made = []
    for _ in range(n):
        x = draw.gauss(0, 1)
        label = "yes" if x + draw.gauss(0, 1) > 0 else "no"
        made.append({"x": f"{x:.3f}", "colour": draw.choice(["red", "green", "blue"]), "y": label})
    return made


def dump(table: list[dict[str, str]], delimiter: str = ",", end: str = "\n") -> str:
    """Return rows as a delimited string without quotes."""
    lines = [delimiter.join(table[0]), *(delimiter.join(row.values()) for row in table)]
    return end.join(lines) + end


def add(**columns: Any) -> list[dict[str, str]]:
    """Return plain rows with more columns, each a list or a function of the row's number."""
    table = rows()
    for name, values in columns.items():
        for number, row in enumerate(table):
            row[name] = str(values(number) if callable(values) else values[number % len(values)])
    return table


def rename(**names: str) -> list[dict[str, str]]:
    """Return plain rows with columns renamed."""
    return [{names.get(name, name): value for name, value in row.items()} for row in rows()]


def csv(content: str | bytes, name: str = "t.csv", encoding: str = "utf-8") -> Callable[[Path], Path]:
    """Return a maker of a file with this content."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return make


def compressed(ending: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """Return a maker of a compressed file."""
    return csv(pack(dump(rows()).encode()), f"t.csv{ending}")


def zipped(*names: str) -> Callable[[Path], Path]:
    """Return a maker of an archive of files with these names."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "t.zip", "w") as archive:
            for name in names:
                archive.writestr(name, dump(rows()))
        return folder / "t.zip"

    return make


def parquet(frame: pd.DataFrame | pa.Table, cut: int = 0) -> Callable[[Path], Path]:
    """Return a maker of a Parquet file, its last bytes cut off."""

    def make(folder: Path) -> Path:
        path = folder / "t.parquet"
        pq.write_table(frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame), path)
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        return path

    return make


def frame(**columns: Any) -> pd.DataFrame:
    """Return the plain rows as a typed table with more columns."""
    made = pd.DataFrame(rows()).astype({"x": "float64"})
    return made.assign(**columns)


def excel(**sheets: pd.DataFrame) -> Callable[[Path], Path]:
    """Return a maker of an Excel file."""

    def make(folder: Path) -> Path:
        with pd.ExcelWriter(folder / "t.xlsx", engine="openpyxl") as writer:
            for name, sheet in sheets.items():
                sheet.to_excel(writer, sheet_name=name, index=False)
        return folder / "t.xlsx"

    return make


def titled_excel(folder: Path) -> Path:
    """Make a sheet with a title and a blank row above the names, as reports for people have them."""
    with pd.ExcelWriter(folder / "t.xlsx", engine="openpyxl") as writer:
        frame().to_excel(writer, sheet_name="one", index=False, startrow=2)
        writer.sheets["one"]["A1"] = "Sales of 2024, as of today"
    return folder / "t.xlsx"


def several(*contents: str) -> Callable[[Path], list[Path]]:
    """Return a maker of several files."""

    def make(folder: Path) -> list[Path]:
        made = []
        for number, content in enumerate(contents):
            (folder / str(number)).mkdir()
            made.append(folder / str(number) / "part.csv")
            made[-1].write_text(content)
        return made

    return make


def link(folder: Path) -> Path:
    """Make a symbolic link to a good file."""
    (folder / "real.csv").write_text(dump(rows()))
    (folder / "link.csv").symlink_to(folder / "real.csv")
    return folder / "link.csv"


def fifo(folder: Path) -> Path:
    """Make a named pipe."""
    os.mkfifo(folder / "pipe.csv")
    return folder / "pipe.csv"


def folder_of_files(folder: Path) -> Path:
    """Make a folder with a file in it."""
    (folder / "many.csv").mkdir()
    (folder / "many.csv" / "a.csv").write_text(dump(rows()))
    return folder / "many.csv"


def wide(folder: Path) -> Path:
    """Make a table of 2,000 columns."""
    draw = random.Random(0)
    lines = [",".join([*(f"c{place}" for place in range(2000)), "y"])]
    lines += [",".join([*(f"{draw.random():.2f}" for _ in range(2000)), draw.choice("ab")]) for _ in range(N)]
    return csv("\n".join(lines) + "\n")(folder)


def days(style: str, step: int = 1) -> Callable[[int], str]:
    """Return a function that writes the day of a row."""
    return lambda number: (date(2024, 1, 1) + timedelta(days=step * number)).strftime(style)


def replace_line(number: int, line: str) -> str:
    """Return plain text with one line replaced."""
    lines = dump(rows()).splitlines()
    lines[number] = line
    return "\n".join(lines) + "\n"


def survey() -> str:
    """Return a survey whose second row describes the columns of a question."""
    lines = ["id,Age,Fan?,Visited,", ",Response,Response,Rome,Oslo"]
    for number, row in enumerate(rows()):
        visited = ["Rome" if number % 3 else "", "Oslo" if row["colour"] == "red" else ""]
        lines.append(",".join([str(number), str(20 + number * 7 % 50), row["y"], *visited]))
    return "\n".join(lines) + "\n"


def survey_sheet(folder: Path) -> Path:
    """Make a sheet of the survey below a title, as it is exported with merged cells."""
    cells = [["Results of 2024"], *(line.split(",") for line in survey().splitlines())]
    pd.DataFrame(cells).to_excel(folder / "t.xlsx", header=False, index=False)
    return folder / "t.xlsx"


PLAIN = dump(rows())
BINARY = random.Random(0).randbytes(5000)
TOO_FEW = "at least 20 are needed for training, validation and holdout"

CASES = [
    # Files that are hardly one.
    Case("empty", csv(""), False, ["t.csv is empty (0 bytes)"]),
    Case("blanks_only", csv("  \n \n"), False, ["is empty (blanks only"]),
    Case("header_only", csv("x,colour,y\n"), False, ["0 data rows"]),
    Case("header_only_no_newline", csv("x,colour,y"), False, ["0 data rows"]),
    Case("one_row", csv("x,y\n1,a\n"), False, ["1 row: cannot be split", TOO_FEW]),
    Case("five_rows", csv(dump(rows(5))), False, ["5 rows", TOO_FEW]),
    Case("one_column", csv("y\n" + "a\nb\n" * 30), False, ["one column found, 'y'", "--delimiter"]),
    Case("directory", folder_of_files, False, ["a folder: name the files in it"]),
    Case("symbolic_link", link, False, ["a symbolic link to", "--follow"]),
    Case("symbolic_link_followed", link, True, options={"follow": True}),
    Case("fifo", fifo, False, ["not a regular file"]),
    Case("device", lambda _: Path("/dev/zero"), False, ["/dev/zero: not a regular file"]),
    Case("address", lambda _: Path("https://example.org/t.csv"), False, ["https://example.org/t.csv: a URL, not a file"]),
    Case("not_there", lambda folder: csv(PLAIN)(folder).with_name("tt.csv"), False, ["no such file: did you mean 't.c"]),
    # Text and bytes.
    Case("plain", csv(PLAIN), True),
    Case("no_newline_at_end", csv(PLAIN.rstrip("\n")), True),
    Case("no_newline_after_a_short_row", csv(PLAIN + "1.0"), True, ["perhaps truncated"],
         choices={"reading": {"allow_short_rows": True}}),
    Case("carriage_returns", csv(dump(rows(), end="\r")), True),
    Case("windows_line_ends", csv(dump(rows(), end="\r\n")), True),
    Case("utf8_with_mark", csv(PLAIN, encoding="utf-8-sig"), True),
    Case("utf16", csv(PLAIN, encoding="utf-16"), True, ["encoding: utf-16"]),
    Case("utf16_without_mark", csv(PLAIN, encoding="utf-16-le"), True, ["encoding: utf-16-le"]),
    Case("latin1_accents", csv(dump(add(city=["Köln", "Málaga", "Orléans"])), encoding="latin-1"), True, ["cp1252"]),
    Case("cyrillic", csv(dump(add(city=["Москва", "Тула", "Омск"])), encoding="cp1251"), True, ["encoding: cp1251"]),
    Case("japanese", csv(dump(add(city=["東京", "大阪", "名古屋"])), encoding="cp932"), True, ["encoding: cp932"]),
    Case("wrong_encoding_given", csv(dump(add(c=["Ä"])), encoding="latin-1"), False,
         ["not UTF-8 (byte 0xC4, line 2)"], choices={"encoding": "utf-8"}),
    Case("nul_bytes", csv(PLAIN.replace("red", "r\0d", 1)), False, ["NUL byte at line"]),
    Case("binary_junk", csv(BINARY), False, ["not a text file"]),
    Case("html_page", csv("<!DOCTYPE html><html><body>404</body></html>\n"), False, ["this is an HTML page"]),
    Case("lfs_pointer", csv("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), False,
         ["Git LFS pointer", "git lfs pull"]),
    Case("dvc_pointer", csv("outs:\n- md5: 0\n  size: 1\n  path: t.csv\n"), False, ["a DVC pointer", "dvc pull"]),
    Case("sqlite_file", csv(b"SQLite format 3\0" + bytes(100), "t.db"), False, ["an SQLite database", "--sql"]),
    Case("old_office_file", csv(b"\xd0\xcf\x11\xe0" + bytes(600), "t.xls"), False, ["not an Excel file (.xls)", "save it again, or as CSV"]),
    Case("word_of_2003", csv(b"\xd0\xcf\x11\xe0" + bytes(600), "t.doc"), False, ["an old Office file that is not a workbook, which is not supported"]),
    # Packed.
    Case("gzip", compressed(".gz", gzip.compress), True),
    Case("bzip2", compressed(".bz2", bz2.compress), True),
    Case("xz", compressed(".xz", lzma.compress), True),
    Case("zip", zipped("inner.csv"), True),
    Case("zip_of_two", zipped("a.csv", "b.csv"), False, ["2 files in the archive (a.csv; b.csv)"]),
    Case("gzip_named_csv", csv(gzip.compress(PLAIN.encode())), True, ["t.csv.gz"]),
    Case("gzip_cut_short", csv(gzip.compress(PLAIN.encode())[:-20], "t.csv.gz"), False, ["truncated or damaged"]),
    Case("gzip_renamed_from_text", csv(PLAIN, "t.csv.gz"), True, ["path: data/gzip_renamed_from_text/source/t.csv\n"]),
    # Dialects.
    Case("semicolons", csv(dump(rows(), ";")), True, ['delimiter: ";"']),
    Case("tabs", csv(dump(rows(), "\t"), "t.tsv"), True, ['delimiter: "\\t"']),
    Case("pipes", csv(dump(rows(), "|"), "t.txt"), True, ['delimiter: "|"']),
    Case("sep_line", csv("sep=;\n" + dump(rows(), ";")), True, ["skip_lines: 1"]),
    Case("comments_before_header", csv("# made by hand\n# in 2024\n" + PLAIN), True, ["skip_lines: 2"]),
    Case("title_before_header", csv("Sales of 2024\n\n" + PLAIN), True, ["skip_lines: 2"]),
    Case("quotes_with_delimiters", csv(dump(add(place=['"Paris, France"', '"Rome, ""old"""', '"a\nb"']))), True),
    Case("single_quotes", csv(dump(add(place=["'Paris, France'", "'Rome'"]))), True, ["quote: \"'\""]),
    Case("inch_marks", csv(dump(add(size=['5"', '7"', "9"]))), True),
    Case("quote_never_closed", csv(replace_line(30, '1.0,"red,yes')), False, ["quote opened on line 31 never closed", "(by option: --read quote='')"]),
    Case("quotes_are_not_quotes", csv(replace_line(30, '1.0,"red,yes')), True, ['quote: ""'],
         choices={"reading": {"quote": ""}}),
    Case("text_after_quote", csv(replace_line(30, '1.0,"red"x,yes')), False, ["line 31", "double the quotes"]),
    Case("longer_row", csv(replace_line(30, "1.0,red,yes,more")), False, ["line 31 has 4 fields, header 3"]),
    Case("shorter_row", csv(replace_line(30, "1.0,red")), False, ["line 31 has 2 fields, header 3", "allow_short_rows"]),
    Case("ragged_and_quoted", csv(replace_line(30, '1.0,"red"')), False, ["line 31 has 2 fields, header 3"]),
    Case("truncated_row", csv(PLAIN + "1.0"), False, ["last line 62 has 1 of 3 fields and no newline: truncated?"]),
    Case("all_rows_longer", csv("x,y\n" + "1,a,3\n2,b,4\n" * 30), False, ["rows have 3 fields, header 2"]),
    Case("blank_lines_between", csv(PLAIN.replace("\n", "\n\n")), True),
    Case("decimal_comma", csv(dump(add(price=lambda n: f"{n},5"), ";")), True, ['decimal: ","']),
    Case("decimal_comma_quoted", csv(dump(add(price=lambda n: f'"{n},25"'))), True, ['decimal: ","']),
    Case("thousands_comma", csv(dump(add(price=lambda n: f'"{n + 1},{n:03d},500"'))), True, ['thousands: ","']),
    Case("thousands_point", csv(dump(add(price=lambda n: f"{n + 1}.{n:03d},5"), ";")), True, ['thousands: "."']),
    Case("thousands_blank", csv(dump(add(price=lambda n: f"{n + 1} {n:03d}"))), True, ['thousands: " "']),
    # Names.
    Case("no_header", csv(PLAIN.split("\n", 1)[1]), False, ["looks like data", "--no-header"]),
    Case("no_header_by_place", csv(PLAIN.split("\n", 1)[1]), True, ["header: false"], target="column_3"),
    Case("duplicate_names", csv("x,x,y\n" + "1,2,a\n2,3,b\n" * 30), False, ["duplicate column names: 'x'"]),
    Case("unnamed_index", csv(dump([{"": str(n), **row} for n, row in enumerate(rows())])), True, ["name_unnamed: true"]),
    Case("number_names", csv(dump(rename(x="1", colour="2"))), True),
    Case("numbers_for_names", csv(dump([{"1": r["x"], "7": r["x"], "3": r["y"]} for r in rows()])), True,
         ["header: true"], target="3"),
    Case("emoji_name", csv(dump(rename(colour="🎨 colour"))), True),
    Case("newline_in_name", csv(dump(rename(colour='"the\ncolour"'))), True, ["invisible characters in the name"]),
    Case("quotes_in_name", csv(dump(rename(colour='"the ""colour"" it\'s"'))), True),
    Case("proto_name", csv(dump(rename(colour="__proto__", x="constructor"))), True),
    Case("script_name", csv(dump(rename(colour="<script>alert(1)</script>"))), True),
    Case("leading_blank_in_name", csv(dump(rename(colour="  colour "))), True),
    Case("target_with_blank", csv(dump(rename(y="y "))), False, ["no column 'y': there is 'y ', with a space"]),
    Case("target_missing", csv(PLAIN), False, ["no column 'colur': did you mean 'colour'?"], target="colur"),
    Case("keywords_and_dots", csv(dump(rename(colour="class", x="a.b"))), True),
    Case("function_names", csv(dump(rename(colour="missing", x="log"))), True),
    Case("keyword_target", csv(dump(rename(y="class"))), True, target="class"),
    Case("yaml_words", csv(dump(rename(colour="yes", x="null"))), True),
    Case("right_to_left_name", csv(dump(rename(colour="col\u202eour"))), True, ["invisible characters in the name"]),
    Case("long_name", csv(dump(rename(colour="c" * 2000))), True),
    Case("name_with_spaces_of_other_kinds", csv(dump(rename(y="level\u00a0of it", colour="the\u2009colour"), ), encoding="utf-8"),
         True, ["column: level of it", "the colour: left out as requested"], target="level of\u202fit",
         choices={"drop": ("the colour",)}),
    Case("names_that_differ_in_a_space", csv(dump(rename(x="a b", colour="a\u00a0b"))), False, ["duplicate column names: 'a b'"]),
    Case("mac_roman", csv(dump(rename(y="level of\u00a0it")), encoding="mac_roman"), True,
         ["encoding: mac_roman", "in this encoding it holds 'of it'"], target="level of it"),
    Case("drop_odd_name", csv(dump(rename(colour="a: b # c"))), True, ['"a: b # c": left out as requested'],
         choices={"drop": ("a: b # c",)}),
    Case("two_rows_of_names", csv(survey()), True, ["header_rows: 2", 'checkboxes: ["Visited: Rome", "Visited: Oslo"]',
         "header 2 rows, joined", "checkboxes 2 columns"], target="Fan?"),
    Case("two_rows_of_names_in_excel", survey_sheet, True, ["header_rows: 2", "skip_lines: 1", "checkboxes 2 columns"],
         target="Fan?"),
    Case("target_is_a_checkbox", csv(survey()), True, ["positive: true"], target="Visited: Oslo"),
    Case("second_row_is_a_value", csv(survey()), False, ["'Response' is not a number"], target="Fan?",
         choices={"reading": {"header_rows": 1, "name_unnamed": True}}),
    Case("rows_of_names_given_in_words", csv(PLAIN), False, ["--header-rows two: give 1, 2 or 3"],
         choices={"reading": {"header_rows": "two"}}),
    Case("one_word_or_nothing", csv(dump(add(mark=["x", ""], kind=["old", "", ""]))), True, ["checkboxes: [mark]"]),
    # Values.
    Case("all_null", csv(dump(add(gone=[""]))), True, ["empty: no value in any row"]),
    Case("constant", csv(dump(add(same=["7"]))), True, ["constant: 7"]),
    Case("infinite", csv(dump(add(z=lambda n: "inf" if n == 7 else n))), False,
         ["column 'z', row 8: 'inf' is not a finite number", "(by option: --read allow_infinite=true)"]),
    Case("infinite_made_missing", csv(dump(add(z=lambda n: "inf" if n == 7 else n * 1.5))), True,
         ["infinite numbers taken as missing", "allow_infinite: true"], choices={"reading": {"allow_infinite": True}}),
    Case("unknown_reading", csv(PLAIN), False, ["--read allow_infinit=…: no such field: did you mean 'allow_infinite'?"],
         choices={"reading": {"allow_infinit": True}}),
    Case("lists_left_out", parquet(frame(z=[[1, 2]] * N)), True, ["skip: [z]"], choices={"reading": {"skip": ["z"]}}),
    Case("newlines_in_many_names", csv("\"the\nx\",b,c,\"d\ne\",y\n" + "".join(
        f"{n * 37 % 11},{n * 17 % 7},{n % 3},{n % 2 + n % 5},{'ab'[n * 7 % 5 % 2]}\n" for n in range(60))), True,
         ["invisible characters in the name"]),
    Case("beyond_double", csv(dump(add(z=lambda n: "1e309" if n == 7 else n))), False, ["row 8: '1e309'"]),
    Case("one_word_in_numbers", csv(dump(add(z=lambda n: "foo" if n == 41 else n * 1.5))), False,
         ["column 'z', row 42: 'foo' is not a number", "--missing COLUMN=VALUE, --kind COLUMN=category"]),
    Case("one_word_made_missing", csv(dump(add(z=lambda n: "foo" if n == 41 else n * 1.5))), True, ["foo"],
         choices={"missing": {"z": ("foo",)}}),
    Case("question_marks", csv(dump(add(z=lambda n: "?" if n % 9 == 0 else n * 1.5))), True, ['"?"']),
    Case("mixed_types", csv(dump(add(z=["1", "a", "2.5", "b", "3"]))), True),
    Case("lists_in_cells", csv(dump(add(z=['"[1, 2]"', '"[3]"']))), True),
    Case("formulas", csv(dump(add(z=["=cmd|' /C calc'!A0", "+1+1"]))), True),
    Case("huge_integers", csv(dump(add(z=lambda n: 10**25 + n))), True, ["texts: [z]"]),
    Case("big_integers_with_missing_values", csv(dump(add(z=lambda n: "" if n == 3 else 2**53 + 1 + n))), True, ["texts: [z]"]),
    Case("leading_zeros", csv(dump(add(plz=["01067", "50667", "04109"]))), True, ["texts: [plz]"]),
    Case("minus_999", csv(dump(add(z=lambda n: -999 if n % 10 == 0 else n % 7))), True, ["missing: [-999]"]),
    Case("words_for_missing", csv(dump(add(country=["NA", "DE", "FR"]))), True, ["20 × 'NA'"]),
    Case("booleans_spelt", csv(dump(add(z=["Yes", "no", "YES", "No"]))), True, ["yes and no in several spellings"]),
    Case("true_false", csv(dump(add(z=["True", "False", "true"]))), True),
    Case("free_text", csv(dump(add(z=lambda n: f"customer {n} said that it was {'not ' * (n % 3)}good"))), True,
         ["free text"]),
    Case("identifier", csv(dump(add(customer_id=lambda n: n * 7 + 1000))), True, ["identifier: whole numbers"]),
    # Dates.
    Case("dates_iso", csv(dump(add(at=days("%Y-%m-%d")))), True, ["method: time"]),
    Case("dates_german", csv(dump(add(at=days("%d.%m.%Y")))), True, ['at: "%d.%m.%Y"']),
    Case("dates_american", csv(dump(add(at=days("%m/%d/%Y")))), True, ['at: "%m/%d/%Y"']),
    Case("dates_with_months", csv(dump(add(at=days("%d %b %Y")))), True, ['at: "%d %b %Y"']),
    Case("dates_compact", csv(dump(add(date=days("%Y%m%d")))), True, ['date: "%Y%m%d"']),
    Case("dates_with_clock", csv(dump(add(at=lambda n: days("%Y-%m-%d")(n) + " 08:30:00"))), True, ["hour"]),
    Case("dates_in_one_zone", csv(dump(add(at=lambda n: days("%Y-%m-%d")(n) + "T08:30:00+01:00"))), True,
         ["method: time"]),
    Case("dates_in_two_zones", csv(dump(add(at=lambda n: days("%Y-%m-%d")(n) + f"T08:00:00+0{n % 2}:00"))), True,
         ["read as UTC", "+00:00; +01:00", "time zone UTC", "--zone at=ZONE", "method: time"]),
    Case("dates_with_summer_time", csv(dump(add(at=lambda n: f"2024-0{1 + n % 5 + (n % 5 > 1)}-{n % 28 + 1:02d} 00:00:00"
                                                + ("-05:00" if n % 5 < 2 else "-04:00")))), True,
         ["time zone America/New_York", "zone: America/New_York", "parts: [weekday]"]),
    Case("dates_in_two_zones_with_points", csv(dump(add(at=lambda n: days("%d.%m.%Y")(n) + f" 08:00 +0{n % 2}00"))), True,
         ["a date, %d.%m.%Y %H:%M %z", "read as UTC", "+00:00; +01:00", "method: time"]),
    Case("dates_in_a_given_zone", csv(dump(add(at=lambda n: days("%Y-%m-%d")(n) + "T00:00:00+01:00"))), True,
         ["zone: Europe/Rome"], choices={"zones": {"at": "Europe/Rome"}}),
    Case("dates_in_no_zone", csv(dump(add(at=lambda n: days("%Y-%m-%d")(n) + "T00:00:00+01:00"))), False,
         ["--zone at=Europe/Rom: no such time zone: did you mean 'Europe/Rome'?"], choices={"zones": {"at": "Europe/Rom"}}),
    Case("zone_of_dates_without_offsets", csv(dump(add(at=days("%Y-%m-%d")))), False,
         ["--zone at=Europe/Rome: its times have no UTC offset"], choices={"zones": {"at": "Europe/Rome"}}),
    Case("dates_with_and_without_offsets", csv(dump(add(at=lambda n: days("%Y-%m-%d")(n) + " 08:00" + ("Z" if n % 2 else "")))),
         False, ["column at, row 2: '2024-01-02 08:00Z' has an offset from UTC, '2024-01-01 08:00' does not: write all"]),
    Case("dates_mixed", csv(dump(add(at=lambda n: days("%d.%m.%Y" if n != 9 else "%Y-%m-%d")(n)))), False,
         ["column 'at'", "'2024-01-10' is not", "--kind at=category"]),
    Case("dates_ambiguous", csv(dump(add(at=lambda n: f"{n % 5 + 1:02d}/{n % 7 + 1:02d}/2024"))), False,
         ["ambiguous dates", "--format 'at=%d/%m/%Y'"]),
    Case("dates_declared", csv(dump(add(at=lambda n: f"{n % 5 + 1:02d}/{n % 7 + 1:02d}/2024"))), True,
         ['at: "%d/%m/%Y"'], choices={"formats": {"at": "%d/%m/%Y"}}),
    Case("dates_far", csv(dump(add(at=["0001-01-01", "9999-12-31", "2024-02-29"]))), True),
    Case("no_such_day", csv(dump(add(at=lambda n: "2024-02-30" if n == 50 else days("%Y-%m-%d")(n)))), False,
         ["'2024-02-30' is not"]),
    # Targets.
    Case("target_with_missing_values", csv(dump([{**r, "y": "" if n % 9 == 0 else r["y"]} for n, r in enumerate(rows())])), True,
         ["not missing(y)", "7 of 60 rows without a target"]),
    Case("target_all_missing", csv(dump([{**r, "y": ""} for r in rows()])), False, ["target 'y' is missing in every row"]),
    Case("target_one_class", csv(dump([{**r, "y": "yes"} for r in rows()])), False, ["target 'y' has 1 class, 'yes'"]),
    Case("class_with_one_row", csv(dump([{**r, "y": "odd" if n == 5 else r["y"]} for n, r in enumerate(rows())])), True,
         ["action: drop", "rare classes 1 class left out fewer than 8 rows each, 1 row in all: 'odd' with 1"]),
    Case("two_classes_one_tiny", csv(dump([{**r, "y": "yes" if n < 3 else "no"} for n, r in enumerate(rows())])), False,
         ["classes with fewer than 8 rows", "'yes' with 3"]),
    Case("target_is_a_feature", csv(dump([{**r, "copy": {"yes": "1", "no": "0"}[r["y"]]} for r in rows()])), True,
         ["copy: ", "the target under another name"]),
    Case("filled_when_known", csv(dump([{**r, "paid": "3" if r["y"] == "yes" else ""} for r in rows()])), True,
         ["paid: ", "filled after the outcome: filled in 34 of 34 rows with 'yes' and in 0 of 26 others"]),
    Case("one_percent", csv(dump([{**r, "y": "yes" if n % 100 == 0 else "no"} for n, r in enumerate(rows(1500))])), True,
         ["metric: average_precision", "'yes' 1.0 %"]),
    Case("target_is_an_id", csv(dump([{**r, "y": str(n)} for n, r in enumerate(rows())])), False,
         ["increases by one per row"]),
    Case("target_of_5000_strings", csv(dump([{**r, "y": f"name {n}"} for n, r in enumerate(rows(5200))])), False,
         ["has more than 5,000 classes in 5,200 rows"]),
    Case("target_of_200_strings", csv(dump([{**r, "y": f"name {n % 200}"} for n, r in enumerate(rows(600))])), False,
         ["has 200 classes in 600 rows, at most 50"]),
    Case("target_three_classes", csv(dump([{**r, "y": "abc"[n % 3]} for n, r in enumerate(rows())])), True,
         ["metric: balanced_accuracy"]),
    Case("target_numbers", csv(dump([{**r, "y": f"{float(r['x']) * 2 + n % 5:.2f}"} for n, r in enumerate(rows())])),
         True, ["task: regression", "metric: mae"]),
    Case("target_of_small_numbers", csv(dump([{**r, "y": f"{(float(r['x']) + n % 5 + 9) * 1e-7:.9f}"}
                                              for n, r in enumerate(rows())])), True, ["champion_tolerance: 0.000000003"]),
    Case("target_of_huge_numbers", csv(dump([{**r, "y": f"{(float(r['x']) + n % 5 + 9) * 1e20:.0f}.5"}
                                             for n, r in enumerate(rows())])), True, ["champion_tolerance: 3000000000000000000.0"]),
    Case("target_zero_and_one", csv(dump([{**r, "y": str(n % 2)} for n, r in enumerate(rows())])), True, ["positive: 1"]),
    Case("negative_target_log_metric", csv(dump([{**r, "y": f"{n * n - 999.5}"} for n, r in enumerate(rows())])), False,
         ["--metric rmsle", "did you mean 'rmse'?"], choices={"metric": "rmsle"}),
    Case("words_for_regression", csv(PLAIN), False, ["holds", "not numbers"], choices={"task": "regression"}),
    Case("no_such_class", csv(PLAIN), False, ["no class 'ja'"], choices={"positive": "ja"}),
    Case("target_is_a_date", csv(dump([{**r, "y": days("%Y-%m-%d")(n)} for n, r in enumerate(rows())])), False,
         ["target 'y' holds times"]),
    Case("nothing_left", csv("id,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(60))), False,
         ["no column is left to predict 'y' from", "'id' (identifier"]),
    Case("duplicated_rows", csv(PLAIN + PLAIN.split("\n", 1)[1]), True, ["duplicated rows"]),
    Case("groups", csv(dump(add(shop=lambda n: f"s{n % 15}"))), True, ["method: group"], choices={"group": "shop"}),
    Case("too_few_groups", csv(PLAIN), False, ["3 groups: at least 10"], choices={"group": "colour"}),
    Case("wrong_kind", csv(PLAIN), False, ["--kind x=catgory: did you mean 'category'?"],
         choices={"kinds": {"x": "catgory"}}),
    Case("two_thousand_columns", wide, True),
    # Other formats.
    Case("parquet", parquet(frame()), True),
    Case("parquet_typed", parquet(frame(at=pd.date_range("2024-01-01", periods=N, tz="UTC"), n=range(N),
                                        kind=pd.Categorical(["a", "b"] * (N // 2)),
                                        sparse=pd.array([1, None] * (N // 2), dtype="Int64"))), True, ["method: time"]),
    Case("parquet_in_a_zone", parquet(frame(at=pd.date_range("2024-01-01", periods=N, tz="Asia/Tokyo"))), True,
         ["time zone Asia/Tokyo", "zone: Asia/Tokyo", "parts: [weekday]"]),
    Case("parquet_truncated", parquet(frame(), cut=50), False, ["not a Parquet file, or truncated"]),
    Case("parquet_empty", csv(b"", "t.parquet"), False, ["is empty (0 bytes)"]),
    Case("parquet_that_is_csv", csv(PLAIN, "t.parquet"), False, ["not a Parquet file"]),
    Case("csv_that_is_parquet", lambda folder: parquet(frame())(folder).rename(folder / "t.csv"), True, ["t.parquet"]),
    Case("parquet_of_lists", parquet(frame(z=[[1, 2]] * N)), False, ["column 'z' holds list", "name it in `skip`"]),
    Case("parquet_twins", parquet(pa.table([pa.array([1.0] * N), pa.array([2.0] * N), pa.array(["a", "b"] * (N // 2))],
                                           names=["x", "x", "y"])), False, ["duplicate column names: 'x'"]),
    Case("parquet_infinite", parquet(frame(z=[float("inf"), 1.0] * (N // 2))), False, ["holds infinite numbers"]),
    Case("excel", excel(one=frame(when=[datetime(2024, 1, 1) + timedelta(days=n) for n in range(N)])), True,
         ["method: time"]),
    Case("excel_two_sheets", excel(one=frame(), two=frame()), False, ["2 sheets ('one', 'two')", "(by option: --sheet NAME)"]),
    Case("excel_sheet_named", excel(one=frame(), two=frame()), True, ["sheet: two"], choices={"sheet": "two"}),
    Case("excel_no_such_sheet", excel(one=frame(), two=frame()), False, ["no sheet 'twoo': did you mean 'two'?"],
         choices={"sheet": "twoo"}),
    Case("excel_cut_short", lambda folder: cut(excel(one=frame())(folder)), False, ["not an Excel file"]),
    Case("excel_empty_sheet", excel(one=pd.DataFrame()), False, ["the sheet 'one' is empty"]),
    Case("excel_below_a_title", titled_excel, True, ["skip_lines: 2", "skipped rows 2"]),
    Case("parquet_dates_as_texts", parquet(frame(at=[days("%Y-%m-%d")(n) for n in range(N)])), True,
         ["times: [at]", "method: time"]),
    Case("parquet_texts_that_are_no_dates", parquet(frame(at=["2024-01-01", ""] * (N // 2))), True),
    Case("amounts_in_dollars", csv(dump(add(z=lambda n: f"${n * 37 + 20:,}".replace(",", "'")))), True,
         ["read as numbers", "z:", "type: number", '"$": 1.0']),
    Case("amounts_in_euros", csv(dump(add(z=lambda n: f"{n * 37 + 20:,} €".replace(",", ".")), ";")), True,
         ["type: number", 'decimal: ","', '"€": 1.0']),
    Case("number_given_for_amounts", csv(dump(add(z=["1 kg", "2 kg", "3 kg"]))), True, ["kg: 1.0"],
         choices={"kinds": {"z": "number"}}),
    Case("number_given_for_words", csv(PLAIN), False, ["--kind colour=number: ", "is not a number"],
         choices={"kinds": {"colour": "number"}}),
    Case("codes_of_a_survey", csv(dump(add(q=[1, 2, 3, 4, 5, 99, -9], age=[30, 41, "k.A.", 52]))), True,
         ["missing: [99, -9]", "99 and -9 are missing", "'k.A.'"]),
    Case("dates_told_apart_by_later_rows_only",
         csv(dump([{**r, "at": f"0{n // 150 + 1}/01/2024"} for n, r in enumerate(rows(1200))]
                  + [{**r, "at": f"{n % 15 + 13}/01/2024"} for n, r in enumerate(rows(300))])), True,
         ["%d/%m/%Y", "times: [at]"]),
    Case("age_beside_a_time", csv(dump(add(at=days("%Y-%m-%d"), birth=days("%d.%m.%Y", -200)))), True,
         ["expressions:", "days_since_birth: \"(at - birth) / days(1)\""], choices={"time": "at"}),
    Case("no_such_encoding", csv(PLAIN), False, ["--encoding klingon: no such encoding"], choices={"encoding": "klingon"}),
    Case("long_delimiter", csv(PLAIN), False, ["--delimiter ';;': give one character"], choices={"delimiter": ";;"}),
    Case("target_dropped", csv(PLAIN), False, ["--drop y: that is the target"], choices={"drop": ("y",)}),
    Case("unknown_field_of_reading", csv(PLAIN), False, ["--read maxrows=…: no such field: did you mean 'max_rows'?"],
         choices={"reading": {"maxrows": 4}}),
    Case("wrong_value_of_reading", csv(PLAIN), False, ["--read max_rows=x: write a whole number"],
         choices={"reading": {"max_rows": "x"}}),
    Case("field_of_reading_below_its_bound", csv(PLAIN), False, ["--read max_rows=0: write 1 or more"],
         choices={"reading": {"max_rows": 0}}),
    Case("several_wrong_values_of_reading", csv(PLAIN), False,
         ["--read quote=x: write one of '\"', \"'\", ''", "--read skip_lines=-1: write 0 or more"], choices={"reading": {"quote": "x", "skip_lines": -1}}),
    Case("column_left_out_by_reading", parquet(frame(td=pd.to_timedelta(range(N), unit="h"))), True, ["skip: [td]"],
         choices={"reading": {"skip": "td"}}),
    Case("column_of_lengths_of_time", parquet(frame(td=pd.to_timedelta(range(N), unit="h"))), False,
         ["column 'td' holds duration[us], not plain values: name it in `skip` (by option: --read skip=COLUMN)"]),
    Case("columns_left_out_by_reading", csv(dump(add(a=["1", "x"], b=["2", "y"]))), True, ["skip: [a, b]"],
         choices={"reading": {"skip": ["a", "b"]}}),
    Case("number_that_is_missing_by_reading", csv(dump(add(z=lambda n: "#" if n % 9 == 0 else n * 1.5))), True, ['missing: ["#"]'],
         choices={"reading": {"missing": "#"}}),
    Case("no_format_of_dates", csv(dump(add(at=days("%Y-%m-%d")))), False,
         ["--format at=%Q: '%Q' is not a date format: write e.g. %d.%m.%Y"], choices={"formats": {"at": "%Q"}}),
    Case("wrong_field_of_reading", titled_excel, False, ["--read skip_lines=x: give a whole number"],
         choices={"reading": {"skip_lines": "x"}}),
    Case("date_after_a_time", csv(dump(add(at=days("%Y-%m-%d"), left=days("%d.%m.%Y", 2)))), True,
         ["column 'left' becomes weekday"], choices={"time": "at"}),
    Case("name_of_a_computed_column", csv(dump(add(predict_at=days("%Y-%m-%d")))), False,
         ["column 'predict_at' has the name of a column that is computed here", "--read"]),
    Case("group_by_number", csv(dump([{**r, "customer_id": str(n * 7 % 60 * 13)} for n, r in enumerate(rows(300))])),
         True, ["customer_id: \"identifier: 60 distinct values, each in 5.0 rows, and named like an identifier\"", "--group customer_id"]),
    Case("utf8_given_as_cp1252", csv(dump(add(z=["Größe", "Maß"]))), False,
         ["UTF-8, not CP1252", "(by option: --encoding …)"], choices={"encoding": "cp1252"}),
    Case("several_files", several(PLAIN, dump(rows(seed=1))), True, ["paths: ["]),
    Case("several_that_differ", several(PLAIN, dump(rename(x="z"))), False, ["column 1 is 'z'", "'x'"]),
]  # fmt: skip


def cut(path: Path) -> Path:
    """Cut off the last bytes of a file."""
    path.write_bytes(path.read_bytes()[:-400])
    return path
