"""Delivery metrics: equal to a count by hand, with what cannot be known left out."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from labkit.monitoring.delivery import (
    Deployment,
    Registered,
    compute_delivery,
    describe_spans,
    find_quantile,
    is_deployment,
    parse_time,
)
from labkit.monitoring.delivery_events import find_commit_times, find_data_arrival
from labkit.monitoring.delivery_page import write_delivery
from labkit.run.records.champion_moves import Kind, Move
from labkit.run.records.ledger import Entry, Process

from tests.git import call_git

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def make_move(day: float, before: int | None, after: int, kind: Kind = "published") -> Move:
    """Return a move that many days after the start."""
    at = (START + day * DAY).isoformat()
    return Move(at, before, after, kind, "why", "ann@host", f"run{after}", "")


# By hand: deployed are 1, 2, 3, 4, 5 and 7. 2 is rolled back after 2 days, so it failed and 3 is rework. 4 is rolled
# back after 10 days, too late to be blamed, and 5 is rework. 7 is 1 day old at the end: too early to judge.
MOVES = [
    make_move(0, None, 1),
    make_move(5, 1, 2),
    make_move(7, 2, 1, "rolled back"),
    make_move(8, 1, 3, "promoted"),
    make_move(20, 3, 4),
    make_move(30, 4, 3, "rolled back"),
    make_move(31, 3, 5, "found"),
    make_move(69, 5, 7),
]
COMMITS = {1: [3], 2: [1, 5], 4: [2], 7: []}
"""Version → hours from each of its commits to the move; unknown for the others."""


def make_deployments() -> list[Deployment]:
    """Return the deployments among the moves with their commits."""
    made = []
    for move in MOVES:
        if is_deployment(move):
            at = parse_time(move.at)
            hours = COMMITS.get(move.after)
            commits = None if hours is None else tuple(at - n * HOUR for n in hours)
            made.append(Deployment(move, at, commits, at - 6 * HOUR if move.after == 4 else None))
    return made


def measure(since: float = 0, until: float = 70, champion: int | None = 7):
    days = enumerate((0, 5, 8, 20, 31, 40, 69, 69), 1)
    registered = [Registered(number, START + day * DAY, number == 8) for number, day in days]
    period = {"since": START + since * DAY, "until": START + until * DAY}
    return compute_delivery("small", MOVES, make_deployments(), registered, champion=champion, **period)


def test_metrics_equal_a_count_by_hand() -> None:
    found = measure()
    assert [one.deployment.move.after for one in found.deployments] == [1, 2, 3, 4, 5, 7]
    assert [one.has_failed for one in found.deployments] == [False, True, False, False, False, None]
    assert [one.is_rework for one in found.deployments] == [False, False, True, False, True, False]
    assert (found.n_failed, found.n_judged, found.n_rework) == (1, 5, 2)
    assert found.per_week == 0.6
    assert found.commit_seconds == tuple(3600.0 * n for n in (1, 2, 3, 5))
    assert found.data_seconds == (6 * 3600.0,)
    assert found.recovery_seconds == (2 * 86400.0,)
    assert (found.n_registered, found.n_unserved) == (8, 1), "6; 8 served before moves were recorded"
    assert found.champion_seconds == 86400.0
    assert found.list_lines() == [
        ("deployment frequency", "0.6 per week", "6 deployments since 2026-03-02"),
        ("change lead time", "2.5 h", "4 commits"),
        ("data lead time", "6 h", "1 deployment"),
        ("change fail rate", "20 %", "1 of 5 rolled back within 7 days; too early for 1"),
        ("failed deployment recovery time", "2 d", "1 rollback"),
        ("deployment rework rate", "33 %", "2 of 6 follow a rollback"),
        ("versions never promoted", "12 %", "1 of 8 versions"),
        ("champion in service for", "1 d", "version 7"),
    ]


def test_months_without_a_deployment_are_listed() -> None:
    assert measure().list_months() == [("2026-03", 4, 9000.0, 1), ("2026-04", 1, None, 0), ("2026-05", 1, None, 0)]


def test_last_month_is_listed_whatever_the_hour_of_the_first_day() -> None:
    found = measure(since=-30.25, until=30 - 0.4)  # from 06:00 on a 31st, to 02:24 on the 1st
    assert [month for month, *_ in found.list_months()] == ["2026-01", "2026-02", "2026-03", "2026-04"]


def test_champion_is_the_one_that_the_registry_names() -> None:
    assert measure(champion=None).list_lines()[-1] == ("champion in service for", "not measured", "no champion")
    # Moved without labkit, and not found yet.
    assert measure(champion=6).list_lines()[-1] == ("champion in service for", "not measured", "version 6")


def test_period_counts_what_began_in_it() -> None:
    found = measure(since=6, until=25)
    assert [one.deployment.move.after for one in found.deployments] == [3, 4]
    # The rollback on day 30 lies after the period, which ends 5 days after the deployment: too early then.
    assert [one.has_failed for one in found.deployments] == [False, None]
    assert measure(until=3).per_week is None
    assert measure(until=3).list_lines()[0][1] == "period shorter than a week"


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (10, 9), (11, 10), (100, 90)])
def test_quantile_is_one_of_the_measured(n: int, expected: int) -> None:
    assert find_quantile([float(number) for number in range(1, n + 1)], 0.9) == expected


def test_few_durations_have_no_quantile() -> None:
    assert describe_spans([]) == "not measured"
    assert describe_spans([60.0] * 9) == "1 min"
    assert describe_spans([60.0] * 9 + [7200.0]) == "1 min; 90 % within 1 min"


def test_commits_of_a_deployment_are_those_that_touch_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    (tmp_path / "dvc.yaml").touch()
    call_git(tmp_path, "init", "-q")
    hashes = []
    files = ("params/small.yaml", "lib/a.py", "README.md", "params/other.yaml", "notebooks/01_eda.ipynb", "lib/a.py")
    for hour, name in enumerate(files, 10):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(hour))
        at = f"2026-03-02T{hour}:00:00+01:00"
        call_git(tmp_path, "add", "-A")
        call_git(tmp_path, "commit", "-qm", name, GIT_AUTHOR_DATE=at, GIT_COMMITTER_DATE=at)
        hashes.append(call_git(tmp_path, "rev-parse", "HEAD").strip())

    def find(before: str, commit: str) -> list[int] | None:
        found = find_commit_times("small", before, commit)
        return None if found is None else [at.hour for at in found]

    assert find("", hashes[3]) == [10], "the latest that touches the code: hour 11 in Berlin, 10 in UTC"
    assert find(hashes[0], hashes[5]) == [14, 13, 10]
    assert find(hashes[5], hashes[5]) == []
    assert find(hashes[5], hashes[0]) == [], "an older version went into service again"
    assert find("", "") is None
    assert find("", "0" * 40) is None, "a commit of another clone"
    assert find("", "--output=stolen") is None
    assert find("HEAD --output=stolen", hashes[0]) is None
    assert not (tmp_path / "stolen").exists()


def make_entry(run: str, stage: str | None, hour: int, digest: str = "", parent: str | None = None) -> Entry:
    outputs = [{"path": "data/small/raw/a.parquet", "sha256": digest, "bytes": 1}] if digest else []
    at = (START + hour * HOUR).isoformat()
    return Entry(
        run, "small", stage, parent, Process(1, 1, ""), at, outputs=outputs, tracked=f"t{run}", outcome="finished"
    )


def test_data_arrived_with_the_first_run_that_read_them() -> None:
    entries = [
        make_entry("a", None, 0),
        make_entry("a1", "source", 0, "old", "a"),
        make_entry("b", None, 5),
        make_entry("b1", "source", 5, "new", "b"),
        make_entry("c", None, 9),  # its source was up to date
        make_entry("d", None, 11),
        make_entry("d1", "source", 11, "new", "d"),
        make_entry("e", None, 12),
        make_entry("e1", "source", 12, "newest", "e"),
    ]
    hours = {"ta": 0, "tb": 5, "tc": 5, "td": 5, "te": 12}
    assert {run: find_data_arrival(entries, run) for run in hours} == {
        run: START + hour * HOUR for run, hour in hours.items()
    }
    assert find_data_arrival(entries, "elsewhere") is None
    assert find_data_arrival(entries, "") is None
    assert find_data_arrival(entries[:1], "ta") is None


def test_page_shows_each_deployment_and_the_trend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params").mkdir()
    content = write_delivery(measure()).read_text()
    assert content.count("<h1>") == 1
    for words in (
        "1 of 5 rolled back within 7 days",
        "too early to know",
        "succeeded (rework)",
        "no new commit",
        "2026-04",
    ):
        assert words in content
    assert "not measured" in content
    assert re.search(r"\bnan\b", content, re.IGNORECASE) is None
