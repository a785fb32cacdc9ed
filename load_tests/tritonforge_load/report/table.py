"""Results as tables for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tritonforge_generator.report.figures import count, milliseconds, percent, significant
from tritonforge_load.judge.repeats import Interval
from tritonforge_load.measure import CampaignResult, PhaseResult, Verdict, WorkloadResult
from tritonforge_load.report import view
from tritonforge_load.report.terminal import Column, paragraph, table_of, text_of, width_of_output

if TYPE_CHECKING:
    from rich.console import RenderableType

_DASH: Final = "-"
_WORDS: Final[dict[Verdict, str]] = {
    "pass": "PASS",
    "fail": "FAIL",
    "invalid": "INVALID",
    "inconclusive": "INCONCLUSIVE",
}
_PERCENTS: Final = {50.0: 0, 90.0: 3, 95.0: 6, 99.0: 0, 99.9: 7, 99.99: 4}
"""Which percentiles are shown, and how soon they go where the terminal is narrow."""


def tables_from_result(result: CampaignResult, width: int | None = None) -> list[RenderableType]:
    """Build what a terminal shows of a result.

    Args:
        result: The result.
        width: Letters that a line holds; that of standard output if not given.

    Returns:
        Renderables of rich: figures by phase, repeats, searches, the server's side, what was not observed, gates,
        what spoiled the measurement and the verdict, as far as there are any.

    Raises:
        MissingExtraError: rich is not installed.
    """
    width = width or width_of_output()
    rows = view.phase_rows(result)
    shown = _figures(result, rows, width)
    repeated = [one for one in rows if one.intervals]
    if repeated:
        shown += _repeats(repeated, width)
    for phase in result.phases:
        if phase.search is not None:
            shown += _search(phase, width)
    shown += _server(result, width)
    shown += _paragraphs("Errors", _errors(result))
    shown += _paragraphs("Not observed", [f"{kind}: {reason}" for kind, reason in result.timeline.absent.items()])
    if result.gates:
        shown += _gates(result, width)
    doubts = [
        f"UNSTEADY {run.run}: {'; '.join(run.unsteady)}"
        for phase in result.phases
        for run in phase.judged_runs
        if run.unsteady
    ]
    invalid = [f"INVALID {phase.name}: {'; '.join(phase.invalid)}" for phase in result.phases if phase.invalid]
    problems = [f"PROBLEM {problem}" for problem in result.problems]
    shown += [paragraph(line, "yellow") for line in (*doubts, *invalid, *problems)]
    return [*shown, _verdict(result)] if result.gates or not result.passed else shown


def text_from_result(result: CampaignResult, width: int | None = None) -> str:
    """The same as text, in colour where standard output is a terminal.

    Args:
        result: The result.
        width: Letters that a line holds; that of standard output if not given.

    Raises:
        MissingExtraError: rich is not installed.
    """
    return text_of(tables_from_result(result, width), width)


def _figures(result: CampaignResult, rows: list[view.PhaseRow], width: int) -> list[RenderableType]:
    figures = [one.row for one in rows]
    columns = [
        Column("phase", [one.phase.name for one in rows], left=True),
        Column("load", [_load(one.phase) for one in rows], keep=1, left=True),
        Column("workload", [one.name for one in rows], left=True),
        Column("sent", [count(row.sent) for row in figures], keep=8),
        Column("errors", [count(row.failed) for row in figures]),
        Column("req/s", [_number(row.rate_per_s, 4) for row in figures]),
    ]
    if any(row.shed > 0 for row in figures):
        columns.insert(5, Column("shed", [count(row.shed) for row in figures], keep=9))
    if any(row.rows_per_s != row.rate_per_s for row in figures if row.sent > 0):
        columns.append(Column("rows/s", [_number(row.rows_per_s, 4) for row in figures], keep=2))
    columns += [
        Column(f"p{share:g}", [_milliseconds(view.told_ms(row, share)) for row in figures], keep=keep)
        for share, keep in _PERCENTS.items()
    ]
    columns.append(Column("max", [_milliseconds(view.known(row.max_ms)) for row in figures], keep=5))
    if any(row.cell.service.count > 0 for row in figures):
        columns.append(Column("svc p99", [_milliseconds(view.known(row.service_ms(99))) for row in figures], keep=5))
    if any(row.checked > 0 for row in figures):
        columns.append(Column("right", [_share(row.correct_share) for row in figures], keep=6))
    return table_of(f"Campaign {result.campaign} on {result.target}, latencies in ms", columns, width)


def _repeats(rows: list[view.PhaseRow], width: int) -> list[RenderableType]:
    names = {"rate_per_s": ("req/s", 0), "p50_ms": ("p50", 2), "p95_ms": ("p95", 1), "p99_ms": ("p99", 0)}
    columns = [
        Column("phase", [one.phase.name for one in rows], left=True),
        Column("workload", [one.name for one in rows], left=True),
        Column("runs", [str(len(one.phase.judged_runs)) for one in rows]),
        *(
            Column(heading, [_interval(one.intervals[name]) for one in rows], keep=keep)
            for name, (heading, keep) in names.items()
        ),
    ]
    return table_of("Mean over the runs and its 95 % interval, latencies in ms", columns, width)


def _search(phase: PhaseResult, width: int) -> list[RenderableType]:
    tried = view.tried_of(phase)
    totals = [one.total for one in tried]
    percents = {50.0: 2, 95.0: 1, 99.0: 0}
    columns = [
        Column("load", [count(one.step.load) for one in tried]),
        Column(
            "held", ["held" if one.step.held else "invalid" if one.is_invalid else "no" for one in tried], left=True
        ),
        Column("req/s", [_DASH if row is None else _number(row.rate_per_s, 4) for row in totals]),
        *(Column(f"p{share:g}", [_told(row, share) for row in totals], keep=keep) for share, keep in percents.items()),
        Column("errors", [_DASH if row is None else count(row.failed) for row in totals]),
        Column("why not", ["; ".join(one.step.reasons) for one in tried], left=True, folds=True),
    ]
    unit = "requests/s" if phase.search is not None and phase.search.over == "rate" else "users"
    title = f"Search {phase.name} over {unit}, latencies in ms"
    return [*table_of(title, columns, width), paragraph(f"{view.found_words(phase)}.\n")]


def _server(result: CampaignResult, width: int) -> list[RenderableType]:
    served = [(phase.name, facts) for phase in result.phases for facts in view.model_rows(phase)]
    if not served:
        return []
    models = [facts for _, facts in served]
    columns = [
        Column("phase", [phase for phase, _ in served], left=True),
        Column("model", [facts.model for facts in models], left=True),
        Column("requests", [count(facts.requests) for facts in models], keep=1),
        Column("failed", [count(facts.failed) for facts in models], keep=3),
        Column("queue share", [_share(facts.queue_share) for facts in models]),
        Column("queue", [_milliseconds(view.known(facts.queue_mean_ms)) for facts in models]),
        Column("compute", [_milliseconds(view.known(facts.compute_infer_mean_ms)) for facts in models]),
        Column("rows a batch", [_number(facts.batch_rows_mean, 3) for facts in models]),
    ]
    if any(facts.cache_hits + facts.cache_misses > 0 for facts in models):
        columns.append(Column("from cache", [_share(facts.cache_hit_share) for facts in models], keep=2))
    shown = table_of("The server's side, mean times of a request in ms", columns, width)
    incomplete = [f"{phase}, {facts.model}: {facts.incomplete}" for phase, facts in served if facts.incomplete]
    return [*shown, *_paragraphs("Incomplete", incomplete)]


def _gates(result: CampaignResult, width: int) -> list[RenderableType]:
    columns = [
        Column("", [_WORDS[gate.verdict] for gate in result.gates], left=True),
        Column("phase", [gate.phase for gate in result.gates], left=True),
        Column("gate", [gate.assertion for gate in result.gates], left=True),
        Column("reason", [gate.reason for gate in result.gates], left=True, folds=True),
    ]
    return table_of("Gates", columns, width)


def _verdict(result: CampaignResult) -> RenderableType:
    passed = sum(gate.passed for gate in result.gates)
    gates = f", {passed} of {len(result.gates)} gates passed" if result.gates else ""
    style = {"pass": "bold green", "fail": "bold red"}.get(result.verdict, "bold yellow")
    return paragraph(f"{view.VERDICT_WORDS[result.verdict]}{gates}", style)


def _errors(result: CampaignResult) -> list[str]:
    return [
        f"{phase.name}, {row.workload}: {number:,} x {name}"
        for phase in result.phases
        for row in phase.rows
        for name, number in sorted(row.errors.items())
    ]


def _paragraphs(title: str, lines: list[str]) -> list[RenderableType]:
    return [paragraph("\n".join([title, *(f"  {line}" for line in lines), ""]))] if lines else []


def _load(phase: PhaseResult) -> str:
    return view.load_words(phase.judged_runs[0]) if phase.judged_runs else _DASH


def _told(row: WorkloadResult | None, share: float) -> str:
    return _DASH if row is None else _milliseconds(view.told_ms(row, share))


def _milliseconds(value_ms: float | None) -> str:
    return _DASH if value_ms is None else milliseconds(value_ms)


def _number(value: float, digits: int) -> str:
    return _DASH if math.isnan(value) else significant(value, digits)


def _share(value: float) -> str:
    return _DASH if math.isnan(value) else percent(value)


def _interval(found: Interval) -> str:
    return f"{significant(found.mean, 4)} \N{PLUS-MINUS SIGN} {significant(found.margin, 2)}"
