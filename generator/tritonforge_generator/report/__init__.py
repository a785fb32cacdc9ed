"""One self-contained HTML page about a run: what was made, what proved it, how fast it answers."""

from tritonforge_generator.report.bench import Bench, BenchEntry, BenchRow, GpuUse, Latency, LeftOut, bench_from_json
from tritonforge_generator.report.campaign import load_report_from_campaign
from tritonforge_generator.report.model import (
    Accuracy,
    Fact,
    Gate,
    LatencyCurve,
    LoadReport,
    LoadRow,
    Moment,
    Phase,
    RunReport,
    Stage,
)
from tritonforge_generator.report.render import render_report, write_report

__all__ = [
    "Accuracy",
    "Bench",
    "BenchEntry",
    "BenchRow",
    "Fact",
    "Gate",
    "GpuUse",
    "Latency",
    "LatencyCurve",
    "LeftOut",
    "LoadReport",
    "LoadRow",
    "Moment",
    "Phase",
    "RunReport",
    "Stage",
    "bench_from_json",
    "load_report_from_campaign",
    "render_report",
    "write_report",
]
