"""The command that runs an experiment with many sets of parameters."""

import os
from typing import TYPE_CHECKING, Any

import click

from labkit.cli.options import (
    complete_experiment,
    complete_stage,
    json_option,
    make_dask_option,
    make_setting_option,
)
from labkit.console import divert_output, echo, make_column, print_json, print_table, wrap_words

if TYPE_CHECKING:
    from labkit.sweep.result import Result


@click.command(short_help="Run many sets of parameters; rank and adopt them.")
@click.argument("experiment", shell_complete=complete_experiment)
@make_setting_option(
    "SECTION.FIELD=VALUE,VALUE", "Values of one parameter; a value that is a list is written in brackets."
)
@click.option("--random", "n_random", type=click.IntRange(1), metavar="N", help="Draw N of the combinations.")
@click.option(
    "--optuna", "n_trials", type=click.IntRange(1), metavar="N", help="Let Optuna propose N points in ranges low..high."
)
@click.option(
    "--jobs", "n_jobs", type=click.IntRange(1), metavar="N", help="Stages at a time; by default, as many as cores."
)
@make_dask_option("Run stages")
@click.option(
    "--until", metavar="STAGE", help="Stop after this stage, not after training.", shell_complete=complete_stage
)
@click.option(
    "--adopt", metavar="POINT", help="Write a point of the latest sweep into the params file: its number, or best."
)
@json_option
def sweep(
    experiment: str,
    *,
    settings: tuple[str, ...],
    adopt: str | None,
    is_json: bool,
    **options: Any,
) -> None:
    """Run EXPERIMENT with every combination of the given values, and rank them by cross-validation.

    With --optuna, values may be ranges: 5..50, or 0.01..1:log for one in which each tenth counts as much. The first
    eight points are drawn at random (with --jobs 5 or more, as many as that), the next are proposed from the scores.
    What points have in common runs once, and not at all if it is up to date. Nothing is published, and the checkout
    stays as it is. The same command continues a sweep that was interrupted; without parameters, the latest one is
    shown.

    \b
    labkit sweep diabetes -S training.models=[linear],[lightgbm] --jobs 1
    labkit sweep diabetes -S features.most_categories=10,20 --until evaluation
    labkit sweep diabetes -S training.most_features=3..10 --optuna 20
    labkit sweep diabetes --adopt best
    """
    from labkit.params.load import load_file
    from labkit.run.pipeline.progress import Progress
    from labkit.sweep import session
    from labkit.sweep.result import load_result

    if adopt is not None:
        if settings or any(options.values()):
            raise click.UsageError("--adopt takes a point of the latest sweep: leave out the other options")
        with divert_output(is_json):
            session.adopt_point(experiment, adopt, Progress())
        if is_json:
            print_json(load_result(experiment).to_dict())
        return
    if not settings and not any(options.values()):
        load_file(experiment)
        latest = load_result(experiment)
        print_json(latest.to_dict()) if is_json else show_result(latest)
        return
    if options["n_random"] and options["n_trials"]:
        raise click.UsageError("--random draws from all combinations, --optuna proposes points: give one of them")
    found: list[Result] = []
    request = session.SweepRequest(settings, **options)
    try:
        with divert_output(is_json):
            session.run_sweep(experiment, request, progress=Progress(), show=found.append)
    finally:
        for result in found:
            print_json(result.to_dict()) if is_json else show_result(result)


def show_result(result: "Result") -> None:
    """Print the points of a sweep, the best first."""
    from labkit.sweep.result import find_page

    columns = [make_column(name, is_folded=True) for name in result.list_columns()]
    print_table(columns, result.list_cells(), title=f"{result.experiment}: {result.describe()}")
    if warning := result.describe_choice():
        echo(wrap_words(warning, indent=0))
    echo(f"Report:    {os.path.relpath(find_page(result.experiment))}")
    if any(row.is_done and row.score is not None for row in result.rows):
        echo(f"Adopt:     labkit sweep {result.experiment} --adopt best")
