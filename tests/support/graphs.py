"""Small ONNX files for tests of the generator, one function for each kind of graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None] | None


def tensor(name: str, element_type: int = TensorProto.FLOAT, shape: Shape = ("batch", 4)) -> Any:
    return helper.make_tensor_value_info(name, element_type, shape)


def save(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], initializers: Sequence[Any] = ()
) -> Path:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def identity(path: Path, element_type: int = TensorProto.FLOAT, shape: Shape = ("batch", 4)) -> Path:
    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", element_type, shape)],
        [tensor("y", element_type, shape)],
    )


def linear(path: Path, *, batch: int | str | None = "batch", external: bool = False, seed: int = 0) -> Path:
    """``y = x @ weight + bias`` from 4 to 3 features; its weights may lie in a file beside it."""
    random = np.random.default_rng(seed)
    weight = numpy_helper.from_array(random.standard_normal((4, 3)).astype(np.float32), "weight")
    bias = numpy_helper.from_array(random.standard_normal(3).astype(np.float32), "bias")
    save(
        path,
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        [tensor("x", shape=(batch, 4))],
        [tensor("y", shape=(batch, 3))],
        [weight, bias],
    )
    if external:
        model = onnx.load(str(path))
        onnx.save(
            model,
            str(path),
            save_as_external_data=True,
            location=f"{path.name}.data",
            size_threshold=0,
            convert_attribute=False,
        )
    return path


def mixes_rows(path: Path) -> Path:
    """Declares a batch, but every row becomes the mean of all rows."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "mean"], ["y"]),
    ]
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    return save(path, nodes, [tensor("x")], [tensor("y")], [zero])


def fixed_inside(path: Path, limit: int) -> Path:
    """Declares a batch, but adds a table of ``limit`` rows, of which it takes as many as there are in the batch."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
        helper.make_node("Min", ["rows", "limit"], ["taken"]),
        helper.make_node("Slice", ["table", "start", "taken", "axis"], ["part"]),
        helper.make_node("Add", ["x", "part"], ["y"]),
    ]
    initializers = [
        numpy_helper.from_array(np.zeros((limit, 4), np.float32), "table"),
        numpy_helper.from_array(np.array([limit], np.int64), "limit"),
        numpy_helper.from_array(np.array([0], np.int64), "start"),
        numpy_helper.from_array(np.array([0], np.int64), "axis"),
    ]
    return save(path, nodes, [tensor("x")], [tensor("y")], initializers)


def random_output(path: Path) -> Path:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["y"])]
    return save(path, nodes, [tensor("x")], [tensor("y")])


def two_inputs(path: Path) -> Path:
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    inputs = [tensor("a"), tensor("b")]
    return save(path, nodes, inputs, [tensor("sum"), tensor("difference")])


def scalar_output(path: Path) -> Path:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    return save(path, [node], [tensor("x", shape=(2, 3))], [tensor("y", shape=())])


def scalar_input(path: Path) -> Path:
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    inputs = [tensor("x", shape=(2, 3)), tensor("factor", shape=())]
    return save(path, [node], inputs, [tensor("y", shape=(2, 3))])


def embedding(path: Path) -> Path:
    table = numpy_helper.from_array(np.arange(40, dtype=np.float32).reshape(10, 4), "table")
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    inputs = [tensor("ids", TensorProto.INT64, ("batch", "length"))]
    return save(path, [node], inputs, [tensor("y", shape=("batch", "length", 4))], [table])


def steps(path: Path, flag: int = TensorProto.FLOAT, correlation: int = TensorProto.INT64) -> Path:
    """``y = x + start + id - 2 end``: a model of sequences whose answers show every control."""
    nodes = [
        *(helper.make_node("Cast", [name], [f"{name}_value"], to=TensorProto.FLOAT) for name in ("start", "end", "id")),
        helper.make_node("Add", ["x", "start_value"], ["started"]),
        helper.make_node("Add", ["started", "id_value"], ["named"]),
        helper.make_node("Sub", ["named", "end_value"], ["nearly"]),
        helper.make_node("Sub", ["nearly", "end_value"], ["y"]),
    ]
    controls = [tensor("start", flag, ("batch", 1)), tensor("end", flag, ("batch", 1))]
    inputs = [tensor("x"), *controls, tensor("id", correlation, ("batch", 1))]
    return save(path, nodes, inputs, [tensor("y")])


def accumulator(path: Path) -> Path:
    """``y = sum_out = x + sum``: a model whose state the server keeps."""
    nodes = [helper.make_node("Add", ["x", "sum"], ["y"]), helper.make_node("Identity", ["y"], ["sum_out"])]
    return save(path, nodes, [tensor("x"), tensor("sum")], [tensor("y"), tensor("sum_out")])


def ragged(path: Path) -> Path:
    """Sums the elements of each request: ``x`` holds those of all, ``ends`` where each one's end."""
    nodes = [
        helper.make_node("Cast", ["ends"], ["last"], to=TensorProto.INT64),
        helper.make_node("CumSum", ["x", "axis"], ["sums"]),
        helper.make_node("Gather", ["sums", "last"], ["y"]),
    ]
    inputs = [tensor("x", shape=("elements",)), tensor("ends", TensorProto.INT32, ("requests", 1))]
    axis = numpy_helper.from_array(np.array(0, np.int64), "axis")
    return save(path, nodes, inputs, [tensor("y", shape=("requests", 1))], [axis])


KINDS: dict[str, tuple[Callable[[Path], Path], int]] = {
    "linear": (linear, 32),
    "external": (lambda path: linear(path, external=True), 32),
    "static_batch_one": (lambda path: linear(path, batch=1), 0),
    "static_batch_eight": (lambda path: linear(path, batch=8), 0),
    "unnamed_batch": (lambda path: linear(path, batch=None), 32),
    "two_inputs": (two_inputs, 32),
    "scalar_output": (scalar_output, 0),
    "scalar_input": (scalar_input, 0),
    "one_value_a_row": (lambda path: identity(path, shape=("batch",)), 32),
    "embedding": (embedding, 32),
    "strings": (lambda path: identity(path, TensorProto.STRING, ("batch", 2)), 32),
    "dynamic_strings": (lambda path: identity(path, TensorProto.STRING, ("batch", "length")), 32),
    "fp16": (lambda path: identity(path, TensorProto.FLOAT16), 32),
    "int64": (lambda path: identity(path, TensorProto.INT64), 32),
    "bool": (lambda path: identity(path, TensorProto.BOOL), 32),
    "mixes_rows": (mixes_rows, 0),
}
"""Kinds of graphs that can be served: how to build one, and the ``max_batch_size`` it gets by default."""
