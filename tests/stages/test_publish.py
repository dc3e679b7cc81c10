"""Publishing: nothing is promoted uncompared, and two publications at once end with the better release."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from labkit.artifacts import PLACES
from labkit.checks import CheckResult
from labkit.data.table_files import save_table
from labkit.errors import ChampionError, ModelError, ParamsError, TrackingError
from labkit.features.outcome_rates import PREDICT_AT
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import make_candidate
from labkit.model.release import bundle, runtime
from labkit.model.training import comparison
from labkit.params.experiment import Params
from labkit.run.records import registry, tracking_client
from labkit.run.records.champion_moves import CHAMPION, load_moves
from labkit.stages import promotion, publish
from labkit.storage import digests
from labkit.storage.atomic import write_json
from mlflow.exceptions import MlflowException

from tests.stages.releases import (
    PARITY,
    TABLE,
    TARGET,
    find_champion,
    find_release,
    publish_release,
    put_release,
    read_decision,
)


@pytest.mark.slow
def test_mlflow_model_takes_the_clean_table_of_the_experiment(root: Path, params: Params) -> None:
    """Times with a zone, whole numbers, missing values, and columns that no model uses, such as the target."""
    random, n_rows = np.random.default_rng(3), 300
    predict_at = pd.Timestamp("2013-01-01 05:15", tz="UTC") + pd.to_timedelta(np.arange(n_rows) * 7, "h")
    rows = pd.DataFrame(
        {
            "sched_dep": predict_at,
            "flight": random.integers(1, 9000, n_rows),
            "seats": np.where(np.arange(n_rows) < 200, random.integers(20, 400, n_rows), np.nan),
            "humid": np.where(random.random(n_rows) < 0.3, np.nan, random.normal(60, 9, n_rows)),
            "is_cargo": random.random(n_rows) < 0.5,
            "carrier": pd.Series(random.choice(["UA", "B6", None], n_rows), dtype="str"),
            PREDICT_AT: predict_at,
            "y": random.normal(size=n_rows),
        }
    ).astype({"sched_dep": "datetime64[us, UTC]", PREDICT_AT: "datetime64[us, UTC]"})
    dates = {"sched_dep": {"zone": "America/New_York", "parts": ["hour", "weekday"]}}
    row_features = RowFeatures(columns={"dates": dates})
    training, holdout = rows[:200], rows[200:].rename_axis(index="row")
    inputs = training.drop(columns=["y", PREDICT_AT])
    features = row_features.fit(inputs).transform(inputs)
    candidate = make_candidate("linear", TARGET, row_features.outputs_, seed=0)
    model = comparison.fit_model(candidate, row_features, [(features, training["y"])], target=TARGET, seed=0)
    assert set(model[0].inputs_.values()) == {"time", "number", "boolean", "category"}
    folder = root / "data" / params.experiment / PLACES["release"]
    folder.mkdir()
    facts = {"experiment": params.experiment, "task": "regression", "classes": [], "metric": "mae", "onnx": PARITY}
    example = training[list(model[0].inputs_)]
    bundle.write_release(folder, model, graph=None, facts=facts, contract="{}", card="# Card\n", example=example)
    path = root / "data" / params.experiment / PLACES["clean_holdout"]
    save_table(path, holdout)
    publish.publish(params)
    served = mlflow.pyfunc.load_model(str(find_release(root, params).with_name("model")))
    clean = pd.read_parquet(path)
    assert {"int64", "float64", "bool"} <= set(map(str, clean.dtypes))
    assert clean["seats"].isna().all()
    assert served.predict(clean) == pytest.approx(model.predict(holdout))
    whole = clean.assign(humid=clean["humid"].fillna(60).round().astype("int64"))
    assert served.predict(whole) == pytest.approx(model.predict(whole))
    with pytest.raises(MlflowException, match="flight"):
        served.predict(clean.drop(columns="flight"))


@pytest.mark.slow
def test_a_better_release_becomes_champion_and_a_worse_one_challenger(root: Path, params: Params) -> None:
    put_release(root, params, "a")
    assert publish_release(params) == "version 1 is now the champion"
    put_release(root, params, "ab")
    assert publish_release(params) == "version 2 is now the champion"
    put_release(root, params, "b")
    assert publish_release(params).startswith("version 2 stays champion; version 3 is the challenger")
    assert find_champion(params) == 2
    decision = read_decision(root, params)
    assert decision["decision"] == "kept champion"
    [reason] = [reason for reason in decision["reasons"] if "not worse than the champion" in reason]
    assert "resampling 100 rows) over version 2; the lower end is beyond" in reason
    put_release(root, params, "ab")
    assert publish_release(params) == "version 2 is already the champion"
    assert read_decision(root, params)["decision"] == "already champion"


def lose(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def change(folder: Path) -> None:
    path = folder / bundle.CARD
    path.write_bytes(path.read_bytes().replace(b"C", b"c", 1))


def remove_one(folder: Path) -> None:
    (folder / bundle.PIPELINE).unlink()


def forbid(folder: Path) -> None:
    """Put a link to nowhere in the place of a file, as a lost mount leaves it."""
    (folder / bundle.PIPELINE).unlink()
    (folder / bundle.PIPELINE).symlink_to("/nowhere/at/all")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lose, change, remove_one, forbid])
def test_champion_that_cannot_be_verified_does_not_lose(
    root: Path, params: Params, damage: Callable[[Path], None]
) -> None:
    put_release(root, params, "ab")
    publish.publish(params)
    damage(find_release(root, params))
    put_release(root, params, "b")
    with pytest.raises(ChampionError, match="Nothing was compared with it and nothing is published") as caught:
        publish.publish(params)
    assert caught.value.exit_code == 1
    assert "labkit promote" in str(caught.value)
    assert find_champion(params) == 1
    assert len(tracking_client.get_client().search_model_versions(f"name = '{params.experiment}'")) == 1
    finding = promotion.check_champions()
    assert f"{params.experiment}: version 1" in finding.found
    assert "labkit promote" in finding.remedy
    with pytest.raises(ChampionError, match="accept-unverified-champion"):
        promotion.promote(params, None, reason="lost")
    message = promotion.promote(params, None, reason=" the disk was lost ", accept_unverified=True)
    assert message.startswith(f"{params.experiment} version 2 is now the champion, promoted by hand without comparison")
    assert find_champion(params) == 2
    move = load_moves(params.experiment)[-1]
    assert (move.before, move.after, move.kind) == (1, 2, "promoted")
    assert move.reason.startswith("the disk was lost (replaced version 1, which could not be verified: ")
    assert move.by
    assert move.at.startswith("20")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lose, change, remove_one, forbid])
def test_lost_champion_is_uploaded_again_from_the_checkout_that_has_it(
    root: Path, params: Params, damage: Callable[[Path], None]
) -> None:
    put_release(root, params, "ab")
    publish.publish(params)
    place = find_release(root, params)
    damage(place)
    finding = promotion.check_champions()
    assert f"{params.experiment}: version 1" in finding.found
    assert f"`labkit run {params.experiment}`" in finding.remedy
    message = publish_release(params)
    assert (
        message == "version 1 is already the champion; its files were lost and were uploaded again from this checkout"
    )
    assert any("uploaded again" in reason for reason in read_decision(root, params)["reasons"])
    tags = tracking_client.get_client().get_model_version(params.experiment, "1").tags
    assert "version 1" in tags["labkit.restored.reason"]
    assert tags["labkit.restored.by"]
    assert f"{params.experiment}: version 1" not in promotion.check_champions().found
    assert publish_release(params) == "version 1 is already the champion"
    put_release(root, params, "b")
    assert publish_release(params).startswith("version 1 stays champion")


@pytest.mark.slow
def test_lost_run_folder_is_uploaded_again_with_the_mlflow_model(root: Path, params: Params) -> None:
    put_release(root, params, "ab")
    publish.publish(params)
    place = find_release(root, params).parent
    shutil.rmtree(place)
    assert "uploaded again" in publish_release(params)
    assert mlflow.pyfunc.load_model(str(place / "model")).predict(TABLE[["a", "b"]]).shape == (300,)
    shutil.rmtree(place / "model")
    assert "uploaded again" in publish_release(params)
    assert (place / "model" / "MLmodel").is_file()


@pytest.mark.slow
def test_registered_release_whose_files_are_lost_is_not_promoted_without_them(root: Path, params: Params) -> None:
    put_release(root, params, "ab")
    publish.publish(params)
    put_release(root, params, "b")
    publish.publish(params)
    shutil.rmtree(*(root.glob(f"mlruns/*/{registry.get_version(params.experiment, 2).run_id}/artifacts")))
    promotion.promote(params, None, reason="column a is no longer measured")
    assert find_champion(params) == 2
    assert digests.compute_digest(find_release(root, params)) == registry.get_version(params.experiment, 2).digest


@pytest.mark.slow
def test_champion_that_was_tried_and_cannot_predict_loses_and_the_page_shows_it(root: Path, params: Params) -> None:
    put_release(root, params, "abc")
    publish.publish(params)
    holdout = TABLE[200:].drop(columns="c").rename_axis(index="row")
    save_table(root / "data" / params.experiment / PLACES["clean_holdout"], holdout)
    put_release(root, params, "ab")
    assert publish_release(params) == "version 2 is now the champion; version 1 could not be compared"
    tried, contract = [reason for reason in read_decision(root, params)["reasons"] if "champion" in reason]
    assert tried.startswith("⚠ not worse than the champion: version 1 was tried and cannot predict today's rows")
    assert contract.startswith("✓ accepts what the champion accepts: version 1 has no contract")


@pytest.mark.slow
def test_unresponsive_registry_is_not_taken_for_an_empty_one(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_release(root, params, "ab")
    publish.publish(params)
    client = tracking_client.get_client()
    # The version is gone, the alias still names it: another process deletes between two requests.
    monkeypatch.setattr(client, "get_model_version", lambda name, number: client.get_registered_model("no such model"))
    put_release(root, params, "b")
    with pytest.raises(TrackingError, match="version 1"):
        publish.publish(params)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["register", "set_alias"])
@pytest.mark.parametrize(("other", "winner"), [("ab", "ab"), ("c", "a")])
def test_two_publications_at_once_end_with_the_better_release(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch, moment: str, other: str, winner: str
) -> None:
    """A colleague's publication takes place while ours is compared, or between our move and our second look."""
    folder = root / "data" / params.experiment / "colleague"
    digests = {other: put_release(root, params, other)}
    shutil.copytree(root / "data" / params.experiment / PLACES["release"], folder)
    digests["a"] = put_release(root, params, "a")
    register, set_alias, is_done = publish.register, registry.set_alias, False

    def interrupt() -> None:
        nonlocal is_done
        if not is_done:
            is_done = True
            set_alias(
                params.experiment,
                CHAMPION,
                register(params, bundle.load_release(folder), digests[other]),
            )

    def register_late(*arguments: Any) -> registry.Version:
        interrupt()
        return register(*arguments)

    def set_alias_early(*arguments: Any) -> None:
        set_alias(*arguments)
        interrupt()

    monkeypatch.setattr(publish, "register", register_late if moment == "register" else register)
    monkeypatch.setattr(registry, "set_alias", set_alias_early if moment == "set_alias" else set_alias)
    publish.publish(params)
    champion = registry.find_version(params.experiment, alias=CHAMPION)
    assert champion is not None
    assert champion.digest == digests[winner]
    assert any("over version" in reason for reason in read_decision(root, params)["reasons"])


