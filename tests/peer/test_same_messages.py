"""In one process with kserve or tritonclient, which register messages of the same names in a pool of all packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.models import write_model

import tritonforge_client
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = [pytest.mark.peer, pytest.mark.triton, pytest.mark.timeout(900)]

REQUIREMENTS = ("hpack>=4.0", "kserve==0.21.0", "tritonclient[grpc]==2.73.0")

CONFIG = """
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [4] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [4] }]
"""

DOUBLE = """
class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x + x)]) for x in inputs]
"""

SCRIPT = """
import sys

import numpy as np

target, *packages = sys.argv[1:]
address = target.removeprefix("grpc://")
X = np.arange(8, dtype=np.float32).reshape(2, 4)


def tritonforge():
    from tritonforge_client import Client
    from tritonforge_client.core.proto import messages

    assert messages().ModelInferRequest(model_name="m").SerializeToString() == b"\\n\\x01m"
    with Client(target) as client:
        doubled = client.bind(client.spec("double")).infer({"x": X})["y"]
    assert doubled.tolist() == (X + X).tolist()


def kserve():
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=X.shape)
    request = messages.ModelInferRequest(model_name="double", inputs=[tensor], raw_input_contents=[X.tobytes()])
    with grpc.insecure_channel(address) as channel:
        reply = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert reply.raw_output_contents[0] == (X + X).tobytes()


def tritonclient():
    import tritonclient.grpc

    tensor = tritonclient.grpc.InferInput("x", X.shape, "FP32")
    tensor.set_data_from_numpy(X)
    with tritonclient.grpc.InferenceServerClient(address) as client:
        doubled = client.infer("double", [tensor]).as_numpy("y")
    assert doubled.tolist() == (X + X).tolist()


# Once more in the end, with everything imported.
for package in (*packages, packages[0]):
    globals()[package]()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the packages of others."""
    folder = tmp_path_factory.mktemp("peers") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "double", config=CONFIG, code=DOUBLE)
    with EmbeddedTriton(repository) as running:
        yield running


def run(python: Path, server: EmbeddedTriton, *packages: str) -> subprocess.CompletedProcess[str]:
    """Call the model with one package after the other in a process of its own."""
    command = [str(python), "-c", SCRIPT, server.grpc_url, *packages]
    environment = {**os.environ, "PYTHONPATH": str(Path(tritonforge_client.__file__).parents[1])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    "packages",
    [
        ("kserve", "tritonforge"),
        ("tritonforge", "kserve"),
        ("tritonclient", "tritonforge"),
        ("tritonforge", "tritonclient"),
    ],
    ids=" then ".join,
)
def test_both_packages_call_the_same_server(python: Path, server: EmbeddedTriton, packages: tuple[str, ...]) -> None:
    done = run(python, server, *packages)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("packages", [("kserve", "tritonclient"), ("tritonclient", "kserve")], ids=" then ".join)
def test_without_a_pool_of_its_own_the_second_one_fails(
    python: Path, server: EmbeddedTriton, packages: tuple[str, ...]
) -> None:
    done = run(python, server, *packages)
    assert done.returncode != 0
    assert "duplicate symbol 'inference." in done.stderr.splitlines()[-1]
