"""`labkit check-data` and `labkit check-model`: exit codes, JSON and Markdown, on a published release."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from labkit.artifacts import CONTRACT, PLACES
from labkit.checks import CheckResult, write_markdown
from labkit.data import contract
from labkit.data.table_files import save_table
from labkit.model.release import bundle
from labkit.monitoring.profile_files import make_profile_files
from labkit.monitoring.reference_profile import profile_release
from labkit.params.experiment import Params
from labkit.stages import publish
from labkit.storage.atomic import write_json

from tests.conftest import call_in_process
from tests.own_store import work_in
from tests.run.small import make_small
from tests.stages.releases import TABLE, fit, put_release

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("check")]
NAME = "checked"
PASSED = {"name": "plausible result", "passed": True, "evidence": "mae is 0.2", "warning": ""}
CONTENT: dict[str, Any] = {
    "experiment": NAME,
    "seed": 0,
    "data": {"tables": {"t": {"path": "t.csv"}}, "target": {"column": "y", "task": "regression"}},
    "training": {"metric": "mae"},
    "evaluation": {"bootstrap_samples": 100},
    **{section: {} for section in ("eda", "wrangling", "features", "deploy")},
}


@pytest.fixture(scope="module")
def params() -> Params:
    return Params.model_validate_json(json.dumps(CONTENT))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path, params: Params) -> Iterator[Path]:
    """A checkout whose release is no champion yet."""
    with work_in(make_small(tmp_path_factory.mktemp("check") / "checkout", "eda", store=store)) as root:
        (root / "params" / f"{NAME}.yaml").write_text(json.dumps(CONTENT))
        data = root / "data" / NAME
        for folder in (data / "clean", data / "evaluation", data / "eda", data / "model", root / "reports" / NAME):
            folder.mkdir(parents=True)
        save_table(data / PLACES["clean_holdout"], TABLE[200:].rename_axis(index="row"))
        save_table(data / PLACES["findings"], pd.DataFrame({"column": ["a"], "what": ["x"]}))
        write_json(data / PLACES["gate"], {"passed": True, "checks": [PASSED]})
        write_json(data / PLACES["evaluation"], {"checks": []})
        inference = contract.Inference()
        inference.add(pa.Table.from_pandas(TABLE, preserve_index=False))
        contract.save_contract(data / CONTRACT, {"t": inference.make_schema()})
        put_release(root, params, "ab")
        profile = profile_release(NAME, fit("ab"), TABLE[:200], TABLE[200:], facts={"classes": []})
        bundle.extend_release(data / PLACES["release"], make_profile_files(profile))
        yield root


def check_rows(root: Path, rows: pd.DataFrame, *options: str) -> Any:
    rows.to_csv(root / "rows.csv", index=False)
    return call_in_process(root, "check-data", NAME, "rows.csv", *options)


def test_file_is_checked_against_contract_last_run_and_champion(root: Path, params: Params) -> None:
    before = check_rows(root, TABLE)
    assert (before.returncode, "checked has no champion yet" in before.stdout) == (0, True), before.stdout
    publish.publish(params)
    fine = check_rows(root, TABLE, "--json")
    found = json.loads(fine.stdout)
    status = {one["code"]: one["status"] for one in found["checks"]}
    assert (fine.returncode, found["rows"], found["version"]) == (0, 300, 1)
    assert {status[code] for code in ("LK701", "LK731", "LK732", "LK733")} == {"passed"}
    assert not {"LK711", "LK712"} & set(status), "the age of the model says nothing about a file"
    assert status["LK722"] == "skipped", "the release does not hold how good it was"

    leaking = check_rows(root, TABLE.assign(hint=TABLE["y"] * 2 + 1), "--json")
    issues = {one["code"] for one in json.loads(leaking.stdout)["checks"] if one["status"] == "issue"}
    assert (leaking.returncode, issues) == (1, {"LK731", "LK732"})
    shown = check_rows(root, TABLE.assign(a=1.0).drop(columns="b"))
    assert shown.returncode == 1
    assert "  ✕ LK731 Contract of the raw table: rows.csv violates its contract: column 'b' is missing" in (
        shown.stdout.splitlines()
    )
    assert not (root / "data" / NAME / "monitoring").exists(), "nothing is recorded"


@pytest.mark.parametrize(
    ("name", "rows", "code"),
    [
        ("empty", TABLE.head(0), 1),
        ("one row", TABLE.head(1), 0),
        ("without the target", TABLE.drop(columns="y"), 0),
        ("renamed", TABLE.rename(columns={"a": "A"}), 1),
        ("retyped", TABLE.assign(a="high"), 1),
        ("new values", TABLE.assign(a=TABLE["a"] + 1000), 1),
        ("missing", TABLE.assign(a=np.nan), 1),
    ],
)
def test_whatever_a_file_holds_is_a_result(root: Path, name: str, rows: pd.DataFrame, code: int) -> None:
    done = check_rows(root, rows)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout


def test_warnings_fail_only_if_strict(root: Path) -> None:
    rows = pd.concat([TABLE, TABLE.head(100)])
    usual, strict = check_rows(root, rows), check_rows(root, rows, "--strict")
    assert "LK733 New findings about the data" in usual.stdout
    assert (usual.returncode, strict.returncode) == (0, 1), usual.stdout


def test_bad_input_is_refused(root: Path) -> None:
    TABLE.to_csv(root / "rows.csv", index=False)
    (root / "rows.xyz").write_text("a")
    for arguments, message in (
        (["check-data", NAME, "gone.csv"], "gone.csv: no such file"),
        (["check-data", NAME, "rows.csv", "--json", "--markdown", "-"], "--json and --markdown - both write"),
        (["check-data", NAME, "rows.csv", "--markdown", "no/m.md"], "--markdown no/m.md: no such folder"),
        (["check-model", NAME, "9"], "there is no version 9"),
        (["check-model", "small"], "no holdout to measure a model on: run `labkit run small` first"),
        (["check-data", "small", "rows.csv"], "no contract yet: run `labkit run small` first"),
    ):
        done = call_in_process(root, *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), (arguments, done.stdout, done.stderr)


def test_model_is_checked_against_gate_and_champion(root: Path, params: Params) -> None:
    """After the test that publishes the first version."""
    same = call_in_process(root, "check-model", NAME)
    assert (same.returncode, "compared with" in same.stdout) == (0, False), same.stdout + same.stderr
    put_release(root, params, "a")
    worse = call_in_process(root, "check-model", NAME, "--markdown", "model.md", "--json")
    found = json.loads(worse.stdout)
    status = {one["code"]: one["status"] for one in found["checks"]}
    assert (worse.returncode, found["champion"], status["LK603"]) == (1, 1, "issue"), worse.stderr
    [mae] = [one for one in found["metrics"] if one["metric"] == "mae"]
    assert mae["model"] > mae["champion"]
    summary = (root / "model.md").read_text()
    assert summary.startswith("### checked: the release of this checkout, compared with the champion, version 1: ")
    assert "| metric | model | champion, version 1 |\n|---|---:|---:|\n" in summary
    registered = call_in_process(root, "check-model", NAME, "1", "--markdown", "-")
    assert (registered.returncode, "### checked: version 1: " in registered.stdout) == (0, True), registered.stderr
    assert len(list((root / "reports" / NAME).glob("publish.json"))) == 1


def test_markdown_escapes_what_the_data_say() -> None:
    written = write_markdown(
        "a|b", [CheckResult("LK731", "issue", "<b> *x*\n`y`|z")], ["a_b"], [("n", "v"), ("p", "1")]
    )
    assert written.splitlines() == [
        r"### a\|b", "",
        "| | check | evidence | remedy |", "|---|---|---|---|",
        r"| ✕ | LK731 Contract of the raw table | &lt;b&gt; \*x\* \`y\`\|z | Correct the file; if the change is "
        "intended, remove `contract.json` of the experiment and run. |",
        "", r"- a\_b", "", "| n | v |", "|---|---:|", "| p | 1 |",
    ]  # fmt: skip
