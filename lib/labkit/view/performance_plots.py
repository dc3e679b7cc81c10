"""Plots of a model in service where true values are known: its errors now against those on the holdout."""

import pandas as pd

from labkit.model.evaluation.bootstrap import Interval
from labkit.monitoring.performance import Performance
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_column, format_confidence, format_count
from labkit.view.evaluation_plots import draw_slices
from labkit.view.style import ORANGE, Figure, make_note

MOST_DRAWN = 6


def plot_worse_groups(found: Performance, *, confidence: float, subject: Subject = GENERIC) -> Figure:
    """Draw by how much the mean loss of groups of rows is larger than on the holdout, with its interval.

    Returns
    -------
    Figure
        A note where no group got worse, or none could be compared.
    """
    title = "Groups with larger errors than on the holdout"
    if found.worse is None:
        return make_note(title, "Not compared: it needs true values of enough rows, and the losses of the holdout.")
    if not found.worse:
        return make_note(title, f"No group of {subject.rows} has larger errors, beyond random variation.")
    shown, first = found.worse[:MOST_DRAWN], found.worse[0]
    rows = subject.count_rows(first.rows)
    values = "a mean loss of {} against {} on the holdout".format(*format_column([first.loss, first.before]))
    fact = f"{format_count(len(found.worse), 'group')}. Largest increase: {first.group}, with {rows} and {values}."
    intervals = [Interval(one.loss - one.before, one.low, one.high) for one in shown]
    unit = f"increase of the mean loss, with {format_confidence(confidence)} interval"
    colors = [ORANGE] * len(shown)
    figure = draw_slices(title, fact, [one.group for one in shown], intervals, colors=colors, unit=unit)
    figure.table = pd.DataFrame([vars(one) for one in shown])
    return figure
