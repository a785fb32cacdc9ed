"""What a fake model answers: arrays that follow its spec, or an error that says why they do not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.call import Call
from tritonforge_client.core.check import check_reply, tensors_from_inputs
from tritonforge_client.core.request import InferReply, InferRequest, InputTensor, RequestedOutput
from tritonforge_client.core.tensor import array_from_raw
from tritonforge_client.errors import Drift, InvalidInput, SpecDrift, Unimplemented
from tritonforge_client.spec import ModelSpec, TensorSpec

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays by tensor name, in full shape."""

Answer: TypeAlias = Callable[[Arrays], Arrays | Iterable[Arrays]] | Arrays | Sequence[Arrays]
"""A function from inputs to outputs, or recorded outputs; of a decoupled model to several outputs, one an answer."""

ANY_SIZE: Final = 1
"""Size of a dimension that the spec leaves open (-1), where nobody gives the arrays."""


def check_answer(spec: ModelSpec, answer: Answer | None) -> None:
    """Refuse recorded outputs of the wrong kind.

    Raises:
        InvalidInput: One answer for a decoupled model, or several for another one.
    """
    if answer is None or callable(answer) or isinstance(answer, Mapping) != spec.decoupled:
        return
    expected = "a list of answers, as the model is decoupled" if spec.decoupled else "one mapping of outputs"
    got = type(answer).__name__
    text = f"answer: expected a function or {expected}, got {got}"
    raise InvalidInput(text, field="answer", expected=expected, got=got, model=spec.name)


def answers_of(spec: ModelSpec, answer: Answer | None, inputs: Arrays, call: Call) -> Iterable[Any]:
    """Return what the model answers to one request, not checked yet: one answer, or any number if it is decoupled.

    Args:
        spec: What the model takes and gives.
        answer: What it was told to answer; ``None`` for zeros.
        inputs: The request's arrays.
        call: The call, for errors.

    Raises:
        SpecDrift: The function of a decoupled model gives something else than several answers.
    """
    rows = rows_of(spec, inputs)
    if answer is None:
        return [{tensor.name: _zeros(spec, tensor, rows) for tensor in spec.outputs}]
    if not callable(answer):
        recorded = [answer] if isinstance(answer, Mapping) else answer
        return [_repeated(spec, one, rows) for one in recorded]
    given = answer(inputs)
    if not spec.decoupled:
        return [given]
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise _drift([_answer_drift("several answers, as the model is decoupled", given)], call)
    return given


def version_of(spec: ModelSpec) -> str:
    """Return the version that answers: the spec's own, else the first."""
    return spec.version or "1"


def reply_from_answer(spec: ModelSpec, answer: Any, request: InferRequest, rows: int, call: Call) -> InferReply:
    """Return the reply that carries an answer, as a server would send it.

    Args:
        spec: What the model gives.
        answer: The outputs by name.
        request: Says which outputs are wanted.
        rows: Batch of the request.
        call: The call, for errors.

    Returns:
        Read-only copies of the wanted outputs.

    Raises:
        SpecDrift: The answer does not follow the spec.
        Unimplemented: An output is wanted in a shared-memory region.
    """
    if not isinstance(answer, Mapping):
        raise _drift([_answer_drift("a mapping of outputs", answer)], call)
    known = [tensor.name for tensor in spec.outputs]
    unknown = [_unknown_drift(name, answer[name]) for name in answer if name not in known]
    if len(unknown) > 0:
        raise _drift(unknown, call)
    try:
        arrays = arrays_from_tensors(tensors_from_inputs(answer, call))
        reply = InferReply(model=spec.name, version=version_of(spec), request_id=request.request_id, outputs=arrays)
        check_reply(spec, reply, (), call)
    except SpecDrift as error:
        raise _drift(error.drifts, call) from error
    except InvalidInput as error:
        raise _drift([_output_drift(error)], call) from error
    if spec.max_batch_size > 0 and not spec.decoupled:
        _check_rows(arrays, rows, call)
    wanted = request.outputs or tuple(map(RequestedOutput, known))
    outputs = {one.name: _as_requested(spec, one, arrays[one.name], call) for one in wanted}
    return dataclasses.replace(reply, outputs=outputs)


