"""Runs: the stretches of load that phases are played in, and the arrivals of open ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritonforge_generator.errors import SpecError
from tritonforge_load.arrivals.schedule import (
    choose,
    constant_times_s,
    curve_times_s,
    gamma_times_s,
    poisson_times_s,
    trace_times_s,
)
from tritonforge_load.arrivals.trace import read_trace
from tritonforge_load.campaign import (
    Campaign,
    ClosedPhase,
    CurvePhase,
    GammaPhase,
    Phase,
    PlayedPhase,
    RatePhase,
    SearchPhase,
    TracePhase,
)

_ARRIVALS, _CHOICES = 1, 2  # streams of random numbers, so that one does not change the other


@dataclass(frozen=True, slots=True)
class Run:
    """One stretch of load.

    Attributes:
        name: Unique in the campaign; what ``RunResult.run`` says.
        phase: Index of its phase in the campaign.
        number: Which of the phase's runs it is, counted from 0.
        load: Users of closed runs, mean requests per second of open ones.
        is_open: Whether requests are sent by a schedule.
        duration_s: Its length.
        measured: Whether it counts.
    """

    name: str
    phase: int
    number: int
    load: float
    is_open: bool
    duration_s: float
    measured: bool

    @property
    def users(self) -> int | None:
        """Users at work; ``None`` for open runs."""
        return None if self.is_open else int(self.load)

    @property
    def rate_per_s(self) -> float | None:
        """Mean requests per second; ``None`` for closed runs."""
        return self.load if self.is_open else None

    def to_dict(self) -> dict[str, Any]:
        """Itself, as a message can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Run:
        """What ``to_dict`` wrote."""
        return cls(**data)


@dataclass(frozen=True)
class Schedule:
    """When which workload is to be sent, over all workers.

    Attributes:
        times_s: float64, ascending, from the start of the run.
        workloads: Index of the workload of each, as long as ``times_s``.
        duration_s: Length of the run.
    """

    times_s: NDArray[np.float64]
    workloads: NDArray[np.intp]
    duration_s: float

    @cached_property
    def rate_per_s(self) -> float:
        """Mean rate."""
        return len(self.times_s) / self.duration_s


class Runs:
    """The runs of a campaign.

    Args:
        campaign: The campaign.
        base: Folder that relative paths start from.

    Raises:
        SpecError: A trace cannot be read or names a workload that is none.
    """

    def __init__(self, campaign: Campaign, *, base: Path) -> None:
        self._campaign = campaign
        self._base = base
        self._traces = {
            index: self._trace(phase) for index, phase in enumerate(campaign.phases) if isinstance(phase, TracePhase)
        }

    def of_phase(self, index: int) -> list[Run]:
        """The runs of a phase that is no search."""
        phase = self._campaign.phases[index]
        if isinstance(phase, SearchPhase):
            raise TypeError("the runs of a search follow from one another")
        return [self._played(phase, index, number) for number in range(phase.repeat)]

    def of_search(self, index: int, load: float, number: int, again: int) -> Run:
        """A run of a search.

        Args:
            index: Of its phase.
            load: Requests per second or users.
            number: Which of the phase's runs it is, counted from 0.
            again: How often this load was tried before.
        """
        phase = self._campaign.phases[index]
        if not isinstance(phase, SearchPhase):
            raise TypeError("this phase is no search")
        is_open = phase.search.over == "rate"
        unit = "/s" if is_open else " users"
        name = f"{phase.name}@{load:.6g}{unit}" + (f"#{again + 1}" if again > 0 else "")
        return Run(name, index, number, load, is_open, phase.search.step_for_s, measured=True)

    def schedule(self, run: Run) -> Schedule:
        """The arrivals of an open run: the same in every process."""
        phase = self._campaign.phases[run.phase]
        times_s, choices = self._times(phase, run), None
        if isinstance(phase, TracePhase):
            choices = self._traces[run.phase][1]
        if choices is None:
            weights = [workload.weight for workload in self._campaign.workload]
            choices = choose(weights, len(times_s), self._seed(run, _CHOICES))
        return Schedule(times_s, choices, run.duration_s)

    def _seed(self, run: Run, stream: int) -> Sequence[int]:
        return (self._campaign.seed, run.phase, run.number, stream)

    def _played(self, phase: PlayedPhase, index: int, number: int) -> Run:
        name = phase.name + (f"#{number + 1}" if phase.repeat > 1 else "")
        if isinstance(phase, ClosedPhase):
            return Run(name, index, number, phase.users, False, phase.duration_s, phase.measure)
        if isinstance(phase, (RatePhase, GammaPhase)):
            return Run(name, index, number, phase.rate_per_s, True, phase.duration_s, phase.measure)
        if isinstance(phase, CurvePhase):
            ends = zip(phase.points, phase.points[1:], strict=False)
            requests = sum((b_s - a_s) * (a_per_s + b_per_s) / 2 for (a_s, a_per_s), (b_s, b_per_s) in ends)
            return Run(name, index, number, requests / phase.duration_s, True, phase.duration_s, phase.measure)
        times_s, _ = self._traces[index]
        duration_s = float(times_s[-1])
        return Run(name, index, number, len(times_s) / duration_s, True, duration_s, phase.measure)

    def _times(self, phase: Phase, run: Run) -> NDArray[np.float64]:
        seed = self._seed(run, _ARRIVALS)
        if isinstance(phase, SearchPhase):
            if phase.search.arrival == "constant":
                return constant_times_s(run.load, run.duration_s)
            return poisson_times_s(run.load, run.duration_s, seed)
        if isinstance(phase, RatePhase):
            if phase.arrival == "constant":
                return constant_times_s(phase.rate_per_s, phase.duration_s)
            return poisson_times_s(phase.rate_per_s, phase.duration_s, seed)
        if isinstance(phase, GammaPhase):
            return gamma_times_s(phase.rate_per_s, phase.duration_s, phase.shape, seed)
        if isinstance(phase, CurvePhase):
            return curve_times_s(phase.points, seed)
        return self._traces[run.phase][0]

    def _trace(self, phase: TracePhase) -> tuple[NDArray[np.float64], NDArray[np.intp] | None]:
        trace = read_trace(self._base / phase.file)
        times_s = trace_times_s(trace.times_s, phase.speed)
        if len(times_s) < 2 or times_s[-1] <= 0:
            raise SpecError(f"phase {phase.name!r}: {phase.file}", expected="arrivals over a time", got="too few")
        if trace.workloads is None:
            return times_s, None
        places = {workload.name: index for index, workload in enumerate(self._campaign.workload)}
        unknown = next((name for name in trace.workloads if name not in places), None)
        if unknown is not None:
            raise SpecError(
                f"phase {phase.name!r}: {phase.file}", expected=f"workloads {', '.join(places)}", got=repr(unknown)
            )
        return times_s, np.array([places[name] for name in trace.workloads], np.intp)
