"""Training again on the data up to now: the same pipeline, gate and comparison, with the reason on record.

What a retraining changes in the checkout (the raw table and its DVC pointer, the days of the split) is written to a
journal first. If it fails, all of it is restored; if its process is killed, the next one continues, and one with other
data restores first. Params that were edited meanwhile stay, except for the days of the split.
`labkit.monitoring.new_data` checks the data before anything changes.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import load_json
from labkit.errors import LabkitError, ParamsError
from labkit.monitoring.champion_check import load_earlier
from labkit.monitoring.new_data import NewData, check_new_data, check_replacement
from labkit.monitoring.retraining_journal import (
    JOURNAL,
    apply_new_data,
    find_work_folder,
    is_interrupted,
    keep_files,
    remove_work_folder,
    restore,
    strip_journal,
)
from labkit.monitoring.retraining_records import (
    FAILED,
    FINISHED,
    HELD_BACK,
    REPEATED,
    append_record,
    describe_repeated_failure,
    find_repeated_failure,
    find_same,
    is_transient,
)
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.run.kernels.session import Kernels
from labkit.run.pipeline import dvc_repo, run_lock
from labkit.run.pipeline.experiment_run import check_locked_packages, run_work, start_work
from labkit.run.pipeline.progress import Progress
from labkit.run.pipeline.stages_in_order import PlainStage
from labkit.run.records import ledger_index, registry
from labkit.run.records.champion_moves import CHAMPION, load_champion
from labkit.stages.publish import find_decision_path
from labkit.stages.recipe import compute_recipe_digest
from labkit.storage.atomic import write_json
from labkit.storage.digests import compute_digest

INTERRUPTED = "interrupted, then other data were given"


@dataclass(frozen=True)
class Finding:
    """The check of the champion that a retraining follows from.

    Attributes
    ----------
    at
        Time of the check, in UTC.
    actions
        What follows from each check that needed attention, by code.
    """

    at: str
    verdict: str
    reasons: Sequence[str]
    actions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        codes = [code for code, action in self.actions.items() if action == self.verdict]
        return {"at": self.at, "verdict": self.verdict, "codes": codes, "reasons": [*self.reasons]}


@dataclass(frozen=True)
class Plan:
    """What a retraining will do.

    Attributes
    ----------
    reason
        Why, in words; of the finding unless someone gave one.
    finding
        Latest check of the champion; None if it was never checked.
    recipe
        Digest of code, params and files before anything changed; see `labkit.stages.recipe`.
    """

    experiment: str
    at: str
    reason: str
    finding: Finding | None
    champion: int
    data: NewData
    recipe: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "experiment": self.experiment,
            "at": self.at,
            "reason": self.reason,
            "finding": self.finding and self.finding.to_dict(),
            "champion": self.champion,
            "data": self.data.to_dict(),
            "recipe": self.recipe,
        }


def find_finding(experiment: str, digest: str) -> Finding | None:
    """Return the latest check of a release; None if it was never checked."""
    found = [one for one in load_earlier(experiment) if one["digest"] == digest]
    if not found:
        return None
    last = found[-1]
    return Finding(last["at"], last["verdict"], last.get("reasons", []), last.get("actions", {}))


def explain(experiment: str, finding: Finding | None, reason: str | None) -> str:
    """Return why to train again: the reason that someone gave, else the finding.

    Raises
    ------
    ParamsError
        No reason was given, and no finding asks for a training.
    """
    if reason is not None:
        if not reason.strip():
            raise ParamsError("--reason is empty: give a reason, it is recorded with the retraining")
        return reason.strip()
    if finding is None:
        raise ParamsError(
            f"{experiment}: the champion was never checked, so nothing asks for a training: check it with "
            f"`labkit monitor {experiment}`, or give a reason with --reason"
        )
    if finding.verdict != "retrain":
        first = f" ({finding.reasons[0]})" if finding.reasons else ""
        raise ParamsError(
            f"{experiment}: the latest check of the champion says {finding.verdict}{first}, not retrain: give a reason "
            "with --reason to train again nevertheless"
        )
    return finding.reasons[0]


def show_plan(params: Params, source: Path | None, *, reason: str | None, now: datetime) -> dict[str, Any]:
    """Return what a retraining would do as plain data; nothing changes. See `plan_retraining`.

    Raises
    ------
    ParamsError
        A retraining was interrupted, and is to be continued first.
    """
    if is_interrupted(params.experiment):
        began = load_json(find_work_folder(params.experiment) / JOURNAL)
        raise ParamsError(
            f"the retraining of {began['at']} was interrupted: `labkit retrain {params.experiment}` continues it; "
            "after that, --dry-run shows what another one would do"
        )
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        return plan_retraining(params, source, Path(scratch), reason=reason, now=now).to_dict()


def plan_retraining(params: Params, source: Path | None, folder: Path, *, reason: str | None, now: datetime) -> Plan:
    """Check reason and data, and return what a retraining would do.

    Parameters
    ----------
    folder
        Below the root of the checkout; the source is copied there.
    source
        File with the main table up to now; None for the tables as they are.
    reason
        Why to train again; None for the finding of the latest check of the champion.
    now
        Time in UTC.

    Raises
    ------
    ParamsError
        There is no champion, or no reason.
    MissingDataError, DataError, ContractError
        The data cannot be used; see `labkit.monitoring.new_data.check_new_data`.
    """
    name = params.experiment
    champion = load_champion(name)
    finding = find_finding(name, champion.digest)
    why = explain(name, finding, reason)
    data = check_new_data(params, source, folder)
    return Plan(
        name, now.isoformat(timespec="seconds"), why, finding, champion.number, data, compute_recipe_digest(params)
    )


def retrain_in_checkout(
    params: Params,
    source: Path | None,
    *,
    reason: str | None,
    now: datetime,
    plain: Mapping[str, PlainStage],
    progress: Progress,
    kernels: Kernels,
    is_waiting: bool = True,
) -> dict[str, Any]:
    """Train again while this process holds the checkout; see `retrain` and `run_experiment`."""
    names = dvc_repo.list_stages(params.experiment)

    def run(changed: Params) -> None:
        work = start_work(changed, plain, progress, names=names, kernels=kernels)
        run_work(work, check_locked_packages(work, is_locked=False))

    start_work(params, plain, progress, names=names, kernels=kernels)
    with run_lock.hold_checkout(
        params.experiment, report=progress.show, is_waiting=is_waiting, command="labkit retrain"
    ) as has_waited:
        current = load_params(params.experiment) if has_waited else params
        return retrain(current, source, reason=reason, now=now, run=run, report=progress.show)


def retrain(
    params: Params,
    source: Path | None,
    *,
    reason: str | None,
    now: datetime,
    run: Callable[[Params], object],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Train again on the data up to now and return the record; the caller holds the checkout.

    Parameters
    ----------
    source, reason, now
        See `plan_retraining`.
    run
        Runs the pipeline of the experiment.
    report
        Called with a line for people.

    Raises
    ------
    LabkitError
        The data were refused, and nothing has changed; or the pipeline failed, and the data are restored.
    """
    name = params.experiment
    folder = find_work_folder(name)
    if source is not None:
        check_replacement(source)
    if is_interrupted(name):
        began = load_json(folder / JOURNAL)
        if source is None or began["data"]["digest"] == compute_digest(source):
            report(f"continues the retraining of {began['at']}, which was interrupted: {began['reason']}")
            return finish(began, run)
        report(f"undoes the retraining of {began['at']}, which was interrupted: other data were given")
        restore(began)
        append_record({**strip_journal(began), "state": FAILED, "error": INTERRUPTED, "is_transient": True})
        params = load_params(name)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        plan = plan_retraining(params, source, folder / "new", reason=reason, now=now)
    except LabkitError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if reason is None and (same := find_same(name, plan.champion, plan.data)):
        shutil.rmtree(folder, ignore_errors=True)
        report(f"nothing new to train on: the training of {same['at']} was on the same rows; --reason trains anyway")
        return {**same, "state": REPEATED}
    if reason is None and (failed := find_repeated_failure(name, plan.recipe, plan.data)):
        shutil.rmtree(folder, ignore_errors=True)
        headline = describe_repeated_failure(failed)
        report(f"{headline}; --reason trains anyway")
        return {**failed, "state": HELD_BACK, "decision": HELD_BACK, "headline": headline}
    began = plan.to_dict() | {"kept": keep_files(params, plan.data, folder / "before")}
    write_json(folder / JOURNAL, began)
    append_record({**plan.to_dict(), "state": "begun"})
    return finish(began, run)


