"""Results as CSV: one file with a line a run and workload, one with a line a sample of the time line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tritonforge_load.measure import CampaignResult, PhaseResult, RunResult, WorkloadResult

_OF_RUN: Final = (
    "campaign",
    "phase",
    "run",
    "judged",
    "arrival",
    "users",
    "offered_per_s",
    "starts_s",
    "duration_s",
    "invalid",
    "unsteady",
    "workers",
    "workers_lost",
    "scheduled",
    "generator_cpu_share",
)


def csv_from_result(result: CampaignResult) -> str:
    """Write one line a run and workload, and one a run for all workloads together (``*``).

    Columns are those of the JSON output; percentiles are in milliseconds, shares from 0 to 1, several errors or reasons
    are separated by ``; ``, and what does not exist is empty. ``judged`` is 1 for runs whose figures are the phase's.

    Args:
        result: The result.
    """
    lines = [
        {**_run_values(result, phase, run), **_row_values(row)}
        for phase in result.phases
        for run in phase.runs
        for row in (*run.rows, run.total)
    ]
    columns = tuple(lines[0]) if lines else _OF_RUN
    return _text(columns, ([line[column] for column in columns] for line in lines))


def timeline_csv_from_result(result: CampaignResult) -> str:
    """Write one line a sample: its time, the run that it falls into if any, and a column a name of ``Timeline``.

    Args:
        result: The result.
    """
    timeline = result.timeline
    names = timeline.names()
    lines = (
        [sample.at_s, _run_at(result, sample.at_s), *(sample.values.get(name, "") for name in names)]
        for sample in timeline.samples
    )
    return _text(["at_s", "run", *names], lines)


def _text(columns: Sequence[str], lines: Iterator[list[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in line] for line in lines)
    return out.getvalue()


def _run_values(result: CampaignResult, phase: PhaseResult, run: RunResult) -> dict[str, Any]:
    facts = run.generator
    values = (
        result.campaign,
        phase.name,
        run.run,
        int(any(run is judged for judged in phase.judged_runs)),
        run.arrival,
        run.users,
        run.rate_per_s,
        run.starts_s,
        run.duration_s,
        "; ".join(run.invalid),
        "; ".join(run.unsteady),
        facts.workers,
        facts.workers_lost,
        facts.scheduled,
        facts.cpu_share,
    )
    return dict(zip(_OF_RUN, values, strict=True))


def _row_values(row: WorkloadResult) -> dict[str, Any]:
    errors = "; ".join(f"{name}={count}" for name, count in sorted(row.errors.items()))
    return row.summary() | {"errors": errors}


def _run_at(result: CampaignResult, at_s: float) -> str:
    """A sample tells of the time before it, so one at the very start of a run is not of it."""
    for phase in result.phases:
        for run in phase.runs:
            if run.starts_s < at_s <= run.starts_s + run.duration_s:
                return run.run
    return ""
