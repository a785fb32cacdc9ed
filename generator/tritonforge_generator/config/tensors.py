"""``input`` and ``output``: the graph's tensors as clients see them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.config.fields import Enum, Field, message
from tritonforge_generator.config.files import file_name, label_lines
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.graph import Graph, GraphTensor
from tritonforge_generator.spec import InputOptions, ModelOptions, OutputOptions

Declared = InputOptions | OutputOptions


def server_inputs(options: ModelOptions) -> frozenset[str]:
    """The graph's inputs that requests do not carry, because the server fills them."""
    sequence = options.sequence_batching
    targets = frozenset(name for one in options.batch_input or () for name in one.target_name)
    return targets | (sequence.server_inputs if sequence is not None else frozenset())


def server_outputs(options: ModelOptions) -> frozenset[str]:
    """The graph's outputs that replies do not carry, because the server keeps them."""
    return options.sequence_batching.server_outputs if options.sequence_batching is not None else frozenset()


def gathers_elements(options: ModelOptions) -> bool:
    """Whether requests of several sizes share a batch, so that rows of the graph are not requests.

    Never of a Python model, which gets each request by itself.
    """
    if options.platform == "python":
        return False
    ragged = any(one.allow_ragged_batch for one in options.input or ())
    return ragged or options.batch_input is not None or options.batch_output is not None


def client_shape(shape: Sequence[int], dims: Sequence[int], reshape: Sequence[int] | None) -> tuple[int, ...]:
    """The shape that a client sends or gets where the graph has another.

    Args:
        shape: A shape of the graph's tensor, every size known, without the batch axis where Triton adds one.
        dims: ``dims`` of the configuration.
        reshape: ``reshape.shape`` of the configuration; ``None`` without one.
    """
    if reshape is None:
        return tuple(shape) if len(shape) == len(dims) else tuple(dims)  # a scalar is [ 1 ] without batches
    varying = iter([size for size, declared in zip(shape, reshape, strict=True) if declared == -1])
    return tuple(next(varying) if size == -1 else size for size in dims)


