"""A comparison as a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tritonforge_generator.bench.run import BenchRun
from tritonforge_generator.report import Fact, GpuUse, ModelReport, Stage, report_here, write_report
from tritonforge_generator.report.figures import size


def write_page(done: BenchRun, path: Path, command: Sequence[str]) -> Path:
    """Write the HTML report of a comparison.

    Args:
        done: The comparison.
        path: The ``.html`` file.
        command: What was run.

    Raises:
        MissingExtraError: Jinja2 or matplotlib is not installed.
    """
    report = replace(
        report_here(done.bench.model, command, _environment(done)),
        stages=tuple(Stage(name=name, duration_s=seconds) for name, seconds in done.stage_s.items()),
        models=(ModelReport(name=done.bench.model, graph=done.graph),),
        bench=done.bench,
    )
    return write_report(report, path)


def _environment(done: BenchRun) -> Iterator[Fact]:
    gpu = next((row.gpu for entry in done.bench.entries for row in entry.rows if row.gpu is not None), None)
    if gpu is not None:
        yield from _gpu_facts(gpu)


def _gpu_facts(gpu: GpuUse) -> Iterator[Fact]:
    yield Fact(label="GPU", value=f"{gpu.name}, driver {gpu.driver}")
    if gpu.max_sm_clock_mhz is not None:
        yield Fact(label="SM clock", value=f"at most {gpu.max_sm_clock_mhz:.0f} MHz")
    if gpu.memory_before_bytes is not None:
        yield Fact(label="GPU memory", value=f"{size(gpu.memory_before_bytes)} in use before")
