"""Releases whose model was refitted on all rows: what is checked of which of its two models, and what they are compared by."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.artifacts import PLACES
from labkit.data.table_files import save_table
from labkit.features.row_features import RowFeatures
from labkit.model.evaluation.gate import Check, Decision
from labkit.model.release import bundle, runtime
from labkit.model.release.own_code import OwnCode
from labkit.model.training.comparison import fit_model
from labkit.model.training.refit import refit_for_release
from labkit.params.experiment import Params
from labkit.stages import gate_checks, model_check, model_versions
from labkit.storage.atomic import write_json

from tests.stages.releases import PARITY, TABLE, TARGET, find_champion, publish_release, read_decision

LATER = TABLE.assign(y=-TABLE["y"])
"""Rows whose relation has turned round."""
CHAMPION = "not worse than the champion"
GATE = {"passed": True, "checks": [{"name": "plausible result", "passed": True, "evidence": "by 1", "warning": ""}]}
EVALUATION: dict[str, Any] = {
    "metric": "mae",
    "rows": 100,
    "confidence": 0.95,
    "holdout": {"mae": {"value": 0.25, "low": 0.2, "high": 0.3}},
    "dummy": {"mae": 1.0},
    "checks": [],
}


def make_facts(params: Params, **facts: Any) -> dict[str, Any]:
    found = {"experiment": params.experiment, "task": "regression", "classes": [], "metric": "mae", "onnx": PARITY}
    return found | {"target": "y", "metrics": {"holdout_mae": 0.25}} | facts


def fit(rows: pd.DataFrame, columns: str = "ab", name: str = "linear") -> Any:
    features = RowFeatures(drop=sorted({*"abc"} - {*columns})).fit(rows.drop(columns="y"))
    return fit_model(name, features, [(features.transform(rows), rows["y"])], target=TARGET, seed=0)


def put(
    root: Path, params: Params, parts: list[pd.DataFrame], columns: str = "ab", *, is_refitted: bool = True
) -> Path:
    """Write the release of a model fitted on all parts but the last one and, if it is refitted, on that one too."""
    evaluated = fit(pd.concat(parts[:-1]), columns)
    model, refit = refit_for_release(params, evaluated, parts if is_refitted else [], threshold=None)
    folder = root / "data" / params.experiment / PLACES["release"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    facts = make_facts(params, **({"refit": refit} if refit else {}))
    written = {"facts": facts, "contract": "{}", "card": "# Card\n", "example": TABLE[list(columns)]}
    bundle.write_release(folder, model, graph=None, **written)
    bundle.extend_release(folder, bundle.make_evaluated_file(evaluated if refit else None, OwnCode()))
    data = root / "data" / params.experiment
    save_table(data / PLACES["clean_holdout"], parts[-1].rename_axis(index="row"))
    write_json(data / PLACES["gate"], GATE)
    write_json(data / PLACES["evaluation"], EVALUATION)
    return folder


PARTS = [TABLE[:150], TABLE[150:200], TABLE[200:]]


def check(params: Params, folder: Path) -> dict[str, Check]:
    found = gate_checks.list_checks(params, bundle.load_release(folder), Decision(()))
    return {one.name: one for one in found}


def test_release_keeps_both_models_and_its_rows_are_all_rows(root: Path, params: Params) -> None:
    opened = bundle.load_release(put(root, params, PARTS))
    assert opened.is_refitted
    assert (len(opened.pipeline.row_hashes_), len(opened.evaluated_pipeline.row_hashes_)) == (300, 200)
    np.testing.assert_array_equal(opened.predict_as_evaluated(TABLE), fit(TABLE[:200]).predict(TABLE))
    np.testing.assert_array_equal(opened.predict(TABLE), fit(TABLE).predict(TABLE))
    assert opened.facts["refit"]["description"] == (
        "Metrics were measured on the model fitted on 200 training rows; the published model is the same recipe fitted on "
        "all 300 rows, not measured on any row."
    )


def test_release_without_refit_has_one_model(root: Path, params: Params) -> None:
    opened = bundle.load_release(put(root, params, PARTS, is_refitted=False))
    assert not opened.is_refitted
    assert opened.evaluated_pipeline is opened.pipeline
    assert not (opened.folder / runtime.EVALUATED).exists()


def test_gate_measures_the_evaluated_model_and_serves_the_refitted_one(root: Path, params: Params) -> None:
    folder = put(root, params, PARTS)
    found = check(params, folder)
    rows = found["trained without holdout rows"]
    assert rows.passed
    assert rows.evidence == ("0 of 100 holdout rows are among the training rows of the model before it was refitted")
    size = found["small enough to be served"].evidence
    served = sum(path.stat().st_size for path in folder.iterdir()) - (folder / runtime.EVALUATED).stat().st_size
    assert f"{served:,} bytes" in size
    assert found["serves the predictions of the refitted model"].passed
    assert not found["refitted model predicts like the evaluated one"].warning


def test_refitted_model_that_predicts_otherwise_is_a_warning(root: Path, params: Params) -> None:
    found = check(params, put(root, params, [TABLE[:150], TABLE[150:200], LATER[200:]]))
    one = found["refitted model predicts like the evaluated one"]
    assert (one.passed, one.warning) == (True, "refitted model predicts differently")
    assert one.evidence.startswith("on 100 holdout rows, each half predicted after fitting on the other half too, ")
    assert "standard deviations of the true values); at most 0.1 is accepted; those of the published" in one.evidence
    tolerant = params.model_copy(update={"deploy": params.deploy.model_copy(update={"refit_difference": 1.0})})
    assert not check(tolerant, root / "data" / params.experiment / PLACES["release"])[one.name].warning


def compare(params: Params, ours: Path, theirs: Path) -> dict[str, Check]:
    found = gate_checks.list_comparisons(params, bundle.load_release(ours), theirs, champion="version 1")
    return {one.name: one for one in found}


def keep(folder: Path, place: Path) -> Path:
    """Copy a release that the next one would replace."""
    return Path(shutil.copytree(folder, place))


def test_champion_that_has_seen_the_holdout_is_compared_as_it_was_evaluated(
    root: Path, params: Params, tmp_path: Path
) -> None:
    champion = keep(put(root, params, PARTS, "ab"), tmp_path / "champion")
    same = compare(params, put(root, params, PARTS, "ab"), champion)[CHAMPION]
    assert same.evidence == "predicts the same as version 1 before it was refitted on every holdout row"
    worse = compare(params, put(root, params, PARTS, "a"), champion)[CHAMPION]
    assert not worse.passed
    assert " over version 1 before it was refitted; " in worse.evidence


def test_champion_that_has_not_seen_the_holdout_is_compared_as_it_is_in_service(
    root: Path, params: Params, tmp_path: Path
) -> None:
    earlier = [LATER[:80], LATER[80:100], TABLE[100:200]]
    champion = keep(put(root, params, earlier), tmp_path / "champion")
    found = compare(params, put(root, params, PARTS), champion)[CHAMPION]
    assert " over version 1; " in found.evidence
    opened = bundle.load_release(champion)
    predict, name = gate_checks.choose_model_to_compare(
        bundle.load_release(champion), opened, TABLE[200:], TARGET, champion="version 1"
    )
    assert predict is not None
    assert name == "version 1"
    np.testing.assert_array_equal(predict(TABLE), fit(pd.concat(earlier)).predict(TABLE))


@pytest.mark.parametrize(
    ("rows", "is_refitted", "reason"),
    [
        (TABLE[:230], False, "it was fitted on 30 of 100 holdout rows, and it keeps no evaluated model"),
        (TABLE[:250], True, "it was fitted on 100 of 100 holdout rows, and its evaluated model saw some of them, too"),
    ],
)
def test_champion_that_learned_from_the_holdout_is_not_compared(
    root: Path, params: Params, tmp_path: Path, rows: pd.DataFrame, is_refitted: bool, reason: str
) -> None:
    parts = [rows, TABLE[250:]] if is_refitted else [rows, TABLE[230:]]
    champion = keep(put(root, params, parts, is_refitted=is_refitted), tmp_path / "champion")
    found = compare(params, put(root, params, PARTS), champion)
    assert not found[CHAMPION].passed
    assert found[CHAMPION].evidence == (
        f"version 1 cannot be compared fairly: {reason}. It stays the champion, unless a person replaces it without a "
        f"comparison: `labkit promote {params.experiment} --reason …`"
    )
    assert "no group of rows much worse than before" not in found
    rest = model_check.compare_metrics(params, bundle.load_release(put(root, params, PARTS)), champion)
    assert [line["champion"] for line in rest] == [None] * len(rest)


def test_champion_that_was_never_refitted_is_compared_as_before(root: Path, params: Params, tmp_path: Path) -> None:
    champion = keep(put(root, params, [TABLE[:230], TABLE[230:]], is_refitted=False), tmp_path / "champion")
    found = compare(params, put(root, params, PARTS, is_refitted=False), champion)[CHAMPION]
    assert " over version 1; " in found.evidence
    older = keep(put(root, params, PARTS, is_refitted=False), tmp_path / "older")
    assert compare(params, put(root, params, PARTS), older)[CHAMPION].evidence == (
        "predicts the same as version 1 on every holdout row"
    )


def test_metrics_of_a_checked_model_are_those_of_the_evaluated_one(root: Path, params: Params) -> None:
    parts = [TABLE[:150], TABLE[150:200], LATER[200:]]
    put(root, params, parts)
    lines = {line["metric"]: line["model"] for line in model_check.check_model(params, None).metrics}
    expected = np.abs(fit(TABLE[:200]).predict(LATER[200:]) - LATER["y"][200:]).mean()
    assert lines["mae"] == pytest.approx(expected)
    assert abs(lines["mae"] - np.abs(fit(pd.concat(parts)).predict(LATER[200:]) - LATER["y"][200:]).mean()) > 0.1


def test_refit_is_said_of_the_version_and_beside_the_result(root: Path, params: Params) -> None:
    folder = put(root, params, PARTS)
    assert publish_release(params) == "version 1 is now the champion"
    sentence = bundle.load_release(folder).facts["refit"]["description"]
    (version,) = model_versions.list_versions(params.experiment)
    assert (version.refit, version.to_dict()["refit"]) == (sentence, sentence)
    assert model_versions.describe_refits([version]) == [f"version 1: {sentence}"]
    decision = read_decision(root, params)
    assert decision["scorecard"]["refit"] == sentence
    assert "LK611" in [one["code"] for one in decision["scorecard"]["checks"]]
    put(root, params, PARTS, is_refitted=False)
    publish_release(params)
    newest, _ = model_versions.list_versions(params.experiment)
    assert "refit" not in newest.to_dict()
    assert "refit" not in read_decision(root, params)["scorecard"]
    assert find_champion(params) == 2
