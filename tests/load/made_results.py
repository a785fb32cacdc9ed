"""A campaign's result made by hand: Poisson phases, repeats, a search, a server with queues, GPUs, all verdicts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from tritonforge_load.measure import (
    CampaignResult,
    Cell,
    GateResult,
    GeneratorFacts,
    PhaseResult,
    RunResult,
    SearchOutcome,
    SearchStep,
    WorkloadResult,
)
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.observe.timeline import Sample, Timeline

SERVICE_S = 0.001
"""Mean service time of the made server, which answers one request after the other: it holds 1,000/s at most."""
WEIGHTS = {"small": 3, "large": 1}
GAP_S = 2.0
"""Time between two runs."""


def poisson_times_s(rate_per_s: float, duration_s: float, draw: random.Random) -> Iterator[float]:
    at_s = draw.expovariate(rate_per_s)
    while at_s < duration_s:
        yield at_s
        at_s += draw.expovariate(rate_per_s)


def open_cells(
    times_s: Iterable[float], draw: random.Random, *, slip_s: float = 0.0001, stalls_at_s: float = math.inf
) -> dict[str, Cell]:
    """What is recorded when requests queue up before one server; a stall holds it for a second."""
    cells = {name: Cell() for name in WEIGHTS}
    free_s = 0.0
    for at_s in times_s:
        name = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if at_s >= stalls_at_s:
            free_s, stalls_at_s = stalls_at_s + 1.0, math.inf
        late_s = slip_s * draw.lognormvariate(0, 0.6)
        free_s = max(at_s + late_s, free_s) + SERVICE_S * draw.lognormvariate(-0.08, 0.4)
        latency_ns, slip_ns = round((free_s - at_s) * 1e9), round(late_s * 1e9)
        error = "Unavailable" if free_s - at_s > 0.9 and draw.random() < 0.2 else None
        rows = 8 if name == "large" else 1
        service_ns = latency_ns - slip_ns
        cells[name].record_open(int(at_s), latency_ns, rows, error, service_ns=service_ns, slip_ns=slip_ns)
    return cells


def closed_cells(users: int, duration_s: float, draw: random.Random) -> dict[str, Cell]:
    cells = {name: Cell() for name in WEIGHTS}
    at_s = [0.0] * users
    while min(at_s) < duration_s:
        first = at_s.index(min(at_s))
        name = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        latency_s = users * SERVICE_S * draw.lognormvariate(-0.08, 0.4)
        cells[name].record(int(at_s[first]), round(latency_s * 1e9), 8 if name == "large" else 1, None)
        at_s[first] += latency_s
    cells["small"].checked, cells["small"].correct = 400, 397
    return cells


def facts(model: str, requests: int, *, busy: float) -> ModelFacts:
    """The server's side; a busy one (1 is all it holds) has longer queues and larger batches."""
    sizes = (1, 2, 4, 8)
    shares = [math.exp(-abs(math.log2(size) - 3 * min(busy, 1))) for size in sizes]
    batches = {
        size: max(1, int(requests * share / sum(shares) / size)) for size, share in zip(sizes, shares, strict=True)
    }
    queue_s = requests * SERVICE_S * min(20.0, busy / max(0.05, 1 - busy))
    infer_s, input_s, output_s = (requests * SERVICE_S * part for part in (0.8, 0.12, 0.05))
    return ModelFacts(
        model=model,
        requests=requests,
        rows=sum(size * count for size, count in batches.items()),
        executions=sum(batches.values()),
        failed=3 if busy > 0.9 else 0,
        rejected=None,
        cache_hits=0,
        cache_misses=0,
        computed=requests,
        total_s=queue_s + input_s + infer_s + output_s + requests * 1e-5,
        queue_s=queue_s,
        compute_input_s=input_s,
        compute_infer_s=infer_s,
        compute_output_s=output_s,
        cache_s=0.0,
        batches=batches,
    )


