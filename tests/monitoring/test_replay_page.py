"""`labkit replay` on a published release of a small model."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from labkit.artifacts import CONTRACT, PLACES
from labkit.data import contract
from labkit.data.split import count_embargoed, describe_split, split_rows
from labkit.data.table_files import save_table
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.candidates import make_candidate
from labkit.model.release import bundle
from labkit.model.training.comparison import fit_model
from labkit.monitoring.replay import Replay
from labkit.params.experiment import Params
from labkit.stages import publish
from labkit.storage.atomic import write_json

from tests.conftest import call_in_process
from tests.dask_cluster import open_cluster
from tests.monitoring.turned import ASKED, KNOWN, make_params, make_rows
from tests.own_store import work_in
from tests.run.small import make_small
from tests.stages.releases import PARITY, PASSED
from tests.wording import find_wrong_words

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("replay")]
ROOT = Path(__file__).parents[2]
DAYS = {"validation_from": "2026-02-20", "holdout_from": "2026-03-10"}


@pytest.fixture(scope="module")
def params() -> Params:
    found = make_params()
    split = found.data.split.model_validate_json(json.dumps({"method": "time"} | DAYS))
    features = found.features.model_copy(update={"drop": ("asked", "known")})
    return found.model_copy(update={"data": found.data.model_copy(update={"split": split}), "features": features})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path, params: Params) -> Iterator[Path]:
    """Return a checkout whose champion was trained on fourteen weeks of rows."""
    with work_in(make_small(tmp_path_factory.mktemp("replay") / "checkout", "eda", store=store)) as root:
        name, rows = params.experiment, make_rows(100).rename_axis(index="row")
        rows = rows.assign(asked=rows[ASKED], known=rows[KNOWN])
        content = params.model_dump_json(exclude_defaults=True)
        (root / "params" / f"{name}.yaml").write_text(content)
        data = root / "data" / name
        for folder in (data / "clean", data / "evaluation", root / "reports" / name, data / PLACES["release"]):
            folder.mkdir(parents=True)
        parts = split_rows(rows, params.data, seed=0)
        for part, one in parts.items():
            save_table(data / PLACES[f"clean_{part}"], one)
        embargoed = count_embargoed(rows, params.data)
        write_json(data / PLACES["split"], describe_split(parts, params.data, seed=0, embargoed=embargoed))
        write_json(data / PLACES["gate"], PASSED)
        inference = contract.Inference()
        inference.add(pa.Table.from_pandas(rows.drop(columns=[ASKED, KNOWN]), preserve_index=False))
        contract.save_contract(data / CONTRACT, {"t": inference.make_schema()})
        publish_model(params, parts["training"], data / PLACES["release"])
        yield root


def publish_model(params: Params, training: pd.DataFrame, folder: Path) -> None:
    outcome, target = training["y"], params.data.target
    features = RowFeatures.from_params(params).fit(training.drop(columns="y"), outcome)
    candidate = make_candidate("linear", target, features.outputs_, seed=0)
    pipeline = fit_model(candidate, features, [(features.transform(training), outcome)], target=target, seed=0)
    facts = {
        "experiment": params.experiment,
        "task": "classification",
        "classes": ["no", "yes"],
        "metric": "roc_auc",
        "onnx": PARITY,
    }
    example = training[["a", "b", ASKED]]
    bundle.write_release(folder, pipeline, graph=None, facts=facts, contract="{}", card="# Card\n", example=example)
    publish.publish(params)


def test_champion_is_replayed_and_page_and_record_agree(root: Path) -> None:
    done = call_in_process(root, "replay", "turned", "--policies", "never,monthly", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    never, weekly = result["policies"]
    assert (never["trainings"], weekly["trainings"], weekly["promoted"]) == (0, 10, 10)
    # Outcomes of the last days before either part began were not known when it did: 20 rows a day.
    assert result["embargoed"] == 2 * 2 * 20
    assert result["rows"] + result["embargoed"] == sum(make_rows(100)[ASKED] >= "2026-01-26 05:00+00:00")
    record = max((root / "data" / "turned" / "monitoring" / "replays").glob("*.json"))
    assert json.loads(record.read_text()) == {key: value for key, value in result.items() if key != "page"}
    page = root / result["page"]
    content = page.read_text()
    assert "80 rows left out by the split, because the outcome became known only after" in content
    assert "Features and settings are those of version 1" in content
    assert find_wrong_words(page) == []


def test_versions_of_a_cluster_give_the_same_result(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("replay", "turned", "--policies", "never,monthly,rule", "--json")
    plain = call_in_process(root, *command)
    (root / ".git").mkdir(exist_ok=True)
    with open_cluster(root, 1) as (address, _):
        monkeypatch.setattr(Replay, "fit_here", None)  # nothing is fitted here
        done = call_in_process(root, *command, "--dask", address)
    assert done.returncode == 0, done.stderr
    results = [json.loads(one.stdout) for one in (plain, done)]
    assert results[0].pop("at") <= results[1].pop("at")
    assert results[1] == results[0] | {"page": results[1]["page"]}


def test_summary_names_trainings_promotions_and_what_the_numbers_are_over(root: Path) -> None:
    done = call_in_process(root, "replay", "turned", "--policies", "never,rule")
    never, rule = done.stdout.splitlines()[-4:-2]
    assert never.startswith("never: 0 trainings, 0 promoted; roc_auc 0.")
    assert never.endswith(" (mean of weeks), gain over never – (all rows)")
    assert rule.startswith("rule: 4 trainings, ")


def test_numbers_are_those_computed_without_labkit(root: Path) -> None:
    """From the raw table and the predictions that were recorded, as of flights by `benchmarks/check_replay.py`."""
    done = call_in_process(root, "replay", "turned", "--policies", "never,monthly,rule", "--json")
    assert done.returncode == 0, done.stderr
    record = max((root / "data" / "turned" / "monitoring" / "replays").glob("*.json"))
    rows = make_rows(100).rename(columns={ASKED: "asked", KNOWN: "known"})
    rows.to_csv(root / "raw.csv", index=False)
    months = json.loads(done.stdout)["periods"][2::7]
    command = [sys.executable, str(ROOT / "benchmarks" / "check_replay.py"), str(record), str(root / "raw.csv")]
    command += ["--true", "y == 'yes'", "--asked", "asked", "--zone", "America/New_York", "--costs", "1", "4"]
    command += ["--compare", "rule", "monthly", "--months", *months]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    lines = checked.stdout.splitlines()
    assert len(months) == 2
    assert [line.split(":")[0] for line in lines[:6]] == [
        f"{month} {policy}" for month in months for policy in ("never", "monthly", "rule")
    ]
    assert lines[6].startswith("rule - monthly, AUC: ")
    content = json.loads(record.read_text())
    content["policies"][1]["values"][content["periods"].index(months[1])] += 1e-6
    record.write_text(json.dumps(content))
    changed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (changed.returncode, changed.stdout.splitlines()[-1]) == (1, "largest difference 1.0e-06")
