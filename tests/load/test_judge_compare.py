from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.judged import MS, cell_of, open_run, result_of, run_of, scattered_cell

from tritonforge_load.campaign import Search
from tritonforge_load.judge import Change, Comparison, SearchPlan, compare
from tritonforge_load.judge.noise import ENOUGH_BEYOND, ENOUGH_SECONDS, Noise, noises_between
from tritonforge_load.measure import CampaignResult, Cell, PhaseResult, RunResult
from tritonforge_load.measure.seconds import Seconds


def made_run(generator: np.random.Generator, seconds: int = 20, name: str = "steady", **keys: Any) -> RunResult:
    cell = scattered_cell(generator, **{"seconds": seconds, "rate_per_s": 120, **keys})
    return open_run(run_of(name, duration_s=float(seconds), cls=cell), rate_per_s=150)


def made(seed: int, *, runs: int = 1, seconds: int = 20, between: float = 0.0, **keys: Any) -> CampaignResult:
    """One Poisson phase; the latency of repeated runs differs by ``between``."""
    generator = np.random.default_rng(seed)
    median_ms = keys.pop("median_ms", 5.0)
    levels = median_ms * np.exp(generator.normal(0, between, runs))
    played = [
        made_run(generator, seconds, f"steady#{index}", median_ms=level, **keys) for index, level in enumerate(levels)
    ]
    return result_of(PhaseResult("steady", tuple(played)))


def change_of(comparison: Comparison, metric: str, workload: str | None = "cls") -> Change:
    (found,) = [it for it in comparison.changes if (it.metric, it.workload) == (metric, workload)]
    return found


def test_a_slower_second_is_worse_with_its_size_and_interval() -> None:
    comparison = compare(made(1), made(2, median_ms=6.5))
    p50 = change_of(comparison, "p50")
    assert p50.verdict == "worse"
    assert p50.low < 0.3 < p50.high
    assert p50.change == pytest.approx(0.3, abs=0.08)
    assert p50.before == pytest.approx(5.0, rel=0.05)
    assert (p50.basis, p50.reason) == ("seconds", "more than noise and tolerance")
    assert (comparison.verdict, comparison.exit_code) == ("worse", 3)


def test_turned_around_it_is_better() -> None:
    comparison = compare(made(2, median_ms=6.5), made(1))
    assert (comparison.verdict, comparison.exit_code) == ("better", 0)


def test_the_same_twice_is_the_same() -> None:
    comparison = compare(made(1, rate_per_s=400), made(1, rate_per_s=400), tolerance=0.15)
    assert {change.verdict for change in comparison.changes} == {"same"}
    assert [change.change for change in comparison.changes] == [0.0] * 4
    assert (comparison.verdict, comparison.exit_code) == ("same", 0)


@pytest.mark.parametrize("keys", [{}, {"runs": 3, "seconds": 6, "between": 0.05}])
def test_nothing_is_found_in_noise(keys: Mapping[str, Any]) -> None:
    verdicts = Counter(
        compare(made(seed, **keys), made(seed + 1000, **keys), tolerance=0.0).verdict for seed in range(40)
    )
    # 5 % of 40 are 2; more than 6 come with a probability of 0.4 %.
    assert verdicts["worse"] + verdicts["better"] <= 6


@pytest.mark.parametrize("keys", [{}, {"runs": 3, "seconds": 6, "between": 0.02}])
def test_what_matters_is_found(keys: Mapping[str, Any]) -> None:
    slower = [compare(made(seed, **keys), made(seed + 1000, median_ms=6.5, **keys)).verdict for seed in range(10)]
    assert slower.count("worse") >= 9


def test_intervals_hold_the_true_change_about_as_often_as_said() -> None:
    held = {"p50": 0, "p95": 0}
    for seed in range(50):
        comparison = compare(made(seed, rate_per_s=60), made(seed + 1000, rate_per_s=60, median_ms=5.5))
        for metric in held:
            change = change_of(comparison, metric)
            held[metric] += change.low <= 0.1 <= change.high
    # Blocks of a short run know a little too little of the noise.
    assert all(count >= 42 for count in held.values()), held


def test_repeats_tell_the_noise_between_runs_that_one_run_does_not_know() -> None:
    def noise(runs: int) -> float:
        keys: dict[str, Any] = {"seconds": 10, "between": 0.2, "rate_per_s": 60, "runs": runs}
        changes = [change_of(compare(made(seed, **keys), made(seed + 1000, **keys)), "p50") for seed in range(10)]
        assert {change.basis for change in changes} == {"repeats" if runs > 1 else "seconds"}
        return float(np.median([change.noise for change in changes]))

    # 20 % between runs, three each: about 2.8 * 0.2 * sqrt(2 / 3).
    assert noise(3) == pytest.approx(0.45, abs=0.2)
    assert noise(1) < 0.1
    mixed = compare(made(1, seconds=10, runs=3), made(2, seconds=10))
    assert change_of(mixed, "p50").basis == "repeats"


