"""The command line: words in, one public function each, errors out.

Nothing is worked out here. Commands import what they need when called, so that `labkit --help` is quick.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkit import paths, plain_stages
from labkit.errors import LabkitError, list_briefly, name_nearest

if TYPE_CHECKING:
    from labkit.data.choices import Choices
    from labkit.data.proposal import Proposal
    from labkit.data.survey import Survey

MOST_SHOWN = 40


class Family(click.Group):
    """A group that answers a mistyped command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which is nearest."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}: {name_nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


@click.group(cls=Family, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="labkit")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Run numbered notebooks as a reproducible, tracked and reported pipeline.

    \b
    labkit new churn --data churn.csv --target churned   an experiment from a table of your own
    labkit run diabetes                      run what has changed, show the results
    labkit status diabetes                   what is stale, and why
    labkit params diabetes                   what can be set, where it is set, what it means
    labkit predict diabetes in.csv out.csv   predict with the published model
    labkit warm                              keep kernels that start in half a second
    """
    ctx.obj = debug


@cli.command()
@click.argument("name")
@click.option("--data", "files", multiple=True, type=click.Path(path_type=Path), help="File of the table; repeatable.")
@click.option("--target", required=True, metavar="COLUMN", help="Column to predict.")
@click.option("--sql", metavar="QUERY", help="Query to take the rows from instead of a file.")
@click.option("--database-env", metavar="VARIABLE", help="Environment variable that holds the database's address.")
@click.option("--task", metavar="TASK", help="classification or regression.")
@click.option("--positive", metavar="CLASS", help="Class of interest of a two-class target.")
@click.option("--metric", metavar="METRIC", help="Figure by which models are ranked.")
@click.option("--time", metavar="COLUMN", help="Column of times to split by.")
@click.option("--group", metavar="COLUMN", help="Column whose equal values stay together.")
@click.option("--kind", "kinds", multiple=True, metavar="COLUMN=KIND", help="number, category, boolean, date, text, ….")
@click.option("--format", "formats", multiple=True, metavar="COLUMN=FORMAT", help="How dates are written: %d.%m.%Y.")
@click.option("--missing", multiple=True, metavar="COLUMN=VALUE", help="Value that stands for a missing one.")
@click.option("--drop", multiple=True, metavar="COLUMN", help="Column to leave out.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Column not to leave out, however suspicious.")
@click.option("--encoding", metavar="NAME", help="Encoding of the file, e.g. cp1252.")
@click.option("--delimiter", metavar="CHARACTER", help="What divides cells; tab for a tabulator.")
@click.option("--decimal", type=click.Choice([".", ","]), help="What stands before the fraction of a number.")
@click.option("--header/--no-header", default=None, help="Whether the first row holds the names.")
@click.option("--sheet", metavar="NAME", help="Sheet of an Excel file.")
@click.option("--read", "reading", multiple=True, metavar="FIELD=VALUE", help="How the table is read: max_rows=….")
@click.option("--follow", is_flag=True, help="Follow symbolic links.")
@click.option("--force", is_flag=True, help="Replace an experiment of that name.")
@click.option("--ask", is_flag=True, help="On a terminal, ask before anything is written.")
def new(**given: Any) -> None:
    """Make the experiment NAME from a table: infer how to read it, what its columns are and how to judge models.

    \b
    labkit new churn --data churn.csv --target churned
    labkit new sales --data jan.csv --data feb.csv --target amount --time day
    labkit new loans --sql "select * from loans" --database-env WAREHOUSE_URL --target default
    """
    from labkit.founding import Query, found

    files = given["files"]
    if bool(files) == bool(given["sql"]) or bool(given["sql"]) != bool(given["database_env"]):
        raise click.UsageError("name files with --data, or a query with --sql and --database-env")
    made = found(
        given["name"],
        Query(given["sql"], given["database_env"]) if given["sql"] else files,
        given["target"],
        choices=make_choices(given),
        follow=given["follow"],
        force=given["force"],
        ask=confirm if given["ask"] and sys.stdin.isatty() else accept,
    )
    click.echo(f"Made:      {show(made.params_path)}, and data/{given['name']}/source under DVC")
    click.echo(f"Next:      look at {show(made.params_path)}, then: labkit run {given['name']}")


def make_choices(given: dict[str, Any]) -> "Choices":
    """Return the options of `labkit new` that decide something."""
    from labkit.data.choices import Choices
    from labkit.params_file import parse_value
    from labkit.yaml_file import make_plain

    reading = [split_pair(text, "--read") for text in given["reading"]]
    missing: dict[str, tuple[str, ...]] = {}
    for column, value in (split_pair(text, "--missing") for text in given["missing"]):
        missing[column] = (*missing.get(column, ()), value)
    same = ("encoding", "decimal", "header", "sheet", "task", "positive", "metric", "time", "group", "drop", "keep")
    return Choices(
        **{name: given[name] for name in same},
        delimiter="\t" if given["delimiter"] in ("tab", "\\t") else given["delimiter"],
        kinds=dict(split_pair(text, "--kind") for text in given["kinds"]),
        formats=dict(split_pair(text, "--format") for text in given["formats"]),
        missing=missing,
        reading={field: make_plain(parse_value(value, f"--read {field}")) if value else "" for field, value in reading},
    )


def split_pair(text: str, option: str) -> tuple[str, str]:
    """Return the two sides of COLUMN=VALUE; the column's name may hold further equals signs."""
    column, equals, value = text.rpartition("=")
    if not equals or not column:
        raise click.UsageError(f"{option} {text}: write COLUMN=VALUE")
    return column, value


