"""An experiment's own copies of shared notebooks: made, compared, and upgraded when the shared notebook has changed.

`notebooks/<experiment>/NN_stage.ipynb` is the copy that the experiment runs. `.base/NN_stage.ipynb` beside it is the
shared notebook as last copied or merged, in git like any file, so that shallow clones can merge as well. Comparing
and merging: `labkit.run.notebook.merge`. Which notebook runs: `labkit.run.notebook_files`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from labkit import paths
from labkit.errors import ParamsError, name_nearest
from labkit.params.load import list_experiments, load_params
from labkit.paths import show_path
from labkit.run.dvc_yaml import list_stage_names
from labkit.run.notebook.merge import (
    CellChange,
    Conflict,
    clear_outputs,
    compare_cells,
    list_marked_cells,
    locate_conflicts,
    merge_three_way,
)
from labkit.run.notebook.parameters import TAG, read_defaults
from labkit.run.notebook.source import find_notebook, read_notebook, read_source
from labkit.run.notebook_files import find_stage, list_own_copies, list_own_extra, list_shared
from labkit.storage.atomic import write_text
from labkit.storage.digests import digest

BASES = ".base"
UP_TO_DATE, UPGRADED, RESOLVED, CONFLICTING = "up to date", "upgraded", "resolved", "conflict"
LINK = re.compile(r"\]\((?:\.\./)?(\d{1,4}_[a-z][a-z0-9_]*\.ipynb)(?=[)#])")
DEFAULT = re.compile(r"""^experiment = (["'])\w*\1""", re.MULTILINE)
NOTE = "labkit_merge"
"""Metadata of a notebook with conflicts: the versions that were merged, the merged one and its conflicts."""


@dataclass(frozen=True)
class OwnNotebook:
    """A stage's notebook of one experiment, whether or not the files exist."""

    experiment: str
    name: str

    @property
    def path(self) -> Path:
        """The copy that the experiment runs."""
        return paths.find_notebooks_dir(self.experiment) / self.name

    @property
    def shared_path(self) -> Path:
        """The notebook of the other experiments."""
        return paths.find_notebooks_dir() / self.name

    @property
    def base_path(self) -> Path:
        """The shared notebook as last copied or merged."""
        return self.path.parent / BASES / self.name

    @property
    def conflict_path(self) -> Path:
        """The merged notebook with conflict markers."""
        return self.path.with_suffix(".conflict.ipynb")

    def read(self, path: Path) -> nbformat.NotebookNode:
        """Read one of its notebooks; a shared one has this experiment as the default, and links that work here."""
        # One with conflicts may have them in its `parameters` cell.
        notebook = (read_notebook if path == self.conflict_path else read_source)(path).notebook
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = LINK.sub(self.write_link, cell.source)
            elif path != self.path and TAG in cell.metadata.get("tags", ()):
                cell.source = DEFAULT.sub(f'experiment = "{self.experiment}"', cell.source)
        return notebook

    def write_link(self, found: re.Match[str]) -> str:
        """Return a link to a notebook, seen from the experiment's folder."""
        is_shared = not (self.path.parent / found[1]).exists() and (self.shared_path.parent / found[1]).exists()
        return f"]({'../' if is_shared else ''}{found[1]}"

    def read_base(self) -> nbformat.NotebookNode:
        """Read the base of merges.

        Raises
        ------
        ParamsError
            It is missing or not a notebook.
        """
        if not self.base_path.exists():
            where, folder = show_path(self.base_path), show_path(self.base_path.parent)
            raise ParamsError(
                f"{where}: missing, so nothing can be merged: restore it from git, or, to merge only later changes of "
                f"the shared notebook: mkdir -p {folder} && cp {show_path(self.shared_path)} {where}"
            )
        return self.read(self.base_path)


@dataclass(frozen=True)
class Difference:
    """How an own notebook differs from the shared one.

    Attributes
    ----------
    is_behind
        Whether the shared notebook has changed since it was copied or merged.
    is_extra
        Whether there is no shared notebook that it could be compared with.
    """

    own: OwnNotebook
    is_behind: bool = False
    cells: Sequence[CellChange] = ()
    is_extra: bool = False


@dataclass(frozen=True)
class Upgrade:
    """The result of the upgrade of one notebook; nothing is written until `save`.

    Attributes
    ----------
    outcome
        `up to date`, `upgraded`, `resolved` (the user resolved the conflicts of the last upgrade) or `conflict`.
    conflicts
        The cells that conflict, and the lines.
    cells
        How the own notebook changes.
    notebook, base
        What is written as the notebook, or beside it if there are conflicts, and as its base.
    """

    own: OwnNotebook
    outcome: str
    conflicts: tuple[Conflict, ...] = ()
    cells: Sequence[CellChange] = ()
    notebook: nbformat.NotebookNode | None = None
    base: nbformat.NotebookNode | None = None

    def save(self) -> None:
        """Write the merged notebook and its base; with conflicts only a notebook beside them."""
        if self.notebook is None:
            return
        if self.outcome == CONFLICTING:
            write_text(self.own.conflict_path, write_notebook(self.notebook))
            return
        assert self.base
        # In this order: if it is interrupted between the two, the same merge changes nothing next time.
        write_text(self.own.path, write_notebook(self.notebook))
        write_text(self.own.base_path, write_notebook(self.base))
        self.own.conflict_path.unlink(missing_ok=True)


def eject_notebook(stage: str, experiment: str) -> OwnNotebook:
    """Copy a stage's shared notebook for one experiment, which runs the copy from now on.

    Parameters
    ----------
    stage
        The stage or its notebook: `training` or `04_training`.

    Raises
    ------
    ParamsError
        There is no such experiment, stage or notebook; the notebook cannot run; or there is a copy already.
    """
    load_params(experiment)
    own = OwnNotebook(experiment, find_shared_notebook(stage).name)
    if own.path.exists():
        raise ParamsError(
            f"{show_path(own.path)}: {experiment} has this notebook already: see labkit diff {experiment}; to return "
            "to the shared one, delete it and the file of its name in .base/"
        )
    notebook = own.read(own.shared_path)
    # The base first: a copy without it could not be upgraded.
    for path in (own.base_path, own.path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, write_notebook(notebook))
    repair_links(experiment)
    return own


def repair_links(experiment: str) -> None:
    """Make the links of an experiment's own notebooks lead to the notebooks that it runs."""
    for path in list_own_copies(experiment, list_shared()):
        before = read_source(path).notebook
        after = OwnNotebook(experiment, path.name).read(path)
        if after != before:
            write_text(path, write_notebook(after))


def find_shared_notebook(word: str) -> Path:
    """Return the shared notebook of a stage, named by the stage or the notebook."""
    shared = list_shared()
    stages, known = {path.stem: find_stage(path) for path in shared}, list_stage_names()
    stage = stages.get(word.removesuffix(".ipynb"), word)
    if stage not in known:
        raise ParamsError(f"no stage {word!r}: {name_nearest(word, known)}")
    if stage not in stages.values():
        with_one = ", ".join(one for one in stages.values() if one in known)
        raise ParamsError(f"the stage {stage!r} has no notebook: stages with one: {with_one}")
    return find_notebook(stage)


def list_own(experiment: str | None, stage: str | None = None, *, may_be_empty: bool = False) -> list[OwnNotebook]:
    """Return the own notebooks of an experiment or of all, or the one of a stage.

    Raises
    ------
    ParamsError
        There is no such experiment or stage, or there are no own notebooks and `may_be_empty` is false.
    """
    if experiment:
        load_params(experiment)
    named = find_shared_notebook(stage).name if stage else None
    shared = list_shared()
    own = [
        OwnNotebook(one, path.name)
        for one in ([experiment] if experiment else list_experiments())
        for path in list_own_copies(one, shared)
    ]
    found = [one for one in own if named in (None, one.name)]
    if not found and not may_be_empty:
        what = f"no own notebook{f' {named}' if named else ''}"
        raise ParamsError(
            f"{experiment or 'no experiment'} has {what if experiment else 'own notebooks'}: "
            f"labkit eject {find_stage(Path(named)) if named else 'STAGE'} {experiment or 'EXPERIMENT'} makes one"
        )
    return found


def compare_own(experiment: str, stage: str | None = None) -> list[Difference]:
    """Return how an experiment's own notebooks, or that of one stage, differ from the shared ones as they are now.

    Raises
    ------
    ParamsError
        See `list_own`; or a notebook is not valid.
    """
    extra = [] if stage else list_own_extra(experiment, list_shared())
    found = [Difference(OwnNotebook(experiment, path.name), is_extra=True) for path in extra]
    for own in list_own(experiment, stage, may_be_empty=bool(extra)):
        shared = own.read(own.shared_path)
        cells = compare_cells(shared, own.read(own.path))
        is_behind = own.base_path.exists() and has_changed(own.read_base(), shared)
        found.append(Difference(own, is_behind, cells))
    return sorted(found, key=lambda one: one.own.name)


def upgrade_own(experiment: str | None = None, *, is_dry: bool = False, may_be_empty: bool = False) -> list[Upgrade]:
    """Merge what has changed in the shared notebooks into an experiment's own, or into those of all experiments.

    A notebook is replaced only if it merges without conflict. All are read and merged before the first is written.

    Parameters
    ----------
    is_dry
        Write nothing.
    may_be_empty
        See `list_own`.

    Raises
    ------
    ParamsError
        See `list_own`; or a notebook is not valid, its base is missing, or a notebook with resolved conflicts no longer
        belongs to the others.
    """
    upgrades = [plan_upgrade(own) for own in list_own(experiment, may_be_empty=may_be_empty)]
    for upgrade in upgrades if not is_dry else ():
        upgrade.save()
    return upgrades


def plan_upgrade(own: OwnNotebook) -> Upgrade:
    """Return the result of the upgrade of one notebook."""
    mine, shared, base = own.read(own.path), own.read(own.shared_path), own.read_base()
    versions = {"own": compute_version(mine), "shared": compute_version(shared)}
    if own.conflict_path.exists():
        return close_conflict(own, mine, shared, versions)
    if not has_changed(base, shared):
        return Upgrade(own, UP_TO_DATE)
    merged = merge_three_way(base, mine, shared)
    cells = compare_cells(mine, merged.notebook)
    if merged.conflicts:
        note = {**versions, "merged": compute_version(merged.notebook), "conflicts": [*merged.conflicts]}
        merged.notebook.metadata[NOTE] = note
        return Upgrade(own, CONFLICTING, locate_conflicts(merged.notebook, merged.conflicts), cells, merged.notebook)
    check_merged(merged.notebook, show_path(own.path))
    return Upgrade(own, UPGRADED, (), cells, merged.notebook, shared)


def has_changed(base: nbformat.NotebookNode, shared: nbformat.NotebookNode) -> bool:
    """Return whether the shared notebook has changed since it was copied or merged; outputs do not count."""
    return write_notebook(clear_outputs(base)) != write_notebook(clear_outputs(shared))


def close_conflict(
    own: OwnNotebook, mine: nbformat.NotebookNode, shared: nbformat.NotebookNode, versions: dict[str, str]
) -> Upgrade:
    """Return the result of the upgrade of a notebook whose conflicts the user has to resolve, or has resolved."""
    merged, where = own.read(own.conflict_path), show_path(own.conflict_path)
    note = merged.metadata.pop(NOTE, {})
    conflicts = (
        note.get("conflicts", ()) if note.get("merged") == compute_version(merged) else list_marked_cells(merged)
    )
    if conflicts:
        return Upgrade(own, CONFLICTING, locate_conflicts(merged, conflicts))
    if versions != {name: note.get(name) for name in versions}:
        raise ParamsError(
            f"{where}: made from other versions of {show_path(own.path)} and {show_path(own.shared_path)} than the "
            "current ones: move it out of the way, then run labkit upgrade again"
        )
    check_merged(merged, where)
    return Upgrade(own, RESOLVED, (), compare_cells(mine, merged), merged, shared)


def check_merged(notebook: nbformat.NotebookNode, where: str) -> None:
    """Raise ParamsError for a merged notebook that could not run."""
    read_defaults(notebook, where=f"{where}, merged")


def compute_version(notebook: nbformat.NotebookNode) -> str:
    """Return a digest of the cells' ids and sources, whatever outputs there are."""
    return digest([json.dumps([[cell.get("id"), cell.cell_type, cell.source] for cell in notebook.cells])])


def write_notebook(notebook: nbformat.NotebookNode) -> str:
    """Return a notebook as the content of a file, as JupyterLab writes it."""
    return f"{nbformat.v4.writes(notebook)}\n"
