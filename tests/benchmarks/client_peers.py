"""Compare our clients with others of their kind, on an identity model served by a real Triton.

    python tests/benchmarks/client_peers.py [--seconds 6] [--parts sync async loop import] [--keep-pages] [--json FILE]

Every client is a process of its own, and those of a part take turns in random order, so that a slow moment of the
machine hits each of them. With ``--keep-pages`` everything is measured a second time with a malloc that gives no memory
back, in the server and in the clients: large buffers are then not paid for by page faults.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.environment import inherited

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet
from benchmarks.client_peers_clients import ASYNC, FRESH, MODEL, SYNC, baselines_of, host_of, urls_of
from benchmarks.client_peers_player import AT_ONCE, LARGE_AT_ONCE, players, ticker_lateness_ms
from benchmarks.client_peers_report import BUDGETS, PARTS, Figure, figures_from_samples, text_from_runs

Urls = Mapping[str, str]

CONFIG = """
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [-1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1] }]
"""
CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
            for r in requests
        ]
"""

SHAPES = {"256 B": (1, 64), "0.6 MB": (1, 3 * 224 * 224), "4.2 MB": (7, 3 * 224 * 224)}
CALLS_A_TURN = {"256 B": 20, "0.6 MB": 10, "4.2 MB": 4}
LARGE_SHAPE = (1, 3_000_000)
LEAST_ROUNDS = 5
FRESH_INTERPRETERS = 7

# Both are needed: one alone only ends malloc's own adaption. glibc 2.36 takes thresholds of this size.
KEEP_PAGES = {"MALLOC_TRIM_THRESHOLD_": "536870912", "MALLOC_MMAP_THRESHOLD_": "536870912"}


# ---- one call after the other ----


def sync_figures(urls: Urls, seconds: float) -> Iterator[Figure]:
    """Measure each payload for a while."""
    names = {name: urls[peer.protocol] for name, peer in SYNC.items() if peer.installed}
    for case, shape in SHAPES.items():
        times_us: dict[str, list[float]] = {name: [] for name in SYNC}
        with players("sync", names, shape, calls=CALLS_A_TURN[case]) as playing:
            for order in shuffled_rounds(list(names), seconds):
                for name in order:
                    times_us[name] += playing[name].round()["us"]
        yield from figures_from_samples("sync", case, times_us, baselines_of(SYNC))


def shuffled_rounds(names: Sequence[str], seconds: float) -> Iterator[list[str]]:
    """Yield the names in random order until the time is over."""
    shuffled = random.Random(0)
    end = time.perf_counter() + seconds
    rounds = 0
    while time.perf_counter() < end or rounds < LEAST_ROUNDS:
        rounds += 1
        yield shuffled.sample(names, len(names))


# ---- many calls at once ----


def async_figures(urls: Urls, seconds: float) -> list[Figure]:
    """Measure the throughput of 64 calls at once; the server's share of it is the same for all."""
    wall_us: dict[str, list[float]] = {name: [] for name in ASYNC}
    cpu_us: dict[str, list[float]] = {name: [] for name in ASYNC}
    with players("async", urls_of(ASYNC, urls), SHAPES["256 B"]) as playing:
        for order in shuffled_rounds(list(ASYNC), 2 * seconds):
            for name in order:
                result = playing[name].round()
                wall_us[name] += result["us"]
                cpu_us[name] += result["cpu_us"]
    others = {name: {"client_cpu_us": float(np.median(values))} for name, values in cpu_us.items()}
    case = f"256 B, {AT_ONCE} at once"
    return list(figures_from_samples("async", case, wall_us, baselines_of(ASYNC), others))


# ---- the event loop while large calls run ----


def loop_figures(urls: Urls, seconds: float) -> list[Figure]:
    """Measure how late a ticker is while each client has eight large calls in flight, and while another process has."""
    case = f"12 MB, {LARGE_AT_ONCE} at once"
    round_ms: dict[str, list[float]] = {name: [] for name in ASYNC}
    late_ms: dict[str, list[float]] = {name: [] for name in ASYNC}
    beside_ms: list[float] = []
    with players("loop", urls_of(ASYNC, urls), LARGE_SHAPE) as playing:
        for order in shuffled_rounds(list(ASYNC), 2 * seconds):
            for name in order:
                result = playing[name].round()
                round_ms[name] += result["ms"]
                late_ms[name] += result["late_ms"]
            beside_ms += asyncio.run(ticker_lateness_ms(asyncio.to_thread(playing["tritonclient http"].round)))
    lateness = {name: _lateness(values) for name, values in late_ms.items()}
    figures = list(figures_from_samples("loop", case, round_ms, baselines_of(ASYNC), lateness))
    return [*figures, Figure("loop", case, "of another process", _lateness(beside_ms))]


