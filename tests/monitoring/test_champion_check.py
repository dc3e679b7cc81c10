"""`labkit monitor`: verdict, exit code, history and page, on a published release."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from labkit.artifacts import PLACES
from labkit.data.table_files import save_table
from labkit.model.release import bundle
from labkit.monitoring.champion_check import (
    classify_source,
    find_history,
    find_pending,
    list_earlier_findings,
    load_earlier,
)
from labkit.monitoring.profile_files import make_profile_files
from labkit.monitoring.reference_performance import make_performance_files
from labkit.monitoring.reference_profile import profile_release
from labkit.monitoring.window_counts import Windows
from labkit.params.experiment import Params
from labkit.params.monitoring import Monitoring
from labkit.stages import publish
from labkit.storage.append import append_line
from labkit.storage.atomic import write_json

from tests.conftest import call_in_process
from tests.own_store import work_in
from tests.run.small import make_small
from tests.stages.releases import PASSED, TABLE, fit, put_release
from tests.wording import find_wrong_words

# One champion, made by the first test, is what the others check.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("monitor")]
NAME = "watched"


def make_rows(n_rows: int, seed: int) -> pd.DataFrame:
    """Return rows of the model's columns, of which `b` follows from `a`."""
    random = np.random.default_rng(seed)
    first = random.normal(size=n_rows)
    return pd.DataFrame({"a": first, "b": first + random.normal(size=n_rows) / 5})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Path]:
    with work_in(make_small(tmp_path_factory.mktemp("monitor") / "checkout", "eda", store=store)) as root:
        yield root


@pytest.fixture(scope="module")
def params(root: Path) -> Params:
    content: dict[str, Any] = {
        "experiment": NAME,
        "seed": 0,
        "data": {"tables": {"t": {"path": "t.csv"}}, "target": {"column": "y", "task": "regression"}},
        "training": {"metric": "mae"},
        "evaluation": {"bootstrap_samples": 100},
        **{section: {} for section in ("eda", "wrangling", "features", "deploy")},
    }
    (root / "params" / f"{NAME}.yaml").write_text(json.dumps(content))
    data = root / "data" / NAME
    for folder in (data / "clean", data / "evaluation", root / "reports" / NAME):
        folder.mkdir(parents=True)
    save_table(data / PLACES["clean_holdout"], TABLE[200:].rename_axis(index="row"))
    write_json(data / PLACES["gate"], PASSED)
    return Params.model_validate_json(json.dumps(content))


def monitor(root: Path, rows: pd.DataFrame, *options: str) -> Any:
    rows.to_csv(root / "rows.csv", index=False)
    return call_in_process(root, "monitor", NAME, "--current", "rows.csv", *options)


