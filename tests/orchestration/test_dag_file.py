"""The files for other schedulers: the same bytes each time, in order, and what they call works."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from labkit.cli.main import call, cli

from tests.conftest import LABKIT, ROOT, call_in_process, make_environment
from tests.documents import find_commands
from tests.git import call_git
from tests.run.small import make_small

PYTHON_SCHEDULERS = ("airflow", "dagster", "prefect")
TASK = "sys.exit(call_labkit(*sys.argv[2:], seconds=float(sys.argv[1])))\n"
"""What a task of a generated file does."""
BROKEN = "raise RuntimeError('broken')"


def export(root: Path, *arguments: str) -> str:
    """Return the file that `labkit export-dag` prints."""
    done = call_in_process(root, "export-dag", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    return make_small(tmp_path_factory.mktemp("small") / "checkout", store=store)


@pytest.mark.parametrize("scheduler", [*PYTHON_SCHEDULERS, "github"])
def test_command_in_the_header_makes_the_same_file(small: Path, scheduler: str) -> None:
    path = small / "made"
    options = ["small", "--to", str(path), "--retries", "2", "--time-limit", "1h", "--schedule", "0 */6 * * 1-5"]
    assert call_in_process(small, "export-dag", scheduler, *options).returncode == 0
    made = path.read_text()
    [command] = [line.lstrip("# ") for line in made.splitlines() if line.lstrip("# ").startswith("labkit export-dag ")]
    assert call_in_process(small, *shlex.split(command)[1:]).stdout == "wrote made\n"
    assert path.read_text() == made
    assert "3600" in made
    assert '"0 */6 * * 1-5"' in made


@pytest.mark.parametrize("scheduler", [*PYTHON_SCHEDULERS, "github"])
def test_folder_of_the_caller_and_path_of_python_do_not_matter(small: Path, scheduler: str) -> None:
    """A Python that is called by a relative path keeps its `..`."""
    (small / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    python = small / "venv" / "bin" / "python"
    if not python.is_symlink():
        python.symlink_to(sys.executable)
    environment = make_environment(small) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    made = []
    for folder, called, path in (
        (small, "venv/bin/python", "same.py"),
        (small / "notebooks", "../venv/bin/python", "../same.py"),
        (small / "notebooks", str(python), str(small / "same.py")),
    ):
        program = "import sys; from labkit.cli.main import main; main(sys.argv[1:])"
        words = [called, "-c", program, "export-dag", scheduler, "small", "--to", path]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, f"wrote {path}\n"), done.stderr
        made.append((small / "same.py").read_text())
        (small / "same.py").unlink()
    assert made == [made[0]] * 3
    assert "--to same.py\n" in made[0]
    assert scheduler == "github" or 'os.environ.get("LABKIT_COMMAND", "venv/bin/labkit")' in made[0]


def test_header_names_a_file_outside_the_checkout_by_its_absolute_path(small: Path) -> None:
    done = call_in_process(small, "export-dag", "github", "--to", "../outside.yml")
    assert (done.returncode, done.stdout) == (0, "wrote ../outside.yml\n")
    assert f" --to {small.parent / 'outside.yml'}\n" in (small.parent / "outside.yml").read_text()


@pytest.mark.parametrize("scheduler", PYTHON_SCHEDULERS)
def test_made_program_compiles_and_passes_ruff(small: Path, tmp_path: Path, scheduler: str) -> None:
    path = tmp_path / "made.py"
    path.write_text(export(small, scheduler))
    compile(path.read_text(), path, "exec")
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    for words in (["check", *config], ["check", "--no-cache", "--isolated"], ["format", "--check", *config]):
        done = subprocess.run(["ruff", *words, path], capture_output=True, text=True, env=make_environment(ROOT))
        assert done.returncode == 0, done.stdout


def test_another_file_is_not_replaced(small: Path) -> None:
    (small / "notes.py").write_text("my notes")
    done = call_in_process(small, "export-dag", "airflow", "--to", "notes.py")
    assert (done.returncode, (small / "notes.py").read_text()) == (2, "my notes")
    assert done.stderr == (
        "labkit: notes.py: not made by `labkit export-dag`, so it is not replaced: name another file with --to\n"
    )
    assert call_in_process(small, "export-dag", "airflow", "--to", "absent/dag.py").returncode == 2


@pytest.mark.parametrize(
    "schedule", ["", "* * * *", "60 * * * *", "* * * * 7", "5-1 * * * *", "*/0 * * * *", "0 5 * * *\n- x"]
)
def test_invalid_schedule_is_refused(small: Path, schedule: str) -> None:
    done = call_in_process(small, "export-dag", "github", "--schedule", schedule)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a schedule: give five fields of cron, e.g. '17 5 * * *'" in done.stderr


def test_files_are_written_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(ROOT))
    monkeypatch.chdir(tmp_path)
    commands = find_commands("docs/schedulers.md")
    assert len(commands) == 4
    for command in commands:
        assert call(cli, shlex.split(command)[1:]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"labkit_airflow.py", "labkit_prefect.py", "labkit.yml"}


@pytest.fixture(scope="module", params=PYTHON_SCHEDULERS)
def program(request: pytest.FixtureRequest, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that calls a command as the tasks of a generated file do; the scheduler is not imported."""
    kept, _, rest = export(small, request.param).partition("\ndef call_labkit")
    function = f"\ndef call_labkit{rest.partition(chr(10) * 3)[0]}"
    imports = (f"import {request.param}", f"from {request.param}")
    lines = [line for line in kept.splitlines() if not line.startswith(imports)]
    path = tmp_path_factory.mktemp(request.param) / "task.py"
    path.write_text("\n".join([*lines, function, "import sys", TASK]))
    return path


