"""What ONNX Runtime will say about a graph's inputs and outputs, read without its weights.

The back-end compares the config with the shapes that ONNX Runtime reports: a symbolic dimension is -1, a missing shape
has no dimensions, and an output's symbolic dimension becomes a number when shape inference finds one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

# onnx.TensorProto.DataType -> name in model_config.proto. What is missing here cannot be served.
_DATA_TYPES: Final[Mapping[int, str]] = {
    1: "TYPE_FP32",
    2: "TYPE_UINT8",
    3: "TYPE_INT8",
    4: "TYPE_UINT16",
    5: "TYPE_INT16",
    6: "TYPE_INT32",
    7: "TYPE_INT64",
    8: "TYPE_STRING",
    9: "TYPE_BOOL",
    10: "TYPE_FP16",
    11: "TYPE_FP64",
    12: "TYPE_UINT32",
    13: "TYPE_UINT64",
    16: "TYPE_BF16",
}
_ONNX_TYPES: Final[Mapping[str, str]] = {
    "sequence_type": "ONNX_TYPE_SEQUENCE",
    "map_type": "ONNX_TYPE_MAP",
    "sparse_tensor_type": "ONNX_TYPE_SPARSETENSOR",
    "optional_type": "ONNX_TYPE_OPTIONAL",
    "opaque_type": "ONNX_TYPE_OPAQUE",
}
# Operator sets whose shapes are inferred here; ONNX Runtime has more.
_INFERRED_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_RUNTIME_FORMAT: Final = ".ort"


class UnreadableModelError(Exception):
    """The file is not an ONNX model; the message says what is wrong with it."""


class UnknownModelError(UnreadableModelError):
    """The file may be a model that ONNX Runtime loads, but only that could tell what it takes and gives."""


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """One input or output of a graph, as ONNX Runtime reports it.

    Attributes:
        name: Its name.
        data_type: Name in ``model_config.proto``; ``"TYPE_INVALID"`` for what Triton has no type for.
        dims: Full shape; -1 stands for any size; empty for a scalar.
        onnx_type: ``"ONNX_TYPE_TENSOR"``, or what it is instead.
        unsure: Indices of dimensions that the file does not state: what is said of them was inferred, and ONNX Runtime
            has the last word.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    onnx_type: str = "ONNX_TYPE_TENSOR"
    unsure: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """Inputs and outputs of an ONNX file.

    Attributes:
        path: The file.
        inputs: Graph inputs without those that an initializer gives a value to, by name.
        overridable: Inputs that have an initializer and may therefore be left out, by name.
        outputs: Graph outputs by name.
        external_data: Paths of the files that hold weights, whether they exist or not.
    """

    path: Path
    inputs: Mapping[str, GraphTensor]
    overridable: Mapping[str, GraphTensor] = field(default_factory=dict)
    outputs: Mapping[str, GraphTensor] = field(default_factory=dict)
    external_data: tuple[Path, ...] = ()

    @property
    def batches(self) -> bool:
        """Whether every input and output has -1 first, which is what the back-end takes for batching."""
        tensors = [*self.inputs.values(), *self.outputs.values()]
        return all(tensor.dims[:1] == (-1,) for tensor in tensors)

    @property
    def is_dense(self) -> bool:
        """Whether every input and output is a tensor, which the back-end asks first."""
        tensors = [*self.inputs.values(), *self.outputs.values()]
        return all(tensor.onnx_type == "ONNX_TYPE_TENSOR" for tensor in tensors)


