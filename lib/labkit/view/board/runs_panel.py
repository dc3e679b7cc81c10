"""The panel of runs: the latest runs with their metrics on the holdout, and the comparison of two."""

from typing import Any

import ipywidgets

from labkit.errors import LabkitError
from labkit.run.records.run_history import list_runs
from labkit.units import format_interval
from labkit.view.board import tables

LAST, CHAMPION = "@last", "@champion"


class RunsPanel:
    """The runs of one experiment."""

    def __init__(self) -> None:
        self.experiment = ""
        self.table, self.result = ipywidgets.HTML(), ipywidgets.HTML()
        self.first = ipywidgets.Dropdown(options=[LAST], description="Compare")
        self.second = ipywidgets.Dropdown(options=[CHAMPION], description="with")
        self.button = ipywidgets.Button(description="Compare", icon="columns")
        self.button.on_click(lambda _: self.compare())
        choice = ipywidgets.HBox([self.first, self.second, self.button], layout={"flex_flow": "row wrap"})
        self.errors = ipywidgets.VBox()
        self.view = ipywidgets.VBox([self.table, choice, self.result, self.errors])

    def show(self, experiment: str) -> None:
        """Show the runs of an experiment; none if empty."""
        if experiment != self.experiment:
            self.result.value, self.errors.children = "", ()
        self.experiment = experiment
        names = [row.run for row in list_runs(experiment, most=tables.MOST_RUNS)[0] if row.what == "run"]
        for picker, usual in ((self.first, LAST), (self.second, CHAMPION)):
            options, chosen = [LAST, CHAMPION, *names], picker.value
            if list(picker.options) != options:
                picker.options = options
                picker.value = chosen if chosen in options else usual
        self.table.value = tables.make_runs_table(experiment) if experiment else ""

    def fetch_metrics(self) -> None:
        """Show the runs with their metrics, which are in MLflow.

        Raises
        ------
        TrackingError
            The store does not respond.
        """
        if self.experiment and list_runs(self.experiment, most=1)[0]:
            # Imported here: MLflow takes a second, and a board is often opened only to run something.
            from labkit.run.records.run_search import find_holdout_metrics

            found = find_holdout_metrics(self.experiment)
            headlines = {run: show_metrics(metrics) for run, metrics in found.items()}
            self.table.value = tables.make_runs_table(self.experiment, headlines)

    def compare(self) -> None:
        """Show how the two chosen runs differ, as `labkit compare` does, with an explorer of their errors."""
        from labkit.stages.run_comparison import compare_runs
        from labkit.view.error_explorer import ErrorExplorer

        self.result.value, self.errors.children = tables.make_message("comparing …"), ()
        try:
            found = compare_runs(self.experiment, str(self.first.value), str(self.second.value))
            self.result.value = tables.make_comparison(found)
            if found.pair and not found.is_same_run:
                self.errors.children = (ErrorExplorer(found.pair.make_error_source(), kind="holdout").view,)
        except (LabkitError, OSError) as error:
            self.result.value = tables.make_message(str(error), is_error=True)


def show_metrics(metrics: dict[str, Any]) -> str:
    """Return metrics with their intervals, where they have one.

    >>> show_metrics({"mae": 41.3910, "mae_low": 35.38, "mae_high": 47.86})
    'mae 41.4 [35.4, 47.9]'
    """
    names = [name for name in metrics if f"{name}_low" in metrics and f"{name}_high" in metrics]
    return ", ".join(
        f"{name} {format_interval(metrics[name], metrics[f'{name}_low'], metrics[f'{name}_high'])}" for name in names
    )
