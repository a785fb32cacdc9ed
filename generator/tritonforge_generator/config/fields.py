"""A configuration as an ordered tree of fields, each with its reason.

The protobuf message and the text are both made from this tree, and must agree: see ``model_config.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Scalar = str | int | bool


@dataclass(frozen=True, slots=True)
class Enum:
    """The name of an enum value, written without quotes."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a protobuf message.

    Attributes:
        name: The proto field name.
        value: A scalar, an enum, a list of integers or texts, or the fields of a sub-message. A repeated message or a
            map entry is given as several fields of the same name.
        reason: Why the value is what it is; sub-messages may leave it to their fields.
    """

    name: str
    value: Scalar | Enum | list[int] | list[str] | tuple[Field, ...]
    reason: str = ""

    @property
    def is_message(self) -> bool:
        """Whether the value is a sub-message."""
        return isinstance(self.value, tuple)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a sub-message; none for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def text(self) -> str:
        """The value in protobuf text format; sub-messages are rendered by the template."""
        if isinstance(self.value, Enum):
            return self.value.name
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if isinstance(self.value, int):
            return str(self.value)
        if isinstance(self.value, str):
            return _quoted(self.value)
        items = [_quoted(item) if isinstance(item, str) else str(item) for item in self.value]
        return f"[ {', '.join(items)} ]" if items else "[ ]"


def _quoted(text: str) -> str:
    from google.protobuf import text_encoding

    escaped = text_encoding.CEscape(text, as_utf8=True)  # type: ignore[arg-type]  # its stub knows bytes only
    return f'"{escaped}"'


def message(name: str, *fields: Field | None, reason: str = "") -> Field:
    """A sub-message; fields that are ``None`` are left out."""
    return Field(name, tuple(field for field in fields if field is not None), reason)


def fill_message(target: Any, fields: Iterable[Field]) -> None:
    """Set fields on a protobuf message.

    Args:
        target: The message.
        fields: Its fields; a wrong name or type is an error of protobuf.
    """
    for field in fields:
        descriptor = target.DESCRIPTOR.fields_by_name[field.name]
        if isinstance(field.value, Enum):
            setattr(target, field.name, descriptor.enum_type.values_by_name[field.value.name].number)
        elif not field.is_message:
            if isinstance(field.value, (str, bool, int)):
                setattr(target, field.name, field.value)
            else:
                getattr(target, field.name).extend(field.value)
        else:
            _fill_sub_message(target, field, descriptor)


def _fill_sub_message(target: Any, field: Field, descriptor: Any) -> None:
    container = getattr(target, field.name)
    if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
        key, value = field.fields
        fill_message(container[key.value], value.fields)
    elif hasattr(container, "add"):
        fill_message(container.add(), field.fields)
    else:
        container.SetInParent()
        fill_message(container, field.fields)
