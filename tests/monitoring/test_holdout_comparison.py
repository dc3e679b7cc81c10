"""Errors now against those on the holdout: groups that changed are found, with the uncertainty of both sides."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from IPython.utils.capture import capture_output
from labkit.errors import ModelError
from labkit.model.evaluation.blocks import DAY, Blocks
from labkit.model.evaluation.error_comparison import ALL_ROWS, ErrorComparison
from labkit.model.release.bundle import Release
from labkit.model.release.runtime import LOSSES, PERFORMANCE
from labkit.monitoring.holdout_comparison import (
    CHAMPION,
    HOLDOUT,
    NOW,
    compare_groups_with_holdout,
    describe_not_compared,
    make_holdout_source,
)
from labkit.monitoring.performance import Performance, measure_performance
from labkit.monitoring.reference_losses import load_losses, make_loss_files
from labkit.monitoring.reference_performance import load_performance, make_performance_files
from labkit.monitoring.scored_rows import score_frame
from labkit.params.experiment import Params
from labkit.view.error_explorer import ErrorExplorer
from labkit.view.holdout_explorer import explore_holdout

from tests.monitoring import scored
from tests.monitoring.scored import EVALUATION, FEATURES, PARAMS, Scorer, make_current, make_release, make_rows


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("release"))


def measure_with_losses(release: Release, rows: pd.DataFrame) -> Performance:
    current = score_frame(PARAMS, make_current(release, rows), None, scored.NOW)
    reference, losses = load_performance(release.folder), load_losses(release.folder)
    return measure_performance(PARAMS, release, reference, current, losses=losses)


def compare(release: Release, rows: pd.DataFrame, *columns: str) -> ErrorComparison:
    source = make_holdout_source(measure_with_losses(release, rows), confidence=0.95)
    assert source is not None
    found = source.compare((CHAMPION, NOW), (CHAMPION, HOLDOUT), loss="log loss", columns=columns)
    assert found is not None
    return found


def make_sharper(rows: pd.DataFrame, city: str) -> pd.DataFrame:
    """Return rows of which those of a city are nearly certain, and predicted so."""
    share = np.where(rows["city"] == city, np.where(rows["share"] > 0.5, 0.99, 0.01), rows["share"])
    drawn = np.random.default_rng(0).uniform(size=len(rows)) < share
    return rows.assign(share=share, y=np.where(rows["city"] == city, np.where(drawn, "yes", "no"), rows["y"]))


def test_groups_with_larger_and_with_smaller_errors_are_found(release: Release) -> None:
    found = compare(release, make_sharper(make_rows(3000, seed=3, wrong="b"), "c"), "city")
    table = found.table.set_index("slice")
    assert table.index[0] == "city = b"
    assert table["is_certain"].to_dict() == {"city = b": True, "city = c": True, "city = a": False}
    assert table.loc["city = b", "low"] > 0.5
    assert table.loc["city = c", "high"] < -0.3
    assert table["rows"].sum() == 3000
    assert table["rows_second"].sum() == len(scored.HOLDOUT)
    means = [f"{side.losses[side.rows].mean():.3f}" for side in found.sides]
    assert found.describe().startswith(
        f"Mean log loss: {means[0]} (current rows: 3,000 rows) and {means[1]} (holdout rows: 4,000 rows). Of 3 groups "
    )


def test_pairs_of_columns_are_compared(release: Release) -> None:
    rows = make_rows(6000, seed=4)
    turned = (rows["city"] == "a") & (rows["size"] > 0.9)
    found = compare(release, rows.assign(y=np.where(turned & (rows["share"] > 0.5), "no", rows["y"])), "city", "size")
    first = found.table.iloc[0]
    assert first["is_certain"]
    assert first["slice"].startswith("city = a and size ≥ ")
    assert first["low"] > 0.3


def test_difference_and_error_are_those_of_both_samples(release: Release) -> None:
    rows = make_rows(3000, seed=5)
    line = compare(release, rows, "city").table.set_index("slice").loc["city = a"]

    def measure_alone(one: pd.DataFrame) -> tuple[float, float]:
        one = one[one["city"] == "a"]
        losses = -np.log(one["share"].where(one["y"] == "yes", 1 - one["share"]))
        days = (losses - losses.mean()).groupby(one["predict_at"].dt.date).sum()
        return losses.mean(), np.sqrt((days**2).sum() * len(days) / (len(days) - 1)) / len(one)

    (now, error_now), (before, error_before) = measure_alone(rows), measure_alone(scored.HOLDOUT)
    assert line["difference"] == pytest.approx(now - before, abs=1e-6)
    width = (line["high"] - line["low"]) / 2
    # Bonferroni's quantile of t with 19 degrees of freedom for the three groups, of which none differs.
    assert width == pytest.approx(2.625 * np.hypot(error_now, error_before), rel=0.01)


def test_unchanged_rows_rarely_differ(release: Release) -> None:
    wrong = [compare(release, make_rows(2000, seed=100 + seed)).table["is_certain"].any() for seed in range(20)]
    assert sum(wrong) <= 3


def test_release_holds_neither_values_nor_names_of_rows_and_is_bounded() -> None:
    params = Params.model_validate({**PARAMS.model_dump(), "deploy": {"loss_rows": 500}})
    files = make_performance_files(params, Scorer(FEATURES), scored.HOLDOUT, EVALUATION)
    full = make_performance_files(PARAMS, Scorer(FEATURES), scored.HOLDOUT, EVALUATION)
    assert files[PERFORMANCE] == full[PERFORMANCE]
    assert files == make_performance_files(params, Scorer(FEATURES), scored.HOLDOUT, EVALUATION)
    with np.load(io.BytesIO(files[LOSSES]), allow_pickle=False) as arrays:
        assert {name: (values.dtype.name, values.shape) for name, values in arrays.items()} == {
            "losses": ("float32", (500,)), "blocks": ("int32", (500,)), "length": ("int64", ()),
            "unit": ("uint8", (3,)), "columns": ("uint8", (15,)), "codes": ("uint8", (3, 500)),
        }  # fmt: skip
        assert arrays["columns"].tobytes().decode().split("\0") == ["city", "size", "share"]
        assert arrays["codes"].max() <= 7
    assert len(files[LOSSES]) < len(full[LOSSES]) < 40_000
    none = Params.model_validate({**PARAMS.model_dump(), "deploy": {"loss_rows": 0}})
    assert [*make_performance_files(none, Scorer(FEATURES), scored.HOLDOUT, EVALUATION)] == [PERFORMANCE]


def test_numbers_of_groups_do_not_follow_their_names(tmp_path: Path) -> None:
    groups = np.repeat(np.arange(50), 4)
    for unit, is_ordered in ((DAY, True), ("patient", False)):
        files = make_loss_files(groups / 1.0, {}, Blocks(groups, unit), most_rows=1000, seed=0)
        (tmp_path / LOSSES).write_bytes(files[LOSSES])
        found = load_losses(tmp_path)
        assert found is not None
        assert (np.diff(found.losses) >= 0).all() == is_ordered
        assert len(set(zip(found.blocks.codes.tolist(), found.losses.tolist(), strict=True))) == 50
        assert found.codes == {}


def test_release_without_losses_is_monitored_as_before(release: Release, tmp_path: Path) -> None:
    rows = make_rows(3000, seed=3, wrong="b")
    whole = measure_with_losses(release, rows)
    (tmp_path / PERFORMANCE).write_bytes((release.folder / PERFORMANCE).read_bytes())
    (tmp_path / "manifest.json").write_text("{}")
    without = measure_with_losses(Release(tmp_path, release.facts, FEATURES, None), rows)
    assert without.reference_losses is None
    assert without.to_dict() == whole.to_dict()
    assert make_holdout_source(without, confidence=0.95) is None
    assert make_holdout_source(measure_with_losses(release, rows.head(20)), confidence=0.95) is None


@pytest.mark.parametrize("content", [b"no archive", None])
def test_damaged_losses_are_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        made = make_loss_files(np.ones(9), {"a": np.ones(9)}, Blocks(np.arange(9)), most_rows=9, seed=0)[LOSSES]
        with np.load(io.BytesIO(made)) as arrays:
            changed = {**arrays, "losses": np.ones(3, "float32")}
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **changed)
        content = stream.getvalue()
    (tmp_path / LOSSES).write_bytes(content)
    with pytest.raises(ModelError, match="release the model again"):
        load_losses(tmp_path)


def test_explorer_compares_both_ways_and_shows_the_rows_of_now(release: Release) -> None:
    source = make_holdout_source(measure_with_losses(release, make_rows(3000, seed=3, wrong="b")), confidence=0.95)
    assert source is not None
    explorer = ErrorExplorer(source)
    assert explorer.first_rows.value == NOW
    assert "(current rows: " in explorer.result.value
    explorer.column.value = "city"
    assert "city = b: 10 of " in explorer.rows.value
    explorer.first_rows.value = HOLDOUT
    assert " (holdout rows: 4,000 rows) and " in explorer.result.value
    assert "these holdout rows are not known, only their errors" in explorer.rows.value
    explorer.first_rows.value, explorer.second_rows.value = ALL_ROWS, HOLDOUT
    assert "(current rows: " in explorer.result.value
    explorer.second_rows.value = ALL_ROWS
    assert explorer.found is None


def test_plain_data_have_both_sides_of_each_group(release: Release) -> None:
    rows = make_sharper(make_rows(3000, seed=3, wrong="b"), "c")
    found = compare_groups_with_holdout(measure_with_losses(release, rows), confidence=0.95)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["loss"] == "log loss"
    source = make_holdout_source(measure_with_losses(release, rows), confidence=0.95)
    assert source is not None
    table = source.compare((CHAMPION, NOW), (CHAMPION, HOLDOUT), loss="log loss").table
    assert len(found["groups"]) == len(table)
    assert found["groups"][0]["group"] == "city = b"
    groups = {one["group"]: one for one in found["groups"]}
    for name, is_larger in (("city = b", True), ("city = c", False)):
        line, n_holdout = groups[name], int((scored.HOLDOUT["city"] == name[-1]).sum())
        assert (line["is_certain"], line["low"] > 0, line["high"] > 0) == (True, is_larger, is_larger)
        assert (line["rows"], line["holdout_rows"]) == (int((rows["city"] == name[-1]).sum()), n_holdout)
        assert line["difference"] == pytest.approx(line["loss"] - line["holdout_loss"])
    few = compare_groups_with_holdout(measure_with_losses(release, make_rows(20, seed=1)), confidence=0.95)
    assert few == {"description": "Not compared: too few true values are known.", "loss": None, "groups": []}


def test_what_cannot_be_compared_says_why(release: Release) -> None:
    few = measure_with_losses(release, make_rows(20, seed=1))
    assert explore_holdout(few, confidence=0.95) is None
    assert describe_not_compared(few) == "Not compared: too few true values are known."
    assert "`deploy.loss_rows` > 0" in describe_not_compared(replace(few, reference_losses=None))


def test_batch_shows_the_comparison(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path))
    rows = make_rows(3000, seed=3, wrong="b")
    with capture_output() as captured:
        assert explore_holdout(measure_with_losses(release, rows), confidence=0.95) is None
    assert len(captured.outputs or captured.stdout.splitlines()) == 3
