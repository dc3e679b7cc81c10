"""The command line: each command parses its arguments and calls one public function; errors are printed here.

There is no logic here. Commands import what they need when called, so that `labkit --help` is fast.
"""

import errno
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import click

from labkit import console, paths
from labkit.cli import models, new
from labkit.console import echo
from labkit.errors import DiskError, LabkitError, StageError, name_nearest, shorten
from labkit.stages import builtin
from labkit.storage.disk import describe_full, is_full
from labkit.units import format_count

LONGEST_LINE, MOST_LINES = 2000, 40
"""Longest line and most lines shown of an error, which may quote content of any length."""
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Family(click.Group):
    """A command group that suggests the nearest command for a mistyped one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or fail with the name of the nearest one."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}: {name_nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


@click.group(cls=Family, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="labkit")
@click.option("--debug", is_flag=True, help="Show the full traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Run numbered notebooks as a reproducible, tracked and reported pipeline.

    \b
    labkit new churn --data churn.csv --target churned   create an experiment from your own table
    labkit run diabetes                      run what has changed, show the results
    labkit status diabetes                   what is stale, and why
    labkit runs diabetes                     past runs, and how they ended
    labkit why diabetes                      what the latest run was made of, and why each stage ran
    labkit params diabetes                   every parameter: value, where it is set, what it means
    labkit predict diabetes in.csv out.csv   predict with the published model
    labkit pull                              fetch the data of runs that others have pushed
    labkit warm                              keep a process that starts kernels in half a second
    """
    ctx.obj = debug


cli.add_command(new.new)
cli.add_command(models.promote)
cli.add_command(models.predict)


@cli.command()
@click.argument("experiment")
@click.option(
    "-S",
    "--set",
    "settings",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Change the params file; with --sample, for that run only.",
)
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", metavar="STAGE", help="Run this stage even if nothing has changed.")
@click.option("--sample", type=click.IntRange(20), metavar="N", help="Run on N rows in scratch; nothing is published.")
@click.option("--cold", is_flag=True, help="Start ordinary kernels, without preloaded imports.")
@click.option("--no-wait", is_flag=True, help="Fail if another run of this checkout is under way.")
@click.option("--locked", is_flag=True, help="Fail if the packages differ from requirements.lock.")
def run(
    experiment: str,
    *,
    settings: tuple[str, ...],
    until: str | None,
    force: str | None,
    sample: int | None,
    cold: bool,
    no_wait: bool,
    locked: bool,
) -> None:
    """Run the stages of EXPERIMENT that have changed, from raw tables to the published model.

    \b
    labkit run diabetes
    labkit run diabetes -S training.folds=10           change a parameter, then run what depends on it
    labkit run diabetes --until training --force eda
    labkit run breast_cancer --sample 200              a quick trial that does not change the pipeline
    """
    from labkit.params.load import load_file
    from labkit.params.override import override_file

    # Before heavy imports, so that an invalid file or setting is reported at once.
    params_file = load_file(experiment)
    if sample and force:
        raise click.UsageError("--sample runs every stage: leave out --force")
    override_file(params_file, settings)
    from labkit.run.kernels.session import Kernels
    from labkit.run.pipeline.progress import Progress

    with Kernels(is_cold=cold, is_kept_used=not cold, later=builtin.LATER_MODULES) as kernels:
        from labkit.run.pipeline.experiment_run import RunRequest, run_experiment, run_sample
        from labkit.run.records import mlflow_store

        request = RunRequest(until, force, is_waiting=not no_wait, is_locked=locked, settings=settings)
        how: dict[str, Any] = {"plain": builtin.PLAIN_STAGES, "progress": Progress(), "kernels": kernels}
        if sample:
            run_sample(experiment, rows=sample, request=request, **how)
        else:
            run_experiment(experiment, request=request, **how)
    pages = paths.find_reports_dir(experiment) / "sample" if sample else paths.find_reports_dir()
    echo(f"Report:    {show_from_here(pages if sample else pages / 'index.html')}")
    echo(f"Tracking:  {mlflow_store.describe_viewing()}")


