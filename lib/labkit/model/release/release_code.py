"""The packages of the user's own that a release carries, where it predicts.

A wheel is code, and it is imported only from a release whose digests have been verified. It is used even where another
version of the package can be imported, as when a new model is compared with the champion: while a release predicts, its
own packages take the place of others of the same name. See `labkit.model.release.own_code` for how they are released.
"""

import importlib.util
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from labkit.errors import MissingCodeError, ModelError
from labkit.params.import_path import CARRIED, find_own_package

SWITCH = threading.RLock()
"""Held while the packages of a release take the place of others, because the modules of a process are global."""


class ReleaseCode:
    """The packages that a release carries, in a folder of their own for as long as this object exists.

    Parameters
    ----------
    wheels
        Wheels of a release that has been verified.

    Attributes
    ----------
    names
        Names of the packages.
    """

    def __init__(self, wheels: Sequence[Path] = ()) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix=".labkit-") if wheels else None
        self.modules: dict[str, ModuleType] = {}
        self.is_active = False
        self.names: frozenset[str] = frozenset()
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(str(self.place))
        if self.place is not None:
            found = [path.name for path in self.place.iterdir() if not path.name.endswith(".dist-info")]
            self.names = frozenset(name.removesuffix(".py") for name in found)

    @property
    def place(self) -> Path | None:
        """The folder of the packages, None if there are none."""
        return None if self.folder is None else Path(self.folder.name)

    def list_places(self) -> list[Path]:
        """Return the folders of the packages, and the files of modules without a package."""
        found = sorted(self.place.iterdir()) if self.place is not None else []
        return [path for path in found if path.stem in self.names]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the release's packages take the place of others of the same name, for the length of a `with` block."""
        if self.place is None:
            yield
            return
        entry = str(self.place)
        with SWITCH:
            if self.is_active:
                yield
                return
            others = remove_modules(self.names)
            sys.modules.update(self.modules)
            sys.path.insert(0, entry)
            CARRIED.add(self.place)
            self.is_active = True
            try:
                yield
            finally:
                self.is_active = False
                self.modules = remove_modules(self.names)
                sys.path.remove(entry)
                CARRIED.remove(self.place)
                sys.modules.update(others)

    def check_complete(self, columns: Mapping[str, Any], folder: Path) -> None:
        """Verify that the release carries the packages of the functions and transformers of its features.

        A transformer may also be of an installed library, because the model file may only contain estimators of these.
        A function may not: it would be called with arguments from the release.

        Parameters
        ----------
        columns
            `columns` of the release's `labkit.features.row_computation.RowComputation`.
        folder
            The release, for the message.

        Raises
        ------
        MissingCodeError
            It does not carry a package that is not installed.
        ModelError
            A function is part of Python or of an installed library.
        """
        for kind in ("functions", "transformers"):
            for path in sorted({spec["path"] for spec in (columns.get(kind) or {}).values()}):
                name = path.partition(":")[0].partition(".")[0]
                if name in self.names:
                    continue
                # What lies in `lib` may be another version than the one that the model was trained with.
                if find_own_package(name) is not None or importlib.util.find_spec(name) is None:
                    raise MissingCodeError(
                        f"{folder}: needs the package {name}, which it does not carry: run the stage `deploy` again "
                        "where the model was trained"
                    )
                if kind == "functions":
                    raise ModelError(
                        f"{folder}: its features call {path}, which is in no package that it carries: do not use a "
                        "release from others; in your own, call it in a function in lib/ and train again"
                    )


def remove_modules(names: Iterable[str]) -> dict[str, ModuleType]:
    """Remove packages from the imported modules and return what was removed."""
    packages = {*names}
    found = [name for name in sys.modules if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in found}


def list_wheels(folder: Path) -> list[Path]:
    """Return the wheels in a release, sorted by name."""
    return sorted(folder.glob("*.whl"))
