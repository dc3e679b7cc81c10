"""How YAML is read and written here: version 1.2, one mapping, nothing that two readers would read differently.

Knows nothing of what can be set: that is `labkit.params`. Comments and style survive a change.
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
from labkit.paths import show
from labkit.secrets.redaction import REDACTED, TOKENS
from labkit.units import format_count

YamlMap: TypeAlias = CommentedMap
"""A mapping that keeps its comments and style."""
YamlList: TypeAlias = CommentedSeq
"""A list that keeps its comments and style."""
LARGEST_FILE_BYTES = 1_000_000
DEEPEST_YAML = 20
# Plain words that YAML 1.1 (papermill, DVC) and YAML 1.2 (here) read as different values.
AMBIGUOUS = re.compile(
    r"^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF"
    r"|[-+]?0[0-7]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?[0-9]+_[0-9_]*"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]*\.[0-9]*[eE][0-9]+)$"
)
# Strings that need no quotes, and words that would be read as something else without them.
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./%()+-]*( [A-Za-z0-9_./%()+<>=*-]+)*")
NOT_STRINGS = ("null", "true", "false", "none", "nan")

# Line ends to YAML 1.1 alone.
SEPARATORS = re.compile("[\x85\u2028\u2029]")


def load_yaml(path: Path) -> YamlMap:
    """Read one YAML mapping, refusing what is ambiguous or hostile.

    Raises
    ------
    ParamsError
        Too large, not UTF-8, not one mapping, an alias, a duplicate key, or a word with two readings.
    """
    return parse_yaml(read_yaml(path), show(path))


def read_yaml(path: Path) -> str:
    """Return the content of a YAML file, not yet parsed; see `load_yaml`."""
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise ParamsError(
            f"{show(path)}: {format_count(path.stat().st_size, 'byte')}; a params file has at most 1,000,000"
        )
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParamsError(f"{show(path)}: not UTF-8 at byte {error.start}: save it as UTF-8") from error
    if content.startswith("\ufeff"):
        raise ParamsError(f"{show(path)}: begins with a byte order mark: save it as UTF-8 without one")
    return content


def load_written_yaml(path: Path) -> Any:
    """Read YAML that a program wrote, such as dvc.lock: quickly, and without the checks of what people write.

    Raises
    ------
    ParamsError
        It is not YAML.
    """
    try:
        return YAML(typ="safe").load(path)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{show(path)}: {str(error).splitlines()[0]}: restore it from git, or remove it") from error


def load_plain(path: Path) -> dict[str, Any]:
    """Read one YAML mapping as plain data, not to be changed; the same content is parsed only once."""
    return parse_plain(path.read_text(encoding="utf-8"), show(path))


@cache
def parse_plain(content: str, where: str) -> dict[str, Any]:
    """Parse one YAML mapping as plain data."""
    plain: dict[str, Any] = make_plain(parse_yaml(content, where))
    return plain


def parse_yaml(content: str, where: str) -> YamlMap:
    """Parse one YAML mapping; see `load_yaml`."""
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
    """Refuse aliases, tags, depths and words with two readings before anything is built from them."""
    if found := SEPARATORS.search(content):
        row = content.count("\n", 0, found.start()) + 1
        raise ParamsError(
            f"{where}:{row}: the line separator U+{ord(found[0]):04X} would become a blank: "
            f'write "\\u{ord(found[0]):04x}" within double quotes'
        )
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(StringIO(content)):
        line = f"{where}:{event.start_mark.line + 1}"
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST_YAML:  # the reader takes minutes over thousands of brackets
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


def make_commented(tree: Any) -> Any:
    """Return plain data as YAML's tree: strings in quotes where they are not plain words, short lists on one line."""
    if isinstance(tree, Mapping):
        return YamlMap((make_commented(key), make_commented(value)) for key, value in tree.items())
    if isinstance(tree, list | tuple):
        items = YamlList(make_commented(item) for item in tree)
        items.fa.set_flow_style()
        return items
    if isinstance(tree, str) and (not PLAIN.fullmatch(tree) or AMBIGUOUS.match(tree) or tree.lower() in NOT_STRINGS):
        return DoubleQuotedScalarString(tree)
    return tree


def make_plain(tree: Any) -> Any:
    """Return YAML's tree as plain dicts, lists and scalars; dates become ISO strings."""
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
    """Breaks the lines of lists and of plain sentences only.

    ruamel breaks a plain key with blanks over two lines, which is not YAML, and loses a blank or a line separator where
    it breaks a quoted string.
    """

    def process_scalar(self) -> None:
        """Write one scalar."""
        width, is_block = self.best_width, bool(self.event.style) and self.event.style in "|>"
        if self.simple_key_context or not (is_block or PLAIN.fullmatch(self.event.value)):
            self.best_width = sys.maxsize
        super().process_scalar()
        self.best_width = width


class PlainRepresenter(RoundTripRepresenter):
    """Writes real numbers in digits alone, so that every reader of YAML reads them back as they are."""

    def represent_float(self, data: float) -> ScalarNode:
        """Return a real number as a node."""
        return self.represent_scalar("tag:yaml.org,2002:float", write_number(data))


PlainRepresenter.add_representer(float, PlainRepresenter.represent_float)


def make_yaml() -> YAML:
    """Return the YAML reader and writer that keeps comments, quotes and order."""
    yaml = YAML(typ="rt", pure=True)
    yaml.Emitter = ScalarEmitter
    yaml.Representer = PlainRepresenter
    yaml.preserve_quotes = True
    yaml.width = 120
    return yaml
