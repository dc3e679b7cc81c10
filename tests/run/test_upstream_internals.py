"""The undocumented parts of MLflow, DVC and Python that labkit uses: they exist as listed, and nothing else is used."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import current_process, forkserver, resource_tracker
from pathlib import Path
from typing import Any

import labkit
import pytest
from dvc.dvcfile import load_file
from dvc.repo import Repo
from labkit.run.upstream_internals import INTERNALS, Internal

DOCUMENTED = (
    "multiprocessing",
    "multiprocessing.connection",
    "mlflow",
    "mlflow.entities",
    "mlflow.exceptions",
    "mlflow.models",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.types.schema",
)
LIB = Path(labkit.__file__).parent


def find(place: str) -> Any:
    """Return what a place names."""
    module, _, name = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def check(internal: Internal) -> None:
    """Refuse an upgrade that has removed a name or a parameter of it."""
    found = find(internal.place)
    if internal.parameters:
        known = inspect.signature(found).parameters
        assert set(internal.parameters) <= set(known), f"{internal.place} takes {list(known)}"
    elif inspect.isfunction(found):
        parameters = [one for one in inspect.signature(found).parameters.values() if one.name != "self"]
        assert all(one.default is not one.empty or one.kind == one.VAR_KEYWORD for one in parameters)


@pytest.mark.parametrize("internal", INTERNALS, ids=lambda internal: internal.place)
def test_each_exists_and_takes_what_it_is_given(internal: Internal) -> None:
    check(internal)


def test_a_removed_name_and_a_removed_parameter_are_noticed() -> None:
    upgrade = next(one for one in INTERNALS if one.place.endswith("_upgrade_db"))
    with pytest.raises(AttributeError, match="_upgrade_database"):
        check(replace(upgrade, place=upgrade.place.replace("_db", "_database")))
    with pytest.raises(AssertionError, match=r"_upgrade_db takes \['engine'\]"):
        check(replace(upgrade, parameters=("connection",)))


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repo]:
    """A DVC repository with one stage."""
    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo\n    params: [a]\n    outs: [made]\n")
    Repo.init(str(tmp_path), no_scm=True).close()
    opened = Repo(str(tmp_path))
    yield opened
    opened.close()


@pytest.mark.slow
def test_instances_have_the_attributes(repo: Repo, tmp_path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    stage = next(iter(repo.index.stages))
    store = SqlAlchemyStore(f"sqlite:///{tmp_path}/store.db", str(tmp_path / "artifacts"))
    store.engine.dispose()
    instances = {
        "Repo": repo,
        "LockBase": repo.lock,
        "ProjectFile": load_file(repo, repo.index.stages[0].path),
        "StageCache": repo.stage_cache,
        "Stage": stage,
        "Output": stage.outs[0],
        "ParamsDependency": stage.deps[0],
        "SqlAlchemyStore": store,
        "BaseProcess": current_process(),
        "ForkServer": forkserver._forkserver,  # type: ignore[attr-defined]
        "ResourceTracker": resource_tracker._resource_tracker,  # type: ignore[attr-defined]
    }
    listed = [one for one in INTERNALS if one.attributes]
    assert {one.place.partition(":")[2] for one in listed} == set(instances)
    for one in listed:
        found = instances[one.place.partition(":")[2]]
        assert isinstance(found, find(one.place))
        assert [name for name in one.attributes if not hasattr(found, name)] == [], one.place
    assert Path(repo.cache.local.path).parts[-2:] == ("files", "md5"), "the cache is two folders above"
    assert stage.deps[0].read_params(flatten=False) == {"a": 1}


def find_used(path: Path) -> set[str]:
    """Return what a module uses of MLflow, DVC and multiprocessing that is not documented, as `module:name`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    foreign = [node for node in imported if str(node.module).split(".")[0] in ("mlflow", "dvc", "multiprocessing")]
    modules: dict[str, str] = {}
    used = set()
    for node in foreign:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            if is_module(name):
                modules[alias.asname or alias.name] = name
            elif node.module not in DOCUMENTED:
                used.add(f"{node.module}:{alias.name}")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or ast.unparse(node.value) in ("self", "cls"):
            continue
        owner = modules.get(ast.unparse(node.value))
        if owner and owner not in DOCUMENTED:
            used.add(f"{owner}:{node.attr}")
        elif foreign and node.attr.startswith("_") and not node.attr.startswith("__"):
            used.add(f"?:{node.attr}")
    return used


def is_module(name: str) -> bool:
    """Return whether a dotted name is a module."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


@pytest.mark.slow
def test_nothing_else_is_used() -> None:
    listed = {one.place for one in INTERNALS}
    names = {place.rpartition(":")[2].rpartition(".")[2] for place in listed}
    names |= {name for one in INTERNALS for name in one.attributes}
    used = {place: path for path in LIB.rglob("*.py") for place in find_used(path)}
    unlisted = {
        place: str(path.relative_to(LIB))
        for place, path in used.items()
        if place not in listed and not (place.startswith("?:") and place[2:] in names)
    }
    assert unlisted == {}, "list it in labkit/run/upstream_internals.py, with what it is for"
    assert "mlflow.store.db.utils:_upgrade_db" in used
    assert "?:_create_stage" in used


def test_an_unlisted_name_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("from mlflow.store.db import utils as u\nfrom dvc.repo import Repo\nu._drop()\nRepo()._reset()\n")
    assert find_used(path) == {"mlflow.store.db.utils:_drop", "dvc.repo:Repo", "?:_reset"}
