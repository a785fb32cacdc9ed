"""How many images a second an embedded server gives, asked over the wire and through shared memory.

    python tests/benchmarks/served_throughput.py REPOSITORY [--network resnet50.onnx] [--instances 2] [--seconds 8]
        [--results results.json] [--loads NAME ...]

The repository holds two FP16 plans, which are generated from ``--network`` where it does not exist yet: ``resnet50``
(FP32 images, NCHW) and ``resnet50_pixels`` (uint8, NHWC, preprocessing in the plan). Clients are processes of their
own; every answer is compared with the first one to the same images.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from typing_extensions import Self

from tritonforge_client import Client
from tritonforge_client.core.proto import model_config_from_text
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.pipeline import generate
from tritonforge_generator.spec import (
    CudaOptimization,
    DynamicBatching,
    ForgeSpec,
    InstanceGroup,
    ModelOptions,
    Optimization,
    PreprocessOptions,
    TensorRTOptions,
)


@dataclass(frozen=True)
class Load:
    """One way of asking."""

    model: str
    processes: int
    batch: int
    shared: bool = False


LOADS = {
    "float32 wire": Load("resnet50", 12, 8),
    "uint8 wire": Load("resnet50_pixels", 12, 8),
    "uint8 shared memory": Load("resnet50_pixels", 8, 32, shared=True),
    "float32 wire, one image": Load("resnet50", 16, 1),
    "uint8 wire, one image": Load("resnet50_pixels", 16, 1),
}


BATCHES: dict[str, Any] = {
    "max_batch_size": 64,
    "dynamic_batching": DynamicBatching(preferred_batch_size=(32, 64)),
}


def generate_models(repository: Path, network: Path, instances: int, timing_cache: Path | None) -> None:
    """Generate what the loads ask."""
    plan = plan_options(instances, timing_cache)
    publish(repository, ModelOptions(name="resnet50", source=network, **BATCHES, **plan), pixels_model(network, **plan))


def plan_options(instances: int, timing_cache: Path | None) -> dict[str, Any]:
    """Options of an FP16 plan with its instances on one GPU."""
    return {
        "platform": "tensorrt",
        "precision": "FP16",
        "instance_group": (InstanceGroup(kind="KIND_GPU", count=instances),),
        "optimization": Optimization(cuda=CudaOptimization()),
        "tensorrt": TensorRTOptions(timing_cache=timing_cache or True),
    }


def pixels_model(network: Path, **options: Any) -> ModelOptions:
    """The model that takes uint8 pixels and has the preprocessing in its graph."""
    pixels = PreprocessOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return ModelOptions(name="resnet50_pixels", source=network, preprocess=pixels, **BATCHES, **options)


def publish(repository: Path, *models: ModelOptions) -> None:
    """Generate models, and say what became of each."""
    spec = ForgeSpec(repository=repository, models=models)
    for one in generate(spec, on_stage=lambda name, stage: print(f"{name}: {stage}", flush=True)):
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in one.stage_s.items())
        print(f"{one.config.message.name}: {stages}", flush=True)
        for check in one.verification.checks:
            print(f"  {check.name}: {check.summary}", flush=True)


def config_of(repository: Path, model: str) -> Any:
    """The ``ModelConfig`` of a model of a repository."""
    return model_config_from_text((repository / model / "config.pbtxt").read_text("utf-8"))


def instances_of(config: Any) -> int:
    """Instances of all groups of a ``ModelConfig``."""
    return sum(group.count for group in config.instance_group)


def images(model: str, batch: int, seed: int) -> np.ndarray[Any, Any]:
    """Fixed random images of a process."""
    random = np.random.default_rng(seed)
    if model.endswith("pixels"):
        return random.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    return random.standard_normal((batch, 3, 224, 224)).astype(np.float32)


def ask(url: str, load: Load, seed: int, ready: Any, go: Any, seconds: float, results: Any) -> None:
    """One client process: warm up, wait for the others, ask until the time is over."""
    asker = _shared_asker if load.shared else _wire_asker
    latencies: list[float] = []
    wrong = 0
    with asker(url, load, images(load.model, load.batch, seed)) as once:
        first = once()
        for _ in range(3):
            once()
        ready.release()
        go.wait()
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            answer = once()
            latencies.append(time.perf_counter() - start)
            wrong += not np.allclose(answer, first, rtol=0.02, atol=0.02 * float(np.abs(first).max()))
    results.put((latencies, wrong))


@contextmanager
def _wire_asker(url: str, load: Load, array: np.ndarray[Any, Any]) -> Iterator[Any]:
    with Client(url) as client:
        yield lambda: client.infer(load.model, {"images": array}).value["logits"]


@contextmanager
def _shared_asker(url: str, load: Load, array: np.ndarray[Any, Any]) -> Iterator[Any]:
    """Inputs through system shared memory; answers, which are small, over the wire."""
    import tritonclient.grpc as grpc
    import tritonclient.utils.shared_memory as shm

    name = f"load-{os.getpid()}"
    client = grpc.InferenceServerClient(url.removeprefix("grpc://"))
    region = shm.create_shared_memory_region(name, f"/{name}", array.nbytes)
    shm.set_shared_memory_region(region, [array])
    client.register_system_shared_memory(name, f"/{name}", array.nbytes)
    wanted = grpc.InferInput("images", list(array.shape), "UINT8" if array.dtype == np.uint8 else "FP32")
    wanted.set_shared_memory(name, array.nbytes)
    try:
        yield lambda: cast("grpc.InferResult", client.infer(load.model, [wanted])).as_numpy("logits")
    finally:
        client.unregister_system_shared_memory(name)
        shm.destroy_shared_memory_region(region)
        client.close()


def measured(url: str, name: str, seconds: float, instances: int) -> dict[str, Any]:
    """Run one load and say what came of it."""
    load = LOADS[name]
    context = multiprocessing.get_context("spawn")
    ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
    processes = [
        context.Process(target=ask, args=(url, load, seed, ready, go, seconds, results))
        for seed in range(load.processes)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    usage = Usage()
    with usage:
        go.set()
        gathered = [results.get(timeout=seconds + 60) for _ in processes]
    for process in processes:
        process.join()
    latencies_ms = np.sort(np.concatenate([np.array(one[0]) for one in gathered])) * 1e3
    return {
        "load": name,
        "instances": instances,
        "processes": load.processes,
        "batch": load.batch,
        "images_per_s": round(len(latencies_ms) * load.batch / seconds, 1),
        "p50_ms": round(float(np.quantile(latencies_ms, 0.5)), 2),
        "p99_ms": round(float(np.quantile(latencies_ms, 0.99)), 2),
        "wrong": sum(one[1] for one in gathered),
        **usage.facts(),
    }


class Usage:
    """What GPU and processors do meanwhile: sampled twice a second."""

    def __init__(self) -> None:
        self._gpu: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._before: dict[str, float] = {}
        self._after: dict[str, float] = {}
        self._start_s = 0.0
        self._seconds = 1.0

    def __enter__(self) -> Self:
        self._before, self._start_s = _cpu_seconds(), time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._after, self._seconds = _cpu_seconds(), time.perf_counter() - self._start_s
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._end.wait(0.5):
            command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            text = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            if text.replace(".", "").isdigit():
                self._gpu.append(float(text))

    def facts(self) -> dict[str, Any]:
        """Mean GPU utilisation, and cores busy by kind of process."""
        cores = {
            name: round((self._after.get(name, 0.0) - self._before.get(name, 0.0)) / self._seconds, 1)
            for name in self._after
        }
        return {
            "gpu_percent": round(float(np.mean(self._gpu)), 1) if self._gpu else None,
            "cores": {name: busy for name, busy in cores.items() if busy >= 0.1},
        }


def _cpu_seconds() -> dict[str, float]:
    """Processor seconds so far by kind of process."""
    ticks = os.sysconf("SC_CLK_TCK")
    kinds: dict[str, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        if b"tritonserver" in command.split(b"\0")[0]:
            kind = "server"
        elif b"triton_python_backend_stub" in command:
            kind = "backend"
        else:
            kind = "clients"
        kinds[kind] = kinds.get(kind, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    return kinds


def main() -> None:
    """Serve the repository and run the loads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--network", type=Path, help="resnet50.onnx of export_networks.py")
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument("--timing-cache", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--results", type=Path, help="JSON file of tensorrt_tables.py that the figures are added to")
    parser.add_argument("--loads", nargs="*", default=list(LOADS))
    arguments = parser.parse_args()
    if not arguments.repository.exists():
        generate_models(arguments.repository, arguments.network, arguments.instances, arguments.timing_cache)
    counts = {load.model: instances_of(config_of(arguments.repository, load.model)) for load in LOADS.values()}
    rows = []
    with EmbeddedTriton(arguments.repository, ready_timeout_s=120) as server:
        for name in arguments.loads:
            rows.append(measured(server.grpc_url, name, arguments.seconds, counts[LOADS[name].model]))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.results is not None:
        add_to(arguments.results, rows)


def add_to(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add figures to a file of results, in the place of those of the same loads and instances."""
    results: dict[str, Any] = {"networks": {}}
    if path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
    kept = {(one["instances"], one["load"]): one for one in (*results.get("served", []), *rows)}
    results["served"] = list(kept.values())
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
