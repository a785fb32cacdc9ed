"""Gates of a Python model: a real Triton loads it, and answers the declared samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_client import Client, TritonError
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.verify.reference import Reference
from tritonforge_generator.verify.served import SERVED_CHECK, ClientView, served_check
from tritonforge_generator.verify.verification import Check, skipped_check

LOADED_CHECK: Final = "a real Triton loads the model"
TYPES_CHECK: Final = "answers have the declared types and shapes"
_DTYPES: Final = {entry.number: entry for entry in BY_DATATYPE.values()}


def python_served_checks(
    model: str, reference: Reference, targets: Sequence[str], *, config: Any, samples_given: bool
) -> list[Check]:
    """Ask a running server that has loaded a Python model.

    Args:
        model: Model name.
        reference: The samples, and the answers that are expected, if any.
        targets: URLs of the server, its gRPC one first.
        config: The model's ``inference.ModelConfig``.
        samples_given: Whether the samples are the user's; others say nothing of a Python model.
    """
    checks = [Check(name=LOADED_CHECK, passed=True, summary="loaded and ready")]
    if not samples_given:
        reason = "nothing was asked: verify.samples names no inputs that the model is made for"
        return [*checks, skipped_check(SERVED_CHECK, reason)]
    checks.append(_types_check(model, reference, targets, config))
    if config.model_transaction_policy.decoupled:
        reason = "a decoupled model gives any number of replies, so no answers can be expected of it"
        return [*checks, skipped_check(SERVED_CHECK, reason)]
    if not reference.answers:
        reason = "nothing to compare with: verify.expected names no answers"
        return [*checks, skipped_check(SERVED_CHECK, reason)]
    return [*checks, served_check(model, reference, targets, max_batch_size=config.max_batch_size, config=config)]


def _types_check(model: str, reference: Reference, targets: Sequence[str], config: Any) -> Check:
    """Ask each sample once and look at what comes."""
    view = ClientView(config, config.max_batch_size)
    steps = [view.inputs(reference.request(index)) for index in range(reference.samples.count)]
    count = 0
    try:
        with Client(targets[0]) as client:
            for answer in _answers(client, model, steps, view, config):
                count += 1
                problem = _objection(answer, config)
                if problem != "":
                    return Check(name=TYPES_CHECK, passed=False, summary=problem)
    except TritonError as error:
        return Check(name=TYPES_CHECK, passed=False, summary=str(error))
    return Check(name=TYPES_CHECK, passed=count > 0, summary=f"{count} replies to {len(steps)} samples")


def _answers(
    client: Client, model: str, steps: Sequence[Mapping[str, npt.NDArray[Any]]], view: ClientView, config: Any
) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    bound = client.bind(client.spec(model))
    if config.model_transaction_policy.decoupled:
        for step in steps:
            yield from bound.stream(step)
    elif view.is_sequence:
        yield from bound.sequence(id=view.sequence_id).map(steps)
    else:
        for step in steps:
            yield client.infer(model, step).value


def _objection(answer: Mapping[str, npt.NDArray[Any]], config: Any) -> str:
    rows = [-1] if config.max_batch_size > 0 else []
    for output in config.output:
        array = answer.get(output.name)
        if array is None:
            return f"a reply lacks the output '{output.name}'"
        dims = [*rows, *output.dims]
        wanted = _DTYPES[output.data_type]
        fits = array.ndim == len(dims) and all(size in {-1, own} for size, own in zip(dims, array.shape, strict=True))
        if not fits or (array.dtype != wanted.dtype and not _holds_text(array, wanted.datatype)):
            return f"'{output.name}' came as {array.dtype} {array.shape}, declared {wanted.data_type} {dims}"
    return ""


def _holds_text(array: npt.NDArray[Any], datatype: str) -> bool:
    return datatype == "BYTES" and array.dtype == np.object_
