"""The command `labkit new`: converts its options to `Choices` and shows the decisions.

There is no logic here: experiments are created in `labkit.new.create`.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkit.console import echo, make_cell, make_printable, print_table, wrap_words
from labkit.errors import list_briefly
from labkit.units import format_count

if TYPE_CHECKING:
    from labkit.new.inspect import Survey
    from labkit.new.options import Choices
    from labkit.new.proposal import Proposal

MOST_SHOWN = 40


@click.command(short_help="Create an experiment from your own table.")
@click.argument("name")
@click.option("--data", "files", multiple=True, type=click.Path(path_type=Path), help="File of the table; repeatable.")
@click.option("--target", required=True, metavar="COLUMN", help="Column to predict.")
@click.option("--sql", metavar="QUERY", help="SQL query that returns the rows, instead of a file.")
@click.option("--database-env", metavar="VARIABLE", help="Environment variable that holds the database's address.")
@click.option("--task", metavar="TASK", help="classification or regression.")
@click.option("--positive", metavar="CLASS", help="Class of interest of a two-class target.")
@click.option("--metric", metavar="METRIC", help="Metric by which models are ranked.")
@click.option("--time", metavar="COLUMN", help="Column of times to split by.")
@click.option("--group", metavar="COLUMN", help="Column whose equal values stay in one part.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="COLUMN=KIND",
    help="Kind of a column: number, category, boolean, date, text ...",
)
@click.option("--format", "formats", multiple=True, metavar="COLUMN=FORMAT", help="Format of dates, e.g. %d.%m.%Y.")
@click.option("--zone", "zones", multiple=True, metavar="COLUMN=ZONE", help="Time zone of times with UTC offsets.")
@click.option("--missing", multiple=True, metavar="COLUMN=VALUE", help="Value that marks a missing value.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Column to leave out.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Column to keep, however suspicious.")
@click.option("--encoding", metavar="NAME", help="Encoding of the file, e.g. cp1252.")
@click.option("--delimiter", metavar="CHARACTER", help="Delimiter of cells, e.g. ; or tab.")
@click.option("--decimal", type=click.Choice([".", ","]), help="Decimal separator.")
@click.option("--header/--no-header", default=None, help="Whether the first row is a header.")
@click.option("--header-rows", type=click.IntRange(1, 3), help="Number of header rows; several are joined.")
@click.option("--sheet", metavar="NAME", help="Sheet of a spreadsheet.")
@click.option(
    "--read", "reading", multiple=True, metavar="FIELD=VALUE", help="Option for reading the table: max_rows=..."
)
@click.option("--follow", is_flag=True, help="Follow symbolic links.")
@click.option("--force", is_flag=True, help="Replace an experiment of that name.")
@click.option("--ask", is_flag=True, help="On a terminal, ask for words, and before anything is written.")
def new(**given: Any) -> None:
    """Create the experiment NAME from a table: infer how to read it, the kinds of columns and how to evaluate models.

    \b
    labkit new churn --data churn.csv --target churned
    labkit new sales --data jan.csv --data feb.csv --target amount --time day
    labkit new loans --sql "select * from loans" --database-env DB --target paid
    """
    from labkit.new.create import Query, create_experiment

    files = given["files"]
    if bool(files) == bool(given["sql"]) or bool(given["sql"]) != bool(given["database_env"]):
        raise click.UsageError("name files with --data, or a query with --sql and --database-env")
    made = create_experiment(
        given["name"],
        Query(given["sql"], given["database_env"]) if given["sql"] else files,
        given["target"],
        choices=make_choices(given),
        follow=given["follow"],
        force=given["force"],
        ask=confirm if given["ask"] and sys.stdin.isatty() else accept,
        report=echo,
    )
    echo(f"Made:      {os.path.relpath(made.params_path)}, and data/{given['name']}/source under DVC")
    added = (os.path.relpath(path) for path in made.git_paths)
    echo(f"For git:   git add {shlex.join(added)}")
    echo(f"Next:      look at {os.path.relpath(made.params_path)}, then: labkit run {given['name']}")


def make_choices(given: dict[str, Any]) -> "Choices":
    """Return the choices made by the options of `labkit new`."""
    from labkit.new.options import Choices
    from labkit.params.override import parse_value
    from labkit.params.yaml_text import make_plain

    reading = [split_pair(setting, "--read") for setting in given["reading"]]
    missing: dict[str, tuple[str, ...]] = {}
    for column, value in (split_pair(setting, "--missing") for setting in given["missing"]):
        missing[column] = (*missing.get(column, ()), value)
    same = ("encoding", "decimal", "header", "sheet", "task", "positive", "metric", "time", "group", "drop", "keep")
    read = {field: make_plain(parse_value(value, f"--read {field}")) if value else "" for field, value in reading}
    if given["header_rows"]:
        read["header_rows"] = given["header_rows"]
    return Choices(
        **{name: given[name] for name in same},
        delimiter="\t" if given["delimiter"] in ("tab", "\\t") else given["delimiter"],
        kinds=dict(split_pair(setting, "--kind") for setting in given["kinds"]),
        formats=dict(split_pair(setting, "--format") for setting in given["formats"]),
        zones=dict(split_pair(setting, "--zone") for setting in given["zones"]),
        missing=missing,
        reading=read,
    )


def split_pair(setting: str, option: str) -> tuple[str, str]:
    """Split COLUMN=VALUE; the column's name may contain further equals signs."""
    column, equals, value = setting.rpartition("=")
    if not equals or not column:
        raise click.UsageError(f"{option} {setting}: write COLUMN=VALUE")
    return column, value


def accept(survey: "Survey", proposal: "Proposal") -> bool:
    """Show the decisions and accept them."""
    from labkit.new.proposal import list_kinds

    rows = [
        [
            make_cell(make_printable(cell))
            for cell in (kind, format_count(len(columns), "column"), list_briefly(columns, most=6))
        ]
        for kind, columns in list_kinds(survey.kinds).items()
    ]
    for line in proposal.decisions[:MOST_SHOWN]:
        style = "yellow" if line.is_warning else ""
        cells = (line.subject, line.value, line.reason)
        rows.append([make_cell(make_printable(cell), style) for cell in cells])
    print_table(("what", "decided", "why"), rows, title=format_count(survey.raw.n_rows, "row"))
    if (rest := len(proposal.decisions) - MOST_SHOWN) > 0:
        echo(f"… and {rest} more, in the params file")
    if proposal.moment:
        echo(f"Note:      {wrap_words(proposal.moment, indent=11)}.")
    return True


def confirm(survey: "Survey", proposal: "Proposal") -> bool:
    """Show the decisions; ask what is known when predicting, for the words on the pages and for confirmation."""
    accept(survey, proposal)
    if proposal.moment and not click.confirm("Are all of them known then?", default=True):
        echo("Leave out those that are known only later: run again with --drop COLUMN for each.")
        return False
    echo("These words are shown on every page; press Enter to keep one.")
    tree, labels = proposal.tree, proposal.tree["data"]["target"].get("labels", {})
    tree["question"] = click.prompt("What is predicted, as a question", default=tree["question"])
    tree["row"] = click.prompt("One row is one", default=tree["row"])
    for value, label in labels.items():
        labels[value] = click.prompt(f"Rows of class {value} are called", default=label)
    return click.confirm("Create it?", default=True)
