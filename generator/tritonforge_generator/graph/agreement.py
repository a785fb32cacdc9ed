"""When two arrays count as the same answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an answer may be from its reference: ``|answer - reference| <= atol + rtol * |reference|``.

    Attributes:
        rtol: Relative part.
        atol: Absolute part, in the unit of the output.
    """

    rtol: float
    atol: float


TOLERANCES = {
    "float16": Tolerance(rtol=1e-2, atol=1e-2),
    "float32": Tolerance(rtol=1e-3, atol=1e-4),
    "float64": Tolerance(rtol=1e-6, atol=1e-8),
}
"""Defaults by dtype. They allow for kernels that sum in another order, not for another precision."""

EXACT = Tolerance(rtol=0.0, atol=0.0)


def tolerance_of(dtype: np.dtype[Any]) -> Tolerance:
    """The default tolerance of a dtype; integers, booleans and strings must be equal."""
    return TOLERANCES.get(dtype.name, EXACT)


def served_tolerance_of(reference: npt.NDArray[Any]) -> Tolerance:
    """The default tolerance of an answer that a server gave, possibly from a GPU.

    There ONNX Runtime computes FP32 in TF32 unless told otherwise (``use_tf32`` of its CUDA provider), which keeps 10
    bits of each factor: an error of about a thousandth of the output's largest value.
    """
    if reference.dtype != np.float32:
        return tolerance_of(reference.dtype)
    finite = np.abs(reference[np.isfinite(reference)])
    return Tolerance(rtol=1e-2, atol=1e-4 + 1e-3 * float(np.max(finite, initial=0.0)))


def reduced_tolerance(limit: float) -> Callable[[npt.NDArray[Any]], Tolerance]:
    """The tolerance of single elements for a graph that computes in fewer bits.

    Args:
        limit: Allowed relative error of an answer as a vector; each element may be off by that share of the largest.
    """

    def tolerance(reference: npt.NDArray[Any]) -> Tolerance:
        if reference.dtype.kind != "f":
            return EXACT
        finite = np.abs(reference[np.isfinite(reference)].astype(np.float64))
        return Tolerance(rtol=limit, atol=limit * float(np.max(finite, initial=0.0)))

    return tolerance


def disagreement(reference: npt.NDArray[Any], answer: npt.NDArray[Any], tolerance: Tolerance | None = None) -> str:
    """Say how an answer departs from its reference.

    NaN agrees with NaN and an infinity with itself, at the same place.

    Args:
        reference: What it should be.
        answer: What it is.
        tolerance: Allowed difference; by default that of the reference's dtype.

    Returns:
        An empty string when they agree, else what differs.
    """
    if reference.shape != answer.shape:
        return f"shape {answer.shape} instead of {reference.shape}"
    if reference.dtype != answer.dtype:
        return f"dtype {answer.dtype} instead of {reference.dtype}"
    allowed = tolerance or tolerance_of(reference.dtype)
    if reference.dtype.kind not in "fc":
        wrong = int(np.count_nonzero(reference != answer))
        return "" if wrong == 0 else f"{wrong} of {reference.size} elements"
    close = np.isclose(answer, reference, rtol=allowed.rtol, atol=allowed.atol, equal_nan=True)
    if bool(np.all(close)):
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.nanmax(np.abs(answer.astype(np.float64) - reference.astype(np.float64)), initial=0.0)
    return f"largest difference {largest:.3g}, allowed {allowed.atol:g} + {allowed.rtol:g} relative"
