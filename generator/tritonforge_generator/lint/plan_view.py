"""How instances of the TensorRT back-end meet a plan: which profiles they use, and which tensors they bind in turn.

Source: ``InitOptimizationProfiles`` and ``InitIOBindingBuffers`` in the back-end's ``instance_state.cc``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tritonforge_generator.lint.controls import controls
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.plan_completion import completed_by_tensorrt, profile_index, shape_of
from tritonforge_generator.lint.plan_io import PlanIo, PlanTensor
from tritonforge_generator.lint.proto import Message, ModelConfig, enum_name

Role = Literal["tensor", "control", "batch", "state"]
Place = tuple[int, int]
"""Where the back-end meets a tensor: the stage, and the place within it."""

SHAPE_INPUTS: Final = 0
_INPUTS: Final = 1
_CONTROLS: Final = 2
_BATCH_INPUTS: Final = 3
_STATE_INPUTS: Final = 4
INPUTS_DONE: Final = 5
BATCH_OUTPUTS: Final = 6
SHAPE_OUTPUTS: Final = 7
_OUTPUTS: Final = 8
_STATE_OUTPUTS: Final = 9
ALL_DONE: Final = 10


@dataclass(frozen=True, slots=True)
class View:
    """A version's plan and the config that it is compared with.

    Attributes:
        plan: The plan.
        served: The config as the back-end has completed it.
    """

    plan: PlanIo
    served: ModelConfig


def views(model: Model) -> Iterator[View]:
    """Yield the plan of every version that something is known of."""
    for plan in known_plans(model):
        served = completed_by_tensorrt(model.config, plan) if model.completes_plan else model.config
        if served is not None:
            yield View(plan, served)


def known_plans(model: Model) -> Iterator[PlanIo]:
    """Yield the plan of every version that something is known of, completed or not."""
    for plan in model.plans.values():
        if isinstance(plan, PlanIo):
            yield plan


@dataclass(frozen=True, slots=True)
class Group:
    """An instance group of the TensorRT back-end.

    Attributes:
        index: Its index.
        path: Path of it in the config.
        instance: Name of its first instance.
        kind: Its kind, ``"KIND_AUTO"`` when the server chooses.
        profiles: Names and indices of the profiles that it uses, in the back-end's order.
        secondary_devices: See the config.
    """

    index: int
    path: str
    instance: str
    kind: str
    profiles: tuple[tuple[str, int], ...]
    secondary_devices: tuple[Message, ...] = ()


def groups(model: Model) -> Iterator[Group]:
    """Yield the instance groups; without any, the server makes one."""
    if len(model.config.instance_group) == 0:
        yield Group(0, "instance_group", f"{model.config.name}_0", "KIND_AUTO", (("default", 0),))
    for index, group in enumerate(model.config.instance_group):
        profiles = [(profile, profile_index(profile)) for profile in sorted(set(group.profile))]
        yield Group(
            index,
            f"instance_group[{index}]",
            f"{group.name}_0",
            enum_name(group, "kind"),
            tuple((name, number) for name, number in profiles if number is not None) or (("default", 0),),
            tuple(group.secondary_devices),
        )


def instance_name(model: Model) -> str:
    """Return the name of the model's first instance."""
    return next(groups(model)).instance


@dataclass(frozen=True, slots=True)
class Binding:
    """One tensor that an instance binds to memory.

    Attributes:
        at: When it does so.
        path: Path of what asks for it in the config.
        name: Name of the tensor.
        is_input: Whether it is to be an input.
        role: What asks for it.
        data_type: What the config says of its type.
        dims: What the config says of its shape, without the batch dimension.
        is_ragged: Whether the rows of a batch lie end to end, or are scattered from there.
        is_reshaped: Whether ``reshape`` says that shape, and not ``dims``.
    """

    at: Place
    path: str
    name: str
    is_input: bool
    role: Role
    data_type: str
    dims: tuple[int, ...] = ()
    is_ragged: bool = False
    is_reshaped: bool = False

    @property
    def type_path(self) -> str:
        """Path of the field that says its type."""
        return f"{self.path.rpartition('.')[0] if self.role == 'batch' else self.path}.data_type"

    @property
    def dims_path(self) -> str:
        """Path of the field that says its shape; that of a control is always one element."""
        if self.role == "control":
            return self.path
        return f"{self.path}.{'reshape' if self.is_reshaped else 'dims'}"


def bindings(config: ModelConfig) -> Iterator[Binding]:
    """Yield the tensors that an instance binds, in its order; those flagged as shape tensors among them."""
    for index, tensor in enumerate(config.input):
        yield _tensor("input", _INPUTS, index, tensor, is_ragged=tensor.allow_ragged_batch)
    for control in controls(config):
        at = (_CONTROLS, control.order)
        yield Binding(at, control.path, control.tensor, True, "control", control.data_type, (1,))
    number = 0
    for index, entry in enumerate(config.batch_input):
        for target, name in enumerate(entry.target_name):
            path = f"batch_input[{index}].target_name[{target}]"
            yield Binding((_BATCH_INPUTS, number), path, name, True, "batch", enum_name(entry, "data_type"))
            number += 1
    yield from _states(config, is_input=True)
    scattered = {name for entry in config.batch_output for name in entry.target_name}
    for index, tensor in enumerate(config.output):
        stage = SHAPE_OUTPUTS if tensor.is_shape_tensor else _OUTPUTS
        yield _tensor("output", stage, index, tensor, is_ragged=tensor.name in scattered)
    yield from _states(config, is_input=False)


def _tensor(kind: str, stage: int, index: int, tensor: Message, *, is_ragged: bool) -> Binding:
    return Binding(
        at=(stage, index),
        path=f"{kind}[{index}]",
        name=tensor.name,
        is_input=kind == "input",
        role="tensor",
        data_type=enum_name(tensor, "data_type"),
        dims=shape_of(tensor),
        is_ragged=is_ragged,
        is_reshaped=tensor.HasField("reshape"),
    )


def _states(config: ModelConfig, *, is_input: bool) -> Iterator[Binding]:
    stage, field = (_STATE_INPUTS, "input_name") if is_input else (_STATE_OUTPUTS, "output_name")
    for index, state in enumerate(config.sequence_batching.state):
        path = f"sequence_batching.state[{index}]"
        name, data_type = getattr(state, field), enum_name(state, "data_type")
        yield Binding((stage, index), path, name, is_input, "state", data_type, tuple(state.dims))


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding and the tensor of the plan that has its name.

    Attributes:
        binding: What the config asks for.
        known: The plan's tensor; its direction may be the wrong one.
        view: Where both come from.
    """

    binding: Binding
    known: PlanTensor
    view: View


def bound(model: Model) -> Iterator[Bound]:
    """Yield what the back-end compares element by element: execution tensors, each the first time that it is bound."""
    for view in views(model):
        seen: set[tuple[str, bool]] = set()
        for binding in bindings(view.served):
            known, key = view.plan.find(binding.name), (binding.name, binding.is_input)
            if known is not None and not known.is_shape_tensor and key not in seen:
                yield Bound(binding, known, view)
            seen.add(key)


def shown(dims: tuple[int, ...]) -> str:
    """Write a shape as the server does."""
    return f"[{','.join(str(size) for size in dims)}]"
