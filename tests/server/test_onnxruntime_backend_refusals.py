"""Models that the C++ onnxruntime backend refuses are refused here, in its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support import onnx_models
from support.graphs import save, tensor
from support.serving import BATCHING, INPUT, OUTPUT, message_of

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import ServerExitedError

pytestmark = pytest.mark.triton


def configured(text: str) -> Callable[[Path, str], None]:
    """``y = -x`` on [batch, 4] under a config of one's own."""

    def write(repository: Path, name: str) -> None:
        directory = onnx_models.write_config(repository, name, text)
        onnx_models.negated(directory / "1" / "model.onnx")

    return write


def parameter(key: str, value: str) -> Callable[[Path, str], None]:
    return configured(f'{BATCHING}{INPUT}{OUTPUT}parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}')


def garbage(repository: Path, name: str) -> None:
    directory = onnx_models.write_config(repository, name, BATCHING + INPUT + OUTPUT)
    (directory / "1" / "model.onnx").write_bytes(b"no protobuf \xff\xff\xff")


def no_file(repository: Path, name: str) -> None:
    onnx_models.write_config(repository, name, BATCHING + INPUT + OUTPUT)


def scalar_of_two(repository: Path, name: str) -> None:
    directory = onnx_models.scalars(repository, name)
    onnx_models.write_config(
        repository,
        name,
        'input { name: "x" data_type: TYPE_FP32 dims: [1] }\noutput { name: "y" data_type: TYPE_FP32 dims: [1, 2] }',
    )
    assert directory.name == name


def fixed_batch(repository: Path, name: str) -> None:
    directory = onnx_models.write_config(repository, name, BATCHING + INPUT + OUTPUT)
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", shape=(2, 4))],
        [tensor("y", shape=(2, 4))],
    )


def fixed_batch_to_complete(repository: Path, name: str) -> None:
    fixed_batch(repository, name)
    onnx_models.write_config(repository, name, BATCHING)


def sequence_output(repository: Path, name: str) -> None:
    directory = onnx_models.write_config(repository, name, INPUT + OUTPUT)
    output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    save(directory / "1" / "model.onnx", [helper.make_node("SequenceConstruct", ["x"], ["y"])], [tensor("x")], [output])


def bad_warmup(repository: Path, name: str) -> None:
    directory = onnx_models.lookup(
        repository,
        name,
        'model_warmup { name: "bad index" batch_size: 1 inputs { key: "x" value { data_type: TYPE_INT64 dims: 1 '
        'input_data_file: "index" } } }',
    )
    (directory / "warmup").mkdir()
    (directory / "warmup" / "index").write_bytes(np.array([99], np.int64).tobytes())


REFUSALS: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "I13": (
        configured(BATCHING + INPUT.replace('"x"', '"z"') + OUTPUT),
        "unexpected inference input 'z', allowed inputs are: x",
    ),
    "I14": (
        configured(BATCHING + INPUT + OUTPUT.replace('"y"', '"z"')),
        "unexpected inference output 'z', allowed outputs are: y",
    ),
    "N1": (parameter("enable_mem_arena", "yes"), "failed to convert 'yes' to boolean"),
    "N1_pattern": (parameter("enable_mem_pattern", "2"), "failed to convert '2' to boolean"),
    "N2": (parameter("intra_op_thread_count", "many"), "failed to convert 'many' to integral number"),
    "N2_inter": (parameter("inter_op_thread_count", ""), "failed to convert '' to integral number"),
    "O1": (no_file, "failed to stat file "),
    "O2": (
        fixed_batch_to_complete,
        "autofill failed for model 'O2': model does not support batching while non-zero max_batch_size is specified",
    ),
    "O4": (
        parameter("execution_mode", "2"),
        "Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 but got 2 .",
    ),
    "O5": (
        configured(
            f"{BATCHING}{INPUT}{OUTPUT}"
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }'
        ),
        "unknown Execution Accelerator 'openvino' is requested",
    ),
    "O10": (
        configured(BATCHING + INPUT + INPUT.replace('"x"', '"z"') + OUTPUT),
        "unable to load model 'O10', configuration expects 2 inputs, model provides 1",
    ),
    "O14": (
        configured(BATCHING + INPUT + 'input { name: "z" data_type: TYPE_FP32 dims: 1 optional: true }\n' + OUTPUT),
        "unable to load model 'O14', optional input 'z' is not supported for models that support batching",
    ),
    "O15": (
        configured(BATCHING + INPUT.replace("FP32", "BF16") + OUTPUT),
        "unsupported datatype TYPE_BF16 for input 'x' for model 'O15'",
    ),
    "O16": (
        configured(BATCHING + INPUT.replace("FP32", "INT32") + OUTPUT),
        "unable to load model 'O16', configuration expects datatype TYPE_INT32 for input 'x', model provides TYPE_FP32",
    ),
    "O17": (
        configured(BATCHING + INPUT + OUTPUT.replace("FP32", "FP16")),
        "unable to load model 'O17', configuration expects datatype TYPE_FP16 for output 'y', model provides TYPE_FP32",
    ),
    "O19": (
        scalar_of_two,
        (
            "unable to load model 'O19', scalar tensor 'y', should only provide 1 in the model configuration when the "
            "model doesn't support batching. Model configuration provided: [1,2]."
        ),
    ),
    "O20": (
        fixed_batch,
        (
            "model 'O20', tensor 'x': for the model to support batching the shape should have at least 1 dimension and "
            "the first dimension must be -1; but shape expected by the model is [2,4]"
        ),
    ),
    "O21": (
        configured(BATCHING + INPUT + OUTPUT.replace("[4]", "[-1]")),
        (
            "model 'O21', tensor 'y': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit "
            "tensor shape, making complete shape [-1,-1])"
        ),
    ),
    "O22": (
        configured(INPUT + OUTPUT),
        (
            "model 'O22', tensor 'x': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 1 dimensions (shape [4])"
        ),
    ),
    "O23": (sequence_output, "Unsupported ONNX Type 'ONNX_TYPE_SEQUENCE' for I/O 'y', expected 'ONNX_TYPE_TENSOR'."),
    "garbage": (garbage, "onnx runtime error 7: Load model from "),
    "ragged": (
        configured(BATCHING + INPUT.replace("dims", "allow_ragged_batch: true dims") + OUTPUT),
        "model 'ragged' uses allow_ragged_batch, which only Triton's C++ onnxruntime backend serves",
    ),
}


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a server says that was started on all of these models."""
    repository = tmp_path_factory.mktemp("refused")
    for name, (write, _) in REFUSALS.items():
        write(repository, name)
    return message_of(repository)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_model_is_refused_in_the_words_of_the_c_backend(message: str, name: str) -> None:
    lines = [line for line in message.splitlines() if line.strip().startswith(f"{name} version 1: ")]
    assert len(lines) == 1, message
    assert REFUSALS[name][1] in lines[0]


def test_a_failing_warm_up_is_told_even_when_the_server_crashes_over_it(tmp_path: Path) -> None:
    bad_warmup(tmp_path, "W4")
    with pytest.raises(ServerExitedError, match="indices element out of data bounds, idx=99") as caught:
        EmbeddedTriton(tmp_path).start()
    # Server 2.51 ends with a segmentation fault every other time, before it has put the reason in its own words.
    crashed = "exit code 139" in str(caught.value) and "it was loading W4" in str(caught.value)
    assert crashed or "W4 version 1: " in str(caught.value)
    assert crashed or "failed to run warmup sample 'bad index': " in str(caught.value)


def test_the_message_has_no_frames_of_the_backend(message: str) -> None:
    assert "At:" not in message
