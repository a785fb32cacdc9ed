from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.judged import campaign_of, cell_of, facts_of, result_of, run_of, scattered_cell

from tritonforge_load.campaign import Search
from tritonforge_load.judge import judge_gates, needed_requests, requests_for_gate, step_failures
from tritonforge_load.measure import (
    CampaignResult,
    Cell,
    GateResult,
    PhaseResult,
    RunResult,
    SearchOutcome,
    SearchStep,
)
from tritonforge_load.observe.timeline import Sample, Timeline

RUN = run_of(cls=cell_of([1.0] * 98 + [20.0, 40.0], failed=1, rows=4, checked=50, correct=48), emb=cell_of([2.0] * 900))


def judged(
    text: str,
    *runs: RunResult,
    timeline: Timeline | None = None,
    baseline: CampaignResult | None = None,
    search: SearchOutcome | None = None,
    confidence: float = 0.95,
    significant: bool = False,
) -> GateResult:
    """The verdict of one gate on one phase that was played in these runs."""
    name = "steady" if search is None else "peak"
    phase = PhaseResult(name, runs or (RUN,), search)
    condition = {"if": "significant"} if significant else {}
    campaign = campaign_of({"where": name, "assert": text, "confidence": confidence, **condition})
    (result,) = judge_gates(campaign, [phase], timeline or Timeline(1.0), baseline)
    assert (result.phase, result.assertion) == (name, text)
    return result


@pytest.mark.parametrize(
    ("text", "verdict", "value"),
    [
        ("p50(cls) < 1.01ms", "pass", 1.0),
        ("p90(cls) < 25ms", "pass", 1.0),
        ("p99(cls) < 25ms", "inconclusive", 20.0),
        ("p99(cls) <= 19ms", "inconclusive", 20.0),
        ("p99(cls) < 0.5ms", "fail", 20.0),
        ("p90 > 1500us", "pass", 2.0),
        ("p90 > 3ms", "fail", 2.0),
        ("p50 >= 0.001s", "pass", 2.0),
        ("p50(emb) >= 2ms", "pass", 2.0),
        ("p50(emb) > 2ms", "fail", 2.0),
        ("max(cls) < 40ms", "fail", 40.0),
        ("max(cls) <= 40ms", "pass", 40.0),
        ("mean(emb) < 2ms", "fail", 2.0),
        ("errors < 0.1%", "inconclusive", 1 / 1001),
        ("errors < 1%", "pass", 1 / 1001),
        ("errors(cls) < 0.01%", "fail", 1 / 101),
        ("errors(emb) <= 0%", "pass", 0.0),
        ("errors(cls) <= 0%", "fail", 1 / 101),
        ("shed < 1%", "pass", 0.0),
        ("rate >= 100/s", "pass", 100.0),
        ("rate(cls) >= 100/s", "fail", 10.0),
        ("throughput(cls) >= 40/s", "pass", 40.0),
        ("correct(cls) >= 90%", "inconclusive", 0.96),
        ("correct(cls) >= 85%", "pass", 0.96),
        ("correct >= 99.9%", "fail", 0.96),
        ("correct >= 100%", "fail", 0.96),
    ],
)
def test_judges_with_the_value(text: str, verdict: str, value: float) -> None:
    result = judged(text)
    assert result.verdict == verdict
    assert result.value == pytest.approx(value, rel=0.004)


def test_reasons_say_value_limit_and_basis() -> None:
    assert judged("max(cls) < 40ms").reason == "40 ms is not < 40 ms (100 requests)"
    assert judged("rate >= 100/s").reason == "100/s is >= 100/s (1,001 requests)"
    assert judged("correct >= 99.9%").reason == "96 % is not >= 99.9 % (50 checked rows)"
    assert judged("shed < 1%").reason == "0 % is < 1 % (1,001 requests due)"