@pytest.mark.slow
def test_champion_that_never_stays_the_same_is_reported(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_release(root, params, "a")
    publish.publish(params)
    put_release(root, params, "ab")
    seen = iter(range(1000))
    real = registry.find_version

    def find_version(name: str, **which: str) -> registry.Version | None:
        found = real(name, **which)
        return replace(found, number=next(seen)) if found and "alias" in which else found

    monkeypatch.setattr(registry, "find_version", find_version)
    with pytest.raises(TrackingError, match="the champion changed 10 times while this release was compared"):
        publish.publish(params)


@pytest.mark.slow
def test_promotion_by_hand(root: Path, params: Params) -> None:
    put_release(root, params, "ab")
    publish.publish(params)
    put_release(root, params, "b")
    publish.publish(params)
    with pytest.raises(ParamsError, match="--reason is empty"):
        promotion.promote(params, 2, reason=" ")
    with pytest.raises(TrackingError, match="version 9"):
        promotion.promote(params, 9, reason="why not")
    assert "version 1 is already the champion" in promotion.promote(params, 1, reason="again")
    message = promotion.promote(params, 2, reason="column a is no longer measured")
    assert message.endswith("promoted by hand without comparison (before: version 1, verified)")
    assert find_champion(params) == 2
    gate = root / "data" / params.experiment / PLACES["gate"]
    write_json(gate, {"passed": False, "checks": [{"name": "good enough", "passed": False, "evidence": "by -1"}]})
    with pytest.raises(ModelError, match="the gate refuses this release; failed checks: good enough"):
        promotion.promote(params, None, reason="it was late")


@pytest.mark.slow
def test_gate_without_checks_publishes_nothing(root: Path, params: Params) -> None:
    put_release(root, params, "ab")
    write_json(root / "data" / params.experiment / PLACES["gate"], {"passed": False, "checks": []})
    assert publish_release(params).startswith("refused by the gate")
    assert find_champion(params) is None


def test_release_that_is_too_large_is_refused(root: Path, params: Params) -> None:
    put_release(root, params, "ab")
    gate = params.evaluation.gate.model_copy(update={"most_bytes": 1000})
    small = params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"gate": gate})})
    with pytest.raises(ModelError, match="the gate refuses this release; failed checks: small enough to be served"):
        promotion.promote(small, None, reason="it was late")
    assert publish_release(small) == "refused by the gate; failed checks: small enough to be served"
    assert "or raise `evaluation.gate.most_bytes`" in " ".join(read_decision(root, params)["reasons"])
    assert find_champion(params) is None


