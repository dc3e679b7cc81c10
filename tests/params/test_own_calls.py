"""Code of the user's own cannot end labkit, and reads no rows but those that it is given."""

import os
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from labkit.errors import HiddenRowsError, ParamsError
from labkit.params import own_calls
from labkit.params.import_path import resolve_callable
from labkit.params.own_calls import find_raising_line, hide_tables, own_code, without_exits

from tests.own_library import open_library

PACKAGE = "hidden_own"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of an empty package in a checkout with an experiment, its data and another table."""
    with open_library(tmp_path, monkeypatch, PACKAGE) as folder:
        (folder / "__init__.py").touch()
        (tmp_path / "params" / "gym.yaml").touch()
        for name in ("data/gym/clean/holdout.csv", "data/gym/members.csv", "data/prices.csv", "tables/raw.csv"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("1\n")
        monkeypatch.setattr(own_calls, "TABLES", set())
        monkeypatch.setattr(own_calls, "WATCHES", [])
        monkeypatch.chdir(tmp_path)
        hide_tables("gym", ["tables/raw.csv"])
        yield folder


def call(library: Path, source: str) -> object:
    """Write a function of one's own, whose second line is given, and call it."""
    name = f"code{len([*library.glob('code*.py')])}"
    (library / f"{name}.py").write_text(f"def run():\n    {source}\n")
    return resolve_callable(f"{PACKAGE}.{name}:run", where="here")()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("return open('data/gym/clean/holdout.csv').read()", "data/gym/clean/holdout.csv"),
        ("import pandas as pd; pd.read_csv('data/gym/members.csv')", "data/gym/members.csv"),
        ("import os; os.close(os.open('data/gym/../gym/members.csv', os.O_RDWR))", "data/gym/members.csv"),
        ("import os; os.symlink('tables', 'x'); return open('x/raw.csv').read()", "tables/raw.csv"),
        ("import sqlite3; sqlite3.connect('data/gym/members.csv')", "data/gym/members.csv"),
        ("import numpy as np; np.loadtxt(__file__.rpartition('/lib/')[0] + '/tables/raw.csv')", "tables/raw.csv"),
    ],
)
def test_files_of_the_pipeline_are_not_read(library: Path, source: str, shown: str) -> None:
    with pytest.raises(HiddenRowsError) as raised, own_code():
        call(library, source)
    assert str(raised.value).startswith(f"lib/{PACKAGE}/code0.py:2 reads {shown}: own code uses only the rows that")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports what libraries read")
def test_files_that_a_library_reads_by_itself_are_seen(library: Path) -> None:
    for name in ("data/gym/clean/holdout.parquet", "data/gym/clean/other.parquet", "tables/rest.parquet"):
        pd.DataFrame({"a": [1]}).to_parquet(name)
    pd.read_parquet("data/gym/clean/holdout.parquet")
    with own_code():
        call(library, "import pandas as pd; return pd.read_parquet('tables/rest.parquet')")
        call(library, "import pandas as pd; pd.DataFrame({'a': [1]}).to_parquet('data/gym/clean/other.parquet')")
    for end in ("", "; 1 / 0"):
        source = f"import pyarrow.parquet as pq; pq.read_table('data/gym/clean/holdout.parquet'){end}"
        with (
            pytest.raises(HiddenRowsError, match="^reads data/gym/clean/holdout.parquet: own code uses only"),
            own_code(),
        ):
            call(library, source)


def test_a_read_is_reported_even_if_its_error_is_caught(library: Path) -> None:
    source = "import contextlib\n    with contextlib.suppress(Exception): open('data/gym/members.csv')"
    for end in ("", "\n    1 / 0"):
        with pytest.raises(HiddenRowsError, match=r"code\d\.py:3 reads data/gym/members\.csv: "), own_code():
            call(library, source + end)
    with own_code():
        pass


def test_other_files_and_other_code_are_not_disturbed(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_calls, "WATCHES", [])  # as in a process that works on no experiment, such as a service
    (library / "prices.csv").write_text("2\n")
    (library / "shortcut.csv").symlink_to("prices.csv")
    with own_code():
        assert call(library, "return open('data/prices.csv').read()") == "1\n"
        assert (
            call(library, "import pathlib; return pathlib.Path(__file__).with_name('shortcut.csv').read_text()")
            == "2\n"
        )
        call(library, "open('data/gym/notes.txt', 'w').close()")
        read: list[str] = []
        other = threading.Thread(target=lambda: read.append(Path("data/gym/members.csv").read_text()))
        other.start()
        other.join()
    assert read == ["1\n"]
    assert Path("data/gym/members.csv").read_text() == "1\n"
    sqlite3.connect("data/gym/members.csv").close()


def test_a_module_reads_no_rows_while_it_is_imported(library: Path) -> None:
    (library / "eager.py").write_text("import csv\nROWS = list(csv.reader(open('data/gym/members.csv')))\n")
    message = re.escape(
        f"here: {PACKAGE}.eager:x: while it is imported, lib/{PACKAGE}/eager.py:2 reads data/gym/members.csv"
    )
    with pytest.raises(ParamsError, match=f"^{message}"):
        resolve_callable(f"{PACKAGE}.eager:x", where="here")


@pytest.mark.parametrize(
    "source",
    ["raise SystemExit(0)", "import sys; sys.exit(3)", "raise KeyboardInterrupt", "raise BaseException('panic')"],
)
def test_code_that_would_end_labkit_is_an_error_with_its_line(library: Path, source: str) -> None:
    with pytest.raises(RuntimeError, match="^raises .*, which would end labkit$") as raised, without_exits():
        call(library, source)
    assert find_raising_line(raised.value) == f"lib/{PACKAGE}/code0.py:2"


def test_an_interrupt_is_still_an_interrupt(library: Path) -> None:
    with pytest.raises(KeyboardInterrupt), own_code():
        call(library, "import time; import os; import signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), own_code():
        call(library, "\n    while True: pass")
