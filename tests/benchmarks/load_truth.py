"""Does the load generator tell the truth? Servers of known behaviour: what is reported of them, and what is true.

    python tests/benchmarks/load_truth.py [--parts frozen known quick] [--rounds 3] [--json FILE] [--markdown FILE]

``frozen`` is a real Triton behind a proxy that stands still for 2 s in the middle of 20 s of 200 requests/s, seen by a
campaign and by Locust as it comes. ``known`` is a server that keeps to exact latencies and measures by itself what it
really took; ``quick`` is the same on CPUs that are kept from sleeping, where that is allowed, one of which is the
server's own. Every round runs all cases in random order. ``--json`` adds the rounds to those that the file has, and
``--markdown`` writes tables of all of them between the marks of a page; with ``--rounds 0`` of those that the file has.
Real-time priority (``chrt -f 1`` before the command) keeps other processes of the machine out of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from tritonforge_generator.deploy import EmbeddedTriton

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet
from load.conftest import IDENTITY_CONFIG, IDENTITY_MODEL
from support.marks import write_between_marks
from support.quick_machine import awake, shared_cores
from support.truth import Load, Stall, bare, known, percentile_ms, stalled_ms, true_ms

PERCENTS: Final = ("50", "90", "95", "99", "99.9")
STALL: Final = Stall(Load(rate_per_s=200, duration_s=20), frozen_s=2)
KNOWN: Final = {arrival: Load(rate_per_s=200, duration_s=10, arrival=arrival) for arrival in ("constant", "poisson")}
KNOWN_MS: Final = {"5 ms": (5.0,), "2 ms, 1 in 40 takes 50 ms": (*[2.0] * 39, 50.0)}
BARE_REQUESTS: Final = 1000
PROCESSES: Final = {1: "1 process", 2: "2 processes"}

Values: TypeAlias = dict[str, float]
"""Milliseconds by percent, and ``requests``."""
Round: TypeAlias = dict[str, Values]
"""Values by what they are of."""
Case: TypeAlias = Callable[[], Round]


def main() -> int:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        cases = {part: CASES[part](stack) for part in arguments.parts}
        rounds = []
        if arguments.json and arguments.json.exists():
            rounds = json.loads(arguments.json.read_text(encoding="utf-8"))
        for _ in range(arguments.rounds):
            rounds.append(measured_round(cases))
            if arguments.json:
                arguments.json.write_text(json.dumps(rounds, indent=1), encoding="utf-8")
    text = "\n\n".join(tables_of(rounds))
    print(text)
    if arguments.markdown:
        write_between_marks(arguments.markdown, "truth", text)
    return 0


@contextmanager
def served() -> Iterator[EmbeddedTriton]:
    """Serve an identity model."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "identity"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(IDENTITY_CONFIG, encoding="utf-8")
        (model / "1" / "model.py").write_text(IDENTITY_MODEL, encoding="utf-8")
        with EmbeddedTriton(Path(folder)) as server:
            yield server


def measured_round(cases: Mapping[str, Mapping[str, Case]]) -> dict[str, Round]:
    """Run all cases once; the values of each part, and the state of the machine."""
    values: dict[str, Round] = {part: {} for part in cases}
    real_time = os.sched_getscheduler(0) in {os.SCHED_FIFO, os.SCHED_RR}
    values["machine"] = {"pauses": pauses(), "load": {"average": os.getloadavg()[0], "real_time": float(real_time)}}
    order = [(part, name) for part, named in cases.items() for name in named]
    for part, name in random.sample(order, len(order)):
        print(f"{part}: {name}", file=sys.stderr, flush=True)
        values[part] |= cases[part][name]()
    return values


