"""The health of a model in service: the verdict, and whatever the rows bring."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.release.bundle import Release
from labkit.model.release.runtime import CONTRACT, MANIFEST, compute_release_digest
from labkit.monitoring.champion_check import Checked
from labkit.monitoring.current_rows import Current, take_frame
from labkit.monitoring.health import Health, describe_health, judge
from labkit.monitoring.health_page import describe_verdict, make_health_plot
from labkit.monitoring.performance import Performance
from labkit.monitoring.reference_profile import Profile, make_profile
from labkit.monitoring.row_batches import read_frame
from labkit.params.monitoring import Monitoring
from labkit.view.drift_plots import list_changed_numbers, plot_number, plot_windows
from pydantic import ValidationError

from tests.monitoring import streams

RANGES = {"columns": {"distance": {"nullable": True, "greater_than_or_equal_to": 0.0, "less_than_or_equal_to": 5000.0}}}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Return what monitoring needs of a release: its contract and its row features."""
    folder = tmp_path_factory.mktemp("release")
    (folder / CONTRACT).write_text(json.dumps(RANGES))
    (folder / MANIFEST).write_text("{}")
    return Release(folder, {"classes": []}, streams.fit_features(streams.make_days(3, seed=1)), None)


@pytest.fixture(scope="module")
def profile(release: Release) -> Profile:
    rows = streams.make_days(streams.REFERENCE_DAYS, seed=1)
    predictions = np.random.default_rng(0).normal(size=len(rows))
    return make_profile(
        "small",
        lambda: read_frame(rows, release.row_features),
        release.row_features,
        read_predictions=lambda: read_frame(rows, release.row_features, predictions=predictions),
    )


def make_stream(n_days: int = 12, seed: int = 21) -> pd.DataFrame:
    return streams.make_days(n_days, seed=seed, first=streams.REFERENCE_DAYS)


def judge_rows(release: Release, profile: Profile, rows: pd.DataFrame, **options: Any) -> Health:
    return judge(take_frame(release, rows), profile, **{"now": streams.NOW, **options})


def find_status(health: Health) -> dict[str, str]:
    return {check.code: check.status for check in health.checks if check.needs_attention}


def test_calm_rows_are_ok(release: Release, profile: Profile) -> None:
    health = judge_rows(release, profile, make_stream())
    assert (health.verdict, health.reasons) == ("ok", [])
    assert "the training rows do not span a year, so a season that they lack looks like drift" in health.notes
    assert describe_health(health)["windows"] == 12


@pytest.mark.parametrize(
    ("name", "verdict", "codes"),
    [
        ("shift", "watch", {"LK704": "warning", "LK707": "warning"}),
        ("new city", "watch", {"LK705": "warning"}),
        ("missing", "watch", {"LK706": "warning"}),
        ("related", "watch", {"LK707": "warning"}),
        ("three times", "watch", {"LK708": "warning"}),
        ("celsius", "stop", {"LK702": "issue"}),
        ("thousands", "stop", {"LK701": "issue", "LK702": "issue"}),
    ],
)
def test_inputs_alone_are_watched_and_units_stop(
    release: Release, profile: Profile, name: str, verdict: str, codes: dict[str, str]
) -> None:
    health = judge_rows(release, profile, streams.plant(make_stream(), streams.CHANGES[name][0]))
    assert health.verdict == verdict
    assert codes.items() <= find_status(health).items(), health.reasons
    assert describe_health(health)["changes"]


def test_combinations_of_columns_that_are_new_are_watched(release: Release) -> None:
    rows = streams.make_days(streams.REFERENCE_DAYS, seed=1)
    read = lambda: read_frame(rows, release.row_features)  # noqa: E731
    profile = make_profile("small", read, release.row_features, n_sampled=4000)
    day = make_stream()["predict_at"].dt.floor("D")
    cities = make_stream()["city"].groupby(day).transform(lambda one: one.sample(frac=1, random_state=0).to_numpy())
    health = judge_rows(release, profile, make_stream().assign(city=cities))
    assert (health.verdict, find_status(health)) == ("watch", {"LK713": "warning"})
    [reason] = health.reasons
    assert re.fullmatch(
        r"Rows as a whole: 2026-04-04 to 2026-04-10: AUC 0\.\d\d \(0\.\d\d to 0\.\d\d\), mostly by "
        r"'city', 'distance'; 0\.5\d is usual in the reference, 0\.\d\d its largest",
        reason,
    ), reason
    found = json.loads(json.dumps(describe_health(health)["row_comparison"], allow_nan=False))
    assert [one["alarms"] for one in found["stretches"]] == [True]
    assert [one["column"] for one in found["stretches"][0]["columns"]] == ["city", "distance"]
    with pytest.raises(ValidationError, match="rows that can be told from the reference alone do not show"):
        make_policy(LK713={"action": "retrain"})


