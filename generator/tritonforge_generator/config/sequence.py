"""``sequence_batching``: requests of one sequence reach the same instance, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.config.fields import Enum, Field, message
from tritonforge_generator.config.files import file_name, tensor_bytes
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.graph import Graph, GraphTensor
from tritonforge_generator.spec import ControlInput, ModelOptions, SequenceBatching, State
from tritonforge_generator.spec.sequence_options import ControlKind

INITIAL_STATE_FOLDER: Final = "initial_state"
_FLAGS: Final = {"INT32": "int32_false_true", "FP32": "fp32_false_true", "BOOL": "bool_false_true"}
_INT32: Final = (-(2**31), 2**31 - 1)
_CORRELATION_TYPES: Final = ("UINT64", "INT64", "UINT32", "INT32", "BYTES")  # rule S10
_CONTROLS: Final[Mapping[ControlKind, str]] = {
    "START": "whether a request is the first of its sequence",
    "READY": "whether the row holds a request",
    "END": "whether a request is the last of its sequence",
    "CORRID": "which sequence a request belongs to",
}


class SequenceFields:
    """Writes ``sequence_batching`` of one model.

    Args:
        graph: What the model takes and gives.
        options: What the user declared.
        max_batch_size: As it will be configured.
    """

    def __init__(self, graph: Graph, options: ModelOptions, max_batch_size: int) -> None:
        self._inputs = {tensor.name: tensor for tensor in graph.inputs}
        self._outputs = {tensor.name: tensor for tensor in graph.outputs}
        self._options = options
        self._max_batch_size = max_batch_size
        self.files: dict[str, bytes] = {}
        """Initial states by their place in the model folder; complete once the field is written."""

    def field(self) -> Field | None:
        """``sequence_batching``, where declared.

        Raises:
            ConfigError: The graph has no such inputs and outputs.
            SpecError: An initial state cannot be read.
        """
        declared = self._options.sequence_batching
        if declared is None:
            return None
        idle_us = declared.max_sequence_idle_microseconds
        return message(
            "sequence_batching",
            Field("max_sequence_idle_microseconds", idle_us, "a sequence that is silent for so long loses its slot"),
            *(self._control_field(kind, one) for kind, one in declared.controls.items()),
            self._strategy_field(declared),
            *(self._state_field(state, number) for number, state in enumerate(declared.state)),
            _iterative_field(declared.iterative_sequence) if declared.iterative_sequence is not None else None,
            reason="requests of a sequence reach the same instance, in order",
        )

    def _error(self, what: str, expected: str, got: str) -> ConfigError:
        return ConfigError(f"model '{self._options.name}': sequence_batching: {what}", expected=expected, got=got)

    def _known(self, tensors: Mapping[str, GraphTensor], name: str, what: str) -> GraphTensor:
        if name not in tensors:  # rule O11
            raise self._error(f"{what} is not in the graph", f"one of {', '.join(tensors)}", f"'{name}'")
        return tensors[name]

    def _dims(self, tensor: GraphTensor) -> tuple[int, ...]:
        return tensor.dims(batched=self._max_batch_size > 0)

    def _control_field(self, kind: ControlKind, control: ControlInput) -> Field:
        tensor = self._known(self._inputs, control.name, f"the {kind} control")
        if self._dims(tensor) != (1,):  # rules O12 and T42
            batch = "after the batch axis" if self._max_batch_size > 0 else "in full"
            raise self._error(f"the {kind} control '{tensor.name}'", f"shape [1] {batch}", str(list(tensor.shape)))
        allowed = _CORRELATION_TYPES if kind == "CORRID" else tuple(_FLAGS)
        if tensor.datatype not in allowed:  # rules S4, S10 and O13
            raise self._error(f"the {kind} control '{tensor.name}'", f"one of {', '.join(allowed)}", tensor.datatype)
        value = (
            Field("data_type", Enum(BY_DATATYPE[tensor.datatype].data_type), "the input's type")
            if kind == "CORRID"
            else Field(_FLAGS[tensor.datatype], self._flags(kind, control, tensor), "no and yes, in the input's type")
        )
        return message(
            "control_input",
            Field("name", tensor.name, "an input of the model"),
            message("control", Field("kind", Enum(f"CONTROL_SEQUENCE_{kind}"), _CONTROLS[kind]), value),
        )

    def _flags(self, kind: str, control: ControlInput, tensor: GraphTensor) -> list[int] | list[float] | list[bool]:
        no, yes = control.false_true
        if tensor.datatype == "FP32":
            return [no, yes]
        values = [int(no), int(yes)]
        low, high = (0, 1) if tensor.datatype == "BOOL" else _INT32
        if tuple(values) != (no, yes) or not low <= min(values) <= max(values) <= high:
            raise self._error(f"the {kind} control's false_true", f"values of {tensor.datatype}", f"[{no}, {yes}]")
        return [bool(value) for value in values] if tensor.datatype == "BOOL" else values

    def _strategy_field(self, declared: SequenceBatching) -> Field:
        if declared.oldest is None:
            delay = declared.direct.max_queue_delay_microseconds if declared.direct is not None else 0
            share = declared.direct.minimum_slot_utilization if declared.direct is not None else 0.0
            return message(
                "direct",
                Field("max_queue_delay_microseconds", delay, "how long to wait for other slots"),
                Field("minimum_slot_utilization", share, "share of the slots that ends the wait")
                if share > 0
                else None,
                reason="a sequence keeps one slot of one instance",
            )
        oldest = declared.oldest
        above = [size for size in oldest.preferred_batch_size if size > self._max_batch_size]
        if above:  # rule S12
            raise self._error("oldest.preferred_batch_size", f"sizes of at most {self._max_batch_size}", str(above))
        preferred = list(oldest.preferred_batch_size)
        return message(
            "oldest",
            Field("max_candidate_sequences", oldest.max_candidate_sequences, "sequences that each instance keeps"),
            Field("preferred_batch_size", preferred, "sent on at once when reached, as declared")
            if preferred
            else None,
            Field("max_queue_delay_microseconds", oldest.max_queue_delay_microseconds, "how long to wait for others"),
            Field("preserve_ordering", oldest.preserve_ordering, "as declared")
            if oldest.preserve_ordering is not None
            else None,
            reason="steps of several sequences are gathered into batches",
        )

    def _state_field(self, state: State, number: int) -> Field:
        source = self._known(self._inputs, state.input_name, "the state's input")
        result = self._known(self._outputs, state.output_name, "the state's output")
        if source.datatype != result.datatype:
            raise self._error(f"the state '{source.name}'", f"{source.datatype}, as it is taken", result.datatype)
        own, given = self._dims(source), self._dims(result)
        if not own and self._max_batch_size > 0:  # with empty dims the server makes an initial state of 0 bytes
            raise self._error(f"the state '{source.name}'", "an axis beside the batch", str(list(source.shape)))
        if len(own) != len(given) or any(-1 != size != made != -1 for size, made in zip(own, given, strict=True)):
            raise self._error(f"the state '{source.name}'", f"{list(own)}, as it is taken", f"{list(given)}")
        data_type = BY_DATATYPE[source.datatype].data_type
        if state.data_type not in {None, data_type}:
            raise self._error(f"the state '{source.name}'", data_type, str(state.data_type))
        dims = own if state.dims is None else state.dims
        if len(dims) != len(own) or any(size not in {-1, wanted} for size, wanted in zip(own, dims, strict=True)):
            raise self._error(f"dims of the state '{source.name}'", f"the graph's {list(own)}", f"{list(dims)}")
        in_place, grows = state.use_same_buffer_for_input_output, state.use_growable_memory
        return message(
            "state",
            Field("input_name", source.name, "the graph's input"),
            Field("output_name", result.name, "the output that becomes it in the next step"),
            Field("data_type", Enum(data_type), "the graph's type"),
            Field("dims", list(dims or (1,)), "the graph's shape" if state.dims is None else "as declared"),
            self._initial_field(state, source, dims or (1,), number),
            Field("use_same_buffer_for_input_output", in_place, "as declared") if in_place is not None else None,
            Field("use_growable_memory", grows, "as declared") if grows is not None else None,
        )

    def _initial_field(self, state: State, tensor: GraphTensor, dims: tuple[int, ...], number: int) -> Field:
        initial = state.initial_state
        sizes = dims if initial.dims is None else initial.dims
        if -1 in sizes or len(sizes) != len(dims):  # rules S18 and S19
            raise self._error(
                f"initial_state of '{tensor.name}'", f"dims with every size of {list(dims)} fixed", f"{list(sizes)}"
            )
        if any(wanted not in {-1, size} for wanted, size in zip(dims, sizes, strict=True)):  # rule S20
            raise self._error(f"initial_state of '{tensor.name}'", f"dims within {list(dims)}", f"{list(sizes)}")
        content = Field("zero_data", value=True, reason="a sequence starts with zeros")
        if initial.data_file is not None:
            at = f"model '{self._options.name}': initial_state of '{tensor.name}'"
            name = file_name(tensor.name, number, ".bin")
            data = tensor_bytes(initial.data_file, tensor.datatype, sizes, at=at)
            self.files[f"{INITIAL_STATE_FOLDER}/{name}"] = data
            content = Field("data_file", name, f"from {initial.data_file.name}, in {INITIAL_STATE_FOLDER}/")
        return message(
            "initial_state",
            Field("name", initial.name if initial.name is not None else tensor.name, "shown in messages"),
            Field("data_type", Enum(BY_DATATYPE[tensor.datatype].data_type), "the state's type"),
            Field("dims", list(sizes), "every size fixed"),
            content,
        )


def _iterative_field(iterative: bool) -> Field:
    reason = "the backend sends a request back until it is done" if iterative else "a request is one step"
    return Field("iterative_sequence", iterative, reason)
