from __future__ import annotations

from dataclasses import replace

import pytest
from support import reports

from tritonforge_generator.report import RunReport, load_report_from_campaign, render_report
from tritonforge_load.recording import Cell
from tritonforge_load.results import CampaignResult, PhaseResult, WorkloadResult


def test_carries_the_figures_over() -> None:
    result = reports.campaign_result()
    load = load_report_from_campaign(result)
    measured = result.phases[1].rows[0]
    row = load.rows[1]

    assert [(row.phase, row.workload) for row in load.rows] == [
        ("steady", "one image"),
        ("peak", "one image"),
        ("peak", "eight images"),
        ("peak", "all together"),
    ]
    assert (row.sent, row.errors, row.rate_per_s) == (13_500, {"QueueFull": 6}, measured.rate_per_s)
    assert (row.p50_ms, row.p99_ms, row.max_ms) == (
        measured.percentile_ms(50),
        measured.percentile_ms(99),
        measured.max_ms,
    )
    assert [gate.passed for gate in load.gates] == [gate.passed for gate in result.gates]


def test_phases_follow_one_another_on_the_time_axis() -> None:
    load = load_report_from_campaign(reports.campaign_result())

    assert [(phase.start_s, phase.end_s, phase.arrival) for phase in load.phases] == [
        (0.0, 15.0, "closed, 4 users"),
        (15.0, 30.0, "closed, 16 users"),
    ]
    assert [moment.at_s for moment in load.moments] == [second + 0.5 for second in range(30)]
    assert [moment.errors_per_s for moment in load.moments if moment.errors_per_s] == [6.0]


def test_a_part_of_a_second_counts_as_such() -> None:
    cell = Cell()
    cell.record(0, 1_000_000, 1, None)
    cell.record(1, 1_000_000, 1, "Unavailable")
    phase = PhaseResult("short", "closed", 1, 1.25, (WorkloadResult("w", 1.25, cell),))
    last = load_report_from_campaign(CampaignResult("c", "t", (phase,))).moments[-1]

    assert (last.at_s, last.errors_per_s, last.p50_ms) == (1.125, 4.0, None)


def test_curves_end_where_the_data_does() -> None:
    curves = load_report_from_campaign(reports.campaign_result()).curves

    assert [curve.label for curve in curves] == ["steady, one image", "peak, one image", "peak, eight images"]
    for curve, answered in zip(curves, (12_000, 13_494, 900), strict=True):
        percents, latencies_ms = zip(*curve.points, strict=True)
        assert list(percents) == sorted(percents)
        assert list(latencies_ms) == sorted(latencies_ms)
        assert percents[0] == 0
        assert percents[-1] <= 100 * (1 - 1 / answered)


@pytest.mark.parametrize("error", [None, "Unavailable"], ids=["one answer", "no answer"])
def test_hardly_any_data_is_still_a_report(error: str | None) -> None:
    cell = Cell()
    cell.record(0, 1_000_000, 1, error)
    row = WorkloadResult("w", 2.0, cell)
    phase = PhaseResult("p", "closed", 1, 2.0, (row,))
    result = replace(reports.campaign_result(), phases=(phase,), gates=())
    load = load_report_from_campaign(result)

    assert load.rows[0].p50_ms == (1.0 if error is None else None)
    assert load.curves == ()
    document = render_report(RunReport(title="m", command="c", started_at="now", tool="t", load=load))
    assert document.count("<svg") == (2 if error is None else 1)


def test_nothing_measured_at_all() -> None:
    load = load_report_from_campaign(CampaignResult("c", "t", (), problems=("no phase was measured",)))
    assert (load.rows, load.moments, load.problems) == ((), (), ("no phase was measured",))
