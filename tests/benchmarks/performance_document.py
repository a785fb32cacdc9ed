"""Writes docs/performance.md from what ``tensorrt_tables.py`` and ``served_throughput.py`` measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tritonforge_generator.report import Bench, BenchEntry, bench_from_json
from tritonforge_generator.report.figures import count, duration, milliseconds, percent, scientific, significant, size

PUBLISHED = {
    ("resnet50", "FP16"): 2.1,
    ("resnet50", "INT8"): 3.8,
    ("bert_base", "FP16"): 1.9,
    ("bert_base", "INT8"): 3.2,
    ("gpt2", "FP16"): 2.0,
    ("gpt2", "INT8"): 2.8,
}
"""Published speed-ups over TF32, each at its best batch."""

REASONS: Mapping[tuple[str, str], str] = {
    ("resnet50", "FP16"): (
        "TF32 runs on the tensor cores too, at half of FP16's peak (494 and 989 TFLOPS in the H200's data sheet), so "
        "products can gain 2.0x and no more."
    ),
    ("resnet50", "INT8"): (
        "TensorRT 8.6 runs a larger part of it than of TF32 in kernels that were written for the A100 (`sm80`, in the "
        "column `kernels for`)."
    ),
    ("bert_base", "FP16"): (
        "TensorRT 8.6 computes GELU's Erf in FP32 whatever is asked: by `kernel_times.py` that kernel takes as long in "
        "FP16 as in TF32, while the products take little more than half."
    ),
    ("bert_base", "INT8"): (
        "TensorRT 8.6 computes in FP32 what lies between Q/DQ pairs inside a Myelin region: by `kernel_times.py` the "
        "attention's products stay in TF32, GELU in FP32, and rounding to INT8 is added. FP16 is the better choice."
    ),
    ("gpt2", "FP16"): (
        "by `kernel_times.py` its products take 0.55 of TF32's time (4.57 ms to 2.49 ms at batch 64), and all else as "
        "long as before (2.73 ms to 2.69 ms): GELU's Erf and the normalisations, which TensorRT 8.6 computes in FP32, "
        "and the transposes of the heads."
    ),
    ("gpt2", "INT8"): (
        "by `kernel_times.py` the four products of a block with weights take 1.56 ms in INT8, but the attention's stay "
        "in TF32 (0.71 ms), and what is not a product takes 2.82 ms, in FP32. FP16 is the better choice."
    ),
}
"""Why a published speed-up is missed, by network and precision."""

RESNET18_GOAL, RESNET18_KNOWN = 3.5, 2.56
PLAIN_GOAL, WARM_GOAL = 1.05, 0.25

SERVED_GOALS = {"float32 wire": 5_000, "uint8 wire": 11_000, "uint8 shared memory": 20_000}
"""Images a second that are asked of the embedded server."""
_ONE_IMAGE = (
    "the server's and the backend's work for each request. Four instances make it worse: they split the 16 requests in "
    "flight into smaller batches, and the GPU takes turns between their processes"
)
SERVED_BOUNDS = {
    "float32 wire": (
        "the bytes, 602 KB an image through the socket and two copies, so the host's processor and not the GPU. One "
        "instance does all copies of the backend alone and leaves the GPU idle most of the time"
    ),
    "uint8 wire": "the GPU, which is busy all the time with batches of less than 64: only 96 images are in flight",
    "uint8 shared memory": "the GPU, which the instances' processes take in turns",
    "float32 wire, one image": _ONE_IMAGE,
    "uint8 wire, one image": _ONE_IMAGE,
}
CPP_BACKEND = {"float32 wire": 6_301, "uint8 wire": 14_912, "uint8 shared memory": 31_179}
"""What TensorRT's C++ backend (r24.04) gave on another H200, with another ResNet-50 plan of TensorRT 8.6."""

RESULTS = "tests/benchmarks/results.json"
COMMANDS = f"""```console
$ python tests/benchmarks/export_networks.py NETWORKS
$ python tests/benchmarks/tensorrt_tables.py --networks NETWORKS --work WORK --results {RESULTS}
$ python tests/benchmarks/served_throughput.py MODELS --network NETWORKS/resnet50.onnx --results {RESULTS}
$ python tests/benchmarks/kernel_times.py WORK/bert_base/PRECISION/model.plan --batch 64
$ python tests/benchmarks/tensorrt_tables.py --markdown {RESULTS} docs/performance.md
```"""

ABOUT = (
    "Every runtime ran alone, in a process of its own, on the same inputs. `compute` is a call with inputs and outputs "
    "on the GPU, timed by events there (ONNX Runtime: by the clock around a call that waits for the GPU); `total` is a "
    "call from and to numpy arrays of the host. Times are medians. Plans run as CUDA graphs; ONNX Runtime and PyTorch "
    "run as installed, PyTorch with `channels_last` and in inference mode. Relative errors are against ONNX Runtime on "
    "the CPU in FP32."
)


