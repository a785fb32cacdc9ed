"""Requests made ready before load starts: random values by the model's own contract, rows of arrays, images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import InputSource, Workload
from tritonforge_load.payloads.arrays import StoredArray, stored_array
from tritonforge_load.payloads.dims import closed_dims
from tritonforge_load.payloads.images import ImageRows, Say, image_rows
from tritonforge_load.payloads.random_values import (
    default_source,
    given_dims,
    given_tensor,
    random_tensor,
    row_bytes,
)

MEMORY_LIMIT_BYTES: Final = 2 * 2**30
"""Memory that the values of one workload may take, in each process that sends them."""

Rows: TypeAlias = StoredArray | ImageRows

_RANDOM_POOL: Final = 32


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to send.

    Attributes:
        inputs: Arrays by input, with the batch dimension where the model has one.
        rows: Its rows (1 for a model without a batch dimension).
        first_row: Place of its first row in the workload's arrays and images; -1 where it has none.
    """

    inputs: dict[str, NDArray[Any]]
    rows: int
    first_row: int


def requests_of(workload: Workload, spec: ModelSpec, *, base: Path, seed: int, say: Say | None = None) -> list[Request]:
    """Make the requests of a workload.

    Args:
        workload: What it asks for.
        spec: Contract of its model, as the server gave it.
        base: Folder that relative paths start from.
        seed: Random values follow from it.
        say: Told how far it is, where many images take long.

    Returns:
        At least one request. With arrays or images, their rows in order, each in one request.

    Raises:
        SpecError: The workload does not fit the model or the files, or takes too much memory.
        MissingExtraError: There are images and Pillow is not installed.
    """
    place = f"workload {workload.name!r}"
    _check_against_spec(place, workload, spec)
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    sources = {
        tensor.name: workload.inputs.get(tensor.name) or default_source(tensor)
        for tensor in spec.inputs
        if tensor.name in workload.inputs or not tensor.optional
    }
    stored = {
        name: _stored_rows(source, tensors[name], base=base, place=place)
        for name, source in sources.items()
        if source.has_rows
    }
    _check_rows(place, stored, tensors)
    made = {name: source for name, source in sources.items() if name not in stored}
    plan = _row_plan(place, workload, stored, made)
    _check_memory(place, stored, made, tensors, plan)
    arrays = {
        name: rows.read(say) if isinstance(rows, ImageRows) else _as_text(rows.read()) for name, rows in stored.items()
    }
    made_before: dict[tuple[str, int, int], NDArray[Any]] = {}
    requests = []
    for number, (first_row, rows) in enumerate(plan):
        inputs = {name: _rows(array, first_row, rows, spec) for name, array in arrays.items()}
        for name, source in made.items():
            slot = (name, number % _pool(source), rows)
            if slot not in made_before:
                made_before[slot] = _made_tensor(tensors[name], source, slot, spec, seed=seed, place=place)
            inputs[name] = made_before[slot]
        requests.append(Request(inputs, rows, first_row))
    return requests


def _check_against_spec(place: str, workload: Workload, spec: ModelSpec) -> None:
    if spec.decoupled or spec.sequence:
        kind, call = ("decoupled", "stream()") if spec.decoupled else ("sequence_batching", "model(...).sequence()")
        raise SpecError(
            f"{place}: model {spec.name!r}",
            expected="a model that answers each request by itself, once",
            got=f"a {kind} one, to which a campaign cannot send yet",
            action=f"Send to it from a locustfile of your own, with TritonUser.{call}",
        )
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


def _stored_rows(source: InputSource, tensor: TensorSpec, *, base: Path, place: str) -> Rows:
    if source.array is not None:
        return stored_array(source.array, base=base, default_key=tensor.name)
    return image_rows(source, tensor, base=base, place=place)