@pytest.mark.slow
def test_interval_resamples_days_where_rows_have_a_time(root: Path, params: Params) -> None:
    days = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(100) // 4, "D")
    holdout = TABLE[200:].assign(predict_at=days, outcome_known_at=days).rename_axis(index="row")
    save_table(root / "data" / params.experiment / PLACES["clean_holdout"], holdout)
    put_release(root, params, "a")
    publish.publish(params)
    put_release(root, params, "ab")
    publish.publish(params)
    assert any("resampling 25 days) over version 1" in reason for reason in read_decision(root, params)["reasons"])


@pytest.mark.parametrize(
    ("decision", "named"),
    [
        ("published", r"; this is version 3 of <code>{}</code> in the registry\."),
        ("already champion", r"; this is version 3 of <code>{}</code> in the registry\."),
        ("kept champion", r"\."),
    ],
)
def test_page_names_the_version_and_the_time(root: Path, params: Params, decision: str, named: str) -> None:
    card = root / "data" / params.experiment / PLACES["release"] / runtime.CARD
    card.parent.mkdir()
    card.write_text("# Card\n\n## Model details\n")
    publish.write_decision(params, publish.Publication(decision, [], 3, "done"))
    page = (root / "reports" / params.experiment / "publish.html").read_text(encoding="utf-8")
    assert "Run <code>" not in page, "nothing is under way"
    assert re.search(r"Decided on \d{4}-\d\d-\d\d \d\d:\d\d UTC" + named.format(params.experiment), page)


