"""The local files that a notebook or a module imports, directly or indirectly.

Resolved as Python does, without importing anything: packages with their `__init__`, submodules, relative and star
imports, namespace packages, arguments of `%run`. Imports whose names are computed at run time cannot be followed.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import ParamsError
from labkit.params.import_path import parse_import_path
from labkit.params.section import find_own_code
from labkit.run.fingerprint.code_cache import CodeCache
from labkit.run.fingerprint.python_code import Import, Meaning

if TYPE_CHECKING:
    from labkit.params.experiment import Params

LABKIT = Path(__file__).resolve().parents[2]
MACHINERY = LABKIT / "run"


@dataclass(frozen=True)
class Location:
    """Location of a module: its file, None for a namespace package, and the folders of its submodules."""

    file: Path | None
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Unit:
    """A file to read, and the package to which its relative imports refer."""

    file: Path
    package: str = ""


class Checkout:
    """The code of a checkout, each file read once."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.meanings = CodeCache(self.root)
        self.finders: dict[tuple[Path, ...], Finder] = {}

    def get_meaning(self, path: Path) -> Meaning:
        """Return the meaning of a file."""
        return self.meanings.get(path)

    def show(self, path: Path) -> str:
        """Return a file's displayed name: relative to the checkout's root, or from `labkit/` on for labkit's own."""
        top = LABKIT.parent if path.is_relative_to(LABKIT) else self.root
        return path.relative_to(top).as_posix()

    def locate(self, name: str) -> Path:
        """Return the path for a displayed name, whether or not the file exists; the inverse of `show`."""
        path = self.root / name
        is_ours = name.startswith(f"{LABKIT.name}/") and not path.exists()
        return LABKIT.parent / name if is_ours else path

    def find_file(self, module: str) -> Path:
        """Return the file of a module.

        Raises
        ------
        ParamsError
            There is no such local module.
        """
        location = Finder(list_folders(self.root)).find(module)
        if location is None or location.file is None:
            raise ParamsError(f"no module {module} in {self.root}: is it a whole checkout?")
        return location.file

    def list_named_files(self, params: "Params | None", stage: str) -> list[Path]:
        """Return the files of the checkout's modules that the params name as code of a stage."""
        if params is None:
            return []
        finder = Finder(list_folders(self.root))
        modules = {parse_import_path(one.text)[0] for one in find_own_code(params) if stage in one.stages}
        found = [finder.find(module) for module in sorted(modules)]
        return [location.file for location in found if location and location.file]

    def find_closure(self, start: Path, *more: Path) -> list[Path]:
        """Return a file followed by all local files that it imports, sorted, without those in `labkit/run`.

        What `labkit/run` itself imports from elsewhere counts, because notebooks see it as well. Further files, such as
        modules that the params name, are followed in the same way.
        """
        folders = list_folders(self.root)
        if start.suffix == ".ipynb":  # the kernel's folder, in which it looks first
            folders = tuple(dict.fromkeys([start.parent.resolve(), *folders]))
        while True:
            finder = self.finders.setdefault(folders, Finder(folders))
            files = {file for one in (start, *more) for file in self.follow(one, finder)}
            named = [folder for file in files for folder in self.list_named_folders(file)]
            wider = tuple(dict.fromkeys([*folders, *named]))
            if wider == folders:
                break
            folders = wider
        kept = {file for file in files if not file.is_relative_to(MACHINERY)}
        return [start, *sorted(kept - {start}, key=self.show)]

    def follow(self, start: Path, finder: "Finder") -> set[Path]:
        """Return a file and all local files that it imports."""
        package = finder.name_package(start)
        seen: set[Path] = set()
        # Importing a module also runs the packages that contain it.
        waiting = [Unit(start, package), *(finder.list_units(package) if package else ())]
        while waiting:
            unit = waiting.pop()
            if unit.file in seen:
                continue
            seen.add(unit.file)
            if unit not in finder.followed:
                finder.followed[unit] = tuple(dict.fromkeys(self.list_next(unit, finder)))
            waiting += finder.followed[unit]
        return seen

    def list_next(self, unit: Unit, finder: "Finder") -> Iterator[Unit]:
        """Yield the files that a file runs when it is imported: those that it imports, and those that it names."""
        meaning = self.get_meaning(unit.file)
        for one in meaning.imports:
            yield from self.list_imported(one, unit.package, finder)
        for name in meaning.files:
            yield from (Unit(file) for file in self.find_named(name, unit.file))

    def list_imported(self, one: Import, package: str, finder: "Finder") -> Iterator[Unit]:
        """Yield the files that one import runs: parent packages, the module, and imported names that are modules."""
        module = make_absolute(one, package)
        yield from finder.list_units(module)
        location = finder.find(module)
        if location is None:
            return
        names = list(one.names)
        if "*" in names and location.file is not None:
            names += self.get_meaning(location.file).exports
        for name in names:
            if finder.find(f"{module}.{name}") is not None:
                yield from finder.list_units(f"{module}.{name}")

    def find_named(self, name: str, beside: Path) -> list[Path]:
        """Return the file in the checkout that a name refers to, from its own folder, the notebooks or the root."""
        return [path for path in self.list_places(name, beside) if path.is_file()][:1]

    def list_named_folders(self, file: Path) -> list[Path]:
        """Return the folders in the checkout that a file adds to `sys.path`."""
        names = self.get_meaning(file).folders
        return [path for name in names for path in self.list_places(name, file) if path.is_dir()]

    def list_places(self, name: str, beside: Path) -> Iterator[Path]:
        """Yield the existing paths in the checkout to which a name may refer."""
        for folder in (beside.parent, self.root / "notebooks", self.root):
            with suppress(OSError, ValueError):  # most strings are not paths
                path = (folder / name).resolve()
                if path.is_relative_to(self.root) and path.exists():
                    yield path