def run_of(
    name: str,
    arrival: str,
    load: float,
    duration_s: float,
    starts_s: float,
    cells: dict[str, Cell],
    *,
    invalid: tuple[str, ...] = (),
    unsteady: tuple[str, ...] = (),
) -> RunResult:
    rows = tuple(WorkloadResult(workload, duration_s, cell) for workload, cell in cells.items())
    sent = sum(row.sent + row.shed for row in rows)
    closed = arrival == "closed"
    busy = min(load, 10) * 0.05 if closed else sent / duration_s * SERVICE_S
    return RunResult(
        run=name,
        arrival=arrival,
        users=int(load) if closed else None,
        rate_per_s=None if closed else load,
        starts_s=starts_s,
        duration_s=duration_s,
        rows=rows,
        generator=GeneratorFacts(
            workers=2, scheduled=None if closed else sent, cpu_share=min(0.97, 0.1 + busy / 2), clock_error_s=0.0002
        ),
        models=(
            facts("digits", sum(row.answered for row in rows), busy=busy),
            facts("encoder", rows[-1].answered, busy=busy / 2),
        ),
        invalid=invalid,
        unsteady=unsteady,
    )


def poisson_run(name: str, rate_per_s: float, duration_s: float, starts_s: float, seed: int) -> RunResult:
    draw = random.Random(seed)
    cells = open_cells(poisson_times_s(rate_per_s, duration_s, draw), draw)
    return run_of(name, "poisson", rate_per_s, duration_s, starts_s, cells)


def searched(starts_s: float, step_s: float, limit_ms: float = 20.0) -> PhaseResult:
    loads = (100.0, 200.0, 400.0, 800.0, 1600.0, 1200.0, 1000.0, 800.0)
    runs, steps = [], []
    for index, load in enumerate(loads):
        again = f"#{loads[:index].count(load) + 1}" if load in loads[:index] else ""
        run = poisson_run(f"peak@{load:g}/s{again}", load, step_s, starts_s + index * (step_s + GAP_S), index)
        p99_ms = run.total.percentile_ms(99)
        held = p99_ms < limit_ms
        reasons = () if held else (f"p99 < {limit_ms:g}ms: {p99_ms:.3g} ms is not < {limit_ms:g} ms",)
        runs.append(run)
        steps.append(SearchStep(run.run, load, held, reasons))
    reason = "800/s held and held again; 1000/s did not hold"
    return PhaseResult("peak", tuple(runs), SearchOutcome("rate", 800.0, True, reason, tuple(steps)))


def burst(starts_s: float, duration_s: float) -> PhaseResult:
    """Errors, requests that were shed, a stall, and a generator that was the limit."""
    draw = random.Random(99)
    cells = open_cells(poisson_times_s(500, duration_s, draw), draw, slip_s=0.003, stalls_at_s=duration_s / 2)
    cells["small"].shed = 41
    reasons = ("slip p99 is 12 ms, expected < 2 ms", "the busiest generator took 97 % of its core, expected < 85 %")
    run = run_of(
        "burst", "gamma", 500.0, duration_s, starts_s, cells, invalid=reasons, unsteady=("p50 rises by 12 % a minute",)
    )
    return PhaseResult("burst", (run,))


@cache
def made_result() -> CampaignResult:
    """Every kind of phase and every verdict, in about three minutes of made time."""
    single = run_of("single", "closed", 1, 12.0, 5.0, closed_cells(1, 12.0, random.Random(1)))
    steady = [poisson_run(f"steady{'' if i == 0 else f'#{i + 1}'}", 300, 10.0, 20 + 12.0 * i, 10 + i) for i in range(3)]
    played = PhaseResult("single", (single,)), PhaseResult("steady", tuple(steady)), burst(58.0, 15.0)
    phases = (*played, searched(76.0, 6.0))
    return CampaignResult(
        campaign="digits",
        target="grpc://127.0.0.1:8001",
        phases=phases,
        gates=gates(),
        unmeasured=412,
        started_at="2030-01-02T03:04:05.120000+00:00",
        seed=7,
        timeline=timeline(phases, gpus=2),
        versions={"tritonforge": "0.1.0", "locust": "2.47.0", "python": "3.11.7", "triton": "2.51.0"},
    )


