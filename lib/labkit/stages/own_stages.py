"""Keeps dvc.yaml in agreement with the stages of the user's own, which their notebooks declare.

An entry of dvc.yaml with `meta: notebook` is written from that notebook; all others are left alone. What a notebook
declares: `labkit.run.notebook.stage_table`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import ARRAYS, CONTRACT, PLACES
from labkit.errors import ParamsError
from labkit.params.experiment import Params
from labkit.params.stage_section import STAGES
from labkit.params.yaml_text import load_plain
from labkit.paths import show_path
from labkit.run.dvc_yaml import FINGERPRINT, is_managed
from labkit.run.notebook.stage_table import OwnStage, check_set_stages, find_declared_places, list_own_stages
from labkit.run.notebook_files import find_stage, list_shared
from labkit.run.pipeline import dvc_repo, experiments

EVERY = "${experiments}"
ITEM = "data/${item}/"
UPDATE = "labkit stages --update"


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the user's own and its entry in dvc.yaml.

    Attributes
    ----------
    experiments
        The experiments that have it.
    body
        The entry.
    is_written
        Whether dvc.yaml has it like this.
    """

    stage: OwnStage
    experiments: tuple[str, ...]
    body: Mapping[str, Any]
    is_written: bool


@dataclass(frozen=True)
class Plan:
    """The stages of the user's own, all stages in order, and the entries of dvc.yaml that have lost their notebook."""

    stages: tuple[PlannedStage, ...]
    order: tuple[str, ...]
    lost: tuple[str, ...]
    is_current: bool

    def to_dict(self, *, is_updated: bool) -> dict[str, Any]:
        """Return the plan as plain data."""
        stages = [
            {
                "stage": one.stage.name,
                "notebook": show_path(one.stage.path),
                "experiments": list(one.experiments),
                "reads": list(one.stage.reads),
                "writes": list(one.stage.writes.values()),
                "parameters": {each.name: each.default for each in one.stage.declared},
            }
            for one in self.stages
        ]
        difference = "" if is_updated else self.describe()
        return {"stages": stages, "is_up_to_date": not difference, "difference": difference}

    def describe(self) -> str:
        """Describe the first thing in which dvc.yaml and the notebooks do not agree; empty if they do."""
        for one in self.stages:
            if not one.is_written:
                return (
                    f"{show_path(one.stage.path)}: dvc.yaml does not have the stage {one.stage.name} as declared there"
                )
        if self.lost:
            return f"dvc.yaml: the stage {self.lost[0]} has no notebook any more"
        return "" if self.is_current else "dvc.yaml: the stages are not in the order of their notebooks"


def check_own_stages(params: Params) -> None:
    """Check all stages of the user's own before anything starts.

    Raises
    ------
    ParamsError
        Notebooks or params are not valid, see `plan_stages`, or dvc.yaml is not up to date.
    """
    if difference := plan_stages().describe():
        raise ParamsError(f"{difference}: {UPDATE}")
    if params.stages:
        check_set_stages(params, list_own_stages(params.experiment))


def update_stages() -> Plan:
    """Bring dvc.yaml up to date with the notebooks, and return what it was before.

    Raises
    ------
    ParamsError
        See `plan_stages`.
    """
    plan = plan_stages()
    if plan.describe():
        names = [one.stage.name for one in plan.stages]
        bodies = {one.stage.name: one.body for one in plan.stages}
        experiments.replace_stages(bodies, remove=[*names, *plan.lost], order=plan.order)
    return plan


def plan_stages() -> Plan:
    """Return the entries that dvc.yaml has to have for the stages of the user's own.

    Raises
    ------
    ParamsError
        Two notebooks have one number; one declares what cannot be; a stage reads what no stage writes, or what a later
        one writes; stages depend on each other in a circle; two write the same; or notebooks of one stage differ.
    """
    tree = load_plain(paths.find_root() / paths.MARKER)
    names = dvc_repo.parse_experiments(tree)
    found = {experiment: list_own_stages(experiment) for experiment in names}
    written = {name: stage for name, stage in tree["stages"].items() if is_managed(stage)}
    if not written and not any(found.values()):
        return Plan((), tuple(tree["stages"]), (), is_current=True)
    fixed = {name: stage for name, stage in tree["stages"].items() if name not in written}
    stages: dict[str, list[tuple[str, OwnStage]]] = {}
    for experiment, own in found.items():
        check_stage_names(own, fixed)
        check_cycles(own)
        for one in own:
            stages.setdefault(one.name, []).append((experiment, one))
    order = order_stages([one[0][1] for one in stages.values()], list(fixed))
    for experiment, own in found.items():
        check_stage_order(experiment, own, order, fixed)
    planned = []
    for name in (name for name in order if name in stages):
        users = tuple(experiment for experiment, _ in stages[name])
        body = make_body([one for _, one in stages[name]], users)
        planned.append(PlannedStage(stages[name][0][1], users, body, written.get(name) == body))
    lost = tuple(name for name in written if name not in stages)
    return Plan(tuple(planned), order, lost, tuple(tree["stages"]) == order)


