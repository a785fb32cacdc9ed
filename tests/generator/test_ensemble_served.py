"""Ensembles in a real Triton: what is generated is served, and what cannot be proven is not called proven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contract.models import write_model
from onnx import TensorProto
from support import graphs

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.ensemble import composing_models, ensemble_from_options
from tritonforge_generator.errors import VerificationError
from tritonforge_generator.pipeline import generate
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import ForgeSpec, VerifyOptions, forge_spec_from_file
from tritonforge_generator.verify import ensemble_proof, served_ensemble_check

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300), pytest.mark.slow]

SERVED = "a real Triton serves the same answers"
REPEATS = "a real Triton answers, and rows are independent of their batch"
CHAINED = "it answers like the chain of its steps"

DOUBLE = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", 2 * pb_utils.get_input_tensor_by_name(request, "x").as_numpy())]
            )
            for request in requests
        ]
"""
MEAN = DOUBLE.replace("2 * pb_utils.get_input_tensor_by_name(request, \"x\").as_numpy()",
                      "np.repeat(pb_utils.get_input_tensor_by_name(request, \"x\").as_numpy()"
                      ".mean(0, keepdims=True), pb_utils.get_input_tensor_by_name(request, \"x\").as_numpy()"
                      ".shape[0], 0)")  # fmt: skip
PYTHON_CONFIG = """
max_batch_size: 4
input [{ name: "x" data_type: TYPE_FP32 dims: [3] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [3] }]
"""


def spec_from(folder: Path, text: str) -> ForgeSpec:
    (folder / "tritonforge.yaml").write_text(f"repository: repo\n{text}")
    return forge_spec_from_file(folder / "tritonforge.yaml")


def in_a_row(name: str, first: str, second: str) -> str:
    return f"""
  - name: {name}
    input: [{{name: x}}]
    output: [{{name: y}}]
    ensemble_scheduling:
      step:
        - {{model_name: {first}, output_map: {{y: middle}}}}
        - {{model_name: {second}, input_map: {{x: middle}}}}
"""


def test_ensembles_answer_like_their_chains(tmp_path: Path) -> None:
    """Batches, none, both in one ensemble, texts, and an ensemble inside another."""
    graphs.linear(tmp_path / "score.onnx")
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    graphs.identity(tmp_path / "whole.onnx", shape=("rows", 3))
    graphs.identity(tmp_path / "text.onnx", TensorProto.STRING, ("batch", "length"))
    text = (
        "models:\n  - {name: score, source: score.onnx, max_batch_size: 2}\n  - {name: copy, source: copy.onnx}\n"
        "  - {name: whole, source: whole.onnx, max_batch_size: 0}\n  - {name: text, source: text.onnx}\n"
        "ensembles:" + in_a_row("batched", "score", "copy") + in_a_row("mixed", "score", "whole")
        + in_a_row("texts", "text", "text") + in_a_row("nested", "batched", "copy")
    )  # fmt: skip
    generated = {one.version.folder.name: one for one in generate(spec_from(tmp_path, text))}
    for name, limit in {"batched": 2, "mixed": 0, "texts": 32, "nested": 2}.items():
        assert generated[name].config.message.max_batch_size == limit
        check = generated[name].verification.checks[-1]
        assert (check.name, check.passed) == (SERVED, True), f"{name}: {check.summary}"
    again = verify_repository(tmp_path / "repo", models=["mixed", "nested"])
    assert {one.model: one.passed for one in again} == {"mixed": True, "nested": True}


def test_an_ensemble_that_answers_otherwise_fails_the_gate(tmp_path: Path) -> None:
    """The server has other weights than the chain."""
    text = "models:\n  - {name: score, source: score.onnx}\n  - {name: copy, source: copy.onnx}\nensembles:" + in_a_row(
        "both", "score", "copy"
    )
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    proofs = []
    for seed, name in enumerate(("one", "other")):
        graphs.linear(tmp_path / "score.onnx", seed=seed)
        spec = spec_from(tmp_path, text).model_copy(update={"repository": tmp_path / name})
        generate(spec, serve_check=False)
        models = composing_models(tmp_path / name, ["score", "copy"])
        ensemble = ensemble_from_options(spec.ensembles[0], models)
        proofs.append(ensemble_proof(ensemble, models, VerifyOptions(), tmp_path / name))
    with EmbeddedTriton(tmp_path / "one", stop_timeout_s=0) as server:
        right, wrong = (served_ensemble_check(proof, [server.grpc_url]) for proof in proofs)
    assert right.passed, right.summary
    assert not wrong.passed
    assert "output 'y' of sample 0" in wrong.summary


def test_a_python_step_cannot_be_chained_and_is_told(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "score.onnx")
    write_model(tmp_path / "repo", "double", config=PYTHON_CONFIG, code=DOUBLE)
    text = "models:\n  - {name: score, source: score.onnx}\nensembles:" + in_a_row("mixed", "score", "double")
    *_, one = generate(spec_from(tmp_path, text))
    checks = {check.name: check for check in one.verification.checks}
    assert checks[CHAINED].verdict == "skipped"
    assert "step 'double' is served by the backend 'python'" in checks[CHAINED].summary
    assert checks[REPEATS].passed, checks[REPEATS].summary
    assert not one.verification.passed
    assert one.version.new
    (again,) = verify_repository(tmp_path / "repo", models=["mixed"])
    assert again.skipped
    assert again.checks[-1].name == REPEATS
    assert again.checks[-1].passed


def test_a_python_step_that_mixes_rows_fails_on_the_server(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "score.onnx")
    write_model(tmp_path / "repo", "double", config=PYTHON_CONFIG, code=MEAN)
    text = "models:\n  - {name: score, source: score.onnx}\nensembles:" + in_a_row("mixed", "score", "double")
    with pytest.raises(
        VerificationError, match=r"model 'mixed' was not published.*rows are independent of their batch"
    ):
        generate(spec_from(tmp_path, text))
    assert sorted(path.name for path in (tmp_path / "repo").iterdir()) == ["double"]


def test_what_this_server_does_not_know_is_skipped(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "score.onnx")
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    ensemble = in_a_row("both", "score", "copy").replace(
        "scheduling:\n", "scheduling:\n      max_inflight_requests: 3\n"
    )
    text = "models:\n  - {name: score, source: score.onnx}\n  - {name: copy, source: copy.onnx}\nensembles:" + ensemble
    *_, one = generate(spec_from(tmp_path, text))
    assert one.config.message.ensemble_scheduling.max_inflight_requests == 3
    last = one.verification.checks[-1]
    assert (last.name, last.verdict) == (SERVED, "skipped")
    assert "older than max_inflight_requests" in last.summary


def test_an_ensemble_without_a_config_is_followed_as_the_server_completes_it(tmp_path: Path) -> None:
    """A published step may leave its tensors to the backend."""
    graphs.linear(tmp_path / "repo" / "score" / "1" / "model.onnx")
    (tmp_path / "repo" / "score" / "config.pbtxt").write_text('backend: "onnxruntime"')
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    text = "models:\n  - {name: copy, source: copy.onnx}\nensembles:" + in_a_row("both", "score", "copy")
    *_, one = generate(spec_from(tmp_path, text))
    assert one.config.message.max_batch_size == 4
    assert one.verification.passed
    with EmbeddedTriton(tmp_path / "repo", stop_timeout_s=0) as server, Client(server.grpc_url) as client:
        assert client.infer("both", {"x": np.ones((4, 4), np.float32)}).value["y"].shape == (4, 3)
