"""Commands that put the published model to use: as a service, and as a package."""

import os
from pathlib import Path

import click

from labkit import paths
from labkit.cli.options import complete_experiment
from labkit.console import echo


@click.command(short_help="Serve the published model over HTTP.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that predict.")
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Serve the release in this folder instead of the champion, and follow none.",
)
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Host name clients may use; repeatable.")
@click.option("--log/--no-log", "is_logging", default=True, help="Whether to keep a log of predictions (default: yes).")
def serve(
    experiment: str, *, host: str, port: int, workers: int, release: Path | None, hosts: tuple[str, ...],
    is_logging: bool,
) -> None:  # fmt: skip
    """Serve the champion of EXPERIMENT over HTTP and follow it: a newly promoted version takes over between requests.

    / is a page to try the model on, /docs describes the interface with the columns of the model. POST /predict takes
    {"rows": [{...}]}, POST /invocations the protocol of MLflow and SageMaker, POST /feedback true values by the id of a
    prediction. GET /health, /ping, /version, /model, and /metrics for Prometheus. Predictions are logged below
    .labkit/serving/EXPERIMENT.

    Only this machine can reach the service unless --host says otherwise. If the environment variable LABKIT_SERVE_TOKEN
    is set, clients have to send it: Authorization: Bearer <token>.

    \b
    labkit serve diabetes
    labkit serve flights --port 8080 --workers 2
    labkit serve flights --host 0.0.0.0 --allow-host flights.example.org
    """
    from labkit.params.load import load_params
    from labkit.serving.supervisor import Options
    from labkit.serving.supervisor import serve as serve_champion

    os.environ.update(paths.make_environment())
    options = Options(host, port, workers, release, hosts, is_logging)
    serve_champion(load_params(experiment), options, echo)


@click.command(short_help="Write the published model as a Python package.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the wheel."
)
@click.option(
    "--release",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Package the release in this folder instead of the champion.",
)
def package(experiment: str, *, folder: Path, release: Path | None) -> None:
    """Write the champion of EXPERIMENT as a wheel that needs numpy and onnxruntime, and neither labkit nor pandas.

    \b
    labkit package diabetes --to dist
    pip install dist/diabetes_model-*.whl
    python -c "import diabetes_model; print(diabetes_model.predict([{...}]))"
    """
    from labkit.params.load import load_params
    from labkit.serving.supervisor import package as package_model

    os.environ.update(paths.make_environment())
    echo(f"wrote {paths.show_path(package_model(load_params(experiment), folder, release=release))}")
