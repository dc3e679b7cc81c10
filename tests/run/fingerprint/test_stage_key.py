"""A change is a change of meaning: what counts as one, in a file and in what it imports."""

import ast
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from labkit.run.fingerprint import code_cache, import_graph, stage_key
from labkit.run.fingerprint.notebook_code import read_notebook
from labkit.run.fingerprint.python_code import read_module
from labkit.run.notebook_files import WITHOUT_STAGE, find_stage

from tests.conftest import ROOT, make_environment

NASTY = r'''
# -*- coding: utf-8 -*-
"""Docs."""
from __future__ import annotations
import a.b as c, d
from . import *
x: int = 0xFFFF_FFFF; (y): int = 1_000; z = 1e400 + 1.5j - 0.1 - 0b1; huge = 0x%s
t = u"ä" 'b' "\d" "\ud800" "\N{BULLET}" '\0' "\U00032000"
f = f"a" "b" f"{x}" 'c' f"" f"{x!r:>{y}.{z}}{{}}" f"{x = !s}" f"{x:}" f"{x:%%Y-%%m}" rf"\d{x}" f'{f"{x}" "n"}' f"""
{x
}"""
g = b"\xff\x00z" if not x else (lambda a, /, b=1, *c, d=None, **e: (yield))
async def h(a: int, /, *, b: str = "s") -> "T":
    """Docs."""
    global t
    async with a as (b, c), d: pass
    async for i in j: await k
    else: return [p async for p in q if r if s]
    try: raise X from Y
    except* (V, W) as e: del e.f, g[1:2, ..., ::3], h
    finally: nonlocal_ = (u := 1)
@deco(1)(2)
class K(B, *bases, metaclass=M, **kw):
    """Docs."""
    n: ClassVar[int]
    m = None; """About m."""
match x:
    case {"k": [1, *_, -2.5 as w], **rest} | P(q, r=None) | (True | "s") if x > 1 < 2: x @= {1, *y}; {**z, None: 1}
    case _: x = not -+~y ** 2 // 3 and a or b is not c not in d
for i, in x: continue
while 1: break
assert x, "m"; print(*a, sep="")  ; é = 1; 𝔘 = 2
with (open(a) as b, c): x[a, *b] = 1
''' % ("f" * 5000)  # fmt: skip
NASTY_CODE = "3854c4fb9306574d117f266854cdb3ebadea0024aa145ad992603b4a15b1c9ff"


def code(source: str) -> str:
    return read_module(source.encode()).code


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = 1", "# why\na  =  1  # so\n\n"),
        ("a = 'x'", 'a = "x"'),
        ("f(a, b)", "f(\n    a,\n    b,\n)"),
        ("a = 'xy'", "a = 'x' 'y'"),
        ("a = 16", "a = 0x10"),
        ("a = 'x'", "a = u'x'"),
        ("def f():\n    return 1", 'def f():\n    """Say."""\n    return 1'),
        ("class A:\n    b = 1", 'class A:\n    """Say."""\n\n    b = 1\n    """More."""'),
        ("a = f'x{b}'", "a = f'' 'x' f'{b}'"),
        ("a = 1", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\na = 1".partition("\n")[2]),
        ("a = 1\r\nb = 2\r\n", "a = 1\nb = 2\n"),
        ("\ufeffa = 1", "a = 1"),
        ("a = (1)", "a = 1"),
    ],
)
def test_form_is_no_change(before: str, after: str) -> None:
    assert code(before) == code(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = 1", "a = 2"),
        ("a = 1", "a = 1.0"),
        ("a = 1", "a = True"),
        ("a = 1", "b = 1"),
        ("a = 'x'", "a = b'x'"),
        ("a = 'x'", "a = f'x'"),
        ("a = ['x', 'y']", "a = ['x\\0', 'y']"),
        ("a = ['ab', 'c']", "a = ['a', 'bc']"),
        ("a = f'{b}'", "a = f'{b!r}'"),
        ("a = f'{b:.1f}'", "a = f'{b:.2f}'"),
        ("a = f'{b}c'", "a = f'{b}d'"),
        ("a = None", "a = ..."),
        ("f(a, b)", "f(b, a)"),
        ("f(a)", "f(*a)"),
        ("{**a}", "{None: a}"),
        ("def f(*, a): 0", "def f(*, a=None): 0"),
        ("import a", "import a as b"),
        ("from a import b", "from .a import b"),
        ("a = 1\nb = 2", "b = 2\na = 1"),
        ("a - b - c", "a - (b - c)"),
        ("async def f(): 0", "def f(): 0"),
        ("x: int = 1", "(x): int = 1"),
        ("a = 1", "a = 1 +"),
        ("a = 1 +", "a = 2 +"),
        ("if a:\n    b", "if a:\n    b\nelse:\n    c"),
        ("if TYPE_CHECKING:\n    b\nelse:\n    c", "if TYPE_CHECKING:\n    b\nelse:\n    d"),
    ],
)
def test_meaning_is_a_change(before: str, after: str) -> None:
    assert code(before) != code(after)


