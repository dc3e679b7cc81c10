"""The command for labels that people gave to rows."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from labkit import console
from labkit.cli.options import complete_experiment, json_option
from labkit.console import echo

if TYPE_CHECKING:
    from labkit.data.labels.summary import LabelSummary

MOST_CONFLICTS = 10


@click.command(short_help="Show, exchange and resolve labels given by people.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option("--source", default="", help="Table and key column, such as new.csv:id; all if not given.")
@click.option("--import", "origin", type=click.Path(path_type=Path), help="Add labels from Label Studio's JSON or CSV.")
@click.option("--export", "destination", type=click.Path(path_type=Path), help="Write all labels as .json or .csv.")
@click.option("--resolved", type=click.Path(path_type=Path), help="Write one label per row as .csv, for training.")
@click.option("--referee", default="", help="Annotator whose label counts where others disagree.")
@json_option
def labels(
    experiment: str,
    source: str,
    origin: Path | None,
    destination: Path | None,
    resolved: Path | None,
    referee: str,
    is_json: bool,
) -> None:
    """Show the labels of rows of EXPERIMENT and how far annotators agree.

    Labels are given in notebooks/08_labelling.ipynb, and kept in data/labels/EXPERIMENT, a file per annotator. A row on
    which no majority agrees gets no label until the referee, or one more annotator, decides.

    \b
    labkit labels breast_cancer
    labkit labels breast_cancer --resolved labels.csv --referee ana
    labkit labels breast_cancer --export tasks.json      # for Label Studio
    labkit labels breast_cancer --import labelled.json
    """
    from labkit.data.labels import exchange, summary
    from labkit.params.load import load_params
    from labkit.units import format_count

    load_params(experiment)
    if destination is not None:
        exchange.check_suffix(destination)
    if resolved is not None:
        exchange.check_suffix(resolved, [".csv"])
    n_added = None if origin is None else exchange.import_labels(experiment, origin, source)
    found, faults = summary.summarize_labels(experiment, source=source, referee=referee)
    kept = None if resolved is None else summary.choose_resolved(found)
    n_written = None if destination is None else exchange.export_labels(experiment, destination, source)
    if resolved is not None and kept is not None:
        exchange.write_resolved(resolved, kept)
    if is_json:
        tables = {one.source: one.to_dict() for one in found}
        written = {"imported": n_added, "exported": n_written, "unreadable": list(faults)}
        console.print_json({"experiment": experiment, "tables": tables, **written})
        return
    if n_added is not None:
        echo(f"{format_count(n_added, 'label')} added from {origin}")
    for fault in faults:
        echo(f"⚠ not read: {fault}", is_error=True)
    if not found:
        echo(f"{experiment}: no labels yet: give some in notebooks/08_labelling.ipynb")
    for one in found:
        print_summary(one)
    for path, n_rows in ((destination, n_written), (resolved, None if kept is None else len(kept))):
        if path is not None and n_rows is not None:
            echo(f"{format_count(n_rows, 'label')} written to {path}")


def print_summary(found: "LabelSummary") -> None:
    """Print the labels of one table."""
    from labkit.units import format_count

    rows = [(name, f"{n:,}") for name, n in found.annotators.items()]
    if rows:
        console.print_table(("annotator", "labels"), rows, title=found.source)
    else:
        echo(f"{found.source}: no labels of people")
    by_class = found.labels["label"].value_counts().sort_index()
    echo("labels of rows: " + (", ".join(f"{name} {n:,}" for name, n in by_class.items()) or "none"))
    if found.n_bulk:
        echo(f"accepted in bulk: {format_count(found.n_bulk, 'label')}")
    echo(str(found.agreement))
    if len(found.conflicts):
        lines = [tuple(map(str, line)) for line in found.conflicts.head(MOST_CONFLICTS).itertuples(index=False)]
        title = f"{format_count(len(found.conflicts), 'row')} without a majority"
        console.print_table(("row", "labels"), lines, title=title)
