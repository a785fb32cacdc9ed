from __future__ import annotations

import pytest

from tritonforge_load.gates import assertion_from_text
from tritonforge_load.recording import Cell
from tritonforge_load.results import PhaseResult, WorkloadResult

MS = 1_000_000


def phase_of(**cells: Cell) -> PhaseResult:
    return PhaseResult(
        "steady", "closed", 2, 10.0, tuple(WorkloadResult(name, 10.0, cell) for name, cell in cells.items())
    )


def cell_of(latencies_ms: list[float], *, failed: int = 0, rows: int = 1, checked: int = 0, correct: int = 0) -> Cell:
    cell = Cell(checked=checked, correct=correct)
    for latency_ms in latencies_ms:
        cell.record(0, round(latency_ms * MS), rows, None)
    for _ in range(failed):
        cell.record(0, 5 * MS, rows, "Unavailable")
    return cell


PHASE = phase_of(
    cls=cell_of([1.0] * 98 + [20.0, 40.0], failed=1, rows=4, checked=50, correct=48), emb=cell_of([2.0] * 900)
)


@pytest.mark.parametrize(
    ("text", "passed", "value"),
    [
        ("p50(cls) < 1.01ms", True, 1.0),
        ("p99(cls) < 25ms", True, 20.0),
        ("p99(cls) <= 19ms", False, 20.0),
        ("p99.9(cls) < 25ms", False, 40.0),
        ("p90 > 1500us", True, 2.0),
        ("p50 >= 0.001s", True, 2.0),
        ("max(cls) < 40ms", False, 40.0),
        ("max(cls) <= 40ms", True, 40.0),
        ("mean(emb) < 2ms", False, 2.0),
        ("errors < 0.1%", True, 1 / 1001),
        ("errors(cls) < 0.5%", False, 1 / 101),
        ("errors(emb) <= 0%", True, 0.0),
        ("rate >= 100/s", True, 100.0),
        ("rate(cls) >= 100/s", False, 10.0),
        ("throughput(cls) >= 40/s", True, 40.0),
        ("  rate ( emb )>=  90 / s ", True, 90.0),
        ("correct(cls) >= 96%", True, 0.96),
        ("correct >= 97%", False, 0.96),
    ],
)
def test_judges_with_the_value(text: str, passed: bool, value: float) -> None:
    verdict = assertion_from_text(text).judge(PHASE)
    assert verdict.passed is passed
    assert verdict.value == pytest.approx(value, rel=0.004)
    assert verdict.phase == "steady"


def test_reasons_say_value_limit_and_basis() -> None:
    assert assertion_from_text("p99(cls) <= 19ms").judge(PHASE).reason == "20 ms is not <= 19 ms (101 requests)"
    assert assertion_from_text("rate >= 100/s").judge(PHASE).reason == "100/s is >= 100/s (1,001 requests)"
    assert assertion_from_text("correct >= 97%").judge(PHASE).reason == "96 % is not >= 97 % (50 checked rows)"


@pytest.mark.parametrize(
    "text", ["p99 < 1s", "mean < 1s", "max < 1s", "errors < 1%", "rate >= 0/s", "throughput >= 0/s"]
)
def test_nothing_measured_passes_no_gate(text: str) -> None:
    verdict = assertion_from_text(text).judge(phase_of(cls=Cell()))
    assert (verdict.passed, verdict.value, verdict.reason) == (False, None, "no request was answered")


def test_nothing_checked_passes_no_gate() -> None:
    verdict = assertion_from_text("correct >= 0%").judge(phase_of(cls=cell_of([1.0])))
    assert (verdict.passed, verdict.reason) == (False, "no answer was checked")


def test_only_failures_fail_latency_gates_and_show_in_errors() -> None:
    failed = phase_of(cls=cell_of([], failed=3))
    assert not assertion_from_text("p99 < 1s").judge(failed).passed
    assert assertion_from_text("errors < 1%").judge(failed).value == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a sentence like"),
        ("p99", "expected a sentence like"),
        ("p99(cls < 5ms", "expected a sentence like"),
        ("p99 = 5ms", "expected a sentence like"),
        ("p100 < 5ms", "expected one of p50, p99, p99.9, mean, max, errors, correct, rate, throughput, got 'p100'"),
        ("p0 < 5ms", "got 'p0'"),
        ("latency < 5ms", "got 'latency'"),
        ("p99 < 5", "p99: expected a duration with its unit .* got '5'"),
        ("p99 < 5%", "p99: expected a duration"),
        ("errors < 5ms", "errors: expected a share from 0% to 100% like 0.1%, got '5ms'"),
        ("errors < 101%", "errors: expected a share"),
        ("rate >= 100", "rate: expected a rate like 800/s, got '100'"),
        ("rate >= -1/s", "rate: expected a rate"),
    ],
)
def test_refuses_other_sentences(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assertion_from_text(text)