def test_seconds_tell_the_noise_of_a_rate_as_statistics_do() -> None:
    """Of independent seconds the variance of a total is known."""
    ratios = []
    generator = np.random.default_rng(5)
    for seed in range(200):
        runs = [run_of(cells={"cls": Cell()}) for _ in range(2)]
        exact = 0.0
        for run in runs:
            counts = generator.poisson(20, 10)
            for second, count in enumerate(counts.tolist()):
                for _ in range(count):
                    run.rows[0].cell.record(second, MS, 1, None)
            exact += counts.var(ddof=1) * 10 / counts.sum() ** 2
        noise = noises_between(["rate"], runs[:1], runs[1:], "cls", seed=seed)["rate"]
        assert isinstance(noise, Noise)
        ratios.append(noise.error**2 / exact)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.12)


def test_neighbours_that_are_alike_make_more_noise() -> None:
    wider = []
    for seed in range(20):
        run = made(seed, seconds=40, alike=0.8, level=0.2, rate_per_s=30).phases[0].runs[0]
        cell = run.rows[0].cell
        order = np.random.default_rng(seed).permutation(40).tolist()
        shuffled = replace(cell, seconds=Seconds({place: cell.seconds[second] for place, second in enumerate(order)}))
        mixed = replace(run, rows=(replace(run.rows[0], cell=shuffled),))
        noises = [noises_between(["p50"], [it], [it], "cls")["p50"] for it in (run, mixed)]
        wider.append([noise.error for noise in noises if isinstance(noise, Noise)])
    alike, alone = np.mean(wider, axis=0)
    assert alike > 1.25 * alone


def test_repeats_that_agree_by_chance_do_not_make_one_error_a_difference() -> None:
    none, one = (
        result_of(
            PhaseResult("steady", tuple(run_of(f"#{i}", cls=cell_of([1.0] * 999, failed=failed)) for i in range(2)))
        )
        for failed in (0, 1)
    )
    assert change_of(compare(none, one), "errors").verdict == "same"


def test_repeats_that_agree_do_not_make_one_bucket_a_difference() -> None:
    below, above = (
        result_of(PhaseResult("steady", tuple(run_of(f"#{i}", cls=cell_of([median_ms] * 100)) for i in range(2))))
        for median_ms in (5.0, 5.03)
    )
    p50 = change_of(compare(below, above, tolerance=0.0), "p50")
    assert p50.change == pytest.approx(0.006, abs=0.003)
    assert p50.verdict == "unknown"


def test_the_noise_of_repeats_is_students() -> None:
    sides = [
        result_of(PhaseResult("steady", tuple(run_of(str(i), cls=cell_of([1.0] * n)) for i, n in enumerate(counts))))
        for counts in ([980, 1000, 1020], [1080, 1100, 1120])
    ]
    rate = change_of(compare(*sides), "rate")
    deviations = [np.std(np.log(counts), ddof=1) for counts in ([980, 1000, 1020], [1080, 1100, 1120])]
    error = math.sqrt(np.mean(np.square(deviations)) * 2 / 3)
    assert rate.change == pytest.approx(0.1)
    assert rate.high == pytest.approx(1.1 * math.exp(2.776 * error) - 1, rel=1e-3)
    assert (rate.verdict, rate.basis) == ("better", "repeats")


def test_a_tolerance_forgives_what_is_sure_but_small() -> None:
    sides = [
        made(seed, median_ms=median_ms, rate_per_s=1000, level=0.001, seconds=30)
        for seed, median_ms in [(1, 5.0), (2, 5.15)]
    ]
    assert change_of(compare(*sides, tolerance=0.0), "p50").verdict == "worse"
    forgiven = change_of(compare(*sides, tolerance=0.08), "p50")
    assert (forgiven.verdict, forgiven.reason) == ("same", "within the tolerance, as is the noise")


def test_noise_above_the_tolerance_hides_what_matters() -> None:
    p99 = change_of(compare(made(1), made(2), tolerance=0.001), "p99")
    assert p99.verdict == "unknown"
    assert p99.reason.startswith("the noise is ±")
    assert p99.reason.endswith("the tolerance 0.1 %: play longer, or repeat more often")


