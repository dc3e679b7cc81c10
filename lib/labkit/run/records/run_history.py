"""The history of runs from the ledger: the list of runs, and the provenance and outcome of one.

Read only; closing runs is the job of `labkit.run.records.recovery`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labkit.console import make_printable
from labkit.errors import ParamsError, list_briefly, name_nearest
from labkit.run.memory import GIGABYTE
from labkit.run.records import ledger, ledger_index
from labkit.run.records.interactive import describe_interactive, make_interactive_document
from labkit.run.records.ledger import Entry
from labkit.run.records.ledger_index import Name
from labkit.units import format_count, format_duration

SHORT = 12
"""Characters of a digest that are shown."""
BRIEF = ("git commit", "packages", "asked for")
"""Facts about the provenance of a run that are shown without -v."""


@dataclass(frozen=True)
class Row:
    """One run in the list of `labkit runs`; `stage` is the one it stopped in, or the only one that was run."""

    run: str
    what: str
    outcome: str
    stage: str
    seconds: float | None
    at: str

    @property
    def end(self) -> str:
        """How and where it ended, as a phrase."""
        if self.what != "run":
            unfinished = ", unfinished" if self.what.startswith("interactive") and self.outcome == "killed" else ""
            return f"{self.outcome} ({self.what}{unfinished})"
        return f"{self.outcome} in {self.stage}" if self.stage else self.outcome


def list_runs(experiment: str | None = None, *, most: int) -> tuple[list[Row], int]:
    """Return the latest runs, newest first, and the total number of runs."""
    found, n_runs = ledger_index.list_latest(experiment, most=most)
    return [make_row(entry, stages) for entry, stages in found], n_runs


def make_row(entry: Entry, stages: Sequence[Entry]) -> Row:
    """Return the row of one run."""
    stopped = next((one.stage for one in stages if one.outcome not in (None, "finished")), None)
    running = next((one.stage for one in stages if one.is_open), None)
    what = f"stage {entry.stage}" if entry.stage else "run"
    what = f"interactive {entry.stage}" if entry.is_interactive else ledger.SWEEP if entry.is_apart else what
    outcome = derive_outcome(entry)
    if outcome == "failed" and stopped:
        # The outcome of the stage is more specific: died, timed out.
        outcome = next(one.outcome or outcome for one in stages if one.stage == stopped)
    stage = "" if outcome == "finished" else stopped or running or entry.stage or ""
    return Row(entry.run, what, outcome, stage, entry.seconds, entry.at)


def derive_outcome(entry: Entry) -> str:
    """Return the outcome of a run, or `running`."""
    return entry.outcome or ("running" if entry.process.is_alive() else "killed")


def show_age(at: str) -> str:
    """Return how long ago a time in UTC was.

    >>> show_age(datetime.now(UTC).isoformat())
    'now'
    """
    seconds = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "now"


def find_run(word: str, experiment: str | None = None) -> Entry:
    """Return a run by its name, the beginning or end of it, its MLflow id, or the latest run of an experiment.

    Parameters
    ----------
    word
        What the user wrote.
    experiment
        The experiment that the run is of; any if None.

    Raises
    ------
    ParamsError
        No match, or more than one.
    """
    found = ledger_index.find_matching_runs(word, experiment)
    if len(found) == 1 and (entry := ledger_index.find_entry(found[0].run)):
        return entry
    if found:
        raise ParamsError(
            f"{format_count(len(found), 'run')} begin or end with {word!r}: name one in full: "
            f"{name_nearest(word, list_run_names(found))}"
        )
    names = [name for name in ledger_index.list_recorded_runs() if experiment in (None, name.experiment)]
    if not names:
        what = f"{experiment} has not" if experiment else "nothing has"
        named = experiment or (word if word.isidentifier() else "EXPERIMENT")
        raise ParamsError(f"no run {word!r}: {what} run in this checkout yet: labkit run {named}")
    shown = [name for name in names if experiment is None or name.parent is None]
    # Names end in random characters, so that a mistyped name is most similar to the one meant.
    raise ParamsError(f"no run {word!r}: {name_nearest(word, list_run_names(shown[-200:]))}; `labkit runs` lists them")


def list_run_names(names: Iterable[Name]) -> list[str]:
    """Return the names by which runs can be requested."""
    return sorted({word for name in names for word in (name.run, name.experiment)})


def make_run_document(entry: Entry) -> dict[str, Any]:
    """Return the provenance and outcome of a run as plain data."""
    parent = ledger_index.find_entry(entry.parent) if entry.parent else None
    stages = ledger_index.list_stages_of_run(entry.run)
    return {
        **make_entry_document(entry),
        "experiment": entry.experiment,
        "part_of": entry.parent,
        "record": entry.record["path"] if entry.record else None,
        "facts": (parent or entry).facts,
        "interactive": make_interactive_document(entry.run) if entry.is_interactive else None,
        "stages": [make_entry_document(one) | {"inputs": one.facts.get("inputs", {})} for one in stages],
        "plan": [
            {"stage": stage, "outcome": outcome, "why": why}
            for stage, outcome, why in explain_plan(entry, stages, ledger_index.find_producers(entry))
        ],
    }


def make_entry_document(entry: Entry) -> dict[str, Any]:
    """Return how one run, of a pipeline or of a stage, ended and what it wrote, as plain data."""
    return {
        "run": entry.run,
        "stage": entry.stage,
        "started": entry.at,
        "outcome": derive_outcome(entry),
        "reason": entry.reason,
        "exit_code": entry.exit_code,
        "seconds": entry.seconds,
        "peak_bytes": entry.peak_bytes,
        "mlflow_run_id": entry.tracked,
        "outputs": entry.outputs,
    }


def describe_run(entry: Entry, *, is_verbose: bool = True) -> list[tuple[str, str]]:
    """Return the provenance and outcome of a run as pairs of a heading and a description.

    Parameters
    ----------
    entry
        The run.
    is_verbose
        Whether params, machine, and the digests of all that was read and written are included.
    """
    parent = ledger_index.find_entry(entry.parent) if entry.parent else None
    facts = (parent or entry).facts
    stages = ledger_index.list_stages_of_run(entry.run)
    pairs = [("run", entry.run), ("experiment", entry.experiment)]
    pairs += [("stage", entry.stage)] if entry.stage else []
    pairs += [("part of", parent.run)] if parent else []
    pairs += [
        ("started", f"{entry.at} ({show_age(entry.at)}), process {entry.process.pid}"),
        ("ended", describe_ending(entry)),
    ]
    pairs += describe_interactive(entry.run) if entry.is_interactive else []
    pairs += [("MLflow", entry.tracked)] if entry.tracked and is_verbose else []
    pairs += [("record", entry.record["path"])] if entry.record else []
    provenance = describe_provenance(facts)
    pairs += [pair for pair in provenance if is_verbose or pair[0] in BRIEF]
    for stage in (stages or ([entry] if entry.stage else [])) if is_verbose else []:
        pairs += describe_stage(stage, is_named=bool(stages))
    pairs += describe_plan(entry, stages, ledger_index.find_producers(entry))
    return pairs if is_verbose else [*pairs, ("more", f"labkit why {entry.run} -v")]


def describe_ending(entry: Entry) -> str:
    """Return a phrase about how a run ended."""
    parts = [derive_outcome(entry)]
    parts += [f"exit code {entry.exit_code}"] if entry.exit_code is not None else []
    parts += [f"after {format_duration(entry.seconds)}"] if entry.seconds is not None else []
    parts += [f"peak memory {entry.peak_bytes / GIGABYTE:.1f} GB"] if entry.peak_bytes else []
    return ", ".join(parts) + (f": {entry.reason}" if entry.reason else "")


def describe_provenance(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Describe the checkout, the environment and the user of a run."""
    pairs = []
    if "user" in facts:
        pairs.append(("by", f"{facts['user']} on {facts['host']} ({facts['cpu']})"))
    if "commit" in facts:
        changed = f" ({list_briefly(facts['changed'], most=3)})" if facts.get("changed") else ""
        pairs.append(("git commit", facts["commit"] + (f", with uncommitted changes{changed}" * facts["is_dirty"])))
    if "lock_sha256" in facts:
        pairs.append(("lock", f"requirements.lock {facts['lock_sha256'][:SHORT]}"))
    if facts.get("packages"):
        pairs.append(("packages", "\n".join(f"{name} {what}" for name, what in facts["packages"].items())))
    if "python" in facts:
        pairs.append(("Python", f"{facts['python']}, labkit {facts['labkit']}, {facts['platform']}"))
    if facts.get("asked"):
        pairs.append(("asked for", ", ".join(f"{name} {word}" for name, word in facts["asked"].items())))
    if facts.get("params"):
        pairs.append(
            ("params", "\n".join(f"{name} = {make_printable(value)}" for name, value in facts["params"].items()))
        )
    return pairs


