"""Commands that check data and models in continuous integration: exit code, JSON, and Markdown for a pull request."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkit import console, paths
from labkit.cli.options import complete_experiment, json_option
from labkit.console import echo

if TYPE_CHECKING:
    from labkit.checks import CheckResult

strict_option = click.option("--strict", is_flag=True, help="Fail on warnings, too.")
markdown_option = click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    metavar="FILE|-",
    help="Write a summary in Markdown, to a file or, as -, instead of the other output.",
)


@click.command("check-data", short_help="Check a file of rows against contract, last run and champion.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@strict_option
@markdown_option
@json_option
def check_data(experiment: str, source: Path, *, strict: bool, markdown: Path | None, is_json: bool) -> None:
    """Check FILE, rows of the main table of EXPERIMENT, before they become part of its data.

    FILE is the whole table or new rows, with or without the target, read as the params say. It is checked against the
    contract of the raw table, for leakage and other findings that the last run did not have, and against the reference
    of the champion: contract of its inputs, units, drift and, with the target, how good it is. Nothing is recorded.

    Exit code: 0 without an issue, 1 with one (with --strict also for warnings), 2 if the check could not be made.

    \b
    labkit check-data diabetes patients.csv
    labkit check-data diabetes patients.csv --strict --json
    labkit check-data diabetes patients.csv --markdown data.md
    """
    from labkit.monitoring.data_check import check_rows_file
    from labkit.params.load import load_params

    check_destinations(markdown, is_json=is_json)
    params = load_params(experiment)
    os.environ.update(paths.make_environment())
    found = check_rows_file(params, source, now=datetime.now(UTC))
    show_checks(found.headline, found.checks, found.notes, found.to_dict, markdown=markdown, is_json=is_json)
    exit_with_verdict(found.checks, strict=strict)


@click.command("check-model", short_help="Check a model against the gate and the champion.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("version", type=click.IntRange(1, 2**31 - 1), required=False)
@strict_option
@markdown_option
@json_option
def check_model(experiment: str, version: int | None, *, strict: bool, markdown: Path | None, is_json: bool) -> None:
    """Check the release of EXPERIMENT in this checkout, or a registered VERSION, as `publish` would.

    The gate, the checks of the stages (of the release in this checkout), and every metric on the holdout of this
    checkout beside the champion's. Nothing is published, promoted or recorded.

    Exit code: 0 without an issue, 1 with one (with --strict also for warnings), 2 if the check could not be made.

    \b
    labkit check-model diabetes
    labkit check-model diabetes 1 --json
    labkit check-model diabetes --markdown model.md
    """
    from labkit.params.load import load_params
    from labkit.stages import model_check
    from labkit.units import format_number

    check_destinations(markdown, is_json=is_json)
    params = load_params(experiment)
    os.environ.update(paths.make_environment())
    found = model_check.check_model(params, version)
    lines = [
        (one["metric"], *("" if one[who] is None else format_number(one[who]) for who in ("model", "champion")))
        for one in found.metrics
    ]
    head = ("metric", "model", "champion" if found.champion is None else f"champion, version {found.champion}")
    table = [head, *lines] if found.champion is not None else [line[:2] for line in (head, *lines)]
    show_checks(found.headline, found.checks, (), found.to_dict, table=table, markdown=markdown, is_json=is_json)
    exit_with_verdict(found.checks, strict=strict)


def check_destinations(markdown: Path | None, *, is_json: bool) -> None:
    """Refuse Markdown and JSON on the same output, and a file in a folder that does not exist."""
    from labkit.errors import ParamsError

    if is_json and markdown == Path("-"):
        raise ParamsError("--json and --markdown - both write to the output: name a file for one of them")
    if markdown is not None and not markdown.parent.is_dir():
        raise ParamsError(f"--markdown {markdown}: no such folder")


def show_checks(
    headline: str,
    checks: "Sequence[CheckResult]",
    notes: Sequence[str],
    describe: Callable[[], dict[str, Any]],
    *,
    table: Sequence[Sequence[str]] = (),
    markdown: Path | None,
    is_json: bool,
) -> None:
    """Show what was found: as lines, as JSON, or in Markdown.

    Parameters
    ----------
    describe
        Returns it as plain data.
    table
        Numbers besides the checks, the headings first.
    """
    from labkit.checks import SIGNS, write_markdown
    from labkit.storage.atomic import write_text

    document = write_markdown(headline, checks, notes, table)
    if markdown is not None and markdown != Path("-"):
        write_text(markdown, document)
    if is_json:
        console.print_json(describe())
    elif markdown == Path("-"):
        echo(document.rstrip("\n"))
    else:
        echo(headline)
        for check in checks:
            if check.needs_attention:
                echo(f"  {SIGNS[check.status]} {check.code} {check.title}: {check.evidence}")
        for note in notes:
            echo(f"  {note}")
        if table:
            console.print_table(tuple(table[0]), [tuple(line) for line in table[1:]], title="")


def exit_with_verdict(checks: "Sequence[CheckResult]", *, strict: bool) -> None:
    """Exit with code 1 if there is an issue or, if `strict`, a warning."""
    if any(check.status == "issue" or (strict and check.needs_attention) for check in checks):
        sys.exit(1)
