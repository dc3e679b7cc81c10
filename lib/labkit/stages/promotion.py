"""Promoting a version to champion by hand, rolling back to an earlier one, and verifying the champions.

Both are a person's decision: the version is not compared with the champion, but who decided, when and why is recorded;
see `labkit.run.records.champion_moves`. The version has to be verified in any case.
"""

import tempfile
from pathlib import Path

from labkit import paths
from labkit.artifacts import PLACES, load_json
from labkit.errors import (
    ChampionError,
    LabkitError,
    LostStoreError,
    MissingDataError,
    ModelError,
    ParamsError,
    PromotionError,
)
from labkit.model.evaluation.gate import Decision
from labkit.model.release import bundle
from labkit.params.experiment import Params
from labkit.params.own_metrics import OWN_METRICS
from labkit.run.doctor import CheckResult
from labkit.run.pipeline.outputs import check_outputs
from labkit.run.records import registry
from labkit.run.records.artifact_locations import find_moved
from labkit.run.records.champion_moves import CHAMPION, find_earlier_champion, load_history, move_champion
from labkit.stages.gate_checks import list_checks
from labkit.stages.publish import fetch_champion, fetch_release, register
from labkit.storage.digests import compute_digest


def promote(params: Params, number: int | None, *, reason: str, accept_unverified: bool = False) -> str:
    """Promote a version to champion and return a sentence that describes the result.

    Parameters
    ----------
    number
        Version to promote; None for the release in this checkout, which must have passed the gate.
    reason
        Reason for the promotion, recorded in the history of the champion.
    accept_unverified
        Whether a champion whose files are missing or changed may be replaced.

    Raises
    ------
    ParamsError
        The reason is empty.
    ChampionError
        The current champion cannot be verified and `accept_unverified` is not set.
    PromotionError
        The version to promote cannot be verified, or someone else moved the champion at the same time.
    ModelError
        The release in this checkout did not pass the gate.
    TrackingError
        There is no such version.
    """
    check_reason(reason)
    name = params.experiment
    champion = registry.find_version(name, alias=CHAMPION)
    version = register_release(params) if number is None else registry.get_version(name, number)
    if champion is not None and champion.number == version.number:
        return f"{name} version {version.number} is already the champion"
    state = verify_champion(name, champion, accept_unverified=accept_unverified)
    verify_version(name, version)
    before = "none" if champion is None else f"version {champion.number}, {state}"
    unsure = "" if state in ("", "verified") else f" (replaced version {champion.number if champion else ''}, {state})"
    if not move_champion(name, version, before=champion, kind="promoted", reason=f"{reason.strip()}{unsure}"):
        raise PromotionError(describe_race(name, version))
    return (
        f"{name} version {version.number} is now the champion, promoted by hand without comparison (before: {before})"
    )


def roll_back(params: Params, number: int | None, *, reason: str) -> str:
    """Make an earlier champion the champion again and return a sentence that describes the result.

    The current champion is not verified: it may be the reason for the rollback.

    Parameters
    ----------
    number
        Version to return to; None for the one that the current champion replaced.
    reason
        Reason for the rollback, recorded in the history of the champion.

    Raises
    ------
    ParamsError
        The reason is empty.
    PromotionError
        There is no earlier champion, the version was never the champion or cannot be verified, or someone else moved
        the champion at the same time.
    TrackingError
        There is no such version.
    """
    check_reason(reason)
    name = params.experiment
    champion, moves = load_history(name)
    if champion is None:
        raise PromotionError(f"{name} has no champion yet, so there is nothing to roll back: run `labkit run {name}`")
    target = find_earlier_champion(moves, champion.number) if number is None else number
    if target is None:
        raise PromotionError(
            f"{name}: no champion before version {champion.number} is recorded, and it stays the champion: name a "
            f"version that `labkit models {name}` lists"
        )
    version = registry.get_version(name, target)
    if version == champion:
        return f"{name} version {version.number} is already the champion"
    earlier = {one for move in moves for one in (move.before, move.after)}
    if version.number not in earlier and not registry.has_had_alias(name, version, CHAMPION):
        raise PromotionError(
            f"{name} version {version.number} was never the champion, and version {champion.number} stays it: "
            f"`labkit promote {name} {version.number} --reason …` promotes it"
        )
    verify_version(name, version)
    if not move_champion(name, version, before=champion, kind="rolled back", reason=reason.strip()):
        raise PromotionError(describe_race(name, version))
    return f"{name} version {version.number} is the champion again, rolled back from version {champion.number}"


