"""S: sequence batching."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule

# The server looks for one kind after the other and checks names and kinds anew each time.
_BOOLEAN_KINDS: Final = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_READY")
_CORRID: Final = "CONTROL_SEQUENCE_CORRID"
_VALUES: Final = ("int32_false_true", "fp32_false_true", "bool_false_true")
_CORRID_TYPES: Final = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def _given(control: Message) -> list[str]:
    return [name for name in _VALUES if len(getattr(control, name)) > 0]


def _controls(model: Model) -> Iterator[tuple[str, tuple[int, ...], str, Message]]:
    """Yield ``(kind, place in the server's order, path, control)`` for every control of every tensor."""
    kinds = (*_BOOLEAN_KINDS, _CORRID)
    for i, tensor in enumerate(model.config.sequence_batching.control_input):
        for j, control in enumerate(tensor.control):
            kind = enum_name(control, "kind")
            if kind in kinds:
                path = f"sequence_batching.control_input[{i}].control[{j}]"
                yield kind, (kinds.index(kind), i, 1, j), path, control


@rule(
    "S1", text="sequence batching control tensor must have a name for {model}", fix="Give the control input a `name`."
)
def control_has_a_name(model: Model) -> Iterator[Hit]:
    """Every ``control_input`` names its tensor."""
    for i, tensor in enumerate(model.config.sequence_batching.control_input):
        if tensor.name == "":
            yield Hit(f"sequence_batching.control_input[{i}]", at=(0, i, 0, 0))


@rule(
    "S2",
    text="sequence batching control tensor '{tensor}' is specified for multiple control kinds for {model}",
    fix="Put the controls of one tensor into one `control_input`, or name another tensor.",
)
def control_tensor_is_unique(model: Model) -> Iterator[Hit]:
    """A tensor stands in one ``control_input`` only."""
    seen: set[str] = set()
    for i, tensor in enumerate(model.config.sequence_batching.control_input):
        if tensor.name != "" and tensor.name in seen:
            yield Hit(f"sequence_batching.control_input[{i}].name", {"tensor": tensor.name}, at=(0, i, 0, 0))
        seen.add(tensor.name)


@rule(
    "S3",
    text="sequence batching specifies multiple {kind} tensors for {model}",
    fix="Keep one; a control without `kind` is CONTROL_SEQUENCE_START.",
)
def control_kind_is_unique(model: Model) -> Iterator[Hit]:
    """Every kind of control is given once."""
    seen: set[str] = set()
    for kind, at, path, _ in _controls(model):
        if kind in seen:
            yield Hit(f"{path}.kind", {"kind": kind}, at=at)
        seen.add(kind)


@rule(
    "S4",
    text="sequence batching must specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for {kind} "
    "for {model}",
    fix="Say which values stand for false and true, for example `int32_false_true: [0, 1]`.",
)
def control_has_values(model: Model) -> Iterator[Hit]:
    """START, END and READY say which values stand for false and true."""
    for kind, at, path, control in _controls(model):
        if kind in _BOOLEAN_KINDS and not _given(control):
            yield Hit(path, {"kind": kind}, at=at)


@rule(
    "S5",
    text="sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
    "'bool_false_true' for {kind} for {model}",
    fix="Keep the one of the tensor's type.",
)
def control_has_one_type(model: Model) -> Iterator[Hit]:
    """START, END and READY have values of one type."""
    for kind, at, path, control in _controls(model):
        if kind in _BOOLEAN_KINDS and len(_given(control)) > 1:
            yield Hit(f"{path}.{_given(control)[1]}", {"kind": kind}, at=at)


def _two_entries(name: str) -> Callable[[Model], Iterator[Hit]]:
    def check(model: Model) -> Iterator[Hit]:
        for kind, at, path, control in _controls(model):
            values = getattr(control, name)
            if kind in _BOOLEAN_KINDS and _given(control) == [name] and len(values) != 2:
                yield Hit(f"{path}.{name}", {"kind": kind}, at=at)

    check.__doc__ = f"``{name}`` has two entries: the value for false and the value for true."
    return check


for _rule_id, _name in zip(("S6", "S7", "S8"), _VALUES, strict=True):
    rule(
        _rule_id,
        text=f"sequence batching control '{_name}' must have exactly 2 entries for {{kind}} for {{model}}",
        fix="Write the value for false, then the value for true.",
    )(_two_entries(_name))


@rule(
    "S9",
    text="sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for "
    "{kind} for {model}",
    fix="Write `data_type` instead: the correlation id is a value, not a flag.",
)
def correlation_id_has_no_values(model: Model) -> Iterator[Hit]:
    """CORRID carries an id, so it has a ``data_type`` and no values for false and true."""
    for kind, at, path, control in _controls(model):
        if kind == _CORRID and _given(control):
            yield Hit(f"{path}.{_given(control)[0]}", {"kind": kind}, at=at)


@rule(
    "S10",
    text="unexpected data type for control CONTROL_SEQUENCE_CORRID for {model}. Allowed data types are TYPE_UINT64, "
    "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
    fix="Write one of these types; TYPE_UINT64 is what clients send by default.",
)
def correlation_id_type_is_allowed(model: Model) -> Iterator[Hit]:
    """CORRID has an integer or a string type."""
    for kind, at, path, control in _controls(model):
        if kind == _CORRID and enum_name(control, "data_type") not in _CORRID_TYPES:
            yield Hit(f"{path}.data_type", at=at)


@rule(
    "S11",
    text="sequence batching preferred batch size must be positive for {model}",
    fix="Remove the entry {size}.",
)
def oldest_preferred_size_is_positive(model: Model) -> Iterator[Hit]:
    """Every ``oldest.preferred_batch_size`` is at least 1."""
    for index, size in enumerate(model.config.sequence_batching.oldest.preferred_batch_size):
        if size <= 0:
            yield Hit(f"sequence_batching.oldest.preferred_batch_size[{index}]", {"size": size}, at=(index,))


@rule(
    "S12",
    text="sequence batching preferred batch size must be <= max batch size for {model}",
    fix="Lower {size} to max_batch_size ({limit}) or raise max_batch_size.",
)
def oldest_preferred_size_is_allowed(model: Model) -> Iterator[Hit]:
    """No ``oldest.preferred_batch_size`` is above ``max_batch_size``."""
    limit = model.config.max_batch_size
    for index, size in enumerate(model.config.sequence_batching.oldest.preferred_batch_size):
        if size > max(limit, 0):
            values = {"size": size, "limit": limit}
            yield Hit(f"sequence_batching.oldest.preferred_batch_size[{index}]", values, at=(index,))


@rule(
    "S13",
    text="sequence batching minimum slot utilization must be in range (0.0, 1.0] for {model}",
    fix="Write a share between 0 and 1.",
)
def slot_utilization_is_a_share(model: Model) -> Iterator[Hit]:
    """``direct.minimum_slot_utilization`` is between 0 and 1; the server accepts 0 whatever its text says."""
    utilization = model.config.sequence_batching.direct.minimum_slot_utilization
    if utilization < 0.0 or utilization > 1.0:
        yield Hit("sequence_batching.direct.minimum_slot_utilization")
