"""Samples as the steps of one sequence: what the server adds to requests is added here, the same way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_client.core.bytes_codec import strings_from_bytes
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_generator.config.files import tensor_bytes
from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.spec import SequenceBatching, State

SEQUENCE_ID: Final = 7
"""Id of the sequence that samples make, for models that take it as an input."""


def as_sequence(samples: Samples, sequence: SequenceBatching | None, session: OnnxSession, *, batched: bool) -> Samples:
    """Turn samples into the steps of one sequence, for a model of sequences.

    Controls say which step it is. A state is the initial one in the first step, and what the step before gave in each
    other one; a state that grows is left as it was drawn.

    Args:
        samples: The samples, all inputs of the graph.
        sequence: The scheduler; ``None`` leaves the samples as they are.
        session: The graph.
        batched: Whether the first axis is a batch.
    """
    if sequence is None:
        return samples
    arrays = dict(samples.arrays)
    last = samples.count - 1
    for kind, control in sequence.controls.items():
        if control.name not in arrays:
            continue  # the config stage refuses it
        array = np.empty_like(arrays[control.name])
        for step in range(samples.count):
            yes = kind == "READY" or (kind == "START" and step == 0) or (kind == "END" and step == last)
            array[step] = _correlation_id(array) if kind == "CORRID" else control.false_true[int(yes)]
        arrays[control.name] = array
    stepped = replace(samples, arrays=arrays, origin=f"{samples.origin}, as one sequence")
    return _chained(stepped, sequence.state, session, batched=batched) if sequence.state else stepped


def _correlation_id(array: npt.NDArray[Any]) -> Any:
    return str(SEQUENCE_ID).encode() if array.dtype == object else SEQUENCE_ID


def _chained(samples: Samples, states: tuple[State, ...], session: OnnxSession, *, batched: bool) -> Samples:
    """Run the graph step by step, each with the states that the step before gave."""
    datatypes = {tensor.name: tensor.datatype for tensor in session.inputs}
    known = [state for state in states if state.input_name in samples.arrays]
    current = {state.input_name: _initial(state, samples.arrays, datatypes) for state in known}
    steps: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in current}
    for index in range(samples.count):
        for name, value in current.items():
            steps[name].append(value)
        inputs = samples.batch(index, 1) if batched else samples.one(index)
        answer = session.run({**inputs, **{name: value[None] if batched else value for name, value in current.items()}})
        for state in known:
            if state.output_name not in answer:
                continue
            given = answer[state.output_name]
            current[state.input_name] = given[0] if batched else given
    stacked = {name: np.stack(values) for name, values in steps.items() if len({value.shape for value in values}) == 1}
    return replace(samples, arrays={**samples.arrays, **stacked})


def _initial(state: State, drawn: Mapping[str, npt.NDArray[Any]], datatypes: Mapping[str, str]) -> npt.NDArray[Any]:
    """The state before the first step."""
    array = drawn[state.input_name]
    shape = array.shape[1:] if state.initial_state.dims is None else state.initial_state.dims
    path = state.initial_state.data_file
    if path is None:
        return np.full(shape, b"", object) if array.dtype == object else np.zeros(shape, array.dtype)
    at = f"initial_state of '{state.input_name}'"
    data = tensor_bytes(path, datatypes[state.input_name], shape, at=at)
    if array.dtype != object:
        return np.frombuffer(data, array.dtype).reshape(shape)
    try:
        return strings_from_bytes(memoryview(data), math.prod(shape)).reshape(shape)
    except ReplyFormatError as error:
        expected = f"{math.prod(shape)} strings, each behind its length in 4 bytes"
        raise SpecError(f"{at}: {path}", expected=expected, got=str(error)) from error