def _lateness(values_ms: Sequence[float]) -> dict[str, float]:
    return {"p99_ms": float(np.percentile(values_ms, 99)), "max_ms": max(values_ms)}


# ---- fresh interpreters ----

_FRESH_SCRIPT = """
import sys, time
start = time.perf_counter()
{make}
made_s = time.perf_counter() - start
import numpy as np
array = np.ones((1, 64), np.float32)
{call}
replied_s = time.perf_counter() - start
# The kernel's own high-water mark: that of getrusage has the parent's from before exec in it.
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
import json
has_grpc = float("grpc" in sys.modules)
print(json.dumps(dict(made_s=made_s, replied_s=replied_s, peak_mb=peak_kb / 1000, has_grpc=has_grpc)))
"""


def import_figures(urls: Urls) -> Iterator[Figure]:
    """Measure imports, first calls and memory; every client in interpreters of its own."""
    scripts = {
        f"{name} {protocol}": _FRESH_SCRIPT.format(make=make.format(protocol, host_of(urls[protocol])), call=call)
        for protocol in ("grpc", "http")
        for name, (make, call) in FRESH.items()
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in scripts}
    shuffled = random.Random(0)
    for number in range(1 + FRESH_INTERPRETERS):
        for name in shuffled.sample(list(scripts), len(scripts)):
            values = values_from_script(scripts[name])
            if number > 0:  # the first reads the files into the page cache
                runs[name].append(values)
    samples = {name: [values["made_s"] for values in of_name] for name, of_name in runs.items()}
    others = {
        name: {key: float(np.median([values[key] for values in of_name])) for key in of_name[0] if key != "made_s"}
        for name, of_name in runs.items()
    }
    yield from figures_from_samples("import", "256 B", samples, baselines_of(SYNC), others)


def values_from_script(script: str) -> dict[str, float]:
    """Run a script in a fresh interpreter."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    if run.returncode != 0:
        raise SystemExit(f"this failed in a fresh interpreter:\n{script}\n{run.stderr}")
    values: dict[str, float] = json.loads(run.stdout)
    return values


# ---- the whole ----


def main() -> int:
    """Measure, print the tables, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    seconds_help = "time for a payload; twice as long in an event loop (default: %(default)s)"
    parser.add_argument("--seconds", type=float, default=6.0, help=seconds_help)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what to measure")
    parser.add_argument("--keep-pages", action="store_true", help="measure again with a malloc that keeps its pages")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    facts = environment()
    print(f"{facts['cpus']} CPUs, load average {facts['load_average']:.1f} before the start", file=sys.stderr)
    runs = {"malloc as it is": measured(arguments.parts, arguments.seconds)}
    if arguments.keep_pages:
        runs["malloc keeps its pages"] = measured_with_pages_kept(arguments.parts, arguments.seconds)
    print(text_from_runs(runs))
    if arguments.json is not None:
        document = {
            "environment": facts,
            "budgets": [asdict(budget) for budget in BUDGETS],
            "runs": {name: [asdict(figure) for figure in figures] for name, figures in runs.items()},
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(parts: Sequence[str], seconds: float) -> list[Figure]:
    """Serve the model and measure."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        version = Path(folder) / MODEL / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(CONFIG)
        (version / "model.py").write_text(CODE)
        with EmbeddedTriton(folder) as server:
            urls = {"grpc": server.grpc_url, "http": server.http_url}
            measure: dict[str, Callable[[], Iterator[Figure] | list[Figure]]] = {
                "sync": lambda: sync_figures(urls, seconds),
                "async": lambda: async_figures(urls, seconds),
                "loop": lambda: loop_figures(urls, seconds),
                "import": lambda: import_figures(urls),
            }
            for part in parts:
                print(f"{part} ...", file=sys.stderr, flush=True)
                figures += measure[part]()
    return figures


def measured_with_pages_kept(parts: Sequence[str], seconds: float) -> list[Figure]:
    """Measure in another process, since malloc reads its settings at the start; the server inherits them."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "figures.json"
        own = [sys.executable, __file__, "--seconds", str(seconds), "--parts", *parts, "--json", str(result)]
        subprocess.run(own, env={**inherited(), **KEEP_PAGES}, stdout=subprocess.DEVNULL, check=True)
        (figures,) = json.loads(result.read_text(encoding="utf-8"))["runs"].values()
    return [Figure(**figure) for figure in figures]


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("aiohttp", "geventhttpclient", "grpcio", "numpy", "nvidia-pytriton", "tritonclient", "tritony")
    installed = {one.name for one in importlib.metadata.distributions()}
    return {
        "python": platform.python_version(),
        "libc": " ".join(platform.libc_ver()),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "packages": {name: importlib.metadata.version(name) for name in packages if name in installed},
        "malloc": {name: value for name, value in inherited().items() if name.startswith("MALLOC_")},
    }


if __name__ == "__main__":
    sys.exit(main())
