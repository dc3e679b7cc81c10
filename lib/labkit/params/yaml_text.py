"""Read and write YAML: version 1.2, one mapping, nothing that two parsers would read differently.

Comments and style survive a change. The params themselves are declared in `labkit.params`.
"""

import re
import sys
from collections.abc import Mapping
from datetime import date
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.emitter import RoundTripEmitter
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from labkit.errors import ParamsError
from labkit.params.plain_values import write_number
from labkit.paths import show_path
from labkit.secrets.redaction import REDACTED, TOKENS
from labkit.units import format_count

YamlMap: TypeAlias = CommentedMap
"""A mapping that keeps its comments and style."""
YamlList: TypeAlias = CommentedSeq
"""A list that keeps its comments and style."""
LARGEST_FILE_BYTES = 1_000_000
DEEPEST_YAML = 20
# Plain words that YAML 1.1 (papermill, DVC) and YAML 1.2 (labkit) read as different values.
AMBIGUOUS = re.compile(
    r"^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF"
    r"|[-+]?0[0-7]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?[0-9]+_[0-9_]*"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]*\.[0-9]*[eE][0-9]+)$"
)
# Plain words within brackets that YAML 1.1 does not read at all.
COLON_WITHIN = re.compile(r":\S")
# Strings that need no quotes, and words that are not read as strings without them.
PLAIN_SCALAR = re.compile(r"[A-Za-z_][A-Za-z0-9_./%()+-]*( [A-Za-z0-9_./%()+<>=*-]+)*")
NOT_STRINGS = ("null", "true", "false", "none", "nan")

# Line breaks in YAML 1.1 only.
SEPARATORS = re.compile("[\x85\u2028\u2029]")


def load_yaml(path: Path) -> YamlMap:
    """Read one YAML mapping; refuse ambiguous and unsafe content.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    ParamsError
        The file is too large, not UTF-8 or not one mapping, or has an alias, a tag, a duplicate key, too deep nesting
        or a word that two parsers read differently.
    """
    return parse_yaml(read_yaml(path), show_path(path))


def read_yaml(path: Path) -> str:
    """Return the content of a YAML file without parsing it.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    ParamsError
        The file is too large, not UTF-8, or begins with a byte-order mark.
    """
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise ParamsError(
            f"{show_path(path)}: {format_count(path.stat().st_size, 'byte')}; a params file has at most 1,000,000"
        )
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParamsError(f"{show_path(path)}: not UTF-8 at byte {error.start}: save it as UTF-8") from error
    if content.startswith("\ufeff"):
        raise ParamsError(f"{show_path(path)}: begins with a byte order mark: save it as UTF-8 without one")
    return content


def load_written_yaml(path: Path) -> Any:
    """Read YAML written by a program, such as dvc.lock: fast, and without the checks for files edited by hand.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    ParamsError
        It is not YAML.
    """
    return parse_written_yaml(path.read_bytes(), show_path(path))


def parse_written_yaml(content: bytes | str, where: str) -> Any:
    """Parse YAML written by a program.

    Parameters
    ----------
    content
        The YAML.
    where
        The place to name in messages.

    Raises
    ------
    ParamsError
        It is not YAML.
    """
    try:
        return YAML(typ="safe").load(content)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{where}: {str(error).splitlines()[0]}: restore it from git, or remove it") from error


def load_plain(path: Path) -> dict[str, Any]:
    """Read one YAML mapping as plain data; the same content is parsed only once, so the result must not be changed.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    ParamsError
        The content is refused by `load_yaml`.
    """
    return parse_plain(path.read_text(encoding="utf-8"), show_path(path))


@cache
def parse_plain(content: str, where: str) -> dict[str, Any]:
    """Parse one YAML mapping as plain data."""
    plain: dict[str, Any] = make_plain(parse_yaml(content, where))
    return plain


def parse_yaml(content: str, where: str) -> YamlMap:
    """Parse one YAML mapping; see `load_yaml`.

    Parameters
    ----------
    content
        YAML.
    where
        Name of its source, for error messages.
    """
    try:
        check_events(content, where)
        tree = make_yaml().load(content)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = ", ".join(part.split("\n")[0] for part in (error.context, error.problem) if part)
        raise ParamsError(f"{where}{line}: {TOKENS.sub(REDACTED, problem)}: fix the YAML") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{where}: {str(error).splitlines()[0]}: fix the YAML") from error
    if not isinstance(tree, YamlMap):
        found = "nothing" if tree is None else "a list" if isinstance(tree, YamlList) else "a single value"
        raise ParamsError(f"{where}: {found} where `section: values` are expected")
    return tree


