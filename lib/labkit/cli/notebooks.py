"""Commands for an experiment's own copies of shared notebooks: make one, show its differences, upgrade it."""

import sys
from dataclasses import asdict

import click

from labkit.cli.options import complete_experiment, complete_stage, json_option
from labkit.console import echo, print_json
from labkit.paths import show_path


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


@click.command(short_help="Merge changes of shared notebooks into own ones.")
@click.argument("experiment", required=False, shell_complete=complete_experiment)
@click.option("--dry-run", is_flag=True, help="Show what would be merged, and write nothing.")
@json_option
def upgrade(experiment: str | None, dry_run: bool, is_json: bool) -> None:
    """Merge what has changed in the shared notebooks into the own ones of EXPERIMENT, or of all experiments.

    A notebook is replaced only if it merges without conflict. With one, it stays as it is and the merged notebook is
    written beside it, as 04_training.conflict.ipynb: between the markers, `local` is your cell and `remote` the shared
    one. Resolve them there, then run the command again. Exit code 1 if there are conflicts.

    \b
    labkit upgrade
    labkit upgrade diabetes --dry-run
    """
    from labkit.run.notebook.own_notebooks import CONFLICTING, upgrade_own

    upgrades = upgrade_own(experiment, is_dry=dry_run)
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
        print_json({"is_dry_run": dry_run, "notebooks": notebooks})
    for one in upgrades if not is_json else ():
        echo(f"{show_path(one.own.path)}: {one.outcome}{' (nothing was written)' if dry_run else ''}")
        for cell in one.cells if one.outcome != CONFLICTING else ():
            echo(f"  cell {cell.id} ({cell.type}) {cell.change}")
        for conflict in one.conflicts:
            echo(f"  {one.own.conflict_path.name}: conflict in {conflict}")
        if one.conflicts:
            done = "would be merged in" if dry_run else "resolve the markers in"
            echo(f"  {done} {show_path(one.own.conflict_path)}, then: labkit upgrade {one.own.experiment}")
    sys.exit(1 if any(one.conflicts for one in upgrades) else 0)