def document_from_results(results: Mapping[str, Any]) -> str:
    """The document.

    Args:
        results: What ``tensorrt_tables.py`` wrote.
    """
    networks = {name: one for name, one in results["networks"].items() if "bench" in one}
    benches = {name: bench_from_json(one["bench"]) for name, one in networks.items()}
    host = results["host"]
    parts = [
        "# Performance",
        f"Measured on {host['gpu'] or 'no GPU'}, {host['system']}, {host['cores']} cores, by",
        COMMANDS,
        ABOUT,
        *_served(results.get("served", [])),
        *_speedups(benches, networks),
        *_resnet18(benches.get("resnet18")),
    ]
    for name, one in networks.items():
        if "plain" in one:
            parts += [f"## {one['title']}: against a plain build", *_plain(one), *_builds(one)]
        parts += [f"## {one['title']}: all figures", *_figures(benches[name])]
    return "\n\n".join(parts) + "\n"


def _served(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "## Served by the embedded server"
    wrong = sum(one["wrong"] for one in rows)
    yield (
        "ResNet-50 in FP16, `max_batch_size` 64, clients and server on one machine, over gRPC; `float32` are images of "
        "602 KB in NCHW, `uint8` are pixels of 150 KB with the preprocessing in the plan. Every answer was compared "
        f"with the first one to the same images; {wrong} differed. Each process waits for its answer before it asks "
        "again. Each number of instances was a run of its own, not all on one host. The column `C++ backend` is what "
        "TensorRT's own backend gave elsewhere, on the same kind of GPU with "
        "another plan of this network: a comparison of scale only."
    )
    yield _table(
        [
            "load",
            "instances",
            "processes x images",
            "images/s",
            "p50, ms",
            "p99, ms",
            "asked",
            "C++ backend",
            "GPU busy",
            "cores",
        ],
        [
            [
                one["load"],
                str(one["instances"]),
                f"{one['processes']} x {one['batch']}",
                f"**{count(one['images_per_s'])}**",
                milliseconds(one["p50_ms"]),
                milliseconds(one["p99_ms"]),
                _asked(one),
                count(CPP_BACKEND[one["load"]]) if one["load"] in CPP_BACKEND else "",
                "" if one["gpu_percent"] is None else f"{one['gpu_percent']:.0f}%",
                ", ".join(f"{kind} {busy}" for kind, busy in one["cores"].items()),
            ]
            for one in rows
        ],
    )
    loads = dict.fromkeys(one["load"] for one in rows)
    yield "What bounds it:\n\n" + "\n".join(f"- {load}: {SERVED_BOUNDS[load]}." for load in loads)


def _asked(one: Mapping[str, Any]) -> str:
    goal = SERVED_GOALS.get(one["load"])
    return "" if goal is None else f"{count(goal)} ({_met(one['images_per_s'] >= goal)})"


def _speedups(benches: Mapping[str, Bench], networks: Mapping[str, Any]) -> Iterator[str]:
    rows, misses = [], []
    for name, bench in benches.items():
        plans = {one.precision: one for one in bench.entries if one.runtime == "tensorrt"}
        base = plans.get("TF32")
        for precision, entry in plans.items():
            if base is None or precision in {"FP32", "TF32"}:
                continue
            ratio = entry.best.rows_per_s / base.best.rows_per_s
            published = PUBLISHED.get((name, precision))
            rows.append(
                [
                    networks[name]["title"],
                    precision,
                    _best(entry),
                    _best(base),
                    f"**{ratio:.2f}x**",
                    "" if published is None else f"{published}x",
                    _met(ratio >= published) if published is not None else "",
                    scientific(entry.relative_error),
                ]
            )
            if published is not None and ratio < published:
                reason = REASONS.get((name, precision), "*reason to be found*")
                misses.append(f"- {networks[name]['title']} {precision}: {reason}")
    if not rows:
        return
    yield "## Speed-up over TF32"
    yield (
        "TensorRT, each precision at the batch size where it answers the most rows a second (`compute`), beside the "
        "published expectation."
    )
    yield _table(["network", "", "best", "TF32's best", "speed-up", "published", "", "relative error"], rows)
    if misses:
        yield "What is missed, and why:\n\n" + "\n".join(misses)


def _resnet18(bench: Bench | None) -> Iterator[str]:
    ours = None if bench is None else _entry(bench, "tensorrt", "FP16")
    if bench is None or ours is None:
        return
    yield "## ResNet-18: TensorRT FP16 against ONNX Runtime CUDA"
    yield (
        f"Trained on scikit-learn's digits, enlarged to 32 by 32; the same {bench.labelled} test images, from and to "
        f"arrays of the host, in calls of {ours.rows[-1].batch_size}. FP32 turns TF32 off; TF32 is ONNX Runtime's "
        f"default. The reference answers {percent(bench.reference_correct_share or 0.0)} right."
    )
    rows = [
        [
            other.name,
            milliseconds(other.pass_ms),
            f"{other.pass_ms / ours.pass_ms:.2f}x",
            *(f"{row.total.p50_ms / mine.total.p50_ms:.2f}x" for row, mine in zip(other.rows, ours.rows, strict=True)),
            percent(other.correct_share or 0.0),
        ]
        for other in bench.entries
    ]
    batches = [f"at batch {row.batch_size}" for row in ours.rows]
    yield _table(["", "all images, ms", "TensorRT FP16 is faster by", *batches, "right"], rows)
    base = _entry(bench, "onnxruntime-cuda", "FP32")
    if base is not None:
        ratio = base.pass_ms / ours.pass_ms
        yield (
            f"Over ONNX Runtime CUDA FP32: {ratio:.2f}x, asked at least {RESNET18_GOAL}x "
            f"({_met(ratio >= RESNET18_GOAL)}); the well-known figure is {RESNET18_KNOWN}x."
        )


def _plain(result: Mapping[str, Any]) -> Iterator[str]:
    plain = result["plain"]
    ratio = plain["ours_ms"] / plain["plain_ms"]
    yield (
        "A plan built straight through TensorRT's API with the FP16 flag on the FP32 graph, and ours from the typed "
        f"graph, run in turns at batch {plain['batch_size']}."
    )
    yield _table(
        ["", "compute, ms", ""],
        [
            ["plain build", milliseconds(plain["plain_ms"]), ""],
            [
                "ours",
                milliseconds(plain["ours_ms"]),
                f"{ratio:.3f} of it, asked at most {PLAIN_GOAL} ({_met(ratio <= PLAIN_GOAL)})",
            ],
        ],
    )


def _builds(result: Mapping[str, Any]) -> Iterator[str]:
    builds = result["builds"]
    cold, warm = builds["cold"]["build_s"], builds["warm"]["build_s"]
    share = warm / cold
    yield _table(
        ["build of the FP16 plan", "time", ""],
        [
            ["plain, cold", duration(builds["plain_build_s"]), ""],
            ["ours, cold", duration(cold), ""],
            [
                "ours, timing cache warm",
                duration(warm),
                f"{share:.0%} of cold, asked at most {WARM_GOAL:.0%} ({_met(share <= WARM_GOAL)})",
            ],
        ],
    )


def _figures(bench: Bench) -> Iterator[str]:
    rows = []
    for entry in bench.entries:
        for row in entry.rows:
            clock = "" if row.gpu is None or row.gpu.sm_clock_mhz is None else f"{row.gpu.sm_clock_mhz:.0f}"
            power = "" if row.gpu is None or row.gpu.power_w is None else f"{row.gpu.power_w:.0f}"
            rows.append(
                [
                    entry.name,
                    str(row.batch_size),
                    milliseconds(row.compute.p50_ms),
                    milliseconds(row.compute.p99_ms),
                    count(row.rows_per_s),
                    milliseconds(row.total.p50_ms),
                    milliseconds(row.total.p99_ms),
                    count(row.total_rows_per_s),
                    clock,
                    power,
                ]
            )
    header = ["", "batch", "compute p50, ms", "p99", "rows/s", "total p50, ms", "p99", "rows/s", "SM MHz", "W"]
    yield _table(header, rows)
    yield _table(
        ["", "relative error", "same top 1", "GPU memory", "plan", "built in", "types of its layers", "kernels for"],
        [_cost(entry) for entry in bench.entries],
    )
    for one in bench.left_out:
        yield f"Left out: {one.name}: {one.reason}."
    yield from bench.notes


def _cost(entry: BenchEntry) -> list[str]:
    plan = entry.plan
    return [
        entry.name,
        scientific(entry.relative_error) + ("" if entry.accurate else " (outside its limit)"),
        "" if entry.top1 is None else percent(entry.top1),
        "" if entry.memory_bytes is None else size(entry.memory_bytes),
        "" if plan is None else size(plan["size_bytes"]),
        "" if plan is None else duration(plan["build_s"]),
        "" if plan is None else _shares_text(plan.get("proof", {}).get("flop_share", {})),
        "" if plan is None else _shares_text(plan.get("kernel_share", {})),
    ]


def _shares_text(shares: Mapping[str, float]) -> str:
    """Shares of the FLOPs, by the type or by the GPU generation of their kernels."""
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _best(entry: BenchEntry) -> str:
    return f"{significant(entry.best.rows_per_s)} rows/s at {entry.best.batch_size}"


def _entry(bench: Bench, runtime: str, precision: str) -> BenchEntry | None:
    return next((one for one in bench.entries if (one.runtime, one.precision) == (runtime, precision)), None)


def _met(passed: bool) -> str:
    return "met" if passed else "missed"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
