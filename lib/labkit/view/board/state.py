"""The state that the board shows: of each stage, and of the runs that are under way.

Which stages are stale comes from `labkit.stages.status`, which takes seconds; what is running now comes from the
ledger, which takes none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labkit import paths
from labkit.run.dvc_yaml import list_producers
from labkit.run.records import ledger
from labkit.run.records.ledger import Entry
from labkit.run.records.run_history import derive_outcome, show_age
from labkit.run.records.stage_record import load_records
from labkit.stages.status import FRESH, StageStatus, find_statuses, find_under_way

RUNNING, FAILED = "running", "failed"


@dataclass(frozen=True)
class BoardStage:
    """One stage on the board.

    Attributes
    ----------
    after
        The stages whose outputs it reads.
    state
        As in `labkit status`, or `running`, or how its latest run ended if that was not well, e.g. `failed`.
    reasons
        Why it is stale, or why it failed.
    headline
        Its latest result.
    seconds, ended
        How long its latest finished run took, and how long ago that began; None and empty if it has not finished yet.
    page
        Its page, relative to the root; empty if it has none.
    """

    stage: str
    after: tuple[str, ...]
    state: str
    reasons: tuple[str, ...] = ()
    headline: str = ""
    seconds: float | None = None
    ended: str = ""
    page: str = ""


@dataclass(frozen=True)
class BoardState:
    """One experiment on the board; `under_way` is a phrase about the runs of this checkout, empty without one."""

    experiment: str
    stages: tuple[BoardStage, ...]
    under_way: str

    def list_levels(self) -> list[list[BoardStage]]:
        """Return the stages by their distance from the raw data: those of one level do not need each other."""
        depth: dict[str, int] = {}
        for stage in self.stages:
            depth[stage.stage] = 1 + max((depth.get(name, -1) for name in stage.after), default=-1)
        return [[one for one in self.stages if depth[one.stage] == level] for level in sorted(set(depth.values()))]


def find_board_state(experiment: str) -> BoardState:
    """Return the state of an experiment.

    Raises
    ------
    ParamsError
        The experiment is unknown, or its params file or dvc.yaml is not valid.
    """
    [status] = find_statuses([experiment])
    after, pages = list_producers(experiment), list_pages_of(experiment)
    stages = tuple(make_stage(one, after.get(one.stage, ()), pages.get(one.stage, "")) for one in status.stages)
    return update_state(BoardState(experiment, stages, find_under_way()))


def make_stage(status: StageStatus, after: tuple[str, ...], page: str) -> BoardStage:
    """Return a stage with what `labkit status` says about it."""
    return BoardStage(status.stage, after, status.state, status.reasons, status.headline, page=page)


def update_state(state: BoardState) -> BoardState:
    """Return a state with what the ledger says: what is running, what ended since, and how long it took."""
    entries = [one for one in ledger.load_entries() if one.experiment == state.experiment and one.stage]
    pages = list_pages_of(state.experiment)
    stages = [replace(update_stage(one, entries), page=pages.get(one.stage, "") or one.page) for one in state.stages]
    return replace(state, stages=tuple(stages), under_way=find_under_way())


def update_stage(stage: BoardStage, entries: Sequence[Entry]) -> BoardStage:
    """Return a stage with its runs in the ledger."""
    own = [entry for entry in entries if entry.stage == stage.stage]
    if not own:
        return stage
    if done := next((one for one in reversed(own) if one.outcome == "finished"), None):
        stage = replace(stage, seconds=done.seconds, ended=show_age(done.at))
    outcome = derive_outcome(own[-1])
    if outcome == RUNNING:
        return replace(stage, state=RUNNING, reasons=())
    if outcome != "finished":
        return replace(stage, state=outcome, reasons=(own[-1].reason,) if own[-1].reason else ())
    return replace(stage, state=FRESH, reasons=()) if stage.state == RUNNING else stage


def list_pages_of(experiment: str) -> dict[str, str]:
    """Return the page of each stage that has one, relative to the root."""
    folder = paths.find_reports_dir(experiment)
    pages = {name: folder / f"{record.page}.html" for name, record in load_records(folder).items()}
    pages["publish"] = folder / "publish.html"
    return {name: paths.show_path(path) for name, path in pages.items() if path.is_file()}
