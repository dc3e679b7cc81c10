"""A notebook continued from a checkpoint ends as one that ran from its first cell, whatever state its cells made."""

import hashlib
import os
import random
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import pytest
from labkit.run.notebook.checkpoints import Checkpoint, Checkpointer
from labkit.run.notebook.execution import Live
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.result import Execution
from labkit.run.notebook.source import read_source
from labkit.run.notebook.work_files import note_files, restore_work

from tests.run.kernels.warm_kernels import make_bare
from tests.run.notebook.small_notebooks import EXPERIMENT, make_notebook
from tests.shared_server import SharedServer

BEGIN = """
import os, pathlib
work = pathlib.Path(os.environ["LABKIT_RUN_DIR"])
folder = work / "outputs"
folder.mkdir()
"""


@dataclass(frozen=True)
class State:
    """State of a kernel: the cell that makes it, the lines of the failing cell that change it, and a value that shows it."""

    made: str
    shown: str
    changed: str = "pass"


STATES = {
    "random": State(
        "import random; random.seed({seed}); first = random.random()", "random.random()", "random.random()"
    ),
    "numpy's random": State(
        "import numpy as np; np.random.seed({seed}); rng = np.random.default_rng({seed})",
        "[np.random.random(), rng.normal()]",
        "rng.normal(size=9); np.random.random()",
    ),
    "a generator": State("squares = (n * n for n in range(100)); next(squares)", "next(squares)", "next(squares)"),
    "closures": State(
        "def count():\n    n = {seed}\n    def step():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return step\ntick = count(); double = lambda: 2 * tick()",
        "double()",
        "tick()",
    ),
    "a large array": State(
        "import numpy; large = numpy.arange(1_000_000, dtype=float) + {seed}", "float(large.sum())", "large[:] = 0"
    ),
    "a plot": State(
        "import hashlib, io, matplotlib.pyplot as plt; figure, axes = plt.subplots(); axes.plot([1, {seed}])\n"
        "def draw():\n    stream = io.BytesIO()\n    figure.savefig(stream)\n"
        "    return hashlib.sha256(stream.getvalue()).hexdigest()\nplt.show()",
        "draw()",
        "axes.plot([3, 4]); plt.rcParams['font.size'] = 20",
    ),
    "a file open to read": State(
        "lines = open(os.environ['LABKIT_ROOT'] + '/notebooks/lines.txt', 'rb', buffering=0); lines.readline()",
        "lines.readline().decode()",
        "lines.readline(); lines.readline()",
    ),
    "a file that grows": State(
        "(folder / 'grown.txt').write_text('{seed}')",
        "(folder / 'grown.txt').read_text()",
        "(folder / 'grown.txt').open('a').write('more'); (folder / 'other.txt').write_text('x')",
    ),
    "a database in memory": State(
        "import sqlite3; base = sqlite3.connect(':memory:'); base.execute('create table t (n)');",
        "base.execute('select count(*) from t').fetchone()[0]",
        "base.execute('insert into t values (1)')",
    ),
    "a lock, a pattern and a module": State(
        "import threading, re, types; lock = threading.Lock(); own = types.ModuleType('own'); own.kept = [{seed}]",
        "[lock.locked(), own.kept, bool(re.compile('a+').match('aa'))]",
        "lock.acquire(); own.kept.append(1)",
    ),
    "contexts": State(
        "import decimal, warnings; decimal.getcontext().prec = 5; warnings.simplefilter('ignore')",
        "[str(decimal.Decimal(1) / 3), len(warnings.filters)]",
        "decimal.getcontext().prec = 9; warnings.resetwarnings()",
    ),
    "numpy's errors": State(
        "import numpy as n2; n2.seterr(all='raise')", "n2.geterr()['divide']", "n2.seterr(all='warn')"
    ),
    "a class": State(
        "class Point:\n    total = {seed}\npoint = Point()", "[Point.total, point.total]", "Point.total = 0"
    ),
    "a table": State(
        "import pandas as pd; table = pd.DataFrame(dict(a=[1, {seed}], b=['x', 'y'])); table.to_parquet(folder / 't.pq')",
        "[int(pd.read_parquet(folder / 't.pq').a.sum()), list(table.columns)]",
        "table['c'] = 1; del table['a']",
    ),
    "the current folder": State(
        "os.chdir(work)", "[pathlib.Path('outputs').exists(), pathlib.Path('lines.txt').exists()]", "os.chdir('/')"
    ),
    "an update of what is shown": State(
        "from IPython.display import display; place = display('first', display_id=True)",
        "place.update('second')",
        "place.update('wrong'); print('lost')",
    ),
    "the environment": State(
        "os.environ['KIT_MODE'] = 'm{seed}'", "os.environ['KIT_MODE']", "os.environ['KIT_MODE'] = 'wrong'"
    ),
    "results of cells": State("7 * {seed}", "_ if isinstance(_, int) else str(_)", "_ = 0"),
    "a printed line": State("import sys; print('printed {seed}'); print('warned', file=sys.stderr)", "1", "print('x')"),
    "logging": State(
        "import logging; log = logging.getLogger('kit'); log.addHandler(logging.StreamHandler()); log.warning('one')",
        "log.warning('two')",
        "log.handlers.clear()",
    ),
}
"""What cannot be pickled is among it."""


