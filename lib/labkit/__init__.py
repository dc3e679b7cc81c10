"""labkit: notebooks as a reproducible, tracked and reported machine learning pipeline.

A notebook needs only `step = labkit.start("training", experiment, training)`. Read next: `labkit.run.notebook.step`,
which defines the object it returns.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.renamed import accept_old_names

if TYPE_CHECKING:
    from labkit.run.notebook.step import Step

__all__ = ["start"]

# A process that loads a published model imports nothing else of labkit before the model.
accept_old_names()


def start(name: str, experiment: str, overrides: Mapping[str, Any] | None = None) -> "Step":
    """Start the stage of a notebook.

    Parameters
    ----------
    name
        Name of the stage, e.g. `"training"`, and of its section in `params/<experiment>.yaml`.
    experiment
        Name of the params file; if empty, that of `LABKIT_EXPERIMENT`, else the last one run, else the first.
    overrides
        Fields of the section to change for this notebook only, e.g. `{"folds": 3}`.

    Returns
    -------
    Step
        The started stage.

    Raises
    ------
    ParamsError
        The stage, the experiment, a key or a value is not valid.
    """
    from labkit.artifacts import CATALOGUE
    from labkit.run.notebook.step import start_step

    return start_step(name, experiment, overrides, CATALOGUE)