def pauses(looks: int = 6, look_s: float = 0.5) -> Values:
    """How often, and for how long, a loop that only reads the clock is stopped for more than 0.1 ms."""
    stops_ms = []
    for _ in range(looks):
        time.sleep(look_s / 4)  # Linux stops what has real-time priority and uses more than 95 % of a second
        before_s = time.perf_counter()
        end_s = before_s + look_s
        while before_s < end_s:
            now_s = time.perf_counter()
            if now_s - before_s > 1e-4:
                stops_ms.append((now_s - before_s) * 1e3)
            before_s = now_s
    return {"per_s": len(stops_ms) / (looks * look_s), "longest_ms": max(stops_ms, default=0.0)}


# ---- what is measured ----


def frozen_cases(stack: ExitStack) -> dict[str, Case]:
    """Both protocols, seen by one and two processes of ours and by plain Locust."""
    server = stack.enter_context(served())
    cases: dict[str, Case] = {}
    for protocol, url in {"HTTP": server.http_url, "gRPC": server.grpc_url}.items():
        for workers, processes in PROCESSES.items():
            cases[f"{protocol}, {processes}"] = partial(ours_frozen, f"{protocol}, {processes}", url, workers)
        cases[f"{protocol}, plain"] = partial(plain_frozen, f"{protocol}, plain Locust, 20 users", url)
    return cases


def ours_frozen(name: str, url: str, workers: int) -> Round:
    """What a campaign says: from the schedule, and from the moment of sending."""
    total, freeze = STALL.ours(url, "identity", workers=workers)
    counts = {"requests": float(total.answered)}
    return {
        "at least, by arithmetic": {
            percent: stalled_ms(STALL.load, freeze.duration_s, float(percent)) for percent in PERCENTS
        }
        | {"requests": float(STALL.load.rate_per_s * STALL.load.duration_s)},
        f"{name}: latency": {percent: total.percentile_ms(float(percent)) for percent in PERCENTS} | counts,
        f"{name}: service time": {percent: total.service_ms(float(percent)) for percent in PERCENTS} | counts,
    }


def plain_frozen(name: str, url: str) -> Round:
    """What Locust itself says."""
    line = STALL.plain(url, "identity")
    return {
        name: {percent: float(line[f"{percent}%"]) for percent in PERCENTS} | {"requests": float(line["Request Count"])}
    }


def known_cases(_: ExitStack) -> dict[str, Case]:
    """Both servers, seen by one and two processes, and by a bare socket whose ends Python's own clock times."""
    cases: dict[str, Case] = {}
    for latency in KNOWN_MS:
        cases[f"{latency}, bare"] = partial(bare_round, latency)
        for workers, processes in PROCESSES.items():
            for arrival in KNOWN:
                cases[f"{latency}, {arrival}, {processes}"] = partial(known_round, latency, arrival, workers)
    return cases


def quick_cases(_: ExitStack) -> dict[str, Case]:
    """Both servers on a quick machine, seen by one process and by a bare socket."""

    def quickly(measured: Callable[[int | None], Round]) -> Round:
        with awake() as is_awake, shared_cores() as core:
            if not is_awake:
                raise SystemExit("/dev/cpu_dma_latency cannot be written here: leave the part 'quick' out")
            return measured(core)

    cases: dict[str, Case] = {}
    for latency in KNOWN_MS:
        cases[f"{latency}, bare"] = partial(quickly, partial(bare_round, latency))
        for arrival in KNOWN:
            cases[f"{latency}, {arrival}"] = partial(quickly, partial(known_round, latency, arrival, 1))
    return cases


def bare_round(latency: str, core: int | None = None) -> Round:
    """What a server took by its own clock, and what a bare socket saw."""
    seen_s, answered = bare(BARE_REQUESTS, KNOWN_MS[latency], core=core)
    return {
        f"{latency}; bare socket: true": {percent: true_ms(answered, float(percent)) for percent in PERCENTS},
        f"{latency}; bare socket: reported": {percent: percentile_ms(seen_s, float(percent)) for percent in PERCENTS},
    }


