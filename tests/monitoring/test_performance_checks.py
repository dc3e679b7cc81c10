"""What is expected of rows without true values, compared with what was expected of the holdout."""

from dataclasses import replace
from typing import Any

import pytest
from labkit.checks import CheckResult
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.release.bundle import Release
from labkit.monitoring.performance import Performance, compute_rows_digest
from labkit.monitoring.performance_checks import check_estimate, find_track_record, list_performance_checks
from labkit.monitoring.reference_performance import load_performance
from labkit.monitoring.scored_rows import score_frame

from tests.monitoring.scored import NOW, PARAMS, make_current, make_release, make_rows, measure


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("release"))


def find_expected(found: Performance) -> CheckResult:
    [expected] = [one for one in list_performance_checks(found) if one.code == "LK726"]
    return expected


def test_estimate_of_few_rows_is_not_judged(release: Release) -> None:
    expected = find_expected(measure(release, make_rows(49, seed=30).drop(columns="y")))
    assert (expected.status, expected.evidence) == ("skipped", "49 rows predicted, 50 are needed")


def test_few_rows_that_happen_to_be_hard_are_within_the_interval(release: Release) -> None:
    found = measure(release, make_rows(60, seed=33).drop(columns="y"))
    assert found.estimated is not None
    assert found.estimated.value < 0.805, "below the interval of the holdout"
    assert found.estimated.low < found.estimated.value < found.estimated.high
    assert find_expected(found).status == "passed"


def test_bias_of_the_estimate_is_no_loss(release: Release) -> None:
    found = measure(release, make_rows(3000, seed=2))
    reference = load_performance(release.folder)
    assert reference is not None
    better = replace(found, reference=replace(reference, value=Interval(0.9, 0.89, 0.91)))
    assert check_estimate(better, None).status == "passed"
    assert f"; {reference.expected:.3f} was expected of the holdout" in check_estimate(better, None).evidence
    worse = replace(found, reference=replace(reference, expected=0.9))
    assert check_estimate(worse, None).status == "warning"
    unknown = replace(found, reference=replace(reference, expected=None))
    assert check_estimate(unknown, None).status == "skipped"


def test_estimate_says_of_how_many_rows_it_is(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.monitoring.performance.MOST_ESTIMATED", 400)
    rows = make_rows(3000, seed=32).drop(columns="y").iloc[::-1]
    found = measure(release, rows)
    assert " is expected of the latest 200 rows if its" in find_expected(found).evidence
    latest = measure(release, rows.head(200))
    assert found.estimated == latest.estimated, "by time, not by position"
    assert found.to_dict()["estimated_rows"] == 200


def test_rows_of_one_day_have_no_interval(release: Release) -> None:
    rows = make_rows(3000, seed=33).drop(columns="y")
    expected = find_expected(measure(release, rows.assign(predict_at=rows["predict_at"].iloc[0])))
    assert expected.status == "skipped"
    assert expected.evidence.endswith("too few independent rows for an interval")


def keep(days: tuple[str | None, str | None], digest: str, estimated: float) -> dict[str, Any]:
    return {
        "first_day": days[0], "last_day": days[1], "compared_rows": 100, "compared_digest": digest,
        "estimated_of_compared": estimated, "value": {"value": 0.7}, "holdout": {"value": 0.8},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("records", "n_checks", "error"),
    [
        ([keep((None, None), "a", 0.8), keep((None, None), "b", 0.7)], 2, 0.05),
        ([keep((None, None), "a", 0.8), keep((None, None), "a", 0.7)], 1, 0.0),
        ([keep(("01", "05"), "a", 0.8), keep(("05", "09"), "b", 0.7)], 1, 0.0),
        ([keep(("01", "05"), "a", 0.8), keep(("03", "09"), "b", 0.9), keep(("06", "11"), "c", 0.7)], 2, 0.05),
    ],
)
def test_checks_of_the_same_rows_or_days_count_once(records: list[dict[str, Any]], n_checks: int, error: float) -> None:
    found = find_track_record(records)
    assert found is not None
    assert (found.n_checks, round(found.error, 6)) == (n_checks, error)


def test_digest_of_rows_stays_if_a_true_value_is_corrected(release: Release) -> None:
    rows = make_rows(100, seed=34)
    flipped = rows.assign(y=rows["y"].map({"no": "yes", "yes": "no"}))
    first, second, other = (
        score_frame(PARAMS, make_current(release, one), None, NOW) for one in (rows, flipped, make_rows(100, seed=35))
    )
    digests = [compute_rows_digest(one, one.known) for one in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]
