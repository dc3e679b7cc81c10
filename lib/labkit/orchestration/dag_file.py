"""The generated file that runs the stages as tasks of Airflow, Prefect, Dagster or GitHub Actions.

The same checkout and options give the same bytes. The schedulers are not imported here; labkit does not depend on them.
"""

import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from labkit import paths
from labkit.errors import ParamsError
from labkit.orchestration.task_graph import TaskGraph
from labkit.run.dvc_cache import find_remotes
from labkit.storage.atomic import write_text

TEMPLATES = {
    "airflow": "airflow.py.jinja",
    "prefect": "prefect.py.jinja",
    "dagster": "dagster.py.jinja",
    "github": "github.yml.jinja",
}
"""By scheduler, the template of its file."""
MARK = "Made by `labkit export-dag`"
"""Is in the header of a generated file, which may be replaced by a newer one."""
MOST_GITHUB_MINUTES = 360
"""Longest time limit of a job on a runner of GitHub's; see "Usage limits" in the documentation of GitHub Actions."""


@dataclass(frozen=True)
class TaskRules:
    """How tasks are repeated and scheduled.

    Attributes
    ----------
    retries
        How often a failed task is run again, at most.
    pause_seconds
        Time before it is run again.
    schedule
        When champions are checked: five fields of cron, in UTC.
    """

    retries: int
    pause_seconds: int
    schedule: str


def render_dag(scheduler: str, graphs: Sequence[TaskGraph], rules: TaskRules, *, command: Sequence[str]) -> str:
    """Return the content of the file for a scheduler.

    Parameters
    ----------
    scheduler
        A key of `TEMPLATES`.
    graphs
        The tasks of each experiment.
    rules
        How they are repeated and scheduled.
    command
        The command that makes the file, which its header shows.

    Examples
    --------
    >>> graphs = [TaskGraph("churn", {"source": (), "eda": ("source",)}, 900)]
    >>> rules = TaskRules(retries=1, pause_seconds=60, schedule="17 5 * * *")
    >>> made = render_dag("github", graphs, rules, command=["labkit", "export-dag", "github"])
    >>> print(made.splitlines()[0])
    # Stages of labkit as jobs of GitHub Actions: churn

    Raises
    ------
    ParamsError
        The command cannot be shown in a comment.
    """
    shown = shlex.join(command)
    if not shown.isprintable() or '"' in shown or "\\" in shown:
        raise ParamsError(
            f"{command[-1]!r}: cannot be named in a comment: use a path without quotes, \\ and line breaks"
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["literal"] = make_literal
    return environment.get_template(TEMPLATES[scheduler]).render(
        graphs=graphs,
        rules=rules,
        mark=MARK,
        version=version("labkit"),
        command=shown,
        checkout=str(paths.find_root()),
        labkit=find_command(),
        has_remote=bool(find_remotes()),
        stages={graph.experiment: {name: list(before) for name, before in graph.stages.items()} for graph in graphs},
        limits={graph.experiment: graph.seconds for graph in graphs},
        minutes={graph.experiment: compute_job_minutes(graph.seconds, rules) for graph in graphs},
    )


def make_literal(value: Any, indent: int = 0) -> str:
    """Return plain data as Python source in the layout of ruff; mappings have one entry per line.

    >>> print(make_literal({"eda": ["source"]}))
    {
        "eda": ["source"],
    }
    """
    if isinstance(value, dict):
        inner = " " * (indent + 4)
        lines = [f"{inner}{make_literal(key)}: {make_literal(one, indent + 4)},\n" for key, one in value.items()]
        return "{\n" + "".join(lines) + " " * indent + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(make_literal, value))}]"
    if isinstance(value, str):
        quoted = repr(value)
        # repr takes double quotes only for strings with an apostrophe and without double quotes.
        is_single = quoted.startswith("'") and '"' not in quoted
        return f'"{quoted[1:-1]}"' if is_single else quoted
    return repr(value)


def find_command() -> str:
    """Return the path of the labkit of this environment; relative to the checkout if it is in it."""
    python = Path(os.path.abspath(sys.executable))  # noqa: PTH100  # a link leads out of the environment
    return paths.show_path(python.parent / "labkit")


def compute_job_minutes(seconds: int, rules: TaskRules) -> int:
    """Return the time limit of a job of GitHub Actions, which has all attempts at a stage and the installation."""
    needed = (rules.retries + 1) * seconds + rules.retries * rules.pause_seconds
    return min(math.ceil(needed / 60) + 15, MOST_GITHUB_MINUTES)


def write_dag(path: Path, content: str) -> None:
    """Write a generated file; an earlier one is replaced, anything else is not.

    Raises
    ------
    ParamsError
        The folder does not exist, or there is another file.
    """
    if not path.parent.is_dir():
        raise ParamsError(f"{path.parent}: no such folder: make it, or name another file with --to")
    if path.is_dir() or (path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:2000]):
        raise ParamsError(
            f"{path}: not made by `labkit export-dag`, so it is not replaced: name another file with --to"
        )
    write_text(path, content)