@pytest.fixture
def root(tmp_path: Path, shared_server: SharedServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_ROOT", str(make_bare(tmp_path)))
    monkeypatch.setenv("LABKIT_WARM", str(shared_server.address))
    for name in ("first", "second"):
        (tmp_path / ".labkit" / "work" / name).mkdir(parents=True)
    return tmp_path


@dataclass
class Notebook:
    """A notebook of a checkout that runs in a folder of its own, as a stage does."""

    root: Path
    work: Path

    def run(self, *sources: str, seconds: float | None = None, start: Checkpoint | None = None) -> Checkpointer:
        """Run cells after the beginning, from the first or from a checkpoint; with 0 seconds, take one before each."""
        path = make_notebook(self.root / "notebooks" / "01_eda.ipynb", EXPERIMENT, BEGIN, *sources)
        checkpointer = Checkpointer(self.work, seconds, start)
        self.ended: Execution = run_notebook(
            read_source(path),
            self.work / "executed.ipynb",
            parameters={"experiment": "other"},
            environment={**os.environ, "LABKIT_RUN_DIR": str(self.work)},
            on_cell=lambda *_: None,
            live=Live(checkpointer=checkpointer),
        )
        executed = nbformat.read(self.work / "executed.ipynb", as_version=4)
        self.shown = [(one.source, one.execution_count, str(one.outputs)) for one in executed.cells if "outputs" in one]
        return checkpointer

    def list_outputs(self) -> dict[str, str]:
        """Return the digest of each file that the cells wrote."""
        files = sorted(path for path in (self.work / "outputs").rglob("*") if path.is_file())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("seed", range(20))
def test_continued_notebook_ends_as_one_that_ran_from_its_first_cell(root: Path, seed: int) -> None:
    chosen = list(dict.fromkeys([sorted(STATES)[seed], *random.Random(seed).sample(sorted(STATES), 6)]))
    states = [STATES[name] for name in chosen]
    (root / "notebooks" / "lines.txt").write_text("".join(f"line {n}\n" for n in range(100)))
    made = [state.made.replace("{seed}", str(seed + 2)) for state in states]
    values = f"[{', '.join(state.shown for state in states)}]"
    save = f"import json; values = {values}; print(values); (folder / 'values.json').write_text(json.dumps(values))"
    broken = "\n".join([*(state.changed for state in states), "for n in range(5):", "    assert n < 3"])
    fixed = "for n in range(5):\n    assert n < 9"

    first = Notebook(root, root / ".labkit" / "work" / "first")
    failed = first.run(*made, broken, save, seconds=0)
    assert first.ended.failure
    assert "assert n < 3" in first.ended.failure.line, first.ended
    assert failed.is_kept, failed.obstacle
    assert failed.latest
    try:
        assert restore_work(first.work, failed.latest.files) == ""
        assert len(failed.latest.cells) == 3 + len(made), "all that ran before it, with the injected parameters"
        first.run(*made, fixed, save, start=replace(failed.latest, files=note_files(first.work)))
    finally:
        os.kill(failed.latest.pid, signal.SIGKILL)
    assert first.ended.failure is None, first.ended.failure

    second = Notebook(root, root / ".labkit" / "work" / "second")
    second.run(*made, fixed, save)
    assert second.ended.failure is None
    assert "values.json" in first.list_outputs()
    assert first.list_outputs() == second.list_outputs(), chosen
    assert first.shown == second.shown, chosen