def call_task(program: Path, command: str, seconds: float, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Let a task call a command in place of labkit."""
    environment = {**os.environ, "LABKIT_CHECKOUT": str(program.parent), "LABKIT_COMMAND": command}
    words = [sys.executable, program, str(seconds), *arguments]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("code", [0, 1, 2, 4, 130])
def test_task_ends_with_the_exit_code_of_its_command(program: Path, code: int) -> None:
    done = call_task(program, "/bin/sh", 100, "-c", f"pwd; exit {code}")
    assert (done.returncode, done.stdout) == (code, f"{program.parent}\n")


def test_task_out_of_time_ends_its_command(program: Path) -> None:
    # As labkit does, it still records how it ended.
    done = call_task(program, "/bin/sh", 2, "-c", "trap 'echo ended > end; kill $!; exit 130' TERM; sleep 100 & wait")
    assert "timed out after 2.0 seconds" in done.stderr
    assert (program.parent / "end").read_text() == "ended\n"


def run_workflow(root: Path, folder: Path) -> dict[str, str]:
    """Run the jobs of the workflow as GitHub does, each in a clone of its own; return how each ended."""
    workflow = yaml.safe_load(export(root, "github", "small", "--pause", "10s", "--retries", "1"))
    ended, caches = dict[str, str](), dict[str, Path]()
    for name, job in workflow["jobs"].items():
        if "schedule" in job.get("if", "") and "!=" not in job["if"]:
            continue
        if any(ended[needed] != "success" for needed in job.get("needs", [])):
            ended[name] = "skipped"
            continue
        machine = folder / name
        call_git(folder, "clone", "-q", str(root), str(machine))
        (machine / ".venv").symlink_to(Path(sys.prefix))
        ended[name] = run_steps(machine, job["steps"], caches)
    return ended


def run_steps(machine: Path, steps: list[dict[str, str]], caches: dict[str, Path]) -> str:
    """Run the steps of a job but the installation; caches are folders by key."""
    for step in steps:
        action, given = step.get("uses", ""), step.get("with", {})
        if step.get("run", "make install") != "make install":
            # Pauses are not waited for.
            script = step["run"].replace("sleep", "true")
            done = subprocess.run(["bash", "-e", "-c", script], cwd=machine, env=make_environment(machine), check=False)
            if done.returncode:
                return "failure"
        elif action.startswith("actions/cache/save"):
            caches[given["key"]] = machine
        elif action.startswith("actions/cache/restore"):
            for pattern in given["path"].split():
                for found in caches[given["key"]].glob(pattern):
                    copy(found, machine / found.relative_to(caches[given["key"]]))
    return "success"


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock", "*.lock"))
    else:
        shutil.copy(source, target)


@pytest.mark.slow
def test_workflow_hands_its_state_from_job_to_job(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", store=None)
    assert run_workflow(root, tmp_path) == {f"small-{stage}": "success" for stage in ("eda", "wrangling", "features")}
    ledger = (tmp_path / "small-features" / ".labkit" / "ledger.jsonl").read_text().splitlines()
    starts = [line["stage"] for line in map(json.loads, ledger) if line["kind"] == "start" and line["stage"]]
    assert starts == ["eda", "wrangling", "features"]  # each once: the caches have all that the next job needs


@pytest.mark.slow
def test_failed_job_is_repeated_and_stops_those_after_it(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", wrangling=BROKEN)
    assert run_workflow(root, tmp_path) == {
        "small-eda": "success",
        "small-wrangling": "failure",
        "small-features": "skipped",
    }
    ledger = (tmp_path / "small-wrangling" / ".labkit" / "ledger.jsonl").read_text().splitlines()
    ends = Counter(line["outcome"] for line in map(json.loads, ledger) if line["kind"] == "done" and line["exit_code"])
    assert ends["failed"] == 4  # two attempts, each a run and its stage


@pytest.mark.slow
def test_dagster_runs_the_stages_repeats_the_failed_one_and_stops(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", store=store, wrangling=BROKEN)
    (root / "dag.py").write_text(export(root, "dagster", "--pause", "10s"))
    place, environment = tmp_path / "dagster", make_environment(root) | {"DAGSTER_DISABLE_TELEMETRY": "true"}
    environment |= {"LABKIT_CHECKOUT": str(root), "LABKIT_COMMAND": LABKIT}
    for words in (
        ["venv", "--quiet", "--python", sys.executable, place],
        ["pip", "install", "--quiet", "--python", place / "bin" / "python", "dagster==1.13.29"],
    ):
        subprocess.run(["uv", *words], env=environment, check=True)
    command = [place / "bin" / "dagster", "job", "execute", "-f", "dag.py", "-j", "run_small"]

    def execute() -> tuple[int, Counter[str]]:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
        words = (word for line in done.stderr.splitlines() for word in [line.split(" - ")] if len(word) > 7)
        return done.returncode, Counter(f"{word[6]} {word[7]}" for word in words)

    code, events = execute()
    assert code == 1
    assert events["small_eda STEP_SUCCESS"] == 1
    assert events["small_wrangling STEP_UP_FOR_RETRY"] == 1
    assert events["small_wrangling STEP_FAILURE"] == 1
    assert events["small_features STEP_START"] == 0
    path = root / "notebooks" / "02_wrangling.ipynb"
    path.write_text(path.read_text().replace(BROKEN, "1 + 1"))
    code, events = execute()
    assert (code, events["small_features STEP_SUCCESS"]) == (0, 1)
    assert (root / "data" / "small" / "features").exists()
