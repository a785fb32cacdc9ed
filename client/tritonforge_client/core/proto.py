"""Triton's protobuf messages as tritonclient ships them.

Protobuf makes their classes at run time, so type checkers see ``Any``. They are imported when they are asked for:
tritonclient brings gRPC with them, which an HTTP client should not have to import.
"""

from __future__ import annotations

import importlib
from typing import Any


def model_config_pb2() -> Any:
    """Return the module with the messages of ``model_config.proto``."""
    return importlib.import_module("tritonclient.grpc.model_config_pb2")


def service_pb2() -> Any:
    """Return the module with the messages of ``grpc_service.proto``."""
    return importlib.import_module("tritonclient.grpc.service_pb2")


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

    return text_format.Parse(text, model_config_pb2().ModelConfig())