def check_events(content: str, where: str) -> None:
    """Refuse aliases, tags, deep nesting and ambiguous words before anything is built from them."""
    if found := SEPARATORS.search(content):
        row = content.count("\n", 0, found.start()) + 1
        raise ParamsError(
            f"{where}:{row}: the line separator U+{ord(found[0]):04X} would become a space: "
            f'write "\\u{ord(found[0]):04x}" within double quotes'
        )
    depth, flow = 0, 0
    for event in YAML(typ="safe", pure=True).parse(StringIO(content)):
        line = f"{where}:{event.start_mark.line + 1}"
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        flow += isinstance(event, CollectionStartEvent) and (flow > 0 or bool(event.flow_style))
        flow -= isinstance(event, CollectionEndEvent) and flow > 0
        if depth > DEEPEST_YAML:  # the parser takes minutes for thousands of brackets
            raise ParamsError(f"{line}: nested more than {DEEPEST_YAML} deep: flatten it")
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            raise ParamsError(f"{line}: anchors and aliases (& and *) are not allowed: write the value out")
        if getattr(event, "tag", None):
            raise ParamsError(f"{line}: the tag {event.tag} is not allowed: write a plain value")
        if isinstance(event, ScalarEvent) and event.style is None and AMBIGUOUS.match(event.value):
            raise ParamsError(
                f"{line}: {event.value} is read differently by YAML 1.1 and 1.2: "
                f'write true, false, a plain number such as 0.001, or "{event.value}" in quotes'
            )
        if flow and isinstance(event, ScalarEvent) and event.style is None and COLON_WITHIN.search(event.value):
            raise ParamsError(f'{line}: DVC cannot read {event.value} within brackets: write "{event.value}" in quotes')


def make_commented(tree: Any) -> Any:
    """Convert plain data to a YAML tree: strings quoted unless they are plain words, lists in flow style.

    Parameters
    ----------
    tree
        Plain data.
    """
    if isinstance(tree, Mapping):
        return YamlMap((make_commented(key), make_commented(value)) for key, value in tree.items())
    if isinstance(tree, list | tuple):
        items = YamlList(make_commented(item) for item in tree)
        items.fa.set_flow_style()
        return items
    if isinstance(tree, str) and (
        not PLAIN_SCALAR.fullmatch(tree) or AMBIGUOUS.match(tree) or tree.lower() in NOT_STRINGS
    ):
        return DoubleQuotedScalarString(tree)
    return tree


def make_plain(tree: Any) -> Any:
    """Convert a YAML tree to plain dicts, lists and scalars; dates become ISO strings.

    Parameters
    ----------
    tree
        YAML tree.

    Raises
    ------
    TypeError
        A value is not plain data.
    """
    if isinstance(tree, Mapping):
        return {str(key): make_plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [make_plain(value) for value in tree]
    if isinstance(tree, date):
        return tree.isoformat()
    if isinstance(tree, bool) or tree is None:
        return tree
    for kind in (int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    raise TypeError(f"{tree!r} is not plain data")


class ScalarEmitter(RoundTripEmitter):
    """Emitter that wraps lists and plain sentences only.

    ruamel wraps a plain key with spaces over two lines, which is not valid YAML, and loses a space or a line separator
    where it wraps a quoted string.
    """

    def process_scalar(self) -> None:
        """Write one scalar."""
        width, is_block = self.best_width, bool(self.event.style) and self.event.style in "|>"
        if self.simple_key_context or not (is_block or PLAIN_SCALAR.fullmatch(self.event.value)):
            self.best_width = sys.maxsize
        super().process_scalar()
        self.best_width = width


class PlainRepresenter(RoundTripRepresenter):
    """Representer that writes floats without an exponent, so that every YAML parser reads back the same number."""

    def represent_float(self, data: float) -> ScalarNode:
        """Return a float as a node."""
        return self.represent_scalar("tag:yaml.org,2002:float", write_number(data))


PlainRepresenter.add_representer(float, PlainRepresenter.represent_float)


def make_yaml() -> YAML:
    """Return a YAML parser and writer that keeps comments, quotes and order."""
    yaml = YAML(typ="rt", pure=True)
    yaml.Emitter = ScalarEmitter
    yaml.Representer = PlainRepresenter
    yaml.preserve_quotes = True
    yaml.width = 120
    return yaml
