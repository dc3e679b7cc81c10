"""The command `labkit init`: makes a project of one's own."""

import os
import shlex
from pathlib import Path

import click

from labkit.console import echo


@click.command(short_help="Make a project of your own.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the package in lib/ and of the experiment; DIR's if not given.")
@click.option("--data", "files", multiple=True, type=click.Path(path_type=Path), help="File of a table; repeatable.")
@click.option("--target", metavar="COLUMN", help="Column of the table to predict.")
def init(folder: Path, name: str | None, files: tuple[Path, ...], target: str | None) -> None:
    """Make a git repository DIR with notebooks, params, an example feature and model, tests and labkit as a wheel.

    With a table, it begins with an experiment made from it as by `labkit new`; otherwise with a small example.

    \b
    labkit init churn
    labkit init churn --data customers.csv --target churned
    labkit init churn-2027 --name churn
    """
    from labkit.project.create import create_project

    if bool(files) != bool(target):
        raise click.UsageError("name a table with --data and its column to predict with --target, or neither")
    made = create_project(folder, name=name, data=files, target=target or "", report=echo)
    shown = os.path.relpath(made.folder)
    echo(f"Made:      {shown}, a git repository" + ("" if made.uncommitted else " with a first commit"))
    if made.uncommitted:
        echo(f"For git:   {made.uncommitted}")
        echo(f"           then: git -C {shlex.quote(shown)} commit -m Start")
    experiment = made.name if made.made else "diabetes"
    look = f"look at params/{experiment}.yaml, then: " if made.made else ""
    echo(f"Next:      cd {shlex.quote(shown)}, {look}make run")