def accept(survey: "Survey", proposal: "Proposal") -> bool:
    """Show what was decided, and go on."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from labkit.data.proposal import list_kinds
    from labkit.yaml_file import make_printable

    table = Table("what", "decided", "why", title=f"{survey.raw.n_rows:,} rows", title_justify="left")
    for kind, columns in list_kinds(survey.kinds).items():
        shown = list_briefly(columns, most=6)
        table.add_row(kind, f"{len(columns):,} column{'s' if len(columns) > 1 else ''}", Text(make_printable(shown)))
    for line in proposal.decisions[:MOST_SHOWN]:
        style = "yellow" if line.is_warning else ""
        table.add_row(*(Text(make_printable(cell), style=style) for cell in (line.subject, line.value, line.reason)))
    Console(highlight=False).print(table)
    if (rest := len(proposal.decisions) - MOST_SHOWN) > 0:
        click.echo(f"… and {rest} more, in the params file")
    return True


def confirm(survey: "Survey", proposal: "Proposal") -> bool:
    """Show what was decided, and ask."""
    return accept(survey, proposal) and click.confirm("Make it so?", default=True)


@cli.command()
@click.argument("experiment")
@click.option("-S", "--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE", help="Change the params file.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", metavar="STAGE", help="Run this stage even if nothing has changed.")
@click.option("--sample", type=click.IntRange(20), metavar="N", help="Try on N rows, in scratch; nothing is published.")
@click.option("--cold", is_flag=True, help="Start ordinary kernels, each of which imports everything anew.")
def run(
    experiment: str, settings: tuple[str, ...], until: str | None, force: str | None, sample: int | None, cold: bool
) -> None:
    """Run the stages of EXPERIMENT that have changed, from raw tables to the published model.

    \b
    labkit run diabetes
    labkit run diabetes -S training.folds=10           change a parameter, then run what depends on it
    labkit run diabetes --until training --force eda
    labkit run breast_cancer --sample 200              a quick try that leaves the pipeline alone
    """
    from labkit.params_file import apply_overrides, load_params

    # Before anything heavy is imported: a mistake in the file is told at once.
    load_params(experiment)
    if sample and force:
        raise click.UsageError("--sample runs every stage: --force adds nothing to it")
    if settings:
        click.echo(apply_overrides(experiment, list(settings)) or "The params file says so already.")
    from labkit.run.kernels import Kernels
    from labkit.run.progress import Progress

    with Kernels(is_cold=cold, is_kept_used=not cold, later=[plain_stages.PUBLISH_MODULE]) as kernels:
        from labkit.run.experiment import run_experiment, run_sample

        plain, progress = plain_stages.PLAIN, Progress()
        if sample:
            run_sample(experiment, rows=sample, plain=plain, progress=progress, kernels=kernels, until=until)
        else:
            run_experiment(experiment, plain=plain, progress=progress, kernels=kernels, until=until, force=force)
    pages = paths.find_reports_dir(experiment) / "sample" if sample else paths.find_reports_dir()
    click.echo(f"Report:    {show(pages / 'index.html') if not sample else show(pages)}")
    click.echo("Tracking:  mlflow ui   (in the checkout's root, then open the address it prints)")


@cli.command()
@click.option("--stop", is_flag=True, help="End the process that is kept.")
def warm(stop: bool) -> None:
    """Keep a process that has imported everything: kernels of `labkit run` and JupyterLab are forks of it.

    It ends after 30 minutes without a kernel.

    \b
    labkit warm
    labkit warm --stop
    """
    from labkit.run import servers

    if stop:
        n_stopped = servers.stop_servers()
        click.echo("stopped" if n_stopped else "no warm process was kept")
        return
    state = servers.keep_server()
    minutes = servers.IDLE_SECONDS // 60
    click.echo(
        f"warm: process {state['pid']}, {state['modules']:,} modules imported; ends after {minutes} idle minutes"
    )


@cli.command()
@click.argument("name")
@click.argument("experiment")
def stage(name: str, experiment: str) -> None:
    """Run one stage, stale or not. This is what dvc.yaml calls.

    \b
    labkit stage training diabetes
    """
    from labkit.run.client import ask_runner

    answer = ask_runner(name, experiment)
    if answer is not None:
        sys.exit(answer.code)
    if name == "fingerprint":
        # By far the most frequent, so nothing heavy is imported for it.
        from labkit.params_file import load_params

        plain_stages.perform_fingerprint(load_params(experiment), None)
        return
    from labkit.run.experiment import run_stage
    from labkit.run.progress import Progress

    run_stage(name, experiment, plain=plain_stages.PLAIN, progress=Progress())


@cli.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
def status(experiments: tuple[str, ...]) -> None:
    """Show which stages are stale, and why.

    \b
    labkit status
    labkit status diabetes
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from labkit.params_file import list_experiments, load_params
    from labkit.run import pipeline
    from labkit.run.record import load_records

    repo = pipeline.open_repo()
    for experiment in experiments or list_experiments():
        loaded = load_params(experiment)
        pipeline.list_stages(experiment)
        plain_stages.perform_fingerprint(loaded, None)
        records = load_records(paths.find_reports_dir(experiment))
        table = Table("stage", "state", "why", "latest result", title=experiment, title_justify="left")
        for state in pipeline.find_states(repo, experiment):
            if state.name == pipeline.FINGERPRINT:
                continue
            headline = records[state.name].headline if state.name in records else ""
            word = "stale" if state.reasons else "checked each time" if state.name == pipeline.PUBLISH else "up to date"
            table.add_row(state.name, word, Text("\n".join(state.reasons)), Text(headline))
        Console(highlight=False).print(table)