@pytest.mark.parametrize(
    ("sentence", "runs", "told"),
    [
        ("max < 25ms", [24.99996], "24.99996 ms is < 25 ms"),
        ("max < 25ms", [25.000001], "25.000001 ms is not < 25 ms"),
        ("max <= 25ms", [25.0], "25 ms is <= 25 ms"),
        ("max < 25.0001ms", [25.0], "25 ms is < 25.0001 ms"),
        ("max < 1000ms", [999.7], "999.7 ms is < 1,000 ms"),
        ("max < 1s", [12_345.678], "12,346 ms is not < 1,000 ms"),
    ],
)
def test_reasons_have_digits_enough_to_tell_value_and_limit_apart(sentence: str, runs: list[float], told: str) -> None:
    assert judged(sentence, run_of(cls=cell_of(runs))).reason == f"{told} (1 requests)"


def test_a_doubt_says_what_would_tell() -> None:
    assert judged("p99 < 25ms", run_of(cls=cell_of([1.0] * 60)), confidence=0.99).reason == (
        "1 ms for < 25 ms cannot be told with 99 % confidence: 0 of 60 requests are over it; "
        "about 459 requests would tell"
    )
    assert judged("errors < 1%", run_of(cls=cell_of([1.0] * 99, failed=1))).reason == (
        "1 % for < 1 % cannot be told with 95 % confidence: 1 of 100 requests; too near to the limit"
    )


def test_a_limit_within_the_bucket_of_the_value_is_too_near() -> None:
    result = judged("p50 < 25.01ms", run_of(cls=cell_of([10.0, *[25.0] * 1000, 40.0])))
    assert result.verdict == "inconclusive"
    assert result.reason.endswith("1,001 of 1,002 requests are over it; too near to the limit")


def test_as_many_requests_as_are_asked_for_do_tell() -> None:
    for requests, verdict in [(needed_requests(99, 0.99), "pass"), (needed_requests(99, 0.99) - 1, "inconclusive")]:
        assert judged("p99 < 25ms", run_of(cls=cell_of([1.0] * requests)), confidence=0.99).verdict == verdict


@pytest.mark.parametrize(
    ("text", "confidence", "needed"),
    [
        ("p99 < 25ms", 0.99, 459),
        ("p99 > 25ms", 0.999, 2),
        ("errors < 0.1%", 0.95, 2995),
        ("correct >= 99%", 0.99, 459),
        ("errors <= 0%", 0.95, None),
        ("rate >= 100/s", 0.95, None),
        ("max < 25ms", 0.95, None),
        ("p99 <= 1.1 * baseline", 0.95, None),
    ],
)
def test_tells_beforehand_how_many_requests_a_gate_needs(text: str, confidence: float, needed: int | None) -> None:
    (gate,) = campaign_of({"assert": text, "confidence": confidence}).gates
    assert requests_for_gate(gate) == needed
    if needed is None or "correct" in text:
        return
    for count, verdict in [(needed, "pass"), (needed - 1, "inconclusive")]:
        run = run_of(cls=cell_of([30.0 if ">" in text else 1.0] * count))
        assert judged(text, run, confidence=confidence).verdict == verdict


@pytest.mark.parametrize(
    "text", ["p99 < 1s", "mean < 1s", "max < 1s", "errors < 1%", "rate >= 0/s", "throughput >= 0/s", "shed < 1%"]
)
def test_nothing_measured_passes_no_gate(text: str) -> None:
    result = judged(text, run_of(cls=Cell(), emb=Cell()))
    assert (result.verdict, result.value, result.reason) == ("fail", None, "no request was answered")


def test_nothing_checked_passes_no_gate() -> None:
    result = judged("correct >= 0%", run_of(cls=cell_of([1.0])))
    assert (result.verdict, result.reason) == ("fail", "no answer was checked")


def test_only_failures_fail_latency_gates_and_show_in_errors() -> None:
    failed = run_of(cls=cell_of([], failed=3))
    assert judged("p99 < 1s", failed).verdict == "fail"
    assert (judged("errors < 1%", failed).verdict, judged("errors < 1%", failed).value) == ("fail", 1.0)
    assert judged("rate >= 1/s", failed).reason == "0/s is not >= 1/s (3 requests)"


def test_what_was_shed_is_judged_of_what_was_due() -> None:
    run = run_of(cls=cell_of([1.0] * 900, shed=100))
    assert judged("shed < 1%", run).reason == "10 % is not < 1 % (1,000 requests due)"


