"""Models of the Python backend: from a ``model.py`` to a verified repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonforge_generator.errors import ConfigError, ServerError, SourceError, SpecError, VerificationError
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import forge_spec_from_flags

# The stub was built for numpy 1: under numpy 2 tensors cross as DLPack, which makes it crash under numpy 1.
READING = """
def array_of(tensor):
    return tensor.as_numpy() if np.__version__.startswith("1.") else np.from_dlpack(tensor)


def tensor_of(name, array):
    return pb_utils.Tensor(name, array) if np.__version__.startswith("1.") else pb_utils.Tensor.from_dlpack(name, array)
"""
HALVES = """
import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
READING

class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"]) / args["model_version"]
        self.factor = json.loads((folder / "factor.json").read_text()) if (folder / "factor.json").exists() else 0.5

    def execute(self, requests):
        responses = []
        for request in requests:
            x = array_of(pb_utils.get_input_tensor_by_name(request, "x"))
            y = tensor_of("y", x * np.float32(self.factor))
            responses.append(pb_utils.InferenceResponse(output_tensors=[y]))
        return responses
""".replace("READING", READING)
COMPLETING = (
    HALVES
    + """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        return config
"""
)
REPEATING = """
import numpy as np
import triton_python_backend_utils as pb_utils
READING

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            x = array_of(pb_utils.get_input_tensor_by_name(request, "x"))
            for factor in (1, 2, 3):
                y = tensor_of("y", x * np.float32(factor))
                sender.send(pb_utils.InferenceResponse(output_tensors=[y]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""".replace("READING", READING)
SUMMING = """
import numpy as np
import triton_python_backend_utils as pb_utils
READING

class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            x, start, name = (
                array_of(pb_utils.get_input_tensor_by_name(request, key)) for key in ("x", "start", "name")
            )
            key = int(name.ravel()[0])
            self.sums[key] = x if start.ravel()[0] else self.sums[key] + x
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor_of("y", self.sums[key])]))
        return responses
""".replace("READING", READING)
TENSORS: dict[str, Any] = {
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
}
ANSWERS = "a real Triton serves the same answers"
TYPES = "answers have the declared types and shapes"
RULES = "the server's rules"
LOADS = "a real Triton loads the model"


def published(folder: Path, code: str = HALVES, *, serve_check: bool = False, **options: Any) -> Generated:
    (folder / "mine.py").write_text(code)
    flags = {"name": "m", "source": str(folder / "mine.py"), "platform": "python", **options}
    (generated,) = generate(forge_spec_from_flags(flags, repository=folder / "repo"), serve_check=serve_check)
    return generated


def samples(folder: Path, factor: float | None = None) -> dict[str, Any]:
    """Options that name three samples, and the answers of a model with this factor."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(folder / "samples.npz", x=x)
    given = {"samples": str(folder / "samples.npz")}
    if factor is not None:
        np.savez(folder / "expected.npz", y=x * np.float32(factor))
        given["expected"] = str(folder / "expected.npz")
    return {"verify": given}


def verdicts(generated: Generated) -> dict[str, str]:
    return {check.name: check.verdict for check in generated.verification.checks}


def test_the_config_says_what_is_declared(tmp_path: Path) -> None:
    generated = published(tmp_path, max_batch_size=4, parameters={"FORCE_CPU_ONLY_INPUT_TENSORS": "no"}, **TENSORS)
    message = generated.config.message
    assert (message.backend, message.default_model_filename, message.max_batch_size) == ("python", "model.py", 4)
    assert [(one.name, list(one.dims)) for one in (*message.input, *message.output)] == [("x", [4]), ("y", [4])]
    assert not message.model_warmup
    assert "max_batch_size: 4  # as declared\n" in generated.config.text
    assert (tmp_path / "repo" / "m" / "1" / "model.py").read_text() == HALVES
    assert verdicts(generated) == {RULES: "passed"}