class TensorFields:
    """Writes the tensors of one model.

    Args:
        graph: What the model takes and gives.
        options: What the user declared.
        max_batch_size: As it will be configured.
    """

    def __init__(self, graph: Graph, options: ModelOptions, max_batch_size: int) -> None:
        self._graph = graph
        self._options = options
        self._batched = max_batch_size > 0
        self._origin = "as declared" if options.platform == "python" else "the graph's type"
        self.files: dict[str, bytes] = {}
        """Label files by their place in the model folder; complete once all fields are written."""
        self.forms: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]] = {}
        """By input: ``dims`` and ``reshape.shape``; complete once all fields are written."""

    def fields(self) -> Iterator[Field]:
        """``input``, ``output``, ``batch_input`` and ``batch_output``.

        Raises:
            ConfigError: The options name tensors that the graph lacks, or contradict it.
            SpecError: A label file cannot be read.
        """
        graph, options = self._graph, self._options
        self._refuse_unknown("input", [one.name for one in options.input or ()], graph.inputs, server_inputs(options))
        self._refuse_unknown(
            "output", [one.name for one in options.output or ()], graph.outputs, server_outputs(options)
        )
        self._refuse_unknown("labels", list(options.labels or {}), graph.outputs, server_outputs(options))
        by_input = {one.name: one for one in options.input or ()}
        by_output = {one.name: one for one in options.output or ()}
        for tensor in graph.inputs:
            if tensor.name not in server_inputs(options):
                yield self._tensor_field("input", tensor, by_input.get(tensor.name))
        for tensor in graph.outputs:
            if tensor.name not in server_outputs(options):
                yield self._tensor_field("output", tensor, by_output.get(tensor.name))
        yield from self._batch_fields()

    def _refuse_unknown(
        self, key: str, names: Sequence[str], known: Sequence[GraphTensor], left_out: Collection[str]
    ) -> None:
        # A Python model's controls are declared like any input; a graph's are known.
        hidden = left_out if self._options.platform != "python" else ()
        allowed = [tensor.name for tensor in known if tensor.name not in hidden]
        unknown = [name for name in names if name not in allowed]
        if unknown:  # rules I13 and I14
            raise self._error(
                f"{key} names a tensor that clients do not see", f"one of {', '.join(allowed)}", unknown[0]
            )

    def _error(self, what: str, expected: str, got: str, action: str = "") -> ConfigError:
        return ConfigError(f"model '{self._options.name}': {what}", expected=expected, got=got, action=action)

    def _tensor_field(self, kind: str, tensor: GraphTensor, declared: Declared | None) -> Field:
        data_type = BY_DATATYPE[tensor.datatype].data_type
        if declared is not None and declared.data_type not in {None, data_type}:  # rules O16 and O17
            raise self._error(f"{kind} '{tensor.name}' has another data_type", data_type, str(declared.data_type))
        of_graph = self._options.platform != "python"  # a Python model gets each request by itself, whatever its shape
        if of_graph and isinstance(declared, InputOptions) and declared.allow_ragged_batch:
            shape_fields = [self._ragged_dims(tensor, declared)]
        else:
            shape_fields = self._shape_fields(kind, tensor, declared)
        if kind == "input":
            self.forms[tensor.name] = _form(shape_fields)
        more = self._input_fields(declared, shape_fields[0]) if isinstance(declared, InputOptions) else []
        if kind == "output":
            more = self._label_fields(tensor)
        return message(
            kind,
            Field("name", tensor.name, "the graph's name" if self._options.platform != "python" else "as declared"),
            Field("data_type", Enum(data_type), self._origin),
            *(one for one in more if one.name == "format"),
            *shape_fields,
            *(one for one in more if one.name != "format"),
        )

    # ---- shapes ----

    def _shape_fields(self, kind: str, tensor: GraphTensor, declared: Declared | None) -> list[Field]:
        """``dims``, and ``reshape`` where clients see another shape than the graph."""
        own = tensor.dims(batched=self._batched)
        if declared is not None and declared.dims is not None:
            return self._declared_shape(kind, tensor.name, own, declared.dims, declared)
        without = f" without its batch axis {_axis_name(tensor)}" if self._batched else ""
        reason = f"the graph's shape {_shape_text(tensor)}{without}"
        if not tensor.shape:
            reason = "a scalar in the graph; Triton writes it as one element"
        # ModelInput.dims may not be empty: Triton's idiom for one value a row is [ 1 ] reshaped to nothing. Without
        # batching the backend itself takes [ 1 ] for a scalar (rule O19).
        fields = [Field("dims", list(own or (1,)), reason)]
        if not own and self._batched:
            fields.append(message("reshape", Field("shape", [], "the graph has no axis but the batch")))
        return fields

    def _declared_shape(
        self, kind: str, name: str, own: tuple[int, ...], dims: tuple[int, ...], declared: Declared
    ) -> list[Field]:
        what = f"{kind} '{name}'"
        field = Field("dims", list(dims), "as declared")
        open_sizes = (-1,) if kind == "input" else ()  # rules O21 and O22: an output's sizes must be equal
        same = len(own) == len(dims) and all(
            size == wanted or size in open_sizes for size, wanted in zip(own, dims, strict=True)
        )
        if declared.reshape is None and (same or (not own and not self._batched and dims == (1,))):
            return [field]
        shape = declared.reshape.shape if declared.reshape is not None else own
        if shape != own:
            raise self._error(f"{what} is reshaped to another shape than the graph's", str(list(own)), str(list(shape)))
        if not shape and not self._batched:  # rule I4
            raise self._error(f"{what} is a scalar without batches", "dims [1]", str(list(dims)))
        if dims.count(-1) != shape.count(-1) or _runs(dims) != _runs(shape):  # rules I7 and I8
            raise self._error(
                f"{what}: dims hold other elements than the graph's shape",
                f"as many elements as {list(shape)}, between the sizes that vary too",
                str(list(dims)),
            )
        return [field, message("reshape", Field("shape", list(shape), "the model's shape, of the same elements"))]

    def _ragged_dims(self, tensor: GraphTensor, declared: InputOptions) -> Field:
        if not self._batched or len(tensor.shape) != 1 or isinstance(tensor.shape[0], int):  # rules O18 and T40
            raise self._error(
                f"input '{tensor.name}' cannot be ragged",
                "a graph input of one axis that varies, and max_batch_size above 0",
                f"{_shape_text(tensor)}, max_batch_size {'above 0' if self._batched else '0'}",
            )
        if declared.dims is None:
            return Field("dims", [-1], "any number of elements a request")
        if len(declared.dims) != 1 or declared.reshape is not None:
            raise self._error(
                f"input '{tensor.name}' is ragged, so each request is a list of elements",
                "dims of one size, [-1] for any, and no reshape",
                str(list(declared.dims)),
            )
        return Field("dims", list(declared.dims), "as declared")

    # ---- what else a tensor says ----

    def _input_fields(self, declared: InputOptions, dims: Field) -> list[Field]:
        fields = []
        if declared.format is not None:
            if declared.format != "FORMAT_NONE" and len(dims.numbers) != 3:  # rule I9
                raise self._error(f"input '{declared.name}' has a format", "three dims", dims.text)
            fields.append(Field("format", Enum(declared.format), "what the axes mean; nothing is transposed"))
        if declared.allow_ragged_batch is not None:
            is_python = self._options.platform == "python"
            several = "requests of several sizes" if is_python else "elements of several requests follow each other"
            reason = several if declared.allow_ragged_batch else "one size a batch"
            fields.append(Field("allow_ragged_batch", declared.allow_ragged_batch, reason))
        if declared.optional is not None:
            reason = "requests may leave it out" if declared.optional else "every request has it"
            fields.append(Field("optional", declared.optional, reason))
        return fields

    def _label_fields(self, tensor: GraphTensor) -> list[Field]:
        given = (self._options.labels or {}).get(tensor.name)
        if given is None:
            return []
        at = f"model '{self._options.name}': labels of '{tensor.name}'"
        lines = label_lines(given, at=at)
        dims = tensor.dims(batched=self._batched)
        if -1 not in dims and len(lines) != math.prod(dims):
            raise ConfigError(at, expected=f"{math.prod(dims)}, one for each element", got=f"{len(lines)}")
        name = file_name(tensor.name, len(self.files), "_labels.txt")
        self.files[name] = "".join(f"{line}\n" for line in lines).encode()
        return [Field("label_filename", name, f"{len(lines)} names, for clients that ask for the largest elements")]

    # ---- what the server fills and cuts ----

    def _batch_fields(self) -> Iterator[Field]:
        graph, options = self._graph, self._options
        sources = [tensor.name for tensor in graph.inputs if tensor.name not in server_inputs(options)]
        targets = {tensor.name: tensor for tensor in graph.inputs}
        results = [tensor.name for tensor in graph.outputs if tensor.name not in server_outputs(options)]
        for one in options.batch_input or ():
            self._refuse_other("batch_input.target_name", one.target_name, list(targets))
            self._refuse_other("batch_input.source_input", one.source_input, sources)  # rule B3
            types = {BY_DATATYPE[targets[name].datatype].data_type for name in one.target_name}
            if (
                not types <= {"TYPE_INT32", "TYPE_FP32"} or len(types) > 1 or one.data_type not in {None, *types}
            ):  # rule B2
                raise self._error(
                    f"batch_input '{one.target_name[0]}' has another type",
                    "TYPE_INT32 or TYPE_FP32, as in the graph",
                    ", ".join(sorted(types)),
                )
            yield message(
                "batch_input",
                Field("kind", Enum(one.kind), "what is counted"),
                Field("target_name", list(one.target_name), "the graph's inputs that get it"),
                Field("data_type", Enum(types.pop()), self._origin),
                Field("source_input", list(one.source_input), "whose elements are counted"),
            )
        for cut in options.batch_output or ():
            self._refuse_other("batch_output.target_name", cut.target_name, results)  # rule B5
            self._refuse_other("batch_output.source_input", cut.source_input, sources)
            yield message(
                "batch_output",
                Field("target_name", list(cut.target_name), "cut into the replies"),
                Field("kind", Enum(cut.kind), "each reply gets as much as its request's input holds"),
                Field("source_input", list(cut.source_input), "whose shape decides"),
            )

    def _refuse_other(self, key: str, names: Sequence[str], known: Sequence[str]) -> None:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise self._error(f"{key} names another tensor", f"one of {', '.join(known)}", unknown[0])


def _form(shape_fields: Sequence[Field]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    dims = shape_fields[0].numbers
    return dims, (shape_fields[1].fields[0].numbers if len(shape_fields) > 1 else None)


def _runs(sizes: Sequence[int]) -> list[int]:
    """Number of elements of each run of fixed sizes, between those that vary."""
    runs = [1]
    for size in sizes:
        if size == -1:
            runs.append(1)
        else:
            runs[-1] *= size
    return runs


def _axis_name(tensor: GraphTensor) -> str:
    return f"'{tensor.shape[0]}'" if isinstance(tensor.shape[0], str) else "(unnamed)"


def _shape_text(tensor: GraphTensor) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in tensor.shape) + "]"
