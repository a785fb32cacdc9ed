"""How near a graph in fewer bits comes to its FP32 reference, and how near it must come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_generator.spec import PrecisionOptions, PrecisionType

Arrays = Mapping[str, npt.NDArray[Any]]

LIMITS: Final[Mapping[PrecisionType, float]] = {
    "FP32": 1e-3,
    "TF32": 1e-2,
    "FP16": 1e-2,
    "BF16": 5e-2,
    "INT8": 0.2,
    "FP8": 0.2,
}
"""Largest relative error of an answer by precision, as vectors: |answer - reference| / |reference|.

Each is a few times what trained networks of some fifty layers show: a rounding error of 2^-11 (FP16, TF32) or 2^-8
(BF16) in every layer adds up to about ten of them; INT8 keeps 7 bits of a range that a few values set, and costs 0.02
to 0.1. A graph that overflows or lost a layer is off by 1 or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputAccuracy:
    """One output against its reference, the worst of all samples.

    Attributes:
        name: Output name.
        relative_error: Largest |answer - reference| / |reference| of a sample; for integers the share that differs.
        top1: Share of samples whose largest element keeps its place; ``None`` without a last axis of two or more.
        finite: Whether every value is finite where the reference is.
    """

    name: str
    relative_error: float
    top1: float | None
    finite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The verdict over all outputs.

    Attributes:
        outputs: Output by output.
        passed: Whether all are within the limits.
        summary: The worst of them, against the limit.
    """

    outputs: tuple[OutputAccuracy, ...]
    passed: bool
    summary: str

    @property
    def worst(self) -> float:
        """The largest relative error; infinite where something is not finite."""
        return max((one.relative_error if one.finite else np.inf for one in self.outputs), default=np.inf)


def accuracy(references: Sequence[Arrays], answers: Sequence[Arrays], options: PrecisionOptions) -> Accuracy:
    """Compare answers with references, sample by sample.

    Args:
        references: By sample, output name to array.
        answers: The same, of the graph to judge.
        options: Precision and limits.
    """
    limit = options.max_relative_error or LIMITS[options.type]
    outputs = tuple(
        _output_accuracy(name, [one[name] for one in references], [one[name] for one in answers])
        for name in (references[0] if references else {})
    )
    problems = [_problem(output, limit, options.min_top1) for output in outputs]
    worst = max(outputs, key=lambda one: (not one.finite, one.relative_error), default=None)
    summary = "no output was compared"
    if worst is not None:
        summary = f"relative error {worst.relative_error:.2g} of '{worst.name}', allowed {limit:g}"
    summary = next((problem for problem in problems if problem != ""), summary)
    return Accuracy(outputs=outputs, passed=bool(outputs) and not any(problems), summary=summary)


def _problem(output: OutputAccuracy, limit: float, min_top1: float | None) -> str:
    if not output.finite:
        return f"'{output.name}' has values that are not finite: the type's range is too small somewhere"
    if not output.relative_error <= limit:
        return f"'{output.name}' has a relative error of {output.relative_error:.3g}, allowed {limit:g}"
    if min_top1 is not None and output.top1 is not None and output.top1 < min_top1:
        return f"'{output.name}' keeps its largest element in {output.top1:.2%} of the samples, asked {min_top1:.2%}"
    return ""


def _output_accuracy(
    name: str, references: Sequence[npt.NDArray[Any]], answers: Sequence[npt.NDArray[Any]]
) -> OutputAccuracy:
    errors, finite, same = [], True, []
    for reference, answer in zip(references, answers, strict=True):
        if reference.shape != answer.shape:
            return OutputAccuracy(name=name, relative_error=np.inf, top1=None, finite=True)
        errors.append(_relative_error(reference, answer))
        if reference.dtype.kind == "f":
            finite = finite and bool(np.all(np.isfinite(answer) | ~np.isfinite(reference)))
        if reference.ndim > 0 and reference.shape[-1] > 1 and reference.dtype.kind in "fiu":
            same.append(np.argmax(reference, axis=-1) == np.argmax(answer, axis=-1))
    top1 = float(np.mean(np.concatenate([np.ravel(one) for one in same]))) if same else None
    return OutputAccuracy(name=name, relative_error=max(errors, default=np.inf), top1=top1, finite=finite)


def _relative_error(reference: npt.NDArray[Any], answer: npt.NDArray[Any]) -> float:
    if reference.dtype.kind != "f":
        return float(np.mean(reference != answer)) if reference.size else 0.0
    usable = np.isfinite(reference)
    expected = reference[usable].astype(np.float64)
    difference = np.where(np.isfinite(answer[usable]), answer[usable], 0).astype(np.float64) - expected
    norm = float(np.linalg.norm(expected))
    gap = float(np.linalg.norm(difference))
    if norm > 0.0:
        return gap / norm
    return 0.0 if gap == 0.0 else np.inf
