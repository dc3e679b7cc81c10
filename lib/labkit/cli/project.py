"""The command `labkit init`: makes a user's project."""

import os
import shlex
from pathlib import Path

import click

from labkit.console import echo, make_printable


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
    from labkit.cli.new import accept
    from labkit.project.create import create_project

    if bool(files) != bool(target):
        raise click.UsageError("name a table with --data and its column to predict with --target, or neither")
    made = create_project(folder, name=name, data=files, target=target or "", show=accept, report=echo)
    shown = make_printable(os.path.relpath(made.folder))
    echo(f"Made:      {shown}, a git repository" + ("" if made.uncommitted else " with a first commit"))
    if made.example.is_used:
        echo(
            f"Example:   feature {made.example.feature}, from {' and '.join(made.example.columns)}; see lib/ and tests/"
        )
    else:
        echo("Example:   no feature, because no column is suitable; see lib/")
    if made.uncommitted:
        echo(f"For git:   {made.uncommitted}")
        echo(f"           then: git -C {shlex.quote(shown)} commit -m Start")
    look = f"look at params/{made.experiment}.yaml, then: " if files else ""
    echo(f"Next:      cd {shlex.quote(shown)}, {look}make run")
