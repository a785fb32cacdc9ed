"""Calls a real Triton at full speed for a long time: is memory flat, and is every error explained?

    python tests/benchmarks/client_soak.py [--minutes 10] [--parts threads tasks] [--json FILE]

``threads`` are 32 threads with a blocking client a protocol, ``tasks`` 256 tasks with an asynchronous one. Payloads are
small, an image, and an image through shared memory. Memory is that of the calling process alone, compared between two
rests, one after the warm-up and one at the end: no call is in flight and malloc has given back what it can, so that it
is what the clients keep. At full speed the buffers of the calls in flight come and go by more than any leak.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from contract.models import write_models

from tritonforge_client import AsyncClient, Client, ModelSpec, Options, TensorSpec
from tritonforge_generator.deploy import EmbeddedTriton

THREADS, TASKS = 32, 256
GROWTH_MB = 5.0
LEGS = (0.2, 0.8)  # the warm-up and the rest
SIZES = {"small": (1, 64), "image": (3, 50_176), "image in shared memory": (3, 50_176)}


def main() -> int:
    """Serve, run each part in a process of its own, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--parts", nargs="+", choices=["threads", "tasks"], default=["threads", "tasks"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--urls", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.urls:
        run = soak_threads if arguments.parts == ["threads"] else lambda *args: asyncio.run(soak_tasks(*args))
        print(json.dumps(run(arguments.urls, arguments.minutes * 60)))
        return 0
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        repository.mkdir()
        write_models(repository)
        with EmbeddedTriton(repository, model_control_mode="explicit", load_models=["identity"]) as server:
            for part in arguments.parts:
                results[part] = in_process(part, [server.grpc_url, server.http_url], arguments.minutes)
                print(line_of(part, results[part]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0 if all(passed(result) for result in results.values()) else 1


def in_process(part: str, urls: list[str], minutes: float) -> dict[str, Any]:
    """Run a part in a fresh interpreter."""
    command = [sys.executable, __file__, "--parts", part, "--minutes", str(minutes), "--urls", *urls]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def line_of(part: str, result: dict[str, Any]) -> str:
    """A result for people."""
    errors = ", ".join(f"{count} x {name}" for name, count in result["errors"].items()) or "no error"
    verdict = "passed" if passed(result) else "FAILED"
    rest, busy = ([f"{one:.1f}" for one in result[name]] for name in ("rest_mb", "busy_mb"))
    return (
        f"{part}: {result['calls']:,} calls in {result['seconds']:.0f} s, {errors}; at rest {rest[0]} MB after the "
        f"warm-up and {rest[1]} MB at the end; at full speed {busy[0]} MB at first and {busy[1]} MB at last (medians); "
        f"{verdict}"
    )


def passed(result: dict[str, Any]) -> bool:
    """Whether memory stayed and nothing failed."""
    first_mb, last_mb = result["rest_mb"]
    return last_mb - first_mb <= GROWTH_MB and not result["errors"]


def spec_of(shape: tuple[int, int]) -> ModelSpec:
    """The identity model's FP32 tensors at one shape."""
    return ModelSpec(
        name="identity",
        inputs=(TensorSpec(name="IN_FP32", datatype="FP32", dims=shape, optional=True),),
        outputs=(TensorSpec(name="OUT_FP32", datatype="FP32", dims=shape),),
    )


@dataclass
class Tally:
    """What came of the calls, and what memory did."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    rest_mb: list[float] = field(default_factory=list)
    busy_mb: list[float] = field(default_factory=list)

    def answered(self, output: np.ndarray[Any, Any], index: int) -> None:
        """Compare an answer with what was sent."""
        if output[0, 0] == index and output[-1, -1] == index:
            self.counts["right"] += 1
        else:
            self.errors["wrong answer"] += 1

    def rested(self, busy_mb: list[float]) -> None:
        """Note a leg that ended: memory while it ran, and now."""
        self.busy_mb = busy_mb
        gc.collect()
        if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
            trim(0)
        self.rest_mb.append(memory_mb())

    def result(self, seconds: float) -> dict[str, Any]:
        """Figures of the part."""
        tenth = max(1, len(self.busy_mb) // 10)
        return {
            "calls": self.counts["right"],
            "seconds": seconds,
            "errors": dict(self.errors),
            "rest_mb": self.rest_mb,
            "busy_mb": [statistics.median(self.busy_mb[:tenth]), statistics.median(self.busy_mb[-tenth:])],
        }


def soak_threads(urls: list[str], seconds: float) -> dict[str, Any]:
    """Blocking clients, each shared by all threads."""
    tally = Tally()
    clients = [Client(url) for url in urls]

    def call(index: int, end_s: float) -> None:
        name, shape = list(SIZES.items())[index % len(SIZES)]
        model = clients[index % 2].bind(spec_of(shape), options=options_of(name))
        array = np.full(shape, index, np.float32)
        while time.monotonic() < end_s:
            try:
                tally.answered(model.infer({"IN_FP32": array})["OUT_FP32"], index)
            except Exception as error:
                tally.errors[type(error).__name__] += 1

    for share in LEGS:
        end_s = time.monotonic() + share * seconds
        threads = [threading.Thread(target=call, args=(index, end_s)) for index in range(THREADS)]
        for thread in threads:
            thread.start()
        busy_mb = sampled_memory_mb(end_s)
        for thread in threads:
            thread.join()
        tally.rested(busy_mb)
    for client in clients:
        client.close()
    return tally.result(seconds)


async def soak_tasks(urls: list[str], seconds: float) -> dict[str, Any]:
    """Asynchronous clients, each shared by all tasks."""
    tally = Tally()
    async with AsyncClient(urls[0]) as first, AsyncClient(urls[1]) as second:

        async def call(index: int, end_s: float) -> None:
            name, shape = list(SIZES.items())[index % len(SIZES)]
            model = (first, second)[index % 2].bind(spec_of(shape), options=options_of(name))
            array = np.full(shape, index, np.float32)
            while time.monotonic() < end_s:
                try:
                    tally.answered((await model.infer({"IN_FP32": array}))["OUT_FP32"], index)
                except Exception as error:
                    tally.errors[type(error).__name__] += 1

        for share in LEGS:
            end_s = time.monotonic() + share * seconds
            sampler = asyncio.create_task(asyncio.to_thread(sampled_memory_mb, end_s))
            await asyncio.gather(*(call(index, end_s) for index in range(TASKS)))
            tally.rested(await sampler)
    return tally.result(seconds)


def options_of(name: str) -> Options:
    """Nothing is sent again, so that every error is seen."""
    return Options(timeout_s=60, retry=None, shared_memory="system" if "shared" in name else "off")


def sampled_memory_mb(end_s: float) -> list[float]:
    """Resident memory, twice a second."""
    samples = []
    while time.monotonic() < end_s:
        samples.append(memory_mb())
        time.sleep(0.5)
    return samples


def memory_mb() -> float:
    """Resident memory of this process without what it shares."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
