"""The command that writes the pipeline as a file of another scheduler."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from labkit.cli.options import TimeSpan, complete_experiment
from labkit.console import echo

SCHEDULERS = ("airflow", "prefect", "dagster", "github")
DEFAULT_SCHEDULE = "17 5 * * *"


class Schedule(click.ParamType[str]):
    """Five fields of cron: minute, hour, day of the month, month, day of the week."""

    name = "schedule"
    LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    PART = re.compile(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/([1-9]\d?))?", re.ASCII)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the fields, separated by single spaces."""
        fields = str(value).split()
        if len(fields) != len(self.LIMITS) or not all(map(self.is_field, fields, self.LIMITS)):
            self.fail(f"{value!r} is not a schedule: give five fields of cron, e.g. '17 5 * * *'", param, ctx)
        return " ".join(fields)

    def is_field(self, field: str, limits: tuple[int, int]) -> bool:
        """Return whether a field is a list of numbers, ranges or steps within its limits."""
        parts = [self.PART.fullmatch(part) for part in field.split(",")]
        bounds = [[int(one) for one in part.group(1, 2) if one] for part in parts if part]
        in_order = all(numbers == sorted(numbers) for numbers in bounds)
        return all(parts) and in_order and all(limits[0] <= one <= limits[1] for numbers in bounds for one in numbers)


@click.command(name="export-dag", short_help="Write the pipeline as tasks of another scheduler.")
@click.argument("scheduler", type=click.Choice(SCHEDULERS))
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...", shell_complete=complete_experiment)
@click.option("--to", "path", type=click.Path(path_type=Path), metavar="FILE", help="File to write; default: stdout.")
@click.option("--retries", type=click.IntRange(0, 10), default=1, show_default=True, help="Further attempts at a task.")
@click.option("--pause", type=TimeSpan(), default="1min", show_default=True, help="Time before another attempt.")
@click.option("--time-limit", type=TimeSpan(), help="Of each task; default: limits.stage_seconds, and ten minutes.")
@click.option(
    "--schedule",
    type=Schedule(),
    default=DEFAULT_SCHEDULE,
    show_default=True,
    metavar="CRON",
    help="When champions are checked, in UTC.",
)
def export_dag(
    scheduler: str,
    experiments: tuple[str, ...],
    *,
    path: Path | None,
    retries: int,
    pause: timedelta,
    time_limit: timedelta | None,
    schedule: str,
) -> None:
    """Write one file that runs EXPERIMENTS, or all, stage by stage in Airflow, Prefect, Dagster or GitHub Actions.

    Each stage is a task that runs `labkit run EXPERIMENT --until STAGE` after the stages whose outputs it reads, with
    retries and a time limit; a stage that fails stops those after it. A second, scheduled task runs `labkit watch
    EXPERIMENT --once`. labkit stays in its own environment; the scheduler needs none of it. The header of the file
    shows the command that renews it.

    \b
    labkit export-dag airflow --to dags/labkit_dags.py
    labkit export-dag prefect diabetes --retries 2 --time-limit 1h
    labkit export-dag github diabetes --to .github/workflows/labkit.yml
    """
    from labkit import paths
    from labkit.orchestration import dag_file
    from labkit.orchestration.task_graph import load_task_graphs

    seconds = int(time_limit.total_seconds()) if time_limit else None
    rules = dag_file.TaskRules(retries, int(pause.total_seconds()), schedule)
    options = {
        "--retries": retries,
        "--pause": f"{rules.pause_seconds}s",
        "--time-limit": seconds and f"{seconds}s",
        "--schedule": schedule,
        # The header's command is called in the checkout, wherever this one is called.
        "--to": path and paths.show_path(Path(os.path.abspath(path))),  # noqa: PTH100  # links are kept
    }
    command = ["labkit", "export-dag", scheduler, *experiments]
    command += [str(word) for option in options.items() if option[1] is not None for word in option]
    content = dag_file.render_dag(scheduler, load_task_graphs(experiments, seconds=seconds), rules, command=command)
    if path is None:
        echo(content.removesuffix("\n"))
        return
    dag_file.write_dag(path, content)
    echo(f"wrote {path}")
