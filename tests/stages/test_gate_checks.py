"""Challengers with one fault each, real small models: each is refused for its reason, and a better one is promoted."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.artifacts import PLACES
from labkit.data.table_files import save_table
from labkit.errors import ChampionError, DataError
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import make_candidate
from labkit.model.evaluation import gate_limits
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.fairness import Difference
from labkit.model.evaluation.gate import Check, Decision
from labkit.model.evaluation.metrics import compute_metric
from labkit.model.evaluation.predictions import Predictions
from labkit.model.onnx import converters
from labkit.model.release import bundle
from labkit.model.training import comparison
from labkit.params.evaluation import Fairness, Gate
from labkit.params.experiment import Params
from labkit.params.tables import Target
from labkit.run.records import registry, tracking_client
from labkit.stages import gate_checks, model_versions, promotion
from sklearn.pipeline import Pipeline

from tests.stages.releases import find_champion, publish_release, put_release, read_decision

TARGET = Target(column="y", task="classification", positive="yes")
N_ROWS, N_TRAINING = 4000, 2000
NO_GRAPH = {"rows": 0, "largest_difference": None, "tolerance": 1e-5, "reason": "`deploy.onnx` is off"}
PASSED = Decision((Check("better than the dummy", True, "by far"),))


@cache
def make_table() -> pd.DataFrame:
    """Return rows whose class depends on `a` and, twice as much, on `b`; `noise` is noise."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({name: random.normal(size=N_ROWS) for name in ("a", "b", "noise")})
    table["region"] = random.choice(["north", "south", "east", "west"], N_ROWS, p=[0.3, 0.3, 0.2, 0.2])
    score = table["a"] + 2 * table["b"] + random.normal(size=N_ROWS)
    return table.assign(y=np.where(score > 0, "yes", "no"))


@dataclass
class Lab:
    """An experiment with a holdout in place, in which releases are made."""

    root: Path
    numbers: list[int] = field(default_factory=list)

    def make_params(self, **gate: Any) -> Params:
        """Return its params with limits of the gate."""
        content: dict[str, Any] = {
            "experiment": "e",
            "seed": 0,
            "data": {
                "tables": {"t": {"path": "t.csv"}},
                "target": {"column": "y", "task": "classification", "positive": "yes"},
            },
            "training": {"metric": "roc_auc"},
            "evaluation": {"bootstrap_samples": 200, "gate": gate},
            **{section: {} for section in ("eda", "wrangling", "features", "deploy")},
        }
        return Params.model_validate_json(json.dumps(content))

    def release(self, model: Any, **options: Any) -> bundle.Release:
        """Write and open the release of a model."""
        folder = self.root / f"release-{len(self.numbers)}"
        self.numbers.append(0)
        folder.mkdir()
        facts = {"experiment": "e", "task": "classification", "classes": ["no", "yes"], "metric": "roc_auc"}
        facts |= {"classes": options.get("classes", facts["classes"])}
        facts |= {"onnx": options.get("onnx", NO_GRAPH), "threshold": options.get("threshold")}
        bundle.write_release(
            folder,
            model,
            graph=options.get("graph"),
            facts=facts,
            contract=json.dumps(options.get("contract", {})),
            card="# Card\n",
            example=make_table()[list(model[0].inputs_)],
        )
        return bundle.load_release(folder)

    def check(self, model: Any, *, limits: dict[str, Any] | None = None, **options: Any) -> dict[str, Check]:
        """Return the checks of a release by itself."""
        found = gate_checks.list_checks(self.make_params(**(limits or {})), self.release(model, **options), PASSED)
        return {check.name: check for check in found}

    def compare(self, challenger: Any, champion: Any, **gate: Any) -> dict[str, Check]:
        """Return the checks of a release against another."""
        ours, theirs = (one if isinstance(one, bundle.Release) else self.release(one) for one in (challenger, champion))
        found = gate_checks.list_comparisons(self.make_params(**gate), ours, theirs.folder, champion="version 1")
        return {check.name: check for check in found}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params").mkdir()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    (tmp_path / "data/e/clean").mkdir(parents=True)
    save_table(tmp_path / "data/e" / PLACES["clean_holdout"], make_table()[N_TRAINING:].rename_axis(index="row"))
    return Lab(tmp_path)


