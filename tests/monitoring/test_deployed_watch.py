"""The files of deploy/watch: each is valid for its system, and calls a command that exists."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from labkit.cli.main import cli

from tests.conftest import ROOT
from tests.services import skip_outside_of_ci

WATCH = ROOT / "deploy" / "watch"
UNITS = ("labkit-watch.service", "labkit-check.service", "labkit-check.timer")


@pytest.mark.parametrize("path", sorted(WATCH.iterdir()), ids=lambda path: path.name)
def test_commands_exist(path: Path) -> None:
    content = path.read_text()
    commands = re.findall(r"\.venv/bin/(labkit [^>\n]+)", content)
    assert commands or path.suffix == ".timer"
    for command in commands:
        name, *options = shlex.split(command)[1:]
        cli.commands[name].make_context(name, options)
    assert f"`deploy/watch/{path.name}`" in (page := (ROOT / "docs/watching.md").read_text()) or path.name in page


def test_units_are_valid(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        skip_outside_of_ci("no systemd-analyze on this machine: install systemd from the distribution")
    for name in UNITS:
        content = (WATCH / name).read_text()
        (tmp_path / name).write_text(content.replace("/srv/models/.venv/bin/labkit", shutil.which("true") or ""))
    command = [program, "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_stop_lets_a_training_finish() -> None:
    for name in UNITS[:2]:
        content = (WATCH / name).read_text()
        assert "\nKillMode=mixed\n" in content, "SIGTERM for the kernels too would end the training"
        assert "\nTimeoutStopSec=30min\n" in content


def test_crontab_has_one_line_of_five_times() -> None:
    [line] = [line for line in (WATCH / "crontab").read_text().splitlines() if not line.startswith("#")]
    assert re.match(r"(\d+|\*) (\d+|\*) (\d+|\*) (\d+|\*) (\d+|\*) cd ", line)
    assert "%" not in line, "cron would take it for a line break"


def test_workflow_runs_on_a_schedule_and_never_twice_at_once() -> None:
    workflow = yaml.safe_load((WATCH / "github-watch.yml").read_text())
    # YAML 1.1 reads the key `on` as true.
    assert [*workflow[True]] == ["schedule", "workflow_dispatch"]
    assert workflow["concurrency"] == "watch"
    assert workflow["permissions"] == {"contents": "read"}
    *_, restored, watched, saved = workflow["jobs"]["watch"]["steps"]
    assert (restored["uses"], saved["uses"]) == ("actions/cache/restore@v4", "actions/cache/save@v4")
    assert "labkit watch" in watched["run"]
    assert saved["if"] == "always()", "a verdict of stop fails the job"
    assert {"restore-keys": "watch-", **saved["with"]} == restored["with"]