def _check_rows(place: str, stored: Mapping[str, Rows], tensors: Mapping[str, TensorSpec]) -> None:
    if len({rows.count for rows in stored.values()}) > 1:
        got = ", ".join(f"{name} {rows.count}" for name, rows in stored.items())
        raise SpecError(f"{place}: rows of the arrays", expected="as many in each", got=got)
    for name, rows in stored.items():
        if not isinstance(rows, StoredArray):
            continue
        tensor, row_shape = tensors[name], rows.shape[1:]
        fits = len(row_shape) == len(tensor.dims) and all(
            dim in {-1, size} for dim, size in zip(tensor.dims, row_shape, strict=True)
        )
        is_text = tensor.type.itemsize_bytes is None and rows.dtype.kind in "SU"
        if not fits or (rows.dtype != tensor.type.dtype and not is_text):
            raise SpecError(
                f"{place}: {name}: {rows.where}",
                expected=f"{tensor.type.dtype} rows of shape {tensor.dims}",
                got=f"{rows.dtype} rows of shape {row_shape}",
                action="Convert the array",
            )


def _row_plan(
    place: str, workload: Workload, stored: Mapping[str, Rows], made: Mapping[str, InputSource]
) -> list[tuple[int, int]]:
    """First row and number of rows of every request."""
    batches = workload.batches
    if not stored:
        pool = max((_pool(source) for source in made.values()), default=1)
        return [(-1, batches[number % len(batches)]) for number in range(math.lcm(pool, len(batches)))]
    total = next(iter(stored.values())).count
    plan: list[tuple[int, int]] = []
    first_row = 0
    while first_row + batches[len(plan) % len(batches)] <= total:
        rows = batches[len(plan) % len(batches)]
        plan.append((first_row, rows))
        first_row += rows
    if not plan:
        raise SpecError(f"{place}: rows of the arrays", expected=f"at least {batches[0]} (batch)", got=str(total))
    return plan


def _check_memory(
    place: str,
    stored: Mapping[str, Rows],
    made: Mapping[str, InputSource],
    tensors: Mapping[str, TensorSpec],
    plan: Sequence[tuple[int, int]],
) -> None:
    sizes = {name: rows.size_bytes for name, rows in stored.items()}
    for name, source in made.items():
        find_dims = closed_dims if source.values is None else given_dims
        one_row = row_bytes(tensors[name], find_dims(tensors[name], source, place=place))
        sizes[name] = one_row * _distinct_rows(plan, _pool(source))
    if sum(sizes.values()) > MEMORY_LIMIT_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        action = "Give fewer rows" if largest in stored else "Lower its pool or the batch"
        if largest in stored and isinstance(stored[largest], ImageRows):
            action = "Lower its limit"
        raise SpecError(
            f"{place}: memory of its values in each process",
            expected=f"at most {MEMORY_LIMIT_BYTES / 2**30:g} GiB",
            got=f"{sum(sizes.values()) / 2**30:.1f} GiB, {sizes[largest] / 2**30:.1f} GiB of it {largest}",
            action=action,
        )


def _distinct_rows(plan: Iterable[tuple[int, int]], pool: int) -> int:
    """Rows of all different tensors that a pool gives the requests of a plan."""
    return sum(rows for _, rows in {(number % pool, rows) for number, (_, rows) in enumerate(plan)})


def _pool(source: InputSource) -> int:
    if source.values is not None:
        return 1
    return source.pool if source.pool is not None else _RANDOM_POOL


def _made_tensor(
    tensor: TensorSpec, source: InputSource, slot: tuple[str, int, int], spec: ModelSpec, *, seed: int, place: str
) -> NDArray[Any]:
    name, number, rows = slot
    if source.values is not None:
        return given_tensor(tensor, source, rows, spec, place=place)
    generator = np.random.default_rng([seed, *name.encode(), number, rows])
    return random_tensor(tensor, source, rows, spec, generator, place=place)


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(object) if array.dtype.kind in "SU" else array


def _rows(array: NDArray[Any], first_row: int, rows: int, spec: ModelSpec) -> NDArray[Any]:
    if spec.max_batch_size == 0:
        return np.ascontiguousarray(array[first_row])
    return np.ascontiguousarray(array[first_row : first_row + rows])