def check_reason(reason: str) -> None:
    """Raise ParamsError for an empty reason."""
    if not reason.strip():
        raise ParamsError("--reason is empty: give a reason, it is recorded in the history of the champion")


def describe_race(name: str, version: registry.Version) -> str:
    """Return the message for a champion that someone else moved at the same time."""
    now = registry.find_version(name, alias=CHAMPION)
    if now == version:
        state = f"to version {version.number} as well"
    else:
        champion = "and there is none" if now is None else f"but version {now.number}"
        state = f"so version {version.number} is not the champion, {champion}"
    return (
        f"{name}: someone else moved the champion at the same time, {state}: look at `labkit models {name}` and decide "
        "again"
    )


def verify_version(name: str, version: registry.Version) -> None:
    """Raise PromotionError unless the files of a version are those that were published and can be opened."""
    try:
        with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
            bundle.load_release(fetch_release(version, Path(scratch)))
    except ModelError as error:
        if isinstance(error.__cause__, LostStoreError):
            raise
        raise PromotionError(f"{name}: {error}: nothing was moved; choose a version that is intact") from error


def register_release(params: Params) -> registry.Version:
    """Return the version made from the release in this checkout, which must have passed the gate."""
    data = paths.find_data_dir(params.experiment)
    folder, gate_path = data / PLACES["release"], data / PLACES["gate"]
    if not gate_path.is_file() or not folder.is_dir():
        raise MissingDataError(f"{folder}: no release yet: run `labkit run {params.experiment}`, or name a version")
    check_outputs(params.experiment, [folder, gate_path, data / PLACES["clean_holdout"]])
    opened = bundle.load_release(folder)
    OWN_METRICS.use(params.evaluation.metrics)
    checks = list_checks(params, opened, Decision.from_dict(load_json(gate_path)))
    if failed := [check.name for check in checks if not check.passed]:
        raise ModelError(f"{params.experiment}: the gate refuses this release; failed checks: {', '.join(failed)}")
    return register(params, opened, compute_digest(folder))


def verify_champion(name: str, champion: registry.Version | None, *, accept_unverified: bool) -> str:
    """Return in a few words whether the champion could be verified; raise ChampionError if not, unless accepted."""
    if champion is None:
        return ""
    try:
        with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
            fetch_champion(name, champion, Path(scratch))
    except ChampionError as error:
        if not accept_unverified:
            raise
        return f"which could not be verified: {error.__cause__}"
    return "verified"


def check_champions() -> CheckResult:
    """Check that the files of every champion exist and are the ones that were published."""
    file = paths.find_sqlite_file(paths.get_tracking_uri())
    if file is not None and not file.exists():
        return CheckResult("champions", "nothing is published yet")
    if file == paths.find_own_store() and find_moved(file):
        return CheckResult("champions", "not verified: the store has to be corrected first")
    bad, names, remedies = [], [], []
    try:
        for name in registry.list_models():
            champion = registry.find_version(name, alias=CHAMPION)
            if champion is None:
                continue
            names.append(f"{name} {champion.number}")
            with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
                try:
                    fetch_release(champion, Path(scratch))
                except ChampionError as error:
                    bad.append(f"{name}: {error}")
                    remedies.append(find_remedy(name, champion))
    except LabkitError as error:
        return CheckResult("champions", f"cannot be read: {error}", "make the tracking store reachable")
    if bad:
        return CheckResult("champions", "; ".join(bad), "; ".join(remedies))
    return CheckResult("champions", ", ".join(names) if names else "nothing is published yet")


def find_remedy(name: str, champion: registry.Version) -> str:
    """Return how to restore a champion whose files are lost: from this checkout, if it has the same release."""
    folder = paths.find_data_dir(name) / PLACES["release"]
    if folder.is_dir() and compute_digest(folder) == champion.digest:
        return f"`labkit run {name}` uploads them again from this checkout"
    return (
        f"`labkit run {name}` in a checkout that still has this release uploads them again; without one, "
        f"`labkit promote {name} --accept-unverified-champion --reason …` replaces the champion"
    )