def fit(columns: Sequence[str], *, name: str = "linear", rows: pd.DataFrame | None = None) -> Any:
    """Return a model of some columns, fitted to the training rows or to others."""
    rows = make_table()[:N_TRAINING] if rows is None else rows
    row_features = RowFeatures().fit(rows[list(columns)])
    candidate = make_candidate(name, TARGET, row_features.outputs_, seed=0)
    parts = [(row_features.transform(rows[list(columns)]), rows["y"])]
    return comparison.fit_model(candidate, row_features, parts, target=TARGET, seed=0)


def list_failed(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if not check.passed]


WORSE, SLICE = "not worse than the champion", "no group of rows much worse than before"


def test_better_model_passes_every_check(lab: Lab) -> None:
    limits = {"required_value": 0.85, "most_miscalibration": 0.1, "most_milliseconds": 10_000}
    limits |= {"fairness": {"columns": ["region"], "most_difference": 0.2}}
    found = lab.check(fit("ab"), limits=limits) | lab.compare(fit("ab"), fit("a"))
    assert list_failed(found) == []
    assert len(found) == 11
    assert "over version 1; the lower end is within the accepted loss of 0" in found[WORSE].evidence


def test_worse_model_is_refused(lab: Lab) -> None:
    found = lab.compare(fit("a"), fit("ab"))
    assert WORSE in list_failed(found)
    assert "roc_auc gain of -0." in found[WORSE].evidence


def test_model_that_is_better_only_on_a_lucky_split_is_refused(lab: Lab) -> None:
    """The best of several models that are as good as the champion: better on this holdout, not better."""
    training = make_table()[:N_TRAINING]
    samples = [training.sample(frac=0.7, random_state=seed) for seed in range(6)]
    gains = {}
    champion = lab.release(fit("ab", rows=training.sample(frac=0.7, random_state=99)))
    for seed, rows in enumerate(samples):
        check = lab.compare(fit("ab", rows=rows), champion)[WORSE]
        gains[seed] = (float(check.evidence.split(" gain of ")[1].split(" ")[0]), check)
    gain, check = max(gains.values(), key=lambda pair: pair[0])
    assert gain > 0
    assert not check.passed
    assert "the lower end is beyond the accepted loss of 0" in check.evidence
    tolerant = lab.compare(fit("ab", rows=samples[0]), champion, champion_tolerance_share=0.05)
    assert tolerant[WORSE].passed


def test_model_that_is_better_overall_but_ten_points_worse_on_a_slice_is_refused(lab: Lab) -> None:
    rows = make_table()[:N_TRAINING].copy()
    west = rows["region"] == "west"
    rows.loc[west, "y"] = np.random.default_rng(1).choice(["no", "yes"], int(west.sum()))
    challenger = fit(["a", "b", "region"], name="hist_gradient_boosting", rows=rows)
    found = lab.compare(challenger, fit("a"))
    assert list_failed(found) == [SLICE]
    assert "where region = west (" in found[SLICE].evidence
    assert "with version 1; a loss of at most 0.05 in roc_auc is accepted" in found[SLICE].evidence
    assert list_failed(lab.compare(challenger, fit("a"), slice_tolerance=0.6)) == []


def test_model_whose_graph_predicts_otherwise_is_refused_whatever_its_release_claims(lab: Lab) -> None:
    name, model = "serves the predictions that were evaluated", fit("ab")
    claimed = {"rows": 2000, "largest_difference": 0.0, "tolerance": 1e-5, "reason": ""}
    same = lab.check(model, graph=converters.convert(model), onnx=claimed)
    assert list_failed(same) == []
    other = fit("ab", rows=make_table()[:300])
    found = lab.check(model, graph=converters.convert(other), onnx=claimed)
    assert list_failed(found) == [name]
    assert "on 1,000 rows the ONNX graph differs from the pipeline by at most 0." in found[name].evidence
    assert "beyond the accepted 1e-05" in found[name].evidence