def test_champion_is_judged_and_the_history_kept(root: Path, params: Params) -> None:
    done = monitor(root, make_rows(700, 1))
    assert (done.returncode, "no champion yet" in done.stderr) == (2, True)
    put_release(root, params, "ab")
    publish.publish(params)
    done = monitor(root, make_rows(700, 1))
    assert (done.returncode, "has no reference_profile.json" in done.stderr) == (2, True)
    assert not find_history(NAME).exists()

    profile = profile_release(NAME, fit("ab"), make_rows(9000, 2), make_rows(9000, 3), facts={"classes": []})
    bundle.extend_release(root / "data" / NAME / PLACES["release"], make_profile_files(profile))
    publish.publish(params)
    calm = monitor(root, make_rows(700, 1))
    assert (calm.returncode, calm.stdout.splitlines()[0]) == (0, f"{NAME} v2: ok"), calm.stdout + calm.stderr

    shifted = monitor(root, make_rows(700, 1).assign(b=lambda rows: rows["b"] + 2), "--json")
    record = json.loads(shifted.stdout)
    assert (shifted.returncode, record["verdict"], record["version"]) == (0, "watch", 2)
    assert {"distribution", "relation"} <= {change["kind"] for change in record["changes"]}
    status = {one["code"]: one["status"] + one["evidence"] for one in record["checks"]}
    assert {"LK704", "LK707", "LK709"} <= {one["code"] for one in record["checks"] if one["status"] == "warning"}, (
        status
    )

    assert {alert["code"]: alert["severity"] for alert in record["alerts"]} == dict.fromkeys(record["actions"], "watch")
    assert f"{NAME} v2: alert opened (watch): Distribution of the columns [LK704]: 'b' in" in shifted.stderr

    broken = monitor(root, make_rows(700, 1).drop(columns="a"), "--windows", "1")
    assert broken.returncode == 4
    assert f"{NAME} v2: alert opened (stop): Contract of the inputs [LK701]: missing columns: 'a'\n" in broken.stderr
    assert 'verdict="stop"} 1.0' in (root / ".labkit" / "metrics" / f"{NAME}.prom").read_text()
    assert "  Contract of the inputs: missing columns: 'a'" in broken.stdout.splitlines()
    assert [one["verdict"] for one in load_earlier(NAME)] == ["ok", "watch", "stop"]
    page = root / "reports" / NAME / "monitoring.html"
    content = page.read_text()
    assert content.index("Verdict: stop") < content.index("<h2") < content.index("Traffic")
    assert find_wrong_words(page) == []

    missing = call_in_process(root, "monitor", NAME)
    assert (missing.returncode, "no log of predictions: serve the model" in missing.stderr) == (2, True)
    gone = call_in_process(root, "monitor", NAME, "--current", "gone.csv")
    assert (gone.returncode, gone.stderr) == (2, "labkit: gone.csv: no such file: did you mean 'rows.csv'?\n")
    assert len(load_earlier(NAME)) == 3, "what could not be checked is not in the history"


def test_torn_line_of_the_history_is_skipped(root: Path, params: Params) -> None:
    path = root / "data" / "torn" / "monitoring" / "history.jsonl"
    path.parent.mkdir(parents=True)
    whole = {"at": "2026-01-01T00:00:00+00:00", "verdict": "ok", "digest": "a"}
    path.write_text(f'{json.dumps(whole)}\n[1]\n{{"at": \n')
    assert load_earlier("torn") == [whole]
    path.write_bytes(path.read_bytes() + '{"at": "°'.encode()[:-1] + f"\n{json.dumps(whole)}\n".encode())
    assert load_earlier("torn") == [whole, whole], "torn within a character"


def test_line_separators_within_a_value_do_not_split_a_line_of_the_history(root: Path, params: Params) -> None:
    path = root / "data" / "separated" / "monitoring" / "history.jsonl"
    record = {"at": "2026-01-01T00:00:00+00:00", "verdict": "ok", "digest": "a", "reasons": ["\u2028, \u2029, \u0085"]}
    append_line(path, json.dumps(record, ensure_ascii=False))
    assert load_earlier("separated") == [record]


def test_pending_windows_are_those_of_the_same_rows_and_release(root: Path, params: Params) -> None:
    history = [
        {"digest": digest, "source": source, "pending": {"inputs": {"volume: ": [number]}}}
        for number, (digest, source) in enumerate([("a", "log"), ("a", "log"), ("a", "x.csv"), ("b", "log")])
    ]
    days, rows = Windows(1, 0), Windows(None, 300)
    assert find_pending(history, days, digest="a", source="log") == {"inputs": {"volume: ": [1]}}
    assert find_pending(history, days, digest="b", source="x.csv") is None
    assert find_pending(history, rows, digest="a", source="log") is None, "their numbers begin again in each file"


def test_findings_of_other_rows_do_not_count(root: Path, params: Params) -> None:
    history = [
        {"digest": digest, "rows_of": rows, "actions": {f"LK{number}": "watch"}}
        for number, (digest, rows) in enumerate([("a", "log"), ("a", "rows"), ("b", "log"), ("a", "log")])
    ]
    assert list_earlier_findings(history, digest="a", rows="log") == [{"LK0": "watch"}, {"LK3": "watch"}]
    params = params.model_copy(update={"monitoring": Monitoring(incoming="in/rows.csv")})
    log = root / ".labkit" / "serving" / NAME / "log"
    sources = (None, log, root / "in" / ".." / "in" / "rows.csv", Path("rows.csv"), log.parent / "copy")
    assert [classify_source(params, source) for source in sources] == ["log", "log", "incoming", "rows", "rows"]


