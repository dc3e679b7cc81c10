"""Commands for an experiment's own copies of shared notebooks: make one, show its differences, upgrade it.

`labkit upgrade` also upgrades the project, if it was made by `labkit init`.
"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from labkit.cli.options import complete_experiment, complete_stage, json_option
from labkit.console import echo, make_printable, print_json
from labkit.paths import show_path

if TYPE_CHECKING:
    from labkit.project.upgrade import ProjectUpgrade


@click.command(short_help="Give an experiment its own copy of a notebook.")
@click.argument("stage", shell_complete=complete_stage)
@click.argument("experiment", shell_complete=complete_experiment)
def eject(stage: str, experiment: str) -> None:
    """Copy the shared notebook of STAGE to notebooks/EXPERIMENT, for that experiment only, which runs it from now on.

    The shared notebook is also kept in notebooks/EXPERIMENT/.base, with which `labkit upgrade` merges later changes of
    it. Commit both. To return to the shared notebook, delete them.

    \b
    labkit eject training diabetes
    labkit eject 04_training diabetes
    """
    from labkit.run.notebook.own_notebooks import eject_notebook

    own = eject_notebook(stage, experiment)
    echo(f"{show_path(own.path)}: now the notebook of {experiment}; commit it with {show_path(own.base_path)}")


@click.command(short_help="Show how an experiment's own notebooks differ.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("stage", required=False, shell_complete=complete_stage)
@json_option
def diff(experiment: str, stage: str | None, is_json: bool) -> None:
    """Show how the own notebooks of EXPERIMENT, or that of STAGE, differ from the shared ones: code and prose by cell.

    \b
    labkit diff diabetes
    labkit diff diabetes training --json
    """
    from labkit.run.notebook.own_notebooks import compare_own

    found = compare_own(experiment, stage)
    if is_json:
        notebooks = [
            {
                "notebook": show_path(one.own.path),
                "shared": None if one.is_extra else show_path(one.own.shared_path),
                "is_behind": one.is_behind,
                "cells": [asdict(cell) for cell in one.cells],
            }
            for one in found
        ]
        print_json({"experiment": experiment, "notebooks": notebooks})
        return
    for one in found:
        state = "differs from the" if one.cells else "same cells as the"
        echo(f"{show_path(one.own.path)}: {'no' if one.is_extra else state} shared notebook")
        if one.is_behind:
            echo(f"  The shared notebook has changed: labkit upgrade {experiment}")
        for cell in one.cells:
            echo(f"\n  cell {cell.id} ({cell.type}) {cell.change}")
            for line in cell.list_lines():
                echo(f"  {line}")


@click.command(short_help="Merge changes of labkit and of shared notebooks.")
@click.argument("experiment", required=False, shell_complete=complete_experiment)
@click.option("--dry-run", is_flag=True, help="Show what would be merged, and write nothing.")
@json_option
def upgrade(experiment: str | None, dry_run: bool, is_json: bool) -> None:
    """Merge what has changed in the shared notebooks into the own ones of EXPERIMENT, or of all experiments.

    A notebook is replaced only if it merges without conflict. With one, it stays as it is and the merged notebook is
    written beside it, as 04_training.conflict.ipynb: between the markers, `local` is your cell and `remote` the shared
    one. Resolve them there, then run the command again. Exit code 1 if there are conflicts.

    In a project made by labkit init, and without EXPERIMENT, what has changed in labkit's template since then is merged
    first, and labkit's wheel replaced: the project has to be committed, and git shows what was merged.

    \b
    labkit upgrade
    labkit upgrade diabetes --dry-run
    """
    from labkit.project.upgrade import is_project, upgrade_project
    from labkit.run.notebook.own_notebooks import CONFLICTING, upgrade_own

    project = upgrade_project(is_dry=dry_run) if experiment is None and is_project() else None
    # With a dry run, what the project's upgrade would change in shared notebooks is not there yet.
    upgrades = upgrade_own(experiment, is_dry=dry_run, may_be_empty=project is not None)
    if is_json:
        notebooks = [
            {
                "notebook": show_path(one.own.path),
                "outcome": one.outcome,
                "conflicts": [asdict(conflict) for conflict in one.conflicts],
                "cells": [asdict(cell) for cell in one.cells],
            }
            for one in upgrades
        ]
        whole = {"project": asdict(project)} if project else {}
        print_json({"is_dry_run": dry_run, **whole, "notebooks": notebooks})
    if project and not is_json:
        show_project(project, is_dry=dry_run)
    for one in upgrades if not is_json else ():
        echo(f"{show_path(one.own.path)}: {one.outcome}{' (nothing was written)' if dry_run else ''}")
        for cell in one.cells if one.outcome != CONFLICTING else ():
            echo(f"  cell {cell.id} ({cell.type}) {cell.change}")
        for conflict in one.conflicts:
            echo(f"  {one.own.conflict_path.name}: conflict in {conflict}")
        if one.conflicts:
            done = "would be merged in" if dry_run else "resolve the markers in"
            echo(f"  {done} {show_path(one.own.conflict_path)}, then: labkit upgrade {one.own.experiment}")
    is_conflicting = any(one.conflicts for one in upgrades) or bool(project and (project.conflicts or project.beside))
    sys.exit(1 if is_conflicting else 0)


def show_project(project: "ProjectUpgrade", *, is_dry: bool) -> None:
    """Show the result of the upgrade of a project, and what to do next."""
    from labkit.project.upgrade import BESIDE

    if not (project.changed or project.conflicts or project.beside):
        echo(f"project: up to date with labkit {project.after}")
        return
    step = f"{project.before} to {project.after}" if project.changed else f"{project.after}, from an earlier upgrade"
    echo(f"project: labkit {step}{' (nothing was written)' if is_dry else ''}")
    for path in project.changed or project.conflicts:
        echo(f"  {make_printable(path)}{' has conflicts' if path in project.conflicts else ''}")
    if project.conflicts and not is_dry:
        echo("  resolve what is between <<<<<<< and >>>>>>>, and move each .conflict.ipynb over its notebook")
    for path in project.beside:
        own = make_printable(path.removesuffix(BESIDE) + ".ipynb")
        echo(
            f"  {own} is yours, and the template has a new one of that name: take what you need from "
            f"{make_printable(path)}, then delete it"
        )
    if not is_dry:
        echo("Next:      git diff, make test, then git add --all && git commit")
