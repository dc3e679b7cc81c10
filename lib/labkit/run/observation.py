"""What one run of a stage was seen to depend on, and what people should know of it, from the trace of its kernel.

What was read before it was written counts, unless it counts already: the stage's code, what dvc.yaml declares, labkit's
own files and caches. Not how the trace is taken: that is `labkit.run.trace`. Not how the rest is compared: that is
`labkit.run.dependencies`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import list_briefly
from labkit.files import parse_json
from labkit.params import Params
from labkit.run.closure import LABKIT, MACHINERY, Checkout, list_folders
from labkit.run.declarations import Declaration, list_outputs, load_declarations
from labkit.run.dependencies import Dependencies, fold, is_kept_apart, is_local, is_part, is_set_by_labkit
from labkit.run.meanings import CODE
from labkit.run.trace import NAME
from labkit.secret import SECRET_NAME, Mask

MOST_VARIABLES = 20
"""Above this many, code has gone through the whole environment."""


@dataclass(frozen=True)
class Reading:
    """One file that was read: its size and time of change then, None if it was not there.

    Attributes
    ----------
    module
        The module that was looked for by that name, if it was.
    is_written
        Whether the kernel wrote it afterwards.
    is_argument
        Whether it is only known as an argument of a program that was started, which may read or write it.
    """

    state: tuple[int, int] | None
    module: str | None = None
    is_written: bool = False
    is_argument: bool = False

    def is_changed(self, path: Path) -> bool:
        """Tell whether the file is another now than when it was read, by somebody else's doing."""
        return not self.is_written and find_state(path) != self.state


@dataclass(frozen=True)
class Footprint:
    """What a kernel read, and what it did that cannot be followed.

    Attributes
    ----------
    readings
        By absolute path; what the kernel wrote first is its own and not among them.
    listings
        Patterns of names that were looked for.
    outside
        Files outside of the checkout that were read.
    variables
        Environment variables that were asked for.
    commands
        Programs that code of the checkout started.
    has_workers
        Whether worker processes were started that do not inherit the hook.
    declared_paths, declared_variables
        What `step.depends_on` was given.
    written
        Files that the kernel wrote.
    began
        When the kernel began to take notes, in seconds as files have them; None if it took none.
    """

    readings: Mapping[str, Reading] = field(default_factory=dict)
    listings: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    has_workers: bool = False
    declared_paths: tuple[str, ...] = ()
    declared_variables: tuple[str, ...] = ()
    written: frozenset[str] = frozenset()
    began: float | None = None

    def list_untracked(self) -> list[str]:
        """Return what labkit cannot compare at the next run, each with what to do about it."""
        declared = [Path(path) for path in self.declared_paths]
        outside = [path for path in self.outside if not any(Path(path).is_relative_to(one) for one in declared)]
        found = [describe_outside(path) for path in outside]
        found += describe_variables([name for name in self.variables if name not in self.declared_variables])
        if not declared:
            found += describe_programs(self.commands)
        if self.has_workers and not declared:
            found.append(
                "It starts worker processes: the files that these read are not recorded. Name them by "
                "`step.depends_on(path=…)`."
            )
        return found


def load_footprint(path: Path) -> Footprint:
    """Read the trace of a kernel; lines that its end cut short are passed over."""
    notes = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            note = parse_json(line)
        except ValueError:
            continue
        notes.append(note)
    return make_footprint(notes)


def make_footprint(notes: Iterable[Mapping[str, Any]]) -> Footprint:
    """Return what some notes say together, in the order in which they were taken."""
    notes = list(notes)

    def collect(kind: str, key: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(note[key]) for note in notes if note["kind"] == kind and key in note))

    kinds = {note["kind"] for note in notes}
    return Footprint(
        readings=collect_readings(notes),
        listings=collect("list", "pattern"),
        outside=collect("outside", "path"),
        variables=collect("variable", "name"),
        commands=collect("start", "command"),
        has_workers="workers" in kinds,
        declared_paths=collect("declared", "path"),
        declared_variables=collect("declared", "variable"),
        written=frozenset(collect("write", "path")),
        began=next((float(note["at"]) for note in notes if note["kind"] == "begin"), None),
    )


