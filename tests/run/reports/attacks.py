"""Notebook outputs that try to run script or reach the network."""

from typing import Any

from labkit.run.reports.render import ReportHeader

ATTACK = "document.documentElement.setAttribute('hacked','1')"


PAYLOAD = f'"><script>{ATTACK}</script><img src=x onerror="{ATTACK}"><svg onload="{ATTACK}"></svg>'


ELSEWHERE = "http://127.0.0.1:9/elsewhere"


def make_header(**changes: Any) -> ReportHeader:
    plain: dict[str, Any] = {
        "experiment": "diabetes",
        "stage": "training",
        "title": "Which model?",
        "status": "finished",
        "started": "2026-11-24T10:11:12+00:00",
        "seconds": 12.34,
        "run_id": "9f1c2b3a",
        "git_commit": "a1b2c3d4e5f60718293a",
        "parameters": [("folds", 5, "params/diabetes.yaml")],
    }
    return ReportHeader(**{**plain, **changes})
