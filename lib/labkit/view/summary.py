"""The summary of a notebook: checks, findings and one plot, shown below the set-up cell although computed last."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from IPython.display import HTML, Markdown, display

from labkit.checks import CHECKS, CheckResult, render_checks
from labkit.view.style import Figure, show


class Concluding(Protocol):
    """The part of a step that a summary needs."""

    def conclude(self, findings: Sequence[str], checks: Sequence[Mapping[str, str]] = ()) -> None:
        """Record the findings and the results of the checks."""


# The display ids of `labkit.run.notebook.step`; the two agree by a test.
CHECKS_PLACE, FINDINGS_PLACE, PLOT_PLACE = CHECKS, "labkit-findings", "labkit-plot"


def show_summary(
    step: Concluding, *findings: str, figure: Figure | None = None, checks: Sequence[CheckResult] = ()
) -> None:
    """Show findings, checks and the most telling plot below the set-up cell, and record them.

    Parameters
    ----------
    findings
        Markdown sentences with computed numbers, the most important first; empty ones are left out.
    figure
        The plot that supports the first finding.
    checks
        Results of this notebook's checks.
    """
    kept = [finding for finding in findings if finding]
    display(Markdown("\n".join(f"- {finding}" for finding in kept)), display_id=FINDINGS_PLACE, update=True)
    results = [check.to_dict() for check in checks]
    if checks:
        # None is muted here: `labkit.run.reports.checks_on_page` mutes them on the page.
        display(HTML(render_checks(checks)), display_id=CHECKS_PLACE, update=True, metadata={CHECKS: results})
    if figure is not None:
        show(figure, place=PLOT_PLACE)
    step.conclude(kept, results)
