"""What a ``model.py`` says about itself, read from its syntax tree; nothing of it is ever imported or run."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

CLASS: Final = "TritonPythonModel"
_LARGEST_BYTES: Final = 4 * 1024 * 1024
# With these, code can define a class or a method out of sight: names, and attributes of whatever object.
_REFLECTION: Final = frozenset(
    {
        *("globals", "setattr", "exec", "eval", "vars", "locals", "modules", "builtins", "__builtins__"),
        *("__getattr__", "__getattribute__"),
    }
)
_REFLECTING_ATTRIBUTES: Final = frozenset({"__dict__", "__getattr__", "__setattr__", "__builtins__", "f_globals"})
# What Python 3.12 takes and the Python that runs the linter may refuse.
_NEWER: Final = re.compile(r"\s*(type\s+\w|(async\s+)?def\s+\w+\s*\[|class\s+\w+\s*\[|except\s*\*)")

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"


@dataclass(frozen=True, slots=True)
class PythonSlip:
    """Why Python refuses the file.

    Attributes:
        message: As the server says it, for example ``"SyntaxError: invalid syntax (model.py, line 3)"``.
        line: 1-based line.
        column: 1-based column.
    """

    message: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Method:
    """A method that the class defines in plain sight.

    Attributes:
        node: Its definition.
        kind: What it is bound to when the server calls it.
    """

    node: Function
    kind: Literal["instance", "class", "static"]

    @property
    def line(self) -> int:
        """1-based line."""
        return self.node.lineno

    @property
    def column(self) -> int:
        """1-based column."""
        return self.node.col_offset + 1

    def returned_lists(self) -> Iterator[tuple[int, int]]:
        """Yield the 1-based line and column of every ``return`` of a list in plain sight."""
        for node in self._own_nodes():
            if isinstance(node, ast.Return) and isinstance(node.value, ast.List | ast.ListComp):
                yield node.lineno, node.col_offset + 1

    def calls_of_models(self) -> Iterator[tuple[int, int]]:
        """Yield the 1-based line and column of every request to another model that is sent in plain sight."""
        requests = {
            target.id
            for node in self._own_nodes()
            if isinstance(node, ast.Assign) and _makes_request(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in self._own_nodes():
            match node:
                case ast.Call(func=ast.Attribute(value=request, attr="exec" | "async_exec")):
                    if _makes_request(request) or (isinstance(request, ast.Name) and request.id in requests):
                        yield node.lineno, node.col_offset + 1

    def _own_nodes(self) -> Iterator[ast.AST]:
        """Walk the method without the functions and classes inside it."""
        waiting: list[ast.AST] = [*self.node.body]
        while waiting:
            node = waiting.pop(0)
            yield node
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                waiting += ast.iter_child_nodes(node)


def _makes_request(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name == "InferenceRequest"
    return False


@dataclass(frozen=True, slots=True)
class PythonSource:
    """One Python file that the back-end is to serve.

    Attributes:
        path: The file.
        has_class: Whether it defines ``TritonPythonModel``; ``None`` when only running it would tell.
        line: 1-based line of the class; 1 without one in plain sight.
        methods: The methods whose signature is known, by name.
        hidden: Names that the class binds in another way or to something that a decorator makes, and attributes that
            are assigned anywhere.
        closed: Whether the class has no methods but these.
    """

    path: Path
    has_class: bool | None
    line: int
    methods: Mapping[str, Method]
    hidden: frozenset[str]
    closed: bool

    def has(self, name: str) -> bool | None:
        """Whether the class has a method; ``None`` when only running the file would tell."""
        if name in self.methods or name in self.hidden:
            return True
        return False if self.closed else None

    @property
    def completes(self) -> bool:
        """Whether the class may have ``auto_complete_config``."""
        return self.has("auto_complete_config") is not False


def python_from_file(path: Path | None) -> PythonSource | PythonSlip | None:
    """Read a Python file's syntax tree.

    Args:
        path: The file; ``None`` for one that must not be read.

    Returns:
        What it defines, or why Python refuses it. ``None`` when it cannot be opened, is larger than any model file is,
        or uses a syntax that this Python may be too old for.
    """
    if path is None:
        return None
    try:
        # Reading a pipe, for example, never ends.
        content = path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST_BYTES else None
    except OSError:
        return None
    if content is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content, path.name)
            # Some slips, such as a `return` outside of a function, come to light only here. Nothing is run.
            compile(tree, path.name, "exec", dont_inherit=True)
    except SyntaxError as error:
        newer = error.msg.startswith("f-string") or _NEWER.match(error.text or "") is not None
        if newer and sys.version_info < (3, 12):
            return None
        return PythonSlip(f"{type(error).__name__}: {error}", error.lineno or 1, error.offset or 1)
    except ValueError as error:
        return PythonSlip(f"SyntaxError: {error}", 1, 1)
    except (RecursionError, MemoryError):
        return None
    return _source(path, tree)


def _source(path: Path, tree: ast.Module) -> PythonSource:
    nodes = list(ast.walk(tree))
    bound = [name for node in nodes for name in _bound(node)]
    reflects = any(_reflects(node) for node in nodes)
    top = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == CLASS]
    if len(top) == 1 and bound.count(CLASS) == 1:
        # `TritonPythonModel.execute = run` and `self.execute = run` make a method too.
        assigned = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        return _class(path, top[0], assigned, closed=not reflects)
    is_bound = CLASS in bound or "*" in bound
    has_class = None if is_bound or reflects else False
    return PythonSource(path, has_class, 1, {}, frozenset(), closed=False)


def _class(path: Path, node: ast.ClassDef, assigned: set[str], *, closed: bool) -> PythonSource:
    methods: dict[str, Method] = {}
    hidden = set(assigned)
    for statement in node.body:
        method = _method(statement)
        if method is not None and method.node.name not in methods:
            methods[method.node.name] = method
            continue
        for inner in _own(statement):
            hidden |= _bound(inner)
    for name in hidden:
        methods.pop(name, None)
    bases = [base for base in node.bases if not (isinstance(base, ast.Name) and base.id == "object")]
    closed = closed and not bases and not node.keywords and not node.decorator_list
    return PythonSource(path, True, node.lineno, methods if not node.decorator_list else {}, frozenset(hidden), closed)


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """Walk a statement of a class without the bodies of its functions."""
    yield statement
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from _own(child)
            else:
                yield from ast.walk(child)


def _method(statement: ast.stmt) -> Method | None:
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    decorators = [node.id if isinstance(node, ast.Name) else "" for node in statement.decorator_list]
    match decorators:
        case []:
            return Method(statement, "instance")
        case ["staticmethod"]:
            return Method(statement, "static")
        case ["classmethod"]:
            return Method(statement, "class")
    return None


def _bound(node: ast.AST) -> set[str]:
    """Name what a node binds; ``*`` stands for an import of everything."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Name(id=name, ctx=ast.Store()) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return {name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return set()


