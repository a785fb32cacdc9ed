"""The text of a typed module."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Final

from tritonforge_client.codegen.naming import attributes_from_tensors, class_name_from_model
from tritonforge_client.core.config import digest_from_spec
from tritonforge_client.errors import CodegenError
from tritonforge_client.extras import require_extra
from tritonforge_client.spec import ModelSpec, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One tensor in one place of the module."""

    tensor: TensorSpec
    attribute: str
    annotation: str
    shape: str

    @property
    def comment(self) -> str:
        """What a reader needs where the Python name is not the tensor's."""
        return "" if self.attribute == self.tensor.name else f"  # tensor {_literal(self.tensor.name)}"

    @property
    def note(self) -> str:
        """The same in a docstring."""
        return "" if self.attribute == self.tensor.name else f" Tensor ``{_prose(self.tensor.name)}``."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """One way to call the model."""

    name: str
    summary: str
    inputs: list[_Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What differs between the class for ``Client`` and its twin for ``AsyncClient``."""

    prefix: str
    words: str
    define: str
    wait: str
    iterator: str
    each: str
    context: str


_BLOCKING: Final = _Way(prefix="", words="", define="def", wait="", iterator="Iterator", each="", context="")
_ASYNCHRONOUS: Final = _Way(
    prefix="Async",
    words=", for asyncio",
    define="async def",
    wait="await ",
    iterator="AsyncIterator",
    each="async ",
    context="a",
)


def module_from_spec(spec: ModelSpec) -> str:
    """Return the source of a typed module for one model.

    Args:
        spec: What the model takes and gives.

    Returns:
        Python source; the same spec always gives the same text.

    Raises:
        CodegenError: The model is decoupled and scheduled by sequence.
        MissingExtraError: Jinja2 is not installed.
    """
    _check_callable(spec)
    batch = (f"batch<={spec.max_batch_size}",) if spec.max_batch_size > 0 else ()
    methods = [] if spec.decoupled or spec.sequence else _methods(spec, batch)
    stream_inputs = _inputs(spec, batch) if spec.decoupled else []
    sequence_inputs = _inputs(spec, batch, reserved=("end",)) if spec.sequence else []
    outputs = _outputs(spec, batch)
    inputs = [field for method in methods for field in method.inputs]
    annotations = " ".join(field.annotation for field in (*inputs, *stream_inputs, *sequence_inputs, *outputs))
    return _rendered(
        spec=spec,
        digest=digest_from_spec(spec),
        class_name=class_name_from_model(spec.name),
        blocking=_BLOCKING,
        asynchronous=_ASYNCHRONOUS,
        methods=methods,
        stream_inputs=stream_inputs,
        sequence_inputs=sequence_inputs,
        outputs=outputs,
        collections=_collections(spec, annotations),
        imports=_imports(spec),
        uses_numpy="np." in annotations,
    )


def _methods(spec: ModelSpec, batch: tuple[str, ...]) -> list[_Method]:
    methods = [_Method(name="infer", summary="Run a batch." if batch else "Run it.", inputs=_inputs(spec, batch))]
    if batch:
        summary = "Run one row: arrays without the batch dimension, in and out."
        methods.append(_Method(name="infer_one", summary=summary, inputs=_inputs(spec, ())))
    return methods


def _collections(spec: ModelSpec, annotations: str) -> list[str]:
    used = ["Mapping", *(["Sequence"] if "Sequence" in annotations else [])]
    return sorted([*used, "AsyncIterator", "Iterator"] if spec.decoupled else used)


def _imports(spec: ModelSpec) -> list[str]:
    names = ["AsyncClient", "Client", "ModelSpec", "Options", "TensorSpec"]
    if spec.sequence:
        names += ["AsyncModelSequence", "ModelSequence"]
    elif not spec.decoupled:
        names += ["Prepared", "RawReply"]
    return sorted(names)


def _rendered(**values: object) -> str:
    jinja2 = require_extra("jinja2", "generator")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["literal"] = _literal
    environment.filters["prose"] = _prose
    template = resources.files("tritonforge_client.codegen") / "templates" / "module.py.j2"
    text: str = environment.from_string(template.read_text(encoding="utf-8")).render(**values)
    return text


def _inputs(spec: ModelSpec, batch: tuple[str, ...], *, reserved: tuple[str, ...] = ()) -> list[_Field]:
    names = (tensor.name for tensor in spec.inputs)
    attributes = attributes_from_tensors(names, reserved=("self", "options", *reserved))
    # A required keyword may follow an optional one, but reads better before it.
    tensors = sorted(spec.inputs, key=lambda tensor: tensor.optional)
    return [_field(tensor, attributes[tensor.name], batch, accepts_sequences=True) for tensor in tensors]


def _outputs(spec: ModelSpec, batch: tuple[str, ...]) -> list[_Field]:
    attributes = attributes_from_tensors(tensor.name for tensor in spec.outputs)
    return [_field(tensor, attributes[tensor.name], batch, accepts_sequences=False) for tensor in spec.outputs]


def _field(tensor: TensorSpec, attribute: str, batch: tuple[str, ...], *, accepts_sequences: bool) -> _Field:
    dims = [*batch, *("?" if size < 0 else str(size) for size in tensor.dims)]
    return _Field(
        tensor=tensor,
        attribute=attribute,
        annotation=_annotation(tensor, len(dims), accepts_sequences=accepts_sequences),
        shape=f"({dims[0]},)" if len(dims) == 1 else f"({', '.join(dims)})",
    )


def _annotation(tensor: TensorSpec, rank: int, *, accepts_sequences: bool) -> str:
    if tensor.datatype == "BF16":
        return "NDArray[Any]"  # numpy itself has no such type
    if tensor.datatype != "BYTES":
        name = tensor.type.numpy_name
        return f"NDArray[np.{'bool_' if name == 'bool' else name}]"
    if not accepts_sequences or rank == 0:
        return "NDArray[np.object_]"
    return f"NDArray[np.object_] | {'Sequence[' * rank}bytes | str{']' * rank}"


def _check_callable(spec: ModelSpec) -> None:
    if spec.decoupled and spec.sequence:
        raise CodegenError(
            f"model {spec.name}: expected a model that is decoupled or scheduled by sequence_batching, got one that is"
            " both; name the models to generate for and leave it out"
        )


def _literal(value: object) -> str:
    """Write a constant as ruff formats it: strings in double quotes where that needs no escapes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and '"' not in value else repr(value)


def _prose(name: str) -> str:
    """Write a name inside a docstring."""
    return name.replace("\\", "\\\\").replace('"', '\\"')
