"""Triton's protobuf messages as tritonclient ships them, in a pool of their own.

Python has one default pool for all packages, and kserve, MLServer and others register messages of the same names there:
whoever comes second fails to import. So tritonclient's modules are not imported; the descriptors in them are read.
Protobuf makes the classes at run time, so type checkers see ``Any``. They are made when they are asked for, since
protobuf is nothing that an HTTP client should have to import.
"""

from __future__ import annotations

import ast
import importlib.util
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
