"""One self-contained HTML page about a run: what was made, what proved it, how fast it answers."""

from tritonforge_generator.report.bench import Bench, BenchEntry, BenchRow, GpuUse, Latency, LeftOut, bench_from_json
from tritonforge_generator.report.generated import (
    model_report_from_generated,
    report_from_failure,
    report_from_generated,
)
from tritonforge_generator.report.here import report_here, software
from tritonforge_generator.report.model import (
    Accuracy,
    Fact,
    ModelReport,
    RunReport,
    Stage,
)
from tritonforge_generator.report.render import render_report, write_report
from tritonforge_generator.report.section import Headline, Section

__all__ = [
    "Accuracy",
    "Bench",
    "BenchEntry",
    "BenchRow",
    "Fact",
    "GpuUse",
    "Headline",
    "Latency",
    "LeftOut",
    "ModelReport",
    "RunReport",
    "Section",
    "Stage",
    "bench_from_json",
    "model_report_from_generated",
    "render_report",
    "report_from_failure",
    "report_from_generated",
    "report_here",
    "software",
    "write_report",
]