def describe_stage(stage: Entry, *, is_named: bool) -> list[tuple[str, str]]:
    """Describe the inputs and outputs of a stage."""
    lines = [describe_ending(stage)] if is_named else []
    if "notebook_sha256" in stage.facts:
        lines.append(f"notebook {stage.facts['notebook_sha256'][:SHORT]}")
    resumed = stage.facts.get("resumed", {})
    if "cell" in resumed:
        lines.append(f"resumed  at cell {resumed['cell']} of {resumed['run']}")
    for path, digest in stage.facts.get("inputs", {}).items():
        what = "code   " if "/fingerprint/" in path else "read   "
        lines.append(f"{what}  {digest[:SHORT]}  {path}")
    for one in stage.outputs:
        lines.append(f"wrote    {one['sha256'][:SHORT]}  {one['path']}  {format_count(one['bytes'], 'byte')}")
    return [(stage.stage or "", "\n".join(lines))] if lines else []


def describe_plan(entry: Entry, stages: Sequence[Entry], makers: dict[str, str]) -> list[tuple[str, str]]:
    """Describe why each stage was run or skipped, and how long it took."""
    took = {one.stage: f" ({format_duration(one.seconds)})" for one in stages if one.seconds is not None}
    lines = [
        f"{stage:<12} {outcome}: {why}{took.get(stage, '')}"
        for stage, outcome, why in explain_plan(entry, stages, makers)
    ]
    return [("why", "\n".join(lines))] if lines else []


def explain_plan(entry: Entry, stages: Iterable[Entry], makers: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return of each planned stage whether it `ran` or was `not run`, and why."""
    ran, plan, is_over = {one.stage for one in stages}, [], False
    failed = {one.stage for one in stages if one.outcome != "finished"}
    forced = entry.facts.get("asked", {}).get("force")
    for stage, reasons in entry.reasons.items():
        if stage in ran:
            why = "forced" if stage == forced else "; ".join(reasons) or "what it reads was written again"
            plan.append((stage, "ran", "it runs each time" if stage == "publish" else why))
        elif is_over or (entry.outcome not in (None, "finished") and reasons):
            plan.append((stage, "not run", "the run had stopped"))
        else:
            since = f", last run as {makers[stage]}" if stage in makers else ""
            plan.append((stage, "not run", f"{'restored from the cache' if reasons else 'up to date'}{since}"))
        is_over = is_over or stage in failed
    return plan
