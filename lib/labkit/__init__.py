"""labkit: notebooks as a reproducible, tracked and reported machine learning pipeline.

A notebook needs one line of it, `step = labkit.start("training", experiment, training)`. Read next:
`labkit.run.notebook.step`, what that returns.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.renamed import accept_old_names

if TYPE_CHECKING:
    from labkit.run.notebook.step import Step

__all__ = ["start"]

# A process that only loads a published model imports nothing else of labkit first.
accept_old_names()


def start(name: str, experiment: str, overrides: Mapping[str, Any] | None = None) -> "Step":
    """Start the stage a notebook is for.

    Parameters
    ----------
    name
        The stage, e.g. `"training"`; also its section in `params/<experiment>.yaml`.
    experiment
        Name of the params file.
    overrides
        Fields of the section to change for this notebook only, e.g. `{"folds": 3}`.

    Raises
    ------
    ParamsError
        The stage, the experiment, a key or a value is not valid.
    """
    from labkit.artifacts import CATALOGUE
    from labkit.run.notebook.step import start_step

    return start_step(name, experiment, overrides, CATALOGUE)
