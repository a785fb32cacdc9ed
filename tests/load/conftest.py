from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

IDENTITY_CONFIG = """\
name: "identity"
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ 16 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 16 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""

# Refuses rows that start with a number below -1000, so that a test can ask for failures.
IDENTITY_MODEL = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            if x.flat[0] < -1000:
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("asked to fail")))
            else:
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return responses
"""

DIGITS_CONFIG = """\
name: "digits"
backend: "python"
max_batch_size: 32
input [{ name: "images" data_type: TYPE_FP32 dims: [ 1, 8, 8 ] }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [ 10 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""

# A stand-in with the contract of the digits model: what is tested here is the load on it, not its answers.
DIGITS_MODEL = """\
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        rows = [len(pb_utils.get_input_tensor_by_name(request, "images").as_numpy()) for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("logits", np.zeros((n, 10), np.float32))]) for n in rows]
"""


@pytest.fixture(scope="session")
def load_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from tritonforge_generator.deploy.embedded import EmbeddedTriton

    repository = tmp_path_factory.mktemp("load-repository")
    models = {"identity": (IDENTITY_CONFIG, IDENTITY_MODEL), "digits": (DIGITS_CONFIG, DIGITS_MODEL)}
    for name, (config, model) in models.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config)
        (repository / name / "1" / "model.py").write_text(model)
    with EmbeddedTriton(repository) as server:
        yield server


@pytest.fixture
def processes_of() -> Callable[[Path], dict[int, int]]:
    """Finds the processes whose command line names a path, other than this one: their parent by their id."""

    def find(marker: Path) -> dict[int, int]:
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if str(marker).encode() in command:
                found[int(entry.name)] = parent
        return found

    return find


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def campaign_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a short campaign on the model ``identity``; keys may be replaced."""

    def write(**keys: str) -> Path:
        said = {
            "campaign": "short",
            "version": "1",
            "target": '{url: "grpc://127.0.0.1:9", wait_ready: 5s}',
            "workload": "[{name: one, model: identity}, {name: four, model: identity, batch: 4, weight: 0.5}]",
            "phases": "[{name: warm, users: 1, for: 300ms, measure: false}, {name: main, users: 3, for: 1s}]",
            # Other programs on the machine shall not make a run invalid where that is not what is tested.
            "validity": '{achieved: ">= 1%", slip_p99: "< 1m", generator_cpu: "< 100%"}',
            **keys,
        }
        path = tmp_path / "campaign.yaml"
        path.write_text("".join(f"{key}: {value}\n" for key, value in said.items()))
        return path

    return write
