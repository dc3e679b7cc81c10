"""The message of a stage that failed: where, why, and what to do."""

from collections.abc import Iterable
from pathlib import Path

from labkit import paths
from labkit.errors import LabkitError, StageError, shorten
from labkit.paths import show_path
from labkit.run.notebook.result import Execution, Failure
from labkit.run.notebook_files import find_stage
from labkit.units import format_duration

LONGEST_SOURCE_LINE = 160
LONGEST_MESSAGE, LONGEST_OWN_MESSAGE = 300, 1500
"""Characters of the first line of an error; the page has the rest. labkit's own errors end with what to do."""


def make_error(
    path: Path,
    execution: Execution,
    failure: Failure,
    pages: Path,
    parameters: Iterable[tuple[str, str, str]],
    *,
    advice: str = "",
) -> LabkitError:
    """Return the error to raise for a failed notebook, of the class raised inside it if that is one of labkit's.

    Parameters
    ----------
    parameters
        Name, value and origin of each of the stage's parameters.
    advice
        How to continue the stage where it failed.
    """
    cause = failure.cause
    own = type(cause) if isinstance(cause, LabkitError) else None
    is_input = own is not None and own.exit_code == LabkitError.exit_code
    summary = shorten(failure.summary, LONGEST_OWN_MESSAGE if own else LONGEST_MESSAGE)
    set_values = ", ".join(f"{name}={value}" for name, value, origin in parameters if origin != "default")
    # A sweep shows this message where it was started, above the light checkout of the stage.
    shown = show_path(pages / path.stem, root=paths.find_code_root())
    lines = [
        f"stage {find_stage(path)} failed: {summary}",
        f"In {path.name}, {failure.place}, after {format_duration(execution.seconds)}",
        f"    {shorten(failure.line, LONGEST_SOURCE_LINE)}" if failure.line else "",
        # Indented, so that they cannot be mistaken for lines of this message.
        *(f"    {shorten(line, LONGEST_SOURCE_LINE)}" for line in failure.error_message.splitlines()[1:4]),
        f"With {set_values}"[:LONGEST_SOURCE_LINE] if set_values else "",
        f"Page: {shown}.html   Notebook: {shown}.ipynb",
        "Fix it and run again: finished stages are kept.",
        advice,
    ]
    error = (own if own and is_input else StageError)("\n".join(line for line in lines if line))
    error.__cause__ = cause
    return error
