"""From a report to a page."""

from __future__ import annotations

from pathlib import Path

from tritonforge_generator.report.bench_plots import plots_from_bench
from tritonforge_generator.report.model import RunReport
from tritonforge_generator.report.pages import page_environment, write_whole
from tritonforge_generator.report.pbtxt import lines_from_text


def render_report(report: RunReport) -> str:
    """Write a report as one HTML document that needs nothing else: no network, no script, no file beside it.

    Args:
        report: What to say.

    Returns:
        The document.

    Raises:
        MissingExtraError: Jinja2, or for a report with a comparison matplotlib, is not installed.
    """
    environment = page_environment()
    environment.filters["pbtxt_lines"] = lines_from_text
    verdict = None if report.passed is None else "Passed" if report.passed else "Failed"
    document = environment.get_template("report.html.j2").render(
        report=report,
        page={
            "title": report.title,
            "verdict": verdict,
            "tool": report.tool,
            "command": report.command,
            "started_at": report.started_at,
            "failures": report.failures,
        },
        bench_plots=plots_from_bench(report.bench) if report.bench is not None and report.bench.entries else [],
    )
    return str(document)


def write_report(report: RunReport, path: Path) -> Path:
    """Write a report to a file, whole or not at all.

    Args:
        report: What to say.
        path: The ``.html`` file; its folder is made if missing, an older report is replaced.

    Returns:
        The path.

    Raises:
        MissingExtraError: Jinja2 or matplotlib is not installed.
        OSError: The file cannot be written.
    """
    return write_whole(render_report(report), path)
