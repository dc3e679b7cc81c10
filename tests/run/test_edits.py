"""Which stages each kind of edit runs again: a table that is checked against real runs.

The edits are made one after another, each on top of those before, in two checkouts: in one `labkit run` executes what
must run, in the other plain `dvc repro` has to come to the same stages and the same bytes. The second shares the
cache of the first, so that DVC takes from there what has been made already from the same code, params and data, and
executes only what it does not find. For the last edit it executes every stage. A stage that runs again and writes the
same bytes stops the wave: what follows it is skipped. Edits that run nothing come first: after each of them no stage
may be stale, and the run is that of all together.
"""

import ast
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from tests import preloaded
from tests.conftest import ROOT, call_labkit, make_checkout, make_environment
from tests.preloaded import DVC
from tests.shop import SHOP, change, write_tables

ALL = ["source", "eda", "wrangling", "features", "training", "evaluation", "deploy", "explanation"]
pytestmark = pytest.mark.xdist_group("edits")


@dataclass(frozen=True)
class Shop:
    """A checkout, whose own code runs, with a small experiment."""

    root: Path

    @property
    def lock(self) -> str:
        """What DVC knows of all inputs and outputs."""
        return (self.root / "dvc.lock").read_text()

    def call(self, *arguments: str) -> str:
        """Run the command line with the checkout's own code and return what it printed."""
        done = call_labkit(self.root, *arguments, PYTHONPATH=str(self.root / "lib"))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_labkit(self) -> list[str]:
        """Run what has changed, and return the stages that ran, in the pipeline's order."""
        printed = self.call("run", "shop", "--until", "explanation")
        return sorted(re.findall(r"^(\w+) +ran ", printed, re.MULTILINE), key=ALL.index)

    def run_dvc(self, *, is_cache_used: bool) -> list[str]:
        """Let DVC reproduce, and return the stages that it ran or, knowing the result, took from its cache.

        DVC takes nothing from its cache for stages whose outputs persist, as they do in dvc.yaml.
        """
        declared = (ROOT / "dvc.yaml").read_text().replace("experiments: [", "experiments: [shop, ")
        shown = declared.replace("persist: true", "persist: false") if is_cache_used else declared
        (self.root / "dvc.yaml").write_text(shown)
        environment = {**make_environment(self.root), "PYTHONPATH": str(self.root / "lib")}
        done = preloaded.run(
            [DVC, "repro", "eda@shop", "explanation@shop"], cwd=self.root, env=environment, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        first, *ran = re.findall(r"(?:Running stage|Stage) '(\w+)@shop'(?:$|:| is cached)", done.stdout, re.MULTILINE)
        assert first == "fingerprint"
        return sorted(ran, key=ALL.index)

    def explain(self) -> str:
        """Return what `labkit status` shows, as one line."""
        done = call_labkit(self.root, "status", "shop", PYTHONPATH=str(self.root / "lib"), COLUMNS="300")
        assert done.returncode == 0, done.stderr
        return re.sub(r"\s+", " ", done.stdout)

    def find_stale(self) -> list[str]:
        """Return the stages that `labkit status` shows as stale, but for publishing, which has not run here at all."""
        return [stage for stage in re.findall(r"(\w+) stale", self.explain()) if stage != "publish"]

    def publish(self, page: str) -> bytes:
        """Publish, and return a page."""
        done = call_labkit(self.root, "stage", "publish", "shop", PYTHONPATH=str(self.root / "lib"))
        assert done.returncode == 0, done.stderr
        return (self.root / "reports" / "shop" / f"{page}.html").read_bytes()

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a string in a file."""
        change(self.root / file, old, new)

    def edit_cell(self, stage: str, old: str, new: str) -> None:
        """Replace a string in a notebook's cell."""
        self.edit(f"notebooks/{stage}.ipynb", json.dumps(old)[1:-1], json.dumps(new)[1:-1])

    def append(self, file: str, content: str) -> None:
        """Append a string to a file, which need not be there."""
        with (self.root / file).open("a") as stream:
            stream.write(content)


@dataclass(frozen=True)
class Twins:
    """Two checkouts in the same state."""

    first: Shop
    second: Shop

    def edit(self, edit: Callable[[Shop], None]) -> None:
        """Make an edit in both."""
        edit(self.first)
        edit(self.second)

    def run(self, *, is_cache_used: bool = True) -> list[str]:
        """Run both, the first with labkit, and return the stages, on which they have to agree."""
        ran = self.first.run_labkit()
        assert self.second.run_dvc(is_cache_used=is_cache_used) == ran
        assert self.second.lock == self.first.lock
        return ran


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Twins]:
    """Return two checkouts in which a small experiment has run once.

    Each keeps a process that kernels are forks of, so that an edit would not be seen if that had imported what is edited.
    """
    folder = tmp_path_factory.mktemp("edits")
    first, second = Shop(make_checkout(folder / "first", store=store)), Shop(folder / "second")
    (first.root / "params" / "shop.yaml").write_text(SHOP)
    change(first.root / "dvc.yaml", "experiments: [", "experiments: [shop, ")
    write_tables(first.root)
    first.call("warm")
    assert first.run_labkit() == ALL
    shutil.copytree(first.root, second.root, ignore=shutil.ignore_patterns("cache", "tmp"))
    (second.root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {first.root / '.dvc' / 'cache'}\n")
    second.call("warm")
    yield Twins(first, second)
    for shop in (first, second):
        shop.call("warm", "--stop")


def save_in_jupyter(shop: Shop) -> None:
    """Do what running and saving all notebooks in JupyterLab does to their files."""
    for path in (shop.root / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata["language_info"] = {"name": "python", "version": "3.13.0"}
        for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", text=f"{number}\n")]
            cell.metadata["execution"] = {"iopub.execute_input": "2025-01-01T00:00:00Z"}
        nbformat.write(notebook, path)


def reformat(shop: Shop) -> None:
    """Write a module and the cells of a notebook in other quotes and lines, without comments."""
    module = shop.root / "lib" / "labkit" / "features" / "row_computation.py"
    module.write_text(ast.unparse(ast.parse(module.read_text())))
    path = shop.root / "notebooks" / "03_features.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = f"\n{ast.unparse(ast.parse(cell.source))}\n\n"
    nbformat.write(notebook, path)


def rename(shop: Shop) -> None:
    """Give a variable of a notebook another name."""
    path = shop.root / "notebooks" / "04_training.ipynb"
    renamed, n_places = re.subn(r"\bin_folds\b", "over_folds", path.read_text())
    assert n_places > 3
    path.write_text(renamed)


def add_helper(shop: Shop) -> None:
    """Let a notebook import a module that lies beside it."""
    (shop.root / "notebooks" / "our_words.py").write_text("def greet():\n    return 'Hello'\n")
    shop.edit_cell("06_deploy", "import timeit\n", "import timeit\nimport our_words\n")


# fmt: off
INERT: list[tuple[str, Callable[[Shop], None]]] = [
    ("all notebooks saved in Jupyter",    save_in_jupyter),
    ("prose of a notebook",               lambda shop: shop.edit_cell("03_features", "# ", "# Our ")),
    ("comment in a notebook",             lambda shop: shop.edit_cell("03_features", "step = labkit", "# Go.\nstep = labkit")),
    ("comment in a module",               lambda shop: shop.append("lib/labkit/features/row_features.py", "# The end.\n")),
    ("docstring of a module",             lambda shop: shop.edit("lib/labkit/features/row_rules.py", '"""', '"""Our own. ')),
    ("other layout and quotes",           reformat),
    ("template of the reports",           lambda shop: shop.append("lib/labkit/run/reports/templates/labkit/index.html.j2", "\n")),
    ("module of the machinery",           lambda shop: shop.append("lib/labkit/run/records/stage_record.py", "SPARE = 1\n")),
    ("new module that nobody imports",    lambda shop: shop.append("lib/labkit/data/spare.py", "SPARE = 1\n")),
    ("comment in the params",             lambda shop: shop.append("params/shop.yaml", "# The end.\n")),
]
EDITS: list[tuple[str, Callable[[Shop], None], list[str]]] = [
    ("variable renamed",                  rename,                                                          ["training"]),
    ("literal that only the page shows",  lambda shop: shop.edit_cell("05_evaluation", '"most": 15', '"most": 14'),      ["evaluation"]),
    ("literal that changes the features", lambda shop: shop.edit_cell("03_features", "made.drop(", "made.head(200).drop("),  ["features", "training", "evaluation", "deploy", "explanation"]),
    ("helper beside a notebook, new",     add_helper,                                                                    ["deploy"]),
    ("helper beside a notebook, changed", lambda shop: shop.edit("notebooks/our_words.py", "Hello", "Bye"),              ["deploy"]),
    ("helper that draws tables",          lambda shop: shop.append("lib/labkit/view/data_plots.py", "SPARE = 1\n"),     ["eda", "wrangling", "features", "explanation"]),
    ("helper of the evaluation's helper", lambda shop: shop.append("lib/labkit/model/evaluation/metrics.py", "SPARE = 1\n"),        ["wrangling", "features", "training", "evaluation", "deploy", "explanation"]),
    ("helper of everybody's helper",      lambda shop: shop.append("lib/labkit/features/expressions.py", "SPARE = 1\n"),     ALL),
    ("param of one stage",                lambda shop: shop.edit("params/shop.yaml", "folds: 3", "folds: 4"),            ["training", "evaluation", "deploy", "explanation"]),
    ("param that changes the metrics",    lambda shop: shop.edit("params/shop.yaml", "samples: 100", "samples: 120"),    ["evaluation", "deploy", "explanation"]),
    ("pin in the lock",                   lambda shop: shop.edit("requirements.lock", "==", "==1!"),                     ALL),
    ("one byte of the data",              lambda shop: shop.edit("tables/orders.csv", ",book,", ",book2,"),              ALL),
]
# fmt: on


@pytest.mark.slow
def test_nothing_runs_where_nothing_was_edited(twins: Twins) -> None:
    assert twins.run() == []
    assert twins.first.find_stale() == []


@pytest.mark.slow
@pytest.mark.parametrize("edit", [edit for _, edit in INERT], ids=[name for name, _ in INERT])
def test_edit_without_effect_makes_no_stage_stale(twins: Twins, edit: Callable[[Shop], None]) -> None:
    twins.edit(edit)
    assert twins.first.find_stale() == []


@pytest.mark.slow
def test_edits_without_effect_run_nothing(twins: Twins) -> None:
    assert twins.run() == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "edit", "expected"), EDITS, ids=[edit[0] for edit in EDITS])
