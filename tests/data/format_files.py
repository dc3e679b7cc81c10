"""Files of every format that tables come in, made by the libraries that write them, and broken ones of each."""

import base64
import io
import json
import lzma
import pickle
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyreadstat
import xlwt

from tests.data.awkward import Case, N, csv, dump, frame, rows

Maker = Callable[[Path], Path]
SAS = """\
/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4D//AeZdAABsVp1CzvFLONQu8+tepEAstmgmXu20wXP918oMKEQHKQ290L2gk1E/IYECKf0Rnze8bc
lcIdvdKek1Zqj87yPpKh1GEbNeBQ/V7JUPb2rDJzTaUo08Taxd/kgdFlVhKZQNQr5JcJ3/T7KAkp4Jv/Siu2EZfVmIzLlXs4vLZdBOKPzpoAPq
TLijdtFT5C62KDpN01vR8KxqB7daJhNR8mYN0FtenyBaiR5SpNKJltZ9egEwU3AFRjaTKnU9KJ6uo7wI0H+GDBz5Hh41f8rPPbFnJ6Uu94tgIs
UncWDv4PM2UM7pqwwy+svzJBYYImkuUFXemHQ13JwbX2FtT7A/FK7Bt5+uNg+J5uquT8YTM1iONc+Ty52pTZnIH77pc95XVUikcYS69kL5Hvfb
8W9zA20QVDKPw+mj9JTazC+xLf1FNTXCbzJqVhtE8raGBTIkMAlI21sMjP+kYTog2klbl8kMtIEkBXiI7nJWYVLpFLyH4X70KLBskU0lTdejIX
lAcy+88ko3seLe3CT9EqIab8ziwTRNXr4CKTVl0k4LBbPn/Jtl6AQ9gauOZi45tnYt9ZJgC5AhzbEFoWFwguq6FULqfglaAuAwFn9w53u/41CX
sQOhscTrUmrG2bW1bdBkAt3+rsdqAAAAAH41dIhAalFeAAGCBICAAQA0W9pwscRn+wIAAAAABFla
"""
"""A .sas7bdat file of 20 plain rows, which nothing in Python writes: made by the program readstat, compressed by xz."""
RECORDS = [{"x": float(row["x"]), "colour": row["colour"], "y": row["y"] == "yes"} for row in rows()]
HEADER = "@relation t\n@attribute x numeric\n@attribute colour {red,green,blue}\n@attribute y {yes,no}\n@data\n"
"""Header of the plain rows as ARFF."""


def labelled(name: str, write: Callable[..., None], **options: Any) -> Maker:
    """Return a maker of a file of a statistics program: labels for the target, for a scale in part, and a code."""

    def make(folder: Path) -> Path:
        table = frame(sex=[1, 2, 1] * 20, scale=[1, 2, 5, 99] * 15, age=[30.0, 41.0, 999.0] * 20)
        table["y"] = (table["y"] == "yes").astype("int8")
        labels = {
            "y": {0: "no", 1: "yes"},
            "sex": {1: "male", 2: "female"},
            "scale": {1: "low", 5: "high", 99: "refused"},
        }
        write(table, folder / name, variable_value_labels=labels, **options)
        return folder / name

    return make


def written(name: str, write: Callable[[pd.DataFrame, Path], Any], **columns: Any) -> Maker:
    """Return a maker of a file that a function writes of the plain rows, with days and more columns."""

    def make(folder: Path) -> Path:
        write(frame(at=pd.date_range("2024-01-01", periods=N), **columns), folder / name)
        return folder / name

    return make


def cut_short(make: Maker, left: float = 0.6) -> Maker:
    """Return a maker of a file of which a share is left."""

    def cut(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * left)])
        return path

    return cut


def named(make: Maker, name: str) -> Maker:
    """Return a maker of a file under another name."""
    return lambda folder: make(folder).rename(folder / name)


def sas(folder: Path) -> Path:
    """Make a .sas7bdat file."""
    path = folder / "t.sas7bdat"
    path.write_bytes(lzma.decompress(base64.b64decode(SAS)))
    return path


def arff(*lines: str, header: str = HEADER) -> Maker:
    """Return a maker of an ARFF file of the plain rows, and of more lines."""
    return csv(
        header + "".join(f"{row['x']}, {row['colour']},{row['y']}\n" for row in rows()) + "\n".join(lines), "t.arff"
    )