def test_an_invalid_phase_is_judged_by_no_gate() -> None:
    run = replace(RUN, invalid=("the load generator took 97 % of its core",))
    result = judged("max < 1ms", run)
    assert result.verdict == "invalid"
    assert result.reason == "the phase is invalid"  # why stands with the phase, once for all of its gates


def test_a_phase_that_was_not_played_is_inconclusive() -> None:
    campaign = campaign_of({"where": ["steady", "other"], "assert": "max < 1s"})
    first, second = judge_gates(
        campaign, [PhaseResult("steady", (RUN,)), PhaseResult("other", ())], Timeline(1.0), None
    )
    assert (first.phase, first.verdict) == ("steady", "pass")
    assert (second.phase, second.verdict, second.reason) == ("other", "inconclusive", "the phase was not played")


def runs_at(*rates_per_s: int) -> list[RunResult]:
    return [run_of(f"steady#{i}", cls=cell_of([5.0] * rate * 10)) for i, rate in enumerate(rates_per_s)]


def test_rates_of_repeated_runs_are_told_by_their_scatter() -> None:
    assert judged("rate >= 95/s", *runs_at(100, 101, 99)).verdict == "pass"
    assert judged("rate >= 105/s", *runs_at(100, 101, 99)).verdict == "fail"
    result = judged("rate >= 95/s", *runs_at(110, 100, 90))
    assert (result.verdict, result.value) == ("inconclusive", 100.0)
    # 10/s of standard deviation over three runs: 2.92 * 10 / sqrt(3) to one side.
    assert result.reason == (
        "100/s for >= 95/s cannot be told with 95 % confidence: the mean of 3 runs lies within 83.14/s to 116.9/s: "
        "repeat the phase more often"
    )
    assert judged("rate >= 95/s", run_of(cls=cell_of([5.0] * 960))).verdict == "pass"


def test_a_repeated_run_without_an_answer_has_no_mean() -> None:
    assert judged("mean < 1s", run_of(cls=cell_of([1.0])), run_of(cls=cell_of([], failed=1))).verdict == "fail"


OBSERVED = replace(
    RUN, models=(facts_of("resnet"), facts_of("encoder", queue_s=0.0, batches={4: 10}), facts_of("other", queue_s=0.9))
)


@pytest.mark.parametrize(
    ("text", "verdict", "value"),
    [
        ("queue_share(cls) < 40%", "pass", 0.2),
        ("queue_share(emb) > 0%", "fail", 0.0),
        ("queue_share < 5%", "fail", 0.1),
        ("queue_mean(cls) < 2ms", "fail", 2.0),
        ("compute_mean(cls) <= 8ms", "pass", 8.0),
        ("batch_mean(cls) >= 2", "pass", 2.0),
        ("batch_mean >= 3", "fail", 140 / 60),
    ],
)
def test_the_servers_figures_are_those_of_the_workloads_model(text: str, verdict: str, value: float) -> None:
    result = judged(text, OBSERVED)
    assert result.verdict == verdict
    assert result.value == pytest.approx(value)


def test_the_servers_figures_of_repeated_runs_are_weighted_by_requests() -> None:
    busy = replace(RUN, models=(facts_of("resnet", requests=300, queue_s=2.7, total_s=5.1), facts_of("encoder")))
    assert judged("queue_mean(cls) < 1s", OBSERVED, busy).value == pytest.approx(2.9 / 400 * 1e3)


@pytest.mark.parametrize(
    ("run", "absent", "reason"),
    [
        (RUN, {"statistics": "the server does not tell them"}, "the server does not tell them"),
        (RUN, {"model.resnet": "it is gone", "gpu": "none"}, "it is gone"),
        (RUN, {}, "the server was not observed"),
        (
            replace(RUN, models=(facts_of("resnet", incomplete="version 1 was loaded again"),)), {},
            "resnet: version 1 was loaded again",
        ),
    ],
)  # fmt: skip
def test_what_was_not_observed_is_inconclusive(run: RunResult, absent: dict[str, str], reason: str) -> None:
    result = judged("queue_share(cls) < 40%", run, timeline=Timeline(1.0, (), absent))
    assert (result.verdict, result.value, result.reason) == ("inconclusive", None, reason)


