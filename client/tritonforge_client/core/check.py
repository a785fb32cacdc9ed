"""Requests are checked against the model's spec before anything is sent.

The rules are those of the server (``InferenceRequest::Normalize``, core, infer_request.cc), found here without a round
trip and said with the caller's own arrays in view. Values are never cast: a wrong dtype is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tritonforge_client.core.bytes_codec import bytes_from_strings
from tritonforge_client.core.call import Call
from tritonforge_client.core.cuda import CudaError
from tritonforge_client.core.dlpack import gpu_of
from tritonforge_client.core.request import InferReply, Inputs, InputTensor, SupportsDLPack
from tritonforge_client.cuda_memory import GpuArray, gpu_array_from_tensor
from tritonforge_client.cuda_python import cuda_runtime
from tritonforge_client.datatypes import BY_DATATYPE, datatype_from_dtype
from tritonforge_client.errors import Drift, InvalidInput, SpecDrift
from tritonforge_client.extras import MissingExtraError
from tritonforge_client.spec import ModelSpec, TensorSpec


def tensors_from_inputs(inputs: Inputs, call: Call) -> tuple[InputTensor, ...]:
    """Turn arrays into tensors by their own dtypes, without a spec.

    Args:
        inputs: Arrays by tensor name, in full shape.
        call: The call, for errors.

    Returns:
        One tensor for each input, in the given order.

    Raises:
        InvalidInput: Triton cannot carry the value.
    """
    arrays = {name: array_from_value(name, value, call) for name, value in inputs.items() if value is not None}
    return tuple(_tensor(name, array, _datatype(name, array, call), call) for name, array in arrays.items())


def check_way(spec: ModelSpec, way: Literal["single", "sequence", "stream"], call: Call) -> None:
    """Refuse to call a model in a way that it does not answer.

    Args:
        spec: What the model is.
        way: A request by itself, a step of a sequence, or a request that is answered by a stream.
        call: The call, for errors.

    Raises:
        InvalidInput: The model wants another way. (A decoupled model answers unary requests with an error, a sequence
            model those without a sequence id.)
    """
    if way == "single" and not spec.decoupled and not spec.sequence:
        return
    wanted: Literal["single", "sequence", "stream"] = (
        "stream" if spec.decoupled else "sequence" if spec.sequence else "single"
    )
    # Any model may be asked by a stream: one that is not decoupled answers once.
    if way not in {wanted, "stream"}:
        kinds = {
            "single": ("a model without sequence_batching", "infer()"),
            "sequence": ("a model that is scheduled by sequence_batching", "sequence()"),
            "stream": ("a decoupled model", "stream()"),
        }
        got, method = kinds[wanted]
        expected = kinds[way][0]
        text = f"expected {expected}, got {got}; use {method}"
        raise InvalidInput(text, field="spec", expected=expected, got=got, **call.error_context())


def rows_added(inputs: Inputs, spec: ModelSpec, call: Call) -> dict[str, NDArray[Any]]:
    """Make batches of one row.

    Raises:
        InvalidInput: The model has no batch dimension.
    """
    if spec.max_batch_size == 0:
        expected, got = "max_batch_size above 0", "max_batch_size 0"
        text = f"infer_one() needs a model with {expected}, got {got}; use infer()"
        raise InvalidInput(text, field="max_batch_size", expected=expected, got=got, **call.error_context())
    return {
        name: array_from_value(name, value, call)[np.newaxis, ...]
        for name, value in inputs.items()
        if value is not None
    }


def checked_tensors(spec: ModelSpec, inputs: Inputs, call: Call) -> tuple[InputTensor, ...]:
    """Turn arrays into tensors after checking them against the spec.

    Args:
        spec: What the model takes.
        inputs: Arrays by tensor name.
        call: The call, for errors.

    Returns:
        One tensor for each input, in the order of the spec.

    Raises:
        InvalidInput: A name, dtype, rank, size or batch does not fit the model.
    """
    arrays: list[tuple[TensorSpec, NDArray[Any]]] = []
    for tensor in spec.inputs:
        value = inputs.get(tensor.name)
        if value is not None:
            array = array_from_value(tensor.name, value, call)
            _check_array(spec, tensor, array, call)
            arrays.append((tensor, array))
        elif not tensor.optional:
            _refuse_unknown(spec, inputs, call)  # what is missing may have been misspelt
            expected = describe_tensor(spec, tensor)
            text = f"input {tensor.name} is missing; expected {expected}"
            raise InvalidInput(text, field=tensor.name, expected=expected, got="nothing", **call.error_context())
    if len(arrays) != len(inputs):
        _refuse_unknown(spec, inputs, call)
    if spec.max_batch_size > 0:
        _check_batches(spec, arrays, call)
    return tuple([_tensor(tensor.name, array, tensor.datatype, call) for tensor, array in arrays])


def _refuse_unknown(spec: ModelSpec, inputs: Inputs, call: Call) -> None:
    given = [name for name, value in inputs.items() if value is not None]
    _check_names(given, (tensor.name for tensor in spec.inputs), "input", call)


def checked_outputs(spec: ModelSpec, outputs: Sequence[str], call: Call) -> tuple[str, ...]:
    """Return the requested output names.

    Raises:
        InvalidInput: The model has no output of such a name.
    """
    if len(outputs) > 0:
        _check_names(outputs, (tensor.name for tensor in spec.outputs), "output", call)
    return tuple(outputs)


def check_reply(spec: ModelSpec, reply: InferReply, outputs: Sequence[str], call: Call) -> None:
    """Compare a reply with the spec, so that what is typed is also true.

    Args:
        spec: What the model gives.
        reply: The reply.
        outputs: Names of the requested outputs; none means all.
        call: The call, for errors.

    Raises:
        SpecDrift: An output is missing, or is of another type or shape.
    """
    drifts = []
    for tensor in spec.outputs:
        if len(outputs) > 0 and tensor.name not in outputs:
            continue
        array = reply.outputs.get(tensor.name)
        if array is None or array.dtype != _dtype(tensor.datatype) or not _fits(spec, tensor, array.shape):
            got = "nothing" if array is None else _describe_array(array)
            drifts.append(Drift(field=f"output {tensor.name}", expected=describe_tensor(spec, tensor), got=got))
    if len(drifts) > 0:
        sentences = "; ".join(map(str, drifts))
        text = f"the reply does not follow the spec: {sentences}. Read the spec again, or mend the model's config"
        raise SpecDrift(text, drifts=tuple(drifts), **call.error_context())


def array_from_value(name: str, value: ArrayLike | SupportsDLPack, call: Call) -> NDArray[Any]:
    """Return a value as an array, without changing any element.

    Args:
        name: Tensor name, for the error.
        value: An array, a tensor of another library on the CPU or on a GPU (DLPack), or anything that numpy reads as an
            array. Lists of ``bytes`` or ``str`` become object arrays, which keep trailing NUL bytes, as numpy's own
            ``S`` arrays do not.
        call: The call, for errors.

    Returns:
        The same array where possible; a ``GpuArray`` for what lies on a GPU, which has of an array what is asked for
        here.

    Raises:
        InvalidInput: It is not an array, or it cannot be read where it lies.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        device_id = gpu_of(value)
        if device_id is not None:
            there = value if isinstance(value, GpuArray) else gpu_array_from_tensor(value, device_id, cuda_runtime())
            return cast("NDArray[Any]", there)
        # Strings go through object, which alone keeps each element as it is.
        if isinstance(_first_element(value), (bytes, str)):
            return np.asarray(value, dtype=np.object_)
        # Tensors of other libraries on the CPU are read where they lie.
        array = np.from_dlpack(cast("Any", value)) if hasattr(value, "__dlpack__") else np.asarray(value)
        return np.asarray(value, dtype=np.object_) if array.dtype.kind in "SU" else array
    except (BufferError, TypeError, ValueError, RuntimeError, CudaError, MissingExtraError) as error:
        raise InvalidInput(
            f"input {name}: expected an array, got {type(value).__name__}: {error}",
            field=name,
            expected="an array",
            got=type(value).__name__,
            **call.error_context(),
        ) from error