def finish(began: Mapping[str, Any], run: Callable[[Params], object]) -> dict[str, Any]:
    """Do what the journal says, or continue it, and return the record."""
    name = began["experiment"]
    record = strip_journal(began)
    try:
        apply_new_data(name, NewData.from_dict(began["data"]))
        run(load_params(name))
    except BaseException as error:
        outcome = undo(began, error)
        if outcome and isinstance(error, LabkitError):
            raise type(error)(f"{error}\n{outcome}") from error
        raise
    decision = load_json(find_decision_path(name))
    entry = ledger_index.find_latest_entry(name, lambda _: True)
    decided = {key: decision[key] for key in ("decision", "version", "headline")} | {"run": entry and entry.run}
    append_record({**record, "state": FINISHED, **decided})
    remove_work_folder(name)
    return {**record, **decided}


def undo(began: Mapping[str, Any], error: BaseException) -> str:
    """Restore what a failed retraining changed, unless it made a champion, and return what people are told."""
    try:
        champion = registry.find_version(began["experiment"], alias=CHAMPION)
        if champion is not None and champion.number != began["champion"]:
            return ""
        restore(began)
    except LabkitError as second:
        problem, command = str(second).splitlines()[0], f"labkit retrain {began['experiment']}"
        return f"The data and the split are not restored yet ({problem}): `{command}` continues."
    failed = {"state": FAILED, "error": str(error), "is_transient": is_transient(error)}
    append_record({**strip_journal(began), **failed})
    return "The data and the split are as before this retraining."
