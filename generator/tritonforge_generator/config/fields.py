"""A configuration as an ordered tree of fields, each with its reason.

The protobuf message and the text are both made from this tree, and must agree: see ``model_config.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Enum:
    """The name of an enum value, written without quotes."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a protobuf message.

    Attributes:
        name: The proto field name.
        value: A scalar, an enum, a list of scalars, or the fields of a sub-message. A repeated message or a map entry
            is given as several fields of the same name.
        reason: Why the value is what it is; sub-messages may leave it to their fields.
        above: Whole comment lines that people wrote before it, with their ``#``.
        below: Whole comment lines that people wrote behind the last field of a message.
    """

    name: str
    value: Scalar | Enum | list[int] | list[float] | list[bool] | list[str] | tuple[Field, ...]
    reason: str = ""
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()

    @property
    def is_message(self) -> bool:
        """Whether the value is a sub-message."""
        return isinstance(self.value, tuple)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a sub-message; none for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The value of a list of whole numbers; nothing for anything else."""
        return tuple(item for item in self.value if isinstance(item, int)) if isinstance(self.value, list) else ()

    @property
    def text(self) -> str:
        """The value in protobuf text format; sub-messages are rendered by the template."""
        if isinstance(self.value, Enum):
            return self.value.name
        if not isinstance(self.value, (list, tuple)):
            return _scalar_text(self.value)
        items = [_scalar_text(item) for item in self.value if not isinstance(item, Field)]
        return f"[ {', '.join(items)} ]" if items else "[ ]"


def _scalar_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    from google.protobuf import text_encoding

    escaped = text_encoding.CEscape(text, as_utf8=True)  # type: ignore[arg-type]  # its stub knows bytes only
    return f'"{escaped}"'


def message(name: str, *fields: Field | None, reason: str = "") -> Field:
    """A sub-message; fields that are ``None`` are left out."""
    return Field(name, tuple(field for field in fields if field is not None), reason)


def map_entry(name: str, key: str | int, *value: Field | None, reason: str = "declared") -> Field:
    """One entry of a map of messages; fields that are ``None`` are left out."""
    return message(name, Field("key", key, reason), message("value", *value))


def text_entries(name: str, texts: Mapping[str, str]) -> tuple[Field, ...]:
    """All entries of a map of texts, as declared."""
    return tuple(
        message(name, Field("key", key, "declared"), Field("value", value, "as declared"))
        for key, value in sorted(texts.items())
    )


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
            if isinstance(field.value, (str, bool, int, float)):
                setattr(target, field.name, field.value)
            else:
                getattr(target, field.name).extend(field.value)
        else:
            _fill_sub_message(target, field, descriptor)


def _fill_sub_message(target: Any, field: Field, descriptor: Any) -> None:
    container = getattr(target, field.name)
    if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
        key, value = field.fields
        if value.is_message:
            container[key.value].SetInParent()
            fill_message(container[key.value], value.fields)
        else:
            container[key.value] = value.value
    elif hasattr(container, "add"):
        fill_message(container.add(), field.fields)
    else:
        container.SetInParent()
        fill_message(container, field.fields)
