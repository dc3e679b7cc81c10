"""Names that a notebook uses but, run from top to bottom in a fresh kernel, would not have defined.

Such as those of cells that were deleted or moved while the kernel kept its variables. Read from the syntax trees, and
cautious: a name that may be defined is not reported, and after a star import or `%run` nothing is.
"""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Sequence

from labkit.run.fingerprint.python_code import find_name, get_string
from labkit.run.saved_cells.code_cells import CodeCell, Finding

KNOWN = frozenset({
    *dir(builtins), "In", "Out", "display", "exit", "get_ipython", "quit",
    "__name__", "__doc__", "__builtins__", "__annotations__",
})  # fmt: skip
"""Names that every kernel has."""
HISTORY = re.compile(r"_+|_i+|_i?\d+|_[ido]h")
"""IPython's names of earlier inputs and results."""
DEFINES_UNSEEN = frozenset({"run", "load", "store", "pylab", "macro", "reset", "sql", "bash", "script", "R"})
"""Magics that may define names."""
DEFINERS = frozenset({"exec", "globals", "run_cell", "push"})
"""Calls that may define names."""
CATCHES = frozenset({"NameError", "Exception", "BaseException"})

ALIKE = {
    "AsyncFor": "For",
    "AsyncFunctionDef": "FunctionDef",
    "DictComp": "ListComp",
    "GeneratorExp": "ListComp",
    "ImportFrom": "Import",
    "MatchStar": "MatchAs",
    "SetComp": "ListComp",
    "TryStar": "Try",
}
"""Kinds of nodes that are read like another kind."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class NameReader(ast.NodeVisitor):
    """Reads statements in the order in which they run, and notes the names that are used before they are defined.

    Attributes
    ----------
    missing
        Names with the line of their first use.
    deferred
        Names used inside functions, which need to be defined only when the function is called.
    is_open
        Whether names may be defined in ways that are not seen.
    """

    def __init__(self, defined: set[str]) -> None:
        self.scopes = [defined]
        self.missing: list[tuple[str, int]] = []
        self.deferred: list[tuple[str, int]] = []
        self.is_open = False

    def bind(self, name: str) -> None:
        """Note that a name is defined from here on."""
        self.scopes[-1].add(name)

    def visit(self, node: ast.AST) -> None:
        """Visit a node with the method of its kind."""
        kind = type(node).__name__
        getattr(self, f"visit_{ALIKE.get(kind, kind)}", self.generic_visit)(node)

    def visit_Module(self, node: ast.Module) -> None:
        """Visit the statements; only a deletion outside of branches certainly happens."""
        for statement in node.body:
            self.visit(statement)
            if isinstance(statement, ast.Delete):
                self.scopes[0] -= find_bound(ast.walk(statement))

    def visit_Name(self, node: ast.Name) -> None:
        """Note a use or a definition."""
        if isinstance(node.ctx, ast.Store):
            self.bind(node.id)
        elif not any(node.id in scope for scope in self.scopes):
            self.missing.append((node.id, node.lineno))

    def visit_in_order(self, *parts: ast.AST | Sequence[ast.AST | None] | None) -> None:
        """Visit nodes and lists of nodes, in the order in which Python evaluates them."""
        for part in parts:
            for node in part if isinstance(part, Sequence) else [part]:
                if node is not None:
                    self.visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Visit the value before the targets."""
        self.visit_in_order(node.value, node.targets)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Visit annotation and value; without a value nothing is defined."""
        self.visit_in_order(node.annotation, node.value, node.target if node.value else None)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Treat the target as used before it is set."""
        if isinstance(node.target, ast.Name):
            self.visit(ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target))
        self.visit_in_order(node.value, node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        """Define the target outside of a comprehension."""
        self.visit(node.value)
        self.scopes[0].add(node.target.id)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        """Visit what is looped over before the target."""
        self.visit_in_order(node.iter, node.target, node.body, node.orelse)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Define the imported names."""
        for alias in node.names:
            if alias.name == "*":
                self.is_open = True
            else:
                self.bind(alias.asname or alias.name.partition(".")[0])

    def visit_Try(self, node: ast.Try) -> None:
        """Visit a block; if it catches a missing name, a missing one is intended."""
        n_before = len(self.missing)
        self.visit_in_order(node.body)
        caught = {find_name(part) for one in node.handlers for part in ([one.type] if one.type else [])}
        named = {
            part.id for one in node.handlers if one.type for part in ast.walk(one.type) if isinstance(part, ast.Name)
        }
        if CATCHES & (caught | named) or any(one.type is None for one in node.handlers):
            del self.missing[n_before:]
        self.visit_in_order(node.handlers, node.orelse, node.finalbody)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Define the name of the exception."""
        self.visit_in_order(node.type)
        if node.name:
            self.bind(node.name)
        self.visit_in_order(node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Visit decorators and defaults, and defer the body."""
        self.visit_in_order(node.decorator_list)
        self.defer(node)
        self.bind(node.name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Visit the defaults, and defer the body."""
        self.defer(node)

    def defer(self, node: Function) -> None:
        """Note the names that a function takes from outside; any that it binds somewhere counts as its own."""
        self.visit_in_order(node.args.defaults, node.args.kw_defaults)
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
        inner = [part for statement in body for part in ast.walk(statement)]
        own = find_bound([*ast.walk(node.args), *inner]) | set().union(*self.scopes[1:])
        for part in inner:
            if isinstance(part, ast.Global):
                self.scopes[0].update(part.names)
            elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in own:
                self.deferred.append((part.id, part.lineno))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the body with names of its own."""
        self.visit_in_order(node.decorator_list)
        self.scopes.append({"__module__", "__qualname__", "__class__", *list_type_parameters(node)})
        self.visit_in_order(node.bases, node.keywords, node.body)
        self.scopes.pop()
        self.bind(node.name)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        """Visit the loops before the element, with names of their own."""
        self.scopes.append(set())
        for loop in node.generators:
            self.visit_in_order(loop.iter, loop.target, loop.ifs)
        element = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self.visit_in_order(element)
        self.scopes.pop()

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        """Define the name of a pattern."""
        self.generic_visit(node)
        if node.name:
            self.bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        """Define the name of the rest of a mapping."""
        self.generic_visit(node)
        if node.rest:
            self.bind(node.rest)

    def visit_Call(self, node: ast.Call) -> None:
        """Note calls and magics that define names unseen."""
        name = find_name(node.func)
        magic = get_string(node.args[0]) if node.args and name in ("run_line_magic", "run_cell_magic") else None
        if name in DEFINERS or magic in DEFINES_UNSEEN:
            self.is_open = True
        self.generic_visit(node)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        """Define the name of a type, whose value is evaluated only when it is asked for."""
        self.bind(node.name.id)  # type: ignore[attr-defined]


def list_type_parameters(node: ast.AST) -> list[str]:
    """Return the names of type parameters, which Python has from 3.12 on."""
    return [part.name for part in getattr(node, "type_params", [])]


def find_bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Return every name that some nodes bind, in whatever scope."""
    bound: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound |= {node.name, "__class__", *list_type_parameters(node)}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
    return bound


def find_undefined(cells: Sequence[CodeCell]) -> Iterator[Finding]:
    """Yield a finding for each name that a run from top to bottom would not find defined, at its first use.

    Parameters
    ----------
    cells
        The code cells in their order.
    """
    defined, reported, deferred = set(KNOWN), set[str](), dict[str, tuple[CodeCell, int]]()
    for position, cell in enumerate(cells):
        if cell.tree is None or not cell.is_run:
            continue
        defined |= cell.bound
        reader = NameReader(defined)
        reader.visit(cell.tree)
        for name, line in reader.missing:
            if name not in reported and not HISTORY.fullmatch(name):
                reported.add(name)
                defined.add(name)
                yield cell.find(line, "undefined", describe_undefined(name, cells[position:], cell), name=name)
        for name, line in reader.deferred:
            deferred.setdefault(name, (cell, line))
        if reader.is_open:
            return
    for name, (cell, line) in deferred.items():
        if name not in defined and not HISTORY.fullmatch(name):
            yield cell.find(line, "undefined", f"{name} is defined nowhere in the notebook", name=name)


def describe_undefined(name: str, below: Sequence[CodeCell], cell: CodeCell) -> str:
    """Describe a name that is used before it is defined."""
    for later in below:
        if later.tree is not None and name in find_bound(ast.walk(later.tree)):
            where = "further down in this cell" if later is cell else f"in cell {later.number}, below"
            return f"{name} is used here and defined only {where}"
    return f"{name} is defined nowhere in the notebook"
