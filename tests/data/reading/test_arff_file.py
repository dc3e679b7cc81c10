"""ARFF: attributes are what they are declared to be, whatever their values look like."""

from pathlib import Path

import pyarrow as pa
from labkit.data.reading.raw_table import RawTable, Source
from labkit.params.tables import Table

CONTENT = """\
% A comment
@RELATION 'a relation'
@ATTRIBUTE 'sepal length' NUMERIC
@attribute id integer [0,100]
@attribute code {1, 2, 'no way', None}
@attribute words string
@attribute at date "yyyy-MM-dd"
@attribute half real
@DATA
5.1, 9007199254740993, 1, "x, y", "2024-01-02", 1
% amid the rows
?, 2, 'no way', 'it\\'s', ?, 1e3
-1,	3, None, ?, 2024-01-03, 2
{0 7.5, 1 4, 2 2}
"""


def test_attributes_keep_their_declared_types(tmp_path: Path) -> None:
    (tmp_path / "t.arff").write_text(CONTENT)
    raw = RawTable("t", Table(path="t.arff"), [Source(tmp_path / "t.arff", "t.arff")])
    found = pa.concat_tables(raw.read())
    assert found.to_pydict() == {
        "sepal length": [5.1, None, -1.0, 7.5],
        "id": [9007199254740993, 2, 3, 4],
        "code": ["1", "no way", "None", "2"],
        "words": ["x, y", "it's", None, "0"],
        "at": ["2024-01-02", None, "2024-01-03", "0"],
        "half": [1.0, 1000.0, 2.0, 0.0],
    }
    assert found.schema.types[1] == pa.int64()
    assert raw.n_rows == 4
