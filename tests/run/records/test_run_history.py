"""What `labkit runs` and `labkit why` show of runs, from a ledger that was really written."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from labkit.errors import ParamsError, StageError
from labkit.run.records import ledger, run_history
from labkit.run.records.ledger import Entry

TOOK = re.compile(r" \(\d+\.\d s\)$", re.MULTILINE)
"""How long a stage took."""
GONE = 2**22 + 1
"""No process has this number: the system gives none so high."""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    return tmp_path


def record(experiment: str, *, stages: dict[str, str], plan: dict[str, list[str]] | None = None, **facts: Any) -> Entry:
    """Write a run to the ledger with stages that ended so; it fails with the first that did not finish."""
    with suppress(StageError), ledger.open_entry(experiment, facts=facts) as run:
        run.plan(plan or {})
        for stage, outcome in stages.items():
            with ledger.open_entry(experiment, stage, parent=run.run, facts={}) as entry:
                if outcome != "finished":
                    entry.outcome = outcome
                    raise StageError(f"{stage} {outcome}")
    return run


def start(run: str, *, pid: int, **content: Any) -> None:
    """Write the start of a run whose process may be gone."""
    process = ledger.find_process(pid) or ledger.Process(pid, 1.0, "")
    place = {"experiment": "mine", "stage": None, "parent": None, "facts": {}, "store": "", **content}
    times = {"process_started": process.started, "boot": process.boot, "at": ledger.make_timestamp()}
    ledger.append("start", run=run, pid=pid, **times, **place)


def test_runs_are_listed_newest_first_with_how_and_where_they_ended() -> None:
    record("mine", stages={"eda": "finished", "training": "timed out"})
    record("other", stages={"eda": "finished"})
    record("mine", stages={"eda": "finished"})
    rows, n_runs = run_history.list_runs("mine", most=20)
    assert [(row.what, row.outcome, row.stage) for row in rows] == [
        ("run", "finished", ""),
        ("run", "timed out", "training"),
    ]
    assert [row.end for row in rows] == ["finished", "timed out in training"]
    assert n_runs == 2
    rows, n_runs = run_history.list_runs(most=2)
    assert [row.run.partition("-")[0] for row in rows] == ["mine", "other"]
    assert n_runs == 3


@pytest.mark.fault
def test_what_has_no_end_is_running_or_was_killed() -> None:
    start("dead", pid=GONE)
    start("dead-eda", pid=GONE, stage="eda", parent="dead")
    start("live", pid=os.getpid())
    start("live-eda", pid=os.getpid(), stage="eda", parent="live")
    start("alone", pid=os.getpid(), stage="features")
    rows, _ = run_history.list_runs("mine", most=20)
    assert [(row.run, row.what, row.outcome, row.stage) for row in rows] == [
        ("alone", "stage features", "running", "features"),
        ("live", "run", "running", "eda"),
        ("dead", "run", "killed", "eda"),
    ]
    assert [row.end for row in rows] == ["running (stage features)", "running in eda", "killed in eda"]


def test_run_is_found_by_any_of_its_names() -> None:
    for run in ("mine-1-aaaa1111", "mine-2-bbbb1111", "mine-3-cccc2222"):
        start(run, pid=GONE)
    start("mine-4-dddd", pid=GONE, stage="eda", parent="mine-3-cccc2222")
    ledger.append("opened", run="mine-1-aaaa1111", tracked="f" * 32)
    for word, run in (
        ("mine-2-bbbb1111", "mine-2-bbbb1111"),
        ("f" * 32, "mine-1-aaaa1111"),
        ("mine", "mine-3-cccc2222"),
        ("bbbb1111", "mine-2-bbbb1111"),
        ("mine-2", "mine-2-bbbb1111"),
        ("dddd", "mine-4-dddd"),
    ):
        assert run_history.find_run(word).run == run
    with pytest.raises(ParamsError, match=r"^2 runs begin or end with '1111': name one in full: "):
        run_history.find_run("1111")
    with pytest.raises(ParamsError, match=r"^no run '222': .*`labkit runs` lists them$"):
        run_history.find_run("222")


def test_missing_run_is_explained_with_its_remedy() -> None:
    with pytest.raises(ParamsError, match=r"^no run 'mine': nothing has run in this checkout yet: labkit run mine$"):
        run_history.find_run("mine")


def test_why_shows_of_each_stage_whether_it_ran_and_since_when_it_is_up_to_date() -> None:
    stale = {"eda": [], "features": ["params seed changed"], "training": [], "publish": []}
    first = record("mine", stages={"eda": "finished", "features": "finished"})
    second = record(
        "mine",
        stages={"training": "finished", "publish": "finished"},
        plan=stale,
        asked={"force": "training"},
        params={"seed": "7"},
    )
    record("mine", stages={"eda": "finished", "features": "finished"})
    entries = {(entry.parent, entry.stage): entry.run for entry in ledger.load_entries()}
    described = dict(run_history.describe_run(run_history.find_run(second.run)))
    assert TOOK.sub("", described["why"]).splitlines() == [
        f"eda          not run: up to date, last run as {entries[first.run, 'eda']}",
        f"features     not run: restored from the cache, last run as {entries[first.run, 'features']}",
        "training     ran: forced",
        "publish      ran: it runs each time",
    ]
    assert (described["asked for"], described["params"]) == ("force training", "seed = 7")
    described = dict(run_history.describe_run(run_history.find_run(entries[second.run, "training"])))
    assert (described["part of"], described["stage"], described["params"]) == (second.run, "training", "seed = 7")


def test_why_shows_what_a_stopped_run_did_not_reach() -> None:
    plan = {"eda": ["code changed"], "features": ["its outputs are missing"], "training": []}
    run = record("mine", stages={"eda": "died"}, plan=plan)
    described = dict(run_history.describe_run(run_history.find_run(run.run)))
    assert TOOK.sub("", described["why"]).splitlines() == [
        "eda          ran: code changed",
        "features     not run: the run had stopped",
        "training     not run: the run had stopped",
    ]
    assert described["ended"].startswith("failed, exit code 1, after 0.")
    assert described["ended"].endswith(" s: eda died")