def known_round(latency: str, arrival: str, workers: int, core: int | None = None) -> Round:
    """What a server took by its own clock, and what a campaign says of it."""
    total, answered = known(KNOWN[arrival], KNOWN_MS[latency], workers=workers, core=core)
    name = f"{latency}; {arrival} arrivals, {PROCESSES[workers]}"
    return {
        f"{name}: true": {percent: true_ms(answered, float(percent)) for percent in PERCENTS},
        f"{name}: reported": {percent: total.percentile_ms(float(percent)) for percent in PERCENTS},
    }


CASES: Final = {"frozen": frozen_cases, "known": known_cases, "quick": quick_cases}


# ---- how it is shown ----


def about_machine(machines: list[Round]) -> str:
    """Where it was measured, and what the machine does to any process."""
    pause, load = ([one[what] for one in machines] for what in ("pauses", "load"))
    per_s, average = ([one[key] for one in many] for many, key in ((pause, "per_s"), (load, "average")))
    real_time = ", at real-time priority" if all(one["real_time"] for one in load) else ""
    return (
        f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}{real_time}; load average "
        f"{min(average):.1f} to {max(average):.1f}. Milliseconds: medians of {len(machines)} rounds, and their range. "
        f"A loop that only reads the clock was stopped for more than 0.1 ms {min(per_s):.0f} to {max(per_s):.0f} times "
        f"a second, the longest time for {max(one['longest_ms'] for one in pause):.0f} ms: no process on this machine "
        "can be more regular than that."
    )


def frozen_table(rounds: list[Round]) -> str:
    """A line for each who reports."""
    names = sorted(rounds[0], key=lambda name: ("arithmetic" not in name, name))
    lines = [
        [name, *(cell(rounds, name, percent) for percent in PERCENTS), cell(rounds, name, "requests")] for name in names
    ]
    return table(["", *(f"p{percent}" for percent in PERCENTS), "requests"], lines)


def known_table(rounds: list[Round]) -> str:
    """What is true and what is reported, and the difference."""
    lines = []
    for case in sorted({name.rpartition(": ")[0] for name in rounds[0]}):
        true, reported = ([one[f"{case}: {what}"] for one in rounds] for what in ("true", "reported"))
        shares = [
            {percent: 100 * (seen[percent] / was[percent] - 1) for percent in PERCENTS}
            for was, seen in zip(true, reported, strict=True)
        ]
        shown = {
            "true": [spread([one[percent] for one in true], ".2f") for percent in PERCENTS],
            "reported": [spread([one[percent] for one in reported], ".2f") for percent in PERCENTS],
            "more, %": [spread([one[percent] for one in shares], ".1f") for percent in PERCENTS],
        }
        lines += [["" if index else case, what, *cells] for index, (what, cells) in enumerate(shown.items())]
    return table(["server; seen by", "", *(f"p{percent}" for percent in PERCENTS)], lines)


TABLES: Final = {"frozen": frozen_table, "known": known_table, "quick": known_table}
HEADS: Final = {
    "frozen": "A server that stands still. ",
    "known": "Servers of known latency, on the machine as it is. ",
    "quick": "The same while CPUs are kept from sleeping, one of which is the server's own. ",
}


def tables_of(rounds: list[dict[str, Round]]) -> Iterator[str]:
    """A table for each part that was measured, and on what."""
    for part, shown in TABLES.items():
        if measured := [one for one in rounds if part in one]:
            yield f"{HEADS[part]}{about_machine([one['machine'] for one in measured])}"
            yield shown([one[part] for one in measured])


def cell(rounds: list[Round], name: str, key: str) -> str:
    """The median of a value, and its range where it has one."""
    values = [one[name][key] for one in rounds]
    return spread(values, ",.0f" if key == "requests" or statistics.median(values) >= 100 else ".2f")


def spread(values: list[float], form: str) -> str:
    """Median and range."""
    shown = [format(value, form) for value in (statistics.median(values), min(values), max(values))]
    return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]} to {shown[2]})"


def table(heading: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heading, rule, *lines])


if __name__ == "__main__":
    sys.exit(main())
