"""Lines of a params file as suggested in messages and findings: ready to copy, whatever characters names contain.

Params files are read in `labkit.params.load`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from labkit.params.plain_values import write_number

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ ]*[A-Za-z0-9_]")
# Words that YAML does not read as strings.
WORDS = {"true", "false", "yes", "no", "on", "off", "null", "nan", "inf"}


def quote(value: Any) -> str:
    """Return a value as written in a YAML list or mapping on one line.

    >>> [quote(value) for value in ("mean area", "a: b", "no", "it's", -999, True, 1e-8)]
    ['mean area', '"a: b"', '"no"', '"it\\'s"', '-999', 'true', '0.00000001']
    """
    if isinstance(value, str) and PLAIN_NAME.fullmatch(value) and value.lower() not in WORDS:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return write_number(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def write_flow(value: Any) -> str:
    """Return a parameter's value in one line, as it may be written in a params file.

    >>> write_flow({"bmi": {"minimum": 10.0}}), write_flow(["dummy", "a: b"]), write_flow(None), write_flow(True)
    ('{bmi: {minimum: 10.0}}', '[dummy, "a: b"]', 'null', 'true')
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{quote(key)}: {write_flow(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_flow, value))}]"
    return quote(value)


def write_line(place: str, column: str, value: str) -> str:
    """Return the line that declares a value for one column.

    >>> write_line("wrangling.drop", "mean area", "identifier")
    'wrangling.drop: {mean area: identifier}'
    """
    return f"{place}: {{{quote(column)}: {value}}}"


def write_filter(expression: str) -> str:
    """Return the line that filters out the rows for which an expression is false.

    >>> write_filter("not missing(y)")
    'wrangling.filters: ["not missing(y)"]'
    """
    return f"wrangling.filters: [{json.dumps(expression, ensure_ascii=False)}]"
