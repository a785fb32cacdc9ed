"""Requests made ready before load starts: random tensors by the model's own contract, or rows of arrays."""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import ArraySource, Check, InputSource, Workload

_RANDOM_TEXT_LETTERS: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", dtype="S1")
_RANDOM_TEXT_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to send.

    Attributes:
        inputs: Arrays by input, with the batch dimension where the model has one.
        rows: Its rows (1 for a model without a batch dimension).
        first_row: Place of its first row in the workload's arrays; -1 for random inputs.
    """

    inputs: dict[str, NDArray[Any]]
    rows: int
    first_row: int


def load_array(source: ArraySource, *, base: Path, default_key: str) -> NDArray[Any]:
    """Read an array of an ``.npz`` file.

    Args:
        source: Which.
        base: Folder that relative paths start from.
        default_key: Its name in the file when ``source`` names none.

    Raises:
        SpecError: The file or the array is not there.
    """
    where = source.file if source.file is not None else str(source.package)
    key = source.key if source.key is not None else default_key
    try:
        with np.load(_path(source, base), allow_pickle=False) as arrays:
            if key not in arrays:
                found = ", ".join(arrays)
                raise SpecError(f"{where}: array", expected=repr(key), got=found, action="Name one of them with key:")
            array: NDArray[Any] = arrays[key]
            return array
    except ModuleNotFoundError as error:
        raise SpecError(f"{where}: no such package", action="Install it") from error
    except (OSError, ValueError, TypeError, BadZipFile) as error:
        raise SpecError(f"{where}: cannot be read as .npz: {error}", action="Check the path") from error


def _path(source: ArraySource, base: Path) -> Path:
    if source.package is None:
        return base / str(source.file)
    package, _, inside = source.package.partition(":")
    return Path(str(importlib.resources.files(package).joinpath(inside)))


def requests_of(workload: Workload, spec: ModelSpec, *, base: Path, seed: int) -> list[Request]:
    """Make the requests of a workload.

    Args:
        workload: What it asks for.
        spec: Contract of its model, as the server gave it.
        base: Folder that relative paths start from.
        seed: Random values follow from it.

    Returns:
        At least one request. With arrays, their rows in order, each in one request.

    Raises:
        SpecError: The workload does not fit the model or the arrays.
    """
    place = f"workload {workload.name!r}"
    _check_against_spec(place, workload, spec)
    arrays = {
        name: load_array(source.array, base=base, default_key=name)
        for name, source in workload.inputs.items()
        if source.array is not None
    }
    _check_arrays(place, arrays, spec)
    arrays = {name: array.astype(object) if array.dtype.kind in "SU" else array for name, array in arrays.items()}
    sources = {
        tensor.name: workload.inputs.get(tensor.name, _default_source(tensor))
        for tensor in spec.inputs
        if tensor.name in workload.inputs or not tensor.optional
    }
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    random = {name: source for name, source in sources.items() if name not in arrays}
    pools: dict[tuple[str, int, int], NDArray[Any]] = {}
    requests = []
    for number, (first_row, rows) in enumerate(_row_plan(place, workload, arrays, random)):
        inputs = {name: _rows(array, first_row, rows, spec) for name, array in arrays.items()}
        for name, source in random.items():
            slot = (name, number % source.pool, rows)
            if slot not in pools:
                generator = np.random.default_rng([seed, *slot[0].encode(), *slot[1:]])
                pools[slot] = random_tensor(tensors[name], source, rows, spec, generator, place=place)
            inputs[name] = pools[slot]
        requests.append(Request(inputs, rows, first_row if arrays else -1))
    return requests


def _check_against_spec(place: str, workload: Workload, spec: ModelSpec) -> None:
    known = ", ".join(tensor.name for tensor in spec.inputs)
    for name in workload.inputs:
        if all(tensor.name != name for tensor in spec.inputs):
            raise SpecError(f"{place}: input", expected=f"one of {known} (model {spec.name!r})", got=repr(name))
    if workload.check is not None and all(tensor.name != workload.check.output for tensor in spec.outputs):
        outputs = ", ".join(tensor.name for tensor in spec.outputs)
        raise SpecError(f"{place}: check.output", expected=f"one of {outputs}", got=repr(workload.check.output))
    largest = max(workload.batches)
    if largest > max(1, spec.max_batch_size):
        expected = f"at most {spec.max_batch_size} (max_batch_size)" if spec.max_batch_size > 0 else "1 (no batching)"
        raise SpecError(f"{place}: batch", expected=expected, got=str(largest), action="Lower it")


def _check_arrays(place: str, arrays: Mapping[str, NDArray[Any]], spec: ModelSpec) -> None:
    lengths = {name: len(array) if array.ndim > 0 else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SpecError(f"{place}: rows of the arrays", expected="as many in each", got=got)
    for tensor in spec.inputs:
        array = arrays.get(tensor.name)
        if array is None:
            continue
        fits = len(array.shape[1:]) == len(tensor.dims) and all(
            dim in {-1, size} for dim, size in zip(tensor.dims, array.shape[1:], strict=True)
        )
        is_text = tensor.type.itemsize_bytes is None and array.dtype.kind in "SU"
        if not fits or (array.dtype != tensor.type.dtype and not is_text):
            raise SpecError(
                f"{place}: {tensor.name}",
                expected=f"{tensor.type.dtype} rows of shape {tensor.dims}",
                got=f"{array.dtype} rows of shape {array.shape[1:]}",
            )


def _default_source(tensor: TensorSpec) -> InputSource:
    floating = tensor.datatype.startswith(("FP", "BF"))
    return InputSource(random="normal" if floating else "uniform", high=1.0 if floating else 2.0)


def _row_plan(
    place: str, workload: Workload, arrays: Mapping[str, NDArray[Any]], random: Mapping[str, InputSource]
) -> list[tuple[int, int]]:
    """First row and number of rows of every request."""
    batches = workload.batches
    if not arrays:
        pool = max((source.pool for source in random.values()), default=1)
        return [(-1, batches[number % len(batches)]) for number in range(math.lcm(pool, len(batches)))]
    total = len(next(iter(arrays.values())))
    plan: list[tuple[int, int]] = []
    first_row = 0
    while first_row + batches[len(plan) % len(batches)] <= total:
        rows = batches[len(plan) % len(batches)]
        plan.append((first_row, rows))
        first_row += rows
    if not plan:
        raise SpecError(f"{place}: rows of the arrays", expected=f"at least {batches[0]} (batch)", got=str(total))
    return plan


def _rows(array: NDArray[Any], first_row: int, rows: int, spec: ModelSpec) -> NDArray[Any]:
    if spec.max_batch_size == 0:
        return np.ascontiguousarray(array[first_row])
    return np.ascontiguousarray(array[first_row : first_row + rows])


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
        SpecError: A dimension is open and ``source.shape`` does not close it, or contradicts the model.
    """
    dims = source.shape if source.shape is not None else tensor.dims
    fits = len(dims) == len(tensor.dims) and all(dim in {-1, size} for dim, size in zip(tensor.dims, dims, strict=True))
    if not fits:
        raise SpecError(f"{place}: {tensor.name}.shape", expected=f"sizes for {tensor.dims}", got=str(dims))
    if -1 in dims:
        raise SpecError(f"{place}: {tensor.name} has open dimensions {tensor.dims}", action="Give the input a shape")
    shape = dims if spec.max_batch_size == 0 else (rows, *dims)
    if tensor.type.itemsize_bytes is None:
        letters = generator.choice(_RANDOM_TEXT_LETTERS, size=(*shape, _RANDOM_TEXT_LENGTH))
        texts: NDArray[Any] = np.ascontiguousarray(letters).view(f"S{_RANDOM_TEXT_LENGTH}")[..., 0]
        return texts.astype(object)
    if source.random == "normal":
        values = generator.standard_normal(shape)
    else:
        values = generator.uniform(source.low, source.high, shape)
    dtype = tensor.type.dtype
    if tensor.datatype == "BOOL":
        return values >= (0.0 if source.random == "normal" else (source.low + source.high) / 2)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        values = np.clip(np.floor(values), max(limits.min, -(2**53)), min(limits.max, 2**53))
    return np.ascontiguousarray(values.astype(dtype))


