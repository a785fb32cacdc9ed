"""Compare our client with tritonclient on an identity model served by a real Triton.

Run it as ``python tests/benchmarks/client_overhead.py``. All clients take turns call by call, so a slow moment of the
machine hits each of them. Medians in microseconds, and their ratio to tritonclient over the same protocol.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc
import tritonclient.http

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton

SHAPES = {"256 B": (1, 64), "0.6 MB": (1, 3 * 224 * 224), "4.2 MB": (7, 3 * 224 * 224)}

CONFIG = """
backend: "python"
max_batch_size: 0
input [{ name: "x" data_type: TYPE_FP32 dims: [-1, -1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1, -1] }]
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


def main() -> int:
    """Serve the model, measure and print one line a payload."""
    parser = argparse.ArgumentParser(description="Compare our client with tritonclient.")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each payload (default: %(default)s)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        version = Path(folder) / "identity" / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(CONFIG)
        (version / "model.py").write_text(CODE)
        with EmbeddedTriton(folder) as server:
            columns = ("ours grpc", "tc grpc", "ratio", "ours http", "tc http", "ratio")
            print(f"{'payload':<8}", *(f"{column:>9}" for column in columns))
            for name, shape in SHAPES.items():
                print(f"{name:<8} {_line(server, shape, seconds)}", flush=True)
    return 0


def _line(server: EmbeddedTriton, shape: tuple[int, ...], seconds: float) -> str:
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    with Client(server.grpc_url) as ours_grpc, Client(server.http_url) as ours_http:
        bound_grpc = ours_grpc.bind(ours_grpc.spec("identity"))
        bound_http = ours_http.bind(ours_http.spec("identity"))
        calls: dict[str, Callable[[], Any]] = {
            "ours grpc": lambda: bound_grpc.infer({"x": array})["y"],
            "tc grpc": _tritonclient_call(tritonclient.grpc, server.grpc_url, array),
            "ours http": lambda: bound_http.infer({"x": array})["y"],
            "tc http": _tritonclient_call(tritonclient.http, server.http_url, array),
        }
        for name, call in calls.items():
            if not np.array_equal(call(), array):
                raise SystemExit(f"{name} returned another array than it sent")
        medians = _medians_us(calls, seconds)
    grpc_ratio = medians["ours grpc"] / medians["tc grpc"]
    http_ratio = medians["ours http"] / medians["tc http"]
    cells = (
        *(f"{medians[name]:>9.0f}" for name in ("ours grpc", "tc grpc")),
        f"{grpc_ratio:>9.2f}",
        *(f"{medians[name]:>9.0f}" for name in ("ours http", "tc http")),
        f"{http_ratio:>9.2f}",
    )
    return " ".join(cells)


def _tritonclient_call(module: Any, url: str, array: npt.NDArray[np.float32]) -> Callable[[], Any]:
    client = module.InferenceServerClient(url.partition("://")[2])

    def call() -> Any:
        tensor = module.InferInput("x", array.shape, "FP32")
        tensor.set_data_from_numpy(array)
        return client.infer("identity", [tensor]).as_numpy("y")

    return call


def _medians_us(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    times_us: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    order = list(calls.items())
    shuffle = random.Random(0).shuffle
    while time.perf_counter() < end:
        shuffle(order)  # a call is slower after a large one, so none always follows the same
        for name, call in order:
            start = time.perf_counter()
            call()
            times_us[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(values) for name, values in times_us.items()}


if __name__ == "__main__":
    sys.exit(main())