def test_edit_runs_the_stages_it_must(
    twins: Twins, name: str, edit: Callable[[Shop], None], expected: list[str]
) -> None:
    twins.edit(edit)
    assert twins.run(is_cache_used=name != EDITS[-1][0]) == expected


def test_edits_are_made_one_after_another_in_one_process(request: pytest.FixtureRequest) -> None:
    """Versions of pytest and xdist that do not go together would deal the table out to two processes, silently."""
    assert "PYTEST_XDIST_WORKER" not in os.environ or request.node.nodeid.endswith("@edits")


@pytest.mark.slow
def test_status_shows_what_changed_before_anything_runs(twins: Twins) -> None:
    shop = twins.first
    files = [shop.root / name for name in ("lib/labkit/view/time_plots.py", "tables/orders.csv", "params/shop.yaml")]
    before = {path: path.read_bytes() for path in files}
    shop.append("lib/labkit/view/time_plots.py", "SPARE = 2\n")
    shown = shop.explain()
    for stage in ("01_eda", "02_wrangling"):
        assert f"stale code of {stage} changed (labkit/view/time_plots.py)" in shown
    assert shop.find_stale() == ["eda", "wrangling"]
    shop.append("tables/orders.csv", "0,1.0,1,book,2024-01-01,0\n")
    shop.edit("params/shop.yaml", "folds: 4", "folds: 3")
    shown = shop.explain()
    assert "source stale data of orders changed" in shown
    assert "training stale params training.folds changed" in shown
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.slow
def test_edit_taken_back_is_restored_without_running(twins: Twins) -> None:
    shop = twins.first
    shop.run_labkit()
    table = shop.root / "data/shop/features/training.parquet"
    rows, page = table.read_bytes(), shop.publish("03_features")
    shop.edit_cell("03_features", "made.head(200)", "made.head(190)")
    assert shop.run_labkit() == ["features", "training", "evaluation", "deploy", "explanation"]
    assert (table.read_bytes() == rows, shop.publish("03_features") == page) == (False, False)
    shop.edit_cell("03_features", "made.head(190)", "made.head(200)")
    assert shop.run_labkit() == []
    assert (shop.root / "reports/shop/03_features.html").read_bytes() == page, "also without publish"
    assert (table.read_bytes() == rows, shop.publish("03_features") == page) == (True, True)


@pytest.mark.slow
def test_page_follows_an_edit_that_only_it_shows(twins: Twins) -> None:
    """Data alone cannot show which of two pages is that of the code in place."""
    shop = twins.first
    first = shop.publish("05_evaluation")
    shop.edit_cell("05_evaluation", "head(4)", "head(3)")
    assert shop.run_labkit() == ["evaluation"]
    assert shop.publish("05_evaluation") != first
    shop.edit_cell("05_evaluation", "head(3)", "head(4)")
    assert shop.run_labkit() == []
    assert shop.publish("05_evaluation") == first