def _reflects(node: ast.AST) -> bool:
    """Whether a node can define a class or a method out of sight; `model.eval()` and `request.exec()` cannot."""
    match node:
        case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.alias(name=name):
            return name in _REFLECTION
        case ast.Attribute(value=ast.Name(), attr="modules"):  # of `sys`, whatever it is called
            return True
        case ast.Attribute(attr=name):
            return name in _REFLECTING_ATTRIBUTES
    return False


def call_failure(method: Method, arguments: int, *, on_class: bool = False) -> str:
    """Say how Python refuses a call with positional arguments.

    Args:
        method: The method.
        arguments: How many arguments the server passes.
        on_class: Whether it calls the method of the class, not of an instance.

    Returns:
        The ``TypeError`` as the server reports it; empty when the call is taken.
    """
    node = method.node.args
    names = [argument.arg for argument in (*node.posonlyargs, *node.args)]
    required = len(names) - len(node.defaults)
    given = arguments + (method.kind == "class" or (method.kind == "instance" and not on_class))
    label = f"TypeError: {CLASS}.{method.node.name}()"
    if given > len(names) and node.vararg is None:
        takes = str(required) if required == len(names) else f"from {required} to {len(names)}"
        plural = "" if takes == "1" else "s"
        return f"{label} takes {takes} positional argument{plural} but {given} {'was' if given == 1 else 'were'} given"
    missing = names[given:required]
    keywords = [arg.arg for arg, default in zip(node.kwonlyargs, node.kw_defaults, strict=True) if default is None]
    for kind, left in (("positional", missing), ("keyword-only", keywords)):
        if left:
            plural = "" if len(left) == 1 else "s"
            return f"{label} missing {len(left)} required {kind} argument{plural}: {_listed(left)}"
    return ""


def _listed(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    if len(quoted) <= 2:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
