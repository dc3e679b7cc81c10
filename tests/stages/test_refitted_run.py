"""A pipeline with `deploy.refit` on rows with times, from the raw table to a retraining on more rows."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.artifacts import PLACES
from labkit.data.table_files import load_table
from labkit.model.evaluation.row_hashes import hash_rows
from labkit.model.release import bundle
from labkit.params.tables import Target
from labkit.run.pipeline import experiments
from labkit.storage.digests import compute_digest

from tests.conftest import call_labkit, make_checkout
from tests.git import commit_all
from tests.own_store import work_in
from tests.shared_server import SharedServer
from tests.shop import change

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("refitted")]
PARAMS = """
experiment: orders
seed: 1
data:
  tables: {orders: {path: tables/orders.csv, times: [day]}}
  time: {predict_at: day, outcome_known_at: day + hours(30), zone: America/New_York}
  target: {column: returned, task: classification, positive: 1}
  split: {method: time, validation_from: "2026-04-01", holdout_from: "2026-05-01"}
eda: {}
wrangling: {}
features:
  history: {kind: {keys: [kind], days: [7]}}
  drop: [day]
training: {metric: log_loss, models: [dummy, hist_gradient_boosting], folds: 2, calibrate: true}
evaluation:
  bootstrap_samples: 100
  costs: {false_positive: 1, false_negative: 3}
  gate: {minimum_gain: 0, champion_tolerance: 0.1, slice_tolerance: 0.9}
