"""Where a plan's time goes, kernel by kernel, by Nsight Compute: also inside the regions that TensorRT does not open.

    python tests/benchmarks/kernel_times.py model.plan --batch 64 [--ncu PATH]

Runs the plan without CUDA graphs under ``ncu``, which must be allowed to read the GPU's counters, and sums the kernels
of one run by name. Kernels run one after the other there, so that their sum is somewhat above a run's time.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

METRIC = "gpu__time_duration.sum"
MICROSECONDS = {"nsecond": 1e-3, "ns": 1e-3, "usecond": 1.0, "us": 1.0, "msecond": 1e3, "ms": 1e3}


@dataclass(frozen=True)
class KernelTime:
    """All launches of a kernel in one run."""

    name: str
    count: int
    total_us: float


def main() -> int:
    """Profile, or be what is profiled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--ncu", default="ncu")
    parser.add_argument("--profiled", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.profiled:
        run_once(arguments.plan, arguments.batch)
        return 0
    own = [sys.executable, __file__, str(arguments.plan), "--batch", str(arguments.batch), "--profiled"]
    flags = ["--profile-from-start", "off", "--clock-control", "none", "--metrics", METRIC, "--csv"]
    done = subprocess.run([arguments.ncu, *flags, *own], stdout=subprocess.PIPE, text=True, check=False)
    kernels = kernels_from_csv(done.stdout)
    if not kernels:
        print(f"ncu measured nothing (exit code {done.returncode}):\n{done.stdout}", file=sys.stderr)
        return 1
    print(f"{sum(one.total_us for one in kernels):10.1f} us in {sum(one.count for one in kernels)} kernels")
    for one in kernels:
        print(f"{one.total_us:10.1f} us, {one.count:4d} x {one.name}")
    return 0


def kernels_from_csv(text: str) -> list[KernelTime]:
    """Kernels by name, those that take longest first.

    Args:
        text: What ``ncu --csv`` wrote; lines in front of the table are passed over.
    """
    lines = text.splitlines()
    start = next((index for index, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    totals: dict[str, tuple[int, float]] = {}
    for row in csv.DictReader(lines[start:]):
        if row["Metric Name"] != METRIC:
            continue
        name, (count, total_us) = row["Kernel Name"], totals.get(row["Kernel Name"], (0, 0.0))
        totals[name] = (count + 1, total_us + _microseconds(row))
    kernels = [KernelTime(name, count, total_us) for name, (count, total_us) in totals.items()]
    return sorted(kernels, key=lambda one: -one.total_us)


def _microseconds(row: Mapping[str, str]) -> float:
    return float(row["Metric Value"].replace(",", "")) * MICROSECONDS[row["Metric Unit"]]


def run_once(plan: Path, batch: int) -> None:
    """Run a plan warm, once while the profiler looks."""
    from tritonforge_generator.plan import Engine, Runner
    from tritonforge_generator.plan.cuda import call
    from tritonforge_generator.plan.engine import numpy_dtype_of

    with Engine(plan) as engine, Runner(engine, cuda_graphs=False) as runner:
        inputs: dict[str, Any] = {
            tensor.name: np.ones((batch, *engine.profiles[0][tensor.name].max[1:]), numpy_dtype_of(tensor))
            for tensor in engine.inputs
        }
        for _ in range(3):
            runner.infer(inputs)
        call("cudaProfilerStart")
        runner.infer(inputs)
        call("cudaProfilerStop")


if __name__ == "__main__":
    sys.exit(main())