def test_file_name_that_is_not_utf8_is_escaped(root: Path, params: Params) -> None:
    name = os.fsdecode(b"r\xff.csv")
    make_rows(700, 1).to_csv(root / name, index=False)
    done = call_in_process(root, "monitor", NAME, "--current", name)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{NAME} v2: ok"), done.stdout + done.stderr
    assert load_earlier(NAME)[-1]["source"] == r"r\udcff.csv"


def test_true_values_are_compared_with_the_holdout(root: Path, params: Params) -> None:
    """After the test that publishes the champion."""
    release = root / "data" / NAME / PLACES["release"]
    rows = make_rows(9000, 3)
    holdout = rows.assign(y=rows["a"] + rows["b"] / 2 + np.random.default_rng(4).normal(size=9000) / 5)
    evaluation = {
        "metric": "mae",
        "confidence": 0.95,
        "holdout": {"mae": {"value": 0.16, "low": 0.157, "high": 0.163}},
        "threshold": {},
    }
    bundle.extend_release(release, make_performance_files(params, fit("ab"), holdout, evaluation))
    publish.publish(params)
    late = make_rows(700, 1).assign(patient=lambda rows: "p" + rows.index.astype(str))
    true = late["a"] + late["b"] / 2 + np.where(late["a"] > 1, 2.0, 0.0)
    late.assign(y=true)[["patient", "y"]].tail(600).to_csv(root / "outcomes.csv", index=False)
    done = monitor(root, late, "--outcomes", "outcomes.csv", "--key", "patient", "--json")
    record = json.loads(done.stdout)
    assert (done.returncode, record["verdict"]) == (0, "watch"), done.stderr
    found, status = record["performance"], {one["code"]: one["status"] for one in record["checks"]}
    assert (found["rows"], found["labelled_rows"], found["estimated"]) == (700, 600, None)
    assert (status["LK721"], status["LK722"], status["LK725"]) == ("passed", "warning", "warning")
    assert found["worse_groups"][0]["group"] == "a ≥ 0.979"
    compared = record["holdout_comparison"]
    assert compared["description"].startswith("Mean absolute error: 0.")
    assert (compared["groups"][0]["group"], compared["groups"][0]["is_certain"]) == ("a ≥ 0.979", True)
    assert "holdout_comparison" not in load_earlier(NAME)[-1]

    shown = monitor(root, late.assign(y=true), "--windows", "1").stdout.splitlines()
    assert "rows with true values: 700 of 700 rows (100 %)" in shown
    assert [line for line in shown if line.startswith("metric against the holdout: mae 0.")]
    page = root / "reports" / NAME / "monitoring.html"
    shown = " ".join(page.read_text().split())
    groups = shown[shown.index('<h2 id="Groups">') :]
    assert '<th scope="row" class="name">a ≥ 0.979</th>' in groups
    assert "Holdout rows are those whose losses the release has; the table above" in groups
    assert groups.index("(current rows: 700 rows) and 0.") < groups.index("a ≥ 0.979") < groups.index('<h2 id="What')
    assert "</td><td>larger</td></tr>" in groups
    assert "They are compared with the holdout; intervals resample 700 rows. The rows have no times, so" in shown
    # Numbers have no probabilities from which anything could be expected.
    assert "expected on the holdout" not in shown
    assert find_wrong_words(page) == []
    for options, message in (
        (["--outcomes", "outcomes.csv"], "--outcomes outcomes.csv: no column 'id': known: patient, y"),
        (["--outcomes", "gone.csv"], "--outcomes gone.csv: no such file"),
    ):
        refused = monitor(root, late, *options)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr
    unnamed = monitor(root, make_rows(9, 1), "--outcomes", "outcomes.csv", "--key", "patient")
    assert (unnamed.returncode, "rows.csv: no column 'patient' to join" in unnamed.stderr) == (2, True), unnamed.stderr
    path = root / "params" / f"{NAME}.yaml"
    usual = path.read_text()
    path.write_text(json.dumps({**json.loads(usual), "monitoring": {"rules": {"LK722": {"action": "retrain"}}}}))
    assert monitor(root, late.assign(y=true)).returncode == 3
    path.write_text(usual)