def test_too_few_seconds_or_requests_tell_no_noise() -> None:
    short = compare(made(1, seconds=ENOUGH_SECONDS - 1), made(2, seconds=ENOUGH_SECONDS - 1, median_ms=50.0))
    assert (change_of(short, "p50").verdict, short.verdict) == ("unknown", "unknown")
    assert change_of(short, "p50").reason == (
        "9 s are too short to know the noise: at least 10 s, or repeat the phase"
    )  # fmt: skip
    few = change_of(compare(made(1, rate_per_s=20), made(2, rate_per_s=20)), "p99")
    assert few.verdict == "unknown"
    assert few.reason.endswith(f"requests are too few to know the noise of p99: at least {ENOUGH_BEYOND * 100:,}")


def test_more_errors_are_worse_whatever_the_tolerance() -> None:
    comparison = compare(made(1), made(2, error_share=0.03), tolerance=0.5)
    errors = change_of(comparison, "errors")
    assert errors.is_share
    assert errors.change == pytest.approx(0.03, abs=0.01)
    assert (errors.verdict, comparison.verdict) == ("worse", "worse")


def test_one_error_more_is_none() -> None:
    one = made(2)
    one.phases[0].runs[0].rows[0].cell.errors["Timeout"] = 1
    assert change_of(compare(made(1), one), "errors").verdict == "same"


def test_fewer_right_answers_are_worse() -> None:
    sides = [
        result_of(PhaseResult("steady", (run_of(cls=cell_of([1.0] * 900, checked=500, correct=correct, seconds=10)),)))
        for correct in (495, 450)
    ]
    correct = change_of(compare(*sides), "correct")
    assert (correct.verdict, correct.basis) == ("worse", "requests")
    assert correct.change == pytest.approx(-0.09)
    assert not [it for it in compare(*sides).changes if it.metric == "shed"], "nothing was shed"


def test_shed_requests_are_compared_once_there_are_some() -> None:
    shed = [
        result_of(PhaseResult("steady", (open_run(run_of(cls=cell_of([1.0] * 900, shed=shed, seconds=10))),)))
        for shed in (0, 100)
    ]
    assert change_of(compare(*shed), "shed").verdict == "worse"


def test_the_rate_is_compared_where_it_is_the_servers_doing() -> None:
    closed = [
        result_of(PhaseResult("steady", (run_of(cls=cell_of([1.0] * count, seconds=10)),))) for count in (1000, 1300)
    ]
    assert change_of(compare(*closed), "rate").verdict == "better"
    assert not [it for it in compare(made(1), made(2)).changes if it.metric == "rate"]


def test_workloads_are_compared_alone_and_together() -> None:
    sides = []
    for seed in (1, 2):
        generator = np.random.default_rng(seed)
        cells = {name: scattered_cell(generator, seconds=12, rate_per_s=50) for name in ("cls", "emb")}
        sides.append(result_of(PhaseResult("steady", (open_run(run_of(duration_s=12.0, cells=cells)),))))
    comparison = compare(*sides, percents=[50])
    assert [(it.workload, it.metric) for it in comparison.changes] == [
        ("cls", "p50"), ("cls", "errors"), ("emb", "p50"), ("emb", "errors"), (None, "p50"), (None, "errors"),
    ]  # fmt: skip
    without = replace(sides[1].phases[0].runs[0], rows=sides[1].phases[0].runs[0].rows[:1])
    alone = compare(sides[0], result_of(PhaseResult("steady", (without,))), percents=[50])
    assert [it.workload for it in alone.changes] == ["cls", "cls"]
    assert alone.not_compared == {"steady: emb": "only in the first"}


def test_phases_that_cannot_be_compared_are_named() -> None:
    run = made(1).phases[0].runs[0]

    def phases(*entries: tuple[str, RunResult]) -> CampaignResult:
        return result_of(*(PhaseResult(name, (run,)) for name, run in entries))

    first = phases(("gone", run), ("faster", run), ("spoilt", run), ("steady", run))
    second = phases(
        ("new", run), ("faster", replace(run, rate_per_s=300.0)), ("spoilt", replace(run, invalid=("slip",))),
        ("steady", run),
    )  # fmt: skip
    comparison = compare(first, second)
    assert comparison.not_compared == {
        "gone": "only in the first",
        "faster": "another load: poisson 150/s, then poisson 300/s",
        "spoilt": "invalid in the second: slip",
        "new": "only in the second",
    }
    assert {it.phase for it in comparison.changes} == {"steady"}
    assert compare(first, phases()).verdict == "unknown"


