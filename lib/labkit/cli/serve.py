"""Commands that put the published model to use: as a service, and as a package."""

import os
from pathlib import Path
from typing import Any

import click

from labkit import paths
from labkit.cli.options import complete_experiment
from labkit.console import echo
from labkit.errors import LabkitError, ParamsError, get_first_line

FORMS = ("wheel", "service", "mlflow", "onnx", "pmml")
"""Forms of a package; see `labkit.packages.package`."""


@click.command(short_help="Serve the published model over HTTP.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option(
    "--host",
    default="127.0.0.1",
    envvar="LABKIT_SERVE_HOST",
    show_default=True,
    show_envvar=True,
    help="Address to listen on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar="LABKIT_SERVE_PORT",
    show_default=True,
    show_envvar=True,
    help="Port; 0 takes a free one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    envvar="LABKIT_SERVE_WORKERS",
    show_default=True,
    show_envvar=True,
    help="Processes that predict.",
)
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Serve the release in this folder instead of the champion, and follow none; needs no checkout.",
)
@click.option(
    "--trust-code", "is_trusted", is_flag=True, help="Run the packages of own code in the folder of --release."
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    envvar="LABKIT_SERVE_ALLOW_HOST",
    show_envvar=True,
    help="Host name clients may use; repeatable, * for any.",
)
@click.option("--log/--no-log", "is_logging", default=True, help="Whether to keep a log of predictions (default: yes).")
@click.option(
    "--state",
    "state_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the log of predictions and for feedback (default: .labkit/serving/EXPERIMENT).",
)
@click.option(
    "--tables",
    "tables_dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Keep joined tables current from files in this folder, such as weather.csv; needs a checkout.",
)
@click.option(
    "--shadow",
    metavar="VERSION",
    help="Let this challenger predict too, beside the answers: a number, @challenger or latest.",
)
@click.option(
    "--canary",
    "percent",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="Let a challenger answer this share of the requests.",
)
@click.option(
    "--challenger",
    metavar="VERSION",
    help="Challenger for --canary: a number, @challenger or latest (default: that of --shadow, else @challenger).",
)
@click.option(
    "--canary-key",
    metavar="COLUMN",
    help="Column whose value decides which version answers, without the header labkit-key (default: all columns).",
)
def serve(
    experiment: str, *, release: Path | None, is_trusted: bool, state_dir: Path | None, tables_dir: Path | None,
    shadow: str | None, percent: float | None, challenger: str | None, **options: Any,
) -> None:  # fmt: skip
    """Serve the champion of EXPERIMENT over HTTP and follow it: a newly promoted version takes over between requests.

    / is a page to try the model on, /docs describes the interface with the columns of the model. POST /predict takes
    {"rows": [{...}]}, POST /explain the same to explain predictions by the columns, POST /invocations the protocol of
    MLflow and SageMaker, POST /feedback true values by the id of a prediction. POST /tables/<table> takes rows of
    joined tables, POST /outcomes outcomes for the histories of the model. GET /health, /ping, /version, /model,
    and /metrics for Prometheus.

    Only this machine can reach the service unless --host says otherwise. If the environment variable LABKIT_SERVE_TOKEN
    is set, clients have to send it: Authorization: Bearer <token>. A socket that systemd passes is used instead of
    --host and --port.

    With --shadow, a challenger predicts the logged rows too, in a process of its own; `labkit compare EXPERIMENT
    --shadow` compares both. With --canary, it answers a share of the requests: the same key always gets the same
    version.

    \b
    labkit serve diabetes
    labkit serve flights --port 8080 --workers 2
    labkit serve flights --host 0.0.0.0 --allow-host flights.example.org
    labkit serve flights --release release --state /var/lib/flights
    labkit serve flights --tables incoming
    labkit serve flights --shadow 7
    labkit serve flights --canary 10 --challenger latest
    """
    from labkit.serving import supervisor
    from labkit.serving.settings import Options

    which = check_challenge(shadow, percent, challenger, release=release, **options)
    source: supervisor.Source
    followers: list[supervisor.Followed] = []
    if release is not None:
        check_release_folder(release, is_trusted=is_trusted)
        source = supervisor.ReleaseFolder(release)
        followers = [] if tables_dir is None else [open_tables_folder(experiment, tables_dir)]
    else:
        from labkit.params.load import load_params
        from labkit.serving.challenger import open_challenger
        from labkit.serving.champion import open_champion

        os.environ.update(paths.make_environment())
        params = load_params(experiment)
        followers = [] if tables_dir is None else [open_tables_folder(experiment, tables_dir)]
        source = champion = open_champion(params.experiment)
        followers += [] if which is None else [open_challenger(champion, which)]
    chosen = Options(**options, has_shadow=shadow is not None, canary_percent=percent or 0.0)
    folder = state_dir or paths.find_serving_dir(experiment)
    supervisor.serve(experiment, source, chosen, echo, state_dir=folder, followers=followers)


