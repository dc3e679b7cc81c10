"""Compare the saved outputs of a cell with those of a fresh run.

Text is compared line by line: words exactly, numbers with a decimal point or exponent within a relative tolerance,
integers exactly. Memory addresses, random ids, temporary folders, terminal colours and the times of `%time` count as
equal, and so does a date that is that of the run itself. HTML is compared by its visible text. Images, widgets and all
other types are compared by their type only, and what goes to stderr is not compared.

nbdime aligns outputs by how similar their strings are; a result that differs in one digit is the same to it, therefore
the comparison is made here.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bs4 import BeautifulSoup

from labkit.console import make_printable
from labkit.errors import shorten
from labkit.run.notebook.result import strip_colours
from labkit.secrets.redaction import Mask
from labkit.units import format_count

ABSOLUTE_TOLERANCE = 1e-12
"""Largest difference of numbers near zero, where a relative tolerance means nothing."""
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
VOLATILE = (
    (re.compile(r"\b0x[0-9a-fA-F]{4,}\b"), "<address>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"/tmp/(?:tmp\w+|ipykernel_\d+)"), "<temporary>"),
)
TIMED = re.compile(r"CPU times: |Wall time: |Parser\s+: |Compiler\s*: |.* per loop \(mean ± |.*\d+%\|.*\| ")
"""Lines of `%time`, of `%timeit` and of a progress bar."""
LONGEST_SHOWN = 80
ERROR = "error "
"""Begin of the type under which an error is compared."""


def compare_outputs(saved: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]], *, rtol: float) -> str:
    """Return the first difference between the outputs of one cell, empty if there is none.

    Parameters
    ----------
    saved, fresh
        Outputs as nbformat nodes.
    rtol
        Largest relative difference of two numbers.
    """
    if difference := compare_lines(join_printed(saved), join_printed(fresh), rtol=rtol):
        return f"printed {difference}"
    one, other = list_displayed(saved), list_displayed(fresh)
    if len(one) != len(other):
        raised = ", ".join(kind for content in other for kind in content if kind.startswith(ERROR))
        return f"{format_count(len(one), 'output')} saved, {len(other)} now{raised and f' ({raised})'}"
    for number, (before, after) in enumerate(zip(one, other, strict=True), 1):
        if before.keys() != after.keys():
            return f"output {number}: saved as {', '.join(sorted(before))}, now {', '.join(sorted(after))}"
        for kind in sorted(before, reverse=True):  # text/plain is easier to read than text/html
            if difference := compare_lines(make_text(kind, before[kind]), make_text(kind, after[kind]), rtol=rtol):
                return f"output {number} ({kind}), {difference}"
    return ""


def join_printed(outputs: Sequence[Mapping[str, Any]]) -> str:
    """Return what a cell printed; in how many pieces that arrived is chance."""
    return "".join(one["text"] for one in outputs if one["output_type"] == "stream" and one["name"] == "stdout")


def list_displayed(outputs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the content of a cell's other outputs by type; of an error its name."""
    found: list[Mapping[str, Any]] = []
    for one in outputs:
        if one["output_type"] == "error":
            found.append({f"{ERROR}{one['ename']}": ""})
        elif one["output_type"] != "stream":
            found.append(one.get("data", {}))
    return found


def make_text(kind: str, content: Any) -> str:
    """Return the text by which an output of a type is compared; empty for types of which only the type counts."""
    if kind == "text/html":
        tree = BeautifulSoup(content, "html.parser")
        for hidden in tree(["script", "style"]):
            hidden.decompose()
        return tree.get_text("\n")
    if kind.startswith("text/"):
        return str(content)
    return json.dumps(content, indent=1, sort_keys=True) if kind == "application/json" else ""


def compare_lines(saved: str, fresh: str, *, rtol: float) -> str:
    r"""Return the first line that differs, empty if none does.

    >>> compare_lines("score 0.5231\nat 0x7f01aa", "score 0.52310001\nat 0x7f02bb", rtol=1e-6)
    ''
    >>> compare_lines("score 0.52", "score 0.61", rtol=1e-6)
    'line 1: saved `score 0.52`, now `score 0.61`'
    """
    one, other = list_lines(saved), list_lines(fresh)
    for number, (before, after) in enumerate(zip(one, other, strict=False), 1):
        if not is_same_line(before, after, rtol=rtol):
            return f"line {number}: saved {quote_line(before)}, now {quote_line(after)}"
    if len(one) != len(other):
        return f"output of {format_count(len(one), 'line')} saved, of {len(other)} now"
    return ""


def list_lines(output: str) -> list[str]:
    """Return the lines of an output that count, with spaces and volatile parts made equal."""
    for pattern, shown in VOLATILE:
        output = pattern.sub(shown, output)
    # Of a line that is drawn again and again, a terminal shows the last state.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in strip_colours(output).split("\n")]
    return [" ".join(line.split()) for line in lines if line.strip() and not TIMED.match(line)]


def is_same_line(before: str, after: str, *, rtol: float) -> bool:
    """Return whether two lines have the same words, and the same numbers within the tolerance."""
    if before == after:
        return True
    dates = DATE.findall(before), DATE.findall(after)
    if DATE.sub("<date>", before).count("<date>") and len(dates[0]) == len(dates[1]):
        if any(one != other and not is_now(other) for one, other in zip(*dates, strict=True)):
            return False
        before, after = DATE.sub("<date>", before), DATE.sub("<date>", after)
    if " ".join(NUMBER.sub("#", before).split()) != " ".join(NUMBER.sub("#", after).split()):
        return False
    pairs = zip(NUMBER.findall(before), NUMBER.findall(after), strict=True)
    return all(is_same_number(one, other, rtol=rtol) for one, other in pairs)


def is_now(date: str) -> bool:
    """Return whether a date is that of today, in whatever time zone."""
    try:
        found = datetime.fromisoformat(date.replace(",", "."))
    except ValueError:
        return False
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return abs(datetime.now(UTC) - found) < timedelta(days=2)


def is_same_number(one: str, other: str, *, rtol: float) -> bool:
    """Return whether two numbers are the same: integers exactly, others within the tolerance."""
    if one == other:
        return True
    if not ({".", "e", "E"} & {*one, *other}):
        return False
    return math.isclose(
        float(one.replace(",", "")), float(other.replace(",", "")), rel_tol=rtol, abs_tol=ABSOLUTE_TOLERANCE
    )


def quote_line(line: str) -> str:
    """Return a line of output for a message, shortened and without secrets."""
    return f"`{make_printable(shorten(Mask().clean_text(line), LONGEST_SHOWN))}`"