def test_what_else_differs_is_said() -> None:
    first = replace(made(1), seed=7, versions={"locust": "2.47.0", "triton": "2.51.0"}, started_at="2030-01-01")
    second = replace(
        result_of(PhaseResult("steady", (replace(made_run(np.random.default_rng(2)), unsteady=("it drifts",)),))),
        target="http://other:1",
        versions={"locust": "2.48.0"},
        problems=("it was stopped",),
        campaign="new",
    )
    comparison = compare(first, second)
    assert comparison.differences == (
        "campaign: demo, then new",
        "target: grpc://host:1, then http://other:1",
        "seed: 7, then 0",
        "version of locust: 2.47.0, then 2.48.0",
        "version of triton: 2.51.0, then none",
        "problem of the second: it was stopped",
        "steady of the second was not steady: it drifts",
    )
    assert (comparison.before, comparison.after) == ("demo 2030-01-01", "new")
    assert compare(first, first).differences == ()


def searched(holds: Callable[[float], bool], *, generator_limit: float = math.inf, **keys: Any) -> CampaignResult:
    """A search of a server that holds what the function says."""
    said = {"from": "100/s", "to": "2000/s", "precision": "4%", "confirm": 2, "step_for": "10s", "until": ["max < 1s"]}
    plan = SearchPlan(Search.model_validate({**said, **keys}))
    runs: list[RunResult] = []
    while (load := plan.next_load()) is not None:
        by_generator = load >= generator_limit
        run = run_of(f"peak#{len(runs)}", cls=cell_of([1.0] * 10))
        runs.append(replace(run, invalid=("it was late",) if by_generator else ()))
        plan.record(run.run, load, not by_generator and holds(load), generator_was_limit=by_generator)
    return result_of(PhaseResult("peak", tuple(runs), plan.outcome()))


def limit_at(rate_per_s: float, **keys: Any) -> CampaignResult:
    return searched(lambda load: load <= rate_per_s, **keys)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(50.0, "worse"), (500.0, "worse"), (700.0, "worse"), (900.0, "unknown"), (1500.0, "better"), (5000.0, "better")],
)
def test_limits_that_were_found_are_compared_by_all_steps(after: float, verdict: str) -> None:
    (change,) = compare(limit_at(1000), limit_at(after)).changes
    assert (change.metric, change.basis, change.verdict) == ("max_rate", "search", verdict), change
    assert math.isnan(change.change) is (after == 50)
    assert change.low <= after / 1000 - 1 <= change.high
    assert math.isinf(change.high) is (after == 5000), "nothing bounds a limit that was not found"


def test_the_same_limit_is_the_same_within_what_steps_can_tell() -> None:
    same = limit_at(1000)
    assert compare(same, same, tolerance=0.3).verdict == "same"
    (change,) = compare(same, same).changes
    assert change.verdict == "unknown"
    assert change.reason.endswith("the tolerance 5 %: confirm more often")
    assert -0.25 < change.low < -0.1
    assert 0.1 < change.high < 0.25


def test_where_the_generator_was_the_limit_nothing_is_known_of_the_server() -> None:
    (change,) = compare(limit_at(1000), limit_at(3000, generator_limit=700)).changes
    assert (change.verdict, change.high, change.reason) == ("unknown", math.inf, "no limit was found: raise to")
    (change,) = compare(limit_at(1000), limit_at(3000, generator_limit=50)).changes
    assert (change.verdict, change.basis) == ("unknown", None)
    assert change.reason == "the generator was the limit at all loads of one side"


def test_one_step_that_failed_by_chance_is_no_lower_limit() -> None:
    (change,) = compare(limit_at(1000), searched(lambda load: load <= 1000 and load != 800)).changes
    assert change.after is not None
    assert change.after < 800
    assert change.verdict == "unknown"


@pytest.mark.parametrize("blur", [0.02, 0.1])
def test_searches_of_one_noisy_server_seldom_differ(blur: float) -> None:
    draw = random.Random(8)

    def holds(load: float) -> bool:
        return draw.random() < 1 / (1 + math.exp(math.log(load / 700) / blur))

    verdicts = Counter(compare(searched(holds), searched(holds), tolerance=0.0).verdict for _ in range(60))
    assert verdicts["better"] + verdicts["worse"] <= 8, verdicts


def test_searches_that_reached_their_end_found_no_limits() -> None:
    assert compare(limit_at(3000), limit_at(3000)).verdict == "unknown"


def test_a_minute_of_three_workloads_is_compared_within_seconds() -> None:
    generator = np.random.default_rng(3)
    sides = []
    for _ in range(2):
        cells = {name: scattered_cell(generator, seconds=60, rate_per_s=100) for name in ("a", "b", "c")}
        sides.append(result_of(PhaseResult("steady", (open_run(run_of(duration_s=60.0, cells=cells)),))))
    begun_s = time.process_time()
    comparison = compare(*sides)
    assert time.process_time() - begun_s < 2.0
    assert len(comparison.changes) == 4 * 4
    again = compare(*sides)
    assert again == comparison, "what is drawn follows from a seed"
