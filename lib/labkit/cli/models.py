"""Commands for registered models: list them, promote one by hand, roll back, predict with the champion."""

import os
from functools import partial
from pathlib import Path

import click

from labkit import paths
from labkit.cli.options import complete_experiment, json_option, make_dask_option
from labkit.console import echo, make_cell, make_column, print_json, print_table

LARGEST_VERSION = 2**31 - 1
"""Largest number of a version that every database of MLflow can hold."""


@click.command(short_help="List registered models and their versions.")
@click.argument("experiment", required=False, shell_complete=complete_experiment)
@json_option
def models(experiment: str | None, is_json: bool) -> None:
    """List the versions of EXPERIMENT, newest first, or the champion of each experiment.

    With the main metric on the holdout and its interval, the size, and who made it the champion, when and why; of
    versions that never were, who registered them and what was decided about them. --json also holds the history of
    the champion.

    \b
    labkit models
    labkit models diabetes
    """
    from labkit.params.load import list_experiments, load_params
    from labkit.stages import model_versions

    if experiment:
        load_params(experiment)
    os.environ.update(paths.make_environment())
    size, since = (make_column(heading, is_whole=True) for heading in ("size", "since"))
    if experiment:
        versions = model_versions.list_versions(experiment)
        if is_json:
            print_json({"experiment": experiment, "versions": [one.to_dict() for one in versions]})
        elif versions:
            rows = [list(map(make_cell, model_versions.describe_version(one))) for one in versions]
            print_table(["version", "holdout", size, since, "by", "why"], rows, title=experiment)
            for line in model_versions.describe_refits(versions):
                echo(line)
        else:
            echo(f"{experiment}: no version is registered yet: run `labkit run {experiment}`")
        return
    champions = model_versions.list_champions(list_experiments())
    if is_json:
        print_json({"experiments": [model_versions.make_champion_document(*one) for one in champions]})
    else:
        rows = [list(map(make_cell, model_versions.describe_champion(*one))) for one in champions]
        named = make_column("experiment", is_whole=True)
        print_table([named, "champion", "holdout", size, since, "by", "why"], rows)
        in_service = [champion for _, champion, _ in champions if champion]
        for line in model_versions.describe_refits(in_service, is_named=True):
            echo(line)


version_argument = click.argument("version", type=click.IntRange(1, LARGEST_VERSION), required=False)
reason_option = click.option("--reason", required=True, help="Reason, recorded in the history of the champion.")


@click.command(short_help="Promote a version to champion by hand.")
@click.argument("experiment", shell_complete=complete_experiment)
@version_argument
@reason_option
@click.option(
    "--accept-unverified-champion",
    is_flag=True,
    help="Replace a champion that cannot be compared because its files are missing or changed.",
)
def promote(experiment: str, version: int | None, reason: str, accept_unverified_champion: bool) -> None:
    """Promote VERSION of EXPERIMENT to champion by hand, or the release in this checkout if no version is given.

    The version is verified, but not compared with the champion; `labkit run` does that. The user, the time and the
    reason are recorded; `labkit models` shows them.

    \b
    labkit promote diabetes 3 --reason "the new scanner is in use from Monday on"
    labkit promote diabetes --accept-unverified-champion --reason "files lost"
    """
    from labkit.params.load import load_params
    from labkit.stages import promotion

    os.environ.update(paths.make_environment())
    params = load_params(experiment)
    echo(promotion.promote(params, version, reason=reason, accept_unverified=accept_unverified_champion))


@click.command(short_help="Return to an earlier champion.")
@click.argument("experiment", shell_complete=complete_experiment)
@version_argument
@reason_option
def rollback(experiment: str, version: int | None, reason: str) -> None:
    """Make the version that the champion of EXPERIMENT replaced the champion again, or the earlier champion VERSION.

    Its files are verified first. A running `labkit serve` follows within seconds. The user, the time and the reason are
    recorded; `labkit models` shows them.

    \b
    labkit rollback diabetes --reason "predictions doubled since Monday"
    labkit rollback diabetes 3 --reason "the last one before the new scanner"
    """
    from labkit.params.load import load_params
    from labkit.stages import promotion

    os.environ.update(paths.make_environment())
    echo(promotion.roll_back(load_params(experiment), version, reason=reason))


@click.command(short_help="Predict the rows of a file or folder with the published model.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--keep", multiple=True, metavar="COLUMN", help="Copy this column of SOURCE too; repeatable.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="TABLE=FILE",
    help="Join this file as TABLE; repeatable. Default: the rows that the release carries, or else the raw data here.",
)
@click.option("--overwrite", is_flag=True, help="Replace DESTINATION even if labkit predict did not write it.")
@make_dask_option("Predict")
@json_option
def predict(
    experiment: str,
    source: Path,
    destination: Path,
    *,
    keep: tuple[str, ...],
    tables: tuple[str, ...],
    overwrite: bool,
    dask: str | None,
    is_json: bool,
) -> None:
    """Predict every row of SOURCE with the published model of EXPERIMENT.

    SOURCE is read like the experiment's main table, as declared in its params: encoding, delimiter, decimal comma,
    dates. It has the columns of the main table, which are joined with those of other tables as in training, or has the
    joined columns already. SOURCE may also be a folder: its files are the parts of one table, in the order of their
    names.

    DESTINATION is written as CSV or Parquet, according to its extension: the columns that the params leave out as
    identifiers (row numbers if SOURCE has none), the prediction, the probability of each class, and the threshold by
    which the prediction is decided if one was chosen by costs.

    Rows are predicted 50,000 at a time. What is finished is kept in a hidden folder beside DESTINATION until all are:
    the same command goes on after it was interrupted or killed. DESTINATION appears when it is whole.

    \b
    labkit predict diabetes new_patients.csv predictions.csv
    labkit predict churn customers.csv out.parquet --keep region --keep city
    labkit predict flights tomorrow.csv out.csv --table weather=forecast.csv
    labkit predict churn customers/ out.parquet
    labkit predict flights year.parquet out.parquet --dask tcp://10.0.0.1:8786
    """
    from labkit.params.load import load_params
    from labkit.serving.batch_files import check_batch_files

    # Before heavy imports, so that a misspelt path is reported at once.
    check_batch_files(load_params(experiment), source, destination, keep=keep, overwrite=overwrite)
    from labkit.serving.batch import predict_file
    from labkit.serving.batch_tables import read_table_options

    os.environ.update(paths.make_environment())
    files = read_table_options(tables)
    show = partial(echo, is_error=True)
    summary = predict_file(
        experiment, source, destination, keep=keep, tables=files, overwrite=overwrite, dask=dask, show=show
    )
    if is_json:
        print_json(summary.to_dict())
    else:
        echo(str(summary))
