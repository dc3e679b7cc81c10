"""The source notebooks, their order and the stage of each, all from the file names.

Does not read the notebooks. What makes a notebook valid: `labkit.run.notebook.source`.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from labkit import paths
from labkit.errors import ParamsError

NOTEBOOK_NAME = re.compile(r"(\d{1,4})_([a-z][a-z0-9_]*)")
WITHOUT_STAGE = frozenset({"monitoring", "labelling"})
"""Numbered notebooks that people work in, and that no pipeline runs."""


def list_notebooks(experiment: str | None = None) -> list[Path]:
    """Return the notebooks of stages in the order of their numbers, which need not be consecutive.

    Number 0 is for a notebook that belongs to no stage, such as the board.

    Parameters
    ----------
    experiment
        Return the notebooks that this experiment runs: its own copies in place of those that experiments share, and
        its own stages.

    Raises
    ------
    ParamsError
        Two have the same number, or an own copy has another number than the shared notebook of its stage.
    """
    shared = list_shared()
    if experiment is None:
        return shared
    own = {path.name: path for path in list_own_copies(experiment, shared)}
    return sort_numbered([*(own.get(path.name, path) for path in shared), *list_own_extra(experiment, shared)])


def list_shared() -> list[Path]:
    """Return the notebooks that experiments share."""
    found = sorted(paths.find_notebooks_dir().glob("*.ipynb"))
    return sort_numbered(path for path in found if find_stage(path) not in WITHOUT_STAGE)


def sort_numbered(notebooks: Iterable[Path]) -> list[Path]:
    """Return the numbered ones of some notebooks in order."""
    numbered: dict[int, Path] = {}
    for path in notebooks:
        if (found := NOTEBOOK_NAME.fullmatch(path.stem)) and int(found[1]):
            other = numbered.setdefault(int(found[1]), path)
            if other is not path:
                names = [one.relative_to(paths.find_notebooks_dir()).as_posix() for one in (other, path)]
                raise ParamsError(
                    f"notebooks/: {names[0]} and {names[1]} have the same number, which sets the order: renumber one"
                )
    return [numbered[place] for place in sorted(numbered)]


def list_own_copies(experiment: str, shared: Iterable[Path]) -> list[Path]:
    """Return the experiment's own copies of shared notebooks; other notebooks in its folder are left alone."""
    names = {find_stage(path): path.name for path in shared}
    own = []
    for path in list_numbered(experiment):
        if find_stage(path) not in names:
            continue
        name = names[find_stage(path)]
        if path.name != name:
            raise ParamsError(
                f"notebooks/{experiment}/{path.name}: the shared notebook of its stage is now notebooks/{name}: "
                f"rename it to {name}, and the file of its name in .base/ too"
            )
        own.append(path)
    return own


def list_own_extra(experiment: str, shared: Iterable[Path]) -> list[Path]:
    """Return the numbered notebooks in the experiment's folder that are no copies of shared ones."""
    stages = {find_stage(path) for path in shared}
    return [path for path in list_numbered(experiment) if find_stage(path) not in stages]


def list_numbered(experiment: str) -> list[Path]:
    """Return the numbered notebooks in the experiment's folder."""
    found = sorted(paths.find_notebooks_dir(experiment).glob("*.ipynb"))
    return [path for path in found if NOTEBOOK_NAME.fullmatch(path.stem)]


def list_misnamed(experiments: Iterable[str]) -> list[Path]:
    """Return the notebooks whose names begin with a number, yet are not those of stages, as in `08-segments.ipynb`.

    Those with a second ending, as in `04_training.conflict.ipynb`, are left out.
    """
    folders = (paths.find_notebooks_dir(), *map(paths.find_notebooks_dir, experiments))
    found = (path for folder in folders for path in sorted(folder.glob("[0-9]*.ipynb")))
    return [path for path in found if not (NOTEBOOK_NAME.fullmatch(path.stem) or "." in path.stem)]


def find_stage(path: Path) -> str:
    """Return the stage that a notebook is for: its name without the number.

    >>> find_stage(Path("notebooks/04_training.ipynb"))
    'training'
    """
    return path.stem.partition("_")[2]
