"""The error explorer: groups of rows on which two models, or two periods, differ; static in a batch run."""

from collections.abc import Mapping
from typing import Any

import ipywidgets
import pandas as pd
from markupsafe import Markup

from labkit import paths
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.by_period import FEWEST_ROWS_OF_PERIOD
from labkit.model.evaluation.error_comparison import ALL_ROWS, ErrorComparison, ErrorSource
from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_confidence, format_count, format_difference
from labkit.view.evaluation_plots import draw_slices
from labkit.view.prose import render_table, report, shorten_name, show_table
from labkit.view.raw_rows import format_rows
from labkit.view.style import BLUE, ORANGE, WIDTH_PIXELS, Figure, make_note, render_figure, show

EVERY_COLUMN, NO_COLUMN = "every column by itself", "–"
SAME = "Both sides are the same: choose another model or other rows for one of them."
MOST_DRAWN, MOST_LISTED, MOST_ROWS = 6, 40, 10
"""Groups in the plot, groups in the list, and rows of the chosen group."""


def explore_errors(
    models: Mapping[str, Predictions],
    frame: pd.DataFrame,
    *,
    blocks: Blocks,
    confidence: float,
    subject: Subject = GENERIC,
    kind: str = "holdout",
) -> ipywidgets.VBox | None:
    """Return the error explorer; in a batch run show two comparisons instead and return None.

    The two are the first model against the second on all rows and, where rows have a time, the first model in the
    latest period against all other rows.

    Parameters
    ----------
    models
        Predictions of the same rows by model, the one to examine first.
    frame
        Raw rows, shape (n_rows, n_columns), without the target.
    blocks
        Blocks of rows that are not independent of each other.
    confidence
        One minus the accepted false discovery rate.
    kind
        Word before the rows, e.g. the part of the split that they are from.
    """
    return explore_source(ErrorSource(models, frame, blocks, confidence, subject), kind=kind)


def explore_source(source: ErrorSource, *, kind: str = "") -> ipywidgets.VBox | None:
    """Return the error explorer of a source; in a batch run show its comparisons instead and return None."""
    if paths.get_run_dir() is None:
        return ErrorExplorer(source, kind=kind).view
    for first, second in list_static_comparisons(source):
        found = source.compare(first, second, loss=next(iter(source.losses)))
        if found is not None:
            show(plot_error_comparison(found, source.subject))
            report(found.describe(source.subject, kind=kind))
            show_table(tabulate_comparison(found).head(MOST_ROWS), empty="No group has enough rows.")
    return None


