"""What ``auto_complete_config`` of a ``model.py`` does to the config, as far as its syntax tree alone tells.

The functions that complete a config mostly consist of literals: lists of tensors, a loop that adds them, a batch size.
Such a function is followed statement by statement over plain values; nothing of the file is run. At the first thing
that is not a literal the outcome is unknown. The calls do what ``ModelConfig`` of the server's
``triton_python_backend_utils.py`` does.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge_generator.lint.completion import normalise
from tritonforge_generator.lint.proto import Message, ModelConfig, enum_name, schema
from tritonforge_generator.python_syntax import PythonSource, call_failure

COMPLETION: Final = "auto_complete_config"
_MOST_STEPS: Final = 10_000
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("name", "data_type", "dims", "optional"),
    "output": ("name", "data_type", "dims"),
}
_METHODS: Final = frozenset(
    {"as_dict", "set_max_batch_size", "set_dynamic_batching", "add_input", "add_output", "set_model_transaction_policy"}
)


@dataclass(frozen=True, slots=True)
class PythonFailure:
    """Why the server refuses what ``auto_complete_config`` does.

    Attributes:
        rule: Id of the rule that it breaks.
        values: Fill the placeholders of the rule's texts.
        line: 1-based line in the Python file.
        column: 1-based column.
    """

    rule: str
    values: Mapping[str, Any]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class PythonCompletion:
    """What becomes of the config.

    Attributes:
        config: The completed config; ``None`` when it is refused.
        failure: Why it is refused; ``None`` when it is not.
    """

    config: ModelConfig | None
    failure: PythonFailure | None = None


def completed_by_python(config: ModelConfig, source: PythonSource) -> PythonCompletion | None:
    """Follow a model's ``auto_complete_config``.

    Args:
        config: The config before; it is not changed.
        source: The model's Python file.

    Returns:
        The outcome, or ``None`` when only running the file would tell.
    """
    method = source.methods.get(COMPLETION)
    if method is None or isinstance(method.node, ast.AsyncFunctionDef):
        return None
    if call_failure(method, 1, on_class=True) != "" or any(
        isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(method.node)
    ):
        return None
    parameters = (*method.node.args.posonlyargs, *method.node.args.args)
    index = int(method.kind == "class")
    if index >= len(parameters):
        return None
    completing = _Config(config)
    follower = _Follower({parameters[index].arg: completing})
    try:
        returned = follower.run(method.node.body)
        if returned is None or returned.value is not completing:
            place = method.node if returned is None else returned.node
            return PythonCompletion(None, PythonFailure("Y8", {}, place.lineno, place.col_offset + 1))
        return PythonCompletion(completing.completed())
    except _RefusedError as refused:
        node = follower.calls[-1]
        return PythonCompletion(None, PythonFailure(refused.rule, refused.values, node.lineno, node.col_offset + 1))
    except (_UnknownError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError):
        # Values that the functions do not take: Python would raise something of its own.
        return None


class _UnknownError(Exception):
    """Only running the file would tell."""


class _RefusedError(Exception):
    def __init__(self, rule: str, **values: Any) -> None:
        super().__init__(rule)
        self.rule = rule
        self.values = values


class _Shown(dict[str, Any]):
    """A part of the server's JSON; what is not known of it is not known to be absent either."""

    def __missing__(self, key: str) -> Any:
        raise _UnknownError

    def __contains__(self, key: object) -> bool:
        if not super().__contains__(key):
            raise _UnknownError
        return True