def old_excel(folder: Path) -> Path:
    """Make an .xls file: a title, numbers, words, yes and no, days, and two empty sheets beside it."""
    book = xlwt.Workbook()
    sheet, day = book.add_sheet("one"), xlwt.easyxf(num_format_str="YYYY-MM-DD")
    sheet.write(0, 0, "Sales of 2024")
    for place, name in enumerate(("x", "colour", "y", "paid", "at")):
        sheet.write(2, place, name)
    for number, row in enumerate(rows()):
        for place, value in enumerate((float(row["x"]), row["colour"], row["y"], number % 2 == 0)):
            sheet.write(number + 3, place, value)
        sheet.write(number + 3, 4, datetime(2024, 1, 1) + timedelta(days=number), day)
    book.add_sheet("Sheet2")
    book.add_sheet("Sheet3")
    book.save(str(folder / "t.xls"))
    return folder / "t.xls"


def binary_excel(folder: Path) -> Path:
    """Make an .xlsb file, which nothing in Python writes: records of a type, a length and a payload."""
    names, cells = ["x", "colour", "y"], rows()

    def record(kind: int, payload: bytes = b"") -> bytes:
        head = bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])
        return head + bytes([len(payload)]) + payload

    def wide(word: str) -> bytes:
        return len(word).to_bytes(4, "little") + word.encode("utf-16-le")

    def cell(place: int, value: Any) -> bytes:
        at = place.to_bytes(4, "little") + bytes(4)
        return record(5, at + np.float64(value).tobytes()) if isinstance(value, float) else record(6, at + wide(value))

    def row(number: int, values: list[Any]) -> bytes:
        head = number.to_bytes(4, "little") + bytes(21)
        return record(0, head) + b"".join(cell(place, value) for place, value in enumerate(values))

    lines = [row(0, names), *(row(n, [float(r["x"]), r["colour"], r["y"]]) for n, r in enumerate(cells, 1))]
    extent = b"".join(number.to_bytes(4, "little") for number in (0, len(cells), 0, 2))
    sheet = record(129) + record(148, extent) + record(145) + b"".join(lines) + record(146) + record(130)
    bundle = bytes(4) + (1).to_bytes(4, "little") + wide("rId1") + wide("one")
    book = record(131) + record(143) + record(156, bundle) + record(144) + record(132)
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    links = "http://schemas.openxmlformats.org/package/2006/relationships"
    relations = (
        f'<Relationships xmlns="{links}"><Relationship Id="rId1" Type="{kinds}/worksheet" '
        'Target="worksheets/sheet1.bin"/></Relationships>'
    )
    with zipfile.ZipFile(folder / "t.xlsb", "w") as archive:
        archive.writestr("xl/workbook.bin", book)
        archive.writestr("xl/_rels/workbook.bin.rels", relations)
        archive.writestr("xl/worksheets/sheet1.bin", sheet)
    return folder / "t.xlsb"


def archive(name: str, **members: bytes) -> Maker:
    """Return a maker of a zip archive; a double underscore in the name of a member is a slash."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w") as opened:
            for member, content in members.items():
                opened.writestr(member.replace("__", "/"), content)
        return folder / name

    return make


def numpy_file(folder: Path) -> Path:
    """Make an array of NumPy."""
    np.save(folder / "t.npy", np.zeros((N, 3)))
    return folder / "t.npy"


def pickled(folder: Path) -> Path:
    """Make a pickle."""
    return csv(pickle.dumps(RECORDS), "t.pkl")(folder)


def encrypted_excel(folder: Path) -> Path:
    """Make what stands where the content of an Excel file with a password would be."""
    names = "".join(f"{name:\0<32}" for name in ("Root Entry", "EncryptionInfo", "EncryptedPackage"))
    return csv(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + names.encode("utf-16-le"), "t.xlsx")(folder)


def to_lines(records: list[dict[str, Any]]) -> str:
    """Return records as JSON, one a line."""
    return "".join(json.dumps(record) + "\n" for record in records)


def to_bytes(write: Callable[[io.BytesIO], Any]) -> bytes:
    """Return what a function writes into a file."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