def _first_element(value: object) -> object:
    while isinstance(value, (list, tuple)) and len(value) > 0:
        value = value[0]
    return value


def describe_tensor(spec: ModelSpec, tensor: TensorSpec) -> str:
    """Return a tensor's type and shape in words, for example ``float32 (batch<=8, 3, 224, 224)``."""
    dims = ["?" if size < 0 else str(size) for size in tensor.dims]
    if spec.max_batch_size > 0:
        dims.insert(0, f"batch<={spec.max_batch_size}")
    return f"{_type_name(tensor)} {_tuple_text(dims)}"


def _check_names(given: Iterable[str], known: Iterable[str], kind: str, call: Call) -> None:
    names = list(known)
    for name in given:
        if name in names:
            continue
        close = get_close_matches(str(name), names, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"the model has {', '.join(names)}"
        raise InvalidInput(
            f'unknown {kind} "{name}"; {hint}',
            field=str(name),
            expected=" or ".join(names),
            got=str(name),
            **call.error_context(),
        )


def _check_array(spec: ModelSpec, tensor: TensorSpec, array: NDArray[Any], call: Call) -> None:
    if not _has_type(tensor, array):
        _refuse_array(spec, tensor, array, call, _dtype_hint(tensor, array))
    if not _fits(spec, tensor, array.shape):
        _refuse_array(spec, tensor, array, call, _shape_hint(spec, tensor, array))


def _has_type(tensor: TensorSpec, array: Any) -> bool:
    if isinstance(array, GpuArray):
        return array.datatype == tensor.datatype
    if tensor.datatype == "BYTES":
        return array.dtype.kind in "OSU"
    dtype = _dtype(tensor.datatype)
    has_type: bool = array.dtype == dtype or array.dtype.newbyteorder("=") == dtype
    return has_type


def _fits(spec: ModelSpec, tensor: TensorSpec, shape: tuple[int, ...]) -> bool:
    if spec.max_batch_size > 0:
        if len(shape) == 0:
            return False
        shape = shape[1:]
    if len(shape) != len(tensor.dims):
        return False
    for dim, size in zip(tensor.dims, shape, strict=True):  # noqa: SIM110 - all() takes twice the time of a loop
        if dim not in (size, -1):
            return False
    return True


def _dtype_hint(tensor: TensorSpec, array: Any) -> str:
    if tensor.datatype == "BYTES":
        return "Give bytes or str elements."
    if isinstance(array, GpuArray):
        return f"Cast it to {_type_name(tensor)} on the GPU first."
    if array.dtype.kind in "OSU":
        return f"Make it an array of {_type_name(tensor)} first."
    module = "ml_dtypes" if tensor.datatype == "BF16" else "np"
    return f"Cast with {tensor.name}.astype({module}.{_type_name(tensor)})."


def _shape_hint(spec: ModelSpec, tensor: TensorSpec, array: NDArray[Any]) -> str:
    if spec.max_batch_size > 0 and _fits(spec, tensor, (1, *array.shape)):
        return f"Add the batch dimension with {tensor.name}[np.newaxis]."
    return "Dimensions marked ? may have any size." if -1 in tensor.dims else ""


def _refuse_array(spec: ModelSpec, tensor: TensorSpec, array: NDArray[Any], call: Call, hint: str) -> NoReturn:
    expected = describe_tensor(spec, tensor)
    got = _describe_array(array)
    text = f"input {tensor.name}: expected {expected}, got {got}. {hint}".rstrip()
    raise InvalidInput(text, field=tensor.name, expected=expected, got=got, **call.error_context())


def _check_batches(spec: ModelSpec, arrays: Sequence[tuple[TensorSpec, NDArray[Any]]], call: Call) -> None:
    for tensor, array in arrays:
        batch, first = array.shape[0], arrays[0][1].shape[0]
        if 0 < batch <= spec.max_batch_size and batch == first:
            continue
        if batch == 0:
            text, expected = "the batch is empty; send at least one row", "a batch of at least 1"
        elif batch > spec.max_batch_size:
            text = f"batch {batch} is over max_batch_size {spec.max_batch_size}; split the batch"
            expected = f"a batch of at most {spec.max_batch_size}"
        else:
            text = f"batch {batch} differs from batch {first} of input {arrays[0][0].name}; make them equal"
            expected = f"a batch of {first}"
        raise InvalidInput(
            f"input {tensor.name}: {text}",
            field=tensor.name,
            expected=expected,
            got=f"batch {batch}",
            **call.error_context(),
        )


def _datatype(name: str, array: Any, call: Call) -> str:
    if isinstance(array, GpuArray):
        return array.datatype
    try:
        return datatype_from_dtype(array.dtype).datatype
    except TypeError as error:
        raise _value_error(name, "a tensor of Triton", array, error, call) from error


def _tensor(name: str, array: Any, datatype: str, call: Call) -> InputTensor:
    if isinstance(array, GpuArray):
        # What has no elements has nothing to be read where it lies.
        return InputTensor(name, datatype, array.shape, memoryview(b""), gpu=array if array.nbytes > 0 else None)
    if datatype == "BYTES":
        try:
            encoded = bytes_from_strings(array.ravel().tolist())
        except TypeError as error:
            raise _value_error(name, "bytes or str elements", array, error, call) from error
        return InputTensor(name, datatype, array.shape, memoryview(encoded))
    # At most one copy: for another byte order or for an array that is not contiguous.
    plain = np.asarray(array, dtype=_little_endian(datatype), order="C")
    return InputTensor(name, datatype, array.shape, plain.reshape(-1).view(np.uint8).data)


@cache
def _dtype(datatype: str) -> np.dtype[Any]:
    return BY_DATATYPE[datatype].dtype


@cache
def _little_endian(datatype: str) -> np.dtype[Any]:
    return _dtype(datatype).newbyteorder("<")


def _value_error(name: str, expected: str, array: NDArray[Any], error: TypeError, call: Call) -> InvalidInput:
    got = _describe_array(array)
    return InvalidInput(f"input {name}: {error}", field=name, expected=expected, got=got, **call.error_context())


def _describe_array(array: Any) -> str:
    shape = _tuple_text([str(size) for size in array.shape])
    if isinstance(array, GpuArray):
        return f"{array.datatype} {shape} on GPU {array.device_id}"
    return f"{array.dtype} {shape}"


def _type_name(tensor: TensorSpec) -> str:
    if tensor.datatype == "BYTES":
        return "bytes"
    return tensor.type.numpy_name or "bfloat16"


def _tuple_text(sizes: Sequence[str]) -> str:
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
