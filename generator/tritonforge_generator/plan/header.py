"""The first 28 bytes of a TensorRT plan: enough to know which TensorRT built it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge_generator.errors import SourceError

MAGIC: Final = b"ftrt"
_HEADER: Final = struct.Struct("<4s20x4B")
_PREFIX: Final = struct.Struct("<I")
_LONGEST_PREFIX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHeader:
    """What a plan says of itself.

    Attributes:
        tensorrt_version: Version that built it: major, minor, patch, build.
        prefix_bytes: Bytes in front of the plan that TensorRT does not expect. Some exporters put a length and JSON
            there; Triton then fails with ``Magic tag does not match``.
    """

    tensorrt_version: tuple[int, int, int, int]
    prefix_bytes: int

    @property
    def version_text(self) -> str:
        """The version in dotted form."""
        return ".".join(str(part) for part in self.tensorrt_version)


def plan_header_from_path(path: Path) -> PlanHeader:
    """Read the header of a plan.

    Layout: the tag ``ftrt`` in bytes 0 to 3 and the version in bytes 24 to 27, as TensorRT 8.6 and later write it.

    Args:
        path: The plan file.

    Raises:
        SourceError: It cannot be read or is no plan.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER.size)
            prefix_bytes = 0
            if len(start) == _HEADER.size and not start.startswith(MAGIC):
                (length,) = _PREFIX.unpack(start[: _PREFIX.size])
                if length <= _LONGEST_PREFIX_BYTES and start[_PREFIX.size : _PREFIX.size + 1] == b"{":
                    prefix_bytes = _PREFIX.size + length
                    stream.seek(prefix_bytes)
                    start = stream.read(_HEADER.size)
    except OSError as error:
        raise SourceError(f"{path} cannot be read", expected="a TensorRT plan", got=str(error.strerror)) from error
    if len(start) < _HEADER.size or not start.startswith(MAGIC):
        raise SourceError(
            f"{path} is no TensorRT plan",
            expected=f"a file that begins with {MAGIC!r}",
            got=repr(start[:4]),
            action="Check that the file is complete and was written by TensorRT.",
        )
    _, major, minor, patch, build = _HEADER.unpack(start)
    return PlanHeader(tensorrt_version=(major, minor, patch, build), prefix_bytes=prefix_bytes)
