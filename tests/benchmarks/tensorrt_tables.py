"""Measures what docs/performance.md says, and writes it.

    python tests/benchmarks/tensorrt_tables.py --networks FOLDER --work FOLDER --results results.json [--only NAME ...]
        [--python RUNTIME=PATH ...] [--env RUNTIME:NAME=VALUE ...] [--seconds 0.5] [--no-plain]
    python tests/benchmarks/tensorrt_tables.py --markdown results.json docs/performance.md

FOLDER of --networks is what ``export_networks.py`` wrote. Results are added to the file network by network, so they can
be measured in several calls, and a failure loses its own network alone. On an H200 with TensorRT 8.6 a call for
ResNet-50 takes about eight minutes, most of it builds; the other networks together take less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).parent
PLAIN_BATCH = 64


@dataclass(frozen=True)
class Network:
    """One network of the tables.

    Attributes:
        title: Its name for people.
        batch_sizes: What is measured.
        opt_batch_size: What the plans are tuned for.
        labels: Array with the labels, where the samples have some.
        torch: Whether its module can be made again in another process.
        calibration_method: How INT8 ranges are chosen.
    """

    title: str
    batch_sizes: tuple[int, ...]
    opt_batch_size: int
    labels: str | None = None
    torch: bool = True
    calibration_method: Literal["MinMax", "Entropy", "Percentile"] = "MinMax"


NETWORKS = {
    "resnet18": Network("ResNet-18, 32 x 32", (1, 64, 256), 256, labels="labels", torch=False),
    "resnet50": Network("ResNet-50, 224 x 224", (1, 8, 64, 128), PLAIN_BATCH),
    "bert_base": Network("BERT-base, 128 tokens", (1, 8, 32, 64), 64),
    "gpt2": Network("GPT-2 size, 128 tokens", (1, 8, 32, 64), 64),
}
SKIPPED = ("pytorch:FP32",)


def main() -> int:
    """Measure, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, help="folder with <name>.onnx and <name>.samples.npz")
    parser.add_argument("--work", type=Path, help="folder for plans and timing caches")
    parser.add_argument("--results", type=Path, help="JSON file that results are added to")
    parser.add_argument("--only", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--runtimes", default="onnxruntime-cuda,pytorch,tensorrt")
    parser.add_argument("--fp32-plans", action="store_true", help="build plans without TF32 too")
    parser.add_argument("--no-plain", action="store_true", help="leave the comparison with a plain build out")
    parser.add_argument("--python", action="append", default=[], metavar="RUNTIME=PATH")
    parser.add_argument("--env", action="append", default=[], metavar="RUNTIME:NAME=VALUE")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--markdown", nargs=2, type=Path, metavar=("RESULTS", "DOCUMENT"))
    arguments = parser.parse_args()
    if arguments.markdown:
        sys.path.insert(0, str(HERE.parent))
        from benchmarks.performance_document import document_from_results

        results = json.loads(arguments.markdown[0].read_text(encoding="utf-8"))
        arguments.markdown[1].write_text(document_from_results(results), encoding="utf-8")
        return 0
    if None in (arguments.networks, arguments.work, arguments.results):
        parser.error("--networks, --work and --results say what to measure and where to")
    failures: list[str] = []
    for name in arguments.only:
        start = time.perf_counter()
        with _kept_going(name, failures):
            measure(name, arguments, failures)
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    if failures:
        print(f"failed: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


@contextmanager
def _kept_going(step: str, failures: list[str]) -> Iterator[None]:
    """Show a failure and go on."""
    try:
        yield
    except Exception:
        traceback.print_exc()
        failures.append(step)


def measure(name: str, arguments: argparse.Namespace, failures: list[str]) -> None:
    """Everything about one network, saved part by part."""
    from tritonforge_generator.bench.run import run_bench

    network = NETWORKS[name]
    folder: Path = arguments.work.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    options = _options(name, network, folder, arguments)
    model = arguments.networks.absolute() / f"{name}.onnx"
    save = partial(_add, arguments.results, name)
    save({"title": network.title})
    builds: dict[str, Any] = {}
    if name == "resnet50" and "tensorrt" in options.runtimes and not arguments.no_plain:
        with _kept_going(f"{name}: plain build", failures):
            builds = _cold_and_plain(model, options, folder)  # first, before the cache is warm
    done = run_bench(model, options, lambda text, _: print(f"{name}: {text}", file=sys.stderr, flush=True))
    stage_s = {step: round(seconds, 2) for step, seconds in done.stage_s.items()}
    save({"bench": done.bench.to_json(), "stage_s": stage_s})
    for one in done.bench.left_out:
        print(f"{name}: left out {one.name}: {one.reason} {one.action}", flush=True)
    warm = [one.plan for one in done.bench.entries if (one.runtime, one.precision) == ("tensorrt", "FP16")]
    if builds and warm:
        save({"builds": {**builds, "warm": warm[0]}, "plain": _plain_against_ours(done.graph, options, folder)})


def _options(name: str, network: Network, folder: Path, arguments: argparse.Namespace) -> Any:
    from tritonforge_generator.bench.options import BenchOptions
    from tritonforge_generator.bench.runtimes import Interpreter, interpreters_from_flags
    from tritonforge_generator.graph import SampleOptions
    from tritonforge_generator.spec import CalibrationOptions, TensorRTOptions

    runtimes = tuple(arguments.runtimes.split(","))
    interpreters = interpreters_from_flags(arguments.python, arguments.env)
    pytorch = interpreters.get("pytorch", Interpreter())
    interpreters["pytorch"] = replace(pytorch, variables=(*pytorch.variables, ("PYTHONPATH", str(HERE.absolute()))))
    skipped = SKIPPED if arguments.fp32_plans else (*SKIPPED, "tensorrt:FP32")
    return BenchOptions(
        batch_sizes=network.batch_sizes,
        precisions=("FP32", "TF32", "FP16", "INT8"),
        runtimes=runtimes,
        skip=tuple(one for one in skipped if one.split(":")[0] in runtimes),
        samples=SampleOptions(path=arguments.networks / f"{name}.samples.npz"),
        labels=network.labels,
        torch=f"torch:networks:{name}" if network.torch else None,
        calibration=CalibrationOptions(
            samples=str(arguments.networks / f"{name}.calibration.npz"), method=network.calibration_method
        ),
        tensorrt=TensorRTOptions(timing_cache=folder / "timing", opt_batch_size=network.opt_batch_size),
        interpreters=interpreters,
        baseline="tensorrt:TF32" if "tensorrt" in runtimes else None,
        seconds=arguments.seconds,
        folder=folder,
    )


# ---- against a plain build ----


def _cold_and_plain(model: Path, options: Any, folder: Path) -> dict[str, Any]:
    """Build the FP16 plan without any timing cache, and the plain one."""
    from tritonforge_generator.bench.child import environment_of
    from tritonforge_generator.bench.variants import Variants
    from tritonforge_generator.graph import OnnxSession, graph_from_source
    from tritonforge_generator.graph.from_source import runnable_samples
    from tritonforge_generator.source import source_from_path

    shutil.rmtree(folder / "timing", ignore_errors=True)  # the first build is to be cold
    graph = graph_from_source(source_from_path(model), options.samples)
    samples = runnable_samples(OnnxSession(model), options.samples, batched=True)
    _, facts = Variants(graph, samples, options, folder / "cold").plan("FP16", options.batch_sizes, lambda *_: None)
    tensor = graph.inputs[0]
    dims = "x".join(str(size) for size in tensor.dims(batched=True))
    shapes = [f"{size}x{dims}" for size in (1, PLAIN_BATCH, max(options.batch_sizes))]
    interpreter = options.interpreter("tensorrt")
    done = subprocess.run(
        [
            interpreter.python,
            str(HERE / "plain_build.py"),
            str(model),
            str(folder / "plain.plan"),
            tensor.name,
            *shapes,
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment_of(interpreter),
    )
    return {"cold": facts, "plain_build_s": float(done.stdout.split()[-1])}


def _plain_against_ours(graph: Any, options: Any, folder: Path) -> dict[str, Any]:
    """Both plans in turns, twice, at one batch size."""
    from tritonforge_generator.bench.child import run_job

    request = {
        "job": "measure",
        "runtime": "tensorrt",
        "precision": "FP16",
        "device_id": 0,
        "inputs": [tensor.name for tensor in graph.inputs],
        "outputs": [tensor.name for tensor in graph.outputs],
        "samples": str(folder / "samples.npz"),
        "answers": str(folder / "answers.npz"),
        "batched": True,
        "batch_sizes": [PLAIN_BATCH],
        "seconds": 1.0,
        "repeats": 3,
    }
    plans = {"ours": folder / "fp16" / "model.plan", "plain": folder / "plain.plan"}
    medians: dict[str, list[float]] = {name: [] for name in plans}
    for name in ("ours", "plain", "ours", "plain"):
        result = run_job({**request, "plan": str(plans[name])}, options.interpreter("tensorrt"))
        medians[name].append(result["rows"][str(PLAIN_BATCH)]["compute"]["p50_ms"])
    return {"batch_size": PLAIN_BATCH, **{f"{name}_ms": statistics.mean(times) for name, times in medians.items()}}


# ---- results ----


def _add(path: Path, name: str, part: Mapping[str, Any]) -> None:
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"networks": {}}
    results["host"] = _host()
    results["networks"].setdefault(name, {}).update(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _host() -> dict[str, str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return {
        "gpu": _first_line(query),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _first_line(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
