"""Commands for published models: promote one by hand, predict with the champion."""

import os
from pathlib import Path

import click

from labkit import paths
from labkit.cli.options import complete_experiment, json_option
from labkit.console import echo, print_json


@click.command(short_help="Promote a version to champion by hand.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--reason", required=True, help="Reason, recorded with the version.")
@click.option(
    "--accept-unverified-champion",
    is_flag=True,
    help="Replace a champion that cannot be compared because its files are missing or changed.",
)
def promote(experiment: str, version: int | None, reason: str, accept_unverified_champion: bool) -> None:
    """Promote VERSION of EXPERIMENT to champion by hand, or the release in this checkout if no version is given.

    The version is verified, but not compared with the champion; `labkit run` does that. The user, the time and the
    reason are recorded with the version.

    \b
    labkit promote diabetes 3 --reason "the new scanner is in use from Monday on"
    labkit promote diabetes --accept-unverified-champion --reason "files lost"
    """
    from labkit.params.load import load_params
    from labkit.stages import promotion

    os.environ.update(paths.make_environment())
    params = load_params(experiment)
    echo(promotion.promote(params, version, reason=reason, accept_unverified=accept_unverified_champion))


@click.command(short_help="Predict the rows of a file with the published model.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--keep", multiple=True, metavar="COLUMN", help="Copy this column of SOURCE too; repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace DESTINATION even if labkit predict did not write it.")
@json_option
def predict(
    experiment: str, source: Path, destination: Path, *, keep: tuple[str, ...], overwrite: bool, is_json: bool
) -> None:
    """Predict every row of SOURCE with the published model of EXPERIMENT.

    SOURCE is read like the experiment's main table, as declared in its params: encoding, delimiter, decimal comma,
    dates. DESTINATION is written as CSV or Parquet, according to its extension: the columns that the params leave out
    as identifiers (row numbers if SOURCE has none), the prediction, the probability of each class, and the threshold by
    which the prediction is decided if one was chosen by costs.

    \b
    labkit predict diabetes new_patients.csv predictions.csv
    labkit predict churn customers.csv out.parquet --keep region --keep city
    """
    from labkit.params.load import load_params
    from labkit.serving.batch_files import check_batch_files

    # Before heavy imports, so that a misspelt path is reported at once.
    check_batch_files(load_params(experiment), source, destination, keep=keep, overwrite=overwrite)
    from labkit.serving.batch import predict_file

    os.environ.update(paths.make_environment())
    summary = predict_file(experiment, source, destination, keep=keep, overwrite=overwrite)
    if is_json:
        print_json(summary.to_dict())
    else:
        echo(str(summary))
