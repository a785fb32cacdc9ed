"""Gates of an ensemble: its edges, the server's rules, and that it answers like the chain of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from tritonforge_client import Client, TritonError
from tritonforge_generator.ensemble import ComposingModel, Ensemble
from tritonforge_generator.errors import GraphError, TensorRTMissingError, TritonforgeError
from tritonforge_generator.graph import GraphTensor
from tritonforge_generator.graph.agreement import reduced_tolerance, served_tolerance_of
from tritonforge_generator.graph.from_source import runnable_samples
from tritonforge_generator.graph.session import Arrays
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.lint.proto import ModelConfig
from tritonforge_generator.plan.availability import require_tensorrt
from tritonforge_generator.spec import VerifyOptions
from tritonforge_generator.verify.chain import StandIn, chain_from_ensemble, inputs_of, objection_to_chain
from tritonforge_generator.verify.gates import batch_check, batch_sizes, check_of_findings
from tritonforge_generator.verify.reference import Reference, reference_from_session, sample_options
from tritonforge_generator.verify.served import not_servable, served_check
from tritonforge_generator.verify.verification import Check, skipped_check

_ANSWERS: Final = "it answers like the chain of its steps"
_REPEATS: Final = "a real Triton answers, and rows are independent of their batch"
_LARGEST_SERVED_BATCH: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleProof:
    """What is known of an ensemble before a server was asked.

    Attributes:
        ensemble: The ensemble.
        options: How it is proven.
        checks: Gates tried so far.
        reference: The answers of the chain of its steps; ``None`` where a step cannot be chained.
    """

    ensemble: Ensemble
    options: VerifyOptions
    checks: tuple[Check, ...]
    reference: Reference | None


def ensemble_proof(
    ensemble: Ensemble,
    models: Mapping[str, ComposingModel],
    options: VerifyOptions,
    repository: Path,
    stand_ins: Mapping[str, StandIn] | None = None,
) -> EnsembleProof:
    """Run every gate of an ensemble that needs no server, and ask the chain of its steps.

    Args:
        ensemble: The ensemble.
        models: All models that it is made of, by name.
        options: Samples and tolerances.
        repository: Where all of them lie.
        stand_ins: What answers in place of plans, by model.

    Raises:
        GraphError: A step does not run on what the steps before it made.
        SpecError: Given samples do not fit the inputs.
    """
    checks = [_edges_check(ensemble)]
    objection = objection_to_chain(ensemble, models, stand_ins)
    reference = None
    if objection != "":
        checks.append(skipped_check(_ANSWERS, objection))
    else:
        batched = ensemble.max_batch_size > 0
        chain = chain_from_ensemble(ensemble, models, stand_ins)
        samples = runnable_samples(chain, sample_options(options), batched=batched)
        reference = reference_from_session(chain, samples, options, batched=batched, name=chain.path)
        if batched:
            checks.append(batch_check(reference, chain, max_batch_size=ensemble.max_batch_size))
        errors = [stand_ins[name].max_relative_error for name in models if name in stand_ins] if stand_ins else []
        if errors:
            reference = replace(reference, default_tolerance=reduced_tolerance(max(errors)))
    checks.append(check_of_findings(lint_repository(repository, models=[ensemble.name])))
    return EnsembleProof(ensemble=ensemble, options=options, checks=tuple(checks), reference=reference)


def _edges_check(ensemble: Ensemble) -> Check:
    """What was checked while the ensemble was derived: an edge that does not fit is an error there."""
    steps = f"{len(ensemble.steps)} steps" if len(ensemble.steps) > 1 else "1 step"
    summary = f"{ensemble.edges} edges of {steps} agree in type, rank, sizes and batch"
    return Check(name="every edge fits", passed=True, summary=summary)


def served_ensemble_check(proof: EnsembleProof, targets: Sequence[str]) -> Check:
    """Ask a running server, and compare with the chain of the steps; or with itself, where these cannot be chained.

    Args:
        proof: What is known of the ensemble.
        targets: URLs of the server.
    """
    ensemble = proof.ensemble
    if proof.reference is None:
        return _repeat_check(proof, targets)
    return served_check(ensemble.name, proof.reference, targets, max_batch_size=ensemble.max_batch_size)


def ensemble_not_servable(ensemble: Ensemble, models: Mapping[str, ComposingModel], config: ModelConfig) -> str:
    """Why the embedded server cannot try an ensemble; empty when it can.

    Args:
        ensemble: The ensemble.
        models: All models that it is made of, by name.
        config: Its config.
    """
    if config.ensemble_scheduling.max_inflight_requests > 0:
        return "the embedded server is older than max_inflight_requests and does not read such a configuration"
    if ensemble.is_decoupled:
        return "a request may get any number of replies"
    if any(model.config.HasField("sequence_batching") for model in models.values()):
        return "a step keeps state between requests"
    if any(_is_plan(model.config) for model in models.values()):
        try:
            require_tensorrt()
        except TensorRTMissingError as error:
            return f"a step is a plan: {error.what}"
    reasons = (not_servable(one) for one in (config, *(model.config for model in models.values())))
    return next(filter(None, reasons), "")


def _is_plan(config: ModelConfig) -> bool:
    return bool(config.backend == "tensorrt" or config.platform == "tensorrt_plan")


def _repeat_check(proof: EnsembleProof, targets: Sequence[str]) -> Check:
    ensemble = proof.ensemble
    batched = ensemble.max_batch_size > 0
    sizes = batch_sizes(min(ensemble.max_batch_size, _LARGEST_SERVED_BATCH)) if batched else []
    check = Check(name=_REPEATS, passed=False, summary="no server was asked")
    try:
        for target in targets:
            with Client(target) as client:
                session = _Served(client, ensemble)
                samples = runnable_samples(session, sample_options(proof.options), batched=batched)
                name = f"ensemble '{ensemble.name}'"
                reference = reference_from_session(session, samples, proof.options, batched=batched, name=name)
                reference = replace(reference, default_tolerance=served_tolerance_of)
                summary = f"{len(reference.answers)} samples, asked twice; it takes no batches"
                check = Check(name=_REPEATS, passed=True, summary=summary)
                if batched:
                    check = batch_check(reference, session, max_batch_size=ensemble.max_batch_size, sizes=sizes)
                    check = replace(check, name=_REPEATS)
                if not check.passed:
                    return check
    except TritonforgeError as error:
        return Check(name=_REPEATS, passed=False, summary=str(error))
    return check


class _Served:
    """A model of a running server as something that answers like a graph.

    Args:
        client: Connection to the server.
        ensemble: What is asked.
    """

    def __init__(self, client: Client, ensemble: Ensemble) -> None:
        self.path = f"the served ensemble '{ensemble.name}'"
        self.inputs: tuple[GraphTensor, ...] = inputs_of(ensemble)
        self._client = client
        self._model = ensemble.name

    def run(self, inputs: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Ask once.

        Raises:
            GraphError: The server refused, or a step failed.
        """
        try:
            return self._client.infer(self._model, dict(inputs)).value
        except TritonError as error:
            raise GraphError(f"{self.path} does not answer", got=str(error)) from error
