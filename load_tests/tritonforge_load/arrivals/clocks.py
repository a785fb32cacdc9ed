"""How the clocks of workers differ from the master's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClockReading:
    """One question to a worker for its clock.

    Attributes:
        sent_s: When it was asked, by the master's clock.
        answered_s: When the answer came, by the master's clock.
        clock_s: What the worker's clock showed in between.
    """

    sent_s: float
    answered_s: float
    clock_s: float

    @property
    def error_s(self) -> float:
        """How far ``offset_s`` can be from the truth: the worker looked at its clock somewhere on the way."""
        return (self.answered_s - self.sent_s) / 2

    @property
    def offset_s(self) -> float:
        """What has to be added to the master's clock to have the worker's, as NTP estimates it (RFC 5905, 8)."""
        return self.clock_s - (self.sent_s + self.answered_s) / 2


class Clocks:
    """The clocks of all workers, each known by its best reading."""

    def __init__(self) -> None:
        self._best: dict[str, ClockReading] = {}

    def add(self, worker: str, reading: ClockReading) -> None:
        """Add a reading; the one with the shortest way counts."""
        best = self._best.get(worker)
        if best is None or reading.error_s < best.error_s:
            self._best[worker] = reading

    def forget(self) -> None:
        """Forget all readings: clocks drift."""
        self._best.clear()

    def knows(self, worker: str) -> bool:
        """Whether a worker has answered."""
        return worker in self._best

    def theirs_s(self, worker: str, ours_s: float) -> float:
        """A moment of the master's clock by a worker's."""
        best = self._best.get(worker)
        return ours_s + (best.offset_s if best is not None else 0.0)

    def ours_s(self, worker: str, theirs_s: float) -> float:
        """A moment of a worker's clock by the master's."""
        best = self._best.get(worker)
        return theirs_s - (best.offset_s if best is not None else 0.0)

    def error_s(self, workers: set[str]) -> float:
        """How far apart the workers' idea of one moment may be; 0 for one."""
        errors = sorted(self._best[worker].error_s for worker in workers & self._best.keys())
        return sum(errors[-2:]) if len(errors) > 1 else 0.0
