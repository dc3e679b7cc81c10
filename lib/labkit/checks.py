"""The register of all checks of data, method and model: codes, titles, consequences and remedies.

Notebooks compute the evidence and make results by code; pages, the index, the model card and the terminal show them
alike. Codes are never reused: the first digit is the number of the notebook whose page shows the check.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

from markupsafe import Markup

from labkit.errors import DataError, name_nearest
from labkit.units import format_count

CHECKS = "labkit-checks"
"""Key of the results in the metadata of the output that shows them in a notebook."""
Status = Literal["issue", "warning", "passed", "not applicable", "skipped", "muted"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""All statuses, the most urgent first. `skipped` checks could not be computed; `muted` ones failed, with a reason."""
SIGNS: dict[Status, str] = {
    "issue": "✕", "warning": "⚠", "passed": "✓", "not applicable": "–", "skipped": "–", "muted": "🔇"
}  # fmt: skip
PLURALS: dict[Status, str] = {
    "issue": "issues", "warning": "warnings", "passed": "passed", "not applicable": "not applicable",
    "skipped": "skipped", "muted": "muted",
}  # fmt: skip


OWN_CODE = "OWN"
"""Beginning of the codes of checks of the user's own."""


@dataclass(frozen=True)
class Definition:
    """One check of the register.

    Attributes
    ----------
    title
        What is checked.
    section
        Heading of the section of the page that has the details.
    consequence
        What follows if it does not pass.
    remedy
        What to do then.
    """

    title: str
    section: str
    consequence: str
    remedy: str