def find_interpreters() -> list[str]:
    """Return the interpreters here of the versions we serve: pyenv's, or on the path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for name in ("3.11", "3.12", "3.13"):
        path = next(map(str, pyenv.glob(f"{name}.*/bin/python")), None) or shutil.which(f"python{name}")
        found += [path] if path else []
    return found


def test_versions_of_python_agree_on_a_sample() -> None:
    """This interpreter finds what every other one found: the digest is written down here."""
    with warnings.catch_warnings(action="ignore"):
        ast.parse(NASTY)
    assert code(NASTY) == NASTY_CODE


@pytest.mark.slow
def test_versions_of_python_agree_on_all_our_code(tmp_path: Path) -> None:
    (tmp_path / "nasty.py").write_text(NASTY, encoding="utf-8")
    files = [*ROOT.glob("lib/labkit/**/*.py"), *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("tests/**/*.py")]
    program = (
        "import sys, json\nfrom pathlib import Path\nfrom labkit.run.fingerprint import notebook_code, python_code\n"
        "read = lambda path: (notebook_code.read_notebook if path.suffix == '.ipynb' else python_code.read_module)(path.read_bytes())\n"
        "print(json.dumps([repr(read(Path(name))) for name in json.load(sys.stdin)]))"
    )
    found = {}
    for interpreter in [sys.executable, *find_interpreters()]:
        done = subprocess.run(
            [interpreter, "-S", "-c", program],
            input=json.dumps([str(path) for path in [tmp_path / "nasty.py", *files]]),
            env={"PYTHONPATH": str(ROOT / "lib")},
            capture_output=True,
            text=True,
            check=True,
        )
        found[interpreter] = done.stdout
    assert len(set(found.values())) == 1, list(found)


def make_notebook(*cells: str | tuple[str, list[str]]) -> Any:
    """Return a notebook of code cells, given by source, or by source and tags; those that begin with # % are prose."""
    notebook = nbformat.v4.new_notebook()
    for cell in cells:
        source, tags = (cell, []) if isinstance(cell, str) else cell
        make = nbformat.v4.new_markdown_cell if source.startswith("# %") else nbformat.v4.new_code_cell
        notebook.cells.append(make(source, metadata={"tags": tags} if tags else {}))
    return notebook


def notebook_code(*cells: str | tuple[str, list[str]]) -> str:
    return read_notebook(json.dumps(make_notebook(*cells)).encode()).code


PARAMETERS = ("x = 1", ["parameters"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a = 1\nb = 2"], ["a = 1", "b = 2"]),
        (["a = 1", "b = 2"], ["a = 1", "", "# nothing", "# % prose", "b = 2"]),
        ([PARAMETERS, "a = 1"], [PARAMETERS, "# % prose", "a = 1"]),
        (["a = 1"], [("a = 1", ["hide-input"])]),
        (["%time f(1, 2)"], ["%time f(1,2)"]),
        (["%%time\nf(1, 2)"], ["%%time\nf(1,2)  # why"]),
        (["!ls -l"], ["!ls -l  \n"]),
        (["a", ("f(", ["skip-execution"])], ["a"]),
        (["f();"], ["f() ;  # quiet"]),
        (["a\r\nf()"], ["a\nf()"]),
        (["a\rf()"], ["a\nf()"]),
    ],
)
def test_form_of_a_notebook_is_no_change(before: list[Any], after: list[Any]) -> None:
    assert notebook_code(*before) == notebook_code(*after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a = 1", "b = 2"], ["b = 2", "a = 1"]),
        ([PARAMETERS, "x = 1"], ["x = 1", PARAMETERS]),
        (["f()\ng()"], ["f()", "g()"]),
        (["f()"], ["f();"]),
        (["'shown'"], ["'seen'"]),
        (["%matplotlib inline"], ["%matplotlib widget"]),
        (["%matplotlib inline\na = 1"], ["a = 1"]),
        (["!ls"], ["!ls -l"]),
        (["%%time\nf(1)"], ["%%time\nf(2)"]),
        (["%%bash\na -b"], ["%%bash\na - b"]),
        (["f?"], ["g?"]),
        (["get_ipython().run_line_magic()"], ["get_ipython().run_line_magic('x')"]),
        (["a = '\ud800'?"], ["a = '\ud801'?"]),
        (["a = (1"], ["a = (2"]),
        (["f()"], [("f()", ["raises-exception"])]),
    ],
)
def test_meaning_of_a_notebook_is_a_change(before: list[Any], after: list[Any]) -> None:
    assert notebook_code(*before) != notebook_code(*after)


