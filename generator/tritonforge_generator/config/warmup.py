"""``model_warmup``: requests that every instance answers before it takes others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.config.fields import Enum, Field, map_entry, message
from tritonforge_generator.config.files import file_name, tensor_bytes
from tritonforge_generator.config.tensors import client_shape, gathers_elements, server_inputs
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.graph import Graph, GraphTensor
from tritonforge_generator.spec import ModelOptions, WarmupInput, WarmupSample

WARMUP_FOLDER: Final = "warmup"
_ZEROS: Final = WarmupInput()
_REASON: Final = "so that the first real request does not pay for allocation"
_DECLARED: Final = "as declared"


class HasOpt(Protocol):
    """The shapes of one input in a profile."""

    @property
    def opt(self) -> tuple[int, ...]:
        """The shape that tactics were timed with, in full."""
        ...


def warmup_note(options: ModelOptions) -> str:
    """Why nothing warms a model up that nobody spoke of; empty where something does, or where it was turned off."""
    if options.model_warmup is not True:
        return ""
    if options.sequence_batching is not None and options.sequence_batching.state:
        return "nothing warms this model up: a warm-up request has no state"
    if gathers_elements(options):
        return "nothing warms this model up: only its user knows what sizes go together"
    # Nobody knows what zeros do to a Python model: only who asks for them gets them.
    if options.platform == "python" and "model_warmup" not in options.model_fields_set:
        return "nothing warms this model up: model_warmup: true would send zeros"
    return ""


class WarmupFields:
    """Writes ``model_warmup`` of one model.

    Args:
        graph: What the model takes and gives.
        options: What the user declared.
        max_batch_size: As it will be configured.
        sample_shapes: By input, the shape of one sample that is known to run.
        forms: By input, ``dims`` and ``reshape.shape``; inputs that the server fills in requests have none.
        profiles: Optimisation profiles of a plan, each by input.
    """

    def __init__(
        self,
        graph: Graph,
        options: ModelOptions,
        max_batch_size: int,
        sample_shapes: Mapping[str, tuple[int, ...]],
        *,
        forms: Mapping[str, tuple[tuple[int, ...], tuple[int, ...] | None]],
        profiles: Sequence[Mapping[str, HasOpt]] = (),
    ) -> None:
        self._options = options
        self._max_batch_size = max_batch_size
        self._forms = forms
        self._profiles = profiles
        sequence = options.sequence_batching
        # The batcher fills controls in requests, but warm-up goes past it: there they are inputs like any other.
        controls = {one.name for one in sequence.controls.values()} if sequence is not None else set()
        left_out = server_inputs(options) - controls
        self._tensors = {tensor.name: tensor for tensor in graph.inputs if tensor.name not in left_out}
        self.files: dict[str, bytes] = {}
        """Tensors by their place in the model folder; complete once all fields are written."""
        rows = 1 if gathers_elements(options) else 0  # then samples are in full shape, but for what is ragged
        ragged = {one.name for one in options.input or () if one.allow_ragged_batch}
        self._shapes = {
            name: self._client_shape(name, sample_shapes[name][0 if name in ragged else rows :])
            for name in self._tensors
        }

    def fields(self) -> Iterator[Field]:
        """One field a sample.

        Raises:
            ConfigError: A sample does not fit the model.
            SpecError: A file cannot be read.
        """
        declared = self._options.model_warmup
        if isinstance(declared, bool):
            if declared and warmup_note(self._options) == "":
                yield from self._usual()
            return
        for sample in declared:
            yield self._declared_field(sample)

    def _usual(self) -> Iterator[Field]:
        largest = self._max_batch_size
        batch_sizes = {"single": 1, "full": largest} if largest > 1 else {"single": 1}
        written = []
        for label, batch_size in batch_sizes.items():
            written.append((batch_size, self._shapes))
            reason = "the largest batch" if batch_size > 1 else "one row, or one full request"
            yield self._zeros(label, batch_size, self._shapes, reason)
        rows = 1 if largest > 0 else 0
        for number, profile in enumerate(self._profiles if len(self._profiles) > 1 else ()):
            batch_size = min(largest, *(one.opt[0] for one in profile.values())) if rows else 1
            sample = (batch_size, {name: self._client_shape(name, profile[name].opt[rows:]) for name in self._tensors})
            if sample not in written:
                written.append(sample)
                yield self._zeros(f"profile {number}", *sample, f"what profile {number} was timed with")

    def _dims(self, name: str) -> tuple[int, ...]:
        """The input's sizes as clients see them."""
        own = self._tensors[name].dims(batched=self._max_batch_size > 0)
        return self._forms[name][0] if name in self._forms else own or (1,)

    def _client_shape(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        dims = self._dims(name)
        reshape = self._forms[name][1] if name in self._forms else None
        client = client_shape(shape, dims, reshape)
        if any(size not in {-1, given} for size, given in zip(dims, client, strict=True)):
            raise ConfigError(
                f"model '{self._options.name}': dims of '{name}' do not hold the samples that prove the model",
                expected=str(list(dims)),
                got=str(list(client)),
                action="Give samples of this size with verify.shapes or verify.samples.",
            )
        return client

    def _zeros(self, label: str, batch_size: int, shapes: Mapping[str, tuple[int, ...]], reason: str) -> Field:
        inputs = (self._input(tensor, shapes[name], _zero_field()) for name, tensor in self._tensors.items())
        return message(
            "model_warmup",
            Field("name", label, "shown in the server's log"),
            Field("batch_size", batch_size, reason),
            *inputs,
            reason=_REASON,
        )

    def _input(self, tensor: GraphTensor, shape: Sequence[int], content: Field) -> Field:
        return map_entry(
            "inputs",
            tensor.name,
            Field("data_type", Enum(BY_DATATYPE[tensor.datatype].data_type), self._type_reason),
            Field("dims", list(shape), "one sample, every size fixed"),
            content,
            reason="the input",
        )

    @property
    def _type_reason(self) -> str:
        return "as declared" if self._options.platform == "python" else "the graph's type"

    def _declared_field(self, sample: WarmupSample) -> Field:
        what = f"model '{self._options.name}': model_warmup '{sample.name}'"
        most = max(1, self._max_batch_size)
        if sample.batch_size > most:
            raise ConfigError(f"{what}: batch_size", expected=f"at most {most}", got=str(sample.batch_size))
        unknown = sorted(set(sample.inputs) - set(self._tensors))
        if unknown:
            raise ConfigError(
                f"{what} names another input", expected=f"one of {', '.join(self._tensors)}", got=unknown[0]
            )
        inputs = (self._declared_input(tensor, sample, what) for tensor in self._tensors.values())
        return message(
            "model_warmup",
            Field("name", sample.name, "shown in the server's log"),
            Field("batch_size", sample.batch_size, _DECLARED),
            *inputs,
            Field("count", sample.count, "how often it is sent") if sample.count is not None else None,
            reason=_REASON,
        )

    def _declared_input(self, tensor: GraphTensor, sample: WarmupSample, what: str) -> Field:
        declared = sample.inputs.get(tensor.name, _ZEROS)
        shape = self._shapes[tensor.name] if declared.dims is None else declared.dims
        dims = self._dims(tensor.name)
        if len(shape) != len(dims) or any(size not in {-1, given} for size, given in zip(dims, shape, strict=True)):
            raise ConfigError(f"{what}: dims of '{tensor.name}'", expected=str(list(dims)), got=str(list(shape)))
        if declared.input_data_file is not None:
            name = f"{len(self.files)}-" + file_name(tensor.name, len(self.files), ".bin")
            # The server sends batch_size requests of one row, each with the file from its begin (GenerateWarmupData).
            at = f"{what}: one row of '{tensor.name}'"
            data = tensor_bytes(declared.input_data_file, tensor.datatype, shape, at=at)
            self.files[f"{WARMUP_FOLDER}/{name}"] = data
            source = f"from {declared.input_data_file.name}, in {WARMUP_FOLDER}/"
            return self._input(tensor, shape, Field("input_data_file", name, source))
        if declared.random_data:
            return self._input(tensor, shape, Field("random_data", value=True, reason=_DECLARED))
        return self._input(tensor, shape, _zero_field())


def _zero_field() -> Field:
    return Field("zero_data", value=True, reason="zeros are a valid index into any table")
