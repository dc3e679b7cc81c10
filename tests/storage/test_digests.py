"""One way to compute each digest of a file."""

import ast
from pathlib import Path

import labkit
from dvc_data.hashfile.hash import file_md5
from dvc_objects.fs.local import LocalFileSystem
from labkit.storage.digests import compute_md5

LIB = Path(labkit.__file__).parent


def test_md5_is_the_one_that_dvc_computes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\r\n1,2\n" * 10_000)
    assert compute_md5(path) == file_md5(str(path), LocalFileSystem())


def find_md5(path: Path) -> list[int]:
    """Return the lines in which a module computes an MD5 itself."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    called = [(call.lineno, ast.unparse(call)) for call in calls if ast.unparse(call.func).startswith("hashlib.")]
    return [line for line, source in called if "md5" in source]


def test_no_other_module_computes_md5() -> None:
    found = {str(path.relative_to(LIB)): find_md5(path) for path in LIB.rglob("*.py")}
    assert [name for name, lines in found.items() if lines] == ["storage/digests.py"]
