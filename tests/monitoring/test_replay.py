"""A replay of a small table whose relation turns round in its fifth month, checked by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError, ParamsError
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import make_candidate
from labkit.monitoring.replay import POLICIES, PolicyRun, Replay
from labkit.monitoring.replay_page import describe_best_policy, make_replay_plots, write_replay
from labkit.monitoring.replay_result import summarise_replay
from labkit.params.experiment import Params
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from tests.monitoring.turned import ASKED, KINDS, KNOWN, make_params, make_rows
from tests.wording import find_wrong_words


def make_recipe(params: Params) -> Pipeline:
    found = {name: "number" for name in ("all_rate_7d", "all_count_7d") if params.features.history}
    candidate = make_candidate("linear", params.data.target, KINDS | found, seed=0)
    return Pipeline([("row_features", RowFeatures.from_params(params)), *candidate.steps])


def make_replay(rows: pd.DataFrame, **settings: Any) -> Replay:
    params = make_params(**settings)
    return Replay(params, rows, make_recipe(params))


def run(replay: Replay, policy: str) -> PolicyRun:
    return replay.run(policy, lambda line: None)


@pytest.fixture(scope="module")
def replay() -> Replay:
    return make_replay(make_rows())


@pytest.fixture(scope="module")
def runs(replay: Replay) -> dict[str, PolicyRun]:
    return {name: run(replay, name) for name in POLICIES}


def test_versions_learn_only_from_outcomes_known_by_then(replay: Replay) -> None:
    at = pd.Timestamp("2026-05-01 04:00", tz="UTC")  # midnight in New York
    assert replay.find_begin(pd.Period("2026-05", "M")) == at
    # January to April have 120 days; the outcomes of its last two are not known yet.
    assert replay.train(at).n_rows == (120 - 2) * 20
    rows = make_rows()
    last = int(np.flatnonzero((rows[KNOWN] <= at).to_numpy())[-1])
    moved = rows.assign(**{KNOWN: rows[KNOWN].where(rows.index != last, at + pd.Timedelta(seconds=1))})
    assert make_replay(moved).train(at).n_rows == (120 - 2) * 20 - 1


@pytest.mark.parametrize("policy", POLICIES)
def test_outcomes_known_later_change_nothing_before(runs: dict[str, PolicyRun], policy: str) -> None:
    rows = make_rows()
    at = pd.Timestamp("2026-06-15 12:00", tz="UTC")
    turned = rows["y"].where(rows[KNOWN] <= at, rows["y"].map({"yes": "no", "no": "yes"}))
    spoiled = run(make_replay(rows.assign(y=turned)), policy)
    months = [(3, 31), (4, 30), (5, 31)]
    for place, (month, n_days) in enumerate(months):
        ours, theirs = runs[policy].predicted[place].y_proba, spoiled.predicted[place].y_proba
        assert len(ours) == n_days * 20, month
        np.testing.assert_array_equal(ours, theirs)
    june = [one.predicted[3].y_proba[: 15 * 20] for one in (runs[policy], spoiled)]
    np.testing.assert_array_equal(*june)
    assert runs[policy].decisions[:3] == spoiled.decisions[:3]


def test_metric_of_two_months_equals_that_of_a_model_fitted_by_hand() -> None:
    rows = make_rows()
    params = make_params()
    bare = params.model_copy(update={"features": params.features.model_copy(update={"history": {}})})
    recipe = make_recipe(bare)
    found = summarise_replay(replay := Replay(bare, rows, recipe), [run(replay, "never")])["policies"][0]
    training = rows[rows[KNOWN] <= "2026-03-01 05:00+00:00"]
    model = clone(recipe[1:]).fit(training[["a", "b"]], training["y"])
    for place, (begin, end) in enumerate(
        [("2026-03-01 05:00", "2026-04-01 04:00"), ("2026-04-01 04:00", "2026-05-01 04:00")]
    ):
        month = rows[(rows[ASKED] >= f"{begin}+00:00") & (rows[ASKED] < f"{end}+00:00")]
        probability = model.predict_proba(month[["a", "b"]])[:, list(model.classes_).index("yes")]
        is_late = month["y"] == "yes"
        assert found["values"][place] == pytest.approx(roc_auc_score(is_late, probability), abs=1e-9)
        acts = probability >= 1 / 5
        costs = np.where(acts & ~is_late, 1.0, np.where(~acts & is_late, 4.0, 0.0))
        assert found["costs"][place] == pytest.approx(costs.mean())


def test_turned_relation_is_found_by_training_again(replay: Replay, runs: dict[str, PolicyRun]) -> None:
    result = summarise_replay(replay, list(runs.values()))
    never, observe, monthly, rule = result["policies"]
    assert (never["trainings"], observe["trainings"], monthly["trainings"]) == (0, 0, 5)
    assert never["values"][0] > 0.8 > 0.5 > never["values"][-1]
    assert monthly["values"][-1] > never["values"][-1] + 0.2
    assert monthly["gain"]["low"] > 0 < monthly["saved"]["low"]
    assert never["gain"]["value"] == 0
    # A quarter more: 57 days are known on 1 March, 88 on 1 April, 118 on 1 May, 149 in June, 179 in July, 210 in August.
    assert [one["outcome"] for one in rule["decisions"]] == ["promoted", "promoted", "promoted", "kept", "promoted"]
    assert [one["n_rows"] for one in rule["decisions"]] == [n * 20 for n in (88, 118, 149, 179, 210)]


def test_known_outcomes_reach_the_features_of_all_policies_but_never(runs: dict[str, PolicyRun]) -> None:
    first = [runs[name].predicted[0].y_proba for name in ("never", "observe", "monthly")]
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[1], first[2])


def test_policy_without_a_rule_for_growth_never_trains() -> None:
    done = run(make_replay(make_rows(), rules={"LK712": {"action": "watch"}}), "rule")
    assert {one.outcome for one in done.decisions} == {"kept"}


def test_rule_trains_after_so_many_checks_in_a_row_of_one_champion() -> None:
    rule = {"action": "retrain", "at_least": 0.25, "in_a_row": 2}
    decisions = run(make_replay(make_rows(), rules={"LK712": rule}), "rule").decisions
    # 57 days are known on 1 March, 88 on 1 April, 118 on 1 May, 149 in June, 179 in July, 210 in August.
    assert [one.outcome for one in decisions] == ["kept", "promoted", "kept", "promoted", "kept"]
    assert decisions[0].cause == "the rows have grown by 54 %, not yet in 2 checks in a row"
    assert decisions[2].cause == "the rows have grown by 26 %, not yet in 2 checks in a row"
    assert decisions[4].cause == "the rows have grown by 17 %"


def test_what_cannot_be_replayed_is_refused() -> None:
    rows = make_rows()
    params = make_params()
    with pytest.raises(DataError, match="a replay needs rows of at least four weeks, found 3 weeks"):
        make_replay(rows[rows[ASKED] < "2026-01-18"])
    with pytest.raises(ParamsError, match="--from: name a day after 2026-01-31, up to 2026-08-31"):
        Replay(params, rows, make_recipe(params), begin=pd.Timestamp("2027-01-01"))


def test_version_is_compared_on_the_last_28_days_with_known_outcomes(replay: Replay) -> None:
    at = replay.find_begin(pd.Period("2026-05", "M"))
    # The outcomes of 28 April are known on 30 April.
    assert replay.find_judged(at) == pd.Timestamp("2026-04-01 04:00", tz="UTC")


def test_weekly_trainings_follow_a_turned_relation_soon() -> None:
    replay = make_replay(make_rows(100, turned="2026-02-05"))
    assert replay.unit == "week"
    runs = [run(replay, name) for name in ("never", "monthly", "rule")]
    result = summarise_replay(replay, runs)
    never, weekly, rule = result["policies"]
    assert result["judged_days"] == 7
    assert (weekly["trainings"], weekly["promoted"]) == (len(replay.replayed) - 1,) * 2
    assert {one["evidence"] for one in weekly["decisions"]} == {
        "not compared: fitted without the last 7 days, it would know no more than the champion"
    }
    assert never["values"][-1] < 0.4 < 0.6 < weekly["values"][-1]
    compared = [one for one in rule["decisions"] if "over the champion" in one["evidence"]]
    assert compared
    assert {one["outcome"] for one in compared} == {"promoted"}


def test_period_of_a_single_class_has_no_metric_and_is_left_out_of_the_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows()
    is_july = (rows[ASKED] >= "2026-07-01 04:00+00:00") & (rows[ASKED] < "2026-08-01 04:00+00:00")
    replay = make_replay(rows.assign(y=rows["y"].mask(is_july, "no")))
    result = summarise_replay(replay, [run(replay, name) for name in ("never", "monthly")])
    json.dumps(result, allow_nan=False)
    for one in result["policies"]:
        values = one["values"]
        assert [place for place, value in enumerate(values) if value is None] == [4]
        assert one["mean"] == pytest.approx(np.mean([value for value in values if value is not None]))
    august = result["policies"][1]["decisions"][4]
    assert august["evidence"] == "not compared: roc_auc has no interval on the last 28 days"
    assert august["outcome"] == "promoted"
    assert '<td>07</td><td class="num">–</td>' in write_page(result, tmp_path, monkeypatch).read_text()


def test_outcomes_known_much_later_do_not_prevent_new_versions() -> None:
    rows = make_rows(delay=40, turned="2027-01-01")
    monthly = run(make_replay(rows), "monthly")
    assert {one.outcome for one in monthly.decisions} == {"promoted"}
    rule = run(make_replay(rows, rules={"LK712": {"action": "retrain", "at_least": 4}}), "rule")
    (trained,) = [one for one in rule.decisions if one.outcome != "kept"]
    assert (trained.period, trained.outcome) == ("2026-06", "promoted")
    assert "over the champion; the lower end is within" in trained.evidence


def test_numbers_are_replayed() -> None:
    rows = make_rows()
    params = make_params()
    target = params.data.target.model_copy(update={"task": "regression", "positive": None})
    numeric = params.model_copy(
        update={
            "data": params.data.model_copy(update={"target": target}),
            "features": params.features.model_copy(update={"history": {}}),
            "training": params.training.model_copy(update={"metric": "mae"}),
            "evaluation": params.evaluation.model_copy(update={"costs": None}),
        }
    )
    sign = np.where(rows[ASKED] < "2026-05-01", 1.0, -1.0)
    rows = rows.assign(y=2 * sign * rows["a"] + rows["b"])
    replay = Replay(numeric, rows, make_recipe(numeric))
    never, monthly = summarise_replay(replay, [run(replay, name) for name in ("never", "monthly")])["policies"]
    assert never["values"][0] < 0.01 < 2 < never["values"][-1]
    assert monthly["values"][-1] < never["values"][-1] - 1
    assert monthly["gain"]["low"] > 0
    assert "costs" not in never
    assert "true_share" not in never


def test_tolerance_as_a_share_of_the_champions_metric_counts() -> None:
    replay = make_replay(make_rows(), gate={"champion_tolerance": 0, "champion_tolerance_share": 0.1})
    first = run(replay, "monthly").decisions[0]
    tolerance = float(first.evidence.rpartition(" ")[2])
    assert 0.08 < tolerance < 0.1  # a tenth of an area under the curve


def test_features_are_those_of_the_champion() -> None:
    params = make_params()
    today = params.model_copy(update={"features": params.features.model_copy(update={"drop": ("a",)})})
    version = Replay(today, make_rows(), make_recipe(params)).train(pd.Timestamp("2026-03-01", tz="UTC"))
    assert {*version.pipeline[0].outputs_} == {"a", "b", "all_rate_7d", "all_count_7d"}


def test_words_that_are_features_may_change_with_the_rows() -> None:
    rows = make_rows(100)
    word = np.where(rows["y"] == "yes", "storm", "calm")
    is_early = rows[ASKED] < "2026-02-15"
    rows = rows.assign(note=np.where(is_early, "early " + word, "tardy " + word))
    params = make_params()
    texts = RowFeatures.from_params(params).set_params(columns={"text": {"note": {"most_words": 3, "fewest_rows": 5}}})
    latest = texts.fit(rows.drop(columns="y"), rows["y"])
    candidate = make_candidate("linear", params.data.target, latest.outputs_, seed=0)
    replay = Replay(params, rows, Pipeline([("row_features", latest), *candidate.steps]))
    first, *_ = run(replay, "monthly").predicted
    assert roc_auc_score(first.y_true == first.positive, first.y_proba[:, first.positive]) > 0.99
    made = replay.train(replay.find_begin(replay.replayed[0])).pipeline[0].outputs_
    assert "note: early" in made
    assert "note: tardy" not in made
    assert "note: tardy" in latest.outputs_


@pytest.mark.parametrize(
    ("low", "fact"),
    [
        (-0.01, "On all rows, no gain over never has an interval above 0."),
        (0.01, "Largest gain over never on all rows: monthly."),
        (None, "On all rows, no gain over never has an interval above 0."),
    ],
)
def test_policy_is_named_best_only_if_its_interval_is_above_0(low: float | None, fact: str) -> None:
    gains = {"never": (0.0, 0.0), "monthly": (0.05, low), "rule": (0.06, -0.02)}
    policies = [{"policy": name, "gain": {"value": gain, "low": end}} for name, (gain, end) in gains.items()]
    assert describe_best_policy({"policies": policies}, "gain", "gain") == fact


def write_page(result: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (root / "dvc.yaml").touch()
    (root / "params").mkdir()
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    found = result | {"at": "2026-09-01T00:00:00+00:00", "champion": 1}
    return write_replay(found, "data/turned/monitoring/replays/x.json")


def test_page_has_policies_courses_and_decisions(
    replay: Replay, runs: dict[str, PolicyRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = summarise_replay(replay, list(runs.values()))
    # Policies have the same colours in all plots: those of their places.
    assert [[one.name for one in plot.series][:4] for plot in make_replay_plots(result)] == [[*POLICIES]] * 3
    page = write_page(result, tmp_path, monkeypatch)
    content = page.read_text()
    assert content.index("gain over never") < content.index("<svg") < content.index('id="rule-2026-05"')
    assert content.count("<figcaption") == 3
    assert (
        "roc_auc and cost per row are means of the months; the gain and what is saved per row are over all" in content
    )
    assert "fitted without the last 28 days whose outcomes are known" in content
    assert "by growth (LK712), one check a period" in content
    assert find_wrong_words(page) == []
