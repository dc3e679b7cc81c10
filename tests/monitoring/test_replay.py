"""A replay of a small table whose relation turns round in its fifth month, checked by hand."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.errors import DataError, ParamsError
from labkit.model.estimators.candidates import make_candidate
from labkit.monitoring.replay import POLICIES, PolicyRun, Replay
from labkit.monitoring.replay_page import write_replay
from labkit.monitoring.replay_result import summarise_replay
from labkit.params.experiment import Params
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from tests.wording import find_wrong_words

ASKED, KNOWN = "predict_at", "outcome_known_at"
KINDS = {"a": "number", "b": "number"}


def make_params(**monitoring: Any) -> Params:
    history = {"all": {"keys": [], "days": [7]}}
    content: dict[str, Any] = {
        "experiment": "turned",
        "seed": 0,
        "data": {
            "tables": {"t": {"path": "t.csv", "times": ["asked", "known"]}},
            "time": {"predict_at": "asked", "outcome_known_at": "known", "zone": "America/New_York"},
            "target": {"column": "y", "task": "classification", "positive": "yes"},
            "split": {"method": "time", "validation_from": "2026-04-01", "holdout_from": "2026-06-01"},
        },
        "features": {"history": history},
        "training": {"metric": "roc_auc"},
        "evaluation": {
            "bootstrap_samples": 100,
            "costs": {"false_positive": 1, "false_negative": 4},
            "gate": {"champion_tolerance": 0.02},
        },
        "monitoring": monitoring,
        **{section: {} for section in ("eda", "wrangling", "deploy")},
    }
    return Params.model_validate_json(json.dumps(content))


@cache
def make_rows() -> pd.DataFrame:
    """Return eight months of 20 rows a day; outcomes are known two days later, and turn round on 1 May."""
    draw, n_rows = np.random.default_rng(3), 243 * 20
    asked = pd.Timestamp("2026-01-01 12:00", tz="UTC") + pd.to_timedelta(np.repeat(np.arange(243), 20), unit="D")
    a, b = draw.normal(size=n_rows), draw.normal(size=n_rows)
    sign = np.where(asked < pd.Timestamp("2026-05-01", tz="UTC"), 1.0, -1.0)
    late = draw.random(n_rows) < 1 / (1 + np.exp(-(2 * sign * a + b)))
    known = asked + pd.Timedelta(days=2)
    return pd.DataFrame({"a": a, "b": b, "y": np.where(late, "yes", "no"), ASKED: asked, KNOWN: known})


def make_recipe(params: Params) -> Pipeline:
    kinds = KINDS | dict.fromkeys(("all_rate_7d", "all_count_7d"), "number")
    return make_candidate("linear", params.data.target, kinds, seed=0)


def make_replay(rows: pd.DataFrame, **monitoring: Any) -> Replay:
    params = make_params(**monitoring)
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
    recipe = make_candidate("linear", params.data.target, KINDS, seed=0)
    found = summarise_replay(replay := Replay(bare, rows, recipe), [run(replay, "never")])["policies"][0]
    training = rows[rows[KNOWN] <= "2026-03-01 05:00+00:00"]
    model = clone(recipe).fit(training[["a", "b"]], training["y"])
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


def test_what_cannot_be_replayed_is_refused() -> None:
    rows = make_rows()
    params = make_params()
    with pytest.raises(DataError, match="a replay needs rows of at least four weeks, found 3 weeks"):
        make_replay(rows[rows[ASKED] < "2026-01-18"])
    with pytest.raises(ParamsError, match="--from: name a day after 2026-01-31, up to 2026-08-31"):
        Replay(params, rows, make_recipe(params), begin=pd.Timestamp("2027-01-01"))


def test_page_has_policies_courses_and_decisions(
    replay: Replay, runs: dict[str, PolicyRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params").mkdir()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    result = summarise_replay(replay, list(runs.values())) | {"at": "2026-09-01T00:00:00+00:00", "champion": 1}
    page = write_replay(result, "data/turned/monitoring/replays/x.json")
    content = page.read_text()
    assert content.index("gain over never") < content.index("<svg") < content.index('id="rule-2026-05"')
    assert content.count("<figcaption") == 3
    assert find_wrong_words(page) == []
