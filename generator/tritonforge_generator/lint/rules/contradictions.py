"""P3, M10, M13, S24, S27, I15: settings that the files or other settings of the model contradict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import enum_name
from tritonforge_generator.lint.rule import Hit, rule

_STRATEGY: Final = "TRITON_BATCH_STRATEGY_PATH"
_STRATEGY_VALUE: Final = f'parameters["{_STRATEGY}"].value.string_value'


@rule(
    "P3",
    needs="dir",
    text="failed to stat file {path}",
    fix="Remove the link, or put back what it leads to.",
)
def entries_exist(model: Model) -> Iterator[Hit]:
    """No entry of the model's directory is a link that leads nowhere; inside a version directory one does no harm."""
    try:
        entries = sorted(model.directory.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink() and not entry.exists() and model.reaches(entry):
            yield Hit(values={"path": entry}, file=entry)


@rule(
    "M13",
    text="multiple label files for '{output}'",
    fix="Keep one of the two outputs.",
)
def labels_are_given_once(model: Model) -> Iterator[Hit]:
    """Two outputs of the same name do not both have a ``label_filename``."""
    seen: set[str] = set()
    for index, output in enumerate(model.config.output):
        if output.label_filename != "" and output.name in seen:
            yield Hit(f"output[{index}].label_filename", {"output": output.name}, at=(index,))
        if output.label_filename != "":
            seen.add(output.name)


@rule(
    "S27",
    text="TRITON_BATCH_STRATEGY_PATH cannot be specified with sequence batcher, using default batching strategy",
    fix="Remove the parameter. The server does not use the default strategy, whatever it says: it refuses the model.",
)
def sequences_have_no_strategy(model: Model) -> Iterator[Hit]:
    """A sequence model has no batching strategy of its own."""
    if model.config.HasField("sequence_batching") and _STRATEGY in model.config.parameters:
        yield Hit(_STRATEGY_VALUE)


@rule(
    "M10",
    needs="dir",
    text="Batching library path not found: {path}",
    fix="Put the library there, or correct the path, which is an absolute one on the server.",
)
def strategy_exists(model: Model) -> Iterator[Hit]:
    """The library that ``TRITON_BATCH_STRATEGY_PATH`` names exists.

    A relative path would be looked for in the directory that the server happens to be started in. What lies outside of
    the repositories is not looked at.
    """
    parameters = model.config.parameters
    if _STRATEGY not in parameters or model.is_ensemble or model.config.HasField("sequence_batching"):
        return
    path = Path(parameters[_STRATEGY].string_value)
    if not path.is_absolute() or (model.reaches(path) and not path.exists()):
        yield Hit(_STRATEGY_VALUE, {"path": parameters[_STRATEGY].string_value})


@rule(
    "S24",
    severity="warning",
    text="'use_growable_memory' can only work with KIND_GPU model instances right now. Please either change the "
    "instance type to KIND_GPU or set 'use_growable_memory' to false for state input '{state}'.",
    fix="Remove `use_growable_memory`, or write `kind: KIND_GPU`.",
)
def growable_memory_is_on_a_gpu(model: Model) -> Iterator[Hit]:
    """``use_growable_memory`` goes with instances on a GPU.

    The model loads all the same; the server says so to the first request of a sequence.
    """
    kinds = {enum_name(group, "kind") for group in model.config.instance_group}
    for index, state in enumerate(model.config.sequence_batching.state):
        if state.use_growable_memory and state.use_same_buffer_for_input_output and kinds & {"KIND_CPU", "KIND_MODEL"}:
            path = f"sequence_batching.state[{index}].use_growable_memory"
            yield Hit(path, {"state": state.input_name}, at=(index,))


@rule(
    "I15",
    text="'optional' is set to true for input '{tensor}' while the backend model doesn't support optional input",
    fix="Remove `optional: true`: a plan always needs all of its inputs.",
)
def optional_inputs_are_supported(model: Model) -> Iterator[Hit]:
    """The TensorRT back-end has no optional inputs."""
    for index, tensor in enumerate(model.config.input):
        if model.is_tensorrt and tensor.optional:
            yield Hit(f"input[{index}].optional", {"tensor": tensor.name}, at=(index,))
