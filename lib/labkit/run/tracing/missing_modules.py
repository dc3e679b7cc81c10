"""Notices imports of modules that do not exist yet."""

import sys
from collections.abc import Callable, Sequence


class MissingFinder:
    """The last finder in `sys.meta_path`: it is asked only for modules that no other finder has found.

    Parameters
    ----------
    note_missing
        Called with the name of the module and the folders in which it was looked for.
    note_fault
        Called with a word and the error if that failed.
    """

    def __init__(
        self, note_missing: Callable[[str, list[str]], None], note_fault: Callable[[str, Exception], None]
    ) -> None:
        self.note_missing, self.note_fault = note_missing, note_fault

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Report a module that does not exist yet."""
        try:
            self.note_missing(name, list(sys.path if path is None else path))
        except Exception as error:  # the import itself must go on
            self.note_fault("import", error)
