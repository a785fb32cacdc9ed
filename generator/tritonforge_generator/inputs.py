"""What a model is made of: the source, the files and values of the spec, and the tools. Equal inputs, equal model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.made import package_versions
from tritonforge_generator.source import source_from_path
from tritonforge_generator.spec import EnvironmentOptions, ModelOptions

TOOLS: Final = ("tritonforge",)
CONVERTING_TOOLS: Final = ("onnx", "onnxruntime")
"""Packages that shape a graph which is converted; elsewhere they only judge it."""

BUILDING_TOOLS: Final = ("tensorrt",)
"""Packages that shape a plan."""

_CACHES: Final = ("tensorrt.timing_cache",)
"""Files that a build changes."""


def inputs_of(
    options: ModelOptions, server: str | None, environments: Mapping[str, EnvironmentOptions] | None = None
) -> dict[str, Any]:
    """Everything that decides what a model becomes, by a name for people.

    Args:
        options: What the user declared, with resolved paths.
        server: The Triton release that will serve.
        environments: What differs of the model, by environment.

    Returns:
        ``"source ..."`` and ``"spec KEY"`` to a value or, for files, a SHA-256; ``"tool ..."`` to a version.

    Raises:
        SourceError: The source cannot be read.
    """
    versions = package_versions()
    tools = TOOLS + (CONVERTING_TOOLS if is_converted(options) else ())
    tools += BUILDING_TOOLS if options.platform in {"tensorrt", "auto"} else ()
    return {
        **dict(_source_files(options)),
        **{f"spec {key}": value for key, value in _flat(options.model_dump(exclude={"source"}, by_alias=True), "")},
        **{
            f"spec environments.{name}.{key}": value
            for name, environment in (environments or {}).items()
            for key, value in _flat(environment.model_dump(exclude_unset=True, by_alias=True), "")
        },
        **({"spec server": server} if server is not None else {}),
        **{f"tool {name}": versions[name] for name in tools if name in versions},
    }


def is_converted(options: ModelOptions) -> bool:
    """Whether more is done with the source's graph than copying it."""
    return options.platform in {"tensorrt", "auto"} or options.precision is not None or options.preprocess is not None


def is_code(options: ModelOptions) -> bool:
    """Whether the source is a function that makes the model, which has no hash."""
    return str(options.source).startswith("torch:")


def changed_inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One sentence for each input that is not the same.

    A tool that is not installed here says nothing about a model that it made elsewhere.

    Args:
        before: As recorded; values are plain JSON types.
        now: From ``inputs_of``.
    """
    return [
        f"{name}: {_shown(before.get(name))} -> {_shown(now.get(name))}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and not (name.startswith("tool ") and name not in now)
    ]


def _source_files(options: ModelOptions) -> Iterator[tuple[str, str]]:
    if is_code(options):
        yield "source", str(options.source)
    elif options.platform == "python":
        yield "source", _digest(options.source)
    else:
        source = source_from_path(options.source)
        yield "source", f"sha256 {source.file.sha256}"
        for external in source.external_data:
            yield f"source {external.location}", f"sha256 {external.sha256}"


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Leaves of nested options by their paths in the spec; files by what they hold."""
    if key in _CACHES or value is None:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, (list, tuple)) and any(isinstance(one, (dict, Path)) for one in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{index}]")
    else:
        yield key, _digest(value) if isinstance(value, Path) else json.loads(json.dumps(value))


def _digest(path: Path) -> str:
    return f"sha256 {sha256_of_file(path)}" if path.is_file() else "no such file"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value[:19]}..." if isinstance(value, str) and value.startswith("sha256 ") else str(value)
