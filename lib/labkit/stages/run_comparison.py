"""Comparison of two runs of an experiment: parameters, data, code, metrics, predictions, checks.

What is no longer stored of a run is named, and the rest is compared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from labkit import paths
from labkit.artifacts import CHECKED, PLACES, load_json
from labkit.data.table_files import load_table
from labkit.errors import DataError, ParamsError
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.gate import describe_paired
from labkit.params.load import load_params, parse_file
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.subject import Subject
from labkit.params.yaml_text import make_plain, parse_yaml
from labkit.run.records.run_history import SHORT, show_age
from labkit.run.reports import render
from labkit.run.reports.index import list_page_links
from labkit.stages.past_run import PastRun, find_past_run
from labkit.stages.prediction_comparison import PredictionPair, count_won, pair_predictions
from labkit.units import format_count, format_difference, format_interval, format_number

Found = TypeVar("Found")
PAGE = "comparison.html"
SAME_DATA = {True: "the same", False: "different", None: "not known: a run has no digest of it"}


@dataclass(frozen=True)
class ComparedRun:
    """One of the two runs.

    Attributes
    ----------
    role
        `@last`, `@champion (version 3)`, or empty.
    started
        When it started; empty for a point of a sweep that is not in the ledger.
    commit
        Commit of its code; None outside of git.
    changed
        SHA-256 by file of code that differed from the commit; `deleted`, or empty if it is too large to be read.
    data
        SHA-256 of the raw data; None if the run did not get so far.
    missing
        What could not be compared because it is not stored.
    """

    run: str
    role: str
    started: str
    commit: str | None
    changed: Mapping[str, str]
    data: str | None
    missing: list[str] = field(default_factory=list)

    def describe_code(self) -> str:
        """Return the commit and whether there were uncommitted changes, as a phrase."""
        commit = self.commit[:SHORT] if self.commit else "no commit"
        return f"{commit}, {format_count(len(self.changed), 'file')} not committed" if self.changed else commit


@dataclass(frozen=True)
class RunComparison:
    """Two runs and how they differ; in each pair of values, the first is of `first`.

    Attributes
    ----------
    params
        Name and values of each parameter that differs between the two params files, without the value of a file that
        does not set it; None if a file is missing.
    metrics
        Value and interval of each metric on the holdout by run, the metric of the first run's training first; with
        `gain`, the paired gain of the first run, where both predicted the same rows.
    gain
        Paired gain of the first run over the second in that metric, with `rows` and `confidence`; None if there is
        none.
    gain_reason
        The gain in words, or why there is none.
    checks
        Code, title and statuses of each check whose status differs, without that of a run that does not have it; None
        if there is nothing to compare.
    slices
        Groups of rows on which one run is better, as `PredictionPair.list_slices` returns them; None without a pair.
    pair
        The predictions of both, if they are of the same rows.
    """

    experiment: str
    first: ComparedRun
    second: ComparedRun
    params: Sequence[Mapping[str, Any]] | None
    metrics: Sequence[Mapping[str, Any]]
    gain: Mapping[str, Any] | None
    gain_reason: str
    checks: Sequence[Mapping[str, str]] | None
    slices: Sequence[Mapping[str, Any]] | None
    pair: PredictionPair | None = field(repr=False)

    @property
    def is_same_run(self) -> bool:
        """Whether both are the same run."""
        return self.first.run == self.second.run

    @property
    def has_same_data(self) -> bool | None:
        """Whether both used the same raw data; None if it is not known."""
        known = self.first.data is not None and self.second.data is not None
        return self.first.data == self.second.data if known else None

    @property
    def has_same_code(self) -> bool:
        """Whether both are of the same commit and the same uncommitted changes, as far as these could be read."""
        is_same = (self.first.commit, self.first.changed) == (self.second.commit, self.second.changed)
        return is_same and all(self.first.changed.values())

    def describe(self, show_time: Callable[[str], str] = show_age) -> list[tuple[str, str]]:
        """Return what is the same, what is missing and the paired gain as pairs of a heading and a description.

        Parameters
        ----------
        show_time
            Formatter of the start of a run; an age is true only where it is read at once.
        """
        pairs = [("experiment", self.experiment)]
        for side, one in make_pair(self.first, self.second).items():
            when = f", {show_time(one.started)}" if one.started else ""
            pairs.append((side, f"{one.run}{f' {one.role}' * bool(one.role)}{when}"))
        if self.is_same_run:
            return [*pairs, ("result", f"both are the same run: name another of `labkit runs {self.experiment}`")]
        codes = make_pair(self.first.describe_code(), self.second.describe_code())
        code = "\n".join(f"{side}: {words}" for side, words in codes.items())
        pairs += [("data", SAME_DATA[self.has_same_data])]
        pairs += [("code", "the same" if self.has_same_code else code), ("gain", self.gain_reason)]
        pairs += [("slices", count_won(self.slices))] if self.slices is not None else []
        pairs += [("parameters", "none differs")] if self.params == [] else []
        pairs += [("checks", "no status differs")] if self.checks == [] else []
        for side, one in make_pair(self.first, self.second).items():
            pairs += [("missing", f"{side}: {what}") for what in one.missing]
        return pairs

    def make_tables(self) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
        """Yield title, headings and rows of each table that has rows: metrics, slices, checks, parameters."""
        tables: dict[str, tuple[str, Sequence[Mapping[str, Any]] | None, Callable[[Any], str], str]] = {
            "metrics on the holdout": ("name", self.metrics, show_interval, "gain of the first"),
            "groups of rows won or lost, mean loss": ("slice", self.slices, format_number, "gain of the first"),
            "checks whose status differs": ("title", self.checks, str, ""),
            "parameters that differ": ("name", self.params, str, ""),
        }
        for title, (key, lines, show, gain) in tables.items():
            has_gain = bool(gain) and any("gain" in line for line in (lines or ()))
            rows = [
                (
                    " ".join(str(line[name]) for name in ("code", key) if name in line),
                    *([show_gain(line)] if has_gain else []),
                    *(show(line[side]) if side in line else "–" for side in ("first", "second")),
                )
                for line in (lines or ())
            ]
            if rows and not self.is_same_run:
                yield title, ("", *([gain] if has_gain else []), "first", "second"), rows

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        document = asdict(replace(self, pair=None))
        del document["pair"]
        return {**document, "same_run": self.is_same_run, "same_data": self.has_same_data}


def compare_runs(
    experiment: str, first: str, second: str, *, find: Callable[[str, str], PastRun] = find_past_run
) -> RunComparison:
    """Compare two runs of an experiment.

    Parameters
    ----------
    experiment
        Name of the experiment.
    first, second
        Runs, as `find` accepts them.
    find
        Returns a run of an experiment.

    Raises
    ------
    ParamsError
        There is no such experiment or run.
    TrackingError
        The record of a run is no longer in MLflow, or the store does not respond.
    """
    load_params(experiment)
    return compare_pair(experiment, [find(experiment, word) for word in (first, second)])


def compare_pair(experiment: str, runs: Sequence[PastRun], *, is_brief: bool = False) -> RunComparison:
    """Compare two runs that were found; in brief, without slices, and by the gain in the main metric only."""
    shown = [describe_past_run(one) for one in runs]
    contents = [try_to_load(one.load_params_content, into) for one, into in zip(runs, shown, strict=True)]
    artifacts = {name: load_both(name, runs, shown, read=load_json) for name in CHECKED}
    note_missing_checks(artifacts, shown)
    checked = [pair for pair in artifacts.values() if all(content and "checks" in content for content in pair)]
    pair, reason = find_pair(runs, shown, contents[0])
    gains = pair.compute_gains([pair.params.training.metric] if is_brief else ()) if pair else {}
    gain, reason = describe_run_gain(pair, gains) if pair else (None, reason)
    return RunComparison(
        experiment=experiment,
        first=shown[0],
        second=shown[1],
        params=list_changed_params(*contents),
        metrics=[
            line | ({"gain": gains[line["name"]].to_dict()} if line["name"] in gains else {})
            for line in list_metric_pairs(artifacts["evaluation"])
        ],
        gain=gain,
        gain_reason=reason,
        checks=[change for changed in checked for change in list_changed_checks(changed)] if checked else None,
        slices=pair.list_slices() if pair and not is_brief else None,
        pair=pair,
    )


def write_comparison(found: RunComparison) -> Path:
    """Write a comparison as a page beside the reports of the experiment, and return its path."""
    subject = Subject.from_params(load_params(found.experiment))
    path = paths.find_reports_dir(found.experiment) / PAGE
    plots = found.pair.make_plots() if found.pair else []
    render.write_page(
        path,
        "comparison.html.j2",
        experiment=found.experiment,
        question=subject.question,
        written=datetime.now(UTC).isoformat(),
        facts=found.describe(render.format_time)[1:],
        tables=list(found.make_tables()),
        plots=plots,
        neighbours=list_page_links(path.parent),
    )
    return path


def describe_past_run(past: PastRun) -> ComparedRun:
    """Return what is shown of one run."""
    record, code = past.record, past.record["code"]
    raw = record.get("stages", {}).get("source", {}).get("outputs", {})
    data = raw.get(f"data/{record['experiment']}/{PLACES['raw']}")
    deleted = {"D": "deleted"}
    changed = {path: file.get("sha256") or deleted.get(file["git"], "") for path, file in code["files"].items()}
    return ComparedRun(past.name, past.role, record["started"], code["commit"], changed, data)


def try_to_load(load: Callable[[], Found], into: ComparedRun) -> Found | None:
    """Return what is loaded, or None after noting in the run that it is missing."""
    try:
        return load()
    except DataError as error:
        into.missing.append(str(error))
        return None


def load_both(
    artifact: str, runs: Sequence[PastRun], shown: Sequence[ComparedRun], *, read: Callable[[Path], Any]
) -> list[Any]:
    """Return an artifact of each run, None where it is missing."""
    return [
        try_to_load(lambda past=past: read(past.find_artifact(artifact)), into)  # type: ignore[misc]
        for past, into in zip(runs, shown, strict=True)
    ]


def note_missing_checks(artifacts: Mapping[str, Sequence[Any]], shown: Sequence[ComparedRun]) -> None:
    """Note in each run the artifacts that hold no checks, as those of earlier versions."""
    for artifact, pair in artifacts.items():
        for content, into in zip(pair, shown, strict=True):
            if content is not None and "checks" not in content:
                into.missing.append(f"{PLACES[artifact]} holds no checks: an earlier version of labkit wrote it")


def list_changed_params(first: str | None, second: str | None) -> list[dict[str, Any]] | None:
    """Return the parameters that differ between the contents of two params files, by dotted name.

    None if one of the files is missing.

    >>> list_changed_params("seed: 1\\ntraining: {folds: 5}", "seed: 2\\ntraining: {folds: 5}\\neda: {plots: 3}")
    [{'name': 'seed', 'first': 1, 'second': 2}, {'name': 'eda.plots', 'second': 3}]
    """
    if first is None or second is None:
        return None
    pair = {
        side: flatten_tree(make_plain(parse_yaml(content, side))) for side, content in make_pair(first, second).items()
    }
    changed = []
    for name in dict.fromkeys([*pair["first"], *pair["second"]]):
        values = {side: named[name] for side, named in pair.items() if name in named}
        if len(values) < len(pair) or values["first"] != values["second"]:
            changed.append({"name": name, **values})
    return changed


def show_interval(content: Mapping[str, float | None]) -> str:
    """Return a metric with its interval.

    >>> show_interval({"value": 0.6821, "low": 0.629, "high": 0.7312})
    '0.682 [0.629, 0.731]'
    """
    one = Interval.from_dict(content)
    return format_interval(one.value, one.low, one.high)


def show_gain(line: Mapping[str, Any]) -> str:
    """Return the gain of a metric or of a group of rows with its interval.

    >>> show_gain({"gain": 0.5, "low": 0.25, "high": 0.75}), show_gain({})
    ('0.50 [0.25, 0.75]', '–')
    """
    gain = line.get("gain")
    if gain is None:
        return "–"
    named = gain if isinstance(gain, Mapping) else {"value": gain, "low": line["low"], "high": line["high"]}
    one = Interval.from_dict(named)
    return format_difference(one.value, one.low, one.high)


def make_pair(first: Found, second: Found) -> dict[str, Found]:
    """Return two values by the keys that they have in all documents."""
    return {"first": first, "second": second}


def flatten_tree(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted name."""
    named: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{above}{key}"
        named |= flatten_tree(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return named


def list_metric_pairs(evaluations: Sequence[Any]) -> list[dict[str, Any]]:
    """Return value and interval of each metric on the holdout, in both runs; the metric of the training first."""
    known = make_pair(*evaluations)
    measured = {side: one["holdout"] for side, one in known.items() if one is not None}
    first = [one["metric"] for one in evaluations if one is not None]
    names = dict.fromkeys([*first, *(name for one in measured.values() for name in one)])
    return [
        {"name": name, **{side: one[name] for side, one in measured.items() if name in one}}
        for name in names
        if any(name in one for one in measured.values())
    ]


def list_changed_checks(pair: Sequence[Any]) -> list[dict[str, str]]:
    """Return the checks whose status differs between two artifacts."""
    sides = {side: {one["code"]: one for one in content["checks"]} for side, content in make_pair(*pair).items()}
    changed = []
    for code in sorted({*sides["first"], *sides["second"]}):
        found = {side: results[code] for side, results in sides.items() if code in results}
        statuses = {side: str(result["status"]) for side, result in found.items()}
        if len({*statuses.values()}) > 1 or len(found) < len(sides):
            changed.append({"code": code, "title": next(iter(found.values()))["title"], **statuses})
    return changed


def find_pair(
    runs: Sequence[PastRun], shown: Sequence[ComparedRun], content: str | None
) -> tuple[PredictionPair | None, str]:
    """Return the predictions of both runs of the same rows, or None and why there are none.

    The metric, the blocks and the number of draws are those of the first run.
    """
    ours, theirs = load_both("predictions", runs, shown, read=load_table)
    holdout = try_to_load(lambda: load_table(runs[0].find_artifact("clean_holdout")), shown[0])
    if ours is None or theirs is None or holdout is None or content is None:
        return None, "no paired gain: not everything that it needs is stored"
    try:
        params = parse_file(content, Path(runs[0].record["params"]["artifact"])).params
    except ParamsError as error:
        return None, f"no paired gain: the params of the first run are not valid in this version of labkit ({error})"
    try:
        OWN_METRICS.use(params.evaluation.metrics)
        OWN_METRICS.find_all()
    except ParamsError as error:
        return None, f"no paired gain: {error}"
    return pair_predictions(params, ours, theirs, holdout)


def describe_run_gain(pair: PredictionPair, gains: Mapping[str, Interval]) -> tuple[dict[str, Any], str]:
    """Return the paired gain of the first run in its metric, as plain data and in words."""
    metric, confidence, n_rows = pair.params.training.metric, pair.params.evaluation.confidence, len(pair.rows)
    is_same = pair.first.equals(pair.second)
    words = "predicts the same as the second"
    if not is_same:
        words = f"is {describe_paired(metric, 'the second', gains[metric], confidence)}"
    document = {"metric": metric, **gains[metric].to_dict(), "confidence": confidence, "rows": n_rows}
    return {**document, "same_predictions": is_same}, f"on the same {format_count(n_rows, 'row')} the first run {words}"
