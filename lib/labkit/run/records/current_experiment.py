"""The experiment of a notebook whose `parameters` cell names none."""

from labkit import paths
from labkit.errors import ParamsError, name_nearest
from labkit.params.load import list_experiments
from labkit.run.records import ledger_index


def choose_experiment() -> tuple[str, str]:
    """Return the experiment to work on, and why: `LABKIT_EXPERIMENT`, else the last one run, else the first.

    Raises
    ------
    ParamsError
        There are no experiments, or the variable names none of them.
    """
    known = list_experiments()
    if named := paths.get_experiment():
        if named not in known:
            raise ParamsError(f"{paths.EXPERIMENT_VARIABLE}: no experiment {named!r}: {name_nearest(named, known)}")
        return named, paths.EXPERIMENT_VARIABLE
    if not known:
        raise ParamsError("params/: there are no experiments: labkit new makes one")
    last = next(
        (
            one.experiment
            for one in reversed(ledger_index.list_recorded_runs(with_apart=False))
            if one.experiment in known
        ),
        None,
    )
    return (last, "the last one run") if last else (known[0], "the first in params/")
