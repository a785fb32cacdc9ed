"""What a protocol without I/O asks a transport for."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Buffer: TypeAlias = bytes | memoryview
Io: TypeAlias = Sequence[Buffer] | memoryview
"""Buffers that are to be sent, all of them; or a place for the next bytes, which is answered with how many came."""
Steps: TypeAlias = Generator[Io, int, T]
