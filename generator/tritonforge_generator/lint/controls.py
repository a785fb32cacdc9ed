"""The tensors that a sequence batcher tells a model about its sequences with, as back-ends look for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tritonforge_generator.lint.proto import ModelConfig, enum_name

_KINDS: Final = (
    "CONTROL_SEQUENCE_START",
    "CONTROL_SEQUENCE_END",
    "CONTROL_SEQUENCE_READY",
    "CONTROL_SEQUENCE_CORRID",
)
_VALUE_TYPES: Final = (
    ("int32_false_true", "TYPE_INT32"),
    ("fp32_false_true", "TYPE_FP32"),
    ("bool_false_true", "TYPE_BOOL"),
)


@dataclass(frozen=True, slots=True)
class Control:
    """A sequence control of a config.

    Attributes:
        order: Place of its kind: back-ends look for one kind after the other.
        path: Path of it in the config.
        tensor: Name of its tensor.
        data_type: What the config says of the tensor's type; empty when it says nothing.
    """

    order: int
    path: str
    tensor: str
    data_type: str


def controls(config: ModelConfig) -> list[Control]:
    """Return the sequence controls of a config in the order in which back-ends look for them."""
    found = []
    for i, tensor in enumerate(config.sequence_batching.control_input):
        for j, control in enumerate(tensor.control):
            kind = enum_name(control, "kind")
            written = next((name for field, name in _VALUE_TYPES if len(getattr(control, field)) > 0), "")
            data_type = enum_name(control, "data_type") if kind == _KINDS[-1] else written
            if kind in _KINDS:
                path = f"sequence_batching.control_input[{i}].control[{j}]"
                found.append(Control(_KINDS.index(kind), path, tensor.name, data_type))
    return sorted(found, key=lambda control: control.order)
