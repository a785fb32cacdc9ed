"""The process that runs one runtime: does what a request file says and writes what came of it.

It runs in the Python that has the runtime. There it needs numpy and this package, and for TensorRT what building a
plan needs; pydantic, onnx and click are left alone otherwise. What it is doing goes to standard output, a JSON object
a line.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import signal
import sys
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge_generator.bench.runtimes import RUNTIMES
from tritonforge_generator.bench.subjects.subject import Arrays, Subject
from tritonforge_generator.bench.timing import latency_figures, no_collection, runs_within, wall_times_ms, warm_up
from tritonforge_generator.children import end_with_parent
from tritonforge_generator.errors import RuntimeMissingError, TritonforgeError

Request = Mapping[str, Any]


def main(request_path: Path, result_path: Path) -> int:
    """Do a job.

    Args:
        request_path: JSON file with the job's name under ``job``, the ``runtime``, and what the job needs.
        result_path: Where the JSON file with what came of it goes.

    Returns:
        0 with the job's result in the result file, 1 with an error there.
    """
    _end_with_parent()
    request = json.loads(request_path.read_text(encoding="utf-8"))
    try:
        result = {"result": JOBS[request["job"]](request)}
    except TritonforgeError as error:
        result = {"error": _error_fields(error, type(error).__name__)}
    except ImportError as error:
        result = {"error": _missing(request, error)}
    except Exception as error:  # noqa: BLE001 - the process edge: any failure of a runtime is one row's failure
        traceback.print_exc()
        what = str(error).strip().splitlines()
        result = {"error": {"kind": "BenchError", "what": type(error).__name__, "got": what[0] if what else ""}}
    result_path.write_text(json.dumps(result), encoding="utf-8")
    return 0 if "result" in result else 1


def _end_with_parent() -> None:
    """Leave in order on SIGTERM, which the kernel sends too when the parent dies: a build has a child to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_parent(signal.SIGTERM)


def _missing(request: Request, error: ImportError) -> dict[str, str]:
    package = RUNTIMES[request["runtime"]].package
    missing = RuntimeMissingError(f"{package} cannot be imported", got=str(error))
    return _error_fields(missing, "RuntimeMissingError")


def _error_fields(error: TritonforgeError, kind: str) -> dict[str, str]:
    kind = "RuntimeMissingError" if kind == "TensorRTMissingError" else kind
    return {
        "kind": kind,
        "what": error.what,
        "expected": error.expected,
        "got": error.got,
        "action": error.action,
    }


def _say(text: str, batch_size: int | None = None) -> None:
    sys.stdout.write(json.dumps({"text": text, "batch_size": batch_size}) + "\n")
    sys.stdout.flush()


# ---- jobs ----


def probe(request: Request) -> str:
    """The version of a runtime, where it can be used, and of what runs it."""
    runtime = request["runtime"]
    package = RUNTIMES[runtime].package
    if importlib.util.find_spec(package) is None:
        raise RuntimeMissingError(f"{package} is not installed")
    return f"{_version(runtime, request['device_id'])}, Python {platform.python_version()}, numpy {np.__version__}"


def _version(runtime: str, device_id: int) -> str:
    if runtime.startswith("onnxruntime"):
        from tritonforge_generator.bench.subjects import onnxruntime

        return onnxruntime.probe(on_gpu=runtime == "onnxruntime-cuda")
    if runtime == "tensorrt":
        from tritonforge_generator.bench.subjects import tensorrt

        return tensorrt.probe(device_id)
    from tritonforge_generator.bench.subjects import pytorch

    return pytorch.probe()


def build(request: Request) -> dict[str, Any]:
    """Build a plan and give its facts."""
    from tritonforge_generator.plan import plan_from_onnx
    from tritonforge_generator.spec import ProfileShapes, TensorRTOptions

    plan = plan_from_onnx(
        Path(request["model"]),
        Path(request["plan"]),
        TensorRTOptions.model_validate(request["options"]),
        precision=request["precision"],
        profiles=[{name: ProfileShapes.model_validate(shapes) for name, shapes in request["profile"].items()}],
        on_progress=lambda share, text: _say(text if share is None else f"{share:.0%}, {text}"),
    )
    return plan.to_json()


