"""Runs a sweep whose points are proposed one after another, from what earlier ones scored.

Points are proposed in rounds of the same size: those of one round run side by side. Their scores are taken note of in
the order of their numbers, not in which they end.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from labkit.errors import ParamsError
from labkit.params.load import ParamsFile
from labkit.params.override import override_file
from labkit.run.dvc_yaml import find_section
from labkit.run.pipeline.experiment_run import check_own_code, describe_setting
from labkit.sweep.nodes import find_sweeps_dir
from labkit.sweep.points import MOST_POINTS, Point, make_point, split_settings
from labkit.sweep.search_space import Range, Space, check_space, list_corners, parse_space
from labkit.sweep.sweep import Progression, Sweep
from labkit.units import format_count

ROUND = 4
"""Points of a round, unless the user asks for more at a time: not by the cores, on which no proposal may depend."""


def make_search_space(file: ParamsFile, settings: Sequence[str], n_trials: int) -> tuple[Space, list[Point]]:
    """Return the search space, and points that contain each of its values and ends, all of them valid.

    Raises
    ------
    ParamsError
        A setting is malformed, a value is not valid, or the space is too small.
    """
    if n_trials > MOST_POINTS:
        raise ParamsError(f"{format_count(n_trials, 'point')}, but at most {MOST_POINTS:,} are allowed")
    space = parse_space(split_settings(settings))
    corners = [make_point(file, chosen, number=number) for number, chosen in enumerate(list_corners(space), 1)]
    check_space(space, n_trials)
    return space, corners


def find_own_values(file: ParamsFile, space: Space) -> dict[str, str | float]:
    """Return the values that the params file has, empty if one of them is not in the space."""
    tree, found = file.params.model_dump(mode="json"), dict[str, str | float]()
    for name, one in space.items():
        own = find_section(tree, name)
        if isinstance(one, Range):
            is_number = isinstance(own, int if one.is_whole else int | float) and not isinstance(own, bool)
            same = [own] if is_number and one.low <= own <= one.high else []
        else:
            same = [value for value in one if override_file(file, [f"{name}={value}"]).params == file.params]
        if not same:
            return {}
        found[name] = same[0]
    return found


def run_proposed(
    sweep: Sweep,
    file: ParamsFile,
    space: Space,
    *,
    n_trials: int,
    n_jobs: int | None,
    plan_point: Callable[[Point], Progression],
) -> None:
    """Propose points and run them, until there have been as many proposals as asked for.

    A point that is proposed again is not run or counted again. One that fails, or whose params are not valid together,
    is a failed trial.
    """
    from labkit.sweep.search import STUDY, Search, count_drawn

    metric, path = file.params.training.metric, find_sweeps_dir(file.params.experiment) / STUDY
    first = find_own_values(file, space)
    search = Search(space, metric=metric, seed=file.params.seed, path=path, first=first)
    by_settings: dict[tuple[str, ...], Progression] = {}
    size = max(ROUND, n_jobs or 0)
    if n_trials <= (n_drawn := count_drawn(size)):
        sweep.report(
            f"with --optuna {n_trials:,}, no point is proposed from scores: that begins after {n_drawn} points"
        )
    try:
        for start in range(0, n_trials, size):
            asked = [search.propose() for _ in range(min(size, n_trials - start))]
            for _, settings in asked:
                if settings not in by_settings:
                    by_settings[settings] = plan_proposed(file, settings, len(by_settings) + 1, plan_point=plan_point)
                    sweep.progressions.append(by_settings[settings])
            sweep.run()
            for number, settings in asked:
                one = by_settings[settings]
                search.conclude(number, None if one.failure else one.metrics.get(f"cv_{metric}"))
            sweep.n_proposed += len(asked)
    finally:
        search.close()


def plan_proposed(
    file: ParamsFile, settings: tuple[str, ...], number: int, *, plan_point: Callable[[Point], Progression]
) -> Progression:
    """Return a proposed point; one whose params are not valid together has failed."""
    try:
        point = make_point(file, settings, number=number)
        check_own_code(point.params, describe=describe_setting)
        return plan_point(point)
    except ParamsError as error:
        return Progression(Point(number, settings, file), Path(), failure=str(error))
