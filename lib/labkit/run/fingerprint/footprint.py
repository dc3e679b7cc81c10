"""Summary of a kernel's trace: what it read before writing it, and what cannot be followed.

The trace is recorded by `labkit.run.tracing.trace`; `labkit.run.fingerprint.observation` decides which of it a stage
depends on.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import list_briefly
from labkit.run.fingerprint.dependencies import explain_refusal, is_set_by_labkit
from labkit.storage.atomic import parse_json
from labkit.units import format_count

MOST_VARIABLES = 20
"""Above this many, code is taken to have iterated over the whole environment."""
MACHINE_VARIABLES = frozenset({"HOME", "HOSTNAME", "LOGNAME", "OLDPWD", "PWD", "SHELL", "TERM", "TMPDIR", "USER"})
"""Variables that differ between machines: compared only if a notebook declares them."""


@dataclass(frozen=True)
class Reading:
    """One file that was read: its size and modification time then, None if it did not exist.

    Attributes
    ----------
    module
        The module that the import system looked for under that name, if any.
    is_written
        Whether the kernel wrote it afterwards.
    is_argument
        Whether it is only known as an argument of a program, which may read or write it.
    """

    state: tuple[int, int] | None
    module: str | None = None
    is_written: bool = False
    is_argument: bool = False

    def is_changed(self, path: Path) -> bool:
        """Return whether something other than the kernel has changed the file since it was read."""
        return not self.is_written and find_file_state(path) != self.state


@dataclass(frozen=True)
class Footprint:
    """What a kernel read, and what it did that labkit cannot follow.

    Attributes
    ----------
    readings
        By absolute path, without files that the kernel wrote first.
    listings
        Patterns of file names that were listed.
    outside
        Files outside the checkout that were read.
    variables
        Environment variables that were read.
    commands
        Programs that code of the checkout started.
    has_workers
        Whether worker processes were started that do not inherit the hook.
    hosts
        Hosts that were looked up.
    faults
        Kinds of events that could not be recorded, each with the name of the error.
    imported
        Packages imported while the notebook ran, unless a warm kernel had imported them before.
    declared_paths, declared_variables
        What `step.depends_on` was given.
    written
        Files of the checkout that the kernel wrote.
    changes
        Files and folders anywhere that the kernel made, wrote, moved or removed, without those of its own run.
    began
        When recording began, in seconds since the epoch; None if nothing was recorded.
    """

    readings: Mapping[str, Reading] = field(default_factory=dict)
    listings: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    has_workers: bool = False
    hosts: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    declared_paths: tuple[str, ...] = ()
    declared_variables: tuple[str, ...] = ()
    written: frozenset[str] = frozenset()
    changes: tuple[str, ...] = ()
    began: float | None = None

    @property
    def is_environment_read(self) -> bool:
        """Whether code has iterated over the whole environment."""
        return len(self.variables) > MOST_VARIABLES

    def list_compared_variables(self, secrets: Collection[str] = ()) -> list[str]:
        """Return the environment variables whose values are compared at the next run."""
        read = [] if self.is_environment_read else self.variables
        kept = {name for name in read if not explain_untracked(name, secrets) and not is_set_by_labkit(name)}
        return sorted(kept | {*self.declared_variables})

    def list_untracked(self, secrets: Collection[str] = ()) -> list[str]:
        """Return what labkit cannot compare at the next run, each with a remedy.

        Parameters
        ----------
        secrets
            The variables that the params name as secrets.
        """
        declared = [Path(path) for path in self.declared_paths]
        outside = [path for path in self.outside if not any(Path(path).is_relative_to(one) for one in declared)]
        found = [describe_outside(path) for path in outside]
        found += self.list_untracked_variables(secrets)
        found += describe_hosts(self.hosts)
        if self.faults:
            found.append(
                f"Some of what it read could not be recorded ({list_briefly(self.faults, most=3)}): changes there "
                "do not rerun the stage. Declare it with `step.depends_on(path=…)`."
            )
        if not declared:
            found += describe_programs(self.commands)
        if self.has_workers and not declared:
            found.append(
                "It starts worker processes: the files that these read are not recorded. Declare them "
                "with `step.depends_on(path=…)`."
            )
        return found

    def list_untracked_variables(self, secrets: Collection[str]) -> list[str]:
        """Return the environment variables whose values are not compared, each with a remedy."""
        if self.is_environment_read:
            n_read = format_count(len(self.variables), "variable")
            return [
                f"It reads the whole environment ({n_read}): changes there do not rerun the stage. Declare "
                "those that matter with `step.depends_on(variable=…)`."
            ]
        names = [name for name in self.variables if name not in self.declared_variables and not is_set_by_labkit(name)]
        reasons = {name: explain_untracked(name, secrets) for name in names}
        return [
            f"It reads the environment variable {name}: a change of its value does not rerun the stage. {why}"
            for name, why in reasons.items()
            if why
        ]


def load_footprint(path: Path) -> Footprint:
    """Read the trace of a kernel, without lines cut short when it ended."""
    notes = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            note = parse_json(line)
        except ValueError:
            continue
        notes.append(note)
    return make_footprint(notes)


def make_footprint(notes: Iterable[Mapping[str, Any]]) -> Footprint:
    """Combine the events of a trace, in the order in which they were recorded."""
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
        hosts=collect("network", "host"),
        faults=collect("fault", "event"),
        imported=collect("import", "module"),
        declared_paths=collect("declared", "path"),
        declared_variables=collect("declared", "variable"),
        written=frozenset(collect("write", "path")),
        changes=collect("change", "path"),
        began=next((float(note["at"]) for note in notes if note["kind"] == "begin"), None),
    )


def collect_readings(notes: Iterable[Mapping[str, Any]]) -> dict[str, Reading]:
    """Return the files that were read, without those that the kernel created."""
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


def find_file_state(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of a file, None if it does not exist."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def describe_outside(path: str) -> str:
    """Report a file outside the checkout that is read."""
    return (
        f"It reads {path}, outside of the checkout: changes there do not rerun the stage. Declare it with "
        f"`step.depends_on(path={path!r})`."
    )


def explain_untracked(name: str, secrets: Collection[str]) -> str:
    """Return a remedy for a variable whose value is not compared, empty if it is compared."""
    if name in MACHINE_VARIABLES:
        return f"It differs between machines: declare it with `step.depends_on(variable={name!r})` if it matters."
    if explain_refusal(name, paths.get_variable(name) or "", secrets):
        return "Declare it under `secrets` in the params and get it with `step.secret`."
    return ""


def describe_hosts(hosts: tuple[str, ...]) -> list[str]:
    """Report that data may come over the network."""
    if not hosts:
        return []
    return [
        f"It connects to {list_briefly(list(hosts), most=3)}: changes there do not rerun the stage. Keep a "
        "copy in the checkout and read that, or run the stage again with `--force`."
    ]


def describe_databases(packages: Collection[str]) -> list[str]:
    """Report that databases may be read."""
    if not packages:
        return []
    return [
        f"It uses {list_briefly(sorted(packages), most=3)}: changes in a database do not rerun the stage. Name its "
        "tables under `data` in the params, or run the stage again with `--force`."
    ]


def describe_programs(commands: tuple[str, ...]) -> list[str]:
    """Report that programs are started."""
    if not commands:
        return []
    shown = list_briefly([f"`{command}`" for command in commands], most=3)
    return [
        f"It starts {shown}: the files that these programs read are not recorded. Declare them with "
        "`step.depends_on(path=…)`."
    ]
