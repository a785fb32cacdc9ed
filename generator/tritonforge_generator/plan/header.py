"""The beginning of a TensorRT plan: enough to know which TensorRT built it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tritonforge_generator.errors import SourceError

MAGIC: Final = b"ftrt"
_HEADER: Final = struct.Struct("<4sI8xQ4B")
_PREFIX: Final = struct.Struct("<I")
_LONGEST_PREFIX_BYTES: Final = 1 << 20


class UnknownLayoutError(SourceError):
    """A plan whose header is of a layout that is not known here; TensorRT may well load it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHeader:
    """What a plan says of itself.

    Attributes:
        tensorrt_version: Version that built it: major, minor, patch, build.
        prefix_bytes: Bytes in front of the plan that TensorRT does not expect. Some exporters (Ultralytics) put a
            length and JSON there; Triton then fails with ``Magic tag does not match``.
        metadata: The JSON of the prefix; empty where there is none.
    """

    tensorrt_version: tuple[int, int, int, int]
    prefix_bytes: int
    metadata: Mapping[str, Any]

    @property
    def version_text(self) -> str:
        """The version in dotted form."""
        return ".".join(str(part) for part in self.tensorrt_version)


def plan_header_from_path(path: Path) -> PlanHeader:
    """Read the header of a plan.

    Layout: the tag ``ftrt`` in bytes 0 to 3, the layout's number 0 in bytes 4 to 7 and the version in bytes 24 to 27,
    as TensorRT 8.6 and later write it and ``trtexec --getPlanVersionOnly`` reads it. TensorRT 8.6 writes the plan's
    size in bytes 16 to 23; whether later versions do is not known, so it is believed of version 8 alone.

    Args:
        path: The plan file.

    Raises:
        SourceError: It cannot be read, is no plan, or is cut off.
        UnknownLayoutError: Its header is not known here.
    """
    try:
        with path.open("rb") as stream:
            prefix_bytes, metadata = _prefix(stream)
            start = stream.read(_HEADER.size)
            size_bytes = os.fstat(stream.fileno()).st_size - prefix_bytes
    except OSError as error:
        raise SourceError(f"{path} cannot be read", expected="a TensorRT plan", got=str(error.strerror)) from error
    if len(start) < _HEADER.size or not start.startswith(MAGIC):
        raise SourceError(
            f"{path} is no TensorRT plan" + (" behind its prefix" if prefix_bytes else ""),
            expected=f"a file that begins with {MAGIC!r}",
            got=repr(start[:4]) if len(start) in {0, _HEADER.size} else f"{len(start)} bytes",
            action="Check that the file is complete and was written by TensorRT.",
        )
    _, layout, stated_bytes, major, minor, patch, build = _HEADER.unpack(start)
    if layout != 0:
        raise UnknownLayoutError(f"{path} has a header that is not known here", expected="layout 0", got=str(layout))
    if major == 8 and stated_bytes > size_bytes:
        raise SourceError(
            f"{path} is cut off",
            expected=f"{stated_bytes:,} bytes, as its header says",
            got=f"{size_bytes:,}",
            action="Copy it again, and compare its SHA-256 with the manifest's.",
        )
    return PlanHeader(tensorrt_version=(major, minor, patch, build), prefix_bytes=prefix_bytes, metadata=metadata)


def write_bare_plan(path: Path, destination: Path) -> None:
    """Copy a plan without its prefix, as TensorRT and Triton expect it.

    Raises:
        SourceError: It cannot be read, is no plan, or has no prefix.
    """
    header = plan_header_from_path(path)
    if header.prefix_bytes == 0:
        raise SourceError(f"{path} has no prefix", expected="bytes in front of the plan", got="a plan as it should be")
    with path.open("rb") as source, destination.open("xb") as target:
        source.seek(header.prefix_bytes)
        shutil.copyfileobj(source, target)


def _prefix(stream: IO[bytes]) -> tuple[int, Mapping[str, Any]]:
    """Size and JSON of a prefix; the stream stands behind it then."""
    length_bytes = stream.read(_PREFIX.size)
    if len(length_bytes) == _PREFIX.size and length_bytes != MAGIC:
        (length,) = _PREFIX.unpack(length_bytes)
        if 2 <= length <= _LONGEST_PREFIX_BYTES and stream.read(1) == b"{":
            stream.seek(_PREFIX.size)
            text = stream.read(length)
            with suppress(ValueError, RecursionError):  # no JSON: then no plan either, which the caller says
                return _PREFIX.size + length, json.loads(text)
    stream.seek(0)
    return 0, {}
