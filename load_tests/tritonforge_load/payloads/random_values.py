"""Tensors that come from no file: random ones, and ones that the campaign spells out."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import InputSource
from tritonforge_load.payloads.dims import closed_dims, request_shape

_RANDOM_TEXT_LETTERS: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", dtype="S1")
_RANDOM_TEXT_LENGTH: Final = 12
_LARGEST_NORMAL: Final = 2**53
_TOKEN_IDS: Final = re.compile(r"^ids$|(?:^|_)(?:tokens?|(?:input|token|prompt)_?ids?)$", re.IGNORECASE)
_LEAST_VOCABULARY: Final = 1000
_TEXT_BYTES: Final = 64  # a bytes object of this length and its place in the array


def default_source(tensor: TensorSpec) -> InputSource:
    """What an input gets that the campaign does not name."""
    return InputSource(random="normal" if tensor.datatype.startswith(("FP", "BF")) else "uniform")


def row_bytes(tensor: TensorSpec, dims: tuple[int, ...]) -> int:
    """Memory of one row of an input, about.

    Args:
        tensor: Its type.
        dims: Its shape.
    """
    itemsize = tensor.type.itemsize_bytes
    return math.prod(dims) * (itemsize if itemsize is not None else _TEXT_BYTES)


def random_tensor(
    tensor: TensorSpec, source: InputSource, rows: int, spec: ModelSpec, generator: np.random.Generator, *, place: str
) -> NDArray[Any]:
    """Make one random tensor.

    Args:
        tensor: Name, type and dims of the input.
        source: Distribution, and sizes of open dimensions.
        rows: Size of the batch dimension, where the model has one.
        spec: Contract of the model.
        generator: Source of randomness.
        place: Start of error messages.

    Returns:
        Shape ``(rows, *dims)``, or ``dims`` for a model without a batch dimension.

    Raises:
        SpecError: A dimension is open, or the range does not fit the type.
    """
    shape = request_shape(closed_dims(tensor, source, place=place), rows, spec)
    if tensor.type.itemsize_bytes is None:
        letters = generator.choice(_RANDOM_TEXT_LETTERS, size=(*shape, _RANDOM_TEXT_LENGTH))
        texts: NDArray[Any] = np.ascontiguousarray(letters).view(f"S{_RANDOM_TEXT_LENGTH}")[..., 0]
        return texts.astype(object)
    dtype = tensor.type.dtype
    if source.random == "normal":
        values: NDArray[Any] = generator.standard_normal(shape)
        if tensor.datatype == "BOOL":
            return values >= 0
        if dtype.kind in "iu":
            limits = np.iinfo(dtype.name)
            values = np.clip(np.floor(values), max(limits.min, -_LARGEST_NORMAL), min(limits.max, _LARGEST_NORMAL))
    else:
        low, high = _range(tensor, source, place)
        if dtype.kind in "iu":
            return generator.integers(math.floor(low), math.ceil(high), shape, dtype=np.dtype(dtype.name))
        values = generator.uniform(low, high, shape)
        if tensor.datatype == "BOOL":
            return values >= (low + high) / 2
    return np.ascontiguousarray(values.astype(dtype))


def _range(tensor: TensorSpec, source: InputSource, place: str) -> tuple[float, float]:
    """The range of uniform values: what the campaign says, or what the input's type and name suggest."""
    dtype = tensor.type.dtype
    low, high = source.low if source.low is not None else 0.0, source.high
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        if high is None:
            high = min(_LEAST_VOCABULARY, limits.max + 1) if _TOKEN_IDS.search(tensor.name) else 2
        if low < limits.min or high > limits.max + 1:
            raise SpecError(
                f"{place}: {tensor.name}: low and high",
                expected=f"whole numbers that {tensor.datatype} has ({limits.min} to {limits.max})",
                got=f"{low:.20g} to {high:.20g}",
            )
        return low, high
    if high is None:
        return low, 2.0 if tensor.datatype == "BOOL" else 1.0
    if dtype.kind == "f" and max(abs(low), abs(high)) > np.finfo(dtype.name).max:
        largest = f"{np.finfo(dtype.name).max:g}"
        raise SpecError(
            f"{place}: {tensor.name}: low and high", expected=f"within ±{largest}", got=f"{low:g} to {high:g}"
        )
    return low, high


def given_tensor(tensor: TensorSpec, source: InputSource, rows: int, spec: ModelSpec, *, place: str) -> NDArray[Any]:
    """Make a tensor of the values that the campaign spells out, each row the same.

    Args:
        tensor: Name, type and dims of the input.
        source: Its elements, and sizes of open dimensions.
        rows: Size of the batch dimension, where the model has one.
        spec: Contract of the model.
        place: Start of error messages.

    Returns:
        Shape ``(rows, *dims)``, or ``dims`` for a model without a batch dimension.

    Raises:
        SpecError: The elements are of another type, or too few or too many.
    """
    elements = source.values if source.values is not None else ()
    for element in elements:
        _check_element(element, tensor, f"{place}: {tensor.name}.values")
    is_text = tensor.type.itemsize_bytes is None
    row: NDArray[Any] = np.empty(len(elements), tensor.type.dtype)
    row[:] = [str(element).encode() for element in elements] if is_text else elements
    dims = given_dims(tensor, source, place=place)
    return np.ascontiguousarray(np.broadcast_to(row.reshape(dims), request_shape(dims, rows, spec)))


def given_dims(tensor: TensorSpec, source: InputSource, *, place: str) -> tuple[int, ...]:
    """Shape of one row of spelt-out values; how many there are closes one open dimension.

    Args:
        tensor: The input.
        source: Its elements, and sizes of open dimensions.
        place: Start of error messages.

    Raises:
        SpecError: They are too few or too many.
    """
    count = len(source.values) if source.values is not None else 0
    what = f"{place}: {tensor.name}.values"
    if source.shape is None and tensor.dims.count(-1) == 1:
        known = -math.prod(tensor.dims)
        if count % known != 0:
            raise SpecError(what, expected=f"a multiple of {known} elements for {tensor.dims}", got=str(count))
        return tuple(count // known if dim == -1 else dim for dim in tensor.dims)
    dims = closed_dims(tensor, source, place=place)
    if math.prod(dims) != count:
        raise SpecError(what, expected=f"{math.prod(dims)} elements for {dims}", got=str(count))
    return dims


def _check_element(element: object, tensor: TensorSpec, place: str) -> None:
    dtype, expected = tensor.type.dtype, "numbers"
    if tensor.type.itemsize_bytes is None:
        fits, expected = isinstance(element, str), "texts"
    elif tensor.datatype == "BOOL":
        fits, expected = isinstance(element, bool), "true and false"
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        fits = isinstance(element, int) and not isinstance(element, bool) and limits.min <= element <= limits.max
        expected = f"whole numbers that {tensor.datatype} has ({limits.min} to {limits.max})"
    else:
        fits = isinstance(element, (int, float)) and not isinstance(element, bool)
    if not fits:
        raise SpecError(place, expected=f"{expected} ({tensor.datatype})", got=repr(element))
