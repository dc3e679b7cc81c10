"""Nothing from data, notebooks, params, files or arguments reaches a terminal as something that it obeys."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from labkit.cli import main

from tests.conftest import call_in_process, call_labkit
from tests.hostile_strings import find_controls
from tests.run.small import make_small
from tests.terminal import WIDE, call_on_terminal

EVIL = "\x1b]0;PWNED\x07\x1b[8m\u202e\u200b\x9b2J\r\nFAKE"
"""Sets the window's title, hides what follows, turns it round, clears the screen and begins a line of its own."""
NAME = EVIL.replace("\n", "").replace("/", "")
"""The same as a file may be called."""
SOURCES = {
    "eda": f"stage += {EVIL!r}  # which the headline holds\nprint(stage)",
    "wrangling": f"raise ValueError({EVIL!r})",
}
COLUMNS = ["id", f"size{EVIL}", f"kind{EVIL}", "y"]


def make_hostile(folder: Path, store: Path) -> Path:
    """Make a checkout in which every field that may hold any string holds a hostile one."""
    root = make_small(folder, "eda", "wrangling", store=store, **SOURCES)
    for path in (root / "notebooks").iterdir():
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source += EVIL
        nbformat.write(notebook, path)
    params = root / "params" / "small.yaml"
    quoted = '"' + EVIL.encode("unicode_escape").decode() + '"'
    content = params.read_text().replace("wrangling:\n", f"wrangling:\n  drop: {{{quoted}: {quoted}}}\n")
    params.write_text(content + f"  owner: {quoted}\n")
    write_table(root / f"table{NAME}.csv")
    own = nbformat.v4.new_code_cell(f"print({EVIL!r})\nopen('/home/{NAME}')\nraise ValueError({EVIL!r})")
    own.update(execution_count=1, outputs=[nbformat.v4.new_output("stream", text=EVIL)])
    nbformat.write(nbformat.v4.new_notebook(cells=[own]), root / f"open{NAME}.ipynb")
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / f"open{NAME}").touch()
    (root / "data" / f"open{NAME}").chmod(0o666)
    return root


def write_table(path: Path) -> None:
    """Write a table with hostile names of columns and of classes."""
    quote = '"{}"'.format
    lines = [",".join(map(quote, COLUMNS))]
    for number in range(80):
        label = f"yes{EVIL}" if number % 3 == 0 else "no"
        lines.append(f'{number},{number * 37 % 11},"k{number % 4}{EVIL}","{label}"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


def call(root: Path, *arguments: str) -> str:
    """Run the command line as in a script and return what it printed."""
    run = call_labkit if arguments[0] in PROCESSES else call_in_process
    done = run(root, *arguments, COLUMNS=WIDE)
    return done.stdout + done.stderr


OWN_CODES = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AKG]|\r")
"""What rich itself sends to a terminal: colours, and what draws a line again."""