@cli.command()
@click.argument("experiment", required=False)
@click.option("--schema", is_flag=True, help="Write params/schema.json, by which editors complete and check.")
def params(experiment: str | None, schema: bool) -> None:
    """Show what can be set for EXPERIMENT: value, where it comes from, what it means.

    \b
    labkit params diabetes
    labkit params --schema
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from labkit.files import write_text
    from labkit.params_file import describe_params, list_experiments, make_schema

    if schema:
        path = paths.find_params_dir() / "schema.json"
        write_text(path, make_schema())
        click.echo(f"wrote {show(path)}")
    elif experiment is None:
        click.echo("\n".join(list_experiments()))
    else:
        table = Table(title=experiment, title_justify="left")
        for heading in ("name", "value", "from", "meaning"):
            table.add_column(heading, overflow="fold")
        for entry in describe_params(experiment):
            table.add_row(*(Text(str(cell)) for cell in (entry.name, entry.value, entry.origin, entry.meaning)))
        Console(highlight=False).print(table)


@cli.command()
@click.argument("experiment")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
def predict(experiment: str, source: Path, destination: Path) -> None:
    """Predict every row of SOURCE with the published model of EXPERIMENT.

    SOURCE is read as the params say that the experiment's main table is: encoding, delimiter, decimal comma, dates.
    DESTINATION is CSV or Parquet by its ending.

    \b
    labkit predict diabetes new_patients.csv predictions.csv
    """
    from labkit.live.scoring import predict_file

    os.environ.update(paths.make_environment())
    click.echo(predict_file(experiment, source, destination))


def show(path: Path) -> str:
    """Return a path as it would be typed from here."""
    return os.path.relpath(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a stage failed, 2 the input is at fault, 130 interrupted."""
    sys.exit(call(cli, list(sys.argv[1:] if arguments is None else arguments)))


def call(command: Callable[..., Any], arguments: list[str]) -> int:
    """Run a command and return its exit code, with errors printed in their own words."""
    # Whoever ends this process politely, or closes its terminal, interrupts it: the records are closed then.
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) == signal.SIG_DFL:
            signal.signal(name, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        command(arguments, standalone_mode=False)
    except LabkitError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"labkit: {error}", err=True)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:
        if "--debug" in arguments or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
            raise
        click.echo(f"labkit: {error.filename or 'a file'}: {error.strerror}: labkit has to write there", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("labkit: interrupted; finished stages are kept", err=True)
        return 130
    except SystemExit as end:
        return int(end.code or 0)
    return 0