def test_running_and_saving_a_notebook_is_no_change() -> None:
    notebook = make_notebook(PARAMETERS, "f()", "# % prose")
    before = read_notebook(nbformat.writes(notebook).encode())
    for cell in notebook.cells:
        cell.id = f"other-{cell.id}"
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    notebook.cells[1].execution_count = 7
    notebook.metadata.language_info = {"name": "python", "version": "3.13.0"}
    tree = json.loads(nbformat.writes(notebook))
    tree["cells"][1]["source"] = "".join(tree["cells"][1]["source"])
    assert read_notebook(json.dumps(tree).encode()) == before


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"cells": [1]}', b"\xff", b'{"cells": [{"cell_type": "code"}]}']
)
def test_invalid_notebook_counts_by_its_bytes(content: bytes) -> None:
    assert read_notebook(content) != read_notebook(content + b" ")


@pytest.mark.parametrize(
    "content", [b"a = (", b"\xff\xfe", b"a = '\xff'", b"\0", b"-" * 100_000 + b"1", b"# coding: none\n"]
)
def test_module_that_is_not_python_counts_by_its_bytes(content: bytes) -> None:
    assert read_module(content).code != read_module(content + b"\n1 1").code


PACKAGE = {
    "notebooks/first.py": "import second",
    "notebooks/second.py": "import first\nLIMIT = 1",
    "notebooks/room/__init__.py": "from .door import *\nfrom room.wall import LIMIT",
    "notebooks/room/door.py": "__all__ = ['OPEN']\nOPEN = 1",
    "notebooks/room/wall.py": "LIMIT = 1",
    "notebooks/room/roof/__init__.py": "from .. import wall\nfrom . import *\n__all__ = ['tile']",
    "notebooks/room/roof/tile.py": "from ..window import glass",
    "notebooks/room/window.py": "glass = 1",
    "notebooks/room/cellar.py": "",
    "notebooks/space/inner/thing.py": "",
    "notebooks/other.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": "import first"}]}),
    "src/apart.py": "",
    "unused.py": "",
}
ROOM = ["room/__init__", "room/door", "room/wall"]
FIRST = ["first", "second"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import json, pandas.io, nothing.at.all", []),
        ("import first", FIRST),
        ("def f():\n    import first", FIRST),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import first\nelse:\n    import second", FIRST),
        ("import typing\nif typing.TYPE_CHECKING:\n    import first", []),
        ("import room", ROOM),
        ("import room.cellar as deep", [*ROOM, "room/cellar"]),
        ("from room import cellar, LIMIT", [*ROOM, "room/cellar"]),
        ("from room.door import OPEN", ROOM),
        ("import room.roof", [*ROOM, "room/roof/__init__", "room/roof/tile", "room/window"]),
        ("import space.inner.thing", ["space/inner/thing"]),
        ("from space.inner import thing", ["space/inner/thing"]),
        ("import importlib\nimportlib.import_module('room.cellar')", [*ROOM, "room/cellar"]),
        ("import_module('.cellar', 'room')", [*ROOM, "room/cellar"]),
        ("__import__('first')", FIRST),
        ("%run second.py --fast", FIRST),
        ("%run other.ipynb", [*FIRST, "other"]),
        ("%%time\nimport first", FIRST),
        ("exec(open('second.py').read())", FIRST),
        ("import sys\nsys.path.append('../src')\nimport apart", ["../src/apart"]),
        ("import sys\nsys.path.insert(0, str(root / 'src'))\nimport apart", ["../src/apart"]),
        ("import apart", []),
        ("import first\na = (", []),
    ],
)
def test_closure_is_what_python_would_import(tmp_path: Path, source: str, expected: list[str]) -> None:
    start = write_tree(tmp_path, source)
    found = import_graph.Checkout(tmp_path).find_closure(start)
    names = {os.path.relpath(path.with_suffix(""), start.parent) for path in found[1:]}
    assert found[0] == start
    assert names == set(expected)


