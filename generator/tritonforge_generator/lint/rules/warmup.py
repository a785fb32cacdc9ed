"""W: warm-up samples."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule

# Back-ends that are known to refuse more requests at once than a batch may have.
_COUNT_BATCHES: Final = frozenset({"onnxruntime", "openvino", "python", "pytorch", "tensorflow", "tensorrt"})


def _samples(model: Model) -> Iterator[tuple[int, Message]]:
    """Yield ``(index, sample)`` of what instances are warmed up with; passive ones are not."""
    groups = model.config.instance_group
    if not model.is_ensemble and not (len(groups) > 0 and all(group.passive for group in groups)):
        yield from enumerate(model.config.model_warmup)


def _inputs(model: Model) -> Iterator[tuple[int, str, str, Message]]:
    """Yield ``(sample, path, input name, input)`` of the samples that the server runs."""
    for index, sample in _samples(model):
        for name in sorted(sample.inputs) if sample.batch_size > 0 else ():
            yield index, f'model_warmup[{index}].inputs["{name}"].value', name, sample.inputs[name]


@rule(
    "W1",
    text="warmup setting expects all variable-size dimensions are specified for input '{input}'",
    fix="Write sizes for this sample's `dims`: a tensor that is sent has no -1.",
)
def warmup_dims_are_fixed(model: Model) -> Iterator[Hit]:
    """A warm-up input's ``dims`` have no -1."""
    for index, path, name, sample in _inputs(model):
        if -1 in sample.dims:
            yield Hit(f"{path}.dims", {"input": name}, at=(index, 0))


def data_file_problem(path: Path, tensor: Message, prefix: str, name: str, *, end: str = "") -> str:
    """Say what is wrong with a file that should hold a tensor; an empty string when nothing is.

    Args:
        path: The file.
        tensor: Message with ``data_type`` and ``dims``.
        prefix: Begin of the server's text for a file that is too short.
        name: The file's name as written.
        end: End of that text.
    """
    if not path.is_file():
        reason = os.strerror(errno.EISDIR if path.is_dir() else errno.ENOENT)
        return f"failed to open text file for read {path}: {reason}"
    from tritonforge_client.datatypes import BY_DATA_TYPE  # brings the client and numpy

    known = BY_DATA_TYPE.get(enum_name(tensor, "data_type"))
    if known is None or known.itemsize_bytes is None or any(size < 0 for size in tensor.dims):
        return ""
    expected, size = math.prod(tensor.dims) * known.itemsize_bytes, path.stat().st_size
    if expected <= size:
        return ""
    return f"{prefix} {expected} bytes, but the data provided from {name}only has {size} bytes{end}"


@rule(
    "W2",
    needs="dir",
    text="{problem}",
    fix="Put a file with the whole tensor of one batch item, raw and little-endian, into warmup/.",
)
def warmup_file_is_long_enough(model: Model) -> Iterator[Hit]:
    """``input_data_file`` exists in ``warmup/`` and holds at least one batch item of the tensor."""
    for index, path, _, sample in _inputs(model):
        if sample.WhichOneof("input_data_type") == "input_data_file":
            file = model.directory / "warmup" / sample.input_data_file.lstrip("/")
            if not model.reaches(file):
                continue
            problem = data_file_problem(file, sample, "warmup setting expects", sample.input_data_file)
            if problem != "":
                yield Hit(f"{path}.input_data_file", {"problem": problem}, at=(index, 1))


@rule(
    "W3",
    text="warmup setting expects input '{input}' to have input_data_type set",
    fix="Write `zero_data: true`, `random_data: true` or `input_data_file`.",
)
def warmup_input_has_data(model: Model) -> Iterator[Hit]:
    """A warm-up input says where its data comes from."""
    for index, path, name, sample in _inputs(model):
        if sample.WhichOneof("input_data_type") is None:
            yield Hit(path, {"input": name}, at=(index, 1))


@rule(
    "W5",
    severity="warning",
    text="Skipping batch 0 warmup sample '{sample}'",
    fix="Write a `batch_size` of at least 1; 1 for a model that does not batch.",
)
def warmup_sample_has_a_batch(model: Model) -> Iterator[Hit]:
    """A warm-up sample of batch size 0 is skipped without a word."""
    for index, sample in _samples(model):
        if sample.batch_size == 0:
            yield Hit(f"model_warmup[{index}]", {"sample": sample.name}, at=(index, 0))


@rule(
    "W4",
    text="failed to run warmup sample '{sample}': batch size {size} for '{instance}', max allowed is {most}",
    fix="Write a `batch_size` of at most {most}; 1 for a model that does not batch.",
)
def warmup_batch_is_allowed(model: Model) -> Iterator[Hit]:
    """A warm-up sample is no larger than a batch may be, which is 1 where ``max_batch_size`` is 0.

    Whether it succeeds otherwise is known when it was run.
    """
    served = model.served
    if served is None or served.backend not in _COUNT_BATCHES:
        return
    most = served.max_batch_size
    # Of several instances, the server names the last.
    group = next((group for group in reversed(served.instance_group) if not group.passive), None)
    instance = f"{model.config.name}_0" if group is None else f"{group.name}_{max(group.count, 1) - 1}"
    for index, sample in _samples(model):
        if sample.batch_size > max(most, 1):
            values = {"sample": sample.name, "size": sample.batch_size, "instance": instance, "most": most}
            yield Hit(f"model_warmup[{index}].batch_size", values, at=(index,))
