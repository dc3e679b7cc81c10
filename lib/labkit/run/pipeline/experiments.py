"""Changes dvc.yaml: adds an experiment and its tables, replaces stages of the user's own."""

from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError

from labkit import paths
from labkit.errors import ParamsError
from labkit.params.yaml_text import load_written_yaml, load_yaml, make_yaml
from labkit.run.pipeline.dvc_repo import open_repo
from labkit.run.pipeline.locked_stages import DVC_LOCK
from labkit.storage.atomic import write_text


def add_experiment(name: str) -> None:
    """Add an experiment to the list in dvc.yaml; comments and layout are kept.

    Raises
    ------
    ParamsError
        dvc.yaml has no list of experiments.
    """
    path = paths.find_root() / paths.MARKER
    tree = load_yaml(path)
    listed = next((entry["experiments"] for entry in tree.get("vars", []) if "experiments" in entry), None)
    if listed is None:
        raise ParamsError(f"{paths.MARKER}: no `vars: [experiments: [...]]` at its top: add it")
    if name in listed:
        return
    listed.append(name)
    save_pipeline(path, tree)


def replace_stages(bodies: Mapping[str, Mapping[str, Any]], *, remove: Iterable[str], order: Sequence[str]) -> None:
    """Replace stages in dvc.yaml; comments and layout of all others are kept.

    Parameters
    ----------
    bodies
        The new entries by name.
    remove
        Stages to remove first, whether or not they are there.
    order
        All stages afterwards.
    """
    path = paths.find_root() / paths.MARKER
    tree = load_yaml(path)
    stages = tree["stages"]
    for name in remove:
        stages.pop(name, None)
    for place, name in enumerate(order):
        if name in bodies:
            stages.insert(place, name, bodies[name])
    save_pipeline(path, tree)


def save_pipeline(path: Path, tree: Mapping[str, Any]) -> None:
    """Write dvc.yaml or dvc.lock."""
    stream = StringIO()
    make_yaml().dump(tree, stream)
    write_text(path, stream.getvalue())


def restore_locked(experiment: str, before: Mapping[str, Any]) -> None:
    """Restore the entries of one experiment in dvc.lock.

    Parameters
    ----------
    before
        Content of an earlier dvc.lock.
    """
    path, ending = paths.find_root() / DVC_LOCK, f"@{experiment}"
    tree = load_written_yaml(path) if path.is_file() else {**before, "stages": {}}
    others = {name: stage for name, stage in tree["stages"].items() if not name.endswith(ending)}
    own = {name: stage for name, stage in before["stages"].items() if name.endswith(ending)}
    save_pipeline(path, {**tree, "stages": others | own})


def add_files(files: Iterable[Path]) -> None:
    """Add files to DVC: each gets a pointer file beside it for git, and its content goes into the cache.

    Raises
    ------
    ParamsError
        DVC cannot add them.
    """
    repo = open_repo()
    try:
        with repo.lock.refuse_to_wait():
            repo.add([str(path) for path in files])
    except LockError as error:
        raise ParamsError(
            "a DVC command is running in this checkout: nothing was created: run again when it has ended"
        ) from error
    except DvcException as error:
        raise ParamsError(f"dvc add: {str(error).splitlines()[0]}: nothing was created") from error
    finally:
        repo.close()