class _Config:
    """Does what ``ModelConfig`` of the Python back-end does, and refuses what it refuses."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._batching = config.WhichOneof("scheduling_choice") or ""
        has_policy = config.HasField("model_transaction_policy")
        self._decoupled = bool(config.model_transaction_policy.decoupled) if has_policy else None
        self._shown = _Shown(
            name=config.name,
            max_batch_size=config.max_batch_size,
            input=[_shown(tensor, "input") for tensor in config.input],
            output=[_shown(tensor, "output") for tensor in config.output],
        )

    def as_dict(self) -> dict[str, Any]:
        return self._shown

    def set_max_batch_size(self, size: int) -> None:
        configured = self._shown["max_batch_size"]
        if configured > size:
            raise _RefusedError("Y9", configured=configured, completed=size)
        self._shown["max_batch_size"] = size

    def set_dynamic_batching(self) -> None:
        if self._batching not in {"", "dynamic_batching"}:
            raise _RefusedError("Y10", scheduler=self._batching)
        self._batching = "dynamic_batching"

    def add_input(self, tensor: dict[str, Any]) -> None:
        self._add("input", tensor)

    def add_output(self, tensor: dict[str, Any]) -> None:
        self._add("output", tensor)

    def set_model_transaction_policy(self, policy: dict[str, Any]) -> None:
        if set(policy) - {"decoupled"}:
            raise _RefusedError("Y15")
        if "decoupled" in policy:
            if self._decoupled not in {None, policy["decoupled"]}:
                raise _RefusedError("Y16", configured=self._decoupled)
            self._decoupled = bool(policy["decoupled"])

    def _add(self, kind: str, tensor: dict[str, Any]) -> None:
        known = _KEYS[kind]
        if set(tensor) - set(known):
            if "name" not in tensor:
                raise _UnknownError
            quoted = [f"'{key}'" for key in known]
            allowed = f"{', '.join(quoted[:-1])} and {quoted[-1]}"
            raise _RefusedError("Y11", kind=kind, tensor=tensor["name"], allowed=allowed)
        for key in ("name", "data_type", "dims"):
            if key not in tensor:
                what = f"{kind} '{tensor['name']}'" if key != "name" else kind
                raise _RefusedError("Y12", what=what, key=key)
        entries: list[dict[str, Any]] = self._shown[kind]
        configured = next((entry for entry in entries if entry["name"] == tensor["name"]), None)
        if configured is None:
            entries.append(tensor)
            return
        _check_agreement(kind, configured, tensor)
        configured.update(tensor)

    def completed(self) -> ModelConfig:
        """Return the config as the server takes it over.

        Raises:
            _UnknownError: A value is of no type that the server takes.
        """
        config = schema().ModelConfig()
        config.CopyFrom(self._config)
        config.max_batch_size = self._shown["max_batch_size"]
        for kind in ("input", "output"):
            _fill(getattr(config, kind), self._shown[kind])
        if self._batching == "dynamic_batching":
            config.dynamic_batching.SetInParent()
        if self._decoupled is not None:
            config.model_transaction_policy.decoupled = self._decoupled
        normalise(config)
        return config


def _shown(tensor: Message, kind: str) -> dict[str, Any]:
    shown = _Shown(name=tensor.name, data_type=enum_name(tensor, "data_type"), dims=list(tensor.dims))
    if kind == "input":
        shown["optional"] = tensor.optional
    return shown


def _check_agreement(kind: str, configured: dict[str, Any], tensor: dict[str, Any]) -> None:
    name = tensor["name"]
    if configured["data_type"] not in {"TYPE_INVALID", tensor["data_type"]}:
        values = {"configured": configured["data_type"], "completed": tensor["data_type"]}
        raise _RefusedError("Y13", kind=kind, tensor=name, **values)
    for key in ("dims", "optional"):
        if key not in tensor or key not in configured or (key == "dims" and not configured["dims"]):
            continue
        if configured[key] != tensor[key]:
            raise _RefusedError("Y14", tensor=name, what=key, configured=configured[key], completed=tensor[key])


def _fill(entries: Any, tensors: Sequence[Mapping[str, Any]]) -> None:
    known = schema().ModelInput.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
    for index, tensor in enumerate(tensors):
        if tensor["data_type"] not in known or any(type(size) is not int for size in tensor["dims"]):
            raise _UnknownError
        entry = entries[index] if index < len(entries) else entries.add()
        entry.name = tensor["name"]
        entry.data_type = tensor["data_type"]
        del entry.dims[:]
        entry.dims.extend(tensor["dims"])
        if dict.get(dict(tensor), "optional", False):
            entry.optional = True


@dataclass(frozen=True, slots=True)
class _Returned:
    value: Any
    node: ast.Return


@dataclass
class _Follower:
    """Follows statements over plain values.

    Attributes:
        variables: Values by name.
        calls: Every call so far.
        steps: How many statements were followed.
    """

    variables: dict[str, Any]
    calls: list[ast.Call] = field(default_factory=list)
    steps: int = 0

    def run(self, body: Sequence[ast.stmt]) -> _Returned | None:
        """Follow statements until one returns.

        Raises:
            _UnknownError: One of them is not followed here.
        """
        for statement in body:
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise _UnknownError
            returned = self._statement(statement)
            if returned is not None:
                return returned
        return None

    def _statement(self, statement: ast.stmt) -> _Returned | None:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return None
            case ast.Expr(value=value):
                self._value(value)
                return None
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.variables[name] = self._value(value)
                return None
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self.variables[name] = self._value(value)
                return None
            case ast.If(test=test, body=body, orelse=orelse):
                return self.run(body if self._value(test) else orelse)
            case ast.For(target=ast.Name(id=name), iter=items, body=body, orelse=[]):
                for item in self._items(items):
                    self.variables[name] = item
                    returned = self.run(body)
                    if returned is not None:
                        return returned
                return None
            case ast.Return(value=value):
                return _Returned(None if value is None else self._value(value), statement)
        raise _UnknownError

    def _items(self, node: ast.expr) -> Sequence[Any]:
        items = self._value(node)
        if not isinstance(items, list | tuple):
            raise _UnknownError
        return items

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in self.variables:
                return self.variables[name]
            case ast.List(elts=items):
                return [self._value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self._value(item) for item in items)
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self._value(key): self._value(value) for key, value in pairs if key is not None}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _compared(op, self._value(left), self._value(right))
            case ast.Subscript(value=container, slice=key):
                return self._item(self._value(container), self._value(key))
            case ast.Call():
                return self._called(node)
        raise _UnknownError

    def _item(self, container: Any, key: Any) -> Any:
        if not isinstance(container, dict | list | tuple):
            raise _UnknownError
        try:
            return container[key]
        except (KeyError, IndexError) as error:
            raise _UnknownError from error

    def _called(self, node: ast.Call) -> Any:
        match node:
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                return {word.arg: self._value(word.value) for word in keywords if word.arg is not None}
            case ast.Call(func=ast.Attribute(value=owner, attr=name), args=arguments, keywords=[]):
                target = self._value(owner)
                values = [self._value(argument) for argument in arguments]
                self.calls.append(node)
                if isinstance(target, _Config) and name in _METHODS:
                    return getattr(target, name)(*values)
                if isinstance(target, list) and name == "append":
                    return target.append(*values)
        raise _UnknownError


def _compared(op: ast.cmpop, left: Any, right: Any) -> bool:
    match op:
        case ast.Eq():
            return bool(left == right)
        case ast.NotEq():
            return bool(left != right)
        case ast.In():
            return left in right
        case ast.NotIn():
            return left not in right
    raise _UnknownError
