"""O, D, I13, I14: the config against the ONNX graph that the ONNX Runtime back-end serves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.controls import controls
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.onnx_io import (
    GraphTensor,
    OnnxGraph,
    UnknownModelError,
    UnreadableModelError,
    served_output_dims,
)
from tritonforge_generator.lint.plan_view import known_plans
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule


def _graphs(model: Model) -> Iterator[OnnxGraph]:
    for graph in model.graphs.values():
        if isinstance(graph, OnnxGraph):
            yield graph


@rule(
    "O1",
    needs="dir",
    text="{problem}",
    fix="Put the model there, or name the file in `{field}`.",
)
def model_file_exists(model: Model) -> Iterator[Hit]:
    """The ONNX file exists in every version directory that is loaded; it may be a directory holding ``model.onnx``.

    Of a file the server says `failed to stat file PATH`, of a directory `unable to find 'PATH' for model instance
    'NAME'`. With ``cc_model_filenames`` the file depends on the GPU, so its compute capability has to be declared.
    """
    if not model.is_onnxruntime or model.model_filename is None:
        return
    field, name = model.model_filename
    for version, path in model.model_files.items():
        if path.exists():
            continue
        is_in_directory = path.parent.name == Path(name).name and path.parent.is_dir()
        missing = f"unable to find '{path}' for model instance '{model.config.name}'"
        problem = missing if is_in_directory else f"failed to stat file {path}"
        yield Hit(field, {"problem": problem, "field": field}, at=(version,), file=path)


@rule(
    "D1",
    needs="file",
    text="External data path does not exist: {path}",
    fix="Copy the weights beside the model file, under the name that the model gives them.",
)
def external_data_exists(model: Model) -> Iterator[Hit]:
    """Weights that an ONNX file keeps in other files are where it says. ONNX Runtime words this in its own way."""
    for graph in _graphs(model):
        for path in graph.external_data:
            if not model.reaches(path) or path.is_file():
                continue
            yield Hit(values={"path": path}, file=graph.path)


@rule(
    "D2",
    needs="file",
    text="onnx runtime error 7: Load model from {path} failed:Protobuf parsing failed.",
    fix="Copy or export the model again: {problem}",
)
def model_file_is_onnx(model: Model) -> Iterator[Hit]:
    """The model file is an ONNX model. ONNX Runtime words this in its own way.

    Of a file in ONNX Runtime's own format, which ends in .ort, nothing is known.
    """
    for version, graph in model.graphs.items():
        if isinstance(graph, UnreadableModelError) and not isinstance(graph, UnknownModelError):
            path = model.model_files[version]
            yield Hit(values={"path": path, "problem": graph}, file=path)


@rule(
    "O2",
    needs="file",
    text="autofill failed for model '{model}': model does not support batching while non-zero max_batch_size is "
    "specified",
    fix="Write `max_batch_size: 0`, or export the model with a symbolic first dimension on every input and output.",
)
def completed_model_batches(model: Model) -> Iterator[Hit]:
    """While completing, ``max_batch_size`` above 0 needs -1 as the first dimension of every input and output.

    Of what is no tensor the server says O23 instead.
    """
    if model.completes_onnx and model.config.max_batch_size != 0:
        for graph in _graphs(model):
            if graph.is_dense and not graph.batches:
                yield Hit("max_batch_size")


@rule(
    "O10",
    needs="file",
    text="unable to load model '{model}', configuration expects {expected} inputs, model provides {provided}",
    fix="The model's inputs are {names}. Each that has no default must stand in the config exactly once.",
)
def inputs_are_complete(model: Model) -> Iterator[Hit]:
    """Every input of the graph is configured: as an input, a batch input, a sequence control or a state.

    Inputs that an initializer gives a value to do not count, and neither do inputs that are ``optional``.
    """
    served = model.served
    if served is None or not model.is_onnxruntime:
        return
    kinds = {enum_name(c, "kind") for t in served.sequence_batching.control_input for c in t.control}
    expected = sum(not tensor.optional for tensor in served.input) + len(served.batch_input)
    expected += len(kinds) + len(served.sequence_batching.state)
    for graph in _graphs(model):
        if len(graph.inputs) != expected:
            values = {"expected": expected, "provided": len(graph.inputs), "names": ", ".join(graph.inputs)}
            yield Hit("input", values)


@rule(
    "O11",
    needs="file",
    text="configuration specified sequence control '{tensor}', but model does not provide that input",
    fix="Name one of the graph's inputs: {names}.",
)
def control_is_an_input(model: Model) -> Iterator[Hit]:
    """Every sequence control is an input of the graph."""
    for graph in _graphs(model):
        for control in controls(model.config):
            if control.tensor not in graph.inputs:
                values = {"tensor": control.tensor, "names": ", ".join(graph.inputs)}
                yield Hit(control.path, values, at=(control.order,))


@rule(
    "O12",
    needs="file",
    text="unable to load model '{model}', sequence control '{tensor}' in model has dims {dims} but dims [1] is "
    "expected",
    fix="Export the model with one element a sequence for this input.",
)
def control_is_one_element(model: Model) -> Iterator[Hit]:
    """A sequence control has the shape [1] after the batch dimension."""
    served = model.served
    if served is None:
        return
    for graph in _graphs(model):
        for control in controls(model.config):
            known = graph.inputs.get(control.tensor)
            dims = () if known is None else known.dims[served.max_batch_size > 0 :]
            if known is not None and dims != (1,):
                yield Hit(control.path, {"tensor": known.name, "dims": _shape(dims)}, at=(control.order,))


_ONNX_NAMES: Final = {"TYPE_FP32": "FLOAT", "TYPE_FP16": "FLOAT16", "TYPE_FP64": "DOUBLE", "TYPE_BF16": "BFLOAT16"}


@rule(
    "O13",
    needs="file",
    text="unable to load model '{model}', sequence control '{tensor}', the model expects data-type {known} but the "
    "model configuration specifies data-type {written}",
    fix="Use the value list (or, for CORRID, the `data_type`) of the graph's type.",
)
def control_type_fits(model: Model) -> Iterator[Hit]:
    """A sequence control has the data type that its input has in the graph."""
    for graph in _graphs(model):
        for control in controls(model.config):
            written = control.data_type
            known = graph.inputs[control.tensor].data_type if control.tensor in graph.inputs else written
            if known != written:
                onnx_name = _ONNX_NAMES.get(known, known.removeprefix("TYPE_"))
                values = {"tensor": control.tensor, "known": onnx_name, "written": written}
                yield Hit(control.path, values, at=(control.order,))


@rule(
    "O23",
    needs="file",
    text="Unsupported ONNX Type '{found}' for I/O '{tensor}', expected 'ONNX_TYPE_TENSOR'.",
    fix="Export the model with plain tensors (for scikit-learn: the option zipmap=False).",
)
def graph_has_plain_tensors(model: Model) -> Iterator[Hit]:
    """Every input and output of the graph is a dense tensor, not a sequence, a map or an optional."""
    for graph in _graphs(model):
        for order, tensors in enumerate((graph.inputs, graph.overridable, graph.outputs)):
            for tensor in tensors.values():
                if tensor.onnx_type != "ONNX_TYPE_TENSOR":
                    yield Hit(values={"found": tensor.onnx_type, "tensor": tensor.name}, at=(order,))


_Pair = tuple[str, str, tuple[int, ...], Message, GraphTensor]


def _pairs(model: Model, *kinds: str) -> Iterator[_Pair]:
    """Yield ``(kind, path, place in the server's order, config tensor, graph tensor)`` of what is in both."""
    for graph in _graphs(model):
        for kind, index, tensor in model.tensors():
            known = graph.outputs if kind == "output" else {**graph.inputs, **graph.overridable}
            if kind in kinds and tensor.name in known and known[tensor.name].onnx_type == "ONNX_TYPE_TENSOR":
                yield kind, f"{kind}[{index}]", (kind == "output", index), tensor, known[tensor.name]


def _allowed(model: Model, kind: str) -> Iterator[Collection[str]]:
    """Yield the names of the inputs or outputs of every graph, or of every plan: both back-ends say the same."""
    for graph in _graphs(model):
        yield graph.outputs if kind == "output" else {**graph.inputs, **graph.overridable}
    for plan in known_plans(model):
        yield {tensor.name for tensor in (plan.outputs if kind == "output" else plan.inputs)}


def _unknown(model: Model, kind: str) -> Iterator[Hit]:
    for known in _allowed(model, kind):
        for index, tensor in enumerate(getattr(model.config, kind)):
            if tensor.name not in known and tensor.name != "":
                values = {"tensor": tensor.name, "names": ", ".join(sorted(known))}
                yield Hit(f"{kind}[{index}].name", values, at=(kind == "output", index))


@rule(
    "I13",
    needs="file",
    text="unexpected inference input '{tensor}', allowed inputs are: {names}",
    fix="Correct the name letter for letter.",
)
def input_is_in_the_graph(model: Model) -> Iterator[Hit]:
    """Every configured input is an input of the ONNX graph or TensorRT plan."""
    yield from _unknown(model, "input")


@rule(
    "I14",
    needs="file",
    text="unexpected inference output '{tensor}', allowed outputs are: {names}",
    fix="Correct the name letter for letter.",
)
def output_is_in_the_graph(model: Model) -> Iterator[Hit]:
    """Every configured output is an output of the ONNX graph or TensorRT plan."""
    yield from _unknown(model, "output")


@rule(
    "O14",
    text="unable to load model '{model}', optional input '{tensor}' is not supported for models that support batching",
    fix="Remove `optional`, or write `max_batch_size: 0`.",
)
def optional_inputs_do_not_batch(model: Model) -> Iterator[Hit]:
    """The ONNX Runtime back-end takes optional inputs only without batching."""
    served = model.served
    if model.is_onnxruntime and served is not None and served.max_batch_size != 0:
        for index, tensor in enumerate(model.config.input):
            if tensor.optional:
                yield Hit(f"input[{index}].optional", {"tensor": tensor.name}, at=(0, index))


def _type_conflicts(model: Model, kind: str) -> Iterator[Hit]:
    for _, path, at, tensor, known in _pairs(model, kind):
        written = enum_name(tensor, "data_type")
        if written not in {"TYPE_INVALID", known.data_type}:
            wire = known.data_type.removeprefix("TYPE_").replace("STRING", "BYTES").replace("INVALID", "<invalid>")
            values = {"tensor": tensor.name, "written": written, "known": wire, "mended": known.data_type}
            yield Hit(f"{path}.data_type", values, at=at)


@rule(
    "O16",
    needs="file",
    text="unable to load model '{model}', configuration expects datatype {written} for input '{tensor}', model "
    "provides TYPE_{known}",
    fix="Write {mended}.",
)
def input_type_fits(model: Model) -> Iterator[Hit]:
    """An input has the data type that it has in the graph."""
    yield from _type_conflicts(model, "input")


@rule(
    "O17",
    needs="file",
    text="unable to load model '{model}', configuration expects datatype {written} for output '{tensor}', model "
    "provides TYPE_{known}",
    fix="Write {mended}.",
)
def output_type_fits(model: Model) -> Iterator[Hit]:
    """An output has the data type that it has in the graph."""
    yield from _type_conflicts(model, "output")


@rule(
    "O24",
    text="unable to load model '{model}', configuration expects model provides input with shape [-1] for ragged input "
    "'{tensor}', which is not supported for optional input",
    fix="Remove `optional` or `allow_ragged_batch`.",
)
def ragged_inputs_are_not_optional(model: Model) -> Iterator[Hit]:
    """The ONNX Runtime back-end takes no input that is both ``optional`` and ragged."""
    for index, tensor in enumerate(model.config.input if model.is_onnxruntime else ()):
        if tensor.optional and tensor.allow_ragged_batch:
            yield Hit(f"input[{index}].allow_ragged_batch", {"tensor": tensor.name}, at=(0, index))


@rule(
    "O18",
    needs="file",
    text="unable to load model '{model}', configuration expects model provides input with shape [-1]  for ragged input "
    "'{tensor}', model provides {shape}",
    fix="Remove `allow_ragged_batch`, or export the model with one dimension for this input.",
)
def ragged_input_is_flat(model: Model) -> Iterator[Hit]:
    """An input with ``allow_ragged_batch`` has one symbolic dimension in the graph: the batch is laid end to end."""
    for _, path, at, tensor, known in _pairs(model, "input"):
        if tensor.allow_ragged_batch and known.dims != (-1,):
            yield Hit(f"{path}.allow_ragged_batch", {"tensor": tensor.name, "shape": _shape(known.dims)}, at=at)


def _shape(dims: Sequence[int]) -> str:
    return "[" + ",".join(str(size) for size in dims) + "]"


def _compared(model: Model) -> Iterator[tuple[_Pair, str, tuple[int, ...], int]]:
    """Yield ``(pair, path of the dims, dims that count, max_batch_size)`` where the back-end compares shapes."""
    served = model.served
    if served is None:
        return
    batch_outputs = {name for entry in served.batch_output for name in entry.target_name}
    for pair in _pairs(model, "input", "output"):
        kind, path, _, tensor, _ = pair
        if (kind == "output" and tensor.name in batch_outputs) or (kind == "input" and tensor.allow_ragged_batch):
            continue
        if tensor.HasField("reshape"):
            yield pair, f"{path}.reshape", tuple(tensor.reshape.shape), served.max_batch_size
        elif len(tensor.dims) > 0:
            yield pair, f"{path}.dims", tuple(tensor.dims), served.max_batch_size


@rule(
    "O19",
    needs="file",
    text="unable to load model '{model}', scalar tensor '{tensor}', should only provide 1 in the model "
    "configuration when the model doesn't support batching. Model configuration provided: {dims}.",
    fix="Write `dims: [1]`.",
)
def scalar_has_one_element(model: Model) -> Iterator[Hit]:
    """A tensor without dimensions in the graph has ``dims: [1]`` in the config."""
    for (_, _, at, tensor, known), path, dims, _ in _compared(model):
        if known.dims == () and any(size != 1 for size in dims):
            yield Hit(path, {"tensor": tensor.name, "dims": _shape(dims)}, at=at)


@rule(
    "O20",
    needs="file",
    text="model '{model}', tensor '{tensor}': for the model to support batching the shape should have at least 1 "
    "dimension and the first dimension must be -1; but shape expected by the model is {shape}",
    fix="Write `max_batch_size: 0` and full `dims`, or export the model with a symbolic batch dimension.",
)
def graph_batches(model: Model) -> Iterator[Hit]:
    """With ``max_batch_size`` above 0 the first dimension of every tensor of the graph is symbolic."""
    for (_, _, at, tensor, known), path, _, limit in _compared(model):
        if limit > 0 and known.dims and known.dims[0] != -1:
            yield Hit(path, {"tensor": tensor.name, "shape": _shape(known.dims)}, at=at)


def _fits(known: Sequence[int], dims: Sequence[int], *, exact: bool) -> bool:
    """Compare as the back-end does: -1 of the graph takes any size for an input, only -1 for an output."""
    same_rank = len(known) == len(dims)
    return same_rank and all(a == b or (a == -1 and not exact) for a, b in zip(known, dims, strict=True))


_Asked = dict[Path, Mapping[str, tuple[int, ...]]]
_UNOPTIMISED: Final = 2  # `optimization.graph.level` with which ONNX Runtime takes the graph as it is


def _shape_conflicts(model: Model, *, batching: bool) -> Iterator[Hit]:
    asked: _Asked = {}
    for (kind, _, at, tensor, known), path, dims, limit in _compared(model):
        full = (-1, *dims) if limit > 0 else dims
        if (limit > 0) != batching or not known.dims or (batching and known.dims[0] != -1):
            continue
        if _fits(known.dims, full, exact=kind == "output"):
            continue
        settled = _settled(model, known, full, asked) if kind == "output" else known
        if settled is None or _fits(settled.dims, full, exact=kind == "output"):
            continue
        values = {
            "tensor": tensor.name,
            "known_rank": len(settled.dims),
            "known": _shape(settled.dims),
            "rank": len(full),
            "written": _shape(full),
            "mended": _shape(settled.dims[1:] if batching else settled.dims),
        }
        yield Hit(path, values, at=at)


def _settled(model: Model, known: GraphTensor, dims: Sequence[int], asked: _Asked) -> GraphTensor | None:
    """Ask ONNX Runtime, once a file, about inferred dimensions that do not fit; ``None`` when it cannot be asked."""
    if len(known.dims) != len(dims) or all(dims[index] == known.dims[index] for index in known.unsure):
        return known
    for graph in _graphs(model):
        if graph.outputs.get(known.name) is known:
            if not all(model.reaches(path) for path in graph.external_data):
                return None
            if graph.path not in asked:
                optimised = model.config.optimization.graph.level != _UNOPTIMISED
                asked[graph.path] = served_output_dims(graph.path, optimised=optimised)
            found = asked[graph.path].get(known.name)
            return None if found is None else replace(known, dims=found)
    return known


@rule(
    "O21",
    needs="file",
    text="model '{model}', tensor '{tensor}': the model expects {known_rank} dimensions (shape {known}) but the model "
    "configuration specifies {rank} dimensions (an initial batch dimension because max_batch_size > 0 followed by the "
    "explicit tensor shape, making complete shape {written})",
    fix="Write {mended}: the shape without the batch dimension, -1 where the graph has a symbol.",
)
def dims_fit_batching_graph(model: Model) -> Iterator[Hit]:
    """With a batch dimension in front, ``dims`` (or ``reshape``) fit the graph's shape.

    For an input a symbolic dimension of the graph takes any size; for an output -1 must meet -1.
    """
    yield from _shape_conflicts(model, batching=True)


@rule(
    "O22",
    needs="file",
    text="model '{model}', tensor '{tensor}': the model expects {known_rank} dimensions (shape {known}) but the model "
    "configuration specifies {rank} dimensions (shape {written})",
    fix="Write {mended}: the full shape, -1 where the graph has a symbol.",
)
def dims_fit_graph(model: Model) -> Iterator[Hit]:
    """Without batching, ``dims`` (or ``reshape``) are the graph's full shape, compared as in O21."""
    yield from _shape_conflicts(model, batching=False)
