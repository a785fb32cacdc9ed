"""How well does a load generator on one core keep to a schedule?

    python tests/benchmarks/load_pacing.py [--rates 200 1000 2000 3000] [--arrival constant] [--seconds 5] [--turns 5]
        [--json FILE]

Each turn is a process of its own with Locust in it, pinned to one core; what answers is pinned to another. A request is
64 bytes on a kept connection, so that what is measured is the pacer and gevent, not a client. Rates take turns in
random order. *Slip* is how much later a request was sent than it was due, *CPU* the share of the core, and *pushed* how
often a second the kernel took the core away for something else: where that is often, slips are those of the machine.
On one that others use too, ``chrt -r 1`` before the command keeps the core for it.

The exit code is 1 when the median turn at 1000 requests a second is out of bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet
from support.echo import Echo

from tritonforge_client import WireTimes
from tritonforge_load.arrivals import constant_times_s, poisson_times_s
from tritonforge_load.measure.histogram import Histogram

BODY = b"x" * 64
JUDGED_RATE_PER_S = 1000
SLIP_P99_MS, ACHIEVED_SHARE = 2.0, 0.995
FIGURES = {
    "achieved_share": "achieved", "slip_p50_ms": "slip p50 ms", "slip_p99_ms": "slip p99 ms",
    "slip_max_ms": "slip max ms", "late_share": "late", "service_p50_ms": "service p50 ms",
    "cpu_share": "CPU", "cpu_us": "CPU us/request", "pushed_per_s": "pushed/s",
}  # fmt: skip


def main() -> int:
    """Play all turns and say how they went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", type=int, default=[200, 1000, 2000, 3000], help="requests per second")
    parser.add_argument("--arrival", choices=["constant", "poisson"], default="constant")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cores", nargs=2, type=int, default=sorted(os.sched_getaffinity(0))[:2])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--play", nargs=2, type=int, metavar=("RATE", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play is not None:
        rate_per_s, port = arguments.play
        print(json.dumps(play(rate_per_s, port, arguments.arrival, arguments.seconds, arguments.cores[0])))
        return 0
    turns: dict[int, list[dict[str, float]]] = {rate: [] for rate in arguments.rates}
    print(f"load average before: {os.getloadavg()[0]:.2f}")
    shuffled = random.Random(0)
    with Echo(core=arguments.cores[1]) as echo:
        for _ in range(arguments.turns):
            for rate in shuffled.sample(arguments.rates, len(arguments.rates)):
                command = [sys.executable, __file__, *sys.argv[1:], "--play", str(rate), str(echo.port)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60 + 2 * arguments.seconds)
                turns[rate].append(json.loads(done.stdout))
    print(f"load average after: {os.getloadavg()[0]:.2f}\n{table(turns)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(turns, indent=1) + "\n", encoding="utf-8")
    return 0 if within_bounds(turns.get(JUDGED_RATE_PER_S, [])) else 1


def play(rate_per_s: int, port: int, arrival: str, seconds: float, core: int) -> dict[str, float]:
    """One turn, in this process."""
    import locust  # noqa: F401  # patches the process, and brings the objects that the collector walks over

    from tritonforge_load.arrivals.pacer import Pacer

    os.sched_setaffinity(0, {core})
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    slip, service = Histogram(), Histogram()
    last_s = 0.0

    def send(index: int, times: WireTimes) -> None:
        nonlocal last_s
        connection = connections.pop() if connections else socket.create_connection(("127.0.0.1", port))
        times.depart()
        sent_ns = times.sent_ns or 0
        last_s = sent_ns / 1e9
        slip.record(sent_ns - times.not_before_ns)
        connection.sendall(BODY)
        connection.recv(len(BODY))
        connections.append(connection)
        service.record(time.perf_counter_ns() - sent_ns)

    times_s = (
        constant_times_s(rate_per_s, seconds) if arrival == "constant" else poisson_times_s(rate_per_s, seconds, (7,))
    )
    start_s = time.perf_counter() + 0.2
    pacer = Pacer(times_s, start_s, send, max_in_flight=2000, grace_s=5.0)
    before, before_s = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    pacer.run()
    cpu_s = time.process_time() - before_s
    pushed = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before.ru_nivcsw
    asked_s = times_s[-1] - times_s[0]
    return {
        "achieved_share": pacer.counts.sent / len(times_s) * min(1.0, asked_s / (last_s - start_s - times_s[0])),
        "slip_p50_ms": slip.percentile_ns(50) / 1e6,
        "slip_p99_ms": slip.percentile_ns(99) / 1e6,
        "slip_max_ms": slip.max_ns / 1e6,
        "late_share": pacer.counts.late / pacer.counts.sent,
        "service_p50_ms": service.percentile_ns(50) / 1e6,
        "cpu_share": cpu_s / (last_s - start_s),
        "cpu_us": cpu_s / pacer.counts.sent * 1e6,
        "pushed_per_s": pushed / (last_s - start_s),
    }


def table(turns: dict[int, list[dict[str, float]]]) -> str:
    """Median, smallest and largest of the turns, by rate and figure."""
    lines = [["rate/s", *FIGURES.values()]]
    for rate, played in turns.items():
        lines.append([str(rate), *(_spread(key, [turn[key] for turn in played]) for key in FIGURES)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _spread(key: str, values: Sequence[float]) -> str:
    ends = (statistics.median(values), min(values), max(values))
    if key.endswith("_share"):
        shown = [f"{value:.2%}" if key == "achieved_share" else f"{value:.1%}" for value in ends]
    else:
        shown = [f"{value:.3f}" if key.endswith("_ms") else f"{value:.0f}" for value in ends]
    return f"{shown[0]} ({shown[1]}..{shown[2]})"


def within_bounds(turns: Sequence[dict[str, float]]) -> bool:
    """Whether the median turn is; true when there is none."""
    if not turns:
        return True
    slip_ms = statistics.median(turn["slip_p99_ms"] for turn in turns)
    share = statistics.median(turn["achieved_share"] for turn in turns)
    return slip_ms < SLIP_P99_MS and share >= ACHIEVED_SHARE


if __name__ == "__main__":
    sys.exit(main())