class AnswerCheck:
    """Compares answers with the right ones, row by row.

    Args:
        check: What to compare with.
        base: Folder that relative paths start from.
        rows: Rows of the workload's arrays.
        place: Start of error messages.

    Raises:
        SpecError: The reference is not there or has another number of rows.
    """

    def __init__(self, check: Check, *, base: Path, rows: int, place: str) -> None:
        self.sample = check.sample
        self.output = check.output
        self._check = check
        source, key = (check.labels, "labels") if check.labels is not None else (check.golden, check.output)
        if source is None:
            raise SpecError(f"{place}: check", expected="labels or golden", got="none")
        self._reference = load_array(source, base=base, default_key=key)
        if self._reference.ndim == 0 or len(self._reference) < rows:
            got = f"shape {self._reference.shape}"
            raise SpecError(f"{place}: check: reference", expected=f"at least {rows} rows", got=got)

    def correct_rows(self, request: Request, outputs: Mapping[str, NDArray[Any]], *, batched: bool) -> int:
        """Count the right rows of one answer.

        Args:
            request: What was sent.
            outputs: What came back.
            batched: Whether the first dimension of the output is the batch.
        """
        answer = outputs[self.output] if batched else outputs[self.output][np.newaxis]
        wanted = self._reference[request.first_row : request.first_row + request.rows]
        if self._check.labels is not None:
            return int(np.count_nonzero(answer.reshape(len(wanted), -1).argmax(axis=1) == wanted))
        if answer.shape != wanted.shape:
            return 0
        close = np.isclose(answer, wanted, rtol=self._check.rtol, atol=self._check.atol, equal_nan=True)
        return int(np.count_nonzero(close.reshape(len(wanted), -1).all(axis=1)))
