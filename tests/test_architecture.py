"""The package layout, made executable: who may import whom, and which file owns which framework."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.source_tree import LIB, MODULES, ROOT

FOUNDATION = {"check_register", "checks", "console", "errors", "names", "paths", "renamed", "units", "vocabulary"}
"""Modules at the top that every package may import."""
# Imports point downwards: a package may import itself, the foundation and what is named here.
ALLOWED = {
    "storage": set(),
    "secrets": set(),
    "params": {"secrets", "storage"},
    "features": {"params"},
    "data": {"features", "params", "storage"},
    "data.labels": {"data", "params", "storage"},
    "data.quality": {"data", "features", "params"},
    "data.reading": {"features", "params", "storage"},
    "model.estimators": {"features", "params"},
    "model.onnx": {"features", "model.estimators"},
    "model.evaluation": {"data", "data.quality", "features", "model.estimators", "params", "storage"},
    "model.training": {
        "data",
        "data.quality",
        "features",
        "model.estimators",
        "model.evaluation",
        "model.onnx",
        "model.release",
        "params",
        "run",
    },
    "model.release": {"features", "model.estimators", "model.evaluation", "model.onnx", "params", "storage"},
    "model.explanation": {"data.quality", "features", "model.evaluation", "model.release", "params"},
    "run": {"params", "storage"},
    "run.tracing": set(),
    "run.fingerprint": {"params", "run", "run.tracing", "secrets", "storage"},
    "run.saved_cells": {"run.fingerprint", "secrets"},
    "run.records": {"params", "run", "run.fingerprint", "secrets", "storage"},
    "run.reports": {"run", "run.records", "storage"},
    "run.kernels": {"run", "run.fingerprint", "run.tracing", "storage"},
    "run.notebook": {
        "params",
        "run",
        "run.fingerprint",
        "run.kernels",
        "run.records",
        "run.saved_cells",
        "run.tracing",
        "secrets",
        "storage",
    },
    "run.verification": {"run", "run.kernels", "run.notebook", "run.saved_cells", "secrets"},
    "run.pipeline": {
        "params",
        "run",
        "run.fingerprint",
        "run.kernels",
        "run.notebook",
        "run.records",
        "run.reports",
        "run.tracing",
        "secrets",
        "storage",
    },
    "run.cluster": {"run.fingerprint", "storage"},
    "run.doctor": {"params", "run", "run.fingerprint", "run.kernels", "run.pipeline", "run.records", "storage"},
    "artifacts": {
        "data",
        "data.reading",
        "features",
        "model.release",
        "params",
        "run.notebook",
        "run.pipeline",
        "storage",
    },
    "view": {
        "data",
        "data.labels",
        "data.quality",
        "features",
        "model.evaluation",
        "model.explanation",
        "model.training",
        "monitoring",
        "params",
    },
    "view.board": {"params", "run", "run.pipeline", "run.records", "stages", "view"},
    "stages": {
        "artifacts",
        "data",
        "data.reading",
        "model.evaluation",
        "model.release",
        "params",
        "run",
        "run.doctor",
        "run.fingerprint",
        "run.notebook",
        "run.pipeline",
        "run.records",
        "run.reports",
        "storage",
    },
    "sweep": {
        "artifacts",
        "model.evaluation",
        "params",
        "run",
        "run.cluster",
        "run.fingerprint",
        "run.kernels",
        "run.notebook",
        "run.pipeline",
        "run.records",
        "run.reports",
        "stages",
        "storage",
        "view",
    },
    "reproduction": {
        "features",
        "params",
        "run",
        "run.fingerprint",
        "run.pipeline",
        "run.records",
        "secrets",
        "stages",
        "storage",
    },
    "serving": {
        "data",
        "data.reading",
        "features",
        "model.evaluation",
        "model.explanation",
        "model.release",
        "params",
        "run",
        "run.cluster",
        "run.records",
        "stages",
        "storage",
    },
    "packages": {
        "artifacts",
        "data",
        "features",
        "model.onnx",
        "model.release",
        "params",
        "project",
        "run.records",
        "serving",
        "stages",
        "storage",
    },
    "new": {"data", "data.quality", "data.reading", "features", "params", "run", "run.pipeline", "storage"},
    "orchestration": {"params", "run", "run.pipeline", "storage"},
    "project": {"new", "params", "run", "run.fingerprint", "run.notebook", "storage"},
    "monitoring": {
        "artifacts",
        "data",
        "data.labels",
        "data.quality",
        "data.reading",
        "features",
        "model.evaluation",
        "model.release",
        "model.training",
        "params",
        "run",
        "run.cluster",
        "run.doctor",
        "run.kernels",
        "run.pipeline",
        "run.records",
        "run.reports",
        "serving",
        "stages",
        "storage",
    },
    "cli": {
        "data.labels",
        "monitoring",
        "new",
        "orchestration",
        "packages",
        "params",
        "project",
        "reproduction",
        "run",
        "run.doctor",
        "run.kernels",
        "run.notebook",
        "run.pipeline",
        "run.records",
        "run.verification",
        "serving",
        "stages",
        "storage",
        "sweep",
    },
    "labkit": {"artifacts", "run.notebook"},
}
OWNERS = {
    "mlflow": {
        "run/records/mlflow_model.py",
        "run/records/tracking.py",
        "run/records/tracking_client.py",
        "run/records/run_search.py",
        "run/records/registry.py",
    },
    "psycopg": {"run/records/postgresql.py"},
    "papermill": {"run/notebook/executor.py"},
    "nbclient": {"run/notebook/executor.py", "run/verification/fresh_run.py"},
    "jupyter_client": {"run/kernels/provisioner.py"},
    "ipykernel": {f"run/kernels/{name}.py" for name in ("fork_server", "paced_stream", "paused_kernel")},
    "dvc": {f"run/pipeline/{name}.py" for name in ("dvc_remote", "dvc_repo", "dvc_sharing", "experiments")},
    "nbdime": {"run/notebook/merge.py"},
    "nbconvert": {"run/reports/render.py"},
    "copier": {"project/template.py"},
    "nh3": {"run/reports/sanitize.py"},
    "skops": {"model/release/skops_file.py"},
    "onnx": {
        f"model/onnx/{name}.py"
        for name in ("boosters", "compact", "converters", "neighbours", "nodes", "tree_thresholds")
    },
    "onnxruntime": {"model/onnx/session.py"},
    "skl2onnx": {f"model/onnx/{name}.py" for name in ("boosters", "converters", "nodes")},
    "onnxmltools": {"model/onnx/converters.py", "model/onnx/boosters.py"},
    "pycaret": {"model/training/pycaret.py"},
    "arch": {"model/evaluation/blocks.py"},
    "optuna": {"model/training/tuning.py", "sweep/search.py"},
    "dask": {"run/cluster/connection.py"},
    "distributed": {"run/cluster/connection.py", "run/cluster/ordered_calls.py", "sweep/dask_engine.py"},
    "pandera": {"data/contract.py"},
    "openpyxl": {"data/reading/spreadsheet.py"},
    "python_calamine": {"data/reading/spreadsheet.py"},
    "pyreadstat": {"data/reading/labelled.py"},
    "arff": {"data/reading/arff_file.py"},
    "sqlalchemy": {"data/reading/sql.py"},
    "charset_normalizer": {"data/reading/encoding.py"},
    "ipywidgets": {
        "view/widgets.py",
        "view/error_explorer.py",
        *(f"view/board/{name}.py" for name in ("app", "form_panel", "runs_panel")),
    },
    "ruamel": {"params/yaml_text.py"},
    "click": {
        f"cli/{name}.py"
        for name in (
            *(
                "check",
                "labels",
                "main",
                "models",
                "monitor",
                "new",
                "notebooks",
                "observe",
                "options",
                "orchestrate",
                "project",
                "reproduce",
                "run",
                "serve",
                "show",
                "sweep",
                "verify",
            ),
        )
    },
    "rich": {"console.py", "run/pipeline/progress.py"},
    "jinja2": {"orchestration/dag_file.py"},
    "pydantic": {
        f"params/{name}.py"
        for name in (
            "describe",
            "evaluation",
            "experiment",
            "features",
            "load",
            "monitoring",
            "section",
            "stage_section",
            "tables",
            "training",
            "wrangling",
        )
    },
}
PICTURES = ("matplotlib", "seaborn")


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def find_imports(path: Path) -> set[str]:
    """Return the dotted names a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def find_package(path: Path) -> str:
    """Return the package that a module is of: two names deep where packages are nested; the name of a loose module."""
    parts = path.relative_to(LIB).with_suffix("").parts
    if parts == ("__init__",):
        return "labkit"
    nested = ".".join(parts[:2])
    if len(parts) > 2 or nested in ALLOWED:
        return nested if nested in ALLOWED else parts[0]
    return parts[0]


