"""Promoting a version to champion by hand, and verifying the champions.

A manual promotion is a person's decision: the version is not compared with the champion, but who decided, when and why
is recorded. The promoted version has to be verified in any case.
"""

import getpass
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from labkit import paths
from labkit.artifacts import PLACES, load_json
from labkit.errors import ChampionError, LabkitError, MissingDataError, ModelError, ParamsError
from labkit.model.evaluation.gate import Decision
from labkit.model.release import bundle
from labkit.params.experiment import Params
from labkit.run.doctor import CheckResult
from labkit.run.pipeline.outputs import check_outputs
from labkit.run.records import registry
from labkit.run.records.artifact_locations import find_moved
from labkit.stages.publish import CHAMPION, fetch_champion, fetch_release, list_checks, register
from labkit.storage.digests import compute_digest


def promote(params: Params, number: int | None, *, reason: str, accept_unverified: bool = False) -> str:
    """Promote a version to champion and return a sentence that describes the result.

    Parameters
    ----------
    number
        Version to promote; None for the release in this checkout, which must have passed the gate.
    reason
        Reason for the promotion, stored with the version.
    accept_unverified
        Whether a champion whose files are missing or changed may be replaced.

    Raises
    ------
    ParamsError
        The reason is empty.
    ChampionError
        The current champion cannot be verified and `accept_unverified` is not set, or the version to promote cannot be
        verified.
    ModelError
        The release in this checkout did not pass the gate.
    """
    if not reason.strip():
        raise ParamsError("--reason is empty: give a reason, it is kept with the version")
    name = params.experiment
    champion = registry.find_version(name, alias=CHAMPION)
    version = register_release(params) if number is None else registry.get_version(name, number)
    if champion is not None and champion.number == version.number:
        return f"{name} version {version.number} is already the champion"
    state = verify_champion(name, champion, accept_unverified=accept_unverified)
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        bundle.load_release(fetch_release(version, Path(scratch)))
    registry.set_alias(name, CHAMPION, version)
    tags = {"by": getpass.getuser(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason.strip()}
    before = "none" if champion is None else f"version {champion.number}, {state}"
    tags["replaced"] = before
    registry.tag_version(name, version, {f"labkit.promoted.{key}": value for key, value in tags.items()})
    return (
        f"{name} version {version.number} is now the champion, promoted by hand without comparison (before: {before})"
    )


def register_release(params: Params) -> registry.Version:
    """Return the version made from the release in this checkout, which must have passed the gate."""
    data = paths.find_data_dir(params.experiment)
    folder, gate_path = data / PLACES["release"], data / PLACES["gate"]
    if not gate_path.is_file() or not folder.is_dir():
        raise MissingDataError(f"{folder}: no release yet: run `labkit run {params.experiment}`, or name a version")
    check_outputs(params.experiment, [folder, gate_path])
    opened = bundle.load_release(folder)
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