def gates() -> tuple[GateResult, ...]:
    return (
        GateResult("steady", "p99(small) < 25ms", "pass", 4.3, "4.3 ms is < 25 ms (6,700 requests, confidence 95 %)"),
        GateResult("steady", "errors < 0.1%", "pass", 0.0, "0 % is < 0.1 % (9,000 requests)"),
        GateResult("single", "p99.9 < 8ms", "inconclusive", 3.1, "3.1 ms of 4,100 requests; 503 more are needed"),
        GateResult("burst", "shed < 0.1%", "invalid", 0.005, "the phase is invalid"),
        GateResult("peak", "max_rate >= 900/s", "fail", 800.0, "800/s is not >= 900/s"),
    )


def timeline(phases: Sequence[PhaseResult], *, gpus: int, seed: int = 5) -> Timeline:
    """One sample a second from before the first run to after the last; GPU 1 tells no clocks."""
    runs = [run for phase in phases for run in phase.runs]
    draw = random.Random(seed)
    end_s = max(run.starts_s + run.duration_s for run in runs) + 2
    samples = []
    for second in range(1, int(end_s) + 1):
        run = next((run for run in runs if run.starts_s < second <= run.starts_s + run.duration_s + 0.5), None)
        busy = 0.0 if run is None else min(1.0, run.total.sent / run.duration_s * SERVICE_S)
        values = {
            "server.cpu_share": 0.05 + 0.4 * busy + draw.uniform(0, 0.02),
            "server.memory_bytes": 6.2e9 + 1e6 * second,
            "server.process_memory_bytes": 3.1e8 + 2e5 * second,
            "generator.local-1.cpu_share": 0.02 + 0.5 * busy + draw.uniform(0, 0.02),
            "generator.local-2.cpu_share": 0.02 + 0.5 * busy + draw.uniform(0, 0.02),
            "generator.local-1.memory_bytes": 1.1e8,
            "generator.local-2.memory_bytes": 1.2e8,
        }
        if run is not None:
            values |= facts("digits", max(1, int(busy / SERVICE_S)), busy=busy).values(1.0)
        for gpu in range(gpus):
            share = min(1.0, busy * (0.9 - 0.1 * gpu) + draw.uniform(0, 0.05))
            values |= {
                f"gpu.{gpu}.utilization_share": share,
                f"gpu.{gpu}.memory_used_bytes": 4.1e9 + 1e9 * gpu,
                f"gpu.{gpu}.memory_total_bytes": 150e9,
                f"gpu.{gpu}.power_w": 90 + 500 * share,
                f"gpu.{gpu}.temperature_c": 34 + 20 * share,
            }
            if gpu != 1:
                values |= {f"gpu.{gpu}.sm_clock_mhz": 1980 - 200 * share, f"gpu.{gpu}.memory_clock_mhz": 3201.0}
        samples.append(Sample(float(second), values))
    absent = {
        "rejected": "the server's metrics page has no nv_inference_pending_request_count",
        "server.memory": "at 41.0 s: the metrics page did not answer within 1 s",
        "gpu.1.clocks": "NVML does not tell them: Not Supported",
    }
    return Timeline(1.0, tuple(samples), absent)


@cache
def long_result() -> CampaignResult:
    """Half an hour of samples every second, eight GPUs, ten phases."""
    phases = tuple(
        PhaseResult(f"phase-{i}", (poisson_run(f"phase-{i}", 12 + 2 * i, 176.0, 4 + 180.0 * i, i),)) for i in range(10)
    )
    return CampaignResult("long", "http://10.0.0.7:8000", phases, timeline=timeline(phases, gpus=8), seed=1)


def bare_result() -> CampaignResult:
    """One run, nothing observed, nothing judged."""
    cells = closed_cells(2, 1.2, random.Random(3))
    run = RunResult("main", "closed", 2, None, 0.0, 1.25, (WorkloadResult("small", 1.25, cells["small"]),))
    return CampaignResult("bare", "grpc://127.0.0.1:8001", (PhaseResult("main", (run,)),))
