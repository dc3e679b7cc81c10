"""The observed dependencies of one run of a stage, warnings about them, and their part of the fingerprint.

Left out is what is compared anyway or never: the stage's code, what dvc.yaml declares, labkit's own files and caches.
Reads are recorded by `labkit.run.tracing.trace`; the dependencies are compared by
`labkit.run.fingerprint.dependencies`.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.params.experiment import Params
from labkit.run.dvc_yaml import Declaration, compute_key, list_outputs, load_declarations
from labkit.run.fingerprint.code_cache import CODE_SUFFIXES
from labkit.run.fingerprint.dependencies import (
    DEPENDENCY_KINDS,
    FINGERPRINT_SECTIONS,
    Dependencies,
    KnownDependencies,
    compute_sections,
    fold,
    is_kept_apart,
    is_local_file,
    is_part,
)
from labkit.run.fingerprint.fingerprint_file import find_fingerprint_dir, load_fingerprint, write_fingerprint
from labkit.run.fingerprint.footprint import (
    Footprint,
    Reading,
    describe_databases,
    describe_outside,
    find_file_state,
    load_footprint,
)
from labkit.run.fingerprint.import_graph import LABKIT, MACHINERY, Checkout, list_folders
from labkit.run.fingerprint.packages import find_database_packages
from labkit.run.fingerprint.python_code import Meaning
from labkit.run.tracing.trace import TRACE_NAME
from labkit.secrets.redaction import Mask
from labkit.storage.digests import digest

CHANGED = "changed while the stage ran"


@dataclass(frozen=True)
class Observation:
    """The dependencies that one run of a stage was seen to have.

    Attributes
    ----------
    changed
        Files that something else changed while the stage ran.
    untracked
        What cannot be compared next time, each with a remedy in one or two sentences.
    """

    names: Dependencies = field(default_factory=Dependencies)
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()


def observe(work: Path, stage: str, *, params: Params, start: Path, mask: Mask) -> Observation:
    """Return the dependencies that a run of a stage was seen to have besides code, params and declared inputs.

    Parameters
    ----------
    work
        The run's folder, with the trace of its kernel.
    start
        The stage's notebook.
    mask
        Keeps secrets out of the names.
    """
    footprint = load_footprint(work / TRACE_NAME)
    if footprint.began is None:
        return Observation(
            untracked=("The files that it read are not recorded, because its kernel could not be observed.",)
        )
    return Observer(footprint, stage, params, start, mask).observe()


class Observer:
    """Evaluates a footprint; see `observe`."""

    def __init__(self, footprint: Footprint, stage: str, params: Params, start: Path, mask: Mask) -> None:
        self.footprint, self.stage, self.params, self.mask = footprint, stage, params, mask
        self.checkout = Checkout(paths.find_root())
        self.code = set(self.checkout.find_closure(start, *self.checkout.list_named_files(params, stage)))
        self.declared = load_declarations(params.experiment)
        self.own = self.declared.get(stage, Declaration((), ()))
        self.outputs = list_outputs(params.experiment)
        self.after = find_after(stage, self.declared, self.outputs)
        self.secrets = params.secrets.values()
        self.untracked: list[str] = []

    def observe(self) -> Observation:
        """Return the observed dependencies."""
        readings = dict(self.find_readings())
        readings |= {name: one for name, one in self.find_named(readings) if name not in readings}
        read = self.keep_nameable([*readings, *self.list_declared()])
        self.untracked += [found for name in read for found in self.describe_undeclared(name)]
        # Outputs of later stages depend on this stage: running it again for them would never end.
        files = [name for name in read if not is_part(name, self.list_outputs_of(self.after))]
        listings = self.keep_nameable([name for name in map(self.relate, self.footprint.listings) if name])
        variables = tuple(self.footprint.list_compared_variables(self.secrets))
        names = Dependencies(fold(files), tuple(sorted(listings)), variables)
        changed = [name for name in files if name in readings and readings[name].is_changed(self.checkout.locate(name))]
        self.untracked += [f"{name} was changed while the stage ran, which runs again next time." for name in changed]
        untracked = [*self.footprint.list_untracked(self.secrets), *self.list_databases(readings), *self.untracked]
        return Observation(names, tuple(changed), tuple(map(self.mask.clean_text, untracked)))

    def list_databases(self, readings: Iterable[str]) -> list[str]:
        """Return warnings about the database packages that the code imports or was seen to import."""
        imported = [one for meaning in self.list_own(readings).values() for one in meaning.imports if not one.level]
        modules = {one.module.partition(".")[0] for one in imported}
        return describe_databases(find_database_packages(modules.union(self.footprint.imported)))

    def list_own(self, readings: Iterable[str]) -> dict[Path, Meaning]:
        """Return the meaning of the stage's code, including code found at run time, without labkit's."""
        code = {*self.code, *map(self.checkout.locate, readings)}
        own = [
            path for path in code if path.suffix in CODE_SUFFIXES and path.is_file() and not path.is_relative_to(LABKIT)
        ]
        return {path: self.checkout.get_meaning(path) for path in sorted(own)}

    def find_readings(self) -> Iterator[tuple[str, Reading]]:
        """Yield the files of the checkout on which the stage depends, by name."""
        imported, folders = self.list_imported(), {*list_folders(self.checkout.root)} - {self.checkout.root}
        for place, reading in self.footprint.readings.items():
            path = Path(place)
            if not is_local_file(self.checkout.root, path):
                if reading.state is not None and not path.resolve().is_relative_to(MACHINERY):
                    self.untracked.append(describe_outside(str(path.resolve())))
                continue
            # If the argument of a program has changed, the program is taken to have written it.
            is_output = reading.is_argument and reading.is_changed(path)
            is_looked_for = reading.state is None and reading.module in imported and folders & {*path.parents}
            if is_output or is_looked_for or path in self.code or path.resolve() in self.code:
                continue
            name = self.checkout.show(path)
            if not self.is_covered(name):
                yield name, reading
            if reading.is_argument and path.suffix in CODE_SUFFIXES:
                yield from ((self.checkout.show(file), Reading(None, is_written=True)) for file in self.follow(path))

    def find_named(self, readings: Iterable[str]) -> Iterator[tuple[str, Reading]]:
        """Yield the files that the code names and nothing wrote meanwhile: a C library may have read them."""
        code = {*self.code, *map(self.checkout.locate, readings)}
        named = {path: meaning.names for path, meaning in self.list_own(readings).items()}
        # A name may be relative to a folder that is named elsewhere.
        places = {
            place
            for path, strings in named.items()
            for string in strings
            for place in self.checkout.list_places(string, path)
        }
        folders = {place for place in places if place.is_dir() and place != self.checkout.root}
        found = places | {folder / string for folder in folders for strings in named.values() for string in strings}
        for place in sorted({place.resolve() for place in found if is_local_file(self.checkout.root, place)}):
            name = self.checkout.show(place)
            if place.is_file() and not self.is_covered(name) and place not in code and not self.is_written(place):
                yield name, Reading(find_file_state(place))

    def is_written(self, path: Path) -> bool:
        """Return whether a file was written while the stage ran, by the kernel or by anything else."""
        began = self.footprint.began or 0
        return str(path) in self.footprint.written or path.stat().st_mtime >= began

    def follow(self, script: Path) -> list[Path]:
        """Return the local files imported by a script that runs as a separate program."""
        return [file for file in self.checkout.find_closure(script) if file not in self.code and file != script]

    def list_imported(self) -> set[str]:
        """Return the names of the modules that the stage's code imports, existing or not."""
        found = set()
        for path in self.code:
            for one in self.checkout.get_meaning(path).imports:
                found |= {one.module, *(f"{one.module}.{name}" for name in one.names)}
        return found

    def is_covered(self, name: str) -> bool:
        """Return whether a file is compared anyway or never."""
        places = (*self.own.inputs, *self.outputs.get(self.stage, ()))
        return is_part(name, places) or is_kept_apart(self.checkout.root, name)

    def relate(self, pattern: str) -> str:
        """Return a pattern relative to the checkout's root, empty if it is outside."""
        root = f"{self.checkout.root}/"
        return pattern.removeprefix(root) if pattern.startswith(root) else ""

    def list_declared(self) -> Iterator[str]:
        """Yield the names of declared paths: relative to the root where they are in the checkout."""
        for place in self.footprint.declared_paths:
            path = Path(place)
            inside = path.is_relative_to(self.checkout.root)
            name = path.relative_to(self.checkout.root).as_posix() if inside else path.as_posix()
            yield f"{name}/" if path.is_dir() else name

    def keep_nameable(self, names: list[str]) -> list[str]:
        """Return the names that may be stored: those that do not hold a secret."""
        kept = [name for name in names if self.mask.clean_text(name) == name]
        if len(kept) < len(names):
            self.untracked.append("It reads a file whose name holds a secret: changes there do not rerun the stage.")
        return kept

    def list_outputs_of(self, stages: Collection[str]) -> list[str]:
        """Return the outputs of some stages."""
        return [output for stage in stages for output in self.outputs[stage]]

    def describe_undeclared(self, name: str) -> Iterator[str]:
        """Report a file that is an output of another stage but not declared as a dependency in dvc.yaml."""
        for stage, outputs in self.outputs.items():
            if not is_part(name, outputs):
                continue
            if stage in self.after:
                yield (
                    f"It reads {name}, which the stage `{stage}` writes after it: changes there do not rerun the "
                    f"stage `{self.stage}`."
                )
            else:
                yield (
                    f"It reads {name}, which the stage `{stage}` writes: add it to `deps` of `{self.stage}` in "
                    "dvc.yaml, so that DVC runs them in that order."
                )


