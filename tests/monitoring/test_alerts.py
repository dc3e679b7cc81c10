"""Alerts: one while a finding lasts, none lost, none twice, and the webhook that they are sent to."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from labkit import paths
from labkit.errors import ParamsError
from labkit.monitoring import webhook
from labkit.monitoring.alerts import find_alerts, load_lines, raise_unmonitored, update_alerts
from labkit.monitoring.champion_check import find_history
from labkit.monitoring.webhook import describe_lost_connection, find_webhook, post_alert
from labkit.run.pipeline.kernel_environment import make_kernel_environment
from labkit.storage.append import append_line

NAME = "small"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    monkeypatch.delenv(paths.WEBHOOK_VARIABLE, raising=False)
    monkeypatch.setattr(webhook, "PAUSES_SECONDS", (0, 0))


class Receiver(BaseHTTPRequestHandler):
    """Takes alerts, or refuses them with the statuses of the list first."""

    statuses: list[int]
    taken: list[Any]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        status = self.statuses.pop(0) if self.statuses else 200
        if status < 300:
            self.taken.append(json.loads(content))
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Receiver]]:
    handler = type("Own", (Receiver,), {"statuses": [], "taken": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(paths.WEBHOOK_VARIABLE, f"http://127.0.0.1:{server.server_port}/hidden-part")
    yield handler
    server.shutdown()
    server.server_close()


def note(minutes: int, actions: dict[str, str], *, version: int = 1, rows: str = "log", **statuses: str) -> None:
    """Add a check to the history; codes that neither `actions` nor `statuses` name passed."""
    states = {"LK703": "passed", "LK704": "passed", "LK712": "passed"} | dict.fromkeys(actions, "warning") | statuses
    checks = [{"code": code, "status": status, "evidence": f"seen: {status}"} for code, status in states.items()]
    at = (NOW + timedelta(minutes=minutes)).isoformat(timespec="seconds")
    record = {"experiment": NAME, "at": at, "verdict": "-", "digest": f"{version}", "version": version}
    append_line(find_history(NAME), json.dumps(record | {"rows_of": rows, "actions": actions, "checks": checks}))


def update(minutes: int = 0, reported: list[str] | None = None) -> list[tuple[str, str]]:
    now, lines = NOW + timedelta(minutes=minutes), [] if reported is None else reported
    return [(one["code"], one["severity"]) for one in update_alerts(NAME, now=now, report=lines.append)]


def list_events() -> list[tuple[str, ...]]:
    return [(one["event"], one["code"], one["severity"]) for one in load_lines(NAME) if "severity" in one]


def test_alert_lasts_as_long_as_its_finding() -> None:
    reported: list[str] = []
    note(0, {"LK704": "watch"})
    assert update(0, reported) == [("LK704", "watch")]
    note(1, {"LK704": "watch"})
    assert update(1, reported) == update(1, reported) == [("LK704", "watch")]
    note(2, {"LK704": "watch", "LK712": "watch"})
    note(3, {"LK712": "retrain"}, LK704="skipped")
    assert update(3, reported) == [("LK704", "watch"), ("LK712", "retrain")]
    note(4, {})
    assert update(4, reported) == []
    expected = [
        ("opened", "LK704", "watch"), ("opened", "LK712", "watch"), ("changed", "LK712", "retrain"),
        ("resolved", "LK704", "watch"), ("resolved", "LK712", "retrain"),
    ]  # fmt: skip
    assert list_events() == expected
    assert len(reported) == len(expected)
    assert reported[0] == "small v1: alert opened (watch): Distribution of the columns [LK704]: seen: warning"
    assert "alert resolved (watch), open since 2026-03-01T12:00:00+00:00: " in reported[3]


def test_alerts_of_rows_given_by_hand_are_not_resolved_by_the_log() -> None:
    note(0, {"LK704": "watch"}, rows="rows")
    note(1, {}, rows="log")
    note(2, {}, rows="incoming")
    assert update() == [("LK704", "watch")]


def test_finding_that_the_new_champion_cannot_be_judged_by_is_over() -> None:
    note(0, {"LK704": "watch"})
    note(1, {}, version=2, LK704="skipped")
    assert update() == []


def test_checks_whose_alerts_a_kill_prevented_are_made_up_for() -> None:
    note(0, {"LK703": "stop"})
    note(1, {})
    reported: list[str] = []
    assert update(1, reported) == []
    assert list_events() == [("opened", "LK703", "stop"), ("resolved", "LK703", "stop")]
    path = find_alerts(NAME)
    path.write_bytes(path.read_bytes()[:-20])  # killed while the last line was written
    update(1, reported)
    assert list_events() == [("opened", "LK703", "stop"), ("resolved", "LK703", "stop")]


def test_champion_that_nobody_monitors_is_an_alert_until_it_is_checked() -> None:
    def look(days: float, since: str | None) -> list[str]:
        now = NOW + timedelta(days=days)
        return [one["evidence"] for one in raise_unmonitored(NAME, version=3, since=since, now=now, report=print)]

    began = NOW.isoformat()
    assert look(29, began) == []
    assert look(31, began) == ["no check for 31 d"]
    assert look(40, began) == ["no check for 31 d"], "one alert while it lasts"
    note(41 * 24 * 60, {})
    assert update(41 * 24 * 60) == []
    assert look(42, began) == []
    assert list_events() == [("opened", "LK720", "watch"), ("resolved", "LK720", "watch")]


def test_champion_whose_beginning_is_unknown_counts_as_never_checked() -> None:
    [alert] = raise_unmonitored(NAME, version=3, since=None, now=NOW, report=print)
    assert alert["text"] == "small v3: alert opened (watch): Monitoring of the champion [LK720]: no check ever"


def test_webhook_gets_each_event_once(receiver: type[Receiver]) -> None:
    note(0, {"LK703": "stop"})
    update(0)
    update(1)
    [taken] = receiver.taken
    assert (taken["experiment"], taken["event"], taken["code"], taken["severity"]) == (NAME, "opened", "LK703", "stop")
    assert taken["text"].startswith("small v1: alert opened (stop): Traffic")
    assert [one["event"] for one in load_lines(NAME)] == ["opened", "sent"]


@pytest.mark.parametrize(
    ("statuses", "problem"),
    [([500, 503, 502], "HTTP status 502"), ([404], "HTTP status 404"), ([302], "HTTP status 302")],
)
def test_failure_of_the_webhook_is_recorded_and_made_up_for(
    receiver: type[Receiver], statuses: list[int], problem: str
) -> None:
    receiver.statuses.extend(statuses)
    note(0, {"LK703": "stop", "LK704": "watch"})
    reported: list[str] = []
    assert update(0, reported) == [("LK703", "stop"), ("LK704", "watch")]
    assert (receiver.taken, receiver.statuses) == ([], [])
    assert load_lines(NAME)[-1] | {"id": ""} == {
        "id": "", "at": NOW.isoformat(), "event": "not sent", "error": problem
    }  # fmt: skip
    assert reported[-1].endswith(f"the next check tries again: {problem}")
    update(1)
    assert [one["code"] for one in receiver.taken] == ["LK703", "LK704"]
    assert "hidden-part" not in find_alerts(NAME).read_text() + "".join(reported)


def test_webhook_that_fails_for_a_moment_is_asked_again(receiver: type[Receiver]) -> None:
    receiver.statuses.extend([503, 429])
    note(0, {"LK703": "stop"})
    update()
    assert [one["code"] for one in receiver.taken] == ["LK703"]


def test_receiver_that_sends_a_byte_now_and_then_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "DEADLINE_SECONDS", 1)
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip() -> None:
            client, _ = server.accept()
            with client, suppress(OSError):
                for _ in range(200):
                    client.sendall(b"H")
                    time.sleep(0.1)
            ended.set()

        threading.Thread(target=drip, daemon=True).start()
        begin = time.monotonic()
        assert post_alert(f"http://127.0.0.1:{server.getsockname()[1]}/", {}) == "no whole response within 1 seconds"
        assert time.monotonic() - begin < 5
        assert ended.wait(5), "the connection is cut"
    while threading.active_count() > before and time.monotonic() - begin < 10:
        time.sleep(0.05)
    assert threading.active_count() == before


def test_old_events_are_not_sent(receiver: type[Receiver]) -> None:
    reported: list[str] = []
    note(0, {"LK703": "stop"})
    assert update(60 * 25, reported) == [("LK703", "stop")]
    assert (receiver.taken, reported) == ([], [])


def test_address_that_is_none_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (
        "hooks.example.com/T0/secret",
        "ftp://a/secret",
        "https://[secret",
        "https:///secret",
        "http://a b",
    ):
        monkeypatch.setenv(paths.WEBHOOK_VARIABLE, address)
        with pytest.raises(ParamsError, match="LABKIT_ALERT_WEBHOOK is not an address https://…: correct it") as caught:
            find_webhook()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (URLError(ssl.SSLCertVerificationError(1, "not valid for 'secret'")), "SSLCertVerificationError"),
        (ssl.SSLError(1, "unexpected end, secret"), "SSLError"),
        (URLError("no host in secret"), "URLError"),
        (URLError(ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (URLError(TimeoutError()), "no response within 10 seconds"),
    ],
)
def test_errors_of_connections_are_described_without_the_host(error: Exception, described: str) -> None:
    assert describe_lost_connection(error) == described


def test_notebooks_do_not_see_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.WEBHOOK_VARIABLE, "https://hooks.example.com/secret")
    assert "secret" not in str(make_kernel_environment(Path("work"), run_id="run"))
    assert find_webhook() == "https://hooks.example.com/secret"


def test_connection_that_fails_is_described_without_the_address() -> None:
    assert post_alert("http://127.0.0.1:1/secret", {}) == "Connection refused"
    assert "secret" not in post_alert("http://secret.invalid/", {})
