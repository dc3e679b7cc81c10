"""The summary of a notebook: checks, findings and one plot, shown below the set-up cell although computed last."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from IPython.display import HTML, Markdown, display
from markupsafe import Markup

from labkit.model.evaluation.checks import SIGNS, CheckResult, describe_counts, sort_by_weight
from labkit.view.style import Figure, show


class Concluding(Protocol):
    """The part of a step that a summary needs."""

    def conclude(self, findings: Sequence[str], checks: Sequence[Mapping[str, str]] = ()) -> None:
        """Record the findings and the results of the checks."""


# The display ids of `labkit.run.notebook.step`; the two agree by a test.
CHECKS_PLACE, FINDINGS_PLACE, PLOT_PLACE = "labkit-checks", "labkit-findings", "labkit-plot"


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
    if checks:
        display(HTML(render_checks(checks)), display_id=CHECKS_PLACE, update=True)
    if figure is not None:
        show(figure, place=PLOT_PLACE)
    step.conclude(kept, [check.to_dict() for check in checks])


def render_checks(checks: Sequence[CheckResult]) -> str:
    """Return checks as HTML: issues and warnings in full, the others folded."""
    ordered = sort_by_weight(checks)
    loud = [check for check in ordered if check.needs_attention]
    quiet = [check for check in ordered if not check.needs_attention]
    counts = Markup("<strong>Checks:</strong> {}").format(describe_counts(checks))
    lines = []
    if loud:
        items = [
            Markup('<li>{} <strong><a href="#{}">{} {}</a></strong>: {}. {} <em>{}</em></li>').format(
                SIGNS[check.status],
                check.anchor,
                check.code,
                check.title,
                check.evidence,
                check.consequence,
                check.remedy,
            )
            for check in loud
        ]
        lines = [Markup("<p>{}</p><ul>").format(counts), *items, Markup("</ul>")]
    if quiet:
        rows = [
            Markup('<tr><td>{}</td><td>{} {}</td><td><a href="#{}">{}</a></td><td>{}</td></tr>').format(
                check.code, SIGNS[check.status], check.status, check.anchor, check.title, check.evidence
            )
            for check in quiet
        ]
        head = Markup("<tr><th>Code</th><th>Status</th><th>Check</th><th>Evidence</th></tr>")
        lines += [
            Markup("<details><summary>{}</summary><table><thead>{}</thead><tbody>").format(
                describe_counts(quiet) if loud else counts, head
            ),
            *rows,
            Markup("</tbody></table></details>"),
        ]
    return str(Markup("\n").join(lines))
