from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import graphs

from tritonforge_generator.errors import GraphError, SpecError
from tritonforge_generator.graph import Graph, SampleOptions, graph_from_source
from tritonforge_generator.source import source_from_path


def graph_of(path: Path, options: SampleOptions | None = None) -> Graph:
    return graph_from_source(source_from_path(path), options)


def test_facts_of_a_graph(tmp_path: Path) -> None:
    graph = graph_of(graphs.linear(tmp_path / "m.onnx"))
    assert [(one.name, one.datatype, one.shape) for one in graph.inputs] == [("x", "FP32", ("batch", 4))]
    assert [(one.name, one.datatype, one.shape) for one in graph.outputs] == [("y", "FP32", ("batch", 3))]
    assert (graph.opsets, graph.ir_version, graph.producer) == ({"": 17}, 8, "tests")
    assert (graph.operators, graph.parameter_count) == ({"Gemm": 1}, 15)


@pytest.mark.parametrize("batch", ["batch", None])
def test_batch_axis_is_proven(tmp_path: Path, batch: str | None) -> None:
    axis = graph_of(graphs.linear(tmp_path / "m.onnx", batch=batch)).batch
    assert axis.found
    assert axis.symbol == batch
    assert axis.proven == (1, 2, 3)


@pytest.mark.parametrize("size", [1, 8])
def test_fixed_first_axis_is_no_batch(tmp_path: Path, size: int) -> None:
    axis = graph_of(graphs.linear(tmp_path / "m.onnx", batch=size)).batch
    assert not axis.found
    assert axis.note == f"the first axis of 'x' has the fixed size {size}"


def test_rows_that_influence_each_other_are_no_batch(tmp_path: Path) -> None:
    axis = graph_of(graphs.mixes_rows(tmp_path / "m.onnx")).batch
    assert not axis.found
    assert "rows influence each other: 'y' of row 0 among 2 differs" in axis.note


def test_different_first_symbols_are_no_batch(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["a"], ["c"]), helper.make_node("Identity", ["b"], ["d"])]
    pairs = [graphs.tensor(name, shape=(size, 4)) for name, size in (("a", "n"), ("b", "m"), ("c", "n"), ("d", "m"))]
    axis = graph_of(graphs.save(tmp_path / "m.onnx", nodes, pairs[:2], pairs[2:])).batch
    assert not axis.found
    assert axis.note == "the first axes of the inputs are different sizes ('a': n, 'b': m)"


def test_square_shapes_of_one_symbol_are_no_batch(tmp_path: Path) -> None:
    axis = graph_of(graphs.identity(tmp_path / "m.onnx", shape=("n", "n"))).batch
    assert not axis.found
    assert "uses the size 'n' of its first axis for another axis too" in axis.note


def test_transposed_output_is_no_batch(tmp_path: Path) -> None:
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    path = graphs.save(
        tmp_path / "m.onnx", [node], [graphs.tensor("x", shape=("n", "k"))], [graphs.tensor("y", shape=("k", "n"))]
    )
    axis = graph_of(path).batch
    assert not axis.found
    assert "'y' has the shape" in axis.note


def test_scalars_are_no_batch(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    path = graphs.save(tmp_path / "m.onnx", [node], [graphs.tensor("x")], [graphs.tensor("y", shape=())])
    graph = graph_of(path)
    assert graph.outputs[0].shape == ()
    assert graph.batch.note == "'y' is a scalar, so it has no batch axis"


@pytest.mark.parametrize(
    ("element_type", "datatype"),
    [
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.UINT8, "UINT8"),
        (TensorProto.UINT16, "UINT16"),
        (TensorProto.UINT32, "UINT32"),
        (TensorProto.UINT64, "UINT64"),
        (TensorProto.INT8, "INT8"),
        (TensorProto.INT16, "INT16"),
        (TensorProto.INT32, "INT32"),
        (TensorProto.INT64, "INT64"),
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.FLOAT, "FP32"),
        (TensorProto.DOUBLE, "FP64"),
        (TensorProto.STRING, "BYTES"),
    ],
)
def test_every_data_type(tmp_path: Path, element_type: int, datatype: str) -> None:
    graph = graph_of(graphs.identity(tmp_path / "m.onnx", element_type))
    assert graph.inputs[0].datatype == graph.outputs[0].datatype == datatype
    assert graph.batch.found


def test_refuses_types_that_triton_cannot_carry(tmp_path: Path) -> None:
    path = graphs.identity(tmp_path / "m.onnx", TensorProto.BFLOAT16)
    with pytest.raises(GraphError, match="has a type that Triton's ONNX Runtime backend cannot serve"):
        graph_of(path)
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    with pytest.raises(GraphError, match=r"tensor 'y'.*got seq\(tensor\(float\)\)"):
        graph_of(graphs.save(tmp_path / "s.onnx", [node], [graphs.tensor("x")], [sequence]))


def test_refuses_a_size_of_zero(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="declares a size of zero"):
        graph_of(graphs.identity(tmp_path / "m.onnx", shape=("batch", 0)))


def test_dynamic_axes_take_a_size_that_runs(tmp_path: Path) -> None:
    """A kernel of 20 does not fit the first size tried (16), but the second."""
    weight = numpy_helper.from_array(np.ones((1, 1, 20), np.float32), "w")
    path = graphs.save(
        tmp_path / "m.onnx",
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        [graphs.tensor("x", shape=("batch", 1, "length"))],
        [graphs.tensor("y", shape=("batch", 1, None))],
        [weight],
    )
    assert graph_of(path).batch.found
    with pytest.raises(SpecError, match=r"verify\.shapes names an input that the graph lacks"):
        graph_of(path, SampleOptions(shapes={"z": [1, 30]}))
    assert graph_of(path, SampleOptions(shapes={"x": [1, 30]})).batch.found
    with pytest.raises(SpecError, match=r"expected \[1, 'length'\], got \[2, 30\]"):
        graph_of(path, SampleOptions(shapes={"x": [2, 30]}))