def find_graph(root: Path) -> dict[str, set[str]]:
    """Return which modules each module below a folder imports of the same folder, by their dotted names."""
    modules = {".".join(path.relative_to(root.parent).with_suffix("").parts): path for path in root.rglob("*.py")}
    packages = {name.removesuffix(".__init__") for name in modules if name.endswith(".__init__")}
    return {
        name: {found for found in find_imports(path) if found in modules and found not in packages} - {name}
        for name, path in modules.items()
    }


def find_upward(imports: dict[str, set[str]]) -> list[str]:
    """Return the imports that no rule allows."""
    upward = []
    for name, used in imports.items():
        package = find_package(LIB.parent / Path(*name.split(".")).with_suffix(".py"))
        for other in sorted(used):
            below = find_package(LIB.parent / Path(*other.split(".")).with_suffix(".py"))
            if below not in FOUNDATION | {package} | ALLOWED.get(package, set()):
                upward.append(f"{name} imports {other}")
    return upward


def test_imports_point_downwards() -> None:
    assert find_upward(find_graph(LIB)) == []
    upward = {"labkit.storage.atomic": {"labkit.params.load"}, "labkit.run.reports.render": {"labkit.run.doctor"}}
    assert find_upward(upward) == [f"{name} imports {next(iter(used))}" for name, used in upward.items()]


