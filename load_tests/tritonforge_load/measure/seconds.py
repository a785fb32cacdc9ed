"""What was measured second by second, kept small: a second that is over is packed until somebody looks at it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tritonforge_load.measure.histogram import Histogram

_MOST_OPEN: Final = 16
"""Answers come until a request's deadline, which is mostly less far away than so many seconds."""
_COUNTS: Final = struct.Struct("<QQ")


@dataclass(slots=True)
class Second:
    """Requests that were meant for one second of a run.

    Attributes:
        latency: Durations of those that were answered.
        errors: How many failed.
        shed: How many were not sent.
    """

    latency: Histogram = field(default_factory=Histogram)
    errors: int = 0
    shed: int = 0


class Seconds(Mapping[int, Second]):
    """Seconds by number. What ``[]`` and ``get`` return is to be read only.

    Args:
        seconds: Those to begin with.
    """

    def __init__(self, seconds: Mapping[int, Second] | None = None) -> None:
        self._open: dict[int, Second] = dict(seconds or {})
        self._packed: dict[int, bytes] = {}

    def at(self, number: int) -> Second:
        """The second to add to; made when it is new."""
        found = self._open.get(number)
        return self._opened(number) if found is None else found

    def _opened(self, number: int) -> Second:
        packed = self._packed.pop(number, None)
        second = self._open[number] = Second() if packed is None else _unpacked(packed)
        if len(self._open) > _MOST_OPEN:
            oldest = min(self._open, key=lambda one: (one == number, one))
            self._packed[oldest] = _packed(self._open.pop(oldest))
        return second

    def __getitem__(self, number: int) -> Second:
        found = self._open.get(number)
        return _unpacked(self._packed[number]) if found is None else found

    def __iter__(self) -> Iterator[int]:
        yield from self._packed
        yield from self._open

    def __len__(self) -> int:
        return len(self._packed) + len(self._open)


def _packed(second: Second) -> bytes:
    return _COUNTS.pack(second.errors, second.shed) + second.latency.to_bytes()


def _unpacked(packed: bytes) -> Second:
    errors, shed = _COUNTS.unpack_from(packed)
    return Second(Histogram.from_bytes(packed[_COUNTS.size :]), errors, shed)