def graph_from_file(path: Path) -> OnnxGraph:
    """Read the inputs and outputs of an ONNX file.

    Args:
        path: The ``.onnx`` file; external data beside it is looked for but not read.

    Raises:
        UnreadableModelError: The file cannot be read or is not an ONNX model.
        UnknownModelError: Only ONNX Runtime can tell what the file holds.
        MissingExtraError: The package onnx is not installed.
    """
    if path.suffix.lower() == _RUNTIME_FORMAT:
        raise UnknownModelError("it is in ONNX Runtime's own format")
    if not path.is_file() and not path.is_dir():  # a pipe, for example, of which reading never ends
        raise UnknownModelError("it is no regular file")
    from tritonforge_client.extras import require_extra  # brings the client and numpy

    onnx = require_extra("onnx", "generator")
    from google.protobuf.message import DecodeError

    from tritonforge_generator.lint.onnx_skim import skimmed_model

    try:
        model = skimmed_model(path, onnx.ModelProto)
    except (OSError, DecodeError, ValueError) as error:
        raise UnreadableModelError(f"{type(error).__name__}: {error}") from error
    if not model.HasField("graph") or len(model.opset_import) == 0:
        raise UnreadableModelError("it has no graph or names no operator set")
    graph = model.graph
    if any(not isinstance(named.name, str) for named in (*graph.input, *graph.output, *graph.initializer)):
        raise UnreadableModelError("the name of a tensor is not UTF-8")
    initialized = {tensor.name for tensor in graph.initializer}
    initialized |= {sparse.values.name for sparse in graph.sparse_initializer}
    inputs = {value.name: _tensor(value) for value in graph.input}
    return OnnxGraph(
        path,
        inputs={name: tensor for name, tensor in inputs.items() if name not in initialized},
        # Before IR version 4 every initializer had to be listed as an input and was a constant all the same.
        overridable={name: tensor for name, tensor in inputs.items() if name in initialized and model.ir_version >= 4},
        outputs=_outputs(onnx, model),
        external_data=_external_data(path.parent, model),
    )


def served_output_dims(path: Path, *, optimised: bool) -> Mapping[str, tuple[int, ...]]:
    """Ask ONNX Runtime itself for the output shapes: its optimiser can settle what shape inference cannot.

    This loads the weights, so it is for the rare case that nothing else decides.

    Args:
        path: The ``.onnx`` file.
        optimised: Whether the back-end lets it optimise the graph.

    Returns:
        Full shape by output name; empty when ONNX Runtime is not installed or refuses the file.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return {}
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no common base of their own
        return {}
    return {
        output.name: tuple(size if isinstance(size, int) else -1 for size in output.shape)
        for output in session.get_outputs()
    }


def _tensor(value: Any) -> GraphTensor:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return GraphTensor(value.name, "TYPE_INVALID", (), _ONNX_TYPES.get(kind, "ONNX_TYPE_UNKNOWN"))
    tensor = value.type.tensor_type
    # ONNX Runtime takes a negative size for an unknown one.
    dims = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else -1 for dim in tensor.shape.dim)
    return GraphTensor(value.name, _DATA_TYPES.get(tensor.elem_type, "TYPE_INVALID"), dims)


def _outputs(onnx: Any, model: Any) -> dict[str, GraphTensor]:
    """Read the outputs, with shape inference where a dimension is not declared as a number."""
    declared = {value.name: _tensor(value) for value in model.graph.output}
    if all(tensor.dims and -1 not in tensor.dims for tensor in declared.values()):
        return declared
    given = {
        dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim if dim.dim_param != ""
    }
    failed = False
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        # What is declared is all there is to go by, and ONNX Runtime has the last word on it.
        failed = True
    may_find_more = failed or not {opset.domain for opset in model.opset_import} <= _INFERRED_DOMAINS
    outputs = {}
    for value in model.graph.output:
        if may_find_more and not _is_typed(value):
            raise UnknownModelError(f"only ONNX Runtime can tell the type and shape of the output '{value.name}'")
        tensor, shape = _tensor(value), value.type.tensor_type.shape.dim
        stated = zip(() if failed else declared[value.name].dims, shape, strict=False)
        sure = {i for i, (size, dim) in enumerate(stated) if size != -1 or dim.dim_param in given}
        outputs[value.name] = replace(tensor, unsure=frozenset(range(len(tensor.dims))) - sure)
    return outputs


def _is_typed(value: Any) -> bool:
    """Whether an output has a type, and a tensor a shape."""
    kind = value.type.WhichOneof("value")
    return kind is not None and (kind != "tensor_type" or value.type.tensor_type.HasField("shape"))


def _external_data(folder: Path, model: Any) -> tuple[Path, ...]:
    """Find the external data files that the tensors of a model refer to, those of inner graphs too."""
    nodes = [node for function in model.functions for node in function.node]
    locations = {
        os.fsdecode(entry.value)
        for tensor in (*_tensors_of_graph(model.graph), *_tensors_of_nodes(nodes))
        if tensor.data_location == tensor.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(folder / location for location in sorted(locations))


def _tensors_of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            graphs = (*attribute.graphs, attribute.g) if attribute.HasField("g") else attribute.graphs
            for graph in graphs:
                yield from _tensors_of_graph(graph)
