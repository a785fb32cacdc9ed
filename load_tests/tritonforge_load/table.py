"""Results as text for a terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tritonforge_client.extras import require_extra
from tritonforge_load.results import CampaignResult, PhaseResult, WorkloadResult

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_WIDTH: Final = 120
_PERCENTS: Final = (50.0, 95.0, 99.0, 99.9)


def tables_from_result(result: CampaignResult) -> list[RenderableType]:
    """Build what a terminal shows of a result.

    Args:
        result: The result.

    Returns:
        Renderables of rich: the phases, the gates and what spoiled the measurement, as far as there are any.

    Raises:
        MissingExtraError: rich is not installed.
    """
    require_extra("rich", "load")
    shown: list[RenderableType] = [_phase_table(result)]
    errors = [
        f"{phase.name}: {row.workload}: {count:,} x {name}"
        for phase in result.phases
        for row in phase.rows
        for name, count in sorted(row.errors.items())
    ]
    if errors:
        shown.append("\n".join(["Errors", *(f"  {line}" for line in errors)]))
    if result.gates:
        shown.append(_gate_table(result))
    shown += [f"PROBLEM {problem}" for problem in result.problems]
    return shown


def text_from_result(result: CampaignResult) -> str:
    """The same as plain text."""
    require_extra("rich", "load")
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=_WIDTH, color_system=None, markup=False, highlight=False)
    for shown in tables_from_result(result):
        console.print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _table(title: str, columns: Sequence[str], *, left: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table


def _phase_table(result: CampaignResult) -> Table:
    percents = [f"p{percent:g}" for percent in _PERCENTS]
    columns = [
        "phase",
        "users",
        "workload",
        "sent",
        "errors",
        "req/s",
        "rows/s",
        *percents,
        "max",
        "correct",
    ]
    table = _table(f"Campaign {result.campaign} on {result.target}, latencies in ms", columns, left=3)
    for phase in result.phases:
        for row in [*phase.rows, *([phase.total] if len(phase.rows) > 1 else [])]:
            table.add_row(*_cells(phase, row))
    return table


def _cells(phase: PhaseResult, row: WorkloadResult) -> list[str]:
    return [
        phase.name,
        str(phase.users),
        row.workload,
        f"{row.sent:,}",
        f"{row.failed:,}",
        _figure(row.rate_per_s, ",.1f"),
        _figure(row.rows_per_s, ",.1f"),
        *(_figure(row.percentile_ms(percent), ",.3f") for percent in _PERCENTS),
        _figure(row.max_ms, ",.3f"),
        _figure(row.correct_share * 100, ".2f") + " %" if row.checked > 0 else "-",
    ]


def _figure(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _gate_table(result: CampaignResult) -> Table:
    table = _table("Gates", ["", "phase", "gate", "reason"], left=4)
    for gate in result.gates:
        table.add_row("PASS" if gate.passed else "FAIL", gate.phase, gate.assertion, gate.reason)
    return table
