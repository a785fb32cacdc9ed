from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.judged import MS, cell_of, open_run, run_of

from tritonforge_load.campaign import Validity
from tritonforge_load.judge import invalid_reasons
from tritonforge_load.measure import Cell, RunResult


def open_cell(*, slips_ms: list[float], shed: int = 0, error: str | None = None) -> Cell:
    cell = Cell(shed=shed)
    for slip_ms in slips_ms:
        slip_ns = round(slip_ms * MS)
        cell.record_open(0, 5 * MS + slip_ns, 1, error, service_ns=5 * MS, slip_ns=slip_ns)
    return cell


def run_with(cell: Cell, **generator: Any) -> RunResult:
    return open_run(run_of(cls=cell), **generator)


def reasons_of(run: RunResult, **bounds: str) -> tuple[str, ...]:
    return invalid_reasons(run, Validity.model_validate(bounds))


GOOD = open_cell(slips_ms=[0.1] * 1000)


def test_a_generator_that_kept_up_is_valid() -> None:
    assert reasons_of(run_with(GOOD, scheduled=1010, cpu_share=0.84, clock_error_s=0.05, workers=4)) == ()


@pytest.mark.parametrize(
    ("generator", "reason"),
    [
        (
            {"scheduled": 1011},
            "98.91 % of the load was sent, less than 99 % (1,000 of 1,011 requests due): add workers",
        ),
        ({"cpu_share": 0.85}, "the busiest load generator took 85 % of its core, not below 85 %: add workers"),
        ({"workers": 4, "workers_lost": 1}, "1 of 4 workers of the load generator were lost: see their output"),
        (
            {"clock_error_s": 0.08},
            "the workers may have begun 80 ms apart, more than 50 ms: mend their network",
        ),
    ],
)
def test_what_was_out_of_bounds_is_said(generator: dict[str, Any], reason: str) -> None:
    assert reasons_of(run_with(GOOD, **generator)) == (reason,)


def test_what_is_barely_out_of_bounds_is_not_said_to_be_at_them() -> None:
    assert reasons_of(run_with(GOOD, cpu_share=0.85004)) == (
        "the busiest load generator took 85.004 % of its core, not below 85 %: add workers",
    )
    assert reasons_of(run_with(GOOD, clock_error_s=0.050001))[0].startswith(
        "the workers may have begun 50.001 ms apart, more than 50 ms"
    )


def test_late_sending_is_judged_by_its_99th_percentile() -> None:
    assert reasons_of(run_with(open_cell(slips_ms=[0.1] * 990 + [9.0] * 10))) == ()
    late = run_with(open_cell(slips_ms=[0.1] * 980 + [2.5] * 20))
    assert reasons_of(late) == (
        "requests were sent 2.5 ms late (p99), not below 2 ms: add workers or free the host",
    )  # fmt: skip
    assert reasons_of(late, slip_p99="< 3ms") == ()


def test_bounds_are_the_campaigns() -> None:
    run = run_with(GOOD, scheduled=1200, cpu_share=0.9)
    assert len(reasons_of(run)) == 2
    assert reasons_of(run, achieved=">= 80%", generator_cpu="< 95%") == ()


def test_shed_requests_were_the_servers_doing() -> None:
    assert reasons_of(run_with(open_cell(slips_ms=[0.1] * 500, shed=500), scheduled=1000)) == ()


def test_a_closed_run_is_not_late_and_has_no_schedule() -> None:
    assert reasons_of(run_of(cls=cell_of([1.0] * 10))) == ()
    busy = replace(run_of(cls=cell_of([1.0])), generator=replace(run_of(cls=Cell()).generator, cpu_share=0.99))
    assert len(reasons_of(busy)) == 1


def test_a_server_that_answers_nothing_is_no_matter_of_validity() -> None:
    assert reasons_of(run_with(open_cell(slips_ms=[0.1] * 100, error="Timeout"))) == ()


def test_nothing_sent_of_what_was_due_is_invalid() -> None:
    (reason,) = reasons_of(run_with(Cell(), scheduled=100))
    assert reason.startswith("0 % of the load was sent")


def test_every_reason_is_said() -> None:
    run = run_with(open_cell(slips_ms=[9.0] * 10), scheduled=1000, cpu_share=0.99, workers=2, workers_lost=1)
    assert len(reasons_of(run)) == 4
