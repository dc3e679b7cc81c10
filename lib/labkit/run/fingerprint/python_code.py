"""The meaning of Python code regardless of its formatting: its syntax tree as tokens, and the modules it imports.

The same for Python 3.11, 3.12 and 3.13, whose own dumps differ. Comments, layout and quotes are ignored; docstrings and
code under `if TYPE_CHECKING` count only if some code reads or sets them. Modules are located by
`labkit.run.fingerprint.import_graph`.
"""

import ast
import importlib.util
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from labkit.secrets.redaction import TOKENS
from labkit.storage.digests import digest

# Load, Store and Del follow from the position; the others are empty or describe how a string was written.
SKIPPED = frozenset({"ctx", "type_comment", "type_ignores"})


DOC_READERS = frozenset({"__doc__", "getdoc", "getsource", "getsourcelines", "render_doc", "use_attribute_docstrings"})


HELP = "help"
"""Reads docstrings if it is a name, not an attribute of something else."""


DOC_MAGICS = frozenset({"pdoc", "pinfo", "pinfo2"})
"""The magics into which IPython transforms `f?` and `f??`, and a similar one."""


TYPE_CHECKING = "TYPE_CHECKING"


RUNNABLE = (".py", ".ipynb")


LONGEST_PATH_NAME = 200


DEEPEST_JOIN = 20


PATH_MAKERS = frozenset({"Path", "PurePath", "join", "joinpath"})
"""Calls that join parts of a path, besides `/` and `+`."""


FILE_NAME = re.compile(r"(?!\w+:/)[^\0\r\n]{0,200}\.[A-Za-z][A-Za-z0-9]{0,9}")
"""A string that may be the name of a file and is not a URL."""


@dataclass(frozen=True)
class Import:
    """One import: `from module import names` with `level` dots before the module; without names `import module`."""

    level: int
    module: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Meaning:
    """The meaning of one file to those that import or run it.

    Attributes
    ----------
    code
        SHA-256 of the syntax tree without documentation.
    docs
        SHA-256 of the docstrings; they count if some module reads them.
    reads_docs
        Whether it reads docstrings.
    typing
        SHA-256 of the code under `if TYPE_CHECKING`; it counts if some module sets that.
    sets_typing
        Whether it sets `TYPE_CHECKING`.
    imports
        All imports, at any level.
    exports
        The names in `__all__`, which a star import imports.
    files
        Names of Python files and notebooks in its strings, such as the argument of `%run`.
    folders
        Strings in calls of `sys.path`'s methods: further folders to search for modules.
    names
        Strings that may name a file or its folder: audit hooks do not see what a C library opens.
    """

    code: str
    docs: str
    reads_docs: bool
    typing: str
    sets_typing: bool
    imports: tuple[Import, ...]
    exports: tuple[str, ...]
    files: tuple[str, ...]
    folders: tuple[str, ...]
    names: tuple[str, ...] = ()


