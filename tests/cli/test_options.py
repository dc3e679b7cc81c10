"""Words that a shell completes: the completion is called as bash, zsh and fish call it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import LABKIT, make_environment

STARTED = {"kind": "start", "run": "diabetes-20260101T000000Z-abcd1234", "experiment": "diabetes", "stage": None}
LEDGER = {**STARTED, "parent": None, "facts": {}, "store": "", "pid": 4194305, "process_started": 1.0, "boot": ""}


def complete(root: Path, shell: str, line: str) -> list[str]:
    """Return the words that a shell offers for the last word of a line."""
    words = line.split(" ")
    variables = {"_LABKIT_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        variables["COMP_CWORD"] = words[-1]
    done = subprocess.run(
        [LABKIT], cwd=root, env={**make_environment(root), **variables}, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    return lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("labkit stat", ["status"]),
        ("labkit run dia", ["diabetes"]),
        ("labkit status diabetes fl", ["flights"]),
        ("labkit run diabetes --until ev", ["evaluation"]),
        ("labkit run diabetes --force f", ["features"]),
        (
            "labkit run diabetes -S evaluation.gate.mo",
            [f"evaluation.gate.{name}=" for name in ("mode", "most_miscalibration", "most_milliseconds", "most_bytes")],
        ),
        ("labkit stage tr", ["training"]),
        ("labkit eject tr", ["training"]),
        ("labkit diff diabetes ev", ["evaluation"]),
        ("labkit upgrade br", ["breast_cancer"]),
        ("labkit open diabetes --stage p", ["publish"]),
        ("labkit why diabetes-2026", ["diabetes-20260101T000000Z-abcd1234"]),
        ("labkit compare diabetes @", ["@last", "@champion"]),
        ("labkit compare diabetes @last diabetes-2026", ["diabetes-20260101T000000Z-abcd1234"]),
        ("labkit predict br", ["breast_cancer"]),
    ],
)
def test_shell_completes(params_root: Path, shell: str, line: str, words: list[str]) -> None:
    (params_root / ".labkit").mkdir()
    entry = {**LEDGER, "at": "2026-01-01T00:00:00+00:00"}
    (params_root / ".labkit" / "ledger.jsonl").write_text(json.dumps(entry) + "\n")
    assert complete(params_root, shell, line) == words


def test_nothing_is_completed_outside_of_a_checkout(tmp_path: Path) -> None:
    assert complete(tmp_path, "zsh", "labkit run dia") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_help_shows_how_to_switch_completion_on(params_root: Path, shell: str) -> None:
    helped = subprocess.run([LABKIT, "--help"], capture_output=True, text=True, check=True).stdout
    assert f"_LABKIT_COMPLETE={shell}_source labkit" in helped
    variables = {**make_environment(params_root), "_LABKIT_COMPLETE": f"{shell}_source"}
    script = subprocess.run([LABKIT], env=variables, capture_output=True, text=True, check=True).stdout
    assert f"_LABKIT_COMPLETE={shell}_complete" in script
