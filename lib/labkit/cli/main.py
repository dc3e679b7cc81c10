"""The command line: each command parses its arguments and calls one public function; errors are printed here.

There is no logic here. Commands import what they need when called, so that `labkit --help` is fast.
"""

import errno
import gc
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import click

from labkit import console
from labkit.cli import (
    check,
    labels,
    models,
    monitor,
    new,
    notebooks,
    observe,
    orchestrate,
    project,
    reproduce,
    run,
    serve,
    show,
    sweep,
    verify,
)
from labkit.console import echo
from labkit.errors import LabkitError, name_nearest, shorten
from labkit.storage.disk import describe_full, is_full

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


COMPLETION = """\b
Completion of commands, experiments, stages, runs and parameters; add the line
to your shell's start-up file:
  bash  eval "$(_LABKIT_COMPLETE=bash_source labkit)"
  zsh   eval "$(_LABKIT_COMPLETE=zsh_source labkit)"
  fish  _LABKIT_COMPLETE=fish_source labkit | source
"""


@click.group(cls=Family, context_settings={"help_option_names": ["-h", "--help"]}, epilog=COMPLETION)
@click.version_option(package_name="labkit")
@click.option("--debug", is_flag=True, help="Show the full traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Run numbered notebooks as a reproducible, tracked and reported pipeline.

    \b
    labkit init churn                 a project of your own, in a new folder
    labkit new churn --data churn.csv --target churned
    labkit run diabetes               run what has changed, and publish
    labkit sweep diabetes -S training.models=[linear],[lightgbm]
    labkit open diabetes              the report, in the browser
    labkit status diabetes            what is stale, and why
    labkit runs diabetes              past runs, and how they ended
    labkit why diabetes               why each stage of the latest run ran
    labkit compare diabetes           latest run against the champion's
    labkit params diabetes --changed  parameters that differ from their defaults
    labkit models diabetes            versions: which serves, since when, and why
    labkit predict diabetes in.csv out.csv
    labkit serve diabetes             the champion over HTTP
    labkit verify scratch.ipynb       does it still show what it computes?
    """
    ctx.obj = debug


for command in (
    project.init,
    new.new,
    run.run,
    run.stage,
    run.pull,
    run.stages,
    run.warm,
    sweep.sweep,
    show.status,
    show.runs,
    show.why,
    show.compare,
    show.params,
    show.doctor,
    show.open_report,
    notebooks.eject,
    notebooks.diff,
    notebooks.upgrade,
    models.models,
    models.promote,
    models.rollback,
    models.predict,
    reproduce.reproduce,
    reproduce.export,
    serve.serve,
    serve.package,
    verify.verify,
    labels.labels,
    monitor.delivery,
    monitor.monitor,
    observe.observe,
    monitor.retrain,
    monitor.replay,
    monitor.watch,
    orchestrate.export_dag,
    check.check_data,
    check.check_model,
):
    cli.add_command(command)


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
    # nbformat's validation would spend a second or more building a grammar of IRIs, which no notebook needs.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
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
        kept = "; finished stages are kept" if {"run", "stage", "sweep", "reproduce"} & set(arguments[:2]) else ""
        echo(f"labkit: interrupted{kept}", is_error=True)
        return 130
    except SystemExit as end:
        return int(end.code or 0)
    return 0