def open_tables_folder(experiment: str, folder: Path) -> Any:
    """Return the files of a folder, which are read as the params of the checkout declare."""
    try:
        from labkit.params.load import load_params
        from labkit.serving.fed_folder import open_folder

        params = load_params(experiment)
    except (LabkitError, ImportError) as error:  # a service folder has neither params nor pandas
        where = f"files are read as the params of {experiment} declare: serve from its checkout"
        raise ParamsError(f"--tables: {where}, or send rows to /tables/<table>: {get_first_line(error)}") from error
    return open_folder(folder, params, echo)


def check_release_folder(release: Path, *, is_trusted: bool) -> None:
    """Refuse a folder with packages of own code unless the user trusts them."""
    from labkit.serving.supervisor import check_code_trusted

    if not is_trusted:
        check_code_trusted(release)


def check_challenge(
    shadow: str | None, percent: float | None, challenger: str | None, *, release: Path | None, **options: Any
) -> str | None:
    """Return which version is the challenger, None for none; refuse options that contradict each other."""
    if percent is None and (challenger is not None or options["canary_key"] is not None):
        raise ParamsError("--challenger and --canary-key are for --canary PERCENT: add it, or leave them out")
    if shadow is None and percent is None:
        return None
    if release is not None:
        raise ParamsError("--release: --shadow and --canary take their challenger from the registry: leave one out")
    if shadow is not None and challenger not in (None, shadow):
        raise ParamsError(f"--shadow {shadow} and --challenger {challenger}: there is one challenger: leave one out")
    if shadow is not None and not options["is_logging"]:
        raise ParamsError("--no-log: --shadow predicts the rows of the log: leave one out")
    return shadow or challenger or "@challenger"


@click.command(short_help="Write the published model in a form for elsewhere.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the package."
)
@click.option(
    "--form",
    type=click.Choice(FORMS),
    default=FORMS[0],
    show_default=True,
    help="What to write.",
)
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Package the release in this folder instead of the champion.",
)
@click.option(
    "--trust-code", "is_trusted", is_flag=True, help="Run the packages of own code in the folder of --release."
)
def package(experiment: str, *, folder: Path, form: str, release: Path | None, is_trusted: bool) -> None:
    """Write the champion of EXPERIMENT in a form that works without this checkout.

    \b
    wheel    a Python package that needs numpy and onnxruntime only
    service  a folder with all that `labkit serve` needs on another machine
    mlflow   a model for MLflow, which returns probabilities
    onnx     the ONNX graph, with numpy code that computes its inputs
    pmml     the model for programs on Java, with the same code

    pmml needs Java, and sklearn2pmml in an environment whose Python LABKIT_PMML_PYTHON names, unless it is in this one.

    Before anything is written, the package predicts rows of the holdout, and rows with missing values, unknown
    categories and extreme numbers; it has to predict what the model predicts.

    \b
    labkit package diabetes --to dist
    labkit package diabetes --form service --to dist
    labkit package diabetes --form onnx --to dist --release release
    """
    from labkit.packages.package import write_package
    from labkit.params.load import load_params

    if release is not None:
        check_release_folder(release, is_trusted=is_trusted)
    os.environ.update(paths.make_environment())
    made = write_package(load_params(experiment), folder, form=form, release=release)
    echo(f"wrote {paths.show_path(made.path)}, which predicts {made.compared} as the model does")
