from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_load.gates import assertion_from_text
from tritonforge_load.recording import Recording
from tritonforge_load.results import CampaignResult, PhaseResult, WorkloadResult
from tritonforge_load.table import text_from_result

MS = 1_000_000


def result_of(*, problems: tuple[str, ...] = (), gate: str = "errors < 5%") -> CampaignResult:
    recording = Recording()
    for second, latency_ms in [(0, 1.0), (0, 3.0), (1, 2.0), (2, 10.5)]:
        recording.cell("steady", "cls").record(second, round(latency_ms * MS), 4, None)
    recording.cell("steady", "cls").record(2, MS, 4, "Unavailable")
    recording.cell("steady", "emb").record(0, 5 * MS, 1, None)
    rows = tuple(WorkloadResult(name, 2.5, recording.cell("steady", name)) for name in ("cls", "emb", "idle"))
    phase = PhaseResult("steady", "closed", 3, 2.5, rows)
    return CampaignResult(
        "demo", "grpc://host:1", (phase,), (assertion_from_text(gate).judge(phase),), problems, 7, {"python": "3"}
    )


def test_rates_are_of_answered_requests_over_the_phase() -> None:
    row = result_of().phase("steady").row("cls")
    assert (row.sent, row.answered, row.failed, row.errors) == (5, 4, 1, {"Unavailable": 1})
    assert row.rate_per_s == pytest.approx(4 / 2.5)
    assert row.rows_per_s == pytest.approx(16 / 2.5)
    assert row.error_share == pytest.approx(0.2)
    assert row.max_ms == 10.5


def test_total_is_all_workloads_together() -> None:
    total = result_of().phase("steady").total
    assert (total.sent, total.answered, total.cell.rows) == (6, 5, 17)
    assert total.percentile_ms(50) == pytest.approx(3.0, rel=0.004)


def test_series_has_every_second_and_a_last_one_by_its_length() -> None:
    points = result_of().phase("steady").row("cls").series
    assert [(point.at_s, point.rate_per_s, point.errors) for point in points] == [(0, 2.0, 0), (1, 1.0, 0), (2, 2.0, 1)]
    assert points[0].latency_ms["p50_ms"] == pytest.approx(1.0, rel=0.004)
    idle = result_of().phase("steady").row("idle").series
    assert [(point.rate_per_s, point.latency_ms) for point in idle] == [(0.0, {})] * 3


@pytest.mark.parametrize(
    ("problems", "gate", "exit_code"),
    [((), "errors < 50%", 0), ((), "errors < 5%", 1), (("a worker died",), "errors < 50%", 1)],
)
def test_exit_code_is_of_gates_and_problems(problems: tuple[str, ...], gate: str, exit_code: int) -> None:
    assert result_of(problems=problems, gate=gate).exit_code == exit_code


def test_survives_json() -> None:
    result = result_of(problems=("x",))
    again = CampaignResult.from_dict(json.loads(result.to_json()))
    assert again.to_dict() == result.to_dict()
    assert again.gates == result.gates


def test_json_has_no_figure_where_nothing_was_measured() -> None:
    idle = json.loads(result_of().to_json())["phases"][0]["workloads"][2]
    assert (idle["sent"], idle["p99_ms"], idle["rate_per_s"], idle["correct_share"]) == (0, None, None, None)


def test_csv_has_a_line_a_workload_and_one_for_all(tmp_path: Path) -> None:
    result_of().write_csv(tmp_path / "demo.csv")
    with (tmp_path / "demo.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["phase"], line["workload"], line["answered"]) for line in lines] == [
        ("steady", "cls", "4"), ("steady", "emb", "1"), ("steady", "idle", "0"), ("steady", "*", "5"),
    ]  # fmt: skip
    assert float(lines[0]["max_ms"]) == 10.5
    assert lines[0]["errors"] == "Unavailable=1"


def test_text_shows_figures_gates_errors_and_problems() -> None:
    text = text_from_result(result_of(problems=("a worker died",)))
    assert "Campaign demo on grpc://host:1" in text
    assert "10.500" in text
    assert "steady: cls: 1 x Unavailable" in text
    assert "FAIL" in text
    assert "16.7 % is not < 5 % (6 requests)" in text
    assert "PROBLEM a worker died" in text


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