def collect_readings(notes: Iterable[Mapping[str, Any]]) -> dict[str, Reading]:
    """Return the files that were read, without those that the kernel made itself."""
    found: dict[str, Reading] = {}
    own: set[str] = set()
    for note in notes:
        if note["kind"] == "read" and note["path"] not in own:
            path, is_argument = note["path"], bool(note.get("is_argument"))
            before = found.get(path)
            if before is None or (before.is_argument and not is_argument):
                state = note["state"] and (int(note["state"][0]), int(note["state"][1]))
                found[path] = Reading(state, note.get("module"), is_argument=is_argument)
        elif note["kind"] == "write":
            before = found.get(note["path"])
            if before is None or before.state is None:
                found.pop(note["path"], None)
                own.add(note["path"])
            else:
                found[note["path"]] = Reading(before.state, before.module, is_written=True)
    return found


def find_state(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file, None if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def describe_outside(path: str) -> str:
    """Say that a file outside of the checkout is read."""
    return (
        f"It reads {path}, outside of the checkout: a change there runs nothing. Name it by "
        f"`step.depends_on(path={path!r})`."
    )


def describe_variables(names: list[str]) -> list[str]:
    """Say that environment variables are read."""
    if len(names) > MOST_VARIABLES:
        return [
            f"It reads the whole environment ({len(names)} variables): a change there runs nothing. Name those that "
            "matter by `step.depends_on(variable=…)`."
        ]
    found = []
    for name in (name for name in names if not is_set_by_labkit(name)):
        remedy = "Name it under `secrets` in the params and get it by `step.secret`."
        if not SECRET_NAME.search(name):
            remedy = f"Name it by `step.depends_on(variable={name!r})`."
        found.append(f"It reads the environment variable {name}: a change of its value runs nothing. {remedy}")
    return found


def describe_programs(commands: tuple[str, ...]) -> list[str]:
    """Say that programs are started."""
    if not commands:
        return []
    shown = list_briefly([f"`{command}`" for command in commands], most=3)
    return [
        f"It starts {shown}: the files that these programs read are not recorded. Name them by "
        "`step.depends_on(path=…)`."
    ]


@dataclass(frozen=True)
class Observation:
    """What one run of a stage was seen to depend on.

    Attributes
    ----------
    changed
        Files that were changed by somebody else while the stage ran.
    untracked
        What cannot be compared next time, and what to do about it, a sentence or two each.
    """

    names: Dependencies = field(default_factory=Dependencies)
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()


def observe(work: Path, stage: str, *, params: Params, start: Path, mask: Mask) -> Observation:
    """Return what a run of a stage was seen to depend on beside its code, its params and its declared inputs.

    Parameters
    ----------
    work
        The run's folder, with the trace of its kernel.
    start
        The stage's notebook.
    mask
        What keeps secrets out of the names.
    """
    footprint = load_footprint(work / NAME)
    if footprint.began is None:
        return Observation(untracked=("The files that it read are not recorded, as its kernel could not be watched.",))
    return Observer(footprint, stage, params, start, mask).observe()


class Observer:
    """Goes through a footprint; see `observe`."""

    def __init__(self, footprint: Footprint, stage: str, params: Params, start: Path, mask: Mask) -> None:
        self.footprint, self.stage, self.params, self.mask = footprint, stage, params, mask
        self.checkout = Checkout(paths.find_root())
        self.code = set(self.checkout.find_closure(start))
        self.declared = load_declarations(params.experiment)
        self.own = self.declared.get(stage, Declaration((), ()))
        self.outputs = list_outputs(params.experiment)
        self.after = find_after(stage, self.declared, self.outputs)
        self.untracked: list[str] = []

    def observe(self) -> Observation:
        """Return what there is."""
        readings = dict(self.find_readings())
        readings |= {name: one for name, one in self.find_named(readings) if name not in readings}
        read = self.keep_nameable([*readings, *self.list_declared()])
        self.untracked += [found for name in read for found in self.describe_undeclared(name)]
        # What comes after a stage depends on it: to run the stage again for it would never end.
        files = [name for name in read if not is_part(name, self.list_outputs_of(self.after))]
        listings = self.keep_nameable([name for name in map(self.relate, self.footprint.listings) if name])
        names = Dependencies(fold(files), tuple(sorted(listings)), tuple(sorted(self.footprint.declared_variables)))
        changed = [name for name in files if name in readings and readings[name].is_changed(self.checkout.locate(name))]
        self.untracked += [f"{name} was changed while the stage ran, which runs again next time." for name in changed]
        untracked = [*self.footprint.list_untracked(), *self.untracked]
        return Observation(names, tuple(changed), tuple(map(self.mask.clean_text, untracked)))

    def find_readings(self) -> Iterator[tuple[str, Reading]]:
        """Yield the files of the checkout that count, by name."""
        imported, folders = self.list_imported(), {*list_folders(self.checkout.root)} - {self.checkout.root}
        for place, reading in self.footprint.readings.items():
            path = Path(place)
            if not is_local(self.checkout.root, path):
                if reading.state is not None and not path.resolve().is_relative_to(MACHINERY):
                    self.untracked.append(describe_outside(str(path.resolve())))
                continue
            # Of a program's argument that has changed, the program is taken to have written it.
            is_output = reading.is_argument and reading.is_changed(path)
            is_looked_for = reading.state is None and reading.module in imported and folders & {*path.parents}
            if is_output or is_looked_for or path in self.code or path.resolve() in self.code:
                continue
            name = self.checkout.show(path)
            if not self.is_covered(name):
                yield name, reading
            if reading.is_argument and path.suffix in CODE:
                yield from ((self.checkout.show(file), Reading(None, is_written=True)) for file in self.follow(path))

    def find_named(self, readings: Iterable[str]) -> Iterator[tuple[str, Reading]]:
        """Yield the files that the code names and nobody wrote meanwhile: a library in C may have read them."""
        code = {*self.code, *map(self.checkout.locate, readings)}
        own = [path for path in code if path.suffix in CODE and path.is_file() and not path.is_relative_to(LABKIT)]
        for path in sorted(own):
            for text in self.checkout.get_meaning(path).names:
                for place in self.checkout.list_places(text, path):
                    name = self.checkout.show(place)
                    is_input = place.is_file() and not self.is_covered(name) and is_local(self.checkout.root, place)
                    if is_input and place not in code and not self.is_written(place):
                        yield name, Reading(find_state(place))

    def is_written(self, path: Path) -> bool:
        """Tell whether a file was written while the stage ran, as far as can be told by whom."""
        began = self.footprint.began or 0
        return str(path) in self.footprint.written or path.stat().st_mtime >= began

    def follow(self, script: Path) -> list[Path]:
        """Return the local files that a script, which runs as a program of its own, imports."""
        return [file for file in self.checkout.find_closure(script) if file not in self.code and file != script]

    def list_imported(self) -> set[str]:
        """Return the modules that the stage's code imports by name: those that are not there yet are looked for."""
        found = set()
        for path in self.code:
            for one in self.checkout.get_meaning(path).imports:
                found |= {one.module, *(f"{one.module}.{name}" for name in one.names)}
        return found

    def is_covered(self, name: str) -> bool:
        """Tell whether a file counts already, or not at all."""
        places = (*self.own.inputs, *self.outputs.get(self.stage, ()))
        return is_part(name, places) or is_kept_apart(self.checkout.root, name)

    def relate(self, pattern: str) -> str:
        """Return a pattern from the checkout's root on, empty for one elsewhere."""
        root = f"{self.checkout.root}/"
        return pattern.removeprefix(root) if pattern.startswith(root) else ""

    def list_declared(self) -> Iterator[str]:
        """Yield the names of what the notebook declared: from the root on where it lies in the checkout."""
        for place in self.footprint.declared_paths:
            path = Path(place)
            inside = path.is_relative_to(self.checkout.root)
            name = path.relative_to(self.checkout.root).as_posix() if inside else path.as_posix()
            yield f"{name}/" if path.is_dir() else name

    def keep_nameable(self, names: list[str]) -> list[str]:
        """Return the names that may be written down; one that holds a secret may not."""
        kept = [name for name in names if self.mask.clean_text(name) == name]
        if len(kept) < len(names):
            self.untracked.append("It reads a file whose name holds a secret: a change there runs nothing.")
        return kept

    def list_outputs_of(self, stages: Collection[str]) -> list[str]:
        """Return what some stages write."""
        return [output for stage in stages for output in self.outputs[stage]]

    def describe_undeclared(self, name: str) -> Iterator[str]:
        """Say that a file is what another stage writes, though dvc.yaml does not say that this one reads it."""
        for stage, outputs in self.outputs.items():
            if not is_part(name, outputs):
                continue
            if stage in self.after:
                yield f"It reads {name}, which the stage `{stage}` writes after it: a change there runs nothing."
            else:
                yield (
                    f"It reads {name}, which the stage `{stage}` writes: add it to `deps` of `{self.stage}` in "
                    "dvc.yaml, so that DVC runs them in that order."
                )


def find_after(stage: str, declared: Mapping[str, Declaration], outputs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the stages that read what a stage writes, directly or not."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        written = outputs.get(waiting.pop(), ())
        readers = {name for name, one in declared.items() if any(is_part(path, written) for path in one.inputs)}
        waiting += readers - found
        found |= readers
    return found - {stage}
