"""Publishing a release: gate, comparison with the champion, registry, alias.

The last stage of the pipeline and the only one that reads the registry. It runs every time, which is safe: a release
is identified by its digest, so publishing the same one twice changes nothing.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from labkit import paths
from labkit.artifacts import PLACES, load_json
from labkit.errors import (
    ChampionError,
    LabkitError,
    LostStoreError,
    MissingDataError,
    TrackingError,
)
from labkit.model.evaluation.gate import CHAMPION_CHECK, Check, Decision
from labkit.model.release import bundle, runtime, skops_file
from labkit.params.experiment import Params
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.subject import Subject
from labkit.run.pipeline.outputs import check_outputs
from labkit.run.pipeline.restore_pages import restore_pages
from labkit.run.records import ledger_index, mlflow_model, registry, tracking
from labkit.run.records.champion_moves import CHAMPION, move_champion
from labkit.run.records.stage_record import load_records
from labkit.run.reports import index, render
from labkit.run.reports.checks_on_page import update_page
from labkit.stages import model_versions
from labkit.stages.gate_checks import list_checks, list_comparisons
from labkit.stages.last_change import describe_last_change
from labkit.stages.result import DRY_RUN, KEPT, PUBLISHED, REFUSED, UNCHANGED
from labkit.stages.scorecard import capitalize_first, list_champion_versions, list_results, make_scorecard
from labkit.storage.atomic import write_text
from labkit.storage.digests import compute_digest

CHALLENGER = "challenger"
MOST_ATTEMPTS = 10
"""Maximum number of comparisons of a release; it is compared again each time someone else changes the champion."""


@dataclass(frozen=True)
class Publication:
    """The decision and the reasons for it.

    Attributes
    ----------
    decision
        One of those in `labkit.stages.result`.
    version
        Version of the champion; None if the release was refused, and in a dry run.
    candidate
        Version that was made of the release and decided about; None if none was.
    """

    decision: str
    reasons: list[str]
    version: int | None
    headline: str
    checks: Sequence[Check] = ()
    candidate: registry.Version | None = None


def publish(params: Params) -> str:
    """Publish the experiment's release if the gate and the champion allow it, and return a headline.

    Raises
    ------
    MissingDataError
        The release or the gate's decision does not exist.
    DataError
        A file differs from what its stage wrote.
    ModelError
        The release does not match its manifest.
    TrackingError
        The registry cannot be used.
    """
    OWN_METRICS.use(params.evaluation.metrics)
    data = paths.find_data_dir(params.experiment)
    folder, gate_path = data / PLACES["release"], data / PLACES["gate"]
    if not gate_path.is_file() or not folder.is_dir():
        raise MissingDataError(f"{folder}: no release yet: run `labkit run {params.experiment}`")
    check_outputs(params.experiment, [folder, gate_path, data / PLACES["clean_holdout"]])
    opened = bundle.load_release(folder)
    gate = Decision.from_dict(load_json(gate_path))
    done = decide(params, opened, gate, compute_digest(folder))
    without = restore_pages(params)
    mute_on_pages(params)
    before = index.load_scorecard(find_decision_path(params.experiment)).get("since") or {}
    since = describe_last_change(params, before)
    record_decision(params, done, versions=list_champion_versions(params), since=since)
    if without:
        remedy = f"labkit run {params.experiment} --force {without[0]}"
        return f"{done.headline}; no page here for {', '.join(without)}: render with `{remedy}`"
    return done.headline


def decide(params: Params, opened: bundle.Release, gate: Decision, digest: str) -> Publication:
    """Decide on a release and act on the decision.

    Raises
    ------
    ChampionError
        The champion's files cannot be fetched or are not those that were published, or it needs a package that is
        missing here; nothing is compared or promoted.
    """
    checks = list_checks(params, opened, gate)
    reasons = list(map(str, checks))
    failed = [check.name for check in checks if not check.passed]
    if failed or not gate.passed:
        return Publication(REFUSED, reasons, None, f"refused by the gate; failed checks: {', '.join(failed)}", checks)
    for _ in range(MOST_ATTEMPTS):
        champion = registry.find_version(params.experiment, alias=CHAMPION)
        done = compete(params, opened, champion, checks, digest=digest)
        if done is not None:
            return done
    raise TrackingError(
        f"{params.experiment}: the champion changed {MOST_ATTEMPTS} times while this release was compared with it: "
        "publish again when others have finished"
    )


def compete(
    params: Params, opened: bundle.Release, champion: registry.Version | None, checks: Sequence[Check], *, digest: str
) -> Publication | None:
    """Compare a release with a champion and promote it if it wins; None if the champion changed in the meantime."""
    name, checks = params.experiment, list(checks)
    if champion is not None and champion.digest == digest:
        headline, reasons = f"version {champion.number} is already the champion", list(map(str, checks))
        if problem := restore_files(params, opened, champion):
            headline += "; its files were lost and were uploaded again from this checkout"
            reasons.append(f"⚠ files of the champion: uploaded again from this checkout, because of {problem}")
        return Publication(UNCHANGED, reasons, champion.number, headline, checks)
    compared = [] if champion is None else compare_with_champion(params, opened, champion)
    checks += compared
    reasons = list(map(str, checks))
    version = register(params, opened, digest)
    failed = [check.name for check in compared if not check.passed]
    lacking = "not shown to be about as good" if failed == [CHAMPION_CHECK] else f"failed checks: {', '.join(failed)}"
    if params.evaluation.gate.mode == "dry_run":
        would = f"would not become the champion: {lacking}" if failed else "would become the champion"
        headline = f"dry run: version {version.number} {would}; no version was promoted"
        return Publication(DRY_RUN, reasons, None, headline, checks, version)
    if champion is not None and failed:
        if registry.find_version(name, alias=CHAMPION) != champion:
            return None
        registry.set_alias(name, CHALLENGER, version)
        headline = f"version {champion.number} stays champion; version {version.number} is the challenger: {lacking}"
        return Publication(KEPT, reasons, champion.number, headline, checks, version)
    reason = compared[0].evidence if compared else "the first version that passed the gate"
    if not move_champion(name, version, before=champion, kind="published", reason=reason):
        return None
    headline = "; ".join([f"version {version.number} is now the champion", *Decision(tuple(checks)).list_concerns()])
    return Publication(PUBLISHED, reasons, version.number, headline, checks, version)


def register(params: Params, opened: bundle.Release, digest: str) -> registry.Version:
    """Return the version made from a release, with its files in place; register it first if needed."""
    known = registry.find_version(params.experiment, digest=digest)
    if known is not None:
        restore_files(params, opened, known)
        return known
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        model_dir = save_mlflow_version(opened, Path(scratch) / "model")
        run_id = tracking.find_release_run(params.experiment, digest) or tracking.make_run(params, "publish")
        card = (opened.folder / runtime.CARD).read_text(encoding="utf-8")
        return registry.register_model(
            params.experiment,
            run_id,
            model_dir,
            release_dir=opened.folder,
            digest=digest,
            description=card,
            tags=model_versions.describe_release(params, opened),
        )


def restore_files(params: Params, opened: bundle.Release, version: registry.Version) -> str:
    """Upload a version's files again if the store lost or changed them; return what was wrong, empty if nothing was."""
    # `opened` has the digest of the version. ChampionError: the files are wrong even after the upload. LostStoreError:
    # the store does not respond.
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        problem = find_problem(version, Path(scratch) / "before")
        if problem:
            model_dir = save_mlflow_version(opened, Path(scratch) / "model")
            registry.replace_files(params.experiment, version, model_dir, release_dir=opened.folder, reason=problem)
            (Path(scratch) / "after").mkdir()
            fetch_release(version, Path(scratch) / "after")
    return problem