def find_cycle(imports: dict[str, set[str]]) -> list[str]:
    """Return the modules of one cycle, empty without a cycle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other() -> None:
    """Not within a package either, and not inside of functions."""
    imports = find_graph(LIB)
    assert find_cycle(imports) == []
    one, other = "labkit.data.reading.delimited", "labkit.data.reading.text_scan"
    assert set(find_cycle({**imports, one: {other}, other: {one}})) == {one, other}


def test_packages_import_each_other_one_way() -> None:
    assert find_cycle({name: set(below) for name, below in ALLOWED.items()}) == []


@pytest.mark.parametrize("framework", [*OWNERS, *PICTURES])
def test_framework_has_one_owner(framework: str) -> None:
    users = {
        path.relative_to(LIB).as_posix()
        for path in MODULES
        if any(name.split(".")[0] == framework for name in find_imports(path))
    }
    if framework in PICTURES:
        assert {Path(user).parts[0] for user in users} <= {"view"}
    else:
        assert users <= OWNERS[framework]


def test_terminal_is_written_to_in_one_place() -> None:
    """A notebook's step prints into the notebook, and a server of kernels flushes what the notebook printed."""
    writers = {path.relative_to(LIB).as_posix() for path in MODULES if is_writer(parse(path))}
    assert writers == {"console.py", "run/notebook/step.py", "run/kernels/fork_server.py"}


