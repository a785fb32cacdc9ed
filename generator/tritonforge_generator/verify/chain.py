"""The reference of an ensemble: its steps one after another, each by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge_generator.config.tensors import client_shape
from tritonforge_generator.ensemble import ComposingModel, Ensemble, ensemble_from_options, options_from_config
from tritonforge_generator.ensemble.composing import ModelTensor
from tritonforge_generator.errors import GraphError
from tritonforge_generator.graph import GraphTensor, OnnxSession
from tritonforge_generator.graph.session import Arrays, Session
from tritonforge_generator.spec import VerifyOptions

_ROWS = 4
"""Rows of a drawn sample where an ensemble without batches feeds a step that has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """What answers in place of a plan, which needs a GPU.

    Attributes:
        path: The ONNX file that the plan was built from.
        version: The version of the plan.
        max_relative_error: How far the plan may be from it.
    """

    path: Path
    version: int
    max_relative_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The steps of an ensemble in an order in which they can run.

    Attributes:
        path: What messages call it.
        ensemble: The ensemble.
        sessions: One for each step.
        inputs: What a request gives, as samples are drawn for it.
    """

    path: str
    ensemble: Ensemble
    sessions: tuple[Session, ...]
    inputs: tuple[GraphTensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", inputs_of(self.ensemble))

    def run(self, inputs: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Run every step once.

        Args:
            inputs: One array for each input of the ensemble, as requests have it.

        Returns:
            The ensemble's outputs by name.

        Raises:
            GraphError: A step refuses what the steps before it made; the message names the step.
        """
        tensors = dict(inputs)
        for index in self.ensemble.order:
            step = self.ensemble.steps[index]
            given = {name: tensors[tensor] for name, tensor in step.input_map.items() if tensor in tensors}
            try:
                made = self.sessions[index].run(given)
            except GraphError as error:
                raise GraphError(f"{self.path} does not run", got=f"of {step.label}: {error.got}") from error
            tensors.update({tensor: made[name] for name, tensor in step.output_map.items()})
        return {tensor.name: tensors[tensor.name] for tensor in self.ensemble.outputs}


def inputs_of(ensemble: Ensemble) -> tuple[GraphTensor, ...]:
    """The inputs of an ensemble as samples are drawn for them.

    Where the ensemble takes no batches but a step does, the first axis of its requests is that step's batch, and no
    longer than it allows.
    """
    limits = [step.model.max_batch_size for step in ensemble.steps if step.model.max_batch_size > 0]
    rows = min(*limits, _ROWS) if limits and ensemble.max_batch_size == 0 else None

    def shape(tensor: ModelTensor) -> tuple[int | str | None, ...]:
        sizes = tuple(size if size >= 0 else None for size in tensor.shape)
        return (rows, *sizes[1:]) if rows is not None and sizes[0] is None else sizes

    return tuple(GraphTensor(name=one.name, datatype=one.datatype, shape=shape(one)) for one in ensemble.inputs)


def objection_to_chain(
    ensemble: Ensemble, models: Mapping[str, ComposingModel], stand_ins: Mapping[str, StandIn] | None = None
) -> str:
    """Say why the steps of an ensemble cannot be run by ONNX Runtime; an empty string when they can.

    Args:
        ensemble: The ensemble.
        models: All models that it is made of, by name.
        stand_ins: What answers in place of plans, by model.
    """
    given = stand_ins or {}
    objections = (_objection(step.label, step.model, step.model_version, models, given) for step in ensemble.steps)
    return next(filter(None, objections), "")


def _objection(
    label: str,
    model: ComposingModel,
    model_version: int,
    models: Mapping[str, ComposingModel],
    stand_ins: Mapping[str, StandIn],
) -> str:
    config = model.config
    if model.is_decoupled:
        return f"{label} is decoupled: it may give any number of replies"
    if config.HasField("sequence_batching"):
        return f"{label} keeps state between requests"
    if len(config.batch_input) > 0 or len(config.batch_output) > 0:
        return f"{label} has tensors that the server fills from the batch"
    if model.is_ensemble:
        inner = (
            _objection(
                f"step '{step.model_name}' inside {label}",
                models[step.model_name],
                step.model_version,
                models,
                stand_ins,
            )
            for step in config.ensemble_scheduling.step
        )
        return next(filter(None, inner), "")
    if model.files or _stand_in(model, model_version, stand_ins) is not None:
        return ""
    what = str(config.backend or config.platform)
    return f"{label} is served by the backend '{what}', which ONNX Runtime cannot stand in for"


def _stand_in(model: ComposingModel, model_version: int, stand_ins: Mapping[str, StandIn]) -> StandIn | None:
    """What answers in place of the version that a step gets."""
    found = stand_ins.get(model.name)
    return found if found is not None and found.version == model.version_of(model_version) else None


def chain_from_ensemble(
    ensemble: Ensemble, models: Mapping[str, ComposingModel], stand_ins: Mapping[str, StandIn] | None = None
) -> Chain:
    """Load the models of every step; see ``objection_to_chain``.

    Args:
        ensemble: The ensemble.
        models: All models that it is made of, by name.
        stand_ins: What answers in place of plans, by model.

    Raises:
        GraphError: ONNX Runtime cannot load one.
    """
    sessions = (_session(step.model, step.model_version, models, stand_ins or {}) for step in ensemble.steps)
    return Chain(path=f"ensemble '{ensemble.name}'", ensemble=ensemble, sessions=tuple(sessions))


def _session(
    model: ComposingModel, model_version: int, models: Mapping[str, ComposingModel], stand_ins: Mapping[str, StandIn]
) -> Session:
    if model.is_ensemble:
        inner = ensemble_from_options(options_from_config(model.config, VerifyOptions()), models)
        return chain_from_ensemble(inner, models, stand_ins)
    stand_in = _stand_in(model, model_version, stand_ins)
    path = stand_in.path if stand_in is not None else model.files[model.version_of(model_version)]
    return _ServedShapes(model, OnnxSession(path))


@dataclass(frozen=True, slots=True)
class _ServedShapes:
    """A graph that takes and gives the shapes of its config, as the backend does.

    Attributes:
        model: The model.
        session: Its graph.
    """

    model: ComposingModel
    session: OnnxSession

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once on arrays as requests have them."""
        scalars = {tensor.name for tensor in self.session.inputs if not tensor.shape}
        given = {
            tensor.name: _in_graph(tensor, inputs[tensor.name], scalar=tensor.name in scalars)
            for tensor in self.model.inputs
            if tensor.name in inputs
        }
        answers = self.session.run(given)
        return {tensor.name: _in_reply(tensor, answers[tensor.name]) for tensor in self.model.outputs}


def _in_graph(tensor: ModelTensor, array: npt.NDArray[Any], *, scalar: bool) -> npt.NDArray[Any]:
    if tensor.reshape is not None:
        return np.reshape(array, client_shape(array.shape, tensor.reshape, tensor.shape))
    return np.reshape(array, ()) if scalar else array  # a scalar is one element for Triton (rule O19)


def _in_reply(tensor: ModelTensor, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if tensor.reshape is not None:
        return np.reshape(array, client_shape(array.shape, tensor.shape, tensor.reshape))
    return np.reshape(array, (1,)) if array.ndim == 0 else array