ARRAY = json.dumps(RECORDS)
SPSS = labelled("t.sav", pyreadstat.write_sav, missing_ranges={"age": [999]})
STATA = labelled("t.dta", pyreadstat.write_dta)
FEATHER = written("t.feather", lambda table, path: pa.feather.write_feather(table, path))
ORC = written("t.orc", lambda table, path: pa.orc.write_table(pa.Table.from_pandas(table), path))
ODS = written("t.ods", lambda table, path: table.to_excel(path, engine="odf", index=False))
LABELS = ["columns with labels y; sex", "columns with labels scale", "codes: [scale]", 'positive: "yes"']
CASES = [
    # Read.
    Case("feather", FEATHER, True, ["format Arrow", "method: time"]),
    Case("arrow", named(FEATHER, "t.arrow"), True, ["format Arrow"]),
    Case("orc", ORC, True, ["format ORC", "method: time"]),
    Case("spss", SPSS, True, ["format SPSS", *LABELS]),
    Case("spss_compressed", labelled("t.zsav", pyreadstat.write_sav, compress=True), True, ["format SPSS", *LABELS]),
    Case("spss_portable", labelled("t.por", lambda table, path, variable_value_labels: pyreadstat.write_por(
        table.rename(columns=str.upper), path)), True, ["format SPSS"], target="Y"),
    Case("stata", STATA, True, ["format Stata", *LABELS]),
    Case("stata_of_2003", written("t.dta", lambda table, path: table.to_stata(path, version=114, write_index=False)),
         True, ["format Stata", "method: time"]),
    Case("sas", sas, True, ["format SAS"]),
    Case("sas_transport", written("t.xpt", pyreadstat.write_xport), True, ["format SAS"]),
    Case("arff", arff(), True, ["format ARFF"]),
    Case("arff_with_everything", arff("% a comment", "?, ?, yes", "{0 1.5, 2 no}", "'2', \"red\", 'no'"), True, ["format ARFF"]),
    Case("json_array", csv(ARRAY, "t.json"), True, ["format JSON", "class of interest True"]),
    Case("json_lines", csv(to_lines(RECORDS), "t.jsonl"), True, ["format JSON"]),
    Case("json_lines_named_txt", csv(to_lines(RECORDS), "t.txt"), True, ["source/t.json"]),
    Case("json_columns", written("t.json", lambda table, path: table.to_json(path, date_format="iso")), True,
         ["format JSON", "method: time"]),
    Case("json_split", written("t.json", lambda table, path: table.to_json(path, orient="split")), True),
    Case("json_of_a_service", csv(json.dumps({"status": "ok", "results": RECORDS}), "t.json"), True),
    Case("json_compressed", csv(lzma.compress(ARRAY.encode()), "t.json.xz"), True, ["source/t.json.xz"]),
    Case("json_in_latin1", csv(json.dumps([{**r, "city": "Köln"} for r in RECORDS], ensure_ascii=False), "t.json", "cp1252"),
         True, ["encoding: cp1252"]),
    Case("opendocument", ODS, True, ["format OpenDocument", "method: time"]),
    Case("excel_of_2003", old_excel, True, ["format Excel", "skip_lines: 2", "method: time"]),
    Case("excel_binary", binary_excel, True, ["format Excel", "source/t.xlsb"]),
    Case("text_named_xls", csv(dump(rows(), "\t"), "t.xls"), True, ["format text", "source/t.csv"]),
    Case("excel_named_csv", named(ODS, "t.csv"), True, ["source/t.ods"]),
    Case("column_called_like_a_format", csv(dump([{"PAR1": r["x"], "ORCID": r["colour"], "y": r["y"]} for r in rows()])), True),
    # Not read: the format is named, with the way out.
    Case("r_data", csv(lzma.compress(b"RDX3\n"), "t.rds"), False, ["t.rds: an R data file, which is not supported: write it with"]),
    Case("hdf5", csv(b"\x89HDF\r\n\x1a\n" + bytes(50), "t.h5"), False, ["an HDF5 file, which is not supported: write it as Parquet"]),
    Case("pickle", pickled, False, ["a Python pickle, which is not supported"]),
    Case("numpy", numpy_file, False, ["a NumPy array, which is not supported"]),
    Case("matlab", csv(b"MATLAB 5.0 MAT-file" + bytes(110), "t.mat"), False, ["a MATLAB file, which is not supported"]),
    Case("pdf", csv(b"%PDF-1.7\n%\x00\x01", "t.csv"), False, ["a PDF, which is not supported"]),
    Case("word", archive("t.docx", word__document=b"<xml/>"), False, ["a Word document, which is not supported"]),
    Case("numbers", archive("t.zip", Index__Document=b"", **{"Index__Document.iwa": b""}), False, ["an Apple Numbers document"]),
    Case("xml", csv("<?xml version='1.0'?><rows/>\n", "t.xml"), False, ["an XML file, which is not supported"]),
    Case("rar", csv(b"Rar!\x1a\x07\x00", "t.rar"), False, ["a RAR archive, which is not supported: unpack it"]),
    # Broken, in every format.
    Case("feather_cut_short", cut_short(FEATHER), False, ["t.feather: not an Arrow file, or truncated: copy it again"]),
    Case("feather_that_is_text", csv(dump(rows()), "t.feather"), False, ["not an Arrow file, or truncated"]),
    Case("orc_cut_short", cut_short(ORC), False, ["t.orc: not an ORC file, or truncated: copy it again"]),
    Case("parquet_encrypted", csv(b"PARE" + bytes(50), "t.parquet"), False, ["an encrypted Parquet file"]),
    Case("spss_cut_short", cut_short(SPSS), False, ["t.sav: not an SPSS file (.sav), or truncated: copy it again"]),
    Case("spss_empty", csv(b"", "t.sav"), False, ["t.sav is empty (0 bytes)"]),
    Case("spss_that_is_text", csv(dump(rows()), "t.sav"), False, ["not an SPSS file (.sav)"]),
    Case("stata_cut_short", cut_short(STATA), False, ["t.dta: not a Stata file (.dta), or truncated: copy it again"]),
    Case("sas_cut_short", cut_short(sas), False, ["t.sas7bdat: not a SAS file (.sas7bdat), or truncated: copy it again"]),
    Case("arff_word_among_numbers", arff("oops, red, yes"), False, ["column 'x', row 61: 'oops' is not a number"]),
    Case("arff_unknown_value", arff("1, pink, yes"), False, ["line 66: 'pink' is not a declared value of its attribute"]),
    Case("arff_row_too_long", arff("1, red, yes, no"), False, ["line 66: not one value for each of the 3 attributes"]),
    Case("arff_without_data", csv("@relation t\n@attribute x numeric\n", "t.arff"), False, ["not an ARFF file"]),
    Case("arff_of_relations", csv("@relation t\n@attribute x relational\n@data\n", "t.arff"), False,
         ["line 2: an attribute that is not numeric, nominal, string or date"]),
    Case("arff_without_rows", csv(HEADER, "t.arff"), False, ["0 data rows"]),
    Case("json_nested", csv(json.dumps([{**r, "place": {"city": "Rome"}} for r in RECORDS]), "t.json"), False,
         ["t.json: record 1: 'place' holds an object, not a plain value: flatten it, e.g. with pandas.json_normalize"]),
    Case("json_of_lists", csv(json.dumps([{**r, "tags": ["a"]} for r in RECORDS]), "t.json"), False, ["'tags' holds an array"]),
    Case("json_lines_torn", csv(to_lines(RECORDS)[:-20], "t.jsonl"), False, ['t.jsonl: line 60 (\'{"x": ', "truncated"]),
    Case("json_array_torn", csv(ARRAY[:-1], "t.json"), False, ["t.json: line 1: truncated"]),
    Case("json_single_quotes", csv(str(RECORDS), "t.json"), False, ["line 1: invalid JSON at"]),
    Case("json_fault_inside", csv(ARRAY.replace('"colour"', "colour", 1), "t.json"), False, ["line 1: invalid JSON at"]),
    Case("json_of_numbers", csv("[1, 2, 3]", "t.json"), False, ["record 1 is '1': write an array of objects, one per row"]),
    Case("json_empty_array", csv("[]", "t.json"), False, ["0 records"]),
    Case("json_trailing", csv(ARRAY + "x", "t.json"), False, ["invalid JSON at"]),
    Case("ods_cut_short", cut_short(ODS), False, ["t.ods: not an OpenDocument file (.ods), or truncated or damaged"]),
    Case("xls_cut_short", cut_short(old_excel), False, ["t.xls: not an Excel file (.xls), or truncated or damaged"]),
    Case("xlsb_cut_short", cut_short(binary_excel), False, ["t.xlsb: not an Excel file (.xlsb), or truncated or damaged"]),
    Case("excel_encrypted", encrypted_excel, False, ["t.xlsx: protected by a password: save it without a password"]),
    Case("zip_of_two_formats", archive("t.zip", **{"a.json": b"[]", "b.csv": b"x\n"}), False, ["2 files in the archive"]),
]  # fmt: skip
