"""The command for labels that people gave to rows."""

from pathlib import Path

import click

from labkit import console
from labkit.cli.options import complete_experiment, json_option
from labkit.console import echo

MOST_CONFLICTS = 10


@click.command(short_help="Show, exchange and resolve labels given by people.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option("--import", "source", type=click.Path(path_type=Path), help="Add labels from Label Studio's JSON or CSV.")
@click.option("--export", "destination", type=click.Path(path_type=Path), help="Write all labels as .json or .csv.")
@click.option("--resolved", type=click.Path(path_type=Path), help="Write one label per row as .csv, for training.")
@click.option("--referee", default="", help="Annotator whose label counts where others disagree.")
@json_option
def labels(
    experiment: str, source: Path | None, destination: Path | None, resolved: Path | None, referee: str, is_json: bool
) -> None:
    """Show what annotators said about rows of EXPERIMENT and how far they agree.

    Labels are given in notebooks/08_labelling.ipynb, and kept in data/labels/EXPERIMENT, a file per annotator. A row on
    which no majority agrees gets no label until the referee, or one more annotator, decides.

    \b
    labkit labels breast_cancer
    labkit labels breast_cancer --resolved labels.csv --referee ana
    labkit labels breast_cancer --export tasks.json      # for Label Studio
    labkit labels breast_cancer --import labelled.json
    """
    from labkit.data.labels import agreement, exchange, judgements
    from labkit.params.load import load_params
    from labkit.units import format_count

    load_params(experiment)
    if destination is not None:
        exchange.check_suffix(destination)
    if resolved is not None:
        exchange.check_suffix(resolved, [".csv"])
    n_added = None if source is None else exchange.import_labels(experiment, source)
    found = judgements.read_judgements(experiment)
    current = found.list_current()
    if referee:
        agreement.check_referee(current, referee)
    table = agreement.make_label_table(current)
    agreed, (kept, conflicts) = agreement.measure_agreement(table), agreement.resolve_labels(current, referee=referee)
    n_written = None if destination is None else exchange.export_labels(experiment, destination)
    if resolved is not None:
        exchange.write_resolved(resolved, kept)
    counts = {str(name): int(values.notna().sum()) for name, values in table.items()}
    if is_json:
        result = {
            "experiment": experiment,
            "annotators": counts,
            "labels": kept["label"].value_counts().sort_index().to_dict(),
            "conflicts": conflicts.to_dict("records"),
            "agreement": agreed.to_dict(),
            "imported": n_added,
            "exported": n_written,
            "unreadable": list(found.faults),
        }
        console.print_json(result)
        return
    if n_added is not None:
        echo(f"{format_count(n_added, 'label')} added from {source}")
    for fault in found.faults:
        echo(f"⚠ not read: {fault}", is_error=True)
    if not current:
        echo(f"{experiment}: no labels yet: give some in notebooks/08_labelling.ipynb")
        return
    console.print_table(("annotator", "labels"), [(name, f"{n:,}") for name, n in counts.items()], title=experiment)
    by_class = kept["label"].value_counts().sort_index()
    echo("labels of rows: " + ", ".join(f"{name} {n:,}" for name, n in by_class.items()))
    echo(str(agreed))
    if len(conflicts):
        lines = [tuple(map(str, line)) for line in conflicts.head(MOST_CONFLICTS).itertuples(index=False)]
        console.print_table(("row", "said"), lines, title=f"{format_count(len(conflicts), 'row')} without a majority")
    for path, n_rows in ((destination, n_written), (resolved, len(kept))):
        if path is not None and n_rows is not None:
            echo(f"{format_count(n_rows, 'label')} written to {path}")