def test_a_model_that_was_not_observed_leaves_all_together_unknown() -> None:
    run = replace(RUN, models=(facts_of("resnet"),))
    assert judged("queue_share < 40%", run).verdict == "inconclusive"
    assert judged("queue_share(cls) < 40%", run).verdict == "pass"
    assert judged("queue_share(cls) < 40%", run, RUN).verdict == "inconclusive"


def test_counters_that_are_read_while_they_change_make_no_share_above_one() -> None:
    run = replace(RUN, models=(facts_of("resnet", queue_s=1.01),))
    assert judged("queue_share(cls) < 40%", run).value == 1.0


def test_a_server_that_answered_nothing_fails_its_gates() -> None:
    idle = replace(RUN, models=(facts_of("resnet", requests=0, total_s=0.0),))
    assert judged("queue_share(cls) < 40%", idle).verdict == "fail"


def test_gpu_utilization_is_the_mean_over_the_runs_and_gpus() -> None:
    samples = tuple(
        Sample(float(at_s), {"gpu.0.utilization_share": 0.9 if 10 < at_s <= 20 else 0.1, "gpu.1.power_w": 90.0})
        for at_s in range(1, 31)
    )
    run = replace(RUN, starts_s=10.0)
    result = judged("gpu_utilization >= 80%", run, timeline=Timeline(1.0, samples))
    assert result.verdict == "pass"
    assert result.value == pytest.approx(0.9)
    both = tuple(replace(it, values={**it.values, "gpu.1.utilization_share": 0.5}) for it in samples)
    assert judged("gpu_utilization >= 80%", run, timeline=Timeline(1.0, both)).value == pytest.approx(0.7)


def test_an_absent_gpu_says_why() -> None:
    absent = {"gpu": "no GPU on the page", "gpu.clocks": "no NVML", "server.cpu": "x"}
    result = judged("gpu_utilization >= 80%", timeline=Timeline(1.0, (), absent))
    assert (result.verdict, result.reason) == ("inconclusive", "no GPU on the page")


MEMORIES = ("server.process_memory_bytes", "generator.0.memory_bytes", "generator.1.memory_bytes")


def memory_timeline(*mb_a_second: float, absent: dict[str, str] | None = None) -> Timeline:
    """100 MB at 100 s and so much more each second until 200 s: of the server, and of two load generators."""
    samples = [
        Sample(
            float(at_s), {name: 1e8 + 1e6 * mb * (at_s - 100) for name, mb in zip(MEMORIES, mb_a_second, strict=False)}
        )
        for at_s in range(301)
    ]
    return Timeline(1.0, tuple(samples), absent or {})


LONG = replace(RUN, starts_s=100.0, duration_s=100.0)


def test_memory_growth_is_that_from_the_first_tenth_of_the_phase_to_the_last() -> None:
    """The medians are at 5.5 s and 95.5 s of the phase; what came before and after it does not count."""
    result = judged("server_memory_growth < 10%", LONG, timeline=memory_timeline(0.2, 0.0, 0.0))
    assert result.verdict == "fail"
    assert result.value == pytest.approx((100 + 0.2 * 95.5) / (100 + 0.2 * 5.5) - 1)
    assert result.reason == "17.8 % is not < 10 % (101.1 MB at first, 119.1 MB at last, 100 samples)"
    assert judged("server_memory_growth < 10%", LONG, timeline=memory_timeline(-0.2)).verdict == "pass"


def test_of_several_load_generators_the_one_that_grew_most_counts() -> None:
    result = judged("generator_memory_growth <= 1%", LONG, timeline=memory_timeline(0.0, -0.1, 0.3))
    assert result.verdict == "fail"
    assert result.value == pytest.approx((100 + 0.3 * 95.5) / (100 + 0.3 * 5.5) - 1)


