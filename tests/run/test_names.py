"""Names of the modules that run stages and record them."""

import ast
from collections import defaultdict
from pathlib import Path

import labkit

RUN = Path(labkit.__file__).parent / "run"


def find_duplicates(paths: list[Path]) -> dict[str, list[str]]:
    """Return the names that more than one module defines at its top level."""
    modules = defaultdict(list)
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
            flat = [one for target in named for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
            for name in {getattr(one, "name", None) or getattr(one, "id", None) for one in flat} - {None}:
                modules[str(name)].append(path.name)
    return {name: found for name, found in modules.items() if len(found) > 1}


def test_no_name_is_defined_twice() -> None:
    paths = [path for folder in (RUN, RUN / "pipeline", RUN / "records") for path in sorted(folder.glob("*.py"))]
    assert find_duplicates(paths) == {}


def test_a_name_that_is_defined_twice_is_found(tmp_path: Path) -> None:
    for name, source in {"a.py": "A, LOCK = 1, 2\ndef f(): ...\n", "b.py": "LOCK: int = 3\ndef f(): ...\n"}.items():
        (tmp_path / name).write_text(source)
    assert find_duplicates(sorted(tmp_path.glob("*.py"))) == {"LOCK": ["a.py", "b.py"], "f": ["a.py", "b.py"]}
