"""From a report to a page."""

from __future__ import annotations

import os
import tempfile
from importlib.resources import files
from pathlib import Path

from tritonforge_client.extras import require_extra
from tritonforge_generator.report import figures
from tritonforge_generator.report.bench_plots import plots_from_bench
from tritonforge_generator.report.model import LoadRow, RunReport
from tritonforge_generator.report.pbtxt import lines_from_text
from tritonforge_generator.report.plots import plots_from_load

_FILTERS = {
    "cosine": figures.cosine,
    "count": figures.count,
    "duration": figures.duration,
    "flops": figures.flops,
    "latency": figures.latency,
    "milliseconds": figures.milliseconds,
    "pbtxt_lines": lines_from_text,
    "percent": figures.percent,
    "scientific": figures.scientific,
    "shape": figures.shape,
    "significant": figures.significant,
    "size": figures.size,
}


def render_report(report: RunReport) -> str:
    """Write a report as one HTML document that needs nothing else: no network, no script, no file beside it.

    Args:
        report: What to say.

    Returns:
        The document.

    Raises:
        MissingExtraError: Jinja2, or for a report with a load test matplotlib, is not installed.
    """
    jinja2 = require_extra("jinja2", "report")
    templates = files("tritonforge_generator.report") / "templates"
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
    )
    environment.filters.update(_FILTERS)
    rows = report.load.rows if report.load is not None else ()
    document = environment.get_template("report.html.j2").render(
        report=report,
        style=(templates / "report.css").read_text(encoding="utf-8"),
        columns=_telling_columns(rows),
        plots=plots_from_load(report.load) if report.load is not None else [],
        bench_plots=plots_from_bench(report.bench) if report.bench is not None and report.bench.entries else [],
    )
    return str(document)


def _telling_columns(rows: tuple[LoadRow, ...]) -> set[str]:
    """The optional columns that say something that the others do not."""
    telling = set()
    if any(row.rows_per_s != row.rate_per_s for row in rows):
        telling.add("rows_per_s")
    if any(row.correct_share is not None for row in rows):
        telling.add("correct_share")
    return telling


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
    document = render_report(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(document)
        Path(temporary).chmod(0o644)  # mkstemp's own mode keeps others from reading it
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