deploy: {refit: true}
"""
SENTENCE = (
    "Metrics were measured on the model fitted on {:,} training rows; the published model is the same recipe fitted on all "
    "{:,} rows, not measured on any row."
)


def make_orders(n_days: int) -> pd.DataFrame:
    """Return 12 orders a day from 1 January 2026 on; the same first days for any number."""
    n_rows = n_days * 12
    random = np.random.default_rng(3)
    values = random.normal(size=(400 * 12, 3))[:n_rows]
    days = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.repeat(np.arange(n_days), 12), unit="D")
    kinds = np.array(["book", "shoe", "coat"])[np.arange(n_rows) % 3]
    returned = (values[:, 0] + (kinds == "shoe") + values[:, 2] > 0.5).astype(int)
    return pd.DataFrame({"day": days, "price": values[:, 0], "kind": kinds, "returned": returned})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path, shared_server: SharedServer) -> Iterator[Path]:
    """Return a checkout in which the experiment has run once, on 150 days."""
    with work_in(make_checkout(tmp_path_factory.mktemp("refitted") / "checkout", store=store)) as root:
        (root / "params" / "orders.yaml").write_text(PARAMS)
        change(root / "dvc.yaml", "experiments: [", "experiments: [orders, ")
        (root / "tables").mkdir()
        make_orders(150).to_csv(root / "tables" / "orders.csv", index=False)
        make_orders(160).to_csv(root / "new.csv", index=False)
        experiments.add_files([root / "tables" / "orders.csv"])
        shared_server.lend(root)
        call(root, "run", "orders")
        commit_all(root)
        yield root


def call(root: Path, *arguments: str) -> str:
    done = call_labkit(root, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load_clean(root: Path, *parts: str) -> pd.DataFrame:
    return pd.concat([load_table(root / "data" / "orders" / PLACES[f"clean_{part}"]) for part in parts])


def test_release_of_a_split_by_time_was_fitted_on_all_rows(root: Path) -> None:
    opened = bundle.load_release(root / "data" / "orders" / "release")
    rows, target = (
        load_clean(root, "training", "validation", "holdout"),
        Target(column="returned", task="classification"),
    )
    np.testing.assert_array_equal(opened.pipeline.row_hashes_, hash_rows(rows["returned"], target))
    assert len(opened.evaluated_pipeline.row_hashes_) == len(load_clean(root, "training", "validation"))
    assert opened.graph is not None
    np.testing.assert_allclose(opened.predict(rows), opened.pipeline.predict_proba(rows), atol=1e-5)
    evaluated = load_table(root / "data" / "orders" / PLACES["predictions"])
    holdout = load_clean(root, "holdout")
    kept = opened.predict_as_evaluated(holdout)[:, 1]
    np.testing.assert_allclose(kept, evaluated["probability_1"], atol=1e-12)
    assert np.abs(kept - opened.predict(holdout)[:, 1]).mean() > 0.001
    rates = [
        one[0].transform(holdout)[["kind_rate_7d", "kind_count_7d"]]
        for one in (opened.pipeline, opened.evaluated_pipeline)
    ]
    pd.testing.assert_frame_equal(*rates)


def test_pages_and_commands_say_what_was_measured(root: Path) -> None:
    n_evaluated, n_holdout = len(load_clean(root, "training", "validation")), len(load_clean(root, "holdout"))
    sentence = SENTENCE.format(n_evaluated, n_evaluated + n_holdout)
    folder, pages = root / "data" / "orders" / "release", root / "reports"
    assert json.loads((folder / "release.json").read_text())["refit"]["description"] == sentence
    assert f"**Refitted.** {sentence}" in (folder / "MODEL_CARD.md").read_text()
    for page in ("index.html", "orders/06_deploy.html", "orders/09_explanation.html", "orders/publish.html"):
        assert sentence in " ".join((pages / page).read_text().split()), page
    assert f"version 1: {sentence}" in " ".join(call(root, "models", "orders").split())
    assert json.loads(call(root, "models", "orders", "--json"))["versions"][0]["refit"] == sentence


def test_the_checks_of_the_explanation_are_of_the_refitted_model(root: Path) -> None:
    content = json.loads((root / "data" / "orders" / PLACES["explanation"]).read_text())
    (explained,) = [one for one in content["checks"] if one["code"] == "LK901"]
    assert explained["status"] == "passed"
    assert "from the refitted pipeline's by at most" in explained["evidence"]


def test_metrics_of_check_model_are_those_of_the_evaluation(root: Path) -> None:
    found = json.loads(call(root, "check-model", "orders", "--json"))
    evaluated = json.loads((root / "data" / "orders" / PLACES["evaluation"]).read_text())
    values = {line["metric"]: line["model"] for line in found["metrics"]}
    for name in ("log_loss", "roc_auc"):
        assert values[name] == pytest.approx(evaluated["holdout"][name]["value"], abs=1e-8)
    again = json.loads(call(root, "check-model", "orders", "1", "--json"))
    assert {line["metric"]: line["model"] for line in again["metrics"]} == values
    assert "LK611" in [one["code"] for one in found["checks"]]


def test_growth_and_age_count_from_all_rows(root: Path) -> None:
    make_orders(155).iloc[150 * 12 :].to_csv(root / "current.csv", index=False)
    found = json.loads(call(root, "monitor", "orders", "--current", "current.csv", "--json"))
    evidence = {one["code"]: one["evidence"] for one in found["checks"]}
    n_rows = len(load_clean(root, "training", "validation", "holdout"))
    assert f"of the {n_rows:,} it trained on" in evidence["LK712"]
    assert evidence["LK711"].startswith("the latest row is 5 d later than the training rows, which span 149 d")


def test_release_is_the_same_when_it_is_made_again(root: Path) -> None:
    folder = root / "data" / "orders" / "release"
    before = compute_digest(folder)
    call(root, "run", "orders", "--force", "deploy")
    assert compute_digest(folder) == before


def test_retraining_compares_with_the_champion_before_its_refit(root: Path) -> None:
    call(root, "retrain", "orders", "--data", "new.csv", "--reason", "ten more days")
    decision = json.loads((root / "reports" / "orders" / "publish.json").read_text())
    evidence = {one["name"]: one["evidence"] for one in decision["checks"]}
    assert " version 1 before it was refitted" in evidence["not worse than the champion"]
    assert evidence["trained without holdout rows"].startswith("0 of ")
    assert decision["version"] in (1, 2)
