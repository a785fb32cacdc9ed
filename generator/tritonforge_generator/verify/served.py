"""The last gate: a real Triton serves the staged model and gives the source's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge_client import Client, TritonError
from tritonforge_generator.graph.agreement import served_tolerance_of
from tritonforge_generator.graph.session import Arrays
from tritonforge_generator.verify.reference import Reference
from tritonforge_generator.verify.verification import Check, Comparison

_LARGEST_REQUEST_ROWS = 8


def served_check(model: str, reference: Reference, targets: Sequence[str], *, max_batch_size: int) -> Check:
    """Ask a running server and compare.

    Each sample is sent alone, over every target; a batching model is also asked for several rows in one request.

    Args:
        model: Model name.
        reference: The source's answers.
        targets: URLs of the server, for example its gRPC and its HTTP one.
        max_batch_size: As configured; 0 for shapes in full.
    """
    name = "a real Triton serves the same answers"
    comparison = Comparison(reference.tolerance, reference.default_tolerance or served_tolerance_of)
    for target in targets:
        try:
            with Client(target) as client:
                _ask(client, model, reference, comparison, max_batch_size)
        except TritonError as error:
            return Check(name=name, passed=False, summary=str(error))
    protocols = " and ".join(target.partition(":")[0] for target in targets)
    summary = comparison.problem or f"{len(reference.answers)} samples over {protocols}"
    passed = comparison.problem == "" and comparison.count > 0
    return Check(name=name, passed=passed, summary=summary, figures=comparison.figures())


def _ask(client: Client, model: str, reference: Reference, comparison: Comparison, max_batch_size: int) -> None:
    batched = max_batch_size > 0
    for index, expected in enumerate(reference.answers):
        served = client.infer(model, _as_served(reference.request(index), batched=batched)).value
        comparison.add_all(_as_served(expected, batched=batched), served, f"sample {index}")
    rows = min(max_batch_size, _LARGEST_REQUEST_ROWS)
    if rows < 2:
        return
    together = client.infer(model, _as_served(reference.samples.batch(0, rows), batched=True)).value
    for row in range(rows):
        expected = reference.answers[row % len(reference.answers)]
        served = {output: array[row : row + 1] for output, array in together.items()}
        comparison.add_all(_as_served(expected, batched=True), served, f"row {row} of {rows}")


def _as_served(arrays: Arrays, *, batched: bool) -> dict[str, npt.NDArray[Any]]:
    """The shapes that Triton uses: a value without axes of its own has ``dims: [ 1 ]`` there (rules I3 and O19)."""
    bare = 1 if batched else 0
    return {
        name: np.reshape(array, (*array.shape, 1)) if array.ndim == bare else array for name, array in arrays.items()
    }
