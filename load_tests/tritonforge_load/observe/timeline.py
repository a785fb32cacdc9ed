"""What was observed beside the load, second by second.

A value covers the time since the last sample that has its name; one marked "now" is of that moment. All times are of
one clock, best in seconds since the start of the run.

=================================== ======================================================================
name                                what
=================================== ======================================================================
``model.<name>.rate_per_s``         requests that the server answered well, per second
``model.<name>.rows_per_s``         rows that were inferred, per second; not those from the response cache
``model.<name>.executions_per_s``   executions of batches, per second
``model.<name>.batch_rows_mean``    rows of an execution
``model.<name>.queue_ms``           mean time of a request in the scheduler
``model.<name>.compute_input_ms``   mean time of a request while inputs are prepared
``model.<name>.compute_infer_ms``   mean time of a request while the model runs
``model.<name>.compute_output_ms``  mean time of a request while outputs are prepared
``model.<name>.queue_share``        the queue's part of the requests' whole time in the server, 0 to 1
``model.<name>.cache_hit_share``    hits of look-ups in the response cache, 0 to 1
``model.<name>.failed_per_s``       requests that the server failed, rejected ones too, per second
``model.<name>.rejected_per_s``     requests whose time in the queue ran out, per second
``gpu.<i>.utilization_share``       part of the last moments in which a kernel ran, 0 to 1; now
``gpu.<i>.memory_used_bytes``       memory in use, now
``gpu.<i>.memory_total_bytes``      memory in all, now
``gpu.<i>.power_w``                 power, now
``gpu.<i>.sm_clock_mhz``            clock of the multiprocessors, now
``gpu.<i>.memory_clock_mhz``        clock of the memory, now
``gpu.<i>.temperature_c``           temperature, now
``server.cpu_share``                use of all cores of the server's host, 0 to 1; now
``server.memory_bytes``             memory in use on the server's host, now
``server.process_memory_bytes``     resident memory of the server's processes, where they are on this host, now
``server.pinned_memory_bytes``      use of the server's pool of pinned memory, now
``generator.<worker>.cpu_share``    CPU time of a load generator, in cores: 1 is one whole core
``generator.<worker>.memory_bytes`` resident memory of a load generator, now
=================================== ======================================================================

Names of ``model.`` are there for the models that the load calls and, where one is an ensemble, for the models that it
is composed of. Means and shares of a stretch in which nothing was answered do not exist.

A value that could not be observed is not there, and ``absent`` says why, under one of these kinds:

- ``statistics``: no model could be read; ``model.<name>``: one could not; ``rejected``: ``rejected_per_s`` of all.
- ``gpu``: nothing of GPUs; ``gpu.clocks`` and ``gpu.temperature``: these of all GPUs; ``gpu.<i>``: one GPU; and
  ``gpu.<i>.utilization``, ``.memory``, ``.power``, ``.clocks`` or ``.temperature``: these of one GPU.
- ``server.cpu``, ``server.memory``, ``server.process_memory``, ``server.pinned_memory``, ``generator.<worker>``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """What was observed at one moment.

    Attributes:
        at_s: The moment, in seconds.
        values: Finite values by name.
    """

    at_s: float
    values: dict[str, float]


class Samples:
    """Samples as they come, kept small: names once, and the values of a moment side by side."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._kept: list[tuple[float, tuple[str, ...], array[float]]] = []

    def add(self, sample: Sample) -> None:
        """Keep one."""
        names = tuple(sample.values)
        self._kept.append((sample.at_s, self._names.setdefault(names, names), array("d", sample.values.values())))

    def __iter__(self) -> Iterator[Sample]:
        for at_s, names, values in sorted(self._kept, key=lambda one: one[0]):
            yield Sample(at_s, dict(zip(names, values, strict=True)))


@dataclass(frozen=True, slots=True)
class Timeline:
    """Samples in the order of their times.

    Attributes:
        interval_s: Seconds between two samples, as wished for.
        samples: The samples.
        absent: Why something could not be observed, by kind, and when, where that was not all the time.
    """

    interval_s: float
    samples: tuple[Sample, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """All names that any sample has, sorted."""
        return tuple(sorted({name for sample in self.samples for name in sample.values}))

    def series(self, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """One name over time.

        Returns:
            Times in seconds, and the values at them; both empty when it was never observed. A gap has no times.
        """
        points = [(sample.at_s, sample.values[name]) for sample in self.samples if name in sample.values]
        return tuple(at_s for at_s, _ in points), tuple(value for _, value in points)

    def between(self, start_s: float, end_s: float) -> Timeline:
        """The samples after ``start_s`` up to ``end_s``: a sample tells of the time before it."""
        within = tuple(sample for sample in self.samples if start_s < sample.at_s <= end_s)
        return Timeline(self.interval_s, within, self.absent)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; a value that is not there is ``None``."""
        series = {name: [sample.values.get(name) for sample in self.samples] for name in self.names()}
        times_s = [sample.at_s for sample in self.samples]
        return {"interval_s": self.interval_s, "at_s": times_s, "series": series, "absent": self.absent}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timeline:
        """The timeline that ``to_dict`` wrote."""
        samples = [
            Sample(at_s, {name: values[i] for name, values in data["series"].items() if values[i] is not None})
            for i, at_s in enumerate(data["at_s"])
        ]
        return cls(data["interval_s"], tuple(samples), dict(data["absent"]))
