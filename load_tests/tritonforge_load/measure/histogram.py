"""Latency histogram that keeps sub-millisecond resolution, is small, and merges over processes without loss.

Values are whole nanoseconds. Below 256 ns each value has its own bucket; above, every doubling is divided into 128
equal buckets, so a bucket is at most 1/128 of its lower bound wide and its middle is at most 1/256 = 0.39 % away from
any value in it. The layout is fixed, so histograms of any two processes add up bucket by bucket. The same layout with
another number of sub-buckets is known from HdrHistogram (http://hdrhistogram.org).
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, Final

_SUB_BUCKET_BITS: Final = 7
_EXACT_BELOW: Final = 1 << (_SUB_BUCKET_BITS + 1)
_SUMS: Final = struct.Struct("<4Q")

RELATIVE_ERROR: Final = 1 / _EXACT_BELOW
"""Largest relative error of a percentile against the exact nearest-rank percentile."""


class Histogram:
    """Counts of durations. Count, sum, minimum and maximum are exact.

    Attributes:
        count: How many values were recorded.
        sum_ns: Their sum.
        min_ns: The smallest; 0 when empty.
        max_ns: The largest; 0 when empty.
    """

    __slots__ = ("_buckets", "count", "max_ns", "min_ns", "sum_ns")

    def __init__(self, values_ns: Iterable[int] = ()) -> None:
        self.count = 0
        self.sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0
        self._buckets: dict[int, int] = {}
        for value_ns in values_ns:
            self.record(value_ns)

    def record(self, value_ns: int) -> None:
        """Add one value.

        Args:
            value_ns: A duration in nanoseconds, at least 0.

        Raises:
            ValueError: It is negative.
        """
        if value_ns < 0:
            raise ValueError(f"expected a duration of at least 0 ns, got {value_ns}")
        shift = value_ns.bit_length() - _SUB_BUCKET_BITS - 1
        index = value_ns if shift <= 0 else (shift << _SUB_BUCKET_BITS) + (value_ns >> shift)
        self._buckets[index] = self._buckets.get(index, 0) + 1
        if self.count == 0 or value_ns < self.min_ns:
            self.min_ns = value_ns
        self.max_ns = max(self.max_ns, value_ns)
        self.count += 1
        self.sum_ns += value_ns

    def merge(self, other: Histogram) -> None:
        """Add all values of another histogram, as if they had been recorded here."""
        if other.count == 0:
            return
        for index, count in other._buckets.items():
            self._buckets[index] = self._buckets.get(index, 0) + count
        self.min_ns = other.min_ns if self.count == 0 else min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)
        self.count += other.count
        self.sum_ns += other.sum_ns

    def mean_ns(self) -> float:
        """Arithmetic mean, exact; not a number when empty."""
        return self.sum_ns / self.count if self.count > 0 else math.nan

    def percentiles_ns(self, percents: Iterable[float]) -> list[float]:
        """Nearest-rank percentiles.

        Args:
            percents: Each from 0 to 100; 0 is the minimum and 100 the maximum, both exact.

        Returns:
            One value for each, within ``RELATIVE_ERROR`` of the exact one; not a number when the histogram is empty.

        Raises:
            ValueError: A percent is outside 0 and 100.
        """
        wanted = list(percents)
        for percent in wanted:
            if not 0 <= percent <= 100:
                raise ValueError(f"expected a percentile from 0 to 100, got {percent}")
        if self.count == 0:
            return [math.nan] * len(wanted)
        # The rank is computed in whole numbers where it can be: 99.9 % of 1000 is rank 999, not 1000.
        ranks = [max(1, math.ceil(round(percent * self.count / 100, 9))) for percent in wanted]
        found = dict.fromkeys((1, self.count), 0.0)
        pending = sorted({*ranks} - {*found}, reverse=True)
        seen = 0
        for index in sorted(self._buckets):
            seen += self._buckets[index]
            while pending and pending[-1] <= seen:
                found[pending.pop()] = min(max(_middle_ns(index), self.min_ns), self.max_ns)
        found[1], found[self.count] = self.min_ns, self.max_ns
        return [found[rank] for rank in ranks]

    def percentile_ns(self, percent: float) -> float:
        """One nearest-rank percentile; see ``percentiles_ns``."""
        return self.percentiles_ns([percent])[0]

    def count_above(self, value_ns: int) -> tuple[int, int]:
        """How many values are above a limit.

        Args:
            value_ns: The limit in nanoseconds.

        Returns:
            At least so many and at most so many: of the bucket in which the limit lies, nobody knows.
        """
        if self.max_ns <= value_ns or self.count == 0:
            return 0, 0
        if self.min_ns > value_ns:
            return self.count, self.count
        surely = possibly = 0
        for index, count in self._buckets.items():
            lower, upper = _bounds_ns(index)
            surely += count if lower > value_ns else 0
            possibly += count if upper > value_ns else 0
        # The smallest is not above it, the largest is.
        return max(surely, 1), min(possibly, self.count - 1)

    def counts(self) -> dict[float, int]:
        """How many values are in each bucket that has any, by the middle of the bucket in nanoseconds."""
        return {_middle_ns(index): count for index, count in self._buckets.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON and msgpack can hold it."""
        return {
            "count": self.count, "sum_ns": self.sum_ns, "min_ns": self.min_ns, "max_ns": self.max_ns,
            "buckets": [[index, self._buckets[index]] for index in sorted(self._buckets)],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Histogram:
        """The histogram that ``to_dict`` wrote."""
        histogram = cls()
        histogram.count, histogram.sum_ns = int(data["count"]), int(data["sum_ns"])
        histogram.min_ns, histogram.max_ns = int(data["min_ns"]), int(data["max_ns"])
        histogram._buckets = {int(index): int(count) for index, count in data["buckets"]}
        return histogram

    def to_bytes(self) -> bytes:
        """Everything, in little memory; for this process and no other, and for values of 584 years together at most."""
        places, counts = array("H", self._buckets), array("Q", self._buckets.values())
        return _SUMS.pack(self.count, self.sum_ns, self.min_ns, self.max_ns) + places.tobytes() + counts.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Histogram:
        """The histogram that ``to_bytes`` wrote."""
        histogram = cls()
        histogram.count, histogram.sum_ns, histogram.min_ns, histogram.max_ns = _SUMS.unpack_from(data)
        places, counts = array("H"), array("Q")
        end = _SUMS.size + (len(data) - _SUMS.size) // (places.itemsize + counts.itemsize) * places.itemsize
        places.frombytes(data[_SUMS.size : end])
        counts.frombytes(data[end:])
        histogram._buckets = dict(zip(places, counts, strict=True))
        return histogram

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Histogram) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes with every record

    def __repr__(self) -> str:
        return f"<Histogram of {self.count} values, {self.min_ns} to {self.max_ns} ns>"


def _middle_ns(index: int) -> float:
    lower, upper = _bounds_ns(index)
    return (lower + upper) / 2


def _bounds_ns(index: int) -> tuple[int, int]:
    """The smallest and the largest value of a bucket."""
    shift = max(0, (index >> _SUB_BUCKET_BITS) - 1)
    lower = index if shift == 0 else (index - (shift << _SUB_BUCKET_BITS)) << shift
    return lower, lower + (1 << shift) - 1