def write_tree(root: Path, source: str) -> Path:
    """Write the little modules and a notebook of one cell beside them."""
    for name, module in PACKAGE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(module)
    start = root / "notebooks" / "01_eda.ipynb"
    start.write_text(nbformat.writes(make_notebook(source)))
    return start


def test_helper_of_a_helper_changes_the_digests_and_docs_only_where_they_are_read(tmp_path: Path) -> None:
    start = write_tree(tmp_path, "import first")

    def compute() -> dict[str, str]:
        return stage_key.compute_code_digests(import_graph.Checkout(tmp_path), start)

    before = compute()
    assert list(before) == ["notebooks/01_eda.ipynb", "notebooks/first.py", "notebooks/second.py"]
    (tmp_path / "notebooks" / "second.py").write_text('"""Docs."""\nimport first\nLIMIT = 1')
    assert compute() == before
    (tmp_path / "notebooks" / "second.py").write_text("import first\nLIMIT = 2")
    assert {name for name, digest in compute().items() if digest != before[name]} == {"notebooks/second.py"}
    (tmp_path / "notebooks" / "first.py").write_text("import second\nprint(second.__doc__)")
    read = compute()
    (tmp_path / "notebooks" / "second.py").write_text('"""Docs."""\nimport first\nLIMIT = 2')
    assert compute() != read
    (tmp_path / "notebooks" / "second.py").unlink()
    assert "notebooks/second.py" not in compute()


def test_meanings_are_remembered_by_content_and_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = write_tree(tmp_path, "from room import *\n%run second.py --fast\nimport sys\nsys.path.append('../src')")
    first = import_graph.Checkout(tmp_path)
    found = stage_key.compute_code_digests(first, start)
    first.meanings.save()
    assert first.meanings.remembered
    place = first.meanings.place

    def refuse(content: bytes) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(code_cache.notebook_code, "read_notebook", refuse)
        patch.setattr(code_cache.python_code, "read_module", refuse)
        assert stage_key.compute_code_digests(import_graph.Checkout(tmp_path), start) == found
        (tmp_path / "notebooks" / "second.py").write_text("import first\nLIMIT = 2")
        with pytest.raises(AssertionError, match="read again"):
            stage_key.compute_code_digests(import_graph.Checkout(tmp_path), start)
    assert stage_key.compute_code_digests(import_graph.Checkout(tmp_path), start) != found
    for content in (b"", b"[]", b'{"readers": "other", "meanings": {}}', place.read_bytes()[:-9]):
        place.write_bytes(content)
        assert code_cache.CodeCache(tmp_path).remembered == {}


def test_environment_inside_the_checkout_is_not_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / ".venv" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(sys, "path", ["", str(packages), str(tmp_path), str(tmp_path / "src"), "/usr/lib"])
    assert import_graph.list_folders(tmp_path) == (tmp_path / "notebooks", tmp_path / "src", tmp_path)


# Notebooks of no stage have no closure.
NOTEBOOKS = [
    path
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not path.name.startswith("00_") and find_stage(path) not in WITHOUT_STAGE
]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_closure_holds_all_that_really_gets_imported(path: Path) -> None:
    """Imports and start of a notebook, in a fresh interpreter."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    program = "\n".join([cells[0].source, cells[1].source, "import json, sys", PRINT_MODULES])
    assert_held(path, program)


@pytest.mark.slow
def test_closure_of_the_source_stage_holds_all_that_it_imports(tmp_path: Path) -> None:
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom labkit.params.load import load_params\n"
        "from labkit.stages.source import place_tables\n"
        f"place_tables(load_params('diabetes'), Path({str(tmp_path)!r}), Path({str(tmp_path / 'contract.json')!r}))\n"
    )
    assert_held(ROOT / "lib" / "labkit" / "stages" / "source.py", program + PRINT_MODULES)


PRINT_MODULES = "print('\\n' + json.dumps([getattr(one, '__file__', None) for one in sys.modules.values()]))"


def assert_held(start: Path, program: str) -> None:
    """Run a program beside the notebooks and compare the local modules it imported with the closure."""
    environment = {**make_environment(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "notebooks",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    files = {Path(name).resolve() for name in json.loads(done.stdout.splitlines()[-1]) if name}
    ours = {
        file for file in files if file.is_relative_to(import_graph.LABKIT) or file.is_relative_to(ROOT / "notebooks")
    }
    assert len(ours) > 5
    missing = ours - set(import_graph.Checkout(ROOT).find_closure(start))
    assert {file for file in missing if not file.is_relative_to(import_graph.MACHINERY)} == set()