def test_declared_reference_and_holidays_count(release: Release, profile: Profile) -> None:
    policy = Monitoring.model_validate_json(
        json.dumps(
            {"reference": "last_4_weeks", "holidays": {"04-07": "fair", "2026-04-08": "fair", "2026-04-09": "fair"}}
        )
    )
    rows = streams.plant(make_stream(11), streams.CHANGES["new city"][0])  # from 7 April on
    assert judge_rows(release, profile, rows).verdict == "watch"
    health = judge_rows(release, profile, rows, policy=policy)
    assert "LK705" not in find_status(health), health.reasons
    assert health.notes[-2:] == [
        "compared with the 28 windows of the last four weeks among the training rows "
        "(monitoring.reference: last_4_weeks)",
        "drift is not judged on holidays (monitoring.holidays): 2026-04-07 (fair); 2026-04-08 (fair); 2026-04-09 (fair)",
    ]


def test_reason_names_column_effect_and_day(release: Release, profile: Profile) -> None:
    health = judge_rows(release, profile, streams.plant(make_stream(), streams.CHANGES["new city"][0]))
    [reason] = [one for one in health.reasons if one.startswith("Unseen values")]
    assert "'city' since 2026-04-07: " in reason
    assert "('elsewhere')" in reason


def test_reason_gives_the_share_of_missing_values(release: Release, profile: Profile) -> None:
    health = judge_rows(release, profile, streams.plant(make_stream(), streams.CHANGES["missing"][0]))
    [reason] = [one for one in health.reasons if one.startswith("Missing values")]
    assert re.fullmatch(
        r"Missing values: 'distance' since 2026-04-07: (9|1\d)\.\d % missing, 0\.0 % in the reference, .+", reason
    )


def test_plot_shows_the_unit_or_what_alarms_longest_or_what_comes_nearest(release: Release, profile: Profile) -> None:
    drawn = []
    for name in ("celsius", "new city", None):
        rows = make_stream() if name is None else streams.plant(make_stream(), streams.CHANGES[name][0])
        health = judge_rows(release, profile, rows)
        plot = make_health_plot(Checked(health, Performance(0, 0, "mae"), profile, {}, [], {}))
        assert plot is not None
        assert (len(plot.series[0].y), plot.x_names[0], plot.x_label) == (12, "03-30", "window of 2026")
        drawn.append((plot.series[0].name, plot.fact.partition(" ")[0]))
    assert drawn[:2] == [("relation: temp", "relation:"), ("unseen values: city", "unseen")]
    assert drawn[2][1] == "No"
    one_day = judge_rows(release, profile, make_stream(1))
    assert make_health_plot(Checked(one_day, Performance(0, 0, "mae"), profile, {}, [], {})) is None


def test_predictions_that_differ_from_those_for_the_holdout_are_watched(release: Release, profile: Profile) -> None:
    rows = make_stream()
    for shift, status in ((0.0, {}), (0.5, {"LK709": "warning"})):
        predicted = rows.assign(prediction=np.random.default_rng(1).normal(shift, size=len(rows)))
        assert find_status(judge_rows(release, profile, predicted)) == status


def test_quarter_more_rows_are_worth_a_training(release: Release, profile: Profile) -> None:
    health = judge_rows(release, profile, make_stream(30))
    assert (health.verdict, find_status(health)) == ("retrain", {"LK712": "warning"})
    assert judge_rows(release, profile, make_stream(12)).verdict == "ok"
    held_out = str(make_stream(20)[PREDICT_AT].max().tz_convert("UTC"))
    known = judge_rows(release, replace(profile, known_until=held_out), make_stream(30))
    assert known.verdict == "ok", "the rows of the holdout had a part in the training run"


def make_policy(**rules: dict[str, Any]) -> Monitoring:
    return Monitoring.model_validate_json(json.dumps({"rules": rules}))