def test_model_that_was_trained_on_holdout_rows_is_refused(lab: Lab) -> None:
    name = "trained without holdout rows"
    found = lab.check(fit("ab", rows=make_table()[: N_TRAINING + 7]))
    assert list_failed(found) == [name]
    assert found[name].evidence.startswith("7 of 2,000 holdout rows are among its training rows: ")
    model = fit("ab")
    del model.row_hashes_
    assert "does not hold the hashes" in lab.check(model)[name].evidence


CONTRACT = {"columns": {"a": {"nullable": True}, "b": {"nullable": False}}}


@pytest.mark.parametrize(
    ("columns", "contract", "refusals"),
    [
        ("ab", CONTRACT, ""),
        ("ab", {"columns": {"a": {"nullable": False}, "b": {"nullable": True}}}, "a may not be missing"),
        (["a", "b", "noise"], CONTRACT, "noise is required"),
        ("a", CONTRACT, "b is unknown"),
        ("ab", {"columns": {"a": {"nullable": True, "less_than_or_equal_to": 1.0}}}, ""),
    ],
)
def test_model_whose_contract_refuses_what_the_champion_accepts_is_refused(
    lab: Lab, columns: Sequence[str], contract: dict[str, Any], refusals: str
) -> None:
    champion = lab.release(fit("ab"), contract=CONTRACT)
    check = lab.compare(lab.release(fit(columns), contract=contract), champion)["accepts what the champion accepts"]
    assert check.passed is (refusals == "")
    if refusals:
        assert f"requests that version 1 accepts would be refused: {refusals}: tell the clients" in check.evidence


def test_champion_without_a_contract_is_said_to_have_none(lab: Lab) -> None:
    check = lab.compare(fit("ab"), fit("a"))["accepts what the champion accepts"]
    assert (check.passed, check.evidence.split(",")[0]) == (True, "version 1 has no contract")


def test_champion_that_cannot_predict_is_still_compared_in_what_it_accepts(lab: Lab) -> None:
    champion = lab.release(fit(["a", "b", "noise"]), contract={"columns": {"noise": {"nullable": True}}})
    rows = make_table()[N_TRAINING:].drop(columns="noise").rename_axis(index="row")
    save_table(lab.root / "data/e" / PLACES["clean_holdout"], rows)
    found = lab.compare(fit("ab"), champion)
    assert found[WORSE].warning == "version 1 could not be compared"
    assert "would be refused: noise is unknown" in found["accepts what the champion accepts"].evidence


def test_rows_of_a_class_that_a_model_does_not_know_count_as_errors_and_the_models_are_compared(lab: Lab) -> None:
    training, holdout = make_table()[:N_TRAINING], make_table()[N_TRAINING:].copy()
    holdout.loc[holdout.index[:200], "y"] = "maybe"
    save_table(lab.root / "data/e" / PLACES["clean_holdout"], holdout.rename_axis(index="row"))
    assert list_failed(lab.compare(fit("ab"), fit("a"))) == []
    assert WORSE in list_failed(lab.compare(fit("a"), fit("ab")))
    three = training.copy()
    three.loc[three.index[:400], "y"] = "maybe"
    champion = lab.release(fit("ab", rows=three), classes=["maybe", "no", "yes"])
    assert WORSE in list_failed(lab.compare(fit("a"), champion))


def test_champion_that_knows_fewer_than_two_classes_of_the_holdout_is_not_compared(lab: Lab) -> None:
    for renamed in (["no", "sure"], ["0", "1"]):
        check = lab.compare(fit("ab"), lab.release(fit("ab"), classes=renamed))[WORSE]
        assert (check.passed, check.warning) == (True, "version 1 could not be compared")
        shown = "; ".join(map(repr, renamed))
        assert f"(it predicts the classes {shown}, where the holdout has 'no'; 'yes')" in check.evidence


