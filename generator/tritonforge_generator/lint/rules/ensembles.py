"""E: an ensemble's config on its own (``ValidateEnsembleSchedulingConfig``), and C13."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message
from tritonforge_generator.lint.rule import Hit, rule


@dataclass(slots=True)
class _Tensor:
    """An ensemble tensor: a node of the data flow."""

    name: str
    ready: bool = False
    sources: list[_Tensor] = field(default_factory=list)
    targets: list[_Tensor] = field(default_factory=list)


def _steps(model: Model) -> list[Message]:
    return list(model.config.ensemble_scheduling.step)


def _is_scheduled(model: Model) -> bool:
    return bool(model.config.HasField("ensemble_scheduling"))


def _flow(model: Model) -> dict[str, _Tensor] | None:
    """Build the data flow and mark what the inputs make ready; ``None`` when the steps are not complete."""
    tensors: dict[str, _Tensor] = {}
    for step in _steps(model):
        if step.model_name == "" or len(step.input_map) == 0 or len(step.output_map) == 0:
            return None
        made = [tensors.setdefault(name, _Tensor(name)) for name in step.output_map.values()]
        for name in step.input_map.values():
            taken = tensors.setdefault(name, _Tensor(name))
            taken.targets += made
            for tensor in made:
                tensor.sources.append(taken)
    given = [tensor.name for tensor in model.config.input if tensor.name in tensors]
    queue = deque(tensors[name] for name in given)
    for tensor in queue:
        tensor.ready = True
    while queue:
        for target in queue.popleft().targets:
            if not target.ready and all(source.ready for source in target.sources):
                target.ready = True
                queue.append(target)
    return tensors


@rule(
    "E1",
    text="ensemble scheduling cannot be set for model '{model}' whose platform is not ensemble",
    fix='Write `platform: "ensemble"` and no backend, or remove `ensemble_scheduling`.',
)
def ensemble_has_its_platform(model: Model) -> Iterator[Hit]:
    """``ensemble_scheduling`` goes with ``platform: "ensemble"``."""
    if _is_scheduled(model) and model.config.platform != "ensemble":
        yield Hit("ensemble_scheduling")


@rule(
    "E2",
    text="instance group should not be specified for ensemble '{model}'",
    fix="Remove `instance_group`: the composing models have instances, the ensemble has none.",
)
def ensemble_has_no_instances(model: Model) -> Iterator[Hit]:
    """An ensemble has no ``instance_group``."""
    if _is_scheduled(model) and len(model.config.instance_group) > 0:
        yield Hit("instance_group")


@rule(
    "E3",
    text="optimization should not be specified for ensemble '{model}'",
    fix="Remove `optimization`; it belongs to the composing models.",
)
def ensemble_is_not_optimised(model: Model) -> Iterator[Hit]:
    """An ensemble has no ``optimization``."""
    if _is_scheduled(model) and model.config.HasField("optimization"):
        yield Hit("optimization")


@rule(
    "E4",
    text="model_warmup can not be specified for ensemble '{model}'",
    fix="Move `model_warmup` to the composing models.",
)
def ensemble_is_not_warmed_up(model: Model) -> Iterator[Hit]:
    """An ensemble has no ``model_warmup``."""
    if _is_scheduled(model) and len(model.config.model_warmup) > 0:
        yield Hit("model_warmup")


@rule("E5", text="must specify 'step' for ensemble '{model}'", fix="Add a `step` for every composing model.")
def ensemble_has_steps(model: Model) -> Iterator[Hit]:
    """An ensemble has at least one step."""
    if _is_scheduled(model) and not _steps(model):
        yield Hit("ensemble_scheduling")


@rule("E6", text="must specify 'model_name' in step {step} of ensemble '{model}'", fix="Name the step's model.")
def step_names_a_model(model: Model) -> Iterator[Hit]:
    """Every step names a model."""
    for index, step in enumerate(_steps(model)):
        if step.model_name == "":
            yield Hit(f"ensemble_scheduling.step[{index}]", {"step": index}, at=(index,))


@rule(
    "E7",
    text="must specify 'input_map' in step {step} of ensemble '{model}'",
    fix="Map every input of the step's model to an ensemble tensor.",
)
def step_has_inputs(model: Model) -> Iterator[Hit]:
    """Every step has an ``input_map``."""
    for index, step in enumerate(_steps(model)):
        if len(step.input_map) == 0:
            yield Hit(f"ensemble_scheduling.step[{index}]", {"step": index}, at=(index,))


@rule(
    "E8",
    text="must specify 'output_map' in step {step} of ensemble '{model}'",
    fix="Map the outputs that are used to ensemble tensors.",
)
def step_has_outputs(model: Model) -> Iterator[Hit]:
    """Every step has an ``output_map``."""
    for index, step in enumerate(_steps(model)):
        if len(step.output_map) == 0:
            yield Hit(f"ensemble_scheduling.step[{index}]", {"step": index}, at=(index,))


@rule(
    "E9",
    text="ensemble tensor '{tensor}' can appear in an output map only once for ensemble '{model}' step {step}",
    fix="Give each output its own ensemble tensor.",
)
def tensor_is_made_once(model: Model) -> Iterator[Hit]:
    """An ensemble tensor is written by one step only."""
    made: set[str] = set()
    for index, step in enumerate(_steps(model)):
        for name in sorted(step.output_map):
            tensor = step.output_map[name]
            if tensor in made:
                field_path = f'ensemble_scheduling.step[{index}].output_map["{name}"].value'
                yield Hit(field_path, {"tensor": tensor, "step": index}, at=(index,))
            made.add(tensor)


@rule(
    "E10",
    text="ensemble input '{input}' for ensemble {model}' is not used",
    fix="Map it in a step's `input_map` (the value is the ensemble tensor), or remove the input.",
)
def input_is_used(model: Model) -> Iterator[Hit]:
    """Every input of the ensemble feeds a step."""
    tensors = _flow(model) if _steps(model) else None
    for index, tensor in enumerate(model.config.input if tensors is not None else ()):
        if tensors is not None and tensor.name not in tensors:
            yield Hit(f"input[{index}].name", {"input": tensor.name}, at=(index,))


@rule(
    "E11",
    text="ensemble output '{output}' for ensemble {model}' is not used",
    fix="Map it in a step's `output_map` (the value is the ensemble tensor), or remove the output.",
)
def output_is_a_tensor(model: Model) -> Iterator[Hit]:
    """Every output of the ensemble is one of its tensors."""
    tensors = _flow(model) if _steps(model) else None
    for index, tensor in enumerate(model.config.output if tensors is not None else ()):
        if tensors is not None and tensor.name not in tensors:
            yield Hit(f"output[{index}].name", {"output": tensor.name}, at=(index,))


def _unwritten(model: Model) -> Iterator[tuple[int, _Tensor, _Tensor]]:
    """Yield ``(index, output, the tensor on its way that is not ready)``, the output itself when there is none."""
    tensors = _flow(model) if _steps(model) else None
    for index, output in enumerate(model.config.output if tensors is not None else ()):
        tensor = None if tensors is None else tensors.get(output.name)
        if tensor is None or tensor.ready:
            continue
        last = tensor
        seen: set[str] = set()
        while True:
            blocked = next((s for s in last.sources if not s.ready and s.name not in seen), None)
            if blocked is None:
                break
            seen.add(blocked.name)
            last = blocked
        yield index, tensor, last


@rule(
    "E12",
    text="output '{output}' for ensemble '{model}' is not written",
    fix="Write it in a step's `output_map`.",
)
def output_is_written(model: Model) -> Iterator[Hit]:
    """Every output of the ensemble can be reached from its inputs."""
    for index, tensor, blocked in _unwritten(model):
        if blocked.name == tensor.name:
            yield Hit(f"output[{index}].name", {"output": tensor.name}, at=(index,))


@rule(
    "E13",
    text="output '{output}' for ensemble '{model}' is not written: at least one of its depending tensors, "
    "'{tensor}', is not connected",
    fix="Make '{tensor}' an input of the ensemble, or write it in a step's `output_map`.",
)
def output_is_connected(model: Model) -> Iterator[Hit]:
    """Every tensor on the way to an output is an input of the ensemble or is made by a step."""
    for index, tensor, blocked in _unwritten(model):
        if blocked.name != tensor.name:
            yield Hit(f"output[{index}].name", {"output": tensor.name, "tensor": blocked.name}, at=(index,))


@rule(
    "E14",
    text="ensemble tensor '{tensor}' is unused in ensemble '{model}'",
    fix="Remove it from the maps (an `output_map` may be partial), or make it an output of the ensemble.",
)
def tensor_is_used(model: Model) -> Iterator[Hit]:
    """Every ensemble tensor is made and taken; which of several the server names is not fixed."""
    tensors = _flow(model) if _steps(model) else None
    if tensors is None or any(True for _ in _unwritten(model)):
        return
    outputs = {output.name for output in model.config.output}
    for name, tensor in tensors.items():
        if name not in outputs and (not tensor.ready or not tensor.targets):
            yield Hit(_map_entry(model, name), {"tensor": name})


def _map_entry(model: Model, tensor: str) -> str:
    """Path of a map entry that names an ensemble tensor."""
    for index, step in enumerate(_steps(model)):
        for kind in ("output_map", "input_map"):
            mapping = getattr(step, kind)
            for name in sorted(mapping):
                if mapping[name] == tensor:
                    return f'ensemble_scheduling.step[{index}].{kind}["{name}"].value'
    return "ensemble_scheduling"


@rule(
    "C13",
    text="ensemble scheduling must be set for ensemble {model} whose platform is ensemble",
    fix="Add `ensemble_scheduling` with the steps.",
)
def ensemble_is_scheduled(model: Model) -> Iterator[Hit]:
    """``platform: "ensemble"`` goes with ``ensemble_scheduling``."""
    if model.config.platform == "ensemble" and not _is_scheduled(model):
        yield Hit("platform")
