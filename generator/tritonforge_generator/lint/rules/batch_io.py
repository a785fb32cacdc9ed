"""B: extra tensors that the server fills per batch (``batch_input``, ``batch_output``)."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import enum_name
from tritonforge_generator.lint.rule import Hit, rule


@rule(
    "B1",
    text="batch input kind '{kind}' expects 1 source input, got {count} for {model}",
    fix="Name exactly one input in `source_input`.",
)
def batch_input_has_one_source(model: Model) -> Iterator[Hit]:
    """A ``batch_input`` is computed from exactly one input."""
    for index, entry in enumerate(model.config.batch_input):
        if len(entry.source_input) != 1:
            values = {"kind": enum_name(entry, "kind"), "count": len(entry.source_input)}
            yield Hit(f"batch_input[{index}].source_input", values, at=(0, index))


@rule(
    "B2",
    text="batch input data type must be TYPE_INT32 or TYPE_FP32 for {model}",
    fix="Write TYPE_INT32 or TYPE_FP32.",
)
def batch_input_type_is_allowed(model: Model) -> Iterator[Hit]:
    """A ``batch_input`` has data type INT32 or FP32."""
    for index, entry in enumerate(model.config.batch_input):
        if enum_name(entry, "data_type") not in {"TYPE_INT32", "TYPE_FP32"}:
            yield Hit(f"batch_input[{index}].data_type", at=(0, index))


@rule(
    "B3",
    text="unknown source input name '{source}' for {model}",
    fix="Name one of the model's inputs: {known}.",
)
def batch_source_is_an_input(model: Model) -> Iterator[Hit]:
    """Every ``source_input`` is one of the model's inputs."""
    served = model.served
    if served is None:
        return
    known = [tensor.name for tensor in served.input]
    for order, entries in enumerate((model.config.batch_input, model.config.batch_output)):
        for index, entry in enumerate(entries):
            for number, source in enumerate(entry.source_input):
                if source not in known:
                    values = {"source": source, "known": ", ".join(known) or "it has none"}
                    field = f"{('batch_input', 'batch_output')[order]}[{index}].source_input[{number}]"
                    yield Hit(field, values, at=(order, index))


@rule(
    "B4",
    text="batch output kind '{kind}' expects 1 source input, got {count} for {model}",
    fix="Name exactly one input in `source_input`.",
)
def batch_output_has_one_source(model: Model) -> Iterator[Hit]:
    """A ``batch_output`` takes its shape from exactly one input."""
    for index, entry in enumerate(model.config.batch_output):
        if len(entry.source_input) != 1:
            values = {"kind": enum_name(entry, "kind"), "count": len(entry.source_input)}
            yield Hit(f"batch_output[{index}].source_input", values, at=(1, index))


@rule(
    "B5",
    text="unknown target output name '{target}' for {model}",
    fix="Name one of the model's outputs: {known}.",
)
def batch_target_is_an_output(model: Model) -> Iterator[Hit]:
    """Every ``target_name`` of a ``batch_output`` is one of the model's outputs."""
    served = model.served
    if served is None:
        return
    known = [tensor.name for tensor in served.output]
    for index, entry in enumerate(model.config.batch_output):
        for number, target in enumerate(entry.target_name):
            if target not in known:
                values = {"target": target, "known": ", ".join(known) or "it has none"}
                yield Hit(f"batch_output[{index}].target_name[{number}]", values, at=(1, index, number))


@rule(
    "B6",
    text="target output name '{target}' can only be specified once for {model}",
    fix="Keep it once.",
)
def batch_target_is_unique(model: Model) -> Iterator[Hit]:
    """A ``batch_output`` names each of its targets once."""
    for index, entry in enumerate(model.config.batch_output):
        for number, target in enumerate(entry.target_name):
            if target in entry.target_name[:number]:
                field = f"batch_output[{index}].target_name[{number}]"
                yield Hit(field, {"target": target}, at=(1, index, number))
