"""How right a runtime's answers are: against ONNX Runtime on the CPU in FP32, and against labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.precision import Accuracy, accuracy
from tritonforge_generator.spec import PrecisionOptions, PrecisionType

Arrays = Mapping[str, npt.NDArray[Any]]

_REFERENCE_BATCH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of comparing a runtime's answers.

    Attributes:
        relative_error: The worst of all samples and outputs; ``None`` where there is none, as for shapes that differ.
        top1: Share of samples whose largest element keeps its place, of the worst output.
        finite: Whether all answers are finite where the reference is.
        accurate: Whether the error is within what the precision allows, in every batch size.
        correct_share: Share of labelled samples answered right.
        by_batch_size: Relative error of the timed rows.
    """

    relative_error: float | None
    top1: float | None
    finite: bool
    accurate: bool
    correct_share: float | None
    by_batch_size: Mapping[int, float | None]


class Judge:
    """Knows the right answers.

    Args:
        session: The FP32 graph.
        samples: The inputs.
        labels: The right class of each sample, an index into the last axis of the first output.
        batched: Whether a sample is one row of a batch.

    Raises:
        GraphError: The graph does not run on the samples.
        SpecError: The labels are no classes of the first output.
    """

    def __init__(
        self, session: OnnxSession, samples: Samples, labels: npt.NDArray[Any] | None, *, batched: bool
    ) -> None:
        self._references = _references(session, samples, batched=batched)
        self._first = session.outputs[0].name
        self._labels = labels
        self.labelled = 0 if labels is None else len(labels)
        if labels is not None:
            _check_labels(labels, self._first, self._references[0][self._first].shape)
        self.reference_correct_share = self._correct_share([one[self._first] for one in self._references])

    def verdict(self, answers: Path, precision: str, batch_sizes: Sequence[int]) -> Verdict:
        """Compare what a worker wrote.

        Args:
            answers: The worker's file: ``all/<output>`` for all samples, ``<batch size>/<output>`` for timed rows.
            precision: Whose limits apply.
            batch_sizes: Timed batch sizes; those of one call in full shape are 1.
        """
        with np.load(answers) as archive:
            overall, given = self._compared(archive, "all", precision)
            timed = {size: self._compared(archive, str(size), precision)[0] for size in batch_sizes}
        shares = [one.top1 for one in overall.outputs if one.top1 is not None]
        return Verdict(
            relative_error=_finite(overall.worst),
            top1=min(shares, default=None),
            finite=all(one.finite for one in overall.outputs),
            accurate=overall.passed and all(one.passed for one in timed.values()),
            correct_share=self._correct_share(given),
            by_batch_size={size: _finite(one.worst) for size, one in timed.items()},
        )

    def _compared(self, archive: Arrays, part: str, precision: str) -> tuple[Accuracy, Sequence[npt.NDArray[Any]]]:
        """The accuracy of one part of the answers, and that part's first output by sample."""
        outputs = {name: archive[f"{part}/{name}"] for name in self._references[0]}
        count = len(outputs[self._first])
        references = [self._references[index % len(self._references)] for index in range(count)]
        given = [{name: array[index] for name, array in outputs.items()} for index in range(count)]
        options = PrecisionOptions(type=cast("PrecisionType", precision))
        return accuracy(references, given, options), [one[self._first] for one in given]

    def _correct_share(self, answers: Sequence[npt.NDArray[Any]]) -> float | None:
        if self._labels is None:
            return None
        return float(np.mean([np.argmax(answer) == label for answer, label in zip(answers, self._labels, strict=True)]))


def labels_from_npz(path: Path, key: str, count: int) -> npt.NDArray[Any]:
    """The labels beside samples.

    Args:
        path: The samples' file.
        key: The array with the labels.
        count: Number of samples.

    Raises:
        SpecError: There is no such array, or it does not fit.
    """
    with np.load(path, allow_pickle=False) as archive:
        if key not in archive:
            raise SpecError(f"{path} lacks the labels", expected=f"an array '{key}'", got=", ".join(archive))
        labels: npt.NDArray[Any] = archive[key]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise SpecError(
            f"the labels '{key}' in {path} do not fit the samples",
            expected=f"integers of shape ({count},)",
            got=f"{labels.dtype} {labels.shape}",
        )
    return labels


def _check_labels(labels: npt.NDArray[Any], output: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise SpecError(
            f"labels do not fit output '{output}'",
            expected="scores of classes, one row a sample",
            got=f"shape {shape} for one sample",
        )
    if labels.min() < 0 or labels.max() >= shape[0]:
        raise SpecError(
            f"labels do not fit output '{output}'",
            expected=f"classes from 0 to {shape[0] - 1}",
            got=f"labels from {labels.min()} to {labels.max()}",
        )


def _references(session: OnnxSession, samples: Samples, *, batched: bool) -> list[dict[str, npt.NDArray[Any]]]:
    """By sample, output name to array."""
    if not batched:
        return [session.run(samples.one(index)) for index in range(samples.count)]
    references = []
    for start in range(0, samples.count, _REFERENCE_BATCH):
        size = min(_REFERENCE_BATCH, samples.count - start)
        outputs = session.run(samples.batch(start, size))
        references += [{name: array[index] for name, array in outputs.items()} for index in range(size)]
    return references


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
