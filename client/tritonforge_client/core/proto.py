"""Triton's protobuf messages as tritonclient ships them, in a pool of their own.

Python has one default pool for all packages, and kserve, MLServer and others register messages of the same names there:
whoever comes second fails to import. So tritonclient's modules are not imported; the descriptors in them are read.
Protobuf makes the classes at run time, so type checkers see ``Any``. They are made when they are asked for, since
protobuf is nothing that an HTTP client should have to import.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

_FILES: Final = ("model_config_pb2.py", "service_pb2.py")
_PACKAGE: Final = "inference"


class _Messages:
    """Messages and enums by name; values of the enums by theirs."""

    def __init__(self) -> None:
        from google.protobuf.descriptor_pool import DescriptorPool

        self.pool = DescriptorPool()
        self._files = [self.pool.AddSerializedFile(_descriptor_in(name)) for name in _FILES]

    def __getattr__(self, name: str) -> Any:
        from google.protobuf.message_factory import GetMessageClass

        for file in self._files:
            if name in file.message_types_by_name:
                found: Any = GetMessageClass(file.message_types_by_name[name])
                break
            value = next(
                (enum.values_by_name[name] for enum in file.enum_types_by_name.values() if name in enum.values_by_name),
                None,
            )
            if value is not None:
                found = value.number
                break
        else:
            raise AttributeError(f"expected a message or value of {_PACKAGE}, got {name}")
        setattr(self, name, found)
        return found


@cache
def messages() -> Any:
    """Return the messages of ``model_config.proto`` and ``grpc_service.proto``, as attributes by name."""
    return _Messages()


def _descriptor_in(name: str) -> bytes:
    """The serialized descriptor that a generated module of tritonclient registers."""
    spec = importlib.util.find_spec("tritonclient")  # does not import the module that lies in it
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("tritonclient is not installed; run: pip install 'tritonclient[grpc]'")
    path = Path(spec.submodule_search_locations[0]) / "grpc" / name
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            descriptor = ast.literal_eval(node.args[0])
            if isinstance(descriptor, bytes):
                return descriptor
    raise ImportError(f"{path}: expected a module that registers a serialized descriptor; install another tritonclient")


def full_json_from_message(message: Any) -> dict[str, Any]:
    """Return a message as JSON with proto field names, as Triton writes a config over HTTP.

    Unlike in protobuf's own JSON every field is there that is no message and no member of a oneof, and 64-bit numbers
    are numbers. (The option of ``MessageToDict`` for the former has another name from protobuf 5 on.)

    Args:
        message: Any message.
    """
    from google.protobuf.json_format import MessageToDict

    return _full(MessageToDict(message, preserving_proto_field_name=True), message.DESCRIPTOR)


def model_config_from_text(text: str) -> Any:
    """Read ``config.pbtxt``.

    Args:
        text: Protobuf text format.

    Returns:
        An ``inference.ModelConfig``.

    Raises:
        google.protobuf.text_format.ParseError: The text is no model configuration; the error has line and column.
    """
    from google.protobuf import text_format

    return text_format.Parse(text, messages().ModelConfig(), descriptor_pool=messages().pool)


def _full(fields: Mapping[str, Any], descriptor: Any) -> dict[str, Any]:
    return {
        field.name: _values(field, fields.get(field.name))
        for field in descriptor.fields
        if field.name in fields or not field.has_presence
    }


def _values(field: Any, values: Any) -> Any:
    """All values of one field in protobuf's JSON; ``None`` where it is not stated."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of_entries = field.message_type.fields_by_name["value"]
        return {key: _value(of_entries, value) for key, value in (values or {}).items()}
    if field.default_value == []:  # repeated
        return [_value(field, value) for value in values or ()]
    if values is None:
        number = field.default_value
        return field.enum_type.values_by_number[number].name if field.enum_type is not None else number
    return _value(field, values)


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _full(value, field.message_type)
    return int(value) if field.cpp_type in {field.CPPTYPE_INT64, field.CPPTYPE_UINT64} else value
