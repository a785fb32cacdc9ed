"""The server's config schema, read with the server's own notion of the text format."""

from __future__ import annotations

from typing import Any, TypeAlias

ModelConfig: TypeAlias = Any
"""A protobuf message ``inference.ModelConfig``; protobuf makes the class at run time, so checkers cannot see it."""
Message: TypeAlias = Any
"""A part of a ``ModelConfig``."""


def schema() -> Any:
    """Return the module with the messages of ``model_config.proto``."""
    from tritonforge_client.core.proto import messages  # brings the client and numpy

    return messages()


def enum_name(message: Message, field: str) -> str:
    """Return the name of an enum field's value, for example ``TYPE_FP32``; a number that has no name stays one."""
    number = getattr(message, field)
    known = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    return str(number) if known is None else str(known.name)