def measure(request: Request) -> dict[str, Any]:
    """Time a model in every batch size, and answer all samples with it."""
    _say("loading")
    subject = _subject(request)
    try:
        rows = _Rows(request)
        batches = {size: subject.fitted(rows.batch(0, size)) for size in request["batch_sizes"]}
        warmed = {}
        for size in batches:
            _say("warming up", size)
            # On other rows than those that are timed, so that an answer left over from here would be seen.
            warmed[size] = warm_up(partial(subject.infer, subject.fitted(rows.batch(1, size))))
        times = _times(subject, batches, {size: one_ms for size, (one_ms, _) in warmed.items()}, request)
        _say("answering")
        answers, pass_ms = _answers(subject, rows, batches, request["repeats"])
        np.savez(request["answers"], **answers)
        return {
            "pass_ms": pass_ms,
            "on_gpu": subject.on_gpu,
            "rows": {str(size): {**times[size], "steady": steady} for size, (_, steady) in warmed.items()},
        }
    finally:
        subject.close()


JOBS = {"probe": probe, "build": build, "measure": measure}


# ---- how measuring is done ----


class _Rows:
    """The samples of a request."""

    def __init__(self, request: Request) -> None:
        with np.load(request["samples"]) as archive:
            self._arrays = {name: archive[f"input/{name}"] for name in request["inputs"]}
        self.batched: bool = request["batched"]
        self.count = min(len(array) for array in self._arrays.values())

    def batch(self, start: int, size: int) -> Arrays:
        """Rows from a place on, wrapping around; one sample in full shape where there is no batch axis."""
        if not self.batched:
            return {name: np.ascontiguousarray(array[start % self.count]) for name, array in self._arrays.items()}
        rows = np.arange(start, start + size) % self.count
        return {name: array[rows] for name, array in self._arrays.items()}


def _subject(request: Request) -> Subject:
    runtime, precision, device_id = request["runtime"], request["precision"], request["device_id"]
    if runtime.startswith("onnxruntime"):
        from tritonforge_generator.bench.subjects.onnxruntime import OnnxRuntimeSubject

        on_gpu = runtime == "onnxruntime-cuda"
        return OnnxRuntimeSubject(Path(request["model"]), precision, device_id if on_gpu else None)
    if runtime == "tensorrt":
        from tritonforge_generator.bench.subjects.tensorrt import TensorRTSubject

        return TensorRTSubject(Path(request["plan"]), device_id)
    from tritonforge_generator.bench.subjects.pytorch import PyTorchSubject

    compiled = runtime == "pytorch-compile"
    return PyTorchSubject(
        request["torch"], precision, device_id, request["inputs"], request["outputs"], compiled=compiled
    )


def _times(
    subject: Subject, batches: Mapping[int, Arrays], one_ms: Mapping[int, float], request: Request
) -> dict[int, dict[str, Any]]:
    """Time every batch size in turns, so that a slow moment of the machine hits all of them."""
    repeats: int = request["repeats"]
    total: dict[int, list[float]] = {size: [] for size in batches}
    compute: dict[int, list[float]] = {size: [] for size in batches}
    for repeat in range(repeats):
        for size, inputs in batches.items():
            _say(f"batch {size}, repeat {repeat + 1} of {repeats}", size)
            runs = runs_within(request["seconds"] / repeats, one_ms[size])
            with no_collection():
                total[size] += wall_times_ms(partial(subject.infer, inputs), runs)
                if subject.on_gpu:
                    compute[size] += subject.compute_times_ms(inputs, runs)
    return {
        size: {
            "total": latency_figures(total[size]),
            "compute": latency_figures(compute[size] if subject.on_gpu else total[size]),
        }
        for size in batches
    }


def _answers(
    subject: Subject, rows: _Rows, batches: Mapping[int, Arrays], repeats: int
) -> tuple[dict[str, Any], float]:
    """What the runtime says: to the timed rows in every batch size, and to all samples in the largest.

    Returns:
        The answers, and the median time of a pass over all samples in milliseconds.
    """
    answers: dict[str, Any] = {}
    for size, inputs in batches.items():
        for name, value in subject.infer(inputs).items():
            answers[f"{size}/{name}"] = value if rows.batched else value[None]
    largest = max(batches)
    calls = [subject.fitted(rows.batch(start, largest)) for start in range(0, rows.count, largest)]
    chunks: list[Mapping[str, Any]] = []

    def answer_all() -> None:
        chunks[:] = [subject.infer(inputs) for inputs in calls]

    with no_collection():
        pass_ms = float(np.median(wall_times_ms(answer_all, repeats)))
    for name in chunks[0]:
        parts = [chunk[name] for chunk in chunks]
        answers[f"all/{name}"] = np.concatenate(parts)[: rows.count] if rows.batched else np.stack(parts)
    return answers, pass_ms
