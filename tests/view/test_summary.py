"""The summary that a notebook shows below its set-up cell."""

from typing import Any

import pytest
from labkit.checks import CheckResult, render_checks
from labkit.run.notebook import step
from labkit.view import summary


class Recorder:
    """A step that keeps what it is given."""

    def conclude(self, findings: Any, checks: Any = ()) -> None:
        self.findings, self.checks = findings, checks


def test_places_are_those_of_the_step() -> None:
    ours = (summary.CHECKS_PLACE, summary.FINDINGS_PLACE, summary.PLOT_PLACE)
    assert ours == (step.CHECKS_PLACE, step.FINDINGS_PLACE, step.PLOT_PLACE)


def test_findings_and_checks_are_shown_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, str] = {}

    kept: dict[str, Any] = {}

    def keep(content: Any, *, display_id: str, update: bool, metadata: Any = None) -> None:
        assert update
        shown[display_id] = content.data
        kept[display_id] = metadata

    monkeypatch.setattr(summary, "display", keep)
    checks = [CheckResult("LK506", "warning", "roc_auc <b>0.68</b>"), CheckResult("LK501", "passed", "gain of 0.2")]
    recorder = Recorder()
    summary.show_summary(recorder, "roc_auc 0.68", "", "No group stands out.", checks=checks)
    assert shown[summary.FINDINGS_PLACE] == "- roc_auc 0.68\n- No group stands out."
    html = shown[summary.CHECKS_PLACE]
    assert "1 warning, 1 passed" in html
    assert "&lt;b&gt;0.68" in html
    first, passed = html.split("</details>")[:2]
    line, folded = first.split("</summary>")
    assert "LK506" in line
    assert "roc_auc" in line, "the evidence is seen at once, what follows from it is folded"
    assert "The cross-validated metric was too optimistic" in folded
    assert "LK501" in passed
    assert 'href="#How-good-it-is"' in html
    assert recorder.findings == ["roc_auc 0.68", "No group stands out."]
    assert [check["code"] for check in recorder.checks] == ["LK506", "LK501"]
    assert kept[summary.CHECKS_PLACE] == {"labkit-checks": recorder.checks}


def test_counts_are_shown_once_if_all_checks_passed() -> None:
    html = render_checks([CheckResult("LK501", "passed", "gain of 0.2")])
    assert html.count("1 passed") == 1
    assert "<ul>" not in html
