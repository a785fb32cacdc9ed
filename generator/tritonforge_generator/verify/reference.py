"""The source model's own answers: what everything later is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.errors import GraphError
from tritonforge_generator.graph import OnnxSession, SampleOptions, Samples
from tritonforge_generator.graph.agreement import Tolerance, disagreement, reduced_tolerance
from tritonforge_generator.graph.from_source import runnable_samples
from tritonforge_generator.graph.preprocess import image_size, preprocessed_array
from tritonforge_generator.graph.session import Arrays, Session
from tritonforge_generator.precision import LIMITS, accuracy
from tritonforge_generator.spec import PrecisionOptions, PreprocessOptions, SequenceBatching, VerifyOptions
from tritonforge_generator.verify.sequence import as_sequence
from tritonforge_generator.verify.verification import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Samples and the source model's answer to each of them, one at a time.

    Attributes:
        samples: The inputs.
        batched: Whether a sample is one row of a batch; else it is a full set of inputs.
        answers: By sample, output name to array. Batched answers keep their batch axis of one.
        tolerance: Allowed difference; ``None`` takes the default of each output's dtype.
        default_tolerance: The default for graphs in fewer bits.
    """

    samples: Samples
    batched: bool
    answers: tuple[Arrays, ...]
    tolerance: Tolerance | None
    default_tolerance: Callable[[npt.NDArray[Any]], Tolerance] | None = None

    def request(self, index: int) -> dict[str, npt.NDArray[Any]]:
        """The inputs of one sample as the graph takes them."""
        return self.samples.batch(index, 1) if self.batched else self.samples.one(index)

    @property
    def sample_shapes(self) -> dict[str, tuple[int, ...]]:
        """By input, the shape of one sample without a batch axis."""
        return {name: array.shape[1:] for name, array in self.samples.arrays.items()}

    def for_precision(self, options: PrecisionOptions) -> Reference:
        """The same answers, to be compared with those of a graph in fewer bits."""
        return replace(self, default_tolerance=reduced_tolerance(options.max_relative_error or LIMITS[options.type]))

    def in_types(self, datatypes: Mapping[str, str]) -> Reference:
        """The same samples and answers in the types of a plan, which may be narrower integers.

        Args:
            datatypes: By tensor, Triton's name of its type.

        Raises:
            GraphError: A sample does not fit the narrower type.
        """
        arrays = {name: _converted(name, array, datatypes) for name, array in self.samples.arrays.items()}
        answers = tuple(
            {name: _converted(name, array, datatypes) for name, array in answer.items()} for answer in self.answers
        )
        return replace(self, samples=replace(self.samples, arrays=arrays), answers=answers)


def _converted(name: str, array: npt.NDArray[Any], datatypes: Mapping[str, str]) -> npt.NDArray[Any]:
    dtype = BY_DATATYPE[datatypes[name]].dtype if name in datatypes else array.dtype
    if dtype == array.dtype:
        return array
    converted = array.astype(dtype)
    if array.dtype.kind in "iu" and not np.array_equal(converted, array):
        raise GraphError(
            f"values of '{name}' do not fit the plan", expected=f"values within {dtype}", got=f"up to {array.max()}"
        )
    return converted


def reference_from_path(
    path: Path, options: VerifyOptions, *, batched: bool, sequence: SequenceBatching | None = None
) -> Reference:
    """Run a model on its samples and keep the answers.

    Args:
        path: The ``.onnx`` file.
        options: Samples and tolerances.
        batched: Whether the first axis is a batch.
        sequence: How steps of sequences reach the model; the samples become one.

    Raises:
        GraphError: It does not run, or answers the same question differently twice.
        SpecError: Given samples do not fit the inputs.
    """
    session = OnnxSession(path)
    samples = runnable_samples(session, sample_options(options), batched=batched)
    samples = as_sequence(samples, sequence, session, batched=batched)
    return reference_from_session(session, samples, options, batched=batched, name=str(path))


def reference_from_session(
    session: Session, samples: Samples, options: VerifyOptions, *, batched: bool, name: str
) -> Reference:
    """Ask a session for the answer to each sample.

    Args:
        session: What answers.
        samples: What is asked.
        options: Tolerances.
        batched: Whether a sample is one row of a batch.
        name: What the session runs, for messages.

    Raises:
        GraphError: It does not run, or answers the same question differently twice.
    """
    reference = Reference(samples=samples, batched=batched, answers=(), tolerance=tolerance_of(options))
    answers = tuple(session.run(reference.request(index)) for index in range(samples.count))
    again = session.run(reference.request(0))
    for output, answer in again.items():
        difference = disagreement(answers[0][output], answer)
        if difference != "":
            raise GraphError(
                f"{name} answers the same question differently when asked twice, so it cannot be verified",
                expected=f"a repeatable output '{output}'",
                got=difference,
                action="Export it in evaluation mode, or give its random nodes a seed.",
            )
    return replace(reference, answers=answers)


def preprocessing_check(
    network: Path, options: PreprocessOptions, reference: Reference, relative_error: float = 1e-4
) -> Check:
    """Compare a graph that preprocesses with its network fed by the same preprocessing in numpy.

    Args:
        network: The network alone.
        options: The preprocessing.
        reference: Answers of the graph that preprocesses.
        relative_error: Allowed |answer - reference| / |reference|; both sum in another order.
    """
    session = OnnxSession(network)
    name, size = image_size(network, options)
    answers = []
    for index in range(len(reference.answers)):
        inputs = reference.request(index)
        answers.append(session.run({**inputs, name: preprocessed_array(inputs[name], options, size)}))
    found = accuracy(answers, reference.answers, PrecisionOptions(max_relative_error=relative_error))
    return Check(name="preprocessing in the graph equals numpy", passed=found.passed, summary=found.summary)


def sample_options(options: VerifyOptions) -> SampleOptions:
    """Where the samples of a model come from."""
    return SampleOptions(path=options.samples, seed=options.seed, shapes=options.shapes)


def tolerance_of(options: VerifyOptions) -> Tolerance | None:
    """The difference that the user allows; ``None`` for the default of each output's dtype."""
    if options.rtol is None and options.atol is None:
        return None
    return Tolerance(rtol=options.rtol or 0.0, atol=options.atol or 0.0)
