"""Error messages for invalid values of the params, which name what to write instead.

Takes faults as reported by pydantic; `labkit.params.load` adds the location of the value.
"""

import re
from collections.abc import Mapping
from typing import Any

from labkit.names import OWN_CHECK_CODE

WANTED = {
    "int": "write a whole number",
    "float": "write a number",
    "decimal": "write a number",
    "finite_number": "write a finite number",
    "string": "write a string",
    "bool": "write true or false",
    "tuple": "write a list, e.g. [a, b]",
    "list": "write a list, e.g. [a, b]",
    "set": "write a list, e.g. [a, b]",
    "dict": "write a mapping, e.g. {key: value}",
    "mapping": "write a mapping, e.g. {key: value}",
    "model": "write a mapping, e.g. {key: value}",
    "date": "write a day, e.g. 2024-12-31",
    "datetime": "write a time, e.g. 2024-12-31T08:00",
}
"""Expected value by the first word of the fault's type."""
BOUNDS = {
    "greater_than": ("gt", "write a number above {}"),
    "greater_than_equal": ("ge", "write {} or more"),
    "less_than": ("lt", "write a number below {}"),
    "less_than_equal": ("le", "write {} or less"),
    "string_too_short": ("min_length", "write at least {} characters"),
    "string_too_long": ("max_length", "write at most {} characters"),
    "too_short": ("min_length", "name at least {}"),
    "too_long": ("max_length", "name at most {}"),
}
"""Bound that the fault reports, and a sentence with it."""


def describe_remedy(fault: Mapping[str, Any]) -> str:
    """Return what to write instead of an invalid value.

    >>> describe_remedy({"type": "int_parsing"}), describe_remedy({"type": "less_than_equal", "ctx": {"le": 20}})
    ('write a whole number', 'write 20 or less')
    """
    kind, details = str(fault["type"]), fault.get("ctx") or {}
    if kind in BOUNDS:
        name, sentence = BOUNDS[kind]
        return sentence.format(details[name])
    if kind == "literal_error":
        shown = (word if word.isidentifier() else repr(word) for word in list_expected(fault))
        return f"write one of {', '.join(shown)}"
    if kind == "string_pattern_mismatch":
        return describe_pattern(str(details["pattern"]))
    known = next((word for word in WANTED if kind == word or kind.startswith(f"{word}_")), None)
    return WANTED[known] if known else "write a value that fits its meaning, see `labkit params`"


def describe_pattern(pattern: str) -> str:
    """Describe the strings that match a pattern of the params."""
    if OWN_CHECK_CODE in pattern:
        return f"write the code of a check, e.g. {'LK205 or OWN01' if 'LK' in pattern else 'OWN01'}"
    letters = "capital" if pattern.startswith("^[A-Z]") else "small"
    return f"write {letters} letters, digits and _, a letter first"


def list_expected(fault: Mapping[str, Any]) -> list[str]:
    """Return the allowed values of a literal.

    >>> list_expected({"ctx": {"expected": "'log', 'none' or 'yeo_johnson'"}})
    ['log', 'none', 'yeo_johnson']
    """
    expected = str(fault["ctx"]["expected"])
    return [one or other for one, other in re.findall(r"'([^']*)'|\"([^\"]*)\"", expected)] or [expected]
