"""How much memory a process and all below it take."""

import subprocess
import sys
from pathlib import Path

import pytest
from labkit.run import memory
from labkit.run.memory import GIGABYTE, Gauge

MEGABYTE = 2**20
TAKE = """
import os, subprocess, sys
kept = b"x" * (60 * 2**20)
if "NAME" in os.environ:
    open("/proc/self/comm", "w").write(os.environ["NAME"])
if sys.argv[1:]:
    os.environ.update({"with a checkpoint": {"NAME": "labkit-pending"}}.get(sys.argv[1], {}))
    below = subprocess.Popen([sys.executable, "-c", os.environ["TAKE"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    below.stdout.readline()
print("here", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("words", [[], ["with one below"], ["with a checkpoint"]], ids=" ".join)
def test_all_below_a_process_count_and_the_peak_stays(words: list[str]) -> None:
    gauge = Gauge()
    environment = {"TAKE": TAKE}
    command = [sys.executable, "-c", TAKE, *words]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"here\n"
        gauge.look(process.pid)
        process.communicate()
    peak = gauge.peak_bytes
    n_counted = 2 if words == ["with one below"] else 1
    assert 60 * n_counted * MEGABYTE < peak < 60 * (1 + n_counted) * MEGABYTE
    gauge.look(process.pid)
    assert (gauge.now_bytes, gauge.peak_bytes) == (0, peak)


@pytest.mark.parametrize(
    ("limit", "total"),
    [(str(3 * GIGABYTE // 2), "1.5"), ("max", None), (str(2**63 - 4096), None), (None, None)],
    ids=["limited", "no limit", "no limit, in its first version", "no file"],
)
def test_there_is_no_more_than_the_container_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, total: str | None
) -> None:
    monkeypatch.setattr(memory, "LIMIT_FILES", ())
    whole = memory.find_total()
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(memory, "LIMIT_FILES", (str(tmp_path / "memory.max"),))
    described = f"peak memory 1.0 of {total or format(whole / GIGABYTE, '.1f')} GB"
    assert Gauge(peak_bytes=GIGABYTE).describe() == described


def test_what_is_free_in_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, content in (("max", "1000"), ("current", "900"), ("stat", "anon 200\ninactive_file 300\nfile 500\n")):
        (tmp_path / f"memory.{name}").write_text(content)
    monkeypatch.setattr(memory, "LIMIT_FILES", (str(tmp_path / "memory.max"), ""))
    monkeypatch.setattr(memory, "USED_FILES", (str(tmp_path / "memory.current"), ""))
    assert memory.find_free() == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.find_free() > 10**6
