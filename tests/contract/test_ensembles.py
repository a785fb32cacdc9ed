"""Ensembles through the client, and their typed modules: from the repository and from the live server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.conftest import KINDS, made_client
from contract.models import write_model, write_models
from numpy.typing import NDArray

from tritonforge_client import Client
from tritonforge_client.codegen import modules_from_repository, modules_from_server
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.pipeline import generate
from tritonforge_generator.spec import forge_spec_from_file

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

SPEC = """
repository: models
ensembles:
  - name: sums
    input: [{name: a}, {name: b}]
    output: [{name: total}, {name: difference}]
    ensemble_scheduling:
      step:
        - {model_name: add_sub, output_map: {sum: middle, difference: difference}}
        - {model_name: scaled, input_map: {x: middle}, output_map: {y: total}}
  - name: scaling
    input: [{name: x}, {name: scale}]
    output: [{name: y}]
    ensemble_scheduling:
      step: [{model_name: scaled}]
  - name: counting
    input: [{name: count}]
    output: [{name: index}]
    ensemble_scheduling:
      step: [{model_name: repeat}]
"""
ENSEMBLES = ["counting", "scaling", "sums"]

SCALED_CONFIG = """
max_batch_size: 4
input [
  { name: "x" data_type: TYPE_FP32 dims: [4] },
  { name: "scale" data_type: TYPE_FP32 dims: [1] optional: true }
]
output [{ name: "y" data_type: TYPE_FP32 dims: [4] }]
"""
SCALED = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            scale = pb_utils.get_input_tensor_by_name(request, "scale")
            y = x if scale is None else x * scale.as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]))
        return responses
"""
USE = """
import numpy as np
from numpy.typing import NDArray
from tritonforge_client import Client
from counting import Counting
from scaling import Scaling
from sums import Outputs, Sums
client = Client("grpc://localhost:8001")
row = np.zeros((1, 4), np.float32)
outputs: Outputs = Sums(client).infer(a=row, b=row)
total: NDArray[np.float32] = outputs.total
difference: NDArray[np.float32] = outputs.difference
one: NDArray[np.float32] = Scaling(client).infer_one(x=row[0]).y
Scaling(client).infer(x=row, scale=np.ones((1, 1), np.float32))
for answer in Counting(client).stream(count=np.array([3], np.int32)):
    index: NDArray[np.int32] = answer.index
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python models and three generated ensembles of them."""
    folder = tmp_path_factory.mktemp("ensembles")
    write_models(folder / "models")
    write_model(folder / "models", "scaled", config=SCALED_CONFIG, code=SCALED)
    (folder / "tritonforge.yaml").write_text(SPEC)
    generate(forge_spec_from_file(folder / "tritonforge.yaml"), serve_check=False)
    return folder / "models"


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(repository, model_control_mode="explicit", load_models=ENSEMBLES) as running:
        yield running


@pytest.fixture(params=KINDS)
def ensembles(request: pytest.FixtureRequest, served: EmbeddedTriton) -> Iterator[Client]:
    """One client of each kind."""
    with made_client(request.param, served) as made:
        yield made


def loaded(path: Path, name: str) -> Any:
    # Dataclasses look their module up by name, so it runs as this one.
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(path.read_text(), path, "exec"), namespace)
    return namespace[name]


def row(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def test_the_modules_of_a_live_server_are_those_of_its_repository(
    ensembles: Client, repository: Path, tmp_path: Path
) -> None:
    written = modules_from_repository(repository, tmp_path / "repository", models=ENSEMBLES)
    read = modules_from_server(ensembles, tmp_path / "server", models=ENSEMBLES)
    assert [path.name for path in written] == [path.name for path in read] == [f"{name}.py" for name in ENSEMBLES]
    for left, right in zip(written, read, strict=True):
        assert left.read_text() == right.read_text()


def test_an_ensemble_of_several_outputs_is_called_like_a_model(ensembles: Client, tmp_path: Path) -> None:
    (path,) = modules_from_server(ensembles, tmp_path, models=["sums"])
    sums = loaded(path, "Sums")(ensembles)
    a, b = row(1, 2, 3, 4), row(4, 3, 2, 1)
    outputs = sums.infer(a=a, b=b)
    assert outputs.total.tolist() == (a + b).tolist()
    assert outputs.difference.tolist() == (a - b).tolist()
    assert sums.infer_one(a=a[0], b=b[0]).total.tolist() == (a + b)[0].tolist()
    ensembles.check(ensembles.spec("sums"))


def test_single_outputs_of_an_ensemble_can_be_asked_for(ensembles: Client) -> None:
    model = ensembles.bind(ensembles.spec("sums"))
    reply = model.infer_with_reply({"a": row(1, 2, 3, 4), "b": row(0, 0, 0, 0)}, outputs=["difference"])
    assert list(reply.value) == ["difference"]


def test_an_input_that_no_step_needs_is_optional(ensembles: Client, tmp_path: Path) -> None:
    (path,) = modules_from_server(ensembles, tmp_path, models=["scaling"])
    scaling = loaded(path, "Scaling")(ensembles)
    x = row(1, 2, 3, 4)
    assert scaling.infer(x=x).y.tolist() == x.tolist()
    assert scaling.infer(x=x, scale=row(3)).y.tolist() == (3 * x).tolist()


@pytest.mark.parametrize("kind", ["grpc", "grpc-async"])
def test_an_ensemble_of_a_decoupled_step_is_a_stream(kind: str, served: EmbeddedTriton) -> None:
    with made_client(kind, served) as client:
        spec = client.spec("counting")
        assert spec.decoupled
        answers = client.bind(spec).stream({"count": np.array([3], np.int32)})
        assert [answer["index"].tolist() for answer in answers] == [[0], [1], [2]]


@pytest.mark.parametrize(
    "checker",
    [["mypy", "--strict", "--no-incremental", "--cache-dir=/dev/null"], ["pyright", "--pythonpath", sys.executable]],
    ids=lambda checker: checker[0],
)
def test_the_modules_of_ensembles_are_typed(checker: list[str], repository: Path, tmp_path: Path) -> None:
    modules_from_repository(repository, tmp_path, models=ENSEMBLES)
    (tmp_path / "use.py").write_text(USE)
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        [str(bin_folder / checker[0]), *checker[1:], "use.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