@cli.command()
@click.option("--stop", is_flag=True, help="Stop the warm process.")
def warm(stop: bool) -> None:
    """Keep a process with all imports done, from which kernels of `labkit run` and JupyterLab are forked.

    It ends after 30 minutes without a kernel.

    \b
    labkit warm
    labkit warm --stop
    """
    from labkit.run.kernels import servers

    if stop:
        n_stopped = servers.stop_servers()
        echo("stopped" if n_stopped else "no warm process was running")
        return
    state = servers.keep_server()
    modules = format_count(state["modules"], "module")
    minutes = format_count(servers.IDLE_SECONDS // 60, "idle minute")
    echo(f"warm: process {state['pid']}, {modules} imported; ends after {minutes}")


@cli.command()
def doctor() -> None:
    """Check this checkout and its environment, and show how to fix every problem.

    Closes the records of runs that were killed, and changes nothing else. Exit code 1 if something needs attention.

    \b
    labkit doctor          # in the checkout
    """
    from labkit.run.doctor import examine, show_results
    from labkit.stages.promotion import check_champions

    try_to_close_gone()
    sys.exit(show_results([*examine(), check_champions()]))


@cli.command()
@click.argument("name")
@click.argument("experiment")
def stage(name: str, experiment: str) -> None:
    """Run one stage, whether or not it is stale. dvc.yaml calls this command.

    \b
    labkit stage training diabetes
    """
    from labkit.run.pipeline.stage_client import ask_runner

    reply = ask_runner(name, experiment)
    if reply is not None:
        sys.exit(reply.code)
    if name == "fingerprint":
        # By far the most frequent call, so it imports nothing heavy.
        from labkit.params.load import load_params

        builtin.perform_fingerprint(load_params(experiment), None)
        return
    from labkit.run.pipeline.experiment_run import run_single_stage
    from labkit.run.pipeline.progress import Progress

    run_single_stage(name, experiment, plain=builtin.PLAIN_STAGES, progress=Progress())


@cli.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
def status(experiments: tuple[str, ...]) -> None:
    """Show which stages are stale, and why.

    \b
    labkit status
    labkit status diabetes
    """
    from labkit.params.load import list_experiments, load_params
    from labkit.run.pipeline import dvc_repo, run_lock
    from labkit.run.records.stage_record import load_records

    try_to_close_gone()
    holder = run_lock.find_holder()
    if holder is not None:
        echo(f"Under way now: {run_lock.describe_holder(holder)}.")
    with dvc_repo.look_at_repo() as repo:
        for experiment in experiments or list_experiments():
            loaded = load_params(experiment)
            dvc_repo.list_stages(experiment)
            if holder is None:
                # A run in progress depends on the code fingerprint that it wrote when it began.
                builtin.perform_fingerprint(loaded, None)
            records = load_records(paths.find_reports_dir(experiment))
            rows = []
            for state in dvc_repo.find_stage_states(repo, experiment):
                if state.name == dvc_repo.FINGERPRINT:
                    continue
                headline = records[state.name].headline if state.name in records else ""
                fresh = "checked each time" if state.name == dvc_repo.PUBLISH else "up to date"
                reasons = console.make_cell("\n".join(map(console.make_printable, state.reasons)))
                rows.append((state.name, "stale" if state.reasons else fresh, reasons, headline))
            console.print_table(("stage", "state", "why", "latest result"), rows, title=experiment)


def try_to_close_gone() -> None:
    """Close the records of killed runs and print them; a store that cannot be written does not stop the command."""
    from labkit.run.records import recovery

    try:
        recovery.close_gone(echo)
    except (StageError, DiskError) as error:
        echo(f"not closed yet: {error}")


@cli.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
def pull(experiments: tuple[str, ...]) -> None:
    """Fetch the data of runs that others have pushed, as listed in dvc.lock, and check them out.

    \b
    labkit pull                                after `git pull`
    labkit pull diabetes
    """
    from labkit.params.load import load_params
    from labkit.run.pipeline import dvc_remote, run_lock

    for experiment in experiments:
        load_params(experiment)
    try_to_close_gone()
    with run_lock.hold_checkout(", ".join(experiments) or "all experiments", report=echo):
        echo(dvc_remote.pull(experiments))


@cli.command()
@click.argument("experiment", required=False)
@click.option("-n", "most", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of runs.")
def runs(experiment: str | None, most: int) -> None:
    """List the runs of this checkout, or of EXPERIMENT, newest first, and how each ended.

    \b
    labkit runs
    labkit runs diabetes -n 5
    """
    from labkit.params.load import load_params
    from labkit.run.records import run_history

    if experiment:
        load_params(experiment)
    try_to_close_gone()
    rows, n_runs = run_history.list_runs(experiment, most=most)
    shown = [
        (row.run, row.end, "" if row.seconds is None else f"{row.seconds:,.0f} s", run_history.show_age(row.at))
        for row in rows
    ]
    # The name of a run contains its time in UTC. Names and ages are not truncated in a terminal of 80 characters.
    whole = (console.make_column(heading, is_number=True, is_whole=True) for heading in ("took", "started"))
    console.print_table((console.make_column("run", is_whole=True), "ended", *whole), shown)
    if n_runs > len(rows):
        echo(f"… and {n_runs - len(rows)} more: labkit runs -n {n_runs}")


@cli.command()
@click.argument("run")
def why(run: str) -> None:
    """Show what RUN was made of, and why each of its stages ran.

    RUN is a name listed by `labkit runs`, or an experiment for its latest run.

    \b
    labkit why diabetes
    """
    from labkit.run.records import run_history

    try_to_close_gone()
    console.print_pairs(run_history.describe_run(run_history.find_run(run)))


@cli.command()
@click.argument("experiment", required=False)
@click.option("--schema", is_flag=True, help="Write params/schema.json, with which editors complete and check.")
def params(experiment: str | None, schema: bool) -> None:
    """Show every parameter of EXPERIMENT: its value, where it is set and what it means.

    \b
    labkit params diabetes
    labkit params --schema
    """
    from labkit.params.describe import describe_params, make_schema
    from labkit.params.load import list_experiments
    from labkit.storage.atomic import write_text

    if schema:
        path = paths.find_params_dir() / "schema.json"
        write_text(path, make_schema())
        echo(f"wrote {show_from_here(path)}")
    elif experiment is None:
        echo("\n".join(list_experiments()))
    else:
        headings = [console.make_column(heading, is_folded=True) for heading in ("name", "value", "from", "meaning")]
        entries = describe_params(experiment)
        rows = [[str(cell) for cell in (one.name, one.value, one.origin, one.meaning)] for one in entries]
        console.print_table(headings, rows, title=experiment)


def show_from_here(path: Path) -> str:
    """Return a path relative to the working directory."""
    return os.path.relpath(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 a stage failed, 2 invalid input, 130 interrupted.

    Parameters
    ----------
    arguments
        Command-line arguments; those of the process if None.
    """
    console.guard_streams()
    # requests disables this warning, but another thread that imports meanwhile may enable it again.
    warnings.filterwarnings("ignore", message="SOCKS support in urllib3")
    # Modules are never freed: collecting garbage while they are imported, and at exit, takes a second.
    gc.set_threshold(100_000)
    code = call(cli, list(sys.argv[1:] if arguments is None else arguments))
    gc.freeze()
    sys.exit(code)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Act like Ctrl-C, whose signal is ignored in processes that a shell starts in the background."""
    act = signal.getsignal(signal.SIGINT)
    (act if callable(act) else signal.default_int_handler)(number, frame)


def call(command: Callable[..., Any], arguments: list[str]) -> int:
    """Run a command and return its exit code; print errors as short messages."""
    # SIGTERM and SIGHUP interrupt the process like Ctrl-C, so that records are closed.
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) == signal.SIG_DFL:
            signal.signal(name, interrupt)
    try:
        command(arguments, standalone_mode=False)
    except LabkitError as error:
        if "--debug" in arguments:
            raise
        lines = (shorten(line, LONGEST_LINE) for line in str(error).split("\n")[:MOST_LINES])
        echo("labkit: " + "\n".join(lines), is_error=True)
        return error.exit_code
    except OSError as error:
        if "--debug" in arguments or not (is_full(error) or error.errno in NOT_ALLOWED):
            raise
        if not is_full(error):
            echo(f"labkit: {error.filename or 'a file'}: {error.strerror}: labkit needs to write there", is_error=True)
            return 2
        echo(f"labkit: {describe_full(Path(str(error.filename or '.')), 'more')}", is_error=True)
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message(), is_error=True)
        return 0
    except click.ClickException as error:
        usage = StringIO()
        click.UsageError("", getattr(error, "ctx", None)).show(usage)
        # One line, whatever characters the quoted argument contains.
        echo(f"{usage.getvalue().rstrip()} {console.make_printable(error.format_message())}", is_error=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        kept = "; finished stages are kept" if {"run", "stage"} & set(arguments[:2]) else ""
        echo(f"labkit: interrupted{kept}", is_error=True)
        return 130
    except SystemExit as end:
        return int(end.code or 0)
    return 0
