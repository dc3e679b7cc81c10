"""Stages of the user's own: what a numbered notebook declares in its first table and its `parameters` cell.

The table names artifacts that it reads, files that it writes below `data/<experiment>/<stage>/`, and the parameters of
other sections that it uses. dvc.yaml is brought up to date from it by `labkit.stages.own_stages`.
"""

import ast
import io
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

from labkit.errors import ParamsError, name_nearest
from labkit.params.describe import list_names
from labkit.params.experiment import SECTIONS, Params
from labkit.params.load import describe_key
from labkit.params.section import Section
from labkit.params.stage_section import STAGES, DeclaredParam, load_section
from labkit.paths import show_path
from labkit.run.notebook.parameters import TAG, read_defaults
from labkit.run.notebook.source import find_notebook, read_cells
from labkit.run.notebook_files import find_stage, list_notebooks

EXPERIMENT = "experiment"
HEADER = re.compile(r"\|\s*reads\s*\|\s*writes\s*\|\s*parameters\s*\|")
QUOTED = re.compile(r"`([^`]+)`")
BARE = re.compile(r"\w[\w./]*")
FILE = re.compile(r"([a-z][a-z0-9_]*)\.(parquet|json)")
KINDS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str, "list": list}
FORM = "| reads | writes | parameters |"
SEPARATOR = re.compile(r"\|(\s*:?-+:?\s*(\||$)){3,}\s*")


@dataclass(frozen=True)
class OwnStage:
    """A stage of the user's own, as its notebook declares it.

    Attributes
    ----------
    reads
        Names of artifacts.
    writes
        Name of an artifact → its file, relative to the experiment's data folder.
    sections
        The params that it uses besides its own, dotted.
    declared
        Its own parameters.
    where
        Notebook, cell and line of the table, for messages.
    """

    name: str
    path: Path
    reads: tuple[str, ...]
    writes: Mapping[str, str]
    sections: tuple[str, ...]
    declared: tuple[DeclaredParam, ...]
    where: str


def is_own_stage(stage: str) -> bool:
    """Return whether a notebook's stage is the user's own, not one of labkit's."""
    return stage not in SECTIONS


def list_own_stages(experiment: str | None = None) -> list[OwnStage]:
    """Return the stages of the user's own, of one experiment or those that all share, in the order of their numbers.

    Raises
    ------
    ParamsError
        Two notebooks have one number, or a notebook is not valid, see `read_stage`.
    """
    return [read_stage(path) for path in list_notebooks(experiment) if is_own_stage(find_stage(path))]


def read_stage(path: Path) -> OwnStage:
    """Read what the notebook of a stage declares.

    Raises
    ------
    ParamsError
        It has no table, or names something in it that cannot be; or its `parameters` cell is not valid.
    """
    notebook, name, shown = read_cells(path), find_stage(path), show_path(path)
    defaults = read_defaults(notebook, where=shown)
    cell = next(cell for cell in notebook.cells if TAG in cell.metadata.get("tags", ()))
    declared = list_declared(cell.source, defaults, shown)
    reads, writes, parameters, where = read_table(notebook, shown)
    files = [FILE.fullmatch(one) for one in writes]
    if wrong := [one for one, found in zip(writes, files, strict=True) if not found]:
        raise ParamsError(f"{where}: writes `{wrong[0]}`: name a file such as `{name}.parquet` or `{name}.json`")
    places = {found[1]: f"{name}/{found[0]}" for found in files if found}
    if not places or len(places) < len(files):
        raise ParamsError(f"{where}: name each file that it writes once, such as `{name}.parquet`; at least one")
    own = {name, *(one.name for one in declared)}
    known = list_names()
    sections = tuple(one for one in parameters if one not in own)
    for section in sections:
        if section != "seed" and not any(f"{one}.".startswith(f"{section}.") for one in known):
            raise ParamsError(f"{where}: unknown parameter `{section}`: {name_nearest(section, [*known, *own])}")
    return OwnStage(name, path, reads, places, sections, declared, where)


