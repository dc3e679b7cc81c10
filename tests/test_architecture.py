"""The house, made executable: who may import whom, and which file owns which framework."""

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIB = ROOT / "lib" / "labkit"
MODULES = sorted(path for path in LIB.rglob("*.py"))

# Arrows point downwards: a room may import itself and the rooms below it.
ALLOWED = {
    "names": set(),
    "params": {"params_wrangling", "errors", "files", "paths"},
    "params_wrangling": {"names"},
    "errors": set(),
    "console": set(),
    "counts": set(),
    "paths": {"errors"},
    "files": {"counts", "errors"},
    "values": {"counts", "errors"},
    "secret": {"counts", "errors", "paths"},
    "yaml_file": {"counts", "errors", "files", "paths", "secret", "values"},
    "params_file": {"console", "errors", "faults", "files", "params", "paths", "secret", "values", "yaml_file"},
    "data": {"console", "counts", "errors", "faults", "files", "names", "params", "paths", "secret", "values"},
    "model": {"counts", "data", "errors", "files", "params", "paths"},
    "run": {"console", "counts", "errors", "files", "params", "params_file", "paths", "secret", "values", "yaml_file"},
    "artifacts": {"data", "errors", "files", "model", "params", "paths", "run"},
    "live": {"artifacts", "counts", "data", "errors", "files", "model", "params", "params_file", "paths", "run"},
    "view": {"counts", "data", "errors", "files", "model", "params", "params_file", "paths"},
    "founding": {"console", "data", "errors", "files", "names", "params", "params_file", "paths", "run", "yaml_file"},
    "faults": set(),
    "plain_stages": {"artifacts", "live", "run", "data", "params", "paths"},
    "cli_new": {"console", "counts", "founding", "yaml_file", "data", "params_file", "errors"},
    "cli_models": {"console", "live", "params_file", "paths", "errors"},
    "cli": {
        "console",
        "counts",
        "cli_models",
        "cli_new",
        "founding",
        "plain_stages",
        "yaml_file",
        "artifacts",
        "live",
        "run",
        "model",
        "data",
        "params",
        "params_file",
        "paths",
        "errors",
        "files",
    },
    "__init__": {"artifacts", "run"},
}
OWNERS = {
    "mlflow": {
        "run/records/tracking.py",
        "run/records/tracking_client.py",
        "run/records/run_search.py",
        "run/records/registry.py",
    },
    "psycopg": {"run/records/postgresql.py"},
    "papermill": {"run/notebook/executor.py"},
    "nbclient": {"run/notebook/executor.py"},
    "jupyter_client": {"run/kernels/provisioner.py"},
    "ipykernel": {"run/kernels/fork_server.py", "run/kernels/paced_stream.py"},
    "dvc": {"run/pipeline/dvc_repo.py", "run/pipeline/dvc_remote.py"},
    "nbconvert": {"run/reports/render.py"},
    "nh3": {"run/reports/sanitize.py"},
    "skops": {"model/release/skops_file.py"},
    "onnx": {"model/onnx/converters.py", "model/onnx/tree_thresholds.py"},
    "onnxruntime": {"model/onnx/graph.py"},
    "skl2onnx": {"model/onnx/converters.py"},
    "onnxmltools": {"model/onnx/converters.py"},
    "pycaret": {"model/training/comparison.py"},
    "arch": {"model/evaluation/blocks.py"},
    "optuna": {"model/training/tuning.py"},
    "pandera": {"data/contract.py"},
    "openpyxl": {"data/reading/spreadsheet.py"},
    "python_calamine": {"data/reading/spreadsheet.py"},
    "pyreadstat": {"data/reading/labelled.py"},
    "arff": {"data/reading/arff_file.py"},
    "sqlalchemy": {"data/reading/sql.py"},
    "charset_normalizer": {"data/reading/encoding.py"},
    "ipywidgets": {"view/widgets.py"},
    "ruamel": {"yaml_file.py"},
    "click": {"cli.py", "cli_models.py", "cli_new.py"},
    "rich": {"console.py", "run/pipeline/progress.py"},
    "pydantic": {"params.py", "params_wrangling.py", "params_file.py"},
}
PICTURES = ("matplotlib", "seaborn")


def find_imports(path: Path) -> set[str]:
    """Return the dotted names a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def find_room(path: Path) -> str:
    """Return the room a module is in: its folder, or itself at the top."""
    place = path.relative_to(LIB)
    return place.parts[0] if len(place.parts) > 1 else place.stem


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIB)))
def test_arrows_point_one_way(path: Path) -> None:
    room = find_room(path)
    used = {name.split(".")[1] for name in find_imports(path) if name.startswith("labkit.")}
    rooms = used & {*ALLOWED}
    assert rooms - {room} <= ALLOWED[room]


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
    writers = {path.relative_to(LIB).as_posix() for path in MODULES if is_writer(ast.parse(path.read_text()))}
    assert writers == {"console.py", "run/notebook/step.py", "run/kernels/fork_server.py"}


def is_writer(tree: ast.Module) -> bool:
    """Tell whether a module prints, or touches a standard stream."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            return True
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            place = f"{node.value.id}.{node.attr}"
            if place in ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "click.echo", "click.secho"):
                return True
    return False


def test_environment_is_read_in_one_place() -> None:
    readers = [path.relative_to(LIB).as_posix() for path in MODULES if is_reader(ast.parse(path.read_text()))]
    assert readers == ["paths.py"]


def is_reader(tree: ast.Module) -> bool:
    """Tell whether a module reads environment variables; setting some for what is started is no reading."""
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
TABLES = ("data", "model", "view", "live")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIB)))
def test_one_of_something_is_not_told_in_the_plural(path: Path) -> None:
    """No number stands right before a plural noun, which is wrong for one of it: `labkit.units.format_count`."""
    if find_room(path) in TABLES:
        return
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_files_stay_readable() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_help_needs_no_heavy_package() -> None:
    code = (
        "import sys; from labkit.cli.main import cli\n"
        "heavy = {'pandas', 'numpy', 'sklearn', 'mlflow', 'papermill', 'dvc', 'nbconvert', 'matplotlib', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
