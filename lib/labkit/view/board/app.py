"""The board as widgets: choose an experiment, run and stop stages, change parameters, compare runs.

Runs are child processes of the kernel, see `labkit.run.child_run`; a thread shows their progress. All that is shown is
computed in the other modules of this package; without widgets, `Board` is shown as static tables.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets

from labkit import paths
from labkit.errors import LabkitError
from labkit.params.load import list_experiments, load_params
from labkit.params.subject import Subject
from labkit.run.child_run import ChildRun
from labkit.run.pipeline.report_address import find_report, show_report
from labkit.run.records import recovery
from labkit.run.records.current_experiment import choose_experiment
from labkit.run.records.ledger import find_ledger_path
from labkit.view.board import tables
from labkit.view.board.form_panel import FormPanel
from labkit.view.board.runs_panel import RunsPanel
from labkit.view.board.state import BoardState, find_board_state, update_state

POLL_SECONDS = 0.5
LOG_LINES = 200
ALL_STAGES = "all stages"
TITLES = ("Pipeline", "Parameters", "Runs")


class Board:
    """The board of a checkout.

    Parameters
    ----------
    experiment
        The experiment to show first; if empty, that of `LABKIT_EXPERIMENT`, else the last one run, else the first.
    is_static
        Show tables instead of widgets, for a notebook that papermill executes.

    Raises
    ------
    ParamsError
        There is no such experiment.
    """

    latest: "Board | None" = None
    """The board made last in this kernel: an earlier one of the same kernel no longer follows what happens."""

    def __init__(self, experiment: str = "", *, is_static: bool = False) -> None:
        os.environ.update(paths.make_environment())
        names = list_experiments()
        if experiment not in ("", *names):
            load_params(experiment)
        self.is_static = is_static or paths.get_run_dir() is not None
        self.state: BoardState | None = None
        self.child: ChildRun | None = None
        self.log = ""
        self.seen: object = None
        self.lock = threading.RLock()
        self.make_widgets(names, experiment or (choose_experiment()[0] if names else ""))
        Board.latest = self
        self.refresh()
        if not self.is_static:
            threading.Thread(target=self.follow, daemon=True).start()

    @property
    def experiment(self) -> str:
        """Name of the experiment that is shown."""
        return str(self.picker.value or "")

    def make_widgets(self, names: list[str], chosen: str) -> None:
        """Make the widgets, and connect them."""
        self.picker = ipywidgets.Dropdown(options=names, value=chosen or None, description="Experiment")
        self.stage_picker = ipywidgets.Dropdown(options=[ALL_STAGES], description="Run")
        self.run_button = make_button("Run", "play", self.start)
        self.stop_button = make_button("Stop", "stop", self.stop)
        self.refresh_button = make_button("Refresh", "refresh", self.refresh)
        self.open_button = make_button("Open report", "external-link", self.open_report)
        self.message, self.question = ipywidgets.HTML(), ipywidgets.HTML()
        # An output, because JupyterLab resolves the links in one, unlike those in an HTML widget.
        self.pipeline = ipywidgets.Output()
        self.progress = ipywidgets.IntProgress(description="Progress", layout={"width": "60%"})
        self.progress_label, self.log_view = ipywidgets.HTML(), ipywidgets.HTML()
        self.form, self.runs = FormPanel(self.refresh), RunsPanel()
        first = ipywidgets.VBox(
            [self.pipeline, ipywidgets.HBox([self.progress, self.progress_label]), self.log_view],
        )
        tabs = ipywidgets.Tab([first, self.form.view, self.runs.view], titles=TITLES)
        buttons = [self.picker, self.stage_picker, self.run_button, self.stop_button, self.refresh_button]
        row = ipywidgets.HBox([*buttons, self.open_button], layout={"flex_flow": "row wrap"})
        self.app = ipywidgets.VBox([row, self.question, self.message, tabs])
        self.picker.observe(lambda _: self.refresh(), names="value")
        tabs.observe(lambda change: self.show_runs(change["new"]), names="selected_index")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Return the widgets, beside tables for what cannot show them."""
        with self.lock:
            static = {"text/html": self.make_static(), "text/plain": f"Board({self.experiment!r})"}
        return static if self.is_static else {**self.app._repr_mimebundle_(**options), **static}

    def make_static(self) -> str:
        """Return the same state without widgets."""
        if self.state is None:
            return str(self.message.value)
        shown = tables.make_pipeline_graph(self.state) + tables.make_stage_table(self.state)
        return f"{self.question.value}{self.message.value}{shown}<h3>Runs</h3>{self.runs.table.value}"

    def try_to(self, act: Callable[[], Any]) -> bool:
        """Do something and show its error instead of a traceback; return whether it succeeded."""
        try:
            act()
        except (LabkitError, OSError) as error:
            self.message.value = tables.make_message(str(error), is_error=True)
            return False
        return True

    def refresh(self) -> None:
        """Show the state of the chosen experiment; an error in its params file is shown instead."""
        with self.lock:
            self.message.value, self.seen = "", find_marks()
            if not self.try_to(self.look):
                self.state = None
                self.question.value, self.pipeline.outputs, self.stage_picker.options = "", (), [ALL_STAGES]
            self.try_to(lambda: self.form.show(self.experiment if self.state else ""))
            self.try_to(lambda: self.runs.show(self.experiment if self.state else ""))
            self.draw()

    def look(self) -> None:
        """Find the state of the chosen experiment, after closing the records of runs that were killed."""
        with suppress(LabkitError):
            recovery.close_gone(lambda line: setattr(self.message, "value", tables.make_message(line)))
        question = Subject.from_params(load_params(self.experiment)).question
        self.state = find_board_state(self.experiment)
        self.question.value = f"<strong>{escape(question)}</strong>"
        names, chosen = [ALL_STAGES, *(stage.stage for stage in self.state.stages)], self.stage_picker.value
        if list(self.stage_picker.options) != names:
            self.stage_picker.options = names
            self.stage_picker.value = chosen if chosen in names else ALL_STAGES

    def draw(self) -> None:
        """Show the state and the log."""
        is_running = self.child is not None
        self.run_button.disabled, self.stop_button.disabled = is_running or self.state is None, not is_running
        if self.state is not None:
            under_way = f"<p>Under way: {escape(self.state.under_way)}</p>" if self.state.under_way else ""
            content = under_way + tables.make_pipeline_graph(self.state) + tables.make_stage_table(self.state)
            found = {"output_type": "display_data", "data": {"text/html": content}, "metadata": {}}
            if self.pipeline.outputs != (found,):
                self.pipeline.outputs = (found,)
        self.log_view.value = tables.make_log(self.log.splitlines()[-LOG_LINES:])

    def start(self) -> None:
        """Run the chosen stage, or all; a run that is under way elsewhere is not waited for."""
        with self.lock:
            if self.child is not None:
                return
            chosen = self.stage_picker.value
            only = [] if chosen == ALL_STAGES else ["--until", chosen, "--force", chosen]
            self.log, self.message.value = "", ""
            if self.try_to(lambda: setattr(self, "child", ChildRun(["run", self.experiment, "--no-wait", *only]))):
                assert self.child
                self.log = f"{self.child.command}   (process {self.child.process.pid})\n"
                self.progress.max = 1 if only else max(1, len(self.stage_picker.options) - 1)
                self.progress.value, self.progress.bar_style = 0, ""
                self.progress_label.value = "starting"
            self.draw()

    def stop(self) -> None:
        """Interrupt the run that this board started; finished stages are kept."""
        with self.lock:
            if self.child is not None:
                self.child.stop()
                self.progress_label.value = "stopping"

    def follow(self) -> None:
        """Show what happens in the checkout until another board of this kernel takes over."""
        wait = threading.Event()
        while Board.latest is self:
            with suppress(Exception):  # of a kernel that is shutting down
                self.update()
            wait.wait(POLL_SECONDS)

    def update(self) -> None:
        """Show what is new since the last call: the output of the run, its progress, and what the ledger says."""
        with self.lock:
            child, marks = self.child, find_marks()
            code = child.exit_code if child else None
            new = child.read_new() if child else ""
            self.log += new
            if child and code is not None:
                self.child = None
                self.refresh()
                self.show_end(child.command, code)
            elif new or marks != self.seen:
                self.seen = marks
                was_under_way = bool(self.state and self.state.under_way)
                self.try_to(self.overlay)
                if was_under_way and child is None and self.state and not self.state.under_way:
                    self.refresh()
                self.draw()

    def overlay(self) -> None:
        """Update the state from the ledger, and the progress from it."""
        if self.state is None:
            return
        self.state = update_state(self.state)
        if self.child and (lines := self.log.strip().splitlines()):
            self.progress_label.value = escape(lines[-1].strip()[:120])
            self.progress.value = min(self.progress.max, sum(" ran   " in line for line in lines))

    def show_end(self, command: str, code: int) -> None:
        """Show how a run ended."""
        endings = {0: "finished", 130: "stopped; finished stages are kept"}
        ending = endings.get(code, f"failed with exit code {code}")
        self.progress.value, self.progress.bar_style = self.progress.max, "success" if code == 0 else "danger"
        self.progress_label.value = ending
        last = [line for line in self.log.splitlines() if line.startswith("labkit: ")]
        message = f"{command}: {ending}" + (f"\n{last[-1]}" if last and code not in endings else "")
        self.message.value = tables.make_message(message, is_error=code not in endings)
        self.draw()

    def open_report(self) -> None:
        """Open the report of the experiment in the browser, or show where it is."""

        def show() -> None:
            path: Path = find_report(self.experiment)
            if not show_report(path):
                self.message.value = tables.make_message(f"Report: {paths.show_path(path)}")

        self.try_to(show)

    def show_runs(self, index: int | None) -> None:
        """Fetch the metrics of the runs when their tab is opened: that takes seconds."""
        if index == TITLES.index("Runs") and self.state is not None:
            self.try_to(self.runs.fetch_metrics)


def find_marks() -> object:
    """Return what changes with every line of the ledger."""
    path = find_ledger_path()
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


def make_button(label: str, icon: str, act: Callable[[], None]) -> ipywidgets.Button:
    """Return a button."""
    button = ipywidgets.Button(description=label, icon=icon, layout={"width": "auto"})
    button.on_click(lambda _: act())
    return button
