"""Champion and challenger are compared on the rows that both predicted, and on those only."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import ParamsError
from labkit.monitoring.shadow_comparison import compare_shadow, measure_mean

from tests.conftest import ROOT

PARAMS: Any = SimpleNamespace(experiment="shop", data=SimpleNamespace(target=SimpleNamespace(positive="yes")))
RNG = np.random.default_rng(0)
SHARES = RNG.uniform(0.1, 0.8, 200)


def write_lines(path: Path, lines: list[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_line(number: int, share: float, version: int, **extra: Any) -> dict[str, Any]:
    """Return the line of one row: two rows per request."""
    return {
        "id": f"{number // 2:020x}-{number % 2}", "time": f"2026-11-29T10:{number // 60:02}:{number % 60:02}.000+00:00",
        "version": version, "digest": f"digest {version}", "prediction": "yes" if share >= 0.5 else "no",
        "probabilities": {"no": 1 - share, "yes": share}, **extra,
    }  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Return a folder with 200 rows that both predicted, 20 of an earlier challenger, 30 of the canary, 40 labels."""
    logged = [make_line(number, share, 1, inputs={"a": 1}) for number, share in enumerate(SHARES)]
    write_lines(
        tmp_path / "log" / "1.jsonl", [*logged, *(make_line(n, 0.5, 3, role="canary") for n in range(900, 930))]
    )
    shadow = [make_line(number, share + 0.1, 3 if number >= 20 else 2) for number, share in enumerate(SHARES)]
    write_lines(tmp_path / "shadow" / "1.jsonl", [*shadow, make_line(999, 0.5, 3)])
    write_lines(tmp_path / "feedback.jsonl", [{"id": line["id"], "true": "yes"} for line in logged[20:60]])
    with (tmp_path / "shadow" / "1.jsonl").open("a") as torn:
        torn.write('{"id": "torn')
    return tmp_path


def test_comparison_counts_pairs_and_measures_differences(served: Path) -> None:
    found = compare_shadow(PARAMS, served)
    kept = SHARES[20:]
    assert (found.champion, found.challenger, found.n_rows, found.n_requests, found.n_other) == (1, 3, 180, 90, 20)
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(np.mean((kept >= 0.5) == (kept + 0.1 >= 0.5)))
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.1)
    assert (found.n_true, found.n_canary) == (40, 30)
    labelled = SHARES[20:60]
    assert found.champion_error == pytest.approx(np.mean(labelled < 0.5))
    assert found.challenger_error == pytest.approx(np.mean(labelled + 0.1 < 0.5))
    shown = dict(found.describe())
    assert shown["rows"].startswith("180 rows of 90 requests, 2026-11-29T10:00:20")
    assert shown["left out"] == "20 rows of other versions"
    assert shown["difference of the probability of yes"].startswith("0.1000")
    assert shown["canary"] == "30 rows answered by the challenger itself"


def test_interval_counts_requests_and_not_rows() -> None:
    values = RNG.normal(size=50)
    alone = measure_mean(values, np.arange(50))
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * values.std(ddof=1) / 50**0.5, rel=1e-3)
    repeated = measure_mean(np.repeat(values, 10), np.repeat(np.arange(50), 10))
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))


def test_regression_is_compared_by_its_predictions(tmp_path: Path) -> None:
    for folder, more in (("log", 0.0), ("shadow", 2.0)):
        lines = [
            {"id": f"a{n}-0", "time": "2026-11-29T10:00:00", "version": 1, "digest": folder, "prediction": n + more}
            for n in range(9)
        ]
        write_lines(tmp_path / folder / "1.jsonl", lines)
    write_lines(tmp_path / "feedback.jsonl", [{"id": "a3-0", "true": 4}, {"id": "a3-0", "true": 3.5}])
    found = compare_shadow(PARAMS, tmp_path)
    assert (found.agreement, found.of) == (None, "prediction")
    assert found.difference is not None
    assert found.difference.value == 2
    assert (found.n_true, found.champion_error, found.challenger_error) == (1, 0.5, 1.5)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    write_lines(tmp_path / "log" / "1.jsonl", [make_line(1, 0.5, 1)])
    with pytest.raises(ParamsError, match="no row was predicted by a challenger as well: `labkit serve shop --shadow"):
        compare_shadow(PARAMS, tmp_path)


def test_documented_lines_read_the_logs(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (root := tmp_path / ".labkit" / "serving").mkdir(parents=True)
    (root / "diabetes").symlink_to(served)
    shadow = served / "shadow" / "1.jsonl"
    shadow.write_text(shadow.read_text().rpartition("\n")[0] + "\n")  # pandas does not take a torn line
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    for block in blocks:
        exec(block, known)
    assert len(known["outcomes"]) == 40
    assert len(known["both"]) == 200
    assert isinstance(known["both"], pd.DataFrame)
