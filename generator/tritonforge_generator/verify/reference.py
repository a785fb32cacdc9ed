"""The source model's own answers: what everything later is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tritonforge_generator.errors import GraphError
from tritonforge_generator.graph import OnnxSession, SampleOptions, Samples
from tritonforge_generator.graph.agreement import Tolerance, disagreement
from tritonforge_generator.graph.from_source import runnable_samples
from tritonforge_generator.graph.session import Arrays
from tritonforge_generator.spec import VerifyOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Samples and the source model's answer to each of them, one at a time.

    Attributes:
        samples: The inputs.
        batched: Whether a sample is one row of a batch; else it is a full set of inputs.
        answers: By sample, output name to array. Batched answers keep their batch axis of one.
        tolerance: Allowed difference; ``None`` takes the default of each output's dtype.
    """

    samples: Samples
    batched: bool
    answers: tuple[Arrays, ...]
    tolerance: Tolerance | None

    def request(self, index: int) -> dict[str, npt.NDArray[Any]]:
        """The inputs of one sample as the graph takes them."""
        return self.samples.batch(index, 1) if self.batched else self.samples.one(index)

    @property
    def sample_shapes(self) -> dict[str, tuple[int, ...]]:
        """By input, the shape of one sample without a batch axis."""
        return {name: array.shape[1:] for name, array in self.samples.arrays.items()}


def reference_from_path(path: Path, options: VerifyOptions, *, batched: bool) -> Reference:
    """Run a model on its samples and keep the answers.

    Args:
        path: The ``.onnx`` file.
        options: Samples and tolerances.
        batched: Whether the first axis is a batch.

    Raises:
        GraphError: It does not run, or answers the same question differently twice.
        SpecError: Given samples do not fit the inputs.
    """
    session = OnnxSession(path)
    samples = runnable_samples(session, sample_options(options), batched=batched)
    reference = Reference(samples=samples, batched=batched, answers=(), tolerance=_tolerance(options))
    answers = tuple(session.run(reference.request(index)) for index in range(samples.count))
    again = session.run(reference.request(0))
    for name, answer in again.items():
        difference = disagreement(answers[0][name], answer)
        if difference != "":
            raise GraphError(
                f"{path} answers the same question differently when asked twice, so it cannot be verified",
                expected=f"a repeatable output '{name}'",
                got=difference,
                action="Export it in evaluation mode, or give its random nodes a seed.",
            )
    return replace(reference, answers=answers)


def sample_options(options: VerifyOptions) -> SampleOptions:
    """Where the samples of a model come from."""
    return SampleOptions(path=options.samples, seed=options.seed, shapes=options.shapes)


def _tolerance(options: VerifyOptions) -> Tolerance | None:
    if options.rtol is None and options.atol is None:
        return None
    return Tolerance(rtol=options.rtol or 0.0, atol=options.atol or 0.0)
