"""The command that verifies notebooks."""

import sys
from pathlib import Path

import click

from labkit import console
from labkit.cli.options import json_option
from labkit.console import echo
from labkit.run.verification.tolerances import CELL_SECONDS, RTOL


@click.command(short_help="Run notebooks afresh and compare their outputs.")
@click.argument("notebooks", nargs=-1, metavar="[NOTEBOOK]...", type=click.Path(path_type=Path))
@click.option("--static", "is_static", is_flag=True, help="Run nothing: check only what is saved.")
@click.option("--rtol", type=float, default=RTOL, show_default=True, help="Relative tolerance for numbers in outputs.")
@click.option(
    "--cell-seconds",
    type=click.IntRange(1),
    default=CELL_SECONDS,
    show_default=True,
    help="Time limit per cell, in seconds.",
)
@json_option
def verify(notebooks: tuple[Path, ...], *, is_static: bool, rtol: float, cell_seconds: int, is_json: bool) -> None:
    """Verify each NOTEBOOK, or all below notebooks/: whether it shows what it computes, and would run after a restart.

    It is run from top to bottom in a fresh kernel, in its own folder, with whatever its code does, and the outputs are
    compared with the saved ones. The file itself is not changed. Also reported: cells that were run out of order,
    names that would be undefined after a restart, absolute paths, and secrets.

    Cells tagged ignore-output are run but not compared, those tagged raises-exception may fail, and those tagged
    skip-execution are skipped. The comment "pragma: allowlist secret" accepts a line.

    Exit code 1 if there are findings, 2 if a file is not a notebook.

    \b
    labkit verify notebooks/scratch.ipynb
    labkit verify --static notebooks/*.ipynb
    labkit verify --rtol 0.001 --json notebooks/scratch.ipynb
    """
    from labkit.run.verification.verify import verify_notebooks

    verified = []
    for one in verify_notebooks(notebooks, is_static=is_static, rtol=rtol, cell_seconds=cell_seconds):
        verified.append(one)
        if not is_json:
            echo("\n".join(one.describe()))
    if is_json:
        n_findings = sum(len(one.findings) for one in verified)
        console.print_json({"notebooks": [one.to_dict() for one in verified], "n_findings": n_findings})
    sys.exit(1 if any(one.findings for one in verified) else 0)
