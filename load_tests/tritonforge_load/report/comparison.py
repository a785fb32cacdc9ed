"""Two campaigns compared, as a table for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tritonforge_load.campaign.assertion import METRICS
from tritonforge_load.judge.compare import Change, ChangeVerdict, Comparison
from tritonforge_load.report.terminal import Column, paragraph, table_of, text_of, width_of_output

if TYPE_CHECKING:
    from rich.console import RenderableType

_DASH: Final = "-"
_SENTENCES: Final[dict[ChangeVerdict, str]] = {
    "better": "Better: at least one figure is, and none is worse",
    "worse": "Worse: at least one figure is",
    "same": "The same, as far as it matters",
    "unknown": "Unknown: too little was measured to tell",
}
_STYLES: Final[dict[ChangeVerdict, str]] = {
    "better": "bold green",
    "worse": "bold red",
    "same": "bold",
    "unknown": "bold yellow",
}


def tables_from_comparison(comparison: Comparison, width: int | None = None) -> list[RenderableType]:
    """Build what a terminal shows of a comparison.

    Args:
        comparison: The comparison.
        width: Letters that a line holds; that of standard output if not given.

    Returns:
        Renderables of rich: every figure with its change, what could not be compared, what else differs, the verdict.

    Raises:
        MissingExtraError: rich is not installed.
    """
    shown: list[RenderableType] = []
    if comparison.changes:
        shown += _changes(comparison, width or width_of_output())
    doubts = _doubts(comparison)
    not_compared = [f"{what}: {reason}" for what, reason in comparison.not_compared.items()]
    told = {"Unknown": doubts, "Not compared": not_compared, "What else differs": list(comparison.differences)}
    for title, lines in told.items():
        if lines:
            shown.append(paragraph("\n".join([title, *(f"  {line}" for line in lines), ""])))
    return [*shown, paragraph(_SENTENCES[comparison.verdict], _STYLES[comparison.verdict])]


def text_from_comparison(comparison: Comparison, width: int | None = None) -> str:
    """The same as text, in colour where standard output is a terminal.

    Args:
        comparison: The comparison.
        width: Letters that a line holds; that of standard output if not given.

    Raises:
        MissingExtraError: rich is not installed.
    """
    return text_of(tables_from_comparison(comparison, width), width)


def _changes(comparison: Comparison, width: int) -> list[RenderableType]:
    changes = comparison.changes
    columns = [
        Column("", [change.verdict for change in changes], left=True),
        Column("phase", [change.phase for change in changes], left=True),
        Column("figure", [_figure(change) for change in changes], left=True),
        Column("before", [_value(change.metric, change.before) for change in changes], keep=2),
        Column("after", [_value(change.metric, change.after) for change in changes], keep=3),
        Column("change", [_change(change) for change in changes]),
        Column("noise from", [change.basis or _DASH for change in changes], keep=1, left=True),
    ]
    titles = paragraph(f"Before  {comparison.before}\nAfter   {comparison.after}\n")
    confidence, tolerance = (f"{share * 100:.3g} %" for share in (comparison.confidence, comparison.tolerance))
    title = f"Changes, with the noise at {confidence} confidence; up to {tolerance} does not matter"
    return [titles, *table_of(title, columns, width)]


def _doubts(comparison: Comparison) -> list[str]:
    """Why figures are unknown: one line each, and one for all that drown in noise."""
    unknown = [change for change in comparison.changes if change.verdict == "unknown"]
    noisy = [change for change in unknown if change.basis is not None and math.isfinite(change.noise)]
    lines = [f"{change.phase}, {_figure(change)}: {change.reason}" for change in unknown if change not in noisy]
    if noisy:
        lines.append("the noise could hide a change that matters: play longer, or repeat more often")
    return lines


def _figure(change: Change) -> str:
    """As gates name it."""
    return change.metric if change.workload is None else f"{change.metric}({change.workload})"


def _value(metric: str, value: float | None) -> str:
    kind = METRICS.get(metric, METRICS["mean"])  # a percentile is a latency, as the mean is
    return _DASH if value is None else kind.text_from_value(value)


def _change(change: Change) -> str:
    if math.isnan(change.change):
        return _DASH
    unit = "pp" if change.is_share else "%"
    size = f"{change.change * 100:+.2f}" if change.is_share else f"{change.change * 100:+.1f}"
    if not math.isfinite(change.noise):
        return f"{size} {unit}"
    return f"{size} \N{PLUS-MINUS SIGN} {change.noise * 100:.2g} {unit}"