def list_static_comparisons(source: ErrorSource) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Return the comparisons of a batch run: of the two first models, and of the latest period with enough rows."""
    names = list(source.models)
    pairs = [((names[0], ALL_ROWS), (names[1], ALL_ROWS))] if len(names) > 1 else []
    latest = [name for name, rows in source.periods.items() if len(rows) >= FEWEST_ROWS_OF_PERIOD]
    return pairs + [((names[0], name), (names[0], ALL_ROWS)) for name in latest[-1:]]


class ErrorExplorer:
    """Choices of what to compare on which groups, their table and plot, and the rows of the chosen group.

    Parameters
    ----------
    kind
        Word before the rows, e.g. the part of the split that they are from.
    """

    def __init__(self, source: ErrorSource, *, kind: str = "") -> None:
        self.source, self.kind = source, kind
        self.found: ErrorComparison | None = None
        models, periods = list(source.models), [ALL_ROWS, *source.periods]
        self.first, self.second = make_list("Model", models), make_list("against", models)
        self.second.value = models[min(1, len(models) - 1)]
        self.first_rows, self.second_rows = make_list("on", periods), make_list("on", periods)
        if len(models) == 1 and len(periods) > 1:
            self.first_rows.value = periods[-1]
        self.loss = make_list("Error", list(source.losses))
        self.column = make_list("Groups of", [EVERY_COLUMN, *source.bins])
        self.other = make_list("and", [NO_COLUMN, *source.bins])
        self.result, self.rows = ipywidgets.HTML(), ipywidgets.HTML()
        self.groups = ipywidgets.Select(description="Rows of", rows=8, layout={"width": f"{WIDTH_PIXELS}px"})
        for picker in (
            self.first, self.first_rows, self.second, self.second_rows, self.loss, self.column, self.other,
        ):  # fmt: skip
            picker.observe(lambda _: self.draw(), names="value")
        self.groups.observe(lambda _: self.show_rows(), names="index")
        wrapped = {"flex_flow": "row wrap"}
        sides = [self.first, self.first_rows, self.second, self.second_rows]
        self.view = ipywidgets.VBox(
            [
                ipywidgets.HBox(sides, layout=wrapped),
                ipywidgets.HBox([self.loss, self.column, self.other], layout=wrapped),
                self.result,
                self.groups,
                self.rows,
            ]
        )
        self.draw()

    def draw(self) -> None:
        """Compare what is chosen, and list the groups; a second column can be chosen only beside a first."""
        self.other.disabled = self.column.value == EVERY_COLUMN
        if self.other.disabled and self.other.value != NO_COLUMN:
            # Its observer calls this method again.
            self.other.value = NO_COLUMN
            return
        chosen = [name for name in (self.column.value, self.other.value) if name not in (EVERY_COLUMN, NO_COLUMN)]
        self.found = self.source.compare(
            (self.first.value, self.first_rows.value),
            (self.second.value, self.second_rows.value),
            loss=self.loss.value,
            columns=list(dict.fromkeys(chosen)),
        )
        self.result.value = render_errors(self.found, self.source.subject, kind=self.kind)
        table = pd.DataFrame({"slice": [], "rows": []}) if self.found is None else self.found.table.head(MOST_LISTED)
        self.groups.options = [
            (f"{shorten_name(group, 70)} · {format_count(n_rows, 'row')}", number)
            for number, (group, n_rows) in enumerate(zip(table["slice"], table["rows"], strict=True))
        ]
        self.groups.index = 0 if len(table) else None
        self.show_rows()

    def show_rows(self) -> None:
        """Show the rows of the chosen group on which the first side does worst."""
        line = self.groups.value
        if self.found is None or line is None:
            self.rows.value = ""
            return
        shown = self.found.list_rows(line, self.source.frame, most=MOST_ROWS)
        group, n_rows = self.found.table["slice"][line], self.found.table["rows"][line]
        if shown.empty:
            self.rows.value = Markup("<p>{}: these {} are not known, only their errors.</p>").format(
                group, self.found.first.name
            )
            return
        worst = describe_worst(self.found, shown)
        caption = f"{group}: {len(shown)} of {format_count(n_rows, 'row')} of {self.found.first.name}, {worst}."
        raw = format_rows(self.source.frame.loc[shown.index], self.source.subject)
        shown["true"] = [str(self.source.subject.name_class(value)) for value in shown["true"]]
        table = pd.concat([shown, raw], axis=1).rename_axis("row").reset_index()
        table["row"] = table["row"].map(str)
        self.rows.value = Markup('<div aria-live="polite"><p>{}</p>{}</div>').format(caption, make_scroll(table))


def describe_worst(found: ErrorComparison, shown: pd.DataFrame) -> str:
    """Return which rows of a group are shown, those on which the first side does worst; see `list_rows`."""
    if not found.is_paired:
        return "with its largest errors"
    first, second = (shown[f"{found.loss}, {side.name}"] for side in found.sides)
    loses = bool((first > second).any())
    return (
        "where it loses most to the other" if loses else "where its lead over the other is smallest; it loses on none"
    )


def make_list(description: str, options: list[str]) -> ipywidgets.Dropdown:
    """Return a list to choose from."""
    return ipywidgets.Dropdown(
        options=[(shorten_name(name, 40), name) for name in options], value=options[0], description=description
    )


def render_errors(found: ErrorComparison | None, subject: Subject, *, kind: str) -> str:
    """Return a comparison as HTML: what was measured, plot and table."""
    if found is None:
        return Markup('<p role="status">{}</p>').format(SAME)
    table = tabulate_comparison(found).head(MOST_LISTED)
    drawn = Markup(render_figure(plot_error_comparison(found, subject)))
    return Markup('<div aria-live="polite"><p>{}</p>{}{}</div>').format(
        found.describe(subject, kind=kind), drawn, make_scroll(table, height="22em")
    )


def make_scroll(table: pd.DataFrame, *, height: str = "none") -> Markup:
    """Return a table as HTML in a box that scrolls."""
    look = f"overflow: auto; max-height: {height}"
    return Markup('<div style="{}" tabindex="0" role="group" aria-label="Table">{}</div>').format(
        look, Markup(render_table(table))
    )


def tabulate_comparison(found: ErrorComparison) -> pd.DataFrame:
    """Return the groups of a comparison for readers, with the names of both sides."""
    table, (first, second) = found.table, (side.name for side in found.sides)
    counts: dict[str, Any] = {"rows": table["rows"]}
    if not found.is_paired:
        counts = {f"rows, {first}": table["rows"], f"rows, {second}": table["rows_second"]}
    values = {first: table["first"], second: table["second"]}
    ends = [format_difference(*ends) for ends in zip(table["difference"], table["low"], table["high"], strict=True)]
    return pd.DataFrame({"group": table["slice"], **counts, **values, "difference": ends, "total": table["total"]})


def plot_error_comparison(found: ErrorComparison, subject: Subject = GENERIC) -> Figure:
    """Draw the difference of the mean losses, with its interval, in the groups that matter most.

    Returns
    -------
    Figure
        A note where no group differs beyond random variation.
    """
    title = f"Errors by group: {found.first.name} against {found.second.name}"
    certain = found.table[found.table["is_certain"]]
    if certain.empty:
        return make_note(title, f"No group of {subject.rows} differs beyond random variation.")
    most = certain.loc[certain["total"].abs().sort_values(ascending=False, kind="stable").index].head(MOST_DRAWN)
    shown = most.sort_values("total", ascending=False, kind="stable")
    n_worse = int((certain["difference"] > 0).sum())
    fact = f"The errors of {found.first.name} are larger in {format_count(n_worse, 'group')} and smaller in "
    fact += f"{len(certain) - n_worse:,}. Drawn are those with the largest difference in total."
    intervals = [Interval(*ends) for ends in zip(shown["difference"], shown["low"], shown["high"], strict=True)]
    colors = [ORANGE if one.value > 0 else BLUE for one in intervals]
    unit = f"difference of the mean {found.loss}, with {format_confidence(found.confidence)} interval"
    return draw_slices(title, fact, shown["slice"].tolist(), intervals, colors=colors, unit=unit)