def read_table(notebook: Any, shown: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], str]:
    """Return what the first table of a notebook names as reads, writes and parameters, and where it is."""
    for cell in notebook.cells:
        lines = cell.source.splitlines() if cell.cell_type == "markdown" else []
        for number, line in enumerate(lines):
            if not HEADER.match(line):
                continue
            where = f"{shown}, cell {cell.get('id')}, line"
            if not SEPARATOR.fullmatch("".join(lines[number + 1 : number + 2])):
                raise ParamsError(f"{where} {number + 2}: write `|---|---|---|` below the table's header")
            rows = [row.split("|")[1:4] for row in takewhile(lambda row: row.startswith("|"), lines[number + 2 :])]
            columns = [" ".join(column) for column in zip_longest(*rows, ["", "", ""], fillvalue="")]
            for column in columns:
                if bare := BARE.search(QUOTED.sub("", column)):
                    raise ParamsError(
                        f"{where} {number + 3}: {bare[0]} is not in backticks: write `{bare[0]}`, or leave it out"
                    )
            reads, writes, parameters = (tuple(QUOTED.findall(column)) for column in columns)
            return reads, writes, parameters, f"{where} {number + 3}"
    raise ParamsError(
        f"{shown}: no table `{FORM}` that declares its stage: add it, with names in backticks, or, if this is no "
        "stage, take the number from its name"
    )


def list_declared(source: str, defaults: Mapping[str, Any], shown: str) -> tuple[DeclaredParam, ...]:
    """Return the parameters of a `parameters` cell, with their types and the comments on their lines."""
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    if not isinstance(defaults.get(EXPERIMENT), str):
        raise ParamsError(f'{shown}: `{TAG}` cell: no line `{EXPERIMENT} = ""`: add it')
    found = []
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or target.id == EXPERIMENT:
            continue
        default = defaults[target.id]
        noted = node.annotation if isinstance(node, ast.AnnAssign) else None
        kind = KINDS.get(noted.id, type(default)) if isinstance(noted, ast.Name) else type(default)
        is_fitting = type(default) is kind or (kind is float and type(default) is int)
        if default is not None and (kind not in KINDS.values() or not is_fitting):
            raise ParamsError(
                f"{shown}: `{TAG}` cell, line {node.lineno}: {target.id} is {default!r:.60}: write a number, string, "
                "boolean or list that fits its type"
            )
        found.append(DeclaredParam(target.id, kind, default, comments.get(node.end_lineno or 0, "")))
    return tuple(found)


def find_own_stage(name: str, experiment: str) -> OwnStage:
    """Return a stage of the user's own by name.

    Raises
    ------
    ParamsError
        There is no notebook for it, or the notebook is not valid.
    """
    known = [*SECTIONS, *(find_stage(path) for path in list_notebooks(experiment))]
    if name not in known:
        raise ParamsError(f"no stage {name!r}: {name_nearest(name, known)}")
    return read_stage(find_notebook(name, experiment))


def find_declared_places(stage: OwnStage, experiment: str, places: Mapping[str, str]) -> dict[str, str]:
    """Return the places of all artifacts that a stage declares; `places` are those of labkit's own stages."""
    missing = [name for name in stage.reads if name not in places]
    others = (
        {name: place for one in list_own_stages(experiment) for name, place in one.writes.items()} if missing else {}
    )
    known = {**others, **places}
    for name in stage.reads:
        if name not in known:
            raise ParamsError(f"{stage.where}: reads `{name}`, which no stage writes: {name_nearest(name, known)}")
    return {**{name: known[name] for name in stage.reads}, **stage.writes}


def load_stage_section(params: Params, stage: str, overrides: Mapping[str, Any] | None = None) -> Section:
    """Return the params of a stage, labkit's or the user's own."""
    if not is_own_stage(stage):
        found: Section = getattr(params, stage)
        return found
    return load_section(params, stage, find_own_stage(stage, params.experiment).declared, overrides)


def check_set_stages(params: Params, stages: Sequence[OwnStage]) -> None:
    """Raise ParamsError for params of a stage that there is not, or that its notebook does not declare."""
    known = {one.name: one for one in stages}
    for name in params.stages:
        if name not in known:
            where = describe_key(params.experiment, [STAGES, name])
            raise ParamsError(f"{where}: no notebook NN_{name}.ipynb: {name_nearest(name, known)}")
        load_section(params, name, known[name].declared)
