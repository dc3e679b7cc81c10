"""The result of an experiment: the decision about publishing, and the main metric on the holdout.

Read from what the stages `evaluation` and `publish` wrote.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import PLACES
from labkit.checks import CheckResult, mute, sort_by_weight
from labkit.params.load import load_params
from labkit.paths import show_path
from labkit.run.records.stage_record import load_records
from labkit.run.reports import index
from labkit.storage.atomic import parse_json
from labkit.units import format_alike, format_interval

PUBLISHED, UNCHANGED, KEPT, REFUSED = "published", "already champion", "kept champion", "refused"
DRY_RUN = "dry run"
"""Decisions about a release: it became the champion, is the champion, lost to the champion, or failed the gate; or
nothing was promoted because the gate only shows what it would decide."""


@dataclass(frozen=True)
class Result:
    """What a run led to.

    Attributes
    ----------
    decision
        `PUBLISHED`, `UNCHANGED`, `KEPT`, `REFUSED` or `DRY_RUN`.
    version
        Version of the champion; None if the release was refused, and in a dry run.
    headline
        The decision in words.
    metric, value, low, high, dummy
        The main metric of this model on the holdout, the ends of its interval, and the value of the dummy.
    page
        Path of the page that shows it, relative to the root of the checkout.
    """

    experiment: str
    decision: str
    version: int | None
    headline: str
    metric: str
    value: float
    low: float
    high: float
    dummy: float
    page: str

    @property
    def quality(self) -> str:
        """How good the model is on the holdout, as a phrase."""
        return f"holdout {self.metric} {format_interval(self.value, self.low, self.high)}"

    @property
    def verdict(self) -> str:
        """What happened to the release, as a phrase."""
        named = {
            PUBLISHED: f"v{self.version} published",
            UNCHANGED: f"v{self.version} is already the champion",
            KEPT: f"v{self.version} stays champion",
        }
        return named.get(self.decision, self.headline)

    def __str__(self) -> str:
        """Return what happened to the release, how good it is, compared with what, and where to look."""
        model = "this model: " if self.decision == KEPT else ""
        dummy = format_alike(self.value, self.dummy, uncertainty=(self.high - self.low) / 2)[1]
        return f"{self.experiment} {self.verdict}: {model}{self.quality}, dummy {dummy} → {self.page}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


def find_result(experiment: str) -> Result | None:
    """Return the latest result of an experiment; None if nothing was decided yet or its files cannot be read."""
    pages, data = paths.find_reports_dir(experiment), paths.find_data_dir(experiment)
    try:
        decision: Any = parse_json((pages / "publish.json").read_bytes())
        evaluation = find_evaluation(data)
        name = evaluation["metric"]
        interval = evaluation["holdout"][name]
        record = load_records(pages).get("evaluation")
        return Result(
            experiment=experiment,
            decision=decision["decision"],
            version=decision["version"],
            headline=decision["headline"],
            metric=name,
            value=float(interval["value"]),
            low=float(interval["low"]),
            high=float(interval["high"]),
            dummy=float(evaluation["dummy"][name]),
            page=show_path(pages / (f"{record.page}.html" if record else "publish.html")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_evaluation(data: Path) -> Any:
    """Return the evaluation in an experiment's data folder; earlier versions kept it in `metrics.json`."""
    path = data / PLACES["evaluation"]
    return parse_json((path if path.is_file() else data / PLACES["metrics"]).read_bytes())


def list_checks_of_pages(experiment: str, *, is_sample: bool = False) -> list[dict[str, str]]:
    """Return the checks of the latest run of each stage, muted as the params say now, the most urgent first.

    Those of the decision about publishing are among them, unless a sample was run, about which nothing is decided.
    """
    pages = paths.find_reports_dir(experiment)
    found = [
        check for record in load_records(pages / "sample" if is_sample else pages).values() for check in record.checks
    ]
    if not is_sample:
        found += index.load_scorecard(pages / "publish.json").get("checks", [])
    results = {result.code: result for result in map(CheckResult.from_dict, found)}
    muted = mute(list(results.values()), load_params(experiment).checks.mute)
    return [result.to_dict() for result in sort_by_weight(muted)]