def find_problem(version: registry.Version, folder: Path) -> str:
    """Fetch the stored files of a version into a new folder and return what is wrong with them; "" if nothing is."""
    folder.mkdir()
    try:
        fetch_release(version, folder)
    except ChampionError as error:
        if isinstance(error.__cause__, LostStoreError):
            raise error.__cause__ from error
        return str(error)
    return "" if registry.has_model(version) else f"version {version.number}: its MLflow model is missing"


def save_mlflow_version(opened: bundle.Release, folder: Path) -> Path:
    """Write a release's pipeline as an MLflow model, with the user's own packages, and return its folder."""
    own_types, needs = runtime.list_own_types(opened.facts), opened.facts.get("own_code", {}).get("needs", [])
    with opened.code.active():
        mlflow_model.save_mlflow_model(
            folder,
            opened.pipeline,
            load_example(opened),
            kinds=opened.row_features.inputs_,
            requirements=bundle.list_requirements(own_types, packages=opened.code.names, needs=needs),
            trusted_types=[*skops_file.TRUSTED, *own_types],
            packages=opened.code.list_places(),
            metadata=describe_for_mlflow(opened),
        )
    return folder


def describe_for_mlflow(opened: bundle.Release) -> dict[str, Any]:
    """Return what MLflow shows of a model: classes in the order of their probabilities, and the contract's columns."""
    contract = json.loads((opened.folder / runtime.CONTRACT).read_text(encoding="utf-8"))
    declared = contract.get("columns", {})
    columns = {name: declared[name] for name in opened.row_features.inputs_ if name in declared}
    facts = {name: opened.facts.get(name) for name in ("experiment", "classes", "positive", "threshold")}
    return {**facts, "columns": columns}


def load_example(opened: bundle.Release) -> pd.DataFrame:
    """Return the release's example rows with numbers as float64: a column may hold only integers by coincidence."""
    rows = pd.read_json(opened.folder / runtime.EXAMPLE, orient="split", convert_dates=False)
    kinds = opened.row_features.inputs_
    return rows[list(kinds)].astype({name: "float64" for name, kind in kinds.items() if kind == "number"})


