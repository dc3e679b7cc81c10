"""A small experiment to break: notebooks of a few lines, kernels that import nothing, a second or two a stage."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import psutil

from tests import preloaded
from tests.conftest import LABKIT, ROOT, make_environment
from tests.git import call_git, commit_all

STAGES = ("eda", "wrangling", "features")
BEGIN = """
import json, os, pathlib, time
work = pathlib.Path(os.environ["LABKIT_RUN_DIR"])
data = pathlib.Path(os.environ["LABKIT_ROOT"], "data", experiment)
folder = work / "outputs" / stage
folder.mkdir(parents=True)
def emit(**line):
    with open(work / "log.jsonl", "a") as stream:
        stream.write(json.dumps(line) + "\\n")
"""
END = """
before = sum(len(path.read_text()) for path in data.glob("*/numbers.json"))
(folder / "numbers.json").write_text(json.dumps([stage, seed] + list(range(2000))))
emit(kind="metrics", metrics={"n": 2000})
emit(kind="child", name="candidate", params={"depth": 3}, metrics={"score": 0.5})
emit(kind="finish", headline=f"{stage} done")
"""


def make_small(
    folder: Path, *stages: str, store: Path | None = None, experiments: Sequence[str] = ("small",), **sources: str
) -> Path:
    """Make a checkout with the experiment `small`, or others, each stage reading what the one before wrote.

    Parameters
    ----------
    store
        Database of MLflow to begin with; to make one takes longer than to run all the rest.
    sources
        Stage → source of the cell between beginning and end.
    """
    stages = stages or STAGES
    for name in ("params", "notebooks", ".dvc"):
        (folder / name).mkdir(parents=True)
    content = (ROOT / "params" / "diabetes.yaml").read_text()
    for name in experiments:
        (folder / "params" / f"{name}.yaml").write_text(content.replace("experiment: diabetes", f"experiment: {name}"))
    for name in ("config", ".gitignore"):
        (folder / ".dvc" / name).write_text((ROOT / ".dvc" / name).read_text())
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    (folder / "requirements.lock").write_text("nothing==1\n")
    for number, stage in enumerate(stages, 1):
        write_notebook(folder / "notebooks" / f"{number:02}_{stage}.ipynb", stage, sources.get(stage, "1 + 1"))
    (folder / "dvc.yaml").write_text(make_pipeline(stages, experiments))
    if store:
        shutil.copy(store, folder / "mlflow.db")
    call_git(folder, "init", "-q")
    commit_all(folder, "start")
    return folder


def write_notebook(path: Path, stage: str, source: str) -> None:
    """Write a notebook: parameters, beginning, the source in question, end."""
    cells = [
        nbformat.v4.new_markdown_cell(f"# {stage}"),
        nbformat.v4.new_code_cell('experiment = "small"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(f'stage, seed = "{stage}", 42\n' + BEGIN),
        nbformat.v4.new_code_cell(source),
        nbformat.v4.new_code_cell(END),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def make_pipeline(stages: tuple[str, ...], experiments: Sequence[str] = ("small",)) -> str:
    """Return a dvc.yaml of these stages in a row."""
    lines = ["vars:", f"- experiments: [{', '.join(experiments)}]", "stages:"]
    lines += ["  fingerprint:", "    foreach: ${experiments}", "    do:", "      cmd: labkit stage fingerprint ${item}"]
    lines += [
        "      always_changed: true",
        "      outs:",
        "      - data/${item}/fingerprint:",
        "          cache: false",
    ]
    before = None
    for stage in stages:
        lines += [f"  {stage}:", "    foreach: ${experiments}", "    do:", f"      cmd: labkit stage {stage} ${{item}}"]
        lines += ["      deps:", f"      - data/${{item}}/fingerprint/{stage}.json"]
        lines += [f"      - data/${{item}}/{before}"] if before else []
        lines += ["      params:", "      - params/${item}.yaml:", "        - seed"]
        lines += ["      outs:", f"      - data/${{item}}/{stage}"]
        before = stage
    return "\n".join(lines) + "\n"


def start(root: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Start the command line in a checkout, in a session of its own; the process is a fork, see `tests.preloaded`."""
    return preloaded.Popen([LABKIT, *arguments], **make_options(root, variables))


def start_program(root: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Start the command line as `start` does, as the program that users start."""
    return subprocess.Popen([LABKIT, *arguments], **make_options(root, variables))


def make_options(root: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of `subprocess.Popen` for a command in a checkout."""
    environment = {**make_environment(root), **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return {"cwd": root, "env": environment, "start_new_session": True, **pipes}


@contextmanager
def started(root: Path, *arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the command line for the time of the block; nothing of it stays."""
    run = start(root, *arguments, **variables)
    try:
        yield run
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
        run.communicate()


def wait_until(is_so: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something to come true and return it."""
    until = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def load_ledger(root: Path) -> list[dict[str, Any]]:
    """Return the lines of a checkout's ledger."""
    path = root / ".labkit" / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


CHANGING = {"run", "at", "pid", "process_started", "seconds", "parent", "tracked", "peak_bytes", "store", "mlflow_run_id",
            "started", "ended", "others", "n_others"}  # fmt: skip
"""What differs in the records of two runs that do the same; also what else in the checkout is not in git."""


def strip_changing(content: Any) -> Any:
    """Return plain data without what is different each time."""
    if isinstance(content, dict):
        return {key: strip_changing(value) for key, value in content.items() if key not in CHANGING}
    return [strip_changing(one) for one in content] if isinstance(content, list) else content


def strip_ledger(root: Path, experiment: str) -> list[Any]:
    """Return the lines of an experiment's runs, and the records that they name, without what is different each time."""
    lines = [line for line in load_ledger(root) if line.get("run", "").startswith(f"{experiment}-")]
    read = [json.loads((root / line["path"]).read_text()) if line["kind"] == "recorded" else line for line in lines]
    return [strip_changing(one) for one in read]


def find_done(root: Path) -> dict[str, dict[str, Any]]:
    """Return the last `done` of each stage, that of the whole run under `run`."""
    lines = load_ledger(root)
    stages = {line["run"]: line["stage"] or "run" for line in lines if line["kind"] == "start"}
    return {stages[line["run"]]: line for line in lines if line["kind"] == "done"}


def find_states(root: Path, page: str) -> list[str] | None:
    """Return how the cells of an executed notebook are marked, or None."""
    path = root / "reports" / "small" / f"{page}.ipynb"
    if not path.exists():
        return None
    return [cell.metadata.labkit.state for cell in nbformat.read(path, as_version=4).cells]


def find_tracked(root: Path, uri: str | None = None) -> dict[str, tuple[str, str]]:
    """Return status and reason of each run in MLflow by name; the names of a test's runs differ."""
    from mlflow import MlflowClient

    client = MlflowClient(uri or f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    named = {}
    for run in reversed(runs):
        tags = run.data.tags
        name = tags.get("labkit.stage") or tags["labkit.kind"]
        named[name] = (run.info.status, tags.get("labkit.reason", ""))
    return named


def find_family(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_kernel(pid: int) -> psutil.Process | None:
    """Return the kernel below a process that runs a notebook, None until there is one."""
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if "ipykernel_launcher" in " ".join(process.cmdline()):
                return process
        except psutil.NoSuchProcess:
            continue
    return None