def find_after(stage: str, declared: Mapping[str, Declaration], outputs: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the stages that depend on the outputs of a stage, directly or indirectly."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        written = outputs.get(waiting.pop(), ())
        readers = {name for name, one in declared.items() if any(is_part(path, written) for path in one.inputs)}
        waiting += readers - found
        found |= readers
    return found - {stage}


def compute_reads(
    params: Params, codes: Mapping[str, Mapping[str, str]], checkout: Checkout
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the digests of each stage's known dependencies, by kind and name."""
    known = KnownDependencies(params.experiment)
    if known.is_empty:
        return {}
    declared, found = load_declarations(params.experiment), {}
    for stage, code in codes.items():
        names = known.choose(stage, make_key(params, declared.get(stage), code))
        if not names.is_empty:
            found[stage] = compute_stage_reads(params, code, names, checkout)
    known.save()
    return found


def make_key(params: Params, declared: Declaration | None, code: Mapping[str, str]) -> str:
    """Return the key of a stage's list of dependencies: a digest of its code and params."""
    return compute_key(digest(code.values()), params, declared.sections if declared else (), {})


def keep_reads(params: Params, stage: str, outputs: Iterable[str], seen: Observation) -> dict[str, dict[str, str]]:
    """Store the dependencies that a run of a stage was seen to have and return their digests.

    DVC reads the fingerprint again when the stage has ended and records it as it is then. A file that something else
    changed meanwhile gets a digest that never matches, so that the stage runs again.
    """
    refresh_reads(params, stage, outputs)
    path = find_fingerprint_dir(params.experiment) / f"{stage}.json"
    content = load_fingerprint(path)
    if not content:
        return {}
    checkout, declared = Checkout(paths.find_root()), load_declarations(params.experiment).get(stage)
    KnownDependencies(params.experiment).keep(stage, make_key(params, declared, content["code"]), seen.names)
    sections = {} if seen.names.is_empty else compute_stage_reads(params, content["code"], seen.names, checkout)
    for name in seen.changed:
        sections["files"][name] = CHANGED
    write_fingerprint(
        path, {kind: part for kind, part in content.items() if kind not in FINGERPRINT_SECTIONS} | sections
    )
    return sections


def compute_stage_reads(
    params: Params, code: Iterable[str], names: Dependencies, checkout: Checkout
) -> dict[str, dict[str, str]]:
    """Return the digests of a stage's dependencies besides its code, by kind and name."""
    closure = [checkout.locate(name) for name in code]
    outputs = [output for listed in list_outputs(params.experiment).values() for output in listed]
    return compute_sections(checkout, closure, names, secrets=params.secrets.values(), outputs=outputs)


def refresh_reads(params: Params, stage: str, outputs: Iterable[str]) -> None:
    """Update the digests of other stages that read the outputs of a stage without declaring them.

    Parameters
    ----------
    outputs
        Relative to the experiment's data folder.
    """
    written = [f"data/{params.experiment}/{output}" for output in outputs]
    for path in find_fingerprint_dir(params.experiment).glob("*.json"):
        content = load_fingerprint(path)
        names = Dependencies(*(tuple(content.get(kind, {})) for kind in DEPENDENCY_KINDS))
        if path.stem != stage and any(is_part(name, written) for name in names.files):
            checkout = Checkout(paths.find_root())
            write_fingerprint(path, content | compute_stage_reads(params, content["code"], names, checkout))


def load_reads(experiment: str, stage: str) -> dict[str, Any]:
    """Return the stored digests of a stage's dependencies, by kind and name."""
    content = load_fingerprint(find_fingerprint_dir(experiment) / f"{stage}.json")
    return {kind: content[kind] for kind in FINGERPRINT_SECTIONS if kind in content}


def add_reads(code: str, reads: Mapping[str, Any]) -> str:
    """Return one digest of a stage's code and its dependencies."""
    return digest([code, json.dumps(reads, sort_keys=True)]) if reads else code
