"""The result of a sweep: its points ranked by the metric of training, kept as JSON and shown as a page."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError, list_briefly
from labkit.model.evaluation.metrics import is_greater_better
from labkit.names import escape
from labkit.params.experiment import Params
from labkit.run.reports.render import render_page
from labkit.storage.atomic import parse_json, write_json
from labkit.storage.digests import digest
from labkit.sweep.nodes import find_sweeps_dir
from labkit.units import format_count, format_deviation, format_duration, format_interval, format_number

if TYPE_CHECKING:
    from labkit.sweep.sweep import Sweep

LATEST = "latest.json"
BEST = "best"
NOT_RUN = "not run"
REFOLDED = ("seed", "training", "training.folds", "training.repeats", "training.most_rows")
"""Params that change which rows a fold has."""


@dataclass(frozen=True)
class Row:
    """One point of a sweep.

    Attributes
    ----------
    settings
        What it set, each `section.field=value`.
    params
        Digest of all its params.
    failure
        Why it stopped; empty if it did not.
    is_done
        Whether all its stages are done.
    score, deviation
        Mean and standard deviation of the metric over the folds of cross-validation; None without training.
    validation
        The metric on the validation rows; None without training.
    holdout
        The metric on the holdout rows and its confidence interval; empty if the sweep stopped before.
    keys
        The node of each stage.
    seconds
        How long its stages took, those that it shares with other points included.
    """

    number: int
    settings: tuple[str, ...]
    params: str = ""
    failure: str = ""
    is_done: bool = False
    score: float | None = None
    deviation: float | None = None
    validation: float | None = None
    holdout: tuple[float, ...] = ()
    keys: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def state(self) -> str:
        """How far it came, as a word or two."""
        return "failed" if self.failure else "done" if self.is_done else NOT_RUN

    def describe_score(self) -> str:
        """Return the metric in cross-validation with its deviation."""
        return "" if self.score is None else format_deviation(self.score, self.deviation or 0.0)

    def describe_holdout(self) -> str:
        """Return the metric on the holdout rows with its interval."""
        return format_interval(*self.holdout) if len(self.holdout) == 3 else ""


@dataclass(frozen=True)
class Result:
    """The result of a sweep.

    Attributes
    ----------
    run
        Its name in the ledger.
    rows
        Its points, the best first; those without a score last, in the order of their numbers.
    n_ran
        Number of stages that it ran; all others were done before, or shared.
    n_trials, n_left
        Number of points that Optuna was asked to propose, repeated ones included, and of those without a result yet; 0
        without a search.
    """

    run: str
    experiment: str
    metric: str
    until: str
    rows: tuple[Row, ...]
    n_ran: int
    n_trials: int = 0
    n_left: int = 0

    def find_row(self, word: str) -> Row:
        """Return a point by its number, or the best one.

        Raises
        ------
        ParamsError
            There is no such point, none has a score, or the best one is not known yet.
        """
        done = [row for row in self.rows if row.is_done]
        if word == BEST:
            if n_left := self.n_left or sum(row.state == NOT_RUN for row in self.rows):
                n_all = self.n_trials or len(self.rows)
                raise ParamsError(
                    f"--adopt {BEST}: {n_left:,} of {format_count(n_all, 'point')} of {self.run} are not run: "
                    "run the same sweep again, which continues it, or adopt a point by its number"
                )
            if not done or done[0].score is None:
                raise ParamsError(f"no point of {self.run} has a score yet: labkit sweep {self.experiment} -S …")
            return done[0]
        found = [row for row in done if str(row.number) == word]
        if not found:
            numbers = sorted(row.number for row in done)
            raise ParamsError(
                f"--adopt {make_printable(word)}: not a point of the latest sweep that is done: use {BEST} or one of "
                f"{list_briefly(map(str, numbers)) or 'none yet'}"
            )
        return found[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)

    def describe(self) -> str:
        """Return what was run and what the points are ranked by, as a sentence."""
        n_done = sum(row.is_done for row in self.rows)
        proposed = f" Optuna made {self.n_trials - self.n_left} of {format_count(self.n_trials, 'proposal')}."
        return (
            f"{n_done} of {format_count(len(self.rows), 'point')} done up to {self.until}; "
            f"{format_count(self.n_ran, 'stage')} ran, all others were shared or done before."
            + (proposed if self.n_trials else "")
        )

    def describe_choice(self) -> str:
        """Return what limits the score of the best point; empty if there is no choice."""
        n_scored = sum(row.is_done and row.score is not None for row in self.rows)
        if n_scored < 2:
            return ""
        warning = (
            f"The best of {n_scored:,} points was chosen by its score, so this score is optimistic, in "
            "cross-validation too: judge the point by the holdout rows after adopting it."
        )
        if any(name in REFOLDED for name in self.list_names()):
            warning += " Different seeds or folds are also scored on different parts of the rows."
        return warning

    def list_columns(self) -> list[str]:
        """Return the headings of the table of points."""
        measured = [f"{self.metric} in cross-validation"] if any(row.score is not None for row in self.rows) else []
        held = ["on holdout rows"] if any(row.holdout for row in self.rows) else []
        return ["point", *self.list_names(), *measured, *held, "state", "time"]

    def list_names(self) -> list[str]:
        """Return the parameters that the points set."""
        return [setting.partition("=")[0] for setting in self.rows[0].settings] if self.rows else []

    def list_cells(self) -> list[list[str]]:
        """Return the cells of the table of points."""
        columns = self.list_columns()
        cells = []
        for row in self.rows:
            shown = [str(row.number), *(setting.partition("=")[2] for setting in row.settings)]
            shown += [row.describe_score()] if len(columns) > len(shown) + 2 else []
            shown += [row.describe_holdout()] if "on holdout rows" in columns else []
            cells.append([*shown, row.state, format_duration(row.seconds)])
        return cells


def make_sweep_result(sweep: "Sweep", run: str, metric: str, *, n_trials: int | None = None) -> Result:
    """Return the result of a sweep as far as it has come; `n_trials` are the proposals asked for."""
    rows = []
    for one in sweep.progressions:
        found = one.metrics
        held = [
            found[name]
            for name in (f"holdout_{metric}", f"holdout_{metric}_low", f"holdout_{metric}_high")
            if name in found
        ]
        rows.append(
            Row(
                one.point.number,
                one.point.settings,
                params=compute_params_digest(one.point.params),
                failure=one.failure,
                is_done=len(one.nodes) == len(sweep.stages),
                score=found.get(f"cv_{metric}"),
                deviation=found.get(f"cv_{metric}_std"),
                validation=found.get(f"validation_{metric}"),
                holdout=tuple(held),
                keys={stage: node.key for stage, node in one.nodes.items()},
                seconds=sum(node.seconds for node in one.nodes.values()),
            )
        )
    ranked = tuple(rank_points(rows, is_greater=is_greater_better(metric)))
    n_left = (n_trials or 0) - sweep.n_proposed
    return Result(
        run, sweep.experiment, metric, sweep.stages[-1], ranked, len(sweep.ran), n_trials=n_trials or 0, n_left=n_left
    )


def compute_params_digest(params: Params) -> str:
    """Return the digest of all params, however the file writes them."""
    return digest([json.dumps(params.model_dump(mode="json"), sort_keys=True)])


def rank_points(rows: Sequence[Row], *, is_greater: bool) -> list[Row]:
    """Return the points, the best in cross-validation first; the holdout rows never decide.

    Points without a score, or that did not finish, come last, in the order of their numbers.
    """
    sign = -1 if is_greater else 1

    def make_key(row: Row) -> tuple[bool, float, int]:
        is_ranked = row.is_done and row.score is not None
        return (not is_ranked, sign * (row.score or 0.0) if is_ranked else 0.0, row.number)

    return sorted(rows, key=make_key)


def find_page(experiment: str) -> Path:
    """Return the page of the latest sweep, whether or not it exists."""
    return paths.find_reports_dir(experiment) / "sweep" / "index.html"


def save_result(result: Result) -> None:
    """Keep a result as the latest one, and write its page."""
    write_json(find_sweeps_dir(result.experiment) / LATEST, result.to_dict())
    headings, cells = result.list_columns(), result.list_cells()
    lines = [
        *describe_best_point(result),
        "",
        draw_points(result),
        "",
        result.describe_choice(),
        "",
        "## Points",
        "",
        result.describe(),
        "",
        "The points are ranked by the mean over the folds of cross-validation, shown with the standard deviation: the "
        "holdout rows have no part in the choice.",
        "",
        f"| {' | '.join(map(escape, headings))} |",
        f"|{'---|' * len(headings)}",
        *(f"| {' | '.join(map(escape, row))} |" for row in cells),
        "",
    ]
    lines += [
        f"- Point {row.number} failed: {escape(row.failure.splitlines()[0])}" for row in result.rows if row.failure
    ]
    render_page(
        find_page(result.experiment), title=f"{result.experiment}: a sweep", markdown="\n".join(lines), run=result.run
    )


def describe_best_point(result: Result) -> list[str]:
    """Return the best point and what it beats, as paragraphs; none without a score."""
    ranked = [row for row in result.rows if row.is_done and row.score is not None]
    if not ranked:
        return []
    best, *others = ranked
    lines = [
        f"**Point {best.number} is the best, with {escape(', '.join(best.settings))}: {escape(result.metric)} "
        f"{best.describe_score()}** in cross-validation."
    ]
    if best.validation is not None:
        lines[0] += (
            f" On the validation rows, which had no part in the choice, it has {format_number(best.validation)}."
        )
    if others:
        margin = best.deviation or 0.0
        close = [row.number for row in others if abs((row.score or 0.0) - (best.score or 0.0)) <= margin]
        lines += [
            "",
            f"It is ahead of {len(others) - len(close)} of {format_count(len(others), 'other point')} by more than the "
            "standard deviation over its folds."
            + (f" It is not shown to be better than {name_points(sorted(close))}." if close else ""),
        ]
    return lines


def name_points(numbers: Sequence[int]) -> str:
    """Return the numbers of points as words.

    >>> name_points([2]), name_points([2, 5])
    ('point 2', 'points 2 and 5')
    """
    from labkit.view.prose import join_names

    return f"{'point' if len(numbers) == 1 else 'points'} {join_names(numbers, most=6)}"


def draw_points(result: Result) -> str:
    """Return the plot of the points as HTML; empty if fewer than two have a score."""
    ranked = [row for row in result.rows if row.is_done and row.score is not None]
    if len(ranked) < 2:
        return ""
    import pandas as pd

    from labkit.view.style import render_figure
    from labkit.view.sweep_plots import plot_points_of_sweep

    values = [[setting.partition("=")[2] for setting in row.settings] for row in ranked]
    points = pd.DataFrame(values, columns=result.list_names(), index=[row.number for row in ranked])
    return render_figure(plot_points_of_sweep(points, [row.score or 0.0 for row in ranked], result.metric))


def load_result(experiment: str) -> Result:
    """Return the latest result.

    Raises
    ------
    ParamsError
        There is none, or it is damaged.
    """
    path = find_sweeps_dir(experiment) / LATEST
    try:
        content = parse_json(path.read_bytes())
        rows = tuple(
            Row(**{**row, "settings": tuple(row["settings"]), "holdout": tuple(row["holdout"])})
            for row in content["rows"]
        )
        return Result(**{**content, "rows": rows})
    except FileNotFoundError as error:
        raise ParamsError(
            f"{experiment}: no sweep yet: labkit sweep {experiment} -S section.field=value,value"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ParamsError(f"{paths.show_path(path)}: damaged: run the sweep again, what is done is kept") from error