PROCESSES = {"serve", "warm"}
"""Commands that run until they are stopped, or start what does: called as processes of their own."""
COMMANDS: dict[str, list[list[str]]] = {
    "run": [
        ["small", "--cold"],
        ["small", "--cold", "--sample", "20"],
        ["small", "--cold", "-S", f"deploy.owner={EVIL}"],
        [EVIL],
        ["small", "--until", EVIL],
    ],
    "stage": [["eda", "small"], [EVIL, "small"], ["eda", EVIL]],
    "status": [[], ["small"], [EVIL]],
    "runs": [[], ["small"], [EVIL]],
    "why": [["small"], [EVIL]],
    "compare": [["small"], ["small", EVIL], [EVIL]],
    "params": [["small"], [], [EVIL]],
    "eject": [["wrangling", "small"], [EVIL, "small"], ["eda", EVIL]],
    "diff": [["small"], ["small", EVIL], [EVIL]],
    "stages": [[], ["--update"], ["--json"]],
    "upgrade": [[], ["small", "--dry-run"], [EVIL]],
    "predict": [["small", f"table{NAME}.csv", f"out{NAME}.csv"], [EVIL, "a", "b"]],
    "new": [
        ["hostile", "--data", f"table{NAME}.csv", "--target", "y"],
        ["hostile", "--data", f"table{NAME}.csv", "--target", EVIL],
        ["hostile", "--data", f"gone{NAME}.csv", "--target", "y"],
        ["other", "--data", f"table{NAME}.csv", "--target", "y", "--positive", EVIL],
        ["other", "--data", f"table{NAME}.csv", "--target", "y", "--kind", f"{EVIL}=number"],
        [EVIL, "--data", "a.csv", "--target", "y"],
    ],
    "models": [[], ["small"], [EVIL]],
    "rollback": [["small", "--reason", EVIL], ["small", "1", "--reason", EVIL], [EVIL, "--reason", "x"]],
    "init": [[f"../made{NAME}", "--name", "made"], [EVIL], ["../other", "--name", EVIL]],
    "promote": [["small", "--reason", EVIL], ["small", "1", "--reason", EVIL], [EVIL, "--reason", "x"]],
    "serve": [[EVIL], ["small", "--release", EVIL], ["small", "--host", EVIL]],
    "watch": [["small", "--once"], [EVIL, "--once"], ["small", "--once", "--every", EVIL]],
    "monitor": [["small"], [EVIL], ["small", "--current", f"table{NAME}.csv"], ["small", "--current", EVIL]],
    "check-data": [["small", f"table{NAME}.csv"], ["small", EVIL], [EVIL, "a.csv"], ["small", "a", "--markdown", EVIL]],
    "check-model": [["small"], ["small", "1"], [EVIL], ["small", "--markdown", EVIL]],
    "retrain": [
        ["small"],
        ["small", "--reason", EVIL],
        [EVIL],
        ["small", "--data", f"table{NAME}.csv", "--reason", EVIL, "--dry-run"],
    ],
    "observe": [["small"], ["small", f"table{NAME}.csv"], ["small", EVIL], [EVIL], ["small", "--undo", EVIL]],
    "replay": [["small"], [EVIL], ["small", "--policies", EVIL], ["small", "--from", EVIL]],
    "labels": [["small"], [EVIL], ["small", "--import", EVIL], ["small", "--referee", EVIL]],
    "delivery": [["small"], [EVIL], ["small", "--since", EVIL]],
    "package": [
        [EVIL, "--to", "dist"],
        ["small", "--to", "dist"],
        ["small", "--to", "dist", "--form", EVIL],
        ["small", "--to", "dist", "--release", EVIL],
    ],
    "pull": [[], ["small"], [EVIL]],
    "export-dag": [["airflow"], ["github", EVIL], [EVIL], ["dagster", "--to", EVIL], ["prefect", "--schedule", EVIL]],
    "export": [["small"], ["small", "1"], [EVIL], ["small", "--to", EVIL]],
    "reproduce": [["small"], ["small", "1"], [EVIL], [f"small@{EVIL}"], ["small", EVIL]],
    "sweep": [
        ["small", "-S", EVIL],
        ["small", "-S", f"{EVIL}=1,2"],
        [EVIL, "-S", "seed=1,2"],
        ["small", "-S", "seed=1,2", "--until", EVIL],
        ["small", "-S", "seed=1,2", "--dask", EVIL],
        ["small", "-S", f"{EVIL}=1..2", "--optuna", "1"],
        ["small", "--adopt", EVIL],
    ],
    "doctor": [[]],
    "warm": [["--stop"], [EVIL]],
    "verify": [["--static"], [EVIL], [f"open{NAME}.ipynb"]],
    "open": [["--print"], ["small", "--print"], [EVIL], ["small", "--stage", EVIL]],
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    return make_hostile(tmp_path_factory.mktemp("hostile") / "checkout", store)


def test_every_command_is_swept() -> None:
    assert set(COMMANDS) == set(main.cli.commands)


@pytest.mark.slow
@pytest.mark.xdist_group("hostile")
@pytest.mark.parametrize("caller", [call, call_on_terminal])
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_that_a_terminal_obeys_is_printed(hostile: Path, command: str, caller: Callable[..., str]) -> None:
    for arguments in COMMANDS[command][: 1 if caller is call_on_terminal else None]:
        printed = caller(hostile, command, *arguments)
        if caller is call_on_terminal:
            printed = OWN_CODES.sub("", printed)
        assert find_controls(printed) == set(), printed
        # Further lines of an exception's message are quoted, and indented further.
        lines = [line for line in printed.splitlines() if not line.startswith("    FAKE")]
        assert [line for line in lines if line.lstrip(" │┃").startswith("FAKE")] == [], printed
