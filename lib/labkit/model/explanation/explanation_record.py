"""What the page about explanation found, in the layout of `explanation.json`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from labkit.checks import CheckResult
from labkit.model.evaluation.record import round_all
from labkit.model.explanation.shapley import Explanation
from labkit.model.explanation.telling_rows import TellingRow


def make_explanation_record(
    explained: Sequence[Explanation],
    telling: Mapping[TellingRow, Explanation],
    dependences: Mapping[str, pd.DataFrame],
    *,
    index: pd.Index,
    confidence: float,
    checks: Sequence[CheckResult],
) -> dict[str, Any]:
    """Return what was found as plain data, floats rounded to nine significant digits.

    Parameters
    ----------
    explained
        Explanations of the rows drawn at random.
    telling
        Explanations of the telling rows.
    dependences
        As `labkit.model.explanation.partial_dependence.compute_dependences` returns them.
    index
        Index of all rows that telling rows were chosen from.

    Returns
    -------
    dict
        `rows` and `background_rows`, how many were used; `confidence`; `telling_rows`, each with `title`, `row`,
        `base`, `prediction` and `contributions` by column, a number for each output; `dependences` by column; `checks`.
    """
    rows = [
        {
            "title": one.title,
            "row": str(index[one.place]),
            "base": found.base.tolist(),
            "prediction": found.prediction.tolist(),
            "contributions": dict(zip(found.columns, found.contributions.tolist(), strict=True)),
        }
        for one, found in telling.items()
    ]
    content = {
        "rows": len(explained),
        "background_rows": explained[0].n_background,
        "confidence": confidence,
        "telling_rows": rows,
        "dependences": {name: json.loads(table.to_json(orient="records")) for name, table in dependences.items()},
        "checks": [check.to_dict() for check in checks],
    }
    rounded: dict[str, Any] = round_all(content)
    return rounded
