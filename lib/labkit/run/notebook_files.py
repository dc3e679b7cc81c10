"""The source notebooks, their order and the stage of each, all from the file names.

Does not read the notebooks. What makes a notebook valid: `labkit.run.notebook.source`.
"""

import re
from pathlib import Path

from labkit import paths
from labkit.errors import ParamsError

NOTEBOOK_NAME = re.compile(r"(\d{1,4})_([a-z][a-z0-9_]*)")


def list_notebooks() -> list[Path]:
    """Return the notebooks of stages in the order of their numbers, which need not be consecutive.

    Number 0 is for a notebook that belongs to no stage, such as the board.

    Raises
    ------
    ParamsError
        Two have the same number.
    """
    numbered: dict[int, Path] = {}
    for path in sorted(paths.find_notebooks_dir().glob("*.ipynb")):
        if (found := NOTEBOOK_NAME.fullmatch(path.stem)) and int(found[1]):
            other = numbered.setdefault(int(found[1]), path)
            if other is not path:
                raise ParamsError(
                    f"notebooks/: {other.name} and {path.name} have the same number, which sets the order: renumber one"
                )
    return [numbered[number] for number in sorted(numbered)]


def find_stage(path: Path) -> str:
    """Return the stage that a notebook is for: its name without the number.

    >>> find_stage(Path("notebooks/04_training.ipynb"))
    'training'
    """
    return path.stem.partition("_")[2]