def is_writer(tree: ast.Module) -> bool:
    """Return whether a module prints, or touches a standard stream."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            return True
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            place = f"{node.value.id}.{node.attr}"
            if place in ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "click.echo", "click.secho"):
                return True
    return False


def test_environment_is_read_in_one_place() -> None:
    readers = [path.relative_to(LIB).as_posix() for path in MODULES if is_reader(parse(path))]
    assert readers == ["paths.py"]


def is_reader(tree: ast.Module) -> bool:
    """Return whether a module reads environment variables; setting some for what is started is no reading."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "getenv":
            return True
        if isinstance(node, ast.Attribute) and node.attr == "environ":
            above = parents[node]
            is_set = isinstance(above, ast.Subscript) and not isinstance(above.ctx, ast.Load)
            if not is_set and not (isinstance(above, ast.Attribute) and above.attr in ("update", "clear", "pop")):
                return True
    return False


# What is counted in messages, and the parts of the library that speak of tables, which have their own ways still.
COUNTED = "byte|cell|character|class|column|file|line|minute|module|notebook|output|row|run|stage|table|text|value"
PLURAL = re.compile(rf" ([a-z]+ )?({COUNTED.replace('class', 'classe')})s\b")
TABLES = ("data", "features", "model", "new", "serving", "stages", "view")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIB)))
def test_one_of_something_is_not_written_in_the_plural(path: Path) -> None:
    """No number stands right before a plural noun, which is wrong for one of it: `labkit.units.format_count`."""
    if path.relative_to(LIB).parts[0] in TABLES:
        return
    found = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.JoinedStr):
            for number, noun in pairwise(node.values):
                is_share = isinstance(number, ast.FormattedValue) and "%" in ast.unparse(
                    number.format_spec or ast.Constant("")
                )
                if isinstance(number, ast.FormattedValue) and isinstance(noun, ast.Constant) and not is_share:
                    found += [f"line {node.lineno}: {noun.value!r}"] if PLURAL.match(str(noun.value)) else []
    assert found == []


def test_nothing_that_runs_code_on_loading() -> None:
    words = ("import pickle", "cloudpickle", "import joblib", "read_pickle", "allow_pickle=True", "yaml.load(")
    found = [f"{path.name}: {word}" for path in MODULES for word in words if word in path.read_text()]
    assert found == []


NAMED_BY_CALLERS = ("load_ipython_extension", "main", "prepare")
"""Functions whose name is set by what calls them."""


def find_functions(tree: ast.Module) -> Iterator[str]:
    """Return the functions of a module that another may import: commands, which are decorated, are not among them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and node.name not in NAMED_BY_CALLERS:
            yield node.name


def test_no_two_modules_define_the_same_function() -> None:
    """IPython loads an extension, `main` starts a process, a kernel that imports ahead of use calls `prepare`."""
    found = Counter(name for path in MODULES for name in find_functions(parse(path)))
    assert [name for name, times in found.items() if times > 1] == []
    assert {"compute_losses", "find_column_kind", "format_bytes", "escape"} <= set(found)


KIND_TESTS = re.compile(r"\b(is_numeric_dtype|is_any_real_numeric_dtype|is_categorical_dtype|select_dtypes\(\"number)")


def test_kind_of_a_column_is_found_in_one_place() -> None:
    """`find_column_kind` and `is_numeric` decide for proposals, EDA, wrangling, training and serving alike."""
    found = [path.relative_to(LIB).as_posix() for path in MODULES if KIND_TESTS.search(path.read_text())]
    assert found == ["view/prose.py"], "which formats numbers of any table"


def test_files_stay_readable() -> None:
    long = {str(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_help_needs_no_heavy_package() -> None:
    code = (
        "import sys; from labkit.cli.main import cli\n"
        "heavy = {'pandas', 'numpy', 'sklearn', 'mlflow', 'papermill', 'dvc', 'nbconvert', 'matplotlib', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TEST_MODULE = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*test_\w+", re.MULTILINE)


def test_tests_share_helpers_through_modules_made_for_it() -> None:
    """Code in strings, for another process, counts as well."""
    found = [str(path) for path in (ROOT / "tests").rglob("*.py") if TEST_MODULE.search(path.read_text())]
    assert found == []
    assert TEST_MODULE.search("from tests.run.test_edits import change")
