"""Training again on the data up to now: the same pipeline, gate and comparison, with the reason on record.

What a retraining changes in the checkout (the raw table and its DVC pointer, the days of the split) is written to a
journal first. If it fails, all of it is restored; if its process is killed, the next one continues, and one with other
data restores first. Params that were edited meanwhile stay, except for the days of the split.
`labkit.monitoring.new_data` checks the data before anything changes.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import CONTRACT, PLACES, load_json
from labkit.errors import LabkitError, ParamsError
from labkit.monitoring.champion_check import load_earlier
from labkit.monitoring.new_data import NewData, check_new_data, check_replacement
from labkit.monitoring.retraining_records import FINISHED, REPEATED, append_record, find_same
from labkit.params.experiment import Params
from labkit.params.load import load_params, parse_file
from labkit.params.override import apply_overrides, override_file
from labkit.params.yaml_text import load_written_yaml
from labkit.run.doctor import CheckResult
from labkit.run.kernels.session import Kernels
from labkit.run.pipeline import dvc_remote, dvc_repo, experiments, run_lock
from labkit.run.pipeline.experiment_run import check_locked_packages, run_work, start_work
from labkit.run.pipeline.outputs import DVC_LOCK
from labkit.run.pipeline.progress import Progress
from labkit.run.pipeline.stages_in_order import PlainStage
from labkit.run.records import ledger, registry
from labkit.run.records.champion_moves import CHAMPION, load_champion
from labkit.stages.publish import find_decision_path
from labkit.storage.atomic import copy_file, write_json, write_text
from labkit.storage.digests import compute_digest

JOURNAL = "journal.json"


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
    """

    experiment: str
    at: str
    reason: str
    finding: Finding | None
    champion: int
    data: NewData

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "experiment": self.experiment,
            "at": self.at,
            "reason": self.reason,
            "finding": self.finding and self.finding.to_dict(),
            "champion": self.champion,
            "data": self.data.to_dict(),
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
    return Plan(name, now.isoformat(timespec="seconds"), why, finding, champion.number, data)


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
        append_record({**strip_journal(began), "state": "failed", "error": "interrupted, then other data were given"})
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
    entry = next((one for one in reversed(ledger.load_entries()) if (one.experiment, one.stage) == (name, None)), None)
    decided = {key: decision[key] for key in ("decision", "version", "headline")} | {"run": entry and entry.run}
    append_record({**record, "state": FINISHED, **decided})
    remove_work_folder(name)
    return {**record, **decided}


def strip_journal(began: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded of a retraining as its journal has it."""
    return {key: value for key, value in began.items() if key != "kept"}


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
    append_record({**strip_journal(began), "state": "failed", "error": str(error)})
    return "The data and the split are as before this retraining."


def remove_work_folder(experiment: str) -> None:
    """Remove what a retraining kept, the journal first: without it, a rest of the folder means nothing."""
    (find_work_folder(experiment) / JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(find_work_folder(experiment), ignore_errors=True)


def apply_new_data(experiment: str, data: NewData) -> None:
    """Put the new raw file in place, tracked by DVC, and move the split; doing it twice changes nothing."""
    if data.path:
        raw = paths.find_root() / data.path
        copy_file(find_work_folder(experiment) / "new" / raw.name, raw)
        experiments.add_files([raw])
    if data.settings:
        apply_overrides(experiment, data.settings)


def keep_files(params: Params, data: NewData, folder: Path) -> list[str]:
    """Copy the files that a retraining changes and DVC does not keep, and return their paths from the root.

    The raw file as it was is kept by DVC, which begins to track it here if nobody did before.
    """
    root, data_dir = paths.find_root(), paths.find_data_dir(params.experiment)
    if data.path and not (root / f"{data.path}.dvc").is_file():
        experiments.add_files([root / data.path])
    files = [paths.find_params_path(params.experiment), data_dir / CONTRACT, data_dir / PLACES["metrics"]]
    files += [root / DVC_LOCK, *([root / f"{data.path}.dvc"] if data.path else [])]
    kept = [path.relative_to(root).as_posix() for path in files if path.is_file()]
    for place, name in enumerate(kept):
        copy_file(root / name, folder / str(place))
    return kept


def restore(began: Mapping[str, Any]) -> None:
    """Restore what a retraining changed: raw file, pointer, params, and the outputs of the stages."""
    name, root, folder = began["experiment"], paths.find_root(), find_work_folder(began["experiment"])
    for place, file in enumerate(began["kept"]):
        kept = folder / "before" / str(place)
        if file == DVC_LOCK:
            # Other experiments may have run since.
            experiments.restore_locked(name, load_written_yaml(kept))
        elif root / file == paths.find_params_path(name):
            restore_params(name, kept.read_text(encoding="utf-8"), NewData.from_dict(began["data"]))
        else:
            copy_file(kept, root / file)
    raw = root / began["data"]["path"] if began["data"]["path"] else None
    with chdir(root):
        repo = dvc_repo.open_repo()
        try:
            # Other raw files of the experiment may have been changed since.
            stages = [one.addressing for one in dvc_remote.find_stages(repo, [name]) if not one.is_data_source]
            pointers = [f"{began['data']['path']}.dvc"] if raw else []
            dvc_remote.restore_outputs(repo, [*pointers, *map(str, stages)], is_forced=True)
        finally:
            repo.close()
    remove_work_folder(name)


def restore_params(experiment: str, kept: str, data: NewData) -> None:
    """Restore the params file, or in one that was edited since then only the days of the split."""
    path = paths.find_params_path(experiment)
    written = override_file(parse_file(kept, path), data.settings).content
    if path.is_file() and path.read_text(encoding="utf-8") not in (kept, written):
        apply_overrides(experiment, data.settings_before)
    else:
        write_text(path, kept)


def is_interrupted(experiment: str) -> bool:
    """Return whether a retraining of an experiment was killed before its end."""
    return (find_work_folder(experiment) / JOURNAL).is_file()


def check_retrainings() -> CheckResult:
    """Check whether a retraining was killed before its end and is not under way again."""
    found = sorted(path.parent.name for path in find_work_folder("*").parent.glob(f"*/{JOURNAL}"))
    if not found or run_lock.find_holder() is not None:
        return CheckResult("retrainings", "none was interrupted")
    remedy = f"`labkit retrain {found[0]}` continues it"
    return CheckResult("retrainings", f"interrupted: {', '.join(found)}", remedy)


def find_work_folder(experiment: str) -> Path:
    """Return the folder of the retraining that is under way."""
    return paths.find_root() / ".labkit" / "retraining" / experiment
