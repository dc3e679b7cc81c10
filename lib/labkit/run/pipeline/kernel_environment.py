"""The environment variables of the kernel of a stage."""

from pathlib import Path

from labkit import paths

OF_TERMINAL = frozenset({"COLUMNS", "NO_COLOR", "PYTHONUNBUFFERED"})
"""Variables that describe where a run prints: what a notebook writes must not depend on that."""


def make_kernel_environment(work: Path, *, run_id: str = "", sample_rows: int | None = None) -> dict[str, str]:
    """Return the kernel's environment, without the variables that describe the terminal of this run.

    Parameters
    ----------
    work
        Folder of the stage's run.
    run_id
        Its run in MLflow; empty if there is none yet.
    sample_rows
        Rows of a sample run.
    """
    sample = {"LABKIT_SAMPLE_ROWS": str(sample_rows)} if sample_rows else {}
    found = paths.make_environment(**{paths.RUN_DIR_VARIABLE: str(work)}, MLFLOW_RUN_ID=run_id, **sample)
    return {name: value for name, value in found.items() if name not in OF_TERMINAL}
