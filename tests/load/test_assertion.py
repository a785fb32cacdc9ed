from __future__ import annotations

import pytest

from tritonforge_load.campaign.assertion import METRICS, assertion_from_text


@pytest.mark.parametrize(
    ("text", "metric", "workload", "operator", "limit"),
    [
        ("p50(cls) < 1.01ms", "p50", "cls", "<", 1.01),
        ("p99.9 <= 1500us", "p99.9", None, "<=", 1.5),
        ("p50 >= 0.001s", "p50", None, ">=", 1.0),
        ("max(cls) > 40ms", "max", "cls", ">", 40.0),
        ("errors < 0.1%", "errors", None, "<", 0.001),
        ("  rate ( emb )>=  90 / s ", "rate", "emb", ">=", 90.0),
        ("throughput(cls) >= 40/s", "throughput", "cls", ">=", 40.0),
        ("queue_share(cls) < 40%", "queue_share", "cls", "<", 0.4),
        ("queue_mean < 2ms", "queue_mean", None, "<", 2.0),
        ("gpu_utilization >= 80%", "gpu_utilization", None, ">=", 0.8),
        ("batch_mean > 4", "batch_mean", None, ">", 4.0),
        ("max_users >= 16", "max_users", None, ">=", 16.0),
        ("max_rate >= 1500/s", "max_rate", None, ">=", 1500.0),
    ],
)
def test_reads_sentences(text: str, metric: str, workload: str | None, operator: str, limit: float) -> None:
    read = assertion_from_text(text)
    assert (read.metric, read.workload, read.operator) == (metric, workload, operator)
    assert read.limit == pytest.approx(limit)
    assert not read.relative_to_baseline
    assert read.text == text.strip()


@pytest.mark.parametrize(
    ("text", "factor"), [("p95 <= 1.10 * baseline", 1.1), ("rate(cls) >= 0.9*baseline", 0.9), ("p99 <= baseline", 1.0)]
)
def test_reads_limits_relative_to_a_baseline(text: str, factor: float) -> None:
    read = assertion_from_text(text)
    assert (read.relative_to_baseline, read.limit) == (True, factor)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("p99", 20.04, "20 ms"),
        ("p99", 999.96, "1,000 ms"),
        ("p99", 0.00012, "0.00012 ms"),
        ("errors", 0.00123, "0.123 %"),
        ("server_memory_growth", -0.0123, "-1.23 %"),
        ("rate", 812.34, "812.3/s"),
        ("rate", 12_345.6, "12,346/s"),
        ("max_users", 16, "16"),
    ],
)
def test_writes_values_with_their_unit(metric: str, value: float, text: str) -> None:
    limit = {"p99": "1ms", "errors": "1%", "server_memory_growth": "1%", "rate": "1/s", "max_users": "1"}[metric]
    assert assertion_from_text(f"{metric} < {limit}").kind.text_from_value(value) == text


def test_only_percentiles_have_a_percent() -> None:
    assert assertion_from_text("p99.95 < 5ms").percent == 99.95
    assert assertion_from_text("max < 5ms").percent is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a sentence like"),
        ("p99", "expected a sentence like"),
        ("p99(cls < 5ms", "expected a sentence like"),
        ("p99 = 5ms", "expected a sentence like"),
        ("p100 < 5ms", f"expected one of p50, p99, p99.9, {', '.join(METRICS)}, got 'p100'"),
        ("p0 < 5ms", "got 'p0'"),
        ("latency < 5ms", "got 'latency'"),
        ("p99 < 5", "p99: expected a duration with its unit .* got '5'"),
        ("p99 < 5%", "p99: expected a duration"),
        ("p99 < x * baseline", "p99: expected a duration"),
        ("errors < 5ms", "errors: expected a share from 0% to 100% like 0.1%, got '5ms'"),
        ("errors < 101%", "errors: expected a share"),
        ("rate >= 100", "rate: expected a rate like 800/s, got '100'"),
        ("rate >= -1/s", "rate: expected a rate"),
        ("batch_mean > 4%", "batch_mean: expected a number like 4, got '4%'"),
    ],
)
def test_refuses_other_sentences(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assertion_from_text(text)
