"""What drawings are made from: the knee, and points over time."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load.made_results import long_result, made_result, poisson_run

from tritonforge_load.measure import CampaignResult, Cell, Histogram, PhaseResult, RunResult, WorkloadResult
from tritonforge_load.observe.timeline import Sample, Timeline
from tritonforge_load.report.knee import curves_from_result, knee_of
from tritonforge_load.report.over_time import (
    MOST_POINTS,
    Span,
    end_s_of,
    moments_of,
    sample_width_s,
    spans_of,
    thinned,
    width_s_of,
)
from tritonforge_load.report.time_plots import placed_names


def queue_ms(load: float) -> float:
    """M/M/1 with room for 1,000/s."""
    return 1000 / (1000 - load)


def test_the_knee_of_a_queue_is_where_it_turns_up() -> None:
    loads = [100.0 * step for step in range(1, 10)] + [950.0, 990.0]
    knee = knee_of([(load, queue_ms(load)) for load in loads])
    assert knee is not None
    assert 700 <= loads[knee] <= 900


def test_the_knee_is_before_saturation_however_far_that_was_driven() -> None:
    points = [(100.0, 2.0), (200.0, 2.1), (400.0, 2.6), (800.0, 6.0), (900.0, 900.0), (1000.0, 9000.0)]
    for end in (5, 6):
        assert knee_of(points[:end]) == 3


@pytest.mark.parametrize(
    "points",
    [
        [(load, 2.0) for load in (1.0, 2.0, 3.0, 4.0, 5.0)],
        [(load, 2 * math.exp(load)) for load in (1.0, 2.0, 3.0, 4.0, 5.0)],  # straight on a logarithmic axis
        [(load, 10 / load) for load in (1.0, 2.0, 3.0, 4.0, 5.0)],
        [(1.0, 1.0), (2.0, 1.0), (3.0, 100.0)],
    ],
    ids=["flat", "steady rise", "falling", "three loads"],
)
def test_a_curve_that_does_not_bend_has_no_knee(points: list[tuple[float, float]]) -> None:
    assert knee_of(points) is None


@given(
    st.lists(st.tuples(st.floats(1, 1e5), st.floats(1e-3, 1e6)), min_size=4, max_size=30, unique_by=lambda it: it[0])
)
def test_a_knee_is_a_point_and_never_an_end(points: list[tuple[float, float]]) -> None:
    ordered = sorted(points)
    knee = knee_of(ordered)
    assert knee is None or 0 < knee < len(ordered) - 1


def test_loads_of_a_search_are_ordered_and_those_tried_again_are_one() -> None:
    (curve,) = curves_from_result(made_result())
    assert curve.name == "peak"
    assert [point.load for point in curve.points] == [100, 200, 400, 800, 1000, 1200, 1600]
    runs = [run for run in made_result().phase("peak").runs if run.rate_per_s == 800]
    assert curve.points[3].total.sent == sum(run.total.sent for run in runs)
    assert curve.knee is curve.points[3]


def test_phases_at_several_loads_make_a_curve_without_invalid_runs() -> None:
    runs = [poisson_run(f"at-{rate}", rate, 2.0, 3.0 * step, step) for step, rate in enumerate((100, 300, 500, 700))]
    runs[1] = replace(runs[1], invalid=("slip",))
    phases = tuple(PhaseResult(run.run, (run,)) for run in runs)
    (curve,) = curves_from_result(CampaignResult("c", "t", phases))
    assert [point.load for point in curve.points] == [100, 500, 700]
    assert (curve.left_out, curve.by_users) == (1, False)
    assert curves_from_result(CampaignResult("c", "t", phases[:3])) == [], "two loads are no curve"


def run_with(latencies_ms: list[list[float]], duration_s: float, starts_s: float = 0.0, **more: object) -> RunResult:
    cell = Cell()
    for second, values in enumerate(latencies_ms):
        for value in values:
            cell.record(second, round(value * 1e6), 1, None)
    row = WorkloadResult("w", duration_s, cell)
    return replace(RunResult("r", "closed", 1, None, starts_s, duration_s, (row,)), **more)  # type: ignore[arg-type]  # fields


def test_a_point_of_several_seconds_has_their_true_percentiles() -> None:
    draw = random.Random(4)
    seconds = [[draw.lognormvariate(0, 1) for _ in range(draw.randrange(5, 400))] for _ in range(20)]
    phase = PhaseResult("p", (run_with(seconds, 20.0, starts_s=100.0),))
    moments = moments_of(CampaignResult("c", "t", (phase,)), 5)
    assert [moment.at_s for moment in moments] == [102.5, 107.5, 112.5, 117.5]
    for place, moment in enumerate(moments):
        values = [value for second in seconds[5 * place : 5 * place + 5] for value in second]
        exact = Histogram(round(value * 1e6) for value in values)
        assert moment.latency_ms == tuple(value / 1e6 for value in exact.percentiles_ns([50, 95, 99]))
        assert moment.answered_per_s == len(values) / 5


def test_loads_that_were_shed_do_not_hide_the_knee() -> None:
    """What was measured on a GPU: from 10,000/s on, 512 requests in flight are the limit, not the server."""
    p99s_ms = {1000: 3.4, 2000: 4.0, 4000: 4.8, 8000: 8.4, 9000: 15.4, 10_000: 54.4, 12_000: 58.1, 16_000: 55.7}
    phases = []
    for rate, p99_ms in p99s_ms.items():
        run = run_with([[p99_ms] * 100], 1.0, arrival="poisson", users=None, rate_per_s=float(rate))
        if rate >= 10_000:
            run.rows[0].cell.record_shed(0)
        phases.append(PhaseResult(f"at-{rate}", (run,)))
    (curve,) = curves_from_result(CampaignResult("c", "t", tuple(phases)))
    assert curve.knee is not None
    assert curve.knee.load == 8000
    assert [point.load for point in curve.points] == list(p99s_ms), "all are drawn"


def test_a_part_of_a_second_counts_as_such() -> None:
    run = run_with([[1.0], []], 1.25)
    run.rows[0].cell.record(1, 1_000_000, 1, "Unavailable")
    last = moments_of(CampaignResult("c", "t", (PhaseResult("p", (run,)),)), 1)[-1]
    assert (last.at_s, last.errors_per_s, last.answered_per_s) == (1.125, 4.0, 0.0)
    assert math.isnan(last.latency_ms[0])


def test_what_was_shed_was_offered_too() -> None:
    run = run_with([[1.0] * 60, [1.0] * 80], 2.0, arrival="poisson", users=None, rate_per_s=100.0)
    for second, shed in ((0, 40), (1, 20)):
        for _ in range(shed):
            run.rows[0].cell.record_shed(second)
    result = CampaignResult("c", "t", (PhaseResult("p", (run,)),))
    assert [moment.offered_per_s for moment in moments_of(result, 1)] == [100.0, 100.0]
    closed = replace(result, phases=(PhaseResult("p", (replace(run, users=1),)),))
    assert all(math.isnan(moment.offered_per_s) for moment in moments_of(closed, 1))


def test_no_line_leads_from_one_run_to_the_next() -> None:
    moments = moments_of(made_result(), 1)
    runs = [run for phase in made_result().phases for run in phase.runs]
    assert sum(math.isnan(moment.at_s) for moment in moments) == len(runs) - 1
    times_s = [moment.at_s for moment in moments if not math.isnan(moment.at_s)]
    assert times_s == sorted(times_s)


def test_long_campaigns_are_thinned_and_short_ones_are_not() -> None:
    assert (width_s_of(made_result()), sample_width_s(made_result().timeline)) == (1, 1.0)
    width_s, sample_s = width_s_of(long_result()), sample_width_s(long_result().timeline)
    drawn = [moment for moment in moments_of(long_result(), width_s) if not math.isnan(moment.at_s)]
    assert (width_s, sample_s) == (10, 10.0)
    assert len(drawn) <= MOST_POINTS
    assert len(thinned(long_result().timeline, "gpu.7.power_w", sample_s).values) <= MOST_POINTS + 1


def test_a_thinned_value_is_the_mean_of_its_piece_and_gaps_stay() -> None:
    samples = tuple(
        Sample(0.5 * place, {"x": float(place % 4)} if not 100 <= place < 300 else {}) for place in range(1, 1601)
    )
    timeline = Timeline(0.5, samples)
    width_s = sample_width_s(timeline)
    drawn = thinned(timeline, "x", width_s)
    assert width_s == 5.0
    assert [at for at in drawn.at_s if not math.isnan(at)][:3] == [2.5, 7.5, 12.5]
    assert sum(math.isnan(value) for value in drawn.values) == 1
    assert drawn.values[1] == pytest.approx(sum(place % 4 for place in range(10, 20)) / 10)
    assert thinned(timeline, "none", width_s).values == ()


def test_the_time_line_ends_with_what_came_last() -> None:
    result = made_result()
    assert end_s_of(result) == result.timeline.samples[-1].at_s
    assert end_s_of(replace(result, timeline=Timeline(1.0))) == spans_of(result)[-1].end_s
    assert [span.name for span in spans_of(result)] == ["single", "steady", "burst", "peak"]
    assert len(spans_of(result)[3].runs) == 8


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=30), st.floats(0.5, 60)), min_size=1, max_size=12))
def test_names_above_a_drawing_never_touch(parts: list[tuple[str, float]]) -> None:
    spans, at_s = [], 0.0
    for name, length_s in parts:
        spans.append(Span(name, at_s, at_s + length_s, ((at_s, at_s + length_s),)))
        at_s += length_s + 1
    placed = sorted(placed_names(spans, at_s))
    letter = 0.019
    edges = [(middle - letter * len(name) / 2, middle + letter * len(name) / 2) for middle, name in placed]
    assert all(left >= 0 and right <= 1 for left, right in edges)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(edges))