def arrays_from_tensors(tensors: Iterable[InputTensor]) -> dict[str, NDArray[Any]]:
    """Return read-only copies of tensors as arrays, as a server gets them: BYTES are object arrays of ``bytes``."""
    return {
        tensor.name: array_from_raw(tensor.name, tensor.datatype, tensor.shape, memoryview(tensor.data.tobytes()))
        for tensor in tensors
    }


def rows_of(spec: ModelSpec, inputs: Arrays) -> int:
    """Return the batch of a request; 1 where there is none."""
    if spec.max_batch_size == 0 or len(inputs) == 0:
        return 1
    return int(next(iter(inputs.values())).shape[0])


def no_shared_memory(call: Call) -> Unimplemented:
    """The error of a request whose tensors lie in a shared-memory region."""
    return Unimplemented("a fake server has no shared memory; send the arrays themselves", **call.error_context())


def _zeros(spec: ModelSpec, tensor: TensorSpec, rows: int) -> NDArray[Any]:
    dims = tuple(ANY_SIZE if size < 0 else size for size in tensor.dims)
    shape = (rows, *dims) if spec.max_batch_size > 0 else dims
    return np.full(shape, b"" if tensor.datatype == "BYTES" else 0, dtype=tensor.type.dtype)


def _repeated(spec: ModelSpec, recorded: Arrays, rows: int) -> Arrays:
    """A recorded row stands for every row of a request."""
    if spec.max_batch_size == 0:
        return recorded
    return {
        name: np.repeat(array, rows, axis=0) if array.ndim > 0 and array.shape[0] == 1 else array
        for name, array in recorded.items()
    }


def _check_rows(arrays: Arrays, rows: int, call: Call) -> None:
    drifts = [
        Drift(field=f"output {name}", expected=f"the {rows} rows of the request", got=str(array.shape[0]))
        for name, array in arrays.items()
        if array.shape[0] != rows
    ]
    if len(drifts) > 0:
        raise _drift(drifts, call)


def _as_requested(spec: ModelSpec, wanted: RequestedOutput, array: NDArray[Any], call: Call) -> NDArray[Any]:
    if wanted.region is not None:
        raise no_shared_memory(call)
    return array if wanted.class_count == 0 else _classes(spec, array, wanted.class_count)


def _classes(spec: ModelSpec, array: NDArray[Any], count: int) -> NDArray[Any]:
    """The classification extension, without labels: texts ``value:index`` of each row's largest values."""
    heads = array.shape[:1] if spec.max_batch_size > 0 else ()
    values = array.astype(np.float64).reshape(*heads, math.prod(array.shape[len(heads) :]))
    indices = np.argsort(-values, axis=-1, kind="stable")[..., :count]
    texts = np.empty(indices.shape, dtype=np.object_)
    for place in np.ndindex(indices.shape):
        index = int(indices[place])
        texts[place] = f"{values[(*place[:-1], index)]:f}:{index}".encode()
    return texts


def _answer_drift(expected: str, answer: object) -> Drift:
    return Drift(field="", expected=expected, got=type(answer).__name__)


def _unknown_drift(name: str, value: object) -> Drift:
    got, sentence = type(value).__name__, f"the spec has no output {name}"
    return Drift(field=f"output {name}", expected="nothing", got=got, sentence=sentence)


def _output_drift(error: InvalidInput) -> Drift:
    """An output that no tensor can carry; the error speaks of it as an input."""
    sentence = error.text.replace("input ", "output ", 1)
    return Drift(field=f"output {error.field}", expected=error.expected, got=error.got, sentence=sentence)


def _drift(drifts: Sequence[Drift], call: Call) -> SpecDrift:
    sentences = "; ".join(map(str, drifts))
    text = f"the fake's answer does not follow the spec: {sentences}. Mend the answer that was given to add()"
    return SpecDrift(text, drifts=tuple(drifts), **call.error_context())