def test_memory_of_repeated_runs_grows_from_the_first_to_the_last() -> None:
    runs = (replace(LONG, duration_s=20.0), replace(LONG, run="steady#2", starts_s=180.0, duration_s=20.0))
    timeline = memory_timeline(0.2)
    assert judged("server_memory_growth < 10%", *runs, timeline=timeline).value == pytest.approx(0.178, abs=0.001)


@pytest.mark.parametrize(
    ("metric", "timeline", "run", "reason"),
    [
        ("server_memory_growth", memory_timeline(absent={"server.process_memory": "elsewhere"}), LONG, "elsewhere"),
        ("server_memory_growth", memory_timeline(), LONG, "the server's processes were not observed"),
        ("generator_memory_growth", memory_timeline(0.1), LONG, "no load generator told its memory"),
        (
            "generator_memory_growth",
            memory_timeline(0.1, 0.1),
            replace(LONG, duration_s=15.0),
            "15 samples of memory, 20 needed",
        ),
    ],
)
def test_memory_that_was_not_observed_long_enough_is_inconclusive(
    metric: str, timeline: Timeline, run: RunResult, reason: str
) -> None:
    result = judged(f"{metric} < 10%", run, timeline=timeline)
    assert (result.verdict, result.value, result.reason) == ("inconclusive", None, reason)


def searched(found: float | None, *, is_limit: bool = True) -> SearchOutcome:
    steps = () if found is None else (SearchStep("peak@x", found, True),)
    return SearchOutcome("rate", found, is_limit, "how it ended", steps)


@pytest.mark.parametrize(
    ("found", "is_limit", "operator", "verdict"),
    [
        (1600.0, True, ">=", "pass"),
        (1600.0, False, ">=", "pass"),
        (1400.0, True, ">=", "fail"),
        (1400.0, False, ">=", "inconclusive"),
        (None, True, ">=", "fail"),
        (None, False, ">=", "inconclusive"),
        (1400.0, True, "<=", "pass"),
        (1400.0, False, "<=", "inconclusive"),
        (1600.0, True, "<=", "fail"),
        (1600.0, False, "<=", "fail"),
    ],
)
def test_what_a_search_found_is_a_limit_only_where_the_server_was_it(
    found: float | None, is_limit: bool, operator: str, verdict: str
) -> None:
    run = run_of("peak@x", cls=cell_of([1.0] * 1000))
    result = judged(f"max_rate {operator} 1500/s", run, search=searched(found, is_limit=is_limit))
    assert (result.verdict, result.value) == (verdict, found)
    assert "how it ended" in result.reason


def test_other_gates_on_a_search_judge_the_load_that_was_found() -> None:
    runs = [run_of("peak@x", cls=cell_of([1.0] * 100)), run_of("peak@y", cls=cell_of([90.0] * 100))]
    assert judged("max < 2ms", *runs, search=searched(500.0)).verdict == "pass"
    none = judged("max < 2ms", *runs, search=searched(None))
    assert (none.verdict, none.reason) == ("fail", "no load held: how it ended")


def base_of(run: RunResult, *, name: str = "steady", search: SearchOutcome | None = None) -> CampaignResult:
    return result_of(PhaseResult(name, (run,), search))


def test_limits_may_be_a_baselines() -> None:
    then = base_of(run_of(cls=cell_of([2.0] * 1000), emb=cell_of([7.0] * 1000)))
    now = run_of(cls=cell_of([2.3] * 1000), emb=cell_of([7.0] * 1000))
    result = judged("p95(cls) <= 1.1 * baseline", now, baseline=then)
    assert result.verdict == "fail"
    assert result.reason == "2.3 ms is not <= 2.2 ms, 1.1 times the baseline's 2 ms (1,000 requests)"
    assert judged("p95(cls) <= 1.2 * baseline", now, baseline=then).verdict == "pass"
    assert judged("p95(emb) <= baseline", now, baseline=then).verdict == "pass"
    assert judged("max(cls) <= 1.2 * baseline", now, baseline=then).verdict == "pass"


def test_a_share_above_all_is_kept_by_all() -> None:
    then, now = base_of(run_of(cls=cell_of([1.0], failed=9))), run_of(cls=cell_of([], failed=10))
    assert judged("errors <= 3 * baseline", now, baseline=then).verdict == "pass"


