from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load.made_results import bare_result, made_result
from support.judged import MS, cell_of, run_of

from tritonforge_generator.errors import SpecError
from tritonforge_load.measure import (
    CampaignResult,
    Cell,
    GateResult,
    PhaseResult,
    Recording,
    RunResult,
    SearchOutcome,
    SearchStep,
    Verdict,
    WorkloadResult,
    dict_from_result,
    json_from_result,
    read_result,
    result_from_dict,
)


def steady_run() -> RunResult:
    recording = Recording()
    for second, latency_ms in [(0, 1.0), (0, 3.0), (1, 2.0), (2, 10.5)]:
        recording.cell("steady", "cls").record(second, round(latency_ms * MS), 4, None)
    recording.cell("steady", "cls").record(2, MS, 4, "Unavailable")
    recording.cell("steady", "emb").record(0, 5 * MS, 1, None)
    rows = tuple(WorkloadResult(name, 2.5, recording.cell("steady", name)) for name in ("cls", "emb", "idle"))
    return RunResult("steady", "closed", 3, None, 0.0, 2.5, rows)


STEADY = PhaseResult("steady", (steady_run(),))


def test_rates_are_of_answered_requests_over_the_phase() -> None:
    row = STEADY.row("cls")
    assert (row.sent, row.answered, row.failed, row.errors) == (5, 4, 1, {"Unavailable": 1})
    assert row.rate_per_s == pytest.approx(4 / 2.5)
    assert row.rows_per_s == pytest.approx(16 / 2.5)
    assert row.error_share == pytest.approx(0.2)
    assert row.max_ms == 10.5


def test_total_is_all_workloads_together() -> None:
    total = STEADY.total
    assert (total.sent, total.answered, total.cell.rows) == (6, 5, 17)
    assert total.percentile_ms(50) == pytest.approx(3.0, rel=0.004)
    assert STEADY.row(None) is total


def test_series_has_every_second_and_a_last_one_by_its_length() -> None:
    points = STEADY.row("cls").series
    assert [(point.at_s, point.rate_per_s, point.errors) for point in points] == [(0, 2.0, 0), (1, 1.0, 0), (2, 2.0, 1)]
    assert points[0].latency_ms["p50_ms"] == pytest.approx(1.0, rel=0.004)
    idle = STEADY.row("idle").series
    assert [(point.rate_per_s, point.latency_ms) for point in idle] == [(0.0, {})] * 3


def test_shed_requests_were_due_and_not_sent() -> None:
    row = WorkloadResult("cls", 1.0, cell_of([1.0] * 3, shed=1))
    assert (row.sent, row.shed, row.shed_share) == (3, 1, 0.25)


def test_open_requests_have_their_service_time_and_slip_beside_their_latency() -> None:
    cell = Cell()
    cell.record_open(0, 5 * MS, 1, None, service_ns=2 * MS, slip_ns=3 * MS)
    cell.record_open(0, 9 * MS, 1, "Timeout", service_ns=9 * MS, slip_ns=MS)
    row = WorkloadResult("cls", 1.0, cell)
    assert (row.percentile_ms(50), row.service_ms(50), row.slip_ms(100)) == (5.0, 2.0, 3.0)
    closed = WorkloadResult("cls", 1.0, cell_of([4.0]))
    assert closed.service_ms(50) == closed.percentile_ms(50)
    assert np.isnan(closed.slip_ms(50))


def test_repeated_runs_count_together() -> None:
    runs = tuple(run_of(f"steady#{i}", cls=cell_of([1.0] * count)) for i, count in enumerate((10, 30)))
    phase = PhaseResult("steady", runs)
    assert (phase.duration_s, phase.row("cls").answered, phase.row("cls").rate_per_s) == (20.0, 40, 2.0)
    assert [row.workload for row in phase.rows] == ["cls"]
    invalid = PhaseResult("steady", (runs[0], replace(runs[1], invalid=("slip",))))
    assert invalid.invalid == ("steady#1: slip",)


def test_a_search_has_the_figures_of_the_load_that_it_found() -> None:
    loads = [(100.0, True), (200.0, True), (400.0, False), (200.0, True)]
    runs = tuple(run_of(f"peak#{i}", cls=cell_of([float(i + 1)] * 10)) for i in range(4))
    steps = tuple(SearchStep(f"peak#{i}", load, held) for i, (load, held) in enumerate(loads))
    phase = PhaseResult("peak", runs, SearchOutcome("rate", 200.0, True, "", steps))
    assert [run.run for run in phase.judged_runs] == ["peak#1", "peak#3"]
    assert phase.row("cls").answered == 20