class CodeReader:
    """Reads syntax trees node by node, without recursion, and collects what makes up a `Meaning`."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.docs: list[str] = []
        self.reads_docs = False
        self.typing: list[ast.AST] = []
        self.sets_typing = False
        self.imports: list[Import] = []
        self.exports: list[str] = []
        self.files: list[str] = []
        self.folders: list[str] = []
        self.names: list[str] = []

    def read(self, parts: Iterable[Any]) -> None:
        """Convert trees and tokens to tokens, in their order."""
        stack = list(parts)[::-1]
        while stack:
            part = stack.pop()
            if isinstance(part, str):
                self.tokens.append(part)
            else:
                stack.extend(self.open(part)[::-1])

    def open(self, node: ast.AST) -> list[Any]:
        """Return the tokens and trees of which a node consists."""
        note = NODE_HANDLERS.get(type(node))
        if note is not None:
            note(self, node)
        spell = SPELLINGS.get(type(node))
        return spell(node) if spell else self.open_fields(node)

    def open_fields(self, node: ast.AST) -> list[Any]:
        """Return the fields of a node that are set, by name."""
        parts: list[Any] = [f"{type(node).__name__}("]
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or name in SKIPPED or value == []:
                continue
            parts.append(f"{name}=")
            if isinstance(value, list):
                parts += ["[", *self.open_list(value), "]"]
            else:
                parts.append(value if isinstance(value, ast.AST) else repr(value))
        return [*parts, ")"]

    def open_list(self, items: list[Any]) -> list[Any]:
        """Return a list's items; a string used as a statement is documentation."""
        parts: list[Any] = []
        for item in items:
            if is_string_statement(item):
                self.docs.append(item.value.value)
            elif isinstance(item, ast.If) and is_for_type_checkers(item.test):
                self.typing += item.body
                parts += self.open_list(item.orelse)
            else:
                parts.append(item if isinstance(item, ast.AST) else repr(item))
        return parts

    def note_import(self, node: ast.Import) -> None:
        """Collect `import a.b`."""
        self.imports += [Import(0, alias.name) for alias in node.names]

    def note_import_from(self, node: ast.ImportFrom) -> None:
        """Collect `from a import b`."""
        self.imports.append(Import(node.level, node.module or "", tuple(alias.name for alias in node.names)))

    def note_call(self, node: ast.Call) -> None:
        """Collect a module imported by name, or a folder added to `sys.path`."""
        name, strings = find_name(node.func), [string for string in map(get_string, node.args) if string is not None]
        if name in ("import_module", "__import__") and strings:
            module = strings[0].lstrip(".")
            package = strings[1] if len(strings) > 1 else ""
            level = len(strings[0]) - len(module)
            self.imports.append(Import(0, f"{package}.{module}") if level == 1 and package else Import(level, module))
        elif name in ("append", "insert", "extend") and is_sys_path(node.func):
            found = [string for part in ast.walk(node) if (string := get_string(part)) is not None]
            self.folders += found
        elif name in PATH_MAKERS:
            self.note_names(*strings, join_strings(node))
        self.reads_docs |= bool(strings) and strings[0] in DOC_MAGICS

    def note_operation(self, node: ast.BinOp) -> None:
        """Collect a path or name joined from literals."""
        parts = (get_string(node.left), get_string(node.right)) if isinstance(node.op, ast.Div) else ()
        self.note_names(*parts, join_strings(node))

    def note_names(self, *strings: str | None) -> None:
        """Collect strings that may name a file or folder; not secret tokens, as the names are stored on disk."""
        named = [string for string in strings if string and len(string) <= LONGEST_PATH_NAME and string.isprintable()]
        self.names += [string for string in named if not TOKENS.search(string)]

    def note_word(self, node: ast.Name | ast.Attribute) -> None:
        """Detect code that reads docstrings."""
        self.reads_docs |= find_name(node) in DOC_READERS or (isinstance(node, ast.Name) and node.id == HELP)

    def note_constant(self, node: ast.Constant) -> None:
        """Collect names of files to run, and detect attribute names given to `getattr` and `setattr`."""
        self.reads_docs |= node.value in DOC_READERS if isinstance(node.value, str) else False
        self.sets_typing |= node.value == TYPE_CHECKING
        if isinstance(node.value, str) and FILE_NAME.fullmatch(node.value):
            self.names.append(node.value)
        if isinstance(node.value, str) and any(ending in node.value for ending in RUNNABLE):
            self.files += [word for word in node.value.split() if word.endswith(RUNNABLE)]

    def note_assign(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> None:
        """Collect the names of `__all__`, and detect whether `TYPE_CHECKING` is set."""
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        is_set = any(find_name(target) == TYPE_CHECKING for target in targets)
        self.sets_typing |= is_set and not (isinstance(node.value, ast.Constant) and not node.value.value)
        if node.value is not None and any(find_name(target) == "__all__" for target in targets):
            found = [string for part in ast.walk(node.value) if (string := get_string(part)) is not None]
            self.exports += found

    def close_typing(self) -> str:
        """Return a digest of the code under `if TYPE_CHECKING`, or an empty string; its imports are ignored."""
        if not self.typing:
            return ""
        inner = CodeReader()
        inner.read(self.typing)
        return inner.close().code

    def close(self) -> Meaning:
        """Return the meaning of all that was read."""
        return Meaning(
            code=digest(self.tokens),
            docs=digest(self.docs),
            reads_docs=self.reads_docs,
            typing=self.close_typing(),
            sets_typing=self.sets_typing,
            imports=tuple(dict.fromkeys(self.imports)),
            exports=tuple(dict.fromkeys(self.exports)),
            files=tuple(dict.fromkeys(self.files)),
            folders=tuple(dict.fromkeys(self.folders)),
            names=tuple(dict.fromkeys(self.names)),
        )


def parse_code(source: str) -> ast.Module | None:
    """Return the syntax tree of a source, None if it is not valid for this version of Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


@cache
def read_module(content: bytes) -> Meaning:
    """Return the meaning of a module; one with a syntax error is compared as a string."""
    reader = CodeReader()
    tree = parse_bytes(content)
    reader.read(["text", content.decode("utf-8", "surrogateescape")] if tree is None else [tree])
    return reader.close()


def parse_bytes(content: bytes) -> ast.Module | None:
    """Return the syntax tree of a file, which may declare its encoding."""
    try:
        return parse_code(importlib.util.decode_source(content))
    except (UnicodeDecodeError, SyntaxError, LookupError):
        return None


def is_string_statement(node: Any) -> bool:
    """Return whether a statement is only a string: a docstring, or documentation below an assignment."""
    return isinstance(node, ast.Expr) and get_string(node.value) is not None


def is_for_type_checkers(test: ast.expr) -> bool:
    """Return whether a condition is `TYPE_CHECKING`."""
    return find_name(test) == TYPE_CHECKING


def is_sys_path(function: ast.expr) -> bool:
    """Return whether a function is a method of `sys.path`."""
    return isinstance(function, ast.Attribute) and find_name(function.value) == "path"


def find_name(node: ast.expr) -> str:
    """Return the last part of a dotted name, empty for other expressions."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def get_string(node: ast.AST) -> str | None:
    """Return the value of a string literal, None for other nodes."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def join_strings(node: ast.AST, *, depth: int = DEEPEST_JOIN) -> str | None:
    """Return the string joined from literals by `+`, `/`, `Path(…)`, `join(…)` or an f-string, or None.

    >>> join_strings(ast.parse("Path('..') / 'tables' / ('rates' + '.parquet')", mode="eval").body)
    '../tables/rates.parquet'
    """
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
        parts, between = [node.left, node.right], "/" if isinstance(node.op, ast.Div) else ""
    elif isinstance(node, ast.Call) and find_name(node.func) in PATH_MAKERS and not node.keywords:
        parts, between = node.args, "/"
    elif isinstance(node, ast.JoinedStr):
        parts, between = node.values, ""
    elif isinstance(node, ast.FormattedValue) and node.format_spec is None:
        parts, between = [node.value], ""
    else:
        return get_string(node)
    strings = [join_strings(part, depth=depth - 1) if depth else None for part in parts]
    return None if None in strings else between.join(filter(None, strings))


def spell_constant(node: ast.Constant) -> list[Any]:
    """Return the tokens of a literal; `repr` differs between versions for strings and fails for huge integers."""
    value: Any = node.value
    kind = type(value).__name__
    if isinstance(value, str):
        return [f"str:{value}"]
    if isinstance(value, int):
        return [f"{kind}:{value:x}"]
    if isinstance(value, complex):
        return [f"{kind}:{value.real.hex()}:{value.imag.hex()}"]
    return [f"{kind}:{value.hex() if isinstance(value, float | bytes) else value}"]


def spell_joined(node: ast.JoinedStr) -> list[Any]:
    """Return the tokens of an f-string, its constant parts joined: versions split them differently."""
    parts: list[Any] = ["JoinedStr["]
    string = ""
    for value in flatten(node):
        if isinstance(value, ast.Constant):
            string += str(value.value)
            continue
        parts += [f"str:{string}", value] if string else [value]
        string = ""
    return [*parts, *([f"str:{string}"] if string else []), "]"]


def flatten(node: ast.JoinedStr) -> list[ast.expr]:
    """Return the parts of an f-string, including those of directly nested f-strings."""
    parts: list[ast.expr] = []
    for value in node.values:
        parts += flatten(value) if isinstance(value, ast.JoinedStr) else [value]
    return parts


def spell_formatted(node: ast.FormattedValue) -> list[Any]:
    """Return the tokens of a value in an f-string; an empty format counts as missing."""
    spec = node.format_spec
    is_given = isinstance(spec, ast.JoinedStr) and any(getattr(part, "value", "") != "" for part in flatten(spec))
    return ["{", node.value, f"!{node.conversion}", *([":", spec] if is_given else []), "}"]


SPELLINGS: dict[type, Any] = {
    ast.Constant: spell_constant,
    ast.JoinedStr: spell_joined,
    ast.FormattedValue: spell_formatted,
}


NODE_HANDLERS: dict[type, Any] = {
    ast.Import: CodeReader.note_import,
    ast.ImportFrom: CodeReader.note_import_from,
    ast.Call: CodeReader.note_call,
    ast.BinOp: CodeReader.note_operation,
    ast.Name: CodeReader.note_word,
    ast.Attribute: CodeReader.note_word,
    ast.Constant: CodeReader.note_constant,
    ast.Assign: CodeReader.note_assign,
    ast.AugAssign: CodeReader.note_assign,
    ast.AnnAssign: CodeReader.note_assign,
}