def test_page_says_first_how_good_the_model_is_and_what_was_required(root: Path, params: Params) -> None:
    data, mae = root / "data" / params.experiment, {"value": 41.39, "low": 35.38, "high": 47.86}
    card = data / PLACES["release"] / runtime.CARD
    card.parent.mkdir()
    card.write_text("# Card\n\n## Model details\n")
    values = {"mean": 145.9, "smallest": 37.0, "lower_quarter": 87.2, "upper_quarter": 202.0, "largest": 310.0}
    content = {"metric": "mae", "rows": 110, "confidence": 0.95, "holdout": {"mae": mae}, "dummy": {"mae": 64.2}}
    content |= {"checks": [CheckResult("LK505", "warning", "2.2 better").to_dict()]}
    write_json(data / PLACES["evaluation"], content | {"threshold": {}, "true_values": values})
    publish.write_decision(params, publish.Publication("published", ["✓ size: small"], 3, "a leak in Fare", []))
    page = (root / "reports" / params.experiment / "publish.html").read_text(encoding="utf-8")
    found = [
        page.find(words)
        for words in (
            "A leak in Fare.",
            "Holdout mae 41.4 [35.4, 47.9]",
            "dummy (best constant prediction) 64.2.",
            "true values 146 on average, half of them between 87 and 202",
            "What acting on it saves is not known",
            "Checks of all stages and of this decision: 1 warning.",
            "LK505 Gain over plain LightGBM: 2.2 better",
            "Required: a gain over the dummy above",
            "size: small",
            "Model details</h",
        )
    ]
    assert -1 not in found
    assert found == sorted(found)
