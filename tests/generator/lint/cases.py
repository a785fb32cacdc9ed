"""Small repositories: every rule broken alone, beside a neighbour that is right; linter and server judge both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto

MODEL_PY = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        return [utils.InferenceResponse(output_tensors=[]) for _ in requests]
"""
X = 'input { name: "x" data_type: TYPE_FP32 dims: [4] }\n'
Y = 'output { name: "y" data_type: TYPE_FP32 dims: [4] }\n'
PYTHON = 'backend: "python"\n' + X + Y
BATCHING = PYTHON + "max_batch_size: 8\n"
ONNX = 'backend: "onnxruntime"\n'


@dataclass(frozen=True)
class Case:
    """A rule, a model that breaks it and nothing before it, and a neighbour that the server loads.

    Attributes:
        rule: Id of the first finding.
        broken: Its config; ``None`` for a model without one.
        valid: The neighbour's config.
        field: Path that the finding names; ``None`` when the case does not pin it.
        files: Files of both models by path, beside the config.
        broken_files: Files of the broken model in place of ``files``.
        completing: Judged with completion on; otherwise by a strict server, which loads models ten times faster.
    """

    rule: str
    broken: str | None
    valid: str
    field: str | None = None
    files: Mapping[str, str | bytes] = dataclasses.field(default_factory=lambda: {"1/model.py": MODEL_PY})
    broken_files: Mapping[str, str | bytes] | None = None
    completing: bool = False

    def write(self, repository: Path, name: str, *, broken: bool) -> None:
        """Write one of the two models as ``repository/name``."""
        files = self.broken_files if broken and self.broken_files is not None else self.files
        write_model(repository / name, self.broken if broken else self.valid, files)


def write_model(directory: Path, config: str | None, files: Mapping[str, str | bytes]) -> None:
    """Write a model directory; a path that ends in a slash makes an empty directory."""
    directory.mkdir(parents=True)
    if config is not None:
        (directory / "config.pbtxt").write_bytes(config.encode())
    for relative, content in files.items():
        path = directory / relative
        if relative.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


Tensors = Mapping[str, tuple[str, list[int | str] | None]]


def onnx_bytes(inputs: Tensors, outputs: Tensors, *, default: str = "") -> bytes:
    """Make a graph whose n-th output is a copy of its n-th input.

    Args:
        inputs: ONNX type name and shape by name.
        outputs: Likewise.
        default: Name of a float input that an initializer gives a value to.
    """
    from onnx import TensorProto, ValueInfoProto, helper

    def info(tensors: Tensors) -> list[ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), shape)
            for name, (kind, shape) in tensors.items()
        ]

    nodes = [helper.make_node("Identity", [i], [o]) for i, o in zip(inputs, outputs, strict=False)]
    values = [helper.make_tensor(default, TensorProto.FLOAT, [1], [0.5])] if default != "" else []
    graph = helper.make_graph(nodes, "graph", info(inputs), info(outputs), values)
    return model_bytes(graph)


def model_bytes(graph: GraphProto) -> bytes:
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def sequence_bytes() -> bytes:
    """Make a graph whose output is a sequence of tensors, as scikit-learn's ZipMap makes one of maps."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    return model_bytes(graph)


def external_bytes() -> bytes:
    """Make a graph whose only weight lies in the file ``weights.bin``."""
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [weight],
    )
    return model_bytes(graph)


def onnx_files(content: bytes) -> dict[str, str | bytes]:
    return {"1/model.onnx": content}


BATCHED = onnx_files(onnx_bytes({"x": ("FLOAT", ["N", 4])}, {"y": ("FLOAT", ["N", 4])}))
FIXED = onnx_files(onnx_bytes({"x": ("FLOAT", [2, 4])}, {"y": ("FLOAT", [2, 4])}))
SCALAR = onnx_files(onnx_bytes({"x": ("FLOAT", [])}, {"y": ("FLOAT", [])}))
FLAT = onnx_files(onnx_bytes({"x": ("FLOAT", ["K"])}, {"y": ("FLOAT", ["K"])}))
OPEN = onnx_files(onnx_bytes({"x": ("FLOAT", ["N", "K"])}, {"y": ("FLOAT", ["N", "K"])}))
TWO = onnx_files(
    onnx_bytes(
        {"x": ("FLOAT", ["N", 4]), "z": ("INT64", ["N", 1])}, {"y": ("FLOAT", ["N", 4]), "w": ("INT64", ["N", 1])}
    )
)
CONTROLLED = onnx_files(
    onnx_bytes(
        {"x": ("FLOAT", ["N", 4]), "start": ("INT32", ["N", 1])}, {"y": ("FLOAT", ["N", 4]), "w": ("INT32", ["N", 1])}
    )
)
# x is taken, z has a default.
DEFAULTED = onnx_files(
    onnx_bytes(
        {"x": ("FLOAT", ["N", 4]), "z": ("FLOAT", [1])}, {"y": ("FLOAT", ["N", 4]), "w": ("FLOAT", [1])}, default="z"
    )
)
ONNX_BATCHING = ONNX + X + Y + "max_batch_size: 8 dynamic_batching { }\n"


def dynamic(settings: str) -> str:
    return BATCHING + "dynamic_batching { " + settings + " }\n"


def sequence(settings: str, *, more: str = "") -> str:
    return BATCHING + more + "sequence_batching { " + settings + " }\n"


def control(settings: str, name: str = "c") -> str:
    return f'control_input {{ name: "{name}" control {{ {settings} }} }} '


START = control("kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1]")
CORRID = control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64", "id")


def state(settings: str, initial: str | None = None) -> str:
    given = "" if initial is None else f"initial_state {{ {initial} }}"
    return f'state {{ input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [2] {settings} {given} }} '


INITIAL = 'name: "zero" data_type: TYPE_FP32 dims: [2] zero_data: true'


def metrics(settings: str) -> str:
    return PYTHON + "model_metrics { metric_control { " + settings + " } }\n"


FAMILY = 'metric_identifier { family: "nv_inference_first_response_histogram_ms" } '


def reshaped(dims: str, shape: str, *, batch: int = 8) -> str:
    tensor = f'input {{ name: "x" data_type: TYPE_FP32 dims: [{dims}] reshape {{ shape: [{shape}] }} }}\n'
    return f'backend: "python" max_batch_size: {batch}\n' + tensor + Y


def tensor(settings: str, *, more: str = "", output: str = Y) -> str:
    return f'backend: "python"\n{more}input {{ {settings} }}\n' + output


def batch_io(settings: str) -> str:
    return BATCHING + settings


def warmup(tensor_settings: str, *, sample: str = 'name: "w" batch_size: 1') -> str:
    inputs = f'inputs {{ key: "x" value {{ data_type: TYPE_FP32 {tensor_settings} }} }}'
    return BATCHING + f"model_warmup {{ {sample} {inputs} }}\n"


def onnx_setting(name: str, value: str, *, kind: str = "KIND_CPU") -> str:
    parameter = f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'
    return ONNX_BATCHING + f"instance_group {{ kind: {kind} }}\n" + parameter


def onnx_tensors(x: str, y: str, *, batch: int = 8) -> str:
    """An ONNX config with the given settings of input x and output y."""
    scheduler = "dynamic_batching { }" if batch > 1 else ""
    return f'{ONNX}max_batch_size: {batch} {scheduler}\ninput {{ name: "x" {x} }}\noutput {{ name: "y" {y} }}\n'


FP32 = "data_type: TYPE_FP32 dims: "
