"""ONNX models and configurations that the real server serves in tests, one function a model.

Each function writes one model into a model repository and returns its directory.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.graphs import save, tensor

ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "STRING": TensorProto.STRING,
}
"""ONNX element type of each ``TYPE_*`` that the onnxruntime backend serves."""


def write_config(repository: Path, name: str, text: str) -> Path:
    """Write ``config.pbtxt`` of a model with one CPU instance, unless the text has an instance group of its own."""
    directory = repository / name
    (directory / "1").mkdir(parents=True, exist_ok=True)
    group = "" if "instance_group" in text else "instance_group { kind: KIND_CPU count: 1 }\n"
    (directory / "config.pbtxt").write_text(f'backend: "onnxruntime"\n{group}{dedent(text)}', "utf-8")
    return directory


def all_data_types(repository: Path, name: str = "all_data_types") -> Path:
    """Every input ``in_<type>`` comes back as ``out_<type>``; batches; dims [3]."""
    lines = ["max_batch_size: 8", "dynamic_batching { max_queue_delay_microseconds: 50000 }"]
    for key in ELEMENT_TYPES:
        lines.append(f'input {{ name: "in_{key}" data_type: TYPE_{key} dims: [3] }}')
        lines.append(f'output {{ name: "out_{key}" data_type: TYPE_{key} dims: [3] }}')
    directory = write_config(repository, name, "\n".join(lines))
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Identity", [f"in_{key}"], [f"out_{key}"]) for key in ELEMENT_TYPES],
        [tensor(f"in_{key}", number, ("batch", 3)) for key, number in ELEMENT_TYPES.items()],
        [tensor(f"out_{key}", number, ("batch", 3)) for key, number in ELEMENT_TYPES.items()],
    )
    return directory


def negation(repository: Path, name: str, config: str = "", *, file: str = "model.onnx") -> Path:
    """``y = -x`` with dims [4]; batches up to 8; more lines of its config may be given."""
    directory = write_config(
        repository,
        name,
        f"""
        max_batch_size: 8
        input {{ name: "x" data_type: TYPE_FP32 dims: [4] }}
        output {{ name: "y" data_type: TYPE_FP32 dims: [4] }}
        {config}
        """,
    )
    negated(directory / "1" / file)
    return directory


def negated(path: Path, *, op_type: str = "Neg") -> Path:
    """Write the graph of ``negation`` alone, or one with another operation."""
    return save(path, [helper.make_node(op_type, ["x"], ["y"])], [tensor("x")], [tensor("y")])


def scalars(repository: Path, name: str = "scalars") -> Path:
    """``y = -x`` on tensors of rank 0, without batching."""
    directory = write_config(
        repository,
        name,
        """
        input { name: "x" data_type: TYPE_FP32 dims: [1] }
        output { name: "y" data_type: TYPE_FP32 dims: [1] }
        """,
    )
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", shape=())],
        [tensor("y", shape=())],
    )
    return directory


def scalar_rows(repository: Path, name: str = "scalar_rows") -> Path:
    """``y = -x``, where every row of the batch is a scalar: dims [1] with an empty reshape."""
    directory = write_config(
        repository,
        name,
        """
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [1] reshape { shape: [] } }
        output { name: "y" data_type: TYPE_FP32 dims: [1] reshape { shape: [] } }
        """,
    )
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", shape=("batch",))],
        [tensor("y", shape=("batch",))],
    )
    return directory


def lookup(repository: Path, name: str, config: str = "") -> Path:
    """``y = [10, 11, 12][x]`` fails for an index above 2; ``negative = -x`` never fails. Batches up to 8."""
    directory = write_config(
        repository,
        name,
        f"""
        max_batch_size: 8
        input {{ name: "x" data_type: TYPE_INT64 dims: [1] }}
        output {{ name: "y" data_type: TYPE_FP32 dims: [1] }}
        output {{ name: "negative" data_type: TYPE_INT64 dims: [1] }}
        {config}
        """,
    )
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Gather", ["table", "x"], ["y"]), helper.make_node("Neg", ["x"], ["negative"])],
        [tensor("x", TensorProto.INT64, ("batch", 1))],
        [tensor("y", shape=("batch", 1)), tensor("negative", TensorProto.INT64, ("batch", 1))],
        [numpy_helper.from_array(np.array([10, 11, 12], np.float32), "table")],
    )
    return directory


def optional_offset(repository: Path, name: str = "optional_offset") -> Path:
    """``y = x + offset`` without batching, where a request may leave ``offset`` at 100."""
    directory = write_config(
        repository,
        name,
        """
        input { name: "x" data_type: TYPE_FP32 dims: [-1] }
        input { name: "offset" data_type: TYPE_FP32 dims: [1] optional: true }
        output { name: "y" data_type: TYPE_FP32 dims: [-1] }
        """,
    )
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Add", ["x", "offset"], ["y"])],
        [tensor("x", shape=("n",)), tensor("offset", shape=(1,))],
        [tensor("y", shape=("n",))],
        [numpy_helper.from_array(np.array([100], np.float32), "offset")],
    )
    return directory


def external_weights(repository: Path, name: str = "external_weights") -> Path:
    """``y = x + [1, 2, 3, 4]``: a file of another name, with its weights in a file beside it."""
    directory = negation(repository, name, 'default_model_filename: "best.onnx"', file="best.onnx")
    path = save(
        directory / "1" / "best.onnx",
        [helper.make_node("Add", ["x", "weight"], ["y"])],
        [tensor("x")],
        [tensor("y")],
        [numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "weight")],
    )
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="best.data",
        size_threshold=0,
        convert_attribute=False,
    )
    return directory


def doubled_rows(repository: Path, name: str = "doubled_rows") -> Path:
    """Declares a batch but answers every row twice."""
    directory = negation(repository, name)
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)],
        [tensor("x")],
        [tensor("y", shape=("rows", 4))],
    )
    return directory


def without_config(repository: Path, name: str = "without_config") -> Path:
    """A bare model file: the backend completes the configuration."""
    directory = repository / name
    save(
        directory / "1" / "model.onnx",
        [helper.make_node("Neg", ["x"], ["y"])],
        [tensor("x", shape=("batch", 2, "n"))],
        [tensor("y", shape=("batch", 2, "n"))],
    )
    return directory