class Finder:
    """Finds modules in a sequence of folders."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.folders = folders
        self.known: dict[str, Location | None] = {}
        self.followed: dict[Unit, tuple[Unit, ...]] = {}

    def find(self, name: str) -> Location | None:
        """Return the location of a module, None if it is not local."""
        if name not in self.known:
            self.known[name] = self.search(name)
        return self.known[name]

    def search(self, name: str) -> Location | None:
        """Look for a module."""
        if name == LABKIT.name:  # this package, even if it is installed outside the checkout
            return Location(LABKIT / "__init__.py", (LABKIT,))
        parent, _, last = name.rpartition(".")
        above = self.find(parent) if parent else Location(None, self.folders)
        return locate(last, above.folders) if above and last else None

    def list_units(self, name: str) -> Iterator[Unit]:
        """Yield the files that `import name` runs, packages first."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            dotted = ".".join(parts[:length])
            location = self.find(dotted)
            if location is None:
                return
            if location.file is not None:
                is_package = location.file.name == "__init__.py"
                yield Unit(location.file, dotted if is_package else ".".join(parts[: length - 1]))

    def name_package(self, file: Path) -> str:
        """Return the package to which a module's relative imports refer."""
        for folder in (LABKIT.parent, *self.folders):
            if file.suffix == ".py" and file.is_relative_to(folder):
                return ".".join(file.relative_to(folder).parts[:-1])
        return ""


def locate(name: str, folders: tuple[Path, ...]) -> Location | None:
    """Return the location of a module below some folders: a package, a file, or a namespace package."""
    spaces = []
    for folder in folders:
        package = folder / name
        if (package / "__init__.py").is_file():
            return Location(package / "__init__.py", (package,))
        if (folder / f"{name}.py").is_file():
            return Location(folder / f"{name}.py")
        if package.is_dir():
            spaces.append(package)
    return Location(None, tuple(spaces)) if spaces else None


def make_absolute(one: Import, package: str) -> str:
    """Return the absolute name of an import's module.

    >>> make_absolute(Import(2, "data"), "labkit.run")
    'labkit.data'
    """
    if not one.level:
        return one.module
    parts = package.split(".") if package else []
    return ".".join([*parts[: len(parts) - one.level + 1], *([one.module] if one.module else [])])


def list_folders(root: Path) -> tuple[Path, ...]:
    """Return the folders in which a kernel finds local modules: the notebook's, `lib`, local entries of `sys.path`.

    The root comes last: programs started there have it on `sys.path`, kernels do not.
    """
    environment = Path(sys.prefix).resolve()
    is_inside = environment != root and environment.is_relative_to(root)
    found = [root / "notebooks", *([root / "lib"] if (root / "lib").is_dir() else [])]
    for entry in filter(None, sys.path):
        folder = Path(entry).resolve()
        if folder.is_relative_to(root) and not (is_inside and folder.is_relative_to(environment)):
            found.append(folder)
    kept = [folder for folder in found if folder != root]
    return tuple(dict.fromkeys([*kept, root]))