def test_rules_of_the_params_decide_what_follows(release: Release, profile: Profile) -> None:
    rows = make_stream(30)
    assert judge_rows(release, profile, rows, policy=make_policy(LK712={"action": "watch"})).verdict == "watch"
    half = make_policy(LK712={"action": "retrain", "at_least": 0.5})
    assert find_status(judge_rows(release, profile, rows, policy=half)) == {}
    lasting = make_policy(LK712={"action": "retrain", "in_a_row": 3})
    for earlier, verdict in (
        ([], "watch"),
        ([{"LK712"}], "watch"),
        ([{"LK712"}, {"LK704"}], "watch"),
        ([{"LK704"}, {"LK712"}, {"LK712", "LK704"}], "retrain"),
    ):
        assert judge_rows(release, profile, rows, policy=lasting, earlier=earlier).verdict == verdict


@pytest.mark.parametrize(
    ("code", "rule", "message"),
    [
        ("LK704", {"action": "retrain"}, "LK704: changed distributions alone do not show that the model got worse"),
        ("LK709", {"action": "stop"}, "only `action: watch` is possible"),
        ("LK701", {"action": "stop", "at_least": 0.1}, "LK701: `at_least` is for LK712"),
        ("LK714", {"action": "watch"}, "String should match pattern"),
        ("LK712", {"action": "shout"}, "Input should be 'watch', 'retrain' or 'stop'"),
        ("LK712", {"action": "retrain", "in_a_row": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_rules_are_refused(code: str, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        make_policy(**{code: rule})


def list_bad_rows() -> Iterator[tuple[str, pd.DataFrame, str, dict[str, str]]]:
    """Yield name, rows, part of the reason, and the checks that need attention."""
    rows = make_stream()
    yield "empty", rows.head(0), "table has no rows", {"LK703": "issue"}
    yield "missing", rows.drop(columns="temp"), "missing columns: 'temp'", {"LK701": "issue"}
    yield "renamed", rows.rename(columns={"temp": "Temp"}), "missing columns: 'temp'", {"LK701": "issue"}
    yield "retyped", rows.assign(temp="warm"), "column 'temp': 'warm' is not a number", {"LK701": "issue"}
    yield "emptied", rows.assign(temp=np.nan), "'temp' has no value in any row", {"LK701": "issue"}
    yield "impossible", rows.assign(distance=-5.0), "'distance': 100.0 % of the values", {"LK701": "issue"}
    ahead = rows.assign(predict_at=rows["predict_at"] + pd.Timedelta(days=3650))
    yield "future", pd.concat([rows, ahead.head(50)]), "50 rows later than now left out", {"LK710": "warning"}
    timeless = rows.assign(predict_at=rows["predict_at"].where(rows.index >= 9))
    yield "undated", timeless, "9 rows without a time left out", {"LK710": "warning"}
    yield (
        "unseen",
        rows.assign(city="x" + rows["city"]),
        "'city' since 2026-03-30: 100.0 % (",
        {"LK705": "warning", "LK704": "warning"},
    )


BAD = {name: given for name, *given in list_bad_rows()}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_reported(release: Release, profile: Profile, name: str) -> None:
    rows, reason, codes = BAD[name]
    health = judge_rows(release, profile, rows)
    assert codes.items() <= find_status(health).items(), health.reasons
    assert reason in " ".join(health.reasons)
    assert health.verdict == ("stop" if "issue" in codes.values() else "watch")


def find_skipped(health: Health) -> set[str]:
    return {check.code for check in health.checks if check.status == "skipped"}


def test_rows_before_1970_are_counted(release: Release, profile: Profile) -> None:
    rows = make_stream(2)
    health = judge_rows(release, profile, rows.assign(predict_at=rows["predict_at"] - pd.Timedelta(days=365 * 60)))
    assert (health.n_rows, health.n_judged, describe_health(health)["windows"]) == (len(rows), len(rows), 2)


def test_one_row_is_not_judged_by_its_distribution(release: Release, profile: Profile) -> None:
    health = judge_rows(release, profile, make_stream().head(1))
    assert find_skipped(health) == {"LK702", "LK704", "LK705", "LK706", "LK707", "LK713"}
    assert "drift is not judged: too few rows to compare in 1 window" in health.notes
    assert (health.n_judged, health.is_drift_judged) == (0, False)
    assert list(find_status(health)) in ([], ["LK708"])


def test_rows_of_today_alone_are_not_judged(release: Release, profile: Profile) -> None:
    rows = make_stream(1).assign(city="x", prediction=99.0)
    health = judge_rows(release, profile, rows, now=rows["predict_at"].iloc[-1].to_pydatetime())
    assert find_skipped(health) == {"LK702", "LK704", "LK705", "LK706", "LK707", "LK708", "LK709", "LK713"}
    assert "drift is not judged: no complete window to judge" in health.notes
    assert (health.n_judged, health.is_drift_judged) == (0, False)
    assert "Whether they have drifted was not judged" in describe_verdict(health)


def test_few_rows_without_times_are_not_judged(release: Release) -> None:
    reference = streams.make_days(streams.REFERENCE_DAYS, seed=1).drop(columns="predict_at")
    untimed = make_profile(
        "small",
        lambda: read_frame(reference, release.row_features),
        release.row_features,
        read_predictions=lambda: read_frame(
            reference, release.row_features, predictions=np.random.default_rng(0).normal(size=len(reference))
        ),
    )
    rows = make_stream(2).drop(columns="predict_at").assign(prediction=99.0)
    few = judge_rows(release, untimed, rows.head(120))
    assert find_skipped(few) == {"LK702", "LK704", "LK705", "LK706", "LK707", "LK709", "LK713"}
    assert (few.n_judged, few.is_drift_judged) == (0, False)
    more = judge_rows(release, untimed, rows.head(300))
    assert (more.n_judged, more.is_drift_judged, find_status(more)) == (300, True, {"LK709": "warning"})


def test_day_that_is_not_over_is_not_judged(release: Release, profile: Profile) -> None:
    rows = make_stream(3)
    now = rows["predict_at"].iloc[-200].to_pydatetime()
    health = judge_rows(release, profile, rows[rows["predict_at"] <= now], now=now)
    assert (describe_health(health)["windows"], health.verdict) == (2, "ok")


def test_latest_windows_are_judged_on_request(release: Release, profile: Profile) -> None:
    rows = streams.plant(make_stream(), lambda after: after)
    health = judge_rows(release, profile, rows, most_windows=2)
    found = describe_health(health)
    assert (found["windows"], found["first_window"]) == (2, "2026-04-09")


def test_change_that_began_in_the_last_check_alarms_in_the_next(release: Release, profile: Profile) -> None:
    rows = streams.plant(make_stream(), lambda after: after.assign(distance=after["distance"] + 95))
    until, later = rows[rows["predict_at"] < "2026-04-09"], rows[rows["predict_at"].dt.day == 9]
    alone = judge_rows(release, profile, until)
    assert alone.drift is not None
    assert (alone.drift.list_pending()["distribution: distance"], alone.drift.changes) == ([20551], ())
    assert "LK704" not in find_status(judge_rows(release, profile, later))
    assert "LK704" in find_status(judge_rows(release, profile, later, pending={"inputs": alone.drift.list_pending()}))


def test_reference_without_enough_windows_is_said(release: Release) -> None:
    short = streams.profile_rows(streams.make_days(12, seed=1), release.row_features)
    health = judge_rows(release, short, make_stream(2))
    assert "drift is not judged: the reference has 10 complete windows, calibrated alarms need 20" in health.notes
    assert describe_verdict(replace(health, verdict="ok")).endswith("drifted was not judged, see the rows below.")
    skipped = {check.code for check in health.checks if check.status == "skipped"}
    assert {"LK702", "LK704", "LK705", "LK706", "LK707", "LK708"} <= skipped
    broken = judge_rows(release, short, make_stream(2).drop(columns="temp"))
    assert broken.verdict == "stop", "the contract is checked all the same"


def write_log(folder: Path, release: Release, rows: pd.DataFrame, name: str = "1.jsonl") -> None:
    digest, predicted = compute_release_digest(release.folder), np.random.default_rng(1).normal(size=len(rows))
    inputs = json.loads(rows.drop(columns="predict_at").to_json(orient="records"))
    lines = [
        {
            "id": f"{number}",
            "time": at.isoformat(),
            "version": 1,
            "digest": digest,
            "inputs": row,
            "prediction": predicted[number],
        }
        for number, (at, row) in enumerate(zip(rows["predict_at"], inputs, strict=True))
    ]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def judge_log(folder: Path, release: Release, profile: Profile, now: datetime) -> Health:
    return judge(Current("log", True, release, path=folder), profile, now=now)


def test_log_is_judged_without_its_first_day_and_damaged_parts_are_counted(
    tmp_path: Path, release: Release, profile: Profile
) -> None:
    rows = make_stream(4)
    write_log(tmp_path / "log", release, rows)
    now = rows["predict_at"].iloc[-1].to_pydatetime() + timedelta(hours=6)
    whole = judge_log(tmp_path / "log", release, profile, now)
    assert describe_health(whole)["windows"] == 3
    assert "LK710" not in find_status(whole)
    [compared] = [check for check in whole.checks if check.code == "LK709"]
    assert (compared.status, compared.evidence) == ("passed", "as usual")
    part = tmp_path / "log" / "2.jsonl"
    part.write_bytes(b'{"id": "torn\n\xff\xfe\n[1]\n{"id": "x", "time": "2026-04-01T00:00:00"}\n{"no end')
    (tmp_path / "log" / "3.jsonl").mkdir()
    damaged = judge_log(tmp_path / "log", release, profile, now)
    [reason] = [one for one in damaged.reasons if one.startswith("Readable rows")]
    assert "5 damaged lines skipped, in 2.jsonl; 3.jsonl; lines without inputs" in reason
    assert damaged.n_rows == whole.n_rows


@pytest.mark.parametrize(
    ("days", "column", "value", "share", "reason"),
    [
        ((99, 100), "distance", -5.0, 0.4, "of the values are not plausible"),
        ((99, 100), "temp", np.nan, 1.0, "'temp' has no value in 2026-07-07"),
        ((0, 3), "distance", -5.0, 1.0, None),
    ],
)
def test_contract_of_a_log_is_checked_on_the_latest_windows(
    tmp_path: Path, release: Release, profile: Profile, days: tuple[int, int], column: str, value: float, share: float,
    reason: str | None,
) -> None:  # fmt: skip
    rows = make_stream(100)
    day = (rows["predict_at"] - rows["predict_at"].min().floor("D")).dt.days
    spoilt = day.between(days[0], days[1] - 1) & (np.random.default_rng(7).uniform(size=len(rows)) < share)
    write_log(tmp_path / "log", release, rows.assign(**{column: rows[column].mask(spoilt, value)}))
    health = judge_log(
        tmp_path / "log", release, profile, rows["predict_at"].iloc[-1].to_pydatetime() + timedelta(hours=12)
    )
    [contract] = [check for check in health.checks if check.code == "LK701"]
    assert contract.status == ("passed" if reason is None else "issue")
    assert (reason or "as agreed") in contract.evidence


@pytest.mark.parametrize(("agreed", "is_fault"), [({"nullable": True}, False), ({"nullable": False}, True), ({}, True)])
def test_missing_value_that_the_contract_does_not_allow_stops(
    tmp_path: Path, release: Release, profile: Profile, agreed: dict[str, bool], is_fault: bool
) -> None:
    (tmp_path / CONTRACT).write_text(json.dumps({"columns": {"temp": agreed, "city": agreed}}))
    (tmp_path / MANIFEST).write_text("{}")
    rows = make_stream(1)
    for column in ("temp", "city", "wind"):
        health = judge_rows(
            replace(release, folder=tmp_path), profile, rows.head(5).assign(**{column: [None, *rows[column][1:5]]})
        )
        reasons = [f"Contract of the inputs: {column!r} is missing in 1 row, which the contract does not allow"]
        assert health.reasons[:1] == (reasons if is_fault and column != "wind" else health.reasons[:1])
        assert ("LK701" in find_status(health)) == (is_fault and column != "wind")


def test_silence_of_a_log_stops(tmp_path: Path, release: Release, profile: Profile) -> None:
    rows = make_stream(4)
    write_log(tmp_path / "log", release, rows)
    last = rows["predict_at"].iloc[-1].to_pydatetime()
    assert profile.quiet_hours == 7
    for hours, is_silent in ((30, False), (32, True)):
        health = judge_log(tmp_path / "log", release, profile, last + timedelta(hours=hours))
        assert ("LK703" in find_status(health)) == is_silent
    assert health.verdict == "stop"


def test_silence_is_not_judged_without_times_in_the_training_rows(tmp_path: Path, release: Release) -> None:
    untimed = streams.profile_rows(streams.make_days(3, seed=1).drop(columns="predict_at"), release.row_features)
    rows = make_stream(2)
    write_log(tmp_path / "log", release, rows)
    health = judge_log(
        tmp_path / "log", release, untimed, rows["predict_at"].iloc[-1].to_pydatetime() + timedelta(days=400)
    )
    [traffic] = [check for check in health.checks if check.code == "LK703"]
    assert traffic.status == "skipped"
    assert re.fullmatch(r"last prediction .+ ago; the training rows have no times, so .+", traffic.evidence)


def test_constant_that_changes_is_watched(release: Release) -> None:
    constant = streams.make_days(streams.REFERENCE_DAYS, seed=1).assign(seats=140.1)
    changed = replace(release, row_features=streams.fit_features(constant.head(960)))
    reference = streams.profile_rows(constant, changed.row_features)
    for value in (140.0, 180.0):
        health = judge_rows(changed, reference, make_stream(6).assign(seats=value))
        [reason] = health.reasons
        assert "'seats' since 2026-03-30: 100.0 % differ from the only value in the reference" in reason
    assert judge_rows(changed, reference, make_stream(6).assign(seats=140.1)).reasons == []


def test_age_names_its_cause(release: Release, profile: Profile) -> None:
    def find_age(rows: pd.DataFrame, last_check: datetime | None = None) -> str:
        health = judge_rows(release, profile, rows, last_check=last_check)
        return next(check.evidence for check in health.checks if check.code == "LK711")

    long_ago = streams.NOW - timedelta(days=31)
    assert re.match(r"last check .+ ago, more than 30 d; the latest row", find_age(make_stream(2), long_ago))
    assert find_age(make_stream(2)).endswith("first check")
    assert find_age(make_stream(2).drop(columns="predict_at")) == "first check; no row has a time up to now"


def test_training_again_waits_for_open_warnings(release: Release, profile: Profile) -> None:
    for change, is_calm in ((0.0, True), (250.0, False)):
        rows = make_stream(30)
        health = judge_rows(release, profile, rows.assign(distance=rows["distance"] + change))
        assert health.verdict == "retrain"
        assert describe_verdict(health).startswith("Train again on the rows") == is_calm
    assert "Resolve these first" in describe_verdict(health)


def test_reference_that_is_long_over_and_checks_long_ago_are_watched(release: Release, profile: Profile) -> None:
    rows = make_stream(2).assign(predict_at=lambda frame: frame["predict_at"] + pd.Timedelta(days=91))
    health = judge_rows(release, profile, rows)
    assert "LK711" in find_status(health)
    before = datetime(2027, 4, 1, tzinfo=UTC)
    assert "LK711" in find_status(judge_rows(release, profile, make_stream(2), last_check=before))
    assert "LK711" not in find_status(judge_rows(release, profile, make_stream(2), last_check=streams.NOW))


def test_plots_show_the_series_that_alarms_and_where_its_numbers_lie(release: Release, profile: Profile) -> None:
    rows = streams.plant(make_stream(), lambda after: after.assign(distance=after["distance"] + 500))
    health = judge_rows(release, profile, rows)
    scores = plot_windows(health)
    assert "distribution: distance" in scores.table
    assert len(scores.table) == len(health.drift.counts.numbers)  # type: ignore[union-attr]
    assert "1 column with an alarm" in scores.fact
    assert list_changed_numbers(profile, health)[0] == "distance"
    shift = plot_number(profile, health, "distance")
    reference, now = (float(number.replace(",", "")) for number in re.findall(r"up to ([\d,.]+) ", f"{shift.fact} "))
    known = [frame["distance"] for frame in (streams.make_days(streams.REFERENCE_DAYS, seed=1), rows)]
    assert (reference, now) == pytest.approx([one.median() for one in known], rel=0.05)
    assert list(shift.table) == ["distance", "reference", "now"]


def test_plots_say_why_they_are_absent(release: Release, profile: Profile) -> None:
    short = streams.profile_rows(streams.make_days(12, seed=1), release.row_features)
    assert "drift was not judged" in plot_windows(judge_rows(release, short, make_stream(2))).fact
    health = judge_rows(release, profile, make_stream())
    assert "no distribution of numbers" in plot_number(profile, health, "none").fact
    assert list_changed_numbers(profile, health) != []


def test_log_of_another_release_only_is_no_silence(tmp_path: Path, release: Release, profile: Profile) -> None:
    write_log(tmp_path / "log", release, make_stream(2))
    path = tmp_path / "log" / "1.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "digest": "0", "inputs": {"old": 1}}) + "\n" for line in lines))
    health = judge_log(tmp_path / "log", release, profile, datetime(2026, 11, 29, tzinfo=UTC))
    [traffic] = [check for check in health.checks if check.code == "LK703"]
    assert traffic.status == "skipped"
    assert traffic.evidence == (
        f"no request yet with the columns of this release; {len(lines)} rows of log are of another one"
    )
