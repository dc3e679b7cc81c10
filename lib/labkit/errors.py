"""All errors that labkit raises deliberately.

LabkitError                 base of all; the command line prints it without a traceback
├── ParamsError             a params file, an override or a command-line argument is not valid
├── DataError               a table is not as declared
│   ├── HiddenRowsError     code of the user's own reads rows that it is not given
│   ├── MissingDataError    a file that a stage reads does not exist
│   └── ContractError       a table violates its contract
├── StageError              a stage failed while it ran
├── DiskError               a file cannot be written
├── TrackingError           the MLflow store cannot be used
│   └── LostStoreError      the MLflow store failed while it was in use
├── PromotionError          a version cannot become the champion, and the champion stays
└── ModelError              a model cannot be built, converted or loaded
    ├── BudgetError         the time for comparing candidates is over
    ├── MissingCodeError    a package that a model needs is not installed, and its release does not carry it
    └── ChampionError       the published model cannot be verified or tried, so nothing can be compared with it

A message describes what was found, where, and what to do. `exit_code` is 2 if the user's input is not valid and 1 if a
stage failed. Errors are printed in `labkit.cli.main`.
"""

import difflib
from collections.abc import Iterable


class LabkitError(Exception):
    """Base of all errors that labkit raises deliberately."""

    exit_code = 2


class ParamsError(LabkitError):
    """A params file, an override or a command-line argument is not valid."""


class DataError(LabkitError):
    """A table is not as declared."""


class HiddenRowsError(DataError):
    """Code of the user's own reads rows that it is not given, such as those of the holdout."""


class MissingDataError(DataError):
    """A file that a stage reads does not exist."""


class ContractError(DataError):
    """A table violates its contract."""


class StageError(LabkitError):
    """A stage failed while it ran."""

    exit_code = 1


class DiskError(LabkitError):
    """A file cannot be written: the disk is full or broken, or permission is missing."""

    exit_code = 1


class TrackingError(LabkitError):
    """The MLflow store cannot be used."""


class LostStoreError(TrackingError):
    """The MLflow store failed while it was in use."""

    exit_code = 1


class PromotionError(LabkitError):
    """A version cannot become the champion, and the champion stays."""


class ModelError(LabkitError):
    """A model cannot be built, converted or loaded."""

    exit_code = 1


class BudgetError(ModelError):
    """The time for comparing candidates is over."""


class MissingCodeError(ModelError):
    """A package that a model needs is not installed, and its release does not carry it."""


class ChampionError(ModelError):
    """The published model cannot be verified or tried, so nothing can be compared with it."""

    exit_code = 1


def name_nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word nearest to a mistyped one, or else all known words.

    Parameters
    ----------
    word
        The mistyped word.
    known
        Valid words; at most 12 are listed.

    Examples
    --------
    >>> name_nearest("trainig", ["training", "features"])
    "did you mean 'training'?"
    >>> name_nearest("xyz", ["training", "features"])
    'known: features, training'
    >>> name_nearest("age", ["AGE", "ages"])
    "did you mean 'AGE'?"
    """
    names = sorted(known)
    if near := find_nearest(word, names):
        return f"did you mean {near!r}?"
    shown = ", ".join(names[:12]) + (f", … and {len(names) - 12} more" if len(names) > 12 else "")
    return f"known: {shown}" if names else "none is known"


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word nearest to a mistyped one; None if none is near.

    Parameters
    ----------
    word
        The mistyped word.
    known
        Valid words.

    Examples
    --------
    >>> find_nearest("patients.cvs", ["patients.csv", "visits.csv"])
    'patients.csv'
    """
    folded = {name.casefold(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def list_briefly(lines: Iterable[str], most: int = 5) -> str:
    """Join lines with "; ", listing the first `most` and counting the rest.

    Parameters
    ----------
    lines
        Lines to join.
    most
        Maximum number of lines listed.

    Examples
    --------
    >>> list_briefly(["a", "b", "c"], most=2)
    'a; b; … and 1 more'
    """
    items = list(lines)
    rest = len(items) - most
    return "; ".join(items[:most]) + (f"; … and {rest} more" if rest > 0 else "")


def shorten(message: str, most: int = 300) -> str:
    """Return a message, truncated if it is long.

    Parameters
    ----------
    message
        Any string.
    most
        Maximum number of characters, without the ellipsis.

    Examples
    --------
    >>> shorten("unknown columns: a, b, c", most=16)
    'unknown columns: …'
    """
    return message if len(message) <= most else f"{message[:most].rstrip()} …"


def get_first_line(error: BaseException) -> str:
    """Return the first line of an error's message; it may be empty."""
    return str(error).partition("\n")[0]