def gate(verdict: Verdict) -> GateResult:
    return GateResult("steady", "errors < 5%", verdict, 0.0, "")


@pytest.mark.parametrize(
    ("verdicts", "problems", "invalid", "verdict", "exit_code"),
    [
        ((), (), (), "pass", 0),
        (("pass", "pass"), (), (), "pass", 0),
        (("pass", "fail", "inconclusive"), ("a worker died",), ("slip",), "fail", 3),
        (("pass",), ("a worker died",), (), "invalid", 4),
        (("pass",), (), ("slip",), "invalid", 4),
        (("invalid", "inconclusive"), (), (), "invalid", 4),
        (("pass", "inconclusive"), (), (), "inconclusive", 5),
    ],
)
def test_exit_code_is_of_gates_validity_and_problems(
    verdicts: tuple[Verdict, ...], problems: tuple[str, ...], invalid: tuple[str, ...], verdict: str, exit_code: int
) -> None:
    phase = PhaseResult("steady", (replace(steady_run(), invalid=invalid),))
    result = CampaignResult("demo", "grpc://host:1", (phase,), tuple(map(gate, verdicts)), problems)
    assert (result.verdict, result.exit_code, result.passed) == (verdict, exit_code, verdict == "pass")


@pytest.mark.parametrize("make", [made_result, bare_result, lambda: CampaignResult("none", "grpc://host:1", ())])
def test_survives_json(make: Callable[[], CampaignResult]) -> None:
    result = make()
    again = result_from_dict(json.loads(json_from_result(result)))
    assert dict_from_result(again) == dict_from_result(result)
    assert again == result


def test_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    path.write_text(json_from_result(bare_result()))
    assert read_result(path) == bare_result()
    with pytest.raises(SpecError, match="cannot be read"):
        read_result(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the JSON output of a campaign, got JSONDecodeError"),
        ("[]", "expected the JSON output of a campaign, got TypeError"),
        ("{}", "expected the JSON output of a campaign, got KeyError: 'format_version'"),
        ('{"format_version": 99}', "expected format_version 1, got 99"),
        ('{"format_version": 1}', "expected the JSON output of a campaign, got KeyError: 'campaign'"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(SpecError) as caught:
        read_result(tmp_path / "other.json")
    assert message in str(caught.value)


def test_json_has_no_figure_where_nothing_was_measured() -> None:
    data = json.loads(json_from_result(CampaignResult("demo", "grpc://host:1", (STEADY,))))
    idle = data["phases"][0]["runs"][0]["workloads"][2]
    assert (idle["sent"], idle["p99_ms"], idle["rate_per_s"], idle["correct_share"]) == (0, None, None, None)


SAMPLES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), st.integers(0, 3), st.integers(0, 10**9), st.sampled_from([None, "Timeout", "X"])
    ),
    max_size=60,
)


@given(samples=SAMPLES, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_recordings_merge_without_loss_however_they_are_cut(
    samples: list[tuple[str, int, int, str | None]], cuts: list[int]
) -> None:
    whole, live, total = Recording(), Recording(), Recording()
    for number, (workload, second, elapsed_ns, error) in enumerate(samples):
        for recording in (whole, live):
            recording.cell("p", workload).record(second, elapsed_ns, 2, error)
        if number in cuts:
            total.merge(json.loads(json.dumps(live.drain())))
    total.merge(live.drain())
    assert list(live) == []
    assert {name: cell for _, name, cell in total} == {name: cell for _, name, cell in whole}


def test_percentiles_of_merged_parts_are_those_of_the_whole() -> None:
    values = (np.random.default_rng(5).lognormal(0, 1, 5000) * MS).astype(np.int64).tolist()
    parts = [Recording() for _ in range(3)]
    for number, value in enumerate(values):
        parts[number % 3].cell("p", "w").record(0, value, 1, None)
    total = Recording()
    for part in parts:
        total.merge(part.drain())
    assert total.cell("p", "w").latency.percentile_ns(99) == pytest.approx(np.percentile(values, 99), rel=0.01)
