"""Batches of any size, run in pieces that a model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.call import Call
from tritonforge_client.core.check import array_from_value
from tritonforge_client.core.request import Inputs
from tritonforge_client.errors import InvalidInput
from tritonforge_client.spec import ModelSpec


def pieces_of(spec: ModelSpec, inputs: Inputs, call: Call) -> Iterator[dict[str, NDArray[Any]]]:
    """Split a batch into pieces of at most ``max_batch_size`` rows, as views.

    Args:
        spec: What the model takes; one without a batch dimension takes every item whole.
        inputs: Arrays by tensor name, batch dimension included.
        call: The call, for errors.

    Raises:
        InvalidInput: A value is no array, or the inputs have different numbers of rows.
    """
    arrays = {name: array_from_value(name, value, call) for name, value in inputs.items() if value is not None}
    if spec.max_batch_size == 0:
        yield arrays
        return
    rows = {array.shape[0] if array.ndim > 0 else 0 for array in arrays.values()}
    if len(rows) > 1:
        got = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        text = f"expected inputs of equal numbers of rows, got {got}"
        raise InvalidInput(text, field="inputs", expected="equal batches", got=got, **call.error_context())
    count = max(rows, default=0)
    # An empty batch is passed on, for the check to refuse.
    for start in range(0, max(count, 1), spec.max_batch_size):
        yield {name: array[start : start + spec.max_batch_size] for name, array in arrays.items()}


def joined(pieces: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Put the outputs of the pieces of one batch together again."""
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