def compare_with_champion(params: Params, opened: bundle.Release, champion: registry.Version) -> list[Check]:
    """Fetch and verify the champion and return the checks against it; see `labkit.stages.gate_checks`."""
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        folder = fetch_champion(params.experiment, champion, Path(scratch))
        return list_comparisons(params, opened, folder, champion=f"version {champion.number}")


def fetch_champion(experiment: str, champion: registry.Version, folder: Path) -> Path:
    """Download the champion's release so that another one can be compared with it.

    Raises
    ------
    ChampionError
        The champion cannot be verified, so it cannot be beaten either.
    """
    try:
        return fetch_release(champion, folder)
    except ChampionError as error:
        raise ChampionError(
            f"{experiment}: {error}. Nothing was compared with it and nothing is published. Restore "
            f"its files (`labkit run {experiment}` in a checkout that still has this release uploads them again), or "
            f"replace it without comparison: `labkit promote {experiment} --accept-unverified-champion --reason …`"
        ) from error


def fetch_release(version: registry.Version, folder: Path) -> Path:
    """Download the release that a version was made from, verify its digest, and return its path.

    Raises
    ------
    ChampionError
        The release no longer exists, cannot be reached, or is not what was published.
    """
    try:
        place = tracking.download_file(version.run_id, "release", folder)
    except LabkitError as error:
        raise ChampionError(f"version {version.number}: its release cannot be fetched ({error})") from error
    if compute_digest(place) != version.digest:
        raise ChampionError(
            f"version {version.number}: its files are not those that were published "
            f"({'their digest differs from the recorded one' if version.digest else 'no digest was recorded'})"
        )
    return place


def mute_on_pages(params: Params) -> None:
    """Show the checks on the pages of the stages as the params mute them now."""
    pages = paths.find_reports_dir(params.experiment)
    for record in load_records(pages).values():
        update_page(pages / f"{record.page}.html", record.checks, params.checks.mute)


def find_decision_path(experiment: str) -> Path:
    """Return the path of the latest decision, whether or not it exists."""
    return paths.find_reports_dir(experiment) / "publish.json"


def record_decision(
    params: Params, done: Publication, *, versions: Sequence[Mapping[str, Any]] = (), since: Mapping[str, Any]
) -> None:
    """Write the decision next to the reports, and store it with the version that it is about."""
    content = write_decision(params, done, versions=versions, since=since)
    if done.candidate is None:
        return
    status = "passed" if Decision(tuple(done.checks)).passed else "failed"
    tags = {"validation_status": status, "labkit.reasons": "\n".join(done.reasons)}
    tags[model_versions.DECISION_TAG] = f"{done.decision}: {done.headline}"
    registry.tag_version(params.experiment, done.candidate, tags)
    tracking.log_text(done.candidate.run_id, content, "decision.json")


def write_decision(
    params: Params,
    done: Publication,
    *,
    versions: Sequence[Mapping[str, Any]] = (),
    since: Mapping[str, Any] | None = None,
) -> str:
    """Write the decision next to the reports, as an HTML page for people and as JSON for programs; return the JSON.

    Parameters
    ----------
    versions
        Earlier versions, as `list_champion_versions` returns them.
    since
        What changed since the last run, as `describe_last_change` returns it.
    """
    path = find_decision_path(params.experiment)
    version = done.version if done.decision in (PUBLISHED, UNCHANGED) else None
    scorecard = {**make_scorecard(params, done.checks, version, versions), "since": dict(since or {})}
    content = {
        "decision": done.decision,
        "reasons": done.reasons,
        "version": done.version,
        "headline": done.headline,
        "mode": params.evaluation.gate.mode,
        "candidate": None if done.candidate is None else done.candidate.number,
        "checks": [asdict(check) for check in done.checks],
        "scorecard": scorecard,
    }
    document = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_text(path, document)
    card = paths.find_data_dir(params.experiment) / PLACES["release"] / runtime.CARD
    named = f"; this is version {version} of `{params.experiment}` in the registry" if version else ""
    decided = f"Decided on {render.format_time(datetime.now(UTC).isoformat())}{named}."
    headline = f"**{capitalize_first(done.headline)}.**"
    summary = [headline, "", *list_results(scorecard), decided, "", scorecard.get("limits", ""), ""]
    summary += [*(f"- {reason}." for reason in done.reasons), ""]
    # The page has a title and the question already: the card's own becomes its name, its headings move down one level.
    _, *lines = card.read_text(encoding="utf-8").splitlines()
    lines = ["## Model card", *(f"#{line}" if line.startswith("#") else line for line in lines)]
    page = "\n".join([*summary, *lines, ""])
    html = path.with_suffix(".html")
    pages = [(title, name) for title, name in index.list_page_links(html.parent) if name != html.name]
    neighbours = [*pages, (html.stem, html.name)]
    entry = ledger_index.find_current(params.experiment)
    render.render_page(
        html,
        title=f"{params.experiment}: publication",
        markdown=page,
        neighbours=neighbours,
        question=Subject.from_params(params).question,
        run=entry.run if entry else "",
    )
    index.render_index(paths.find_reports_dir())
    return document
