"""What a report says of a comparison of runtimes: plain data, filled by ``bench``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long calls took.

    Attributes:
        p50_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        runs: Calls that were timed.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """The GPU while something was timed; ``None`` for what it does not tell.

    Attributes:
        sm_clock_mhz: Clock of its multiprocessors, median.
        max_sm_clock_mhz: Their highest clock.
        power_w: Power drawn, median.
        temperature_c: Temperature, median.
        memory_bytes: Largest memory in use, less what was in use before.
        memory_before_bytes: Memory in use before.
        name: Its name.
        driver: The driver's version.
    """

    sm_clock_mhz: float | None
    max_sm_clock_mhz: float | None
    power_w: float | None
    temperature_c: float | None
    memory_bytes: int | None
    memory_before_bytes: int | None
    name: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One runtime in one precision and batch size.

    Attributes:
        batch_size: Rows of a call.
        compute: Calls with inputs and outputs on the device that computes.
        total: Calls from and to arrays of the host, copies included; on a CPU the same.
        speedup: How many times faster than the baseline ``compute`` is at this batch size, by medians; ``None`` where
            the baseline was not measured.
        total_speedup: The same of ``total``.
        relative_error: How far the timed rows' answers are from the reference, the worst of all rows; ``None`` where
            that is no number.
        steady: Whether call times had settled before they were taken.
        gpu: The GPU meanwhile; ``None`` where there is none.
    """

    batch_size: int
    compute: Latency
    total: Latency
    speedup: float | None
    total_speedup: float | None
    relative_error: float | None
    steady: bool
    gpu: GpuUse | None

    @property
    def rows_per_s(self) -> float:
        """Rows a second without copies, by the median."""
        return self.batch_size / self.compute.p50_ms * 1e3

    @property
    def total_rows_per_s(self) -> float:
        """Rows a second from and to the host, by the median."""
        return self.batch_size / self.total.p50_ms * 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchEntry:
    """One runtime in one precision.

    Attributes:
        runtime: Its name, for example ``tensorrt``.
        label: Its name for people.
        precision: What it was asked to compute in.
        rows: By batch size.
        relative_error: Largest |answer - reference| / |reference| of any sample and output, as vectors; ``None`` where
            that is no number.
        top1: Share of samples whose largest element keeps its place; ``None`` where outputs have no such axis.
        finite: Whether all answers are finite where the reference is.
        accurate: Whether the error is within what the precision allows.
        correct_share: Share of labelled samples answered right; ``None`` without labels.
        pass_ms: Median time to answer all samples once, in calls of the largest batch, from and to the host.
        on_gpu: Whether it ran on a GPU.
        version: Of the runtime and of its Python.
        plan: Facts of the plan, for TensorRT.
    """

    runtime: str
    label: str
    precision: str
    rows: tuple[BenchRow, ...]
    relative_error: float | None
    top1: float | None
    finite: bool
    accurate: bool
    correct_share: float | None
    pass_ms: float
    on_gpu: bool
    version: str
    plan: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Runtime and precision for people."""
        return f"{self.label} {self.precision}"

    @property
    def best(self) -> BenchRow:
        """The row with the most rows a second without copies."""
        return max(self.rows, key=lambda row: row.rows_per_s)

    @property
    def memory_bytes(self) -> int | None:
        """GPU memory that it took."""
        known = [row.gpu.memory_bytes for row in self.rows if row.gpu is not None and row.gpu.memory_bytes is not None]
        return max(known, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What was asked for and is not in the comparison.

    Attributes:
        name: Runtime, with its precision where only that is left out.
        reason: Why.
        action: What to do about it.
    """

    name: str
    reason: str
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A comparison of runtimes on one model.

    Attributes:
        model: File name of the model.
        samples: Where the inputs come from.
        labelled: Number of labelled samples; 0 for none.
        reference_correct_share: Share of those that the FP32 reference answers right; ``None`` without labels.
        baseline: Name of the entry that the others are compared with; empty when nothing was measured.
        drift: How much slower the baseline was when it was measured again at the end, as a ratio of medians at its
            largest batch; ``None`` where it was not.
        entries: What was measured.
        left_out: What was not.
        notes: What a reader should know beside.
    """

    model: str
    samples: str
    labelled: int
    reference_correct_share: float | None
    baseline: str
    drift: float | None
    entries: tuple[BenchEntry, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        """Whether anything ran on a GPU, so that there are times with and without copies."""
        return any(entry.on_gpu for entry in self.entries)

    @property
    def fastest(self) -> BenchEntry | None:
        """The entry with the most rows a second without copies, of those whose answers are right."""
        return max((one for one in self.entries if one.accurate), key=lambda one: one.best.rows_per_s, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the rates that follow from it."""
        data = asdict(self)
        for entry, plain in zip(self.entries, data["entries"], strict=True):
            for row, plain_row in zip(entry.rows, plain["rows"], strict=True):
                plain_row["rows_per_s"] = row.rows_per_s
                plain_row["total_rows_per_s"] = row.total_rows_per_s
        return data


def bench_from_json(data: Mapping[str, Any]) -> Bench:
    """The comparison that ``Bench.to_json`` wrote."""
    fields = {**data, "left_out": tuple(LeftOut(**one) for one in data["left_out"]), "notes": tuple(data["notes"])}
    return Bench(**{**fields, "entries": tuple(_entry(one) for one in data["entries"])})


def _entry(data: Mapping[str, Any]) -> BenchEntry:
    return BenchEntry(**{**data, "rows": tuple(_row(one) for one in data["rows"])})


def _row(data: Mapping[str, Any]) -> BenchRow:
    derived = {"rows_per_s", "total_rows_per_s"}
    fields = {name: value for name, value in data.items() if name not in derived}
    gpu = data["gpu"]
    fields.update(compute=Latency(**data["compute"]), total=Latency(**data["total"]))
    return BenchRow(**{**fields, "gpu": None if gpu is None else GpuUse(**gpu)})