def test_a_search_may_be_held_against_a_baselines() -> None:
    then = base_of(RUN, name="peak", search=searched(2000.0))
    run = run_of("peak@x", cls=cell_of([1.0]))
    assert judged("max_rate >= 0.8 * baseline", run, search=searched(1700.0), baseline=then).verdict == "pass"
    assert judged("max_rate >= 0.9 * baseline", run, search=searched(1700.0), baseline=then).reason == (
        "1,700/s is not >= 1,800/s, 0.9 times the baseline's 2,000/s (how it ended)"
    )


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        (None, "there is no baseline"),
        (base_of(RUN, name="other"), "the baseline has no such phase"),
        (base_of(run_of(emb=cell_of([1.0]))), "the baseline has no workload cls in this phase"),
        (base_of(replace(RUN, invalid=("slip",))), "the baseline's phase is invalid: slip"),
        (base_of(run_of(cls=Cell())), "the baseline has no p95: no request was answered"),
    ],
)
def test_without_a_baselines_value_nothing_can_be_told(baseline: CampaignResult | None, reason: str) -> None:
    result = judged("p95(cls) <= baseline", baseline=baseline)
    assert (result.verdict, result.reason) == ("inconclusive", reason)


def scattered(seed: int, *, median_ms: float = 5.0) -> RunResult:
    cell = scattered_cell(np.random.default_rng(seed), seconds=20, rate_per_s=100, median_ms=median_ms)
    return run_of(duration_s=20.0, cls=cell)


def test_a_difference_within_the_noise_passes_where_only_significant_ones_count() -> None:
    then, now = base_of(scattered(1)), scattered(2)
    for text in ("p95(cls) <= baseline", "p95(cls) >= baseline"):
        result = judged(text, now, baseline=then, significant=True)
        assert result.verdict == "pass"
        if "is not" in result.reason:
            assert "but that is within the noise (the noise is ±" in result.reason
            assert "learned from seconds" in result.reason


@pytest.mark.parametrize("metric", ["p50", "p95", "mean"])
def test_a_difference_beyond_the_noise_fails(metric: str) -> None:
    then, now = base_of(scattered(1)), scattered(2, median_ms=7.0)
    result = judged(f"{metric}(cls) <= 1.1 * baseline", now, baseline=then, significant=True)
    assert result.verdict == "fail"
    assert "and that is more than noise" in result.reason


def test_where_the_noise_is_unknown_a_difference_is_inconclusive() -> None:
    then, now = base_of(run_of(cls=cell_of([1.0] * 100))), run_of(cls=cell_of([2.0] * 100))
    result = judged("max(cls) <= baseline", now, baseline=then, significant=True)
    assert result.verdict == "inconclusive"
    assert "how much of that is noise is not known: one run does not tell the noise of max" in result.reason
    short = judged(
        "p50(cls) <= baseline", run_of(duration_s=5.0, cls=cell_of([2.0] * 100)), baseline=then, significant=True
    )
    assert "5 s are too short to know the noise" in short.reason
    assert judged("max(cls) <= 3 * baseline", now, baseline=then, significant=True).verdict == "pass"


def test_a_step_of_a_search_says_which_assertions_it_does_not_keep() -> None:
    until = ["p99(cls) < 25ms", "p99(cls) < 15ms", "errors < 0.1%", "queue_share(cls) < 40%"]
    search = Search.model_validate({"from": "1/s", "to": "2/s", "step_for": "10s", "until": until})
    timeline = Timeline(1.0, (), {"statistics": "it does not answer"})
    assert step_failures(search, RUN, campaign_of(), timeline) == (
        "p99(cls): 20 ms is not < 15 ms",
        "queue_share(cls): it does not answer",
    )
    assert step_failures(search, run_of(cls=Cell(), emb=Cell()), campaign_of(), timeline)[0] == (
        "p99(cls): no request was answered"
    )
    assert step_failures(search, OBSERVED, campaign_of(), timeline) == ("p99(cls): 20 ms is not < 15 ms",)
