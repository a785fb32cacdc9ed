"""X14: which steps of an ensemble may follow a decoupled model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.rule import Hit, rule
from tritonforge_generator.lint.rules.dependencies import steps_of

# Stands for the ensemble's outputs together, which leave it as one response.
_SINK: Final = -1
_DEEPEST: Final = 30


def _steps(model: Model, seen: frozenset[str]) -> Mapping[int, bool] | None:
    """Say of every step whether it is decoupled; ``None`` when one of them is not known."""
    found: dict[int, bool] = {}
    for index, step, composing in steps_of(model):
        if composing is None or composing.is_outside or composing.served is None:
            return None
        if step.model_name in seen or len(seen) > _DEEPEST:
            return None
        if composing.is_ensemble:
            origins = _origins(composing, seen | {step.model_name})
            if origins is None:
                return None
            found[index] = any(origin != 0 for _, origin in origins)
        else:
            found[index] = bool(composing.served.model_transaction_policy.decoupled)
    return found if len(found) == len(model.config.ensemble_scheduling.step) else None


def _origins(model: Model, seen: frozenset[str]) -> list[tuple[int, int]] | None:
    """Number the flows of responses through an ensemble.

    Returns:
        ``(step, flow)`` in the order in which data reaches the steps. Flow 0 is that of the request; a decoupled step
        begins a new one; -1 stands for a step whose inputs belong to several. ``None`` when a step is not known.
    """
    decoupled = _steps(model, seen)
    if decoupled is None:
        return None
    steps = model.config.ensemble_scheduling.step
    flows = {tensor.name: 0 for tensor in model.config.input}
    waiting = deque(range(len(steps)))
    found: list[tuple[int, int]] = []
    idle = 0
    while waiting and idle < len(waiting):
        index = waiting.popleft()
        inputs = set(steps[index].input_map.values())
        if not inputs <= set(flows):
            waiting.append(index)
            idle += 1
            continue
        idle = 0
        incoming = {flows[tensor] for tensor in inputs}
        if len(incoming) > 1:
            return [*found, (index, -1)]
        flow = index + 1 if decoupled[index] else next(iter(incoming), 0)
        found.append((index, flow))
        flows.update(dict.fromkeys(steps[index].output_map.values(), flow))
    outgoing = {flows[tensor.name] for tensor in model.config.output if tensor.name in flows}
    return [*found, (_SINK, -1)] if len(outgoing) > 1 else found


@rule(
    "X14",
    needs="repo",
    text="in ensemble {model}, step of model '{owner}' receives inputs originated from different decoupled models",
    fix="Let everything that meets in {place} come from the same decoupled step, or from none: responses of a "
    "decoupled model cannot be put together with anything else.",
)
def decoupled_flows_do_not_meet(model: Model) -> Iterator[Hit]:
    """What a step takes comes from the same decoupled step before it; the same holds for the ensemble's outputs.

    A decoupled model answers a request any number of times, so nothing else has a partner for each answer: neither a
    tensor of another decoupled step nor one of the request itself.
    """
    origins = _origins(model, frozenset({model.name})) if model.config.HasField("ensemble_scheduling") else None
    if not origins or origins[-1][1] != -1:
        return
    index = origins[-1][0]
    if index == _SINK:
        yield Hit("output", {"owner": model.config.name, "place": "the ensemble's outputs"})
        return
    steps = model.config.ensemble_scheduling.step
    owner = _owner(model, sorted(steps[index].output_map.values())[0])
    values = {"owner": owner, "place": f"step {index} ('{steps[index].model_name}')"}
    yield Hit(f"ensemble_scheduling.step[{index}].input_map", values)


def _owner(model: Model, tensor: str) -> str:
    """Name the model that the server takes a tensor for: the ensemble, or the first step that mentions it."""
    if any(known.name == tensor for known in (*model.config.input, *model.config.output)):
        return str(model.config.name)
    steps = model.config.ensemble_scheduling.step
    return next(str(s.model_name) for s in steps if tensor in {*s.input_map.values(), *s.output_map.values()})


def ensemble_is_decoupled(model: Model) -> bool:
    """Whether an ensemble answers a request any number of times, which the server derives from its steps.

    Args:
        model: An ensemble; ``False`` when the models of its steps are not known.
    """
    origins = _origins(model, frozenset({model.name}))
    return origins is not None and any(flow != 0 for _, flow in origins)