def test_auto_complete_config_says_what_nobody_declares(tmp_path: Path) -> None:
    message = published(tmp_path, COMPLETING).config.message
    assert message.max_batch_size == 8
    assert "max_batch_size: 0  # shapes are given in full\n" in published(tmp_path, **TENSORS).config.text
    assert [(one.name, list(one.dims)) for one in (*message.input, *message.output)] == [("x", [4]), ("y", [4])]


def test_something_must_say_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing says what the Python model takes and gives: expected input"):
        published(tmp_path)
    with pytest.raises(SpecError, match="expected data_type, as nothing else says it"):
        published(tmp_path, input=[{"name": "x"}])


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("def f(:\n", "Python refuses it"),
        ("x = 1\n", "the class TritonPythonModel"),
        ("class TritonPythonModel: pass", "execute"),
    ],
)
def test_a_file_without_a_model_is_refused(tmp_path: Path, code: str, text: str) -> None:
    with pytest.raises(SourceError, match=text):
        published(tmp_path, code, **TENSORS)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "FP16"}, "nothing for a Python model"),
        ({"optimization": {"cuda": {}}}, "tensorrt, because optimization.cuda is set, got python"),
        ({"platform": "onnxruntime", "files": ["a"]}, "files: expected platform: python beside it"),
        ({"model_transaction_policy": {"decoupled": True}, "response_cache": {"enable": True}}, "decoupled model"),
    ],
)
def test_options_of_graphs_are_refused(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        published(tmp_path, **{**TENSORS, **options})


def test_expected_answers_must_fit(tmp_path: Path) -> None:
    given = samples(tmp_path, 0.5)
    np.savez(tmp_path / "expected.npz", z=np.zeros((3, 4), np.float32))
    with pytest.raises(SpecError, match="expected arrays named y, got z"):
        published(tmp_path, max_batch_size=4, **TENSORS, **given)
    np.savez(tmp_path / "expected.npz", y=np.zeros((2, 4), np.float32))
    with pytest.raises(SpecError, match="expected 3 answers, got 2"):
        published(tmp_path, max_batch_size=4, **TENSORS, **given)


@pytest.mark.triton
def test_without_samples_the_answers_are_skipped(tmp_path: Path) -> None:
    generated = published(tmp_path, serve_check=True, **TENSORS)
    assert verdicts(generated) == {RULES: "passed", LOADS: "passed", ANSWERS: "skipped"}
    assert generated.verification.skipped


@pytest.mark.triton
def test_answers_are_compared_with_those_expected(tmp_path: Path) -> None:
    """With a file beside it, on rows in batches."""
    (tmp_path / "factor.json").write_text("3.0")
    options = {**TENSORS, "max_batch_size": 4, "files": [str(tmp_path / "factor.json")]}
    generated = published(tmp_path, serve_check=True, **options, **samples(tmp_path, 3))
    assert verdicts(generated) == {RULES: "passed", LOADS: "passed", TYPES: "passed", ANSWERS: "passed"}
    with pytest.raises(VerificationError, match="output 'y' of sample 0"):
        published(tmp_path, serve_check=True, **options, **samples(tmp_path, 2))


@pytest.mark.triton
def test_samples_are_played_as_one_sequence(tmp_path: Path) -> None:
    """The model keeps its own state; the server fills the controls, which are declared like other inputs."""
    controls = [
        {"name": "start", "data_type": "TYPE_BOOL", "dims": [1]},
        {"name": "name", "data_type": "TYPE_UINT64", "dims": [1]},
    ]
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "samples.npz", x=x, start=np.zeros((3, 1), bool), name=np.ones((3, 1), np.uint64))
    np.savez(tmp_path / "expected.npz", y=np.cumsum(x, axis=0))
    options = {
        "input": [*TENSORS["input"], *controls],
        "output": TENSORS["output"],
        "max_batch_size": 4,
        "sequence_batching": {"control_input": {"START": "start", "CORRID": "name"}, "iterative_sequence": False},
        "verify": {"samples": str(tmp_path / "samples.npz"), "expected": str(tmp_path / "expected.npz")},
    }
    generated = published(tmp_path, SUMMING, serve_check=True, **options)
    assert [one.name for one in generated.config.message.input] == ["x"]
    assert "iterative_sequence: false  # a request is one step\n" in generated.config.text
    assert verdicts(generated) == {RULES: "passed", LOADS: "passed", TYPES: "passed", ANSWERS: "passed"}


