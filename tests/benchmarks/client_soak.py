"""Calls a real Triton at full speed for a long time: is memory flat, and is every error explained?

    python tests/benchmarks/client_soak.py [--minutes 10] [--parts threads tasks] [--json FILE]

``threads`` are 32 threads with a blocking client a protocol, ``tasks`` 256 tasks with an asynchronous one. Payloads are
small, an image, and an image through shared memory. Memory is that of the calling process alone: the median of the
first tenth after the warm-up against that of the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from contract.models import write_models

from tritonforge_client import AsyncClient, Client, ModelSpec, Options, TensorSpec
from tritonforge_generator.deploy import EmbeddedTriton

THREADS, TASKS = 32, 256
GROWTH_MB = 5.0
WARM_UP_SHARE = 0.2
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
    return (
        f"{part}: {result['calls']:,} calls in {result['seconds']:.0f} s, {errors}; memory {result['first_mb']:.1f} MB "
        f"after the warm-up, {result['last_mb']:.1f} MB at the end; {verdict}"
    )


def passed(result: dict[str, Any]) -> bool:
    """Whether memory stayed and nothing failed."""
    return result["last_mb"] - result["first_mb"] <= GROWTH_MB and not result["errors"]


def spec_of(shape: tuple[int, int]) -> ModelSpec:
    """The identity model's FP32 tensors at one shape."""
    return ModelSpec(
        name="identity",
        inputs=(TensorSpec(name="IN_FP32", datatype="FP32", dims=shape, optional=True),),
        outputs=(TensorSpec(name="OUT_FP32", datatype="FP32", dims=shape),),
    )


def soak_threads(urls: list[str], seconds: float) -> dict[str, Any]:
    """Blocking clients, each shared by all threads."""
    clients = [Client(url) for url in urls]
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    end_s = time.monotonic() + seconds

    def call(index: int) -> None:
        name, shape = list(SIZES.items())[index % len(SIZES)]
        model = clients[index % 2].bind(spec_of(shape), options=options_of(name))
        array = np.full(shape, index, np.float32)
        while time.monotonic() < end_s:
            try:
                output = model.infer({"IN_FP32": array})["OUT_FP32"]
                counts["wrong" if output[0, 0] != index or output[-1, -1] != index else "right"] += 1
            except Exception as error:
                errors[type(error).__name__] += 1

    threads = [threading.Thread(target=call, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    memory = sampled_memory(lambda: time.monotonic() < end_s)
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    return result_of(counts, errors, memory, seconds)


async def soak_tasks(urls: list[str], seconds: float) -> dict[str, Any]:
    """Asynchronous clients, each shared by all tasks."""
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    end_s = time.monotonic() + seconds
    async with AsyncClient(urls[0]) as first, AsyncClient(urls[1]) as second:

        async def call(index: int) -> None:
            name, shape = list(SIZES.items())[index % len(SIZES)]
            model = (first, second)[index % 2].bind(spec_of(shape), options=options_of(name))
            array = np.full(shape, index, np.float32)
            while time.monotonic() < end_s:
                try:
                    output = (await model.infer({"IN_FP32": array}))["OUT_FP32"]
                    counts["wrong" if output[0, 0] != index or output[-1, -1] != index else "right"] += 1
                except Exception as error:
                    errors[type(error).__name__] += 1

        sampler = asyncio.to_thread(sampled_memory, lambda: time.monotonic() < end_s)
        tasks = [asyncio.create_task(call(index)) for index in range(TASKS)]
        memory = await sampler
        await asyncio.gather(*tasks)
    return result_of(counts, errors, memory, seconds)


def options_of(name: str) -> Options:
    """Nothing is sent again, so that every error is seen."""
    return Options(timeout_s=60, retry=None, shared_memory="system" if "shared" in name else "off")


def sampled_memory(goes_on: Callable[[], bool]) -> list[float]:
    """Resident memory in MB, twice a second, without shared memory."""
    page_mb = os.sysconf("SC_PAGESIZE") / 1e6
    samples = []
    while goes_on():
        _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
        samples.append((int(resident) - int(shared)) * page_mb)
        time.sleep(0.5)
    return samples


def result_of(counts: Counter[str], errors: Counter[str], memory: list[float], seconds: float) -> dict[str, Any]:
    """Figures of one part; a wrong answer is an error."""
    warm = memory[int(len(memory) * WARM_UP_SHARE) :]
    tenth = max(1, len(warm) // 10)
    if counts["wrong"]:
        errors["wrong answer"] = counts["wrong"]
    return {
        "calls": counts["right"],
        "seconds": seconds,
        "errors": dict(errors),
        "first_mb": statistics.median(warm[:tenth]),
        "last_mb": statistics.median(warm[-tenth:]),
        "most_mb": max(warm),
    }


if __name__ == "__main__":
    sys.exit(main())
