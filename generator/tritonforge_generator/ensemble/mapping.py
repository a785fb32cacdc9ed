"""The maps of steps in full: what was left out is mapped by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tritonforge_generator.ensemble.composing import ComposingModel
from tritonforge_generator.ensemble.edges import Step
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.spec import EnsembleOptions


def mapped_steps(options: EnsembleOptions, models: Mapping[str, ComposingModel]) -> tuple[Step, ...]:
    """Write the maps of all steps in full and check them against the models.

    Args:
        options: What was declared.
        models: The models of the steps, by name.

    Raises:
        ConfigError: A map names a tensor that the model lacks, or lacks one that it needs (rules X5, X7, X8, X10).
    """
    declared = options.steps
    often = Counter(step.model_name for step in declared)
    steps = []
    made = {tensor for index in range(len(declared)) for tensor in _outputs(options, models, index).values()}
    known = {tensor.name for tensor in options.input} | made
    for index, step in enumerate(declared):
        model = models[step.model_name]
        place = f" (step[{index}])" if often[model.name] > 1 else ""
        full = Step(
            model=model,
            label=f"step '{model.name}'{place}",
            model_version=step.model_version,
            input_map=dict(step.input_map)
            if step.input_map is not None
            else {one.name: one.name for one in model.inputs if one.name in known or not one.optional},
            output_map=_outputs(options, models, index),
        )
        _check(options.name, full, index)
        steps.append(full)
    return tuple(steps)


def _outputs(options: EnsembleOptions, models: Mapping[str, ComposingModel], index: int) -> dict[str, str]:
    """The ``output_map`` of a step: as declared, or every output whose name somebody takes."""
    step = options.steps[index]
    if step.output_map is not None:
        return dict(step.output_map)
    wanted = {tensor.name for tensor in options.output}
    for place, other in enumerate(options.steps):
        if other.input_map is not None:
            wanted |= set(other.input_map.values())
        elif place != index:
            wanted |= {tensor.name for tensor in models[other.model_name].inputs}
    return {one.name: one.name for one in models[step.model_name].outputs if one.name in wanted}


def _check(ensemble: str, step: Step, index: int) -> None:
    model, at = step.model, f"ensemble '{ensemble}': ensemble_scheduling.step[{index}]"
    if step.model_version > 0 and step.model_version not in model.versions:  # rule X5
        raise ConfigError(
            f"{at}.model_version is no version that '{model.name}' loads",
            expected=f"one of {', '.join(str(version) for version in model.versions)}, or -1 for the newest",
            got=str(step.model_version),
            action="Its version_policy says which versions are loaded.",
        )
    for key, mapped, tensors in (
        ("input_map", step.input_map, model.inputs),
        ("output_map", step.output_map, model.outputs),
    ):
        names = [tensor.name for tensor in tensors]
        for name in mapped:
            if name not in names:  # rules X7 and X10
                raise ConfigError(
                    f"{at}.{key} names what {step.label} lacks",
                    expected=f"keys of {', '.join(names)}",
                    got=f"'{name}'",
                    action="The key is the model's own name, the value that of the ensemble tensor.",
                )
    for tensor in model.inputs:
        if tensor.name not in step.input_map and not tensor.optional:  # rule X8
            raise ConfigError(
                f"{at}.input_map lacks an input of {step.label}",
                expected=f"an ensemble tensor for '{tensor.name}'",
                got=", ".join(step.input_map) or "nothing",
            )
    if not step.output_map:  # rule E8
        names = [tensor.name for tensor in model.outputs]
        raise ConfigError(
            f"{at} makes nothing that is taken",
            expected=f"an output or a step that takes one of {', '.join(names)}",
            action="Write output_map where the names differ.",
        )