def check_stage_names(own: list[OwnStage], fixed: Mapping[str, Any]) -> None:
    """Raise ParamsError for a stage or an artifact whose name is taken."""
    taken = {place.partition("/")[0] for place in PLACES.values()} | {*fixed, "scratch"}
    makers = dict.fromkeys(PLACES, "labkit's own stages")
    for stage in own:
        if stage.name in taken:
            raise ParamsError(
                f"{show_path(stage.path)}: data/<experiment>/{stage.name} belongs to labkit's own stages: rename the "
                "notebook"
            )
        for name in stage.writes:
            if name in makers:
                raise ParamsError(f"{stage.where}: writes `{name}`, as does {makers[name]}: choose another name")
            makers[name] = show_path(stage.path)


def check_cycles(own: list[OwnStage]) -> None:
    """Raise ParamsError for stages that depend on each other in a circle."""
    makers = {name: stage for stage in own for name in stage.writes}

    def follow(stage: OwnStage, way: tuple[OwnStage, ...]) -> None:
        if stage in way:
            names = " → ".join(one.path.stem for one in [*way[way.index(stage) :], stage])
            raise ParamsError(f"{stage.where}: each reads what the next writes, in a circle: {names}: break it")
        for name in stage.reads:
            if name in makers:
                follow(makers[name], (*way, stage))

    for stage in own:
        follow(stage, ())


def order_stages(own: list[OwnStage], fixed: list[str]) -> tuple[str, ...]:
    """Return all stages in order: each of the user's own after the stages whose notebooks have lower numbers."""
    numbers = {find_stage(path): read_notebook_number(path.stem) for path in list_shared()}
    numbers |= {stage.name: read_notebook_number(stage.path.stem) for stage in own}
    order = [name for name in fixed if name != dvc_repo.PUBLISH]
    for stage in sorted(own, key=lambda one: numbers[one.name]):
        before = [place for place, name in enumerate(order) if numbers.get(name, 0) < numbers[stage.name]]
        order.insert(1 + max(before, default=-1), stage.name)
    return (*order, *(name for name in fixed if name == dvc_repo.PUBLISH))


def read_notebook_number(stem: str) -> int:
    """Return the number of a notebook."""
    return int(stem.partition("_")[0])


def check_stage_order(experiment: str, own: list[OwnStage], order: tuple[str, ...], fixed: Mapping[str, Any]) -> None:
    """Raise ParamsError for a stage that reads what no stage writes, or what only a later one writes."""
    makers = {name: (stage.name, stage.path.name) for stage in own for name in stage.writes}
    outputs = {path: name for name, stage in fixed.items() for path in list_outputs_of(stage)}
    for name, place in PLACES.items():
        maker = next((one for path, one in outputs.items() if f"{ITEM}{place}/".startswith(f"{path}/")), "")
        makers[name] = (maker, f"the stage {maker}")
    for stage in own:
        find_declared_places(stage, experiment, PLACES)
        for name in stage.reads:
            maker, shown = makers[name]
            if maker not in order:
                raise ParamsError(f"{stage.where}: reads `{name}`, which no stage of dvc.yaml writes")
            if order.index(maker) >= order.index(stage.name):
                raise ParamsError(
                    f"{stage.where}: reads `{name}`, which {shown} writes later: give this notebook a higher number"
                )


def list_outputs_of(stage: Mapping[str, Any]) -> list[str]:
    """Return the paths of an entry's outputs."""
    body = stage.get("do", stage)
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in body.get(kind, [])]
    return [str(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]


def make_body(own: list[OwnStage], users: tuple[str, ...]) -> dict[str, Any]:
    """Return the entry of a stage in dvc.yaml.

    Raises
    ------
    ParamsError
        Experiments' own notebooks of the stage declare different things.
    """
    first = own[0]
    for one in own[1:]:
        if (one.reads, one.writes, one.sections) != (first.reads, first.writes, first.sections):
            raise ParamsError(
                f"{one.where}: declares other things than {show_path(first.path)}: name the stages differently"
            )
    is_shared = first.name in map(find_stage, list_shared())
    notebooks = list(dict.fromkeys(show_path(one.path) for one in own))
    sections = [name for name in first.sections if name != "seed"]
    return {
        "foreach": EVERY if is_shared else list(users),
        "do": {
            "cmd": f"labkit stage {first.name} ${{item}}",
            "deps": [
                f"{ITEM}{FINGERPRINT}/{first.name}.json",
                "requirements.lock",
                *list_stage_inputs(first, users[0]),
            ],
            "params": [{"params/${item}.yaml": ["seed"]}],
            "meta": {"notebook": notebooks, "sections": [*sections, f"{STAGES}.{first.name}"]},
            "outs": [{f"{ITEM}{place}": {"persist": True}} for place in first.writes.values()],
        },
    }


def list_stage_inputs(stage: OwnStage, experiment: str) -> list[str]:
    """Return the files and folders that a stage reads, with those that belong to them."""
    places = find_declared_places(stage, experiment, PLACES)
    found = [places[name] for name in stage.reads]
    found += [str(Path(places[name]).with_suffix(ARRAYS)) for name in stage.reads if name == "row_features"]
    is_checked = any(name in PLACES and name.startswith(("raw", "clean_")) for name in stage.reads)
    return [f"{ITEM}{place}" for place in [*found, *([CONTRACT] if is_checked else [])]]
