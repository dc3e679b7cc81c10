"""Results of checks of data, method, model and monitoring, and how they are shown.

Notebooks compute the evidence and make results by code; pages, the index, the model card and the terminal show them
alike. The words of each code are in `labkit.check_register`.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

from markupsafe import Markup

from labkit.check_register import REGISTER as REGISTER
from labkit.check_register import Definition as Definition
from labkit.errors import DataError, name_nearest
from labkit.names import OWN_CHECK_CODE
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


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    evidence
        What was measured, in a few words, with numbers; no final full stop. For muted checks it ends with the reason.
    own
        Words in place of those of the register: of a check of the user's own, which is not in it, or of a check whose
        consequence and remedy depend on what was found.
    """

    code: str
    status: Status
    evidence: str
    own: Definition | None = None

    def __post_init__(self) -> None:
        """Refuse codes and statuses that do not exist."""
        if self.code not in REGISTER and (self.own is None or not re.fullmatch(OWN_CHECK_CODE, self.code)):
            raise DataError(f"no check {self.code!r}: {name_nearest(self.code, REGISTER)}")
        if self.status not in STATUSES:
            raise DataError(f"check {self.code}: no status {self.status!r}: use one of {', '.join(STATUSES)}")

    @property
    def definition(self) -> Definition:
        """Its words: its own, or those of the register."""
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
            code, words = content["code"], [one.name for one in fields(Definition)]
            is_own = re.fullmatch(OWN_CHECK_CODE, code) is not None
            has_words = is_own or all(name in content for name in words)
            own = Definition(**{name: content[name] for name in words}) if has_words else None
            kept = None if own == REGISTER.get(code) else own
            return cls(code, content["status"], content["evidence"], kept)  # type: ignore[arg-type]
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
    """Return checks as HTML: issues and warnings one a line, each with consequence and remedy folded; others folded."""
    ordered = sort_by_weight(checks)
    loud = [check for check in ordered if check.needs_attention]
    quiet = [check for check in ordered if not check.needs_attention]
    counts = Markup("<strong>Checks:</strong> {}").format(describe_counts(checks))
    lines = []
    if loud:
        items = [
            Markup(
                "<details><summary>{} <strong>{} {}</strong>: {}.</summary>"
                '<p>{} <em>{}</em> <a href="#{}">Details</a></p></details>'
            ).format(
                SIGNS[check.status],
                check.code,
                check.title,
                check.evidence,
                check.consequence,
                check.remedy,
                check.anchor,
            )
            for check in loud
        ]
        lines = [Markup("<p>{}</p>").format(counts), *items]
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


def write_markdown(
    headline: str,
    checks: Sequence[CheckResult],
    notes: Sequence[str] = (),
    table: Sequence[Sequence[str]] = (),
) -> str:
    """Return checks as Markdown for a pull request: issues and warnings with their remedies, the others folded.

    Parameters
    ----------
    headline
        What was checked and found.
    table
        Numbers besides, the headings first.
    """
    ordered = sort_by_weight(checks)
    loud = [check for check in ordered if check.needs_attention]
    quiet = [check for check in ordered if not check.needs_attention]
    lines = [f"### {escape_markdown(headline)}", ""]
    if loud:
        head = ["| | check | evidence | remedy |", "|---|---|---|---|"]
        lines += [*head, *(f"| {SIGNS[one.status]} {write_cells(one)} | {one.remedy} |" for one in loud), ""]
    lines += [*(f"- {escape_markdown(note)}" for note in notes), *([""] if notes else [])]
    if table:
        lines += [f"| {' | '.join(map(escape_markdown, line))} |" for line in table]
        lines.insert(len(lines) - len(table) + 1, "|---|" + "---:|" * (len(table[0]) - 1))
        lines.append("")
    if quiet:
        head = [f"<details><summary>{describe_counts(quiet)}</summary>", "", "| | check | evidence |", "|---|---|---|"]
        lines += [*head, *(f"| {SIGNS[one.status]} {write_cells(one)} |" for one in quiet), "", "</details>", ""]
    return "\n".join(lines)


def write_cells(check: CheckResult) -> str:
    """Return the name and the evidence of a check as cells of a Markdown table."""
    return f"| {check.code} {check.title} | {escape_markdown(check.evidence)}"


def escape_markdown(text: str) -> str:
    r"""Return a string that Markdown shows as it is, in one line.

    >>> print(escape_markdown("a|b <c>"))
    a\|b &lt;c&gt;
    """
    shown = re.sub(r"([\\`*_|\[\]])", r"\\\1", " ".join(text.split()))
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