REGISTER: dict[str, Definition] = {
    "LK201": Definition(
        "Target leakage", "Rows and columns dropped",
        "The model would learn from what is not known when it predicts.",
        "Drop the column in `wrangling.drop`, or confirm that it is known in time.",
    ),
    "LK202": Definition(
        "Duplicates across the split", "The split",
        "The holdout rewards remembering rows, so its metric is too good.",
        "Set `wrangling.duplicates: drop`, or split by the group that repeats.",
    ),
    "LK203": Definition(
        "Outcomes known in time", "The split",
        "Training would learn from the future of the rows that evaluate it.",
        "Set `data.time.outcome_known_at` to when the outcome is really known.",
    ),
    "LK204": Definition(
        "Groups across the split", "The split",
        "Rows of one group resemble each other, so the metric is too good for new groups.",
        "Set `data.split: {method: group, group: …}`.",
    ),
    "LK205": Definition(
        "Drift between training and holdout", "The split",
        "The model predicts for rows unlike those that it learned from.",
        "Find out why the columns changed; use later rows for training, or drop them.",
    ),
    "LK206": Definition(
        "Rows in exactly one part", "The split",
        "The evaluation is not independent of the training.",
        "This is a fault of the split: report it.",
    ),
    "LK207": Definition(
        "Cleaning twice", "The split",
        "Live requests would be cleaned differently from the training rows.",
        "Change the rule whose output another rule changes again.",
    ),
    "LK208": Definition(
        "Rows per class", "The split",
        "Metrics of a class with few rows are mostly luck.",
        "Collect more rows, or merge rare classes with `data.target.rare`.",
    ),
    "LK209": Definition(
        "Open findings of the exploration", "Rows and columns dropped",
        "What looked wrong in the data is still in the training rows.",
        "Declare the fix that the table of findings names, or leave it deliberately.",
    ),
    "LK401": Definition(
        "Validation against cross-validation", "A check on the validation rows",
        "The cross-validated metric is too optimistic for new rows.",
        "Rely on the holdout metric; look for drift and for columns that identify rows.",
    ),
    "LK402": Definition(
        "Overfitting", "A check on the validation rows",
        "It fits its training rows much better than new ones; with less flexibility it may predict as well.",
        "Try simpler models or stronger regularisation; forests commonly show this without harm.",
    ),
    "LK403": Definition(
        "Stability of the ranking", "The candidates",
        "Another split could rank them in another order.",
        "Prefer the simpler or the faster of the candidates that lie this close.",
    ),
    "LK404": Definition(
        "Gain of tuning", "Tuning",
        "The best of many trials looks better than it is.",
        "Expect about the metric of the untuned candidate, or use more folds.",
    ),
    "LK405": Definition(
        "Candidate against dummy", "The candidates",
        "It predicts no better than a constant.",
        "Look for columns that carry information about the target.",
    ),
    "LK406": Definition(
        "Failed candidates", "The candidates",
        "The failed candidates were not compared.",
        "Read the reason in the leaderboard, or leave them out of `training.models`.",
    ),
    "LK501": Definition(
        "Gain over the best constant prediction", "The gate",
        "It must not be published.", "Improve the features, or lower `evaluation.gate.minimum_gain` for a reason.",
    ),
    "LK502": Definition(
        "Days of the holdout", "The gate",
        "A few days are a few observations, however many rows they have.",
        "Move `data.split.holdout_from` to an earlier day.",
    ),
    "LK503": Definition(
        "Plausible result", "The gate",
        "A nearly perfect metric usually means that an input is known only after the outcome.",
        "Examine the columns that the model relies on most.",
    ),
    "LK504": Definition(
        "Classes of training and holdout", "The gate",
        "The model cannot predict some classes, or they are not evaluated.",
        "Choose the days of the split so that each part has every class.",
    ),
    "LK505": Definition(
        "Gain over plain LightGBM", "How good it is",
        "Features and tuning have not been shown to be worth their cost.",
        "Consider the simpler model.",
    ),
    "LK506": Definition(
        "Holdout against cross-validation", "How good it is",
        "The cross-validated metric was too optimistic; only the holdout metric may be expected of new rows.",
        "Look for drift between the parts and for columns that identify rows.",
    ),
    "LK507": Definition(
        "Calibration on average", "Its errors",
        "Predictions are systematically too high or too low.",
        "Calibrate with `training.calibrate`, or train on later rows.",
    ),
    "LK508": Definition(
        "Weak groups of rows", "Where it is weak",
        "For these rows the model is worse than its overall metric promises.",
        "Check the group with a domain expert; collect rows or features for it.",
    ),
    "LK509": Definition(
        "Confidence of probabilities", "Its errors",
        "Probabilities are too extreme or too cautious: costs and thresholds computed from them are off.",
        "With two classes, set `training.calibrate`; else compare a simpler model.",
    ),
    "LK601": Definition(
        "Served predictions", "The ONNX graph",
        "The service would predict differently from what was evaluated.",
        "Set `deploy.onnx: false` to serve the pipeline.",
    ),
    "LK602": Definition(
        "Size of the release", "The directory",
        "It must not be published.", "Leave the largest models out of `training.models`.",
    ),
    "LK603": Definition(
        "Gain over the champion", "The gate",
        "The champion stays in service.",
        "Improve the model, or raise `evaluation.gate.champion_tolerance` for a reason.",
    ),
    "LK604": Definition(
        "Groups of rows against the champion", "The gate",
        "Predictions for these rows would be much worse than today's, even if they are better on average.",
        "Look for what the group lacks in training, or raise `evaluation.gate.slice_tolerance` for a reason.",
    ),
    "LK605": Definition(
        "Requests that the champion accepts", "The gate",
        "Clients that send what they send today would be refused.",
        "Tell the clients, then promote the version with `labkit promote`.",
    ),
    "LK606": Definition(
        "Holdout rows in training", "The gate",
        "It must not be published: its metrics are not those of rows it has never seen.",
        "Fit it on the training and validation rows only.",
    ),
    "LK607": Definition(
        "Time of one prediction", "The gate",
        "Requests would take longer than is accepted.",
        "Choose a simpler model, or raise `evaluation.gate.most_milliseconds`.",
    ),
    "LK608": Definition(
        "Differences between groups", "The gate",
        "The model treats some groups differently.",
        "Examine the groups; see `evaluation.gate.fairness`.",
    ),
    "LK609": Definition(
        "Required value", "The gate",
        "It does not reach what the params require, whether or not it is better than the champion.",
        "Improve the model, or change `evaluation.gate.required_value` for a reason.",
    ),
    "LK610": Definition(
        "Calibration error", "The gate",
        "Predicted values differ too much from true values to be taken literally.",
        "With two classes, set `training.calibrate`; else compare a simpler model.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    evidence
        What was measured, in a few words, with numbers; no final full stop. For muted checks it ends with the reason.
    own
        Words of a check of the user's own, which is not in the register.
    """

    code: str
    status: Status
    evidence: str
    own: Definition | None = None

    def __post_init__(self) -> None:
        """Refuse codes and statuses that do not exist."""
        if self.own is None and self.code not in REGISTER:
            raise DataError(f"no check {self.code!r}: {name_nearest(self.code, REGISTER)}")
        if self.status not in STATUSES:
            raise DataError(f"check {self.code}: no status {self.status!r}: use one of {', '.join(STATUSES)}")

    @property
    def definition(self) -> Definition:
        """Its words: those of the register, or the user's own."""
        return self.own or REGISTER[self.code]

    @property
    def title(self) -> str:
        """What is checked."""
        return self.definition.title

    @property
    def consequence(self) -> str:
        """What follows if it does not pass."""
        return self.definition.consequence

    @property
    def remedy(self) -> str:
        """What to do if it does not pass."""
        return self.definition.remedy

    @property
    def anchor(self) -> str:
        """Anchor of the section that has the details, on the page of its notebook."""
        return self.definition.section.replace(" ", "-")

    @property
    def needs_attention(self) -> bool:
        """Whether it is an issue or a warning."""
        return self.status in ("issue", "warning")

    def to_dict(self) -> dict[str, str]:
        """Return the result with its words as plain data, as stored in records and shown on the index."""
        words = asdict(self.definition)
        return {"code": self.code, "status": self.status, "evidence": self.evidence, **words}

    @classmethod
    def from_dict(cls, content: Mapping[str, str]) -> "CheckResult":
        """Return a result from the content that `to_dict` returns.

        Raises
        ------
        DataError
            The content has another structure, or an unknown code.
        """
        try:
            is_own = content["code"].startswith(OWN_CODE)
            own = Definition(**{one.name: content[one.name] for one in fields(Definition)}) if is_own else None
            return cls(content["code"], content["status"], content["evidence"], own)  # type: ignore[arg-type]
        except KeyError as error:
            raise DataError(f"the result of a check has no {error}: run the stage that made it again") from error


def make_check(
    code: str, found: bool | None, evidence: str, *, failed: Status = "warning", own: Definition | None = None
) -> CheckResult:
    """Return the result of a check: passed if `found` is true, `failed` if it is false, not applicable if it is None.

    >>> make_check("LK405", True, "roc_auc 0.76, the dummy has 0.5").status
    'passed'
    """
    return CheckResult(code, "not applicable" if found is None else "passed" if found else failed, evidence, own)


def mute(results: Sequence[CheckResult], reasons: Mapping[str, str]) -> list[CheckResult]:
    """Return the results with those muted that did not pass and for which a reason is declared.

    Parameters
    ----------
    reasons
        Reason by code: `checks.mute` of the params.
    """
    return [
        replace(result, status="muted", evidence=f"{result.evidence}; muted: {reasons[result.code]}")
        if result.needs_attention and result.code in reasons
        else result
        for result in results
    ]


def sort_by_weight(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return results with the most urgent first, then by code."""
    return sorted(results, key=lambda result: (STATUSES.index(result.status), result.code))


def describe_counts(results: Sequence[CheckResult]) -> str:
    """Return how many checks have which status, the most urgent first.

    >>> results = [CheckResult("LK401", "warning", "…"), CheckResult("LK405", "passed", "…")]
    >>> describe_counts(results)
    '1 warning, 1 passed'
    """
    counts = Counter(result.status for result in results)
    named = [format_count(counts[status], status, PLURALS[status]) for status in STATUSES if counts[status]]
    return ", ".join(named) or "none"


def render_checks(checks: Sequence[CheckResult]) -> str:
    """Return checks as HTML: issues and warnings in full, the others folded."""
    ordered = sort_by_weight(checks)
    loud = [check for check in ordered if check.needs_attention]
    quiet = [check for check in ordered if not check.needs_attention]
    counts = Markup("<strong>Checks:</strong> {}").format(describe_counts(checks))
    lines = []
    if loud:
        items = [
            Markup('<li>{} <strong><a href="#{}">{} {}</a></strong>: {}. {} <em>{}</em></li>').format(
                SIGNS[check.status],
                check.anchor,
                check.code,
                check.title,
                check.evidence,
                check.consequence,
                check.remedy,
            )
            for check in loud
        ]
        lines = [Markup("<p>{}</p><ul>").format(counts), *items, Markup("</ul>")]
    if quiet:
        rows = [
            Markup('<tr><td>{}</td><td>{} {}</td><td><a href="#{}">{}</a></td><td>{}</td></tr>').format(
                check.code, SIGNS[check.status], check.status, check.anchor, check.title, check.evidence
            )
            for check in quiet
        ]
        head = Markup("<tr><th>Code</th><th>Status</th><th>Check</th><th>Evidence</th></tr>")
        lines += [
            Markup("<details><summary>{}</summary><table><thead>{}</thead><tbody>").format(
                describe_counts(quiet) if loud else counts, head
            ),
            *rows,
            Markup("</tbody></table></details>"),
        ]
    return str(Markup("\n").join(lines))
