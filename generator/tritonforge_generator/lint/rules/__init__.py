"""The rules, one module a group of the server's checks; importing them fills the registry."""

from __future__ import annotations

from tritonforge_generator.lint.rules import (
    backend,
    batch_io,
    composing,
    ensembles,
    instance_groups,
    io,
    onnx_settings,
    onnx_tensors,
    parse,
    schedulers,
    sequences,
    states,
    suspicious,
    versions,
    warmup,
)

__all__ = [
    "backend",
    "batch_io",
    "composing",
    "ensembles",
    "instance_groups",
    "io",
    "onnx_settings",
    "onnx_tensors",
    "parse",
    "schedulers",
    "sequences",
    "states",
    "suspicious",
    "versions",
    "warmup",
]