def test_champion_that_needs_a_missing_library_does_not_lose(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    challenger, champion = lab.release(fit("a")), lab.release(fit("ab", name="lightgbm"))
    assert WORSE in list_failed(lab.compare(challenger, champion))
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightgbm"]:
        monkeypatch.setitem(sys.modules, name, None)
    refused = r"version 1 cannot be tried here \(.* needs lightgbm, which is not installed.*nothing is published"
    with pytest.raises(ChampionError, match=refused):
        lab.compare(challenger, champion)


def treat_unalike() -> Any:
    """Return a model that selects nearly everyone of the north and few others."""
    rows = make_table()[:N_TRAINING].copy()
    random = np.random.default_rng(2)
    rows["y"] = np.where(random.random(N_TRAINING) < np.where(rows["region"] == "north", 0.9, 0.2), "yes", "no")
    return fit(["a", "region"], rows=rows)


@pytest.mark.parametrize(
    ("make", "limits", "name", "words"),
    [
        (lambda: fit("a"), {"required_value": 0.9}, "reaches the required value", "; at least 0.9 is required"),
        (
            lambda: fit("ab", rows=make_table()[:N_TRAINING].assign(y=np.tile(["yes", "yes", "yes", "no"], 500))),
            {"most_miscalibration": 0.05},
            "calibrated well enough",
            "on average; at most 0.05 is accepted",
        ),
        (lambda: fit("a"), {"most_milliseconds": 1e-6}, "predicts fast enough", "at most 1e-06 ms are accepted"),
        (
            treat_unalike,
            {"fairness": {"columns": ["region"], "most_difference": 0.2, "rates": ["selection"]}},
            "treats groups alike",
            "selection rate 1 where region is north, ",
        ),
    ],
)
def test_declared_limit_is_enforced(
    lab: Lab, make: Callable[[], Any], limits: dict[str, Any], name: str, words: str
) -> None:
    model = make()
    # Models of other labels were not fitted on the rows' own values, so only the limit may fail.
    found = lab.check(model, limits=limits)
    assert list_failed(found) == [name]
    assert words in found[name].evidence


def test_time_is_that_of_the_prediction_that_is_served(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of probabilities, where the release has no graph, by the pipeline as it was loaded once."""
    opened = lab.release(fit("ab"))
    called = []

    def note(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **options: called.append(name) or method(*given, **options)

    for name in ("predict", "predict_proba"):
        monkeypatch.setattr(Pipeline, name, note(name, getattr(Pipeline, name)))
    assert gate_checks.measure_milliseconds(opened, gate_checks.load_holdout(lab.make_params())) > 0
    assert {*called} == {"predict_proba"}
    assert opened.pipeline is opened.pipeline


def test_fairness_needs_groups_with_enough_rows_and_a_known_column(lab: Lab) -> None:
    rows = make_table()[N_TRAINING:].rename_axis(index="row")
    few = rows.assign(group=np.where(np.arange(len(rows)) < 49, "few", None))
    save_table(lab.root / "data/e" / PLACES["clean_holdout"], few)
    limits = {"fairness": {"columns": ["group"], "most_difference": 0.01}}
    check = lab.check(fit("ab"), limits=limits)["treats groups alike"]
    assert (check.passed, check.warning) == (True, "groups too small to compare")
    with pytest.raises(DataError, match=r"evaluation.gate.fairness.columns: the clean rows have no column 'sex'"):
        lab.check(fit("ab"), limits={"fairness": {"columns": ["sex"], "most_difference": 0.1}})


def test_what_fairness_could_not_compare_is_named(lab: Lab) -> None:
    rows = make_table()[N_TRAINING:].rename_axis(index="row")
    other = np.where(rows["y"] == "yes", "all that count", "none that counts")
    save_table(lab.root / "data/e" / PLACES["clean_holdout"], rows.assign(other=other))
    limits = {"fairness": {"columns": ["region", "other"], "most_difference": 1.0, "rates": ["true_positive"]}}
    check = lab.check(fit("ab"), limits=limits)["treats groups alike"]
    assert (check.passed, check.warning) == (True, "some groups too small to compare")
    assert check.evidence.endswith(
        "; not compared, as fewer than two groups have 50 rows that count: true positive rate by other"
    )


def test_difference_without_an_interval_says_so() -> None:
    differences = [Difference("sex", "accuracy", ("a", 0.9), ("b", 0.5), Interval(0.4, np.nan, np.nan), 0)]
    check = gate_limits.check_fairness(differences, Fairness(columns=("sex",), most_difference=0.1), confidence=0.95)
    assert "a difference of 0.4 (no interval: too few independent rows)" in check.evidence
    assert (check.passed, check.warning) == (True, "groups differ by sex, too few independent rows to tell")


def test_difference_that_may_be_chance_is_a_warning(lab: Lab) -> None:
    limits = {"fairness": {"columns": ["region"], "most_difference": 0.001, "rates": ["selection"]}}
    check = lab.check(fit("ab"), limits=limits)["treats groups alike"]
    assert (check.passed, check.warning) == (True, "groups differ by region, perhaps by chance")


def test_calibration_error_of_several_classes_is_that_of_all() -> None:
    """The last class is predicted perfectly, the others are mistaken for each other half of the time."""
    y_true = np.repeat([0, 1, 2], 100)
    y_proba = np.eye(3)[y_true]
    y_proba[:100:2], y_proba[100:200:2] = [0, 1, 0], [1, 0, 0]
    predictions = Predictions.from_proba(y_true, y_proba, ("a", "b", "c"), 2)
    [check] = gate_limits.check_calibration(predictions, Gate(most_miscalibration=0.1))
    assert not check.passed
    assert "differ by 0.222 on average over the 3 classes" in check.evidence


@pytest.mark.parametrize(
    ("metric", "y_true", "named"),
    [("roc_auc", [1, 1], "accuracy"), ("log_loss", [1, 1], "log_loss"), ("roc_auc", [0, 1], "roc_auc")],
)
def test_loss_is_measured_in_the_metric_unless_it_is_undefined(metric: str, y_true: list[int], named: str) -> None:
    predictions = Predictions.from_proba(np.array(y_true), np.array([[0.4, 0.6], [0.3, 0.7]]), ("no", "yes"))
    assert gate_limits.measure_loss(metric, predictions, predictions) == (
        named, pytest.approx(compute_metric(named, predictions)), pytest.approx(compute_metric(named, predictions)), 0.0
    )  # fmt: skip


@pytest.mark.slow
def test_dry_run_decides_and_records_but_promotes_nothing(root: Path, params: Params) -> None:
    gate = params.evaluation.gate.model_copy(update={"mode": "dry_run"})
    dry = params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"gate": gate})})
    put_release(root, params, "a")
    assert publish_release(dry) == "dry run: version 1 would become the champion; no version was promoted"
    assert find_champion(params) is None
    assert publish_release(params) == "version 1 is now the champion"
    put_release(root, params, "b")
    assert publish_release(dry).startswith("dry run: version 2 would not become the champion: not shown to be about as")
    assert find_champion(params) == 1
    decision = read_decision(root, params)
    assert (decision["decision"], decision["mode"], decision["candidate"]) == ("dry run", "dry_run", 2)
    assert {"name", "passed", "evidence", "warning"} == {*decision["checks"][0]}
    version = registry.get_version(params.experiment, 2)
    client = tracking_client.get_client()
    assert client.get_model_version(params.experiment, "2").tags["validation_status"] == "failed"
    stored = Path(client.download_artifacts(version.run_id, "decision.json", str(root)))
    assert json.loads(stored.read_text()) == decision
    assert model_versions.list_versions(params.experiment)[0].why.startswith("dry run: ")
    promotion.promote(params, 2, reason="approved")
    assert find_champion(params) == 2
