"""What the trace of a kernel says once it has ended: what was read before it was written, and what cannot be followed.

Not how the trace is taken: that is `labkit.run.trace`. Not which of it a stage depends on: that is
`labkit.run.dependencies`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.errors import list_briefly
from labkit.files import parse_json
from labkit.run.variables import is_set_by_labkit
from labkit.secret import SECRET_NAME

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
