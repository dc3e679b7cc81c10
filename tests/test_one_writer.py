"""Files are written by one package only, `storage`: the calls of all others, read from their syntax trees."""

import ast
import re
from pathlib import Path

import pytest

from tests.source_tree import LIB, MODULES

# Calls that write a file, by the place in the call where the file stands: -1 is what a method is called on.
METHODS = {
    "write_text": -1,
    "write_bytes": -1,
    "touch": -1,
    "rename": -1,
    "replace": -1,
    "savefig": 0,
    "write_table": 1,
}
METHODS |= dict.fromkeys(("to_csv", "to_parquet", "to_json", "to_excel", "to_pickle", "to_feather", "to_html"), 0)
FUNCTIONS = {
    **dict.fromkeys(
        ("np.save", "np.savez", "np.savez_compressed", "np.savetxt", "zipfile.ZipFile", "pq.ParquetWriter"), 0
    ),
    **dict.fromkeys(("json.dump", "joblib.dump", "pickle.dump", "skops.io.dump", "yaml.dump", "yaml.safe_dump"), 1),
    **dict.fromkeys(("shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.move", "shutil.copytree"), 1),
    **dict.fromkeys(("os.rename", "os.replace", "os.link", "os.symlink"), 1),
    **dict.fromkeys(("nbformat.write",), 1),
}
FRESH = ("atomic_write", "atomic_folder", "BytesIO", "io.BytesIO", "StringIO", "io.StringIO")
"""What makes a place that nobody else reads: beside the file's own, or in memory."""


def name_call(node: ast.AST) -> str:
    """Return a called function's dotted name, empty if it has none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = name_call(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def find_root_name(node: ast.AST | None) -> str:
    """Return the variable that an expression is made of: `beside` for `beside / "x"` and `beside.open("wb")`."""
    while node is not None:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.BinOp):
            node = node.left
        elif isinstance(node, ast.Call):
            node = node.func if isinstance(node.func, ast.Attribute) else next(iter(node.args), None)
        elif isinstance(node, ast.Attribute):
            node = node.value
        else:
            return ""
    return ""


def get_mode(call: ast.Call, place: int) -> str:
    """Return the mode that a file is opened with; an unknown one counts as writing."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    found = named[0] if named else call.args[place] if len(call.args) > place else ast.Constant("r")
    return str(found.value) if isinstance(found, ast.Constant) else "w"


def find_target(call: ast.Call, archives: set[str]) -> ast.AST | None:
    """Return what a call writes to, None if it writes nothing.

    Parameters
    ----------
    archives
        Variables that hold an archive which is read: their `open` is given a member first.
    """
    name = name_call(call.func)
    is_method = isinstance(call.func, ast.Attribute)
    if name in ("open", "io.open", "gzip.open", "os.fdopen") or name.endswith("zipfile.ZipFile"):
        return call.args[0] if set(get_mode(call, 1)) & set("wax+") else None
    if name == "os.open":  # what is appended to keeps all that it held
        return None if {"O_RDONLY", "O_APPEND"} & set(re.findall(r"\w+", ast.unparse(call.args[1]))) else call.args[0]
    if is_method and call.func.attr == "open" and name != "self.open":  # that is no file's, and is read itself
        place = 1 if find_root_name(call.func.value) in archives else 0
        return call.func.value if set(get_mode(call, place)) & set("wax+") else None
    if name in FUNCTIONS:
        return call.args[FUNCTIONS[name]]
    if is_method and call.func.attr in METHODS:
        place = METHODS[call.func.attr]
        if call.func.attr == "replace" and len(call.args) + len(call.keywords) != 1:
            return None  # of a string, or of a dataclass
        if place == -1:
            return call.func.value if call.func.attr not in ("rename", "replace") else next(iter(call.args), None)
        return call.args[place] if len(call.args) > place else None  # without a file they return a string
    return None


def find_writers(source: str) -> list[str]:
    """Return the calls in a module that write to any place but a fresh one of the same function."""
    found = []
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {child for function in functions for child in ast.walk(function)}
    for scope in [*functions, [node for node in ast.walk(tree) if node not in inner]]:
        nodes = list(ast.walk(scope)) if isinstance(scope, ast.AST) else scope
        fresh: set[str] = set()
        archives: set[str] = set()
        items = [
            (item.context_expr, item.optional_vars)
            for node in nodes
            if isinstance(node, ast.With)
            for item in node.items
        ]
        items += [(node.value, node.targets[0]) for node in nodes if isinstance(node, ast.Assign)]
        for value, target in items:
            is_fresh = isinstance(value, ast.Call) and name_call(value.func).removeprefix("files.") in FRESH
            if isinstance(target, ast.Name) and (is_fresh or find_root_name(value) in fresh):
                fresh.add(target.id)
            if (
                isinstance(target, ast.Name)
                and isinstance(value, ast.Call)
                and name_call(value.func) == "zipfile.ZipFile"
            ):
                archives.add(target.id)
        for node in nodes:
            if (
                isinstance(node, ast.Call)
                and (place := find_target(node, archives)) is not None
                and find_root_name(place) not in fresh
            ):
                found.append(f"{node.lineno}: {ast.unparse(node)[:100]}")
    return sorted(set(found))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIB)))
def test_only_storage_writes(path: Path) -> None:
    """Every other one writes to a path that `atomic_write` gave it, or in memory.

    Frameworks that write by themselves, each owned by one module, are given a folder of the run's own.
    """
    if path.parent != LIB / "storage":
        assert find_writers(path.read_text(encoding="utf-8")) == []


CALLS_THAT_WRITE = [
    "open(path, 'w')",
    "open(path, mode='a')",
    "open(path, how)",
    "path.open('wb')",
    "path.open('r+')",
    "(folder / 'x').write_text('x')",
    "path.write_bytes(b'')",
    "path.touch()",
    "path.rename(other)",
    "path.replace(other)",
    "frame.to_parquet(path)",
    "frame.to_csv(folder / 'x.csv', index=False)",
    "pq.write_table(table, path)",
    "json.dump(tree, stream)",
    "joblib.dump(model, path)",
    "skops.io.dump(model, path)",
    "np.savez(path, **arrays)",
    "np.save(path, array)",
    "figure.savefig(path)",
    "zipfile.ZipFile(path, 'w')",
    "shutil.copyfile(path, other)",
    "shutil.move(path, other)",
    "os.replace(path, other)",
    "os.open(path, os.O_WRONLY | os.O_CREAT)",
    "nbformat.write(notebook, path)",
]


@pytest.mark.parametrize("call", CALLS_THAT_WRITE)
def test_guard_sees_every_writer(call: str) -> None:
    assert len(find_writers(call)) == 1
    assert len(find_writers(f"def save(path):\n    with atomic_write(path) as beside:\n        {call}")) == 1
    name = {"stream": "stream", "other": "other"}
    target = next((name[word] for word in name if word in call), "folder" if "folder" in call else "path")
    fresh = f"def save(place):\n    with atomic_write(place) as {target}:\n        {call}"
    assert find_writers(fresh) == []


@pytest.mark.parametrize(
    "call",
    [
        "open(path)",
        "path.open('rb')",
        "text.replace('a', 'b')",
        "frame.to_csv()",
        "zipfile.ZipFile(path)",
        "replace(x, a=1)",
    ],
)
def test_guard_lets_readers_be(call: str) -> None:
    assert find_writers(call) == []
