"""Options that commands share, and the words that a shell can complete: experiments, stages, runs, parameters."""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, ClassVar

import click

from labkit.errors import LabkitError

MOST_RECENT = 10
"""Runs that are offered for a comparison, at most."""
Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def make_dask_option(what: str) -> Callable[[Any], Any]:
    """Return the option of a command that can work on a cluster.

    Parameters
    ----------
    what
        What the cluster does, such as "Run stages".
    """
    return click.option(
        "--dask",
        is_flag=False,
        flag_value="local",
        metavar="[ADDRESS]",
        help=f"{what} on the Dask cluster tcp://host:port, or on one of this machine.",
    )


json_option = click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead.")


def complete(find: Callable[[], Iterable[str]]) -> Complete:
    """Return a completion that offers those of the words that begin like the incomplete one; none outside a checkout.

    Parameters
    ----------
    find
        Returns all words.
    """

    def offer(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [word for word in find() if word.startswith(incomplete)]
        except (LabkitError, OSError):
            return []

    return offer


def offer_experiments() -> list[str]:
    """Return the names of all experiments."""
    from labkit.params.load import list_experiments

    return list_experiments()


def offer_stages() -> list[str]:
    """Return the stages that users run."""
    from labkit.run.dvc_yaml import list_stage_names

    return list_stage_names()


def offer_runs() -> list[str]:
    """Return the experiments, whose latest run they name, and the names of the runs of the ledger, newest first."""
    from labkit.run.records import ledger_index

    runs = [name.run for name in ledger_index.list_recorded_runs(with_apart=False) if name.parent is None]
    return [*offer_experiments(), *reversed(runs)]


def complete_compared_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the words that name a run to compare: `@last`, `@champion`, the latest runs of the experiment."""
    from labkit.run.records import ledger

    def offer() -> list[str]:
        experiment = context.params.get("experiment")
        entries = [entry for entry in ledger.load_entries() if entry.parent is None and entry.stage is None]
        runs = [entry.run for entry in entries if experiment in (None, entry.experiment)]
        return ["@last", "@champion", *reversed(runs[-MOST_RECENT:])]

    return complete(offer)(context, parameter, incomplete)


def offer_settings() -> list[str]:
    """Return the names of all parameters, each with the equals sign of `-S`."""
    from labkit.params.describe import list_names

    return [f"{name}=" for name in list_names()]


complete_experiment = complete(offer_experiments)
complete_stage = complete(offer_stages)
complete_run = complete(offer_runs)
complete_setting = complete(offer_settings)


def make_setting_option(metavar: str, description: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that sets parameters."""
    return click.option(
        "-S", "--set", "settings", multiple=True, metavar=metavar, shell_complete=complete_setting, help=description
    )


class TimeSpan(click.ParamType[timedelta]):
    """A time span such as 30min, 1h or 1d, at least ten seconds and at most a year."""

    name = "time span"
    UNITS: ClassVar[dict[str, int]] = {"s": 1, "min": 60, "h": 3600, "d": 86_400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the time span of a string."""
        found = re.fullmatch(r"(\d{1,9})(s|min|h|d)", str(value), re.ASCII)
        seconds = int(found[1]) * self.UNITS[found[2]] if found else 0
        if not 10 <= seconds <= 366 * 86_400:
            self.fail(f"{value!r} is not a time span: give a number and a unit, e.g. 30min, 1h or 1d", param, ctx)
        return timedelta(seconds=seconds)