@pytest.mark.triton
def test_a_ragged_input_may_have_any_dims(tmp_path: Path) -> None:
    """The model gets each request by itself; a back-end that lays them end to end takes one axis alone."""
    tensor = {"data_type": "TYPE_FP32", "dims": [-1, 2]}
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    np.savez(tmp_path / "samples.npz", x=x)
    np.savez(tmp_path / "expected.npz", y=x * np.float32(0.5))
    options: dict[str, Any] = {
        "input": [{"name": "x", "allow_ragged_batch": True, **tensor}],
        "output": [{"name": "y", **tensor}],
        "max_batch_size": 4,
        "verify": {"samples": str(tmp_path / "samples.npz"), "expected": str(tmp_path / "expected.npz")},
    }
    generated = published(tmp_path, serve_check=True, **options)
    assert verdicts(generated) == {RULES: "passed", LOADS: "passed", TYPES: "passed", ANSWERS: "passed"}
    (x_field,) = generated.config.message.input
    assert (x_field.allow_ragged_batch, list(x_field.dims)) == (True, [-1, 2])
    assert "allow_ragged_batch: true  # requests of several sizes\n" in generated.config.text


@pytest.mark.triton
def test_samples_alone_prove_types(tmp_path: Path) -> None:
    generated = published(tmp_path, serve_check=True, **TENSORS, **samples(tmp_path))
    assert verdicts(generated) == {RULES: "passed", LOADS: "passed", TYPES: "passed", ANSWERS: "skipped"}
    wrong = {**TENSORS, "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [5]}]}
    with pytest.raises(VerificationError, match=r"'y' came as float32 \(4,\), declared TYPE_FP32 \[5\]"):
        published(tmp_path, serve_check=True, **wrong, **samples(tmp_path))


@pytest.mark.triton
def test_a_decoupled_model_is_asked_over_a_stream(tmp_path: Path) -> None:
    options = {**TENSORS, "model_transaction_policy": {"decoupled": True}}
    generated = published(tmp_path, REPEATING, serve_check=True, **options, **samples(tmp_path))
    assert generated.config.message.model_transaction_policy.decoupled
    assert verdicts(generated)[TYPES] == "passed"
    checks = {check.name: check.summary for check in generated.verification.checks}
    assert checks[TYPES] == "9 replies to 3 samples"


@pytest.mark.triton
def test_every_row_of_a_warm_up_holds_the_file(tmp_path: Path) -> None:
    """The server does not load a model whose warm-up fails, and this one takes nothing else."""
    row = np.arange(4, dtype=np.float32)
    np.save(tmp_path / "row.npy", row)
    code = HALVES.replace("y = tensor_of", "assert x.tolist() == [[0, 1, 2, 3]], x\n            y = tensor_of")
    sample = {"name": "w", "batch_size": 3, "inputs": {"x": {"input_data_file": str(tmp_path / "row.npy")}}}
    options = {**TENSORS, "max_batch_size": 4, "model_warmup": [sample]}
    assert verdicts(published(tmp_path, code, serve_check=True, **options))[LOADS] == "passed"
    np.save(tmp_path / "row.npy", row + 1)
    with pytest.raises(ServerError):  # Triton 2.51 says why, or ends by a signal
        published(tmp_path, code, serve_check=True, **options)


def test_a_published_one_is_verified_by_its_files_and_rules(tmp_path: Path) -> None:
    published(tmp_path, **TENSORS)
    (found,) = verify_repository(tmp_path / "repo", serve_check=False)
    assert found.skipped
    assert [check.verdict for check in found.checks] == ["passed", "passed", "skipped"]
