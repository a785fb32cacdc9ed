"""The precision stage under its gate: types are written, judged against FP32, and repaired where they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tritonforge_generator.errors import TritonforgeError
from tritonforge_generator.graph import Graph, OnnxSession
from tritonforge_generator.graph.session import Session
from tritonforge_generator.precision import (
    Accuracy,
    PrecisionStage,
    TypedGraph,
    accuracy,
    calibration_from_text,
    culprits,
    repaired,
)
from tritonforge_generator.spec import PrecisionOptions
from tritonforge_generator.verify.reference import Reference
from tritonforge_generator.verify.verification import Check, Comparison

_NAMED_CULPRITS: Final = 5


def proven_typed_graph(
    path: Path, graph: Graph, options: PrecisionOptions, reference: Reference, folder: Path
) -> tuple[TypedGraph, Check]:
    """Write a precision into a graph and judge it on the CPU.

    Args:
        path: The FP32 graph's file.
        graph: What it takes and gives.
        options: Precision, calibration, limits, repair.
        reference: The FP32 graph's answers.
        folder: Where files are written.

    Returns:
        The typed graph, and its gate, which also names the nodes that had to be kept in FP32.

    Raises:
        PrecisionError: The types cannot be written into this graph.
        SpecError: The calibration samples cannot be used.
    """
    calibration = calibration_from_text(
        options.calibration.samples, graph.inputs, reference.samples, batched=reference.batched
    )
    stage = PrecisionStage(path, options, calibration, batched=reference.batched)

    def evaluate(candidate: TypedGraph) -> Accuracy:
        return session_accuracy(reference, OnnxSession(candidate.check_path), options)

    typed = stage.typed_graph(folder)
    found = evaluate(typed)
    repair_note = ""
    if not found.passed and options.repair.enable and typed.layer_count > 0:
        first = found.summary
        ranked = culprits(stage, typed, reference.samples, batched=reference.batched)
        repair = repaired(stage, ranked, typed.layer_count, folder, evaluate)
        if repair is not None:
            typed, found = repair.typed, repair.accuracy
            repair_note = f"; before repair: {first}"
        else:
            typed = stage.typed_graph(folder)  # the search wrote over it
            worst = ", ".join(f"{name} ({reason})" for name, reason in ranked[:_NAMED_CULPRITS])
            repair_note = (
                f"; keeping at most {options.repair.max_layer_share:.0%} of its {typed.layer_count} layers in FP32 "
                f"(precision.repair.max_layer_share) does not mend it; the worst are {worst}"
            )
    kept = "".join(f"; kept in FP32: {node.name} ({node.reason})" for node in typed.kept_fp32)
    check = precision_check(
        reference, OnnxSession(typed.check_path), options, f"{options.type} stays near FP32 on the CPU"
    )
    return typed, Check(
        name=check.name, passed=found.passed, summary=found.summary + repair_note + kept, figures=check.figures
    )


def precision_check(reference: Reference, session: Session, options: PrecisionOptions, name: str) -> Check:
    """Judge answers in fewer bits against the FP32 reference, by their relative error.

    Args:
        reference: The FP32 graph's answers.
        session: What gives the answers to judge.
        options: Precision and limits.
        name: What the gate is called.
    """
    try:
        found = session_accuracy(reference, session, options)
    except TritonforgeError as error:
        return Check(name=name, passed=False, summary=str(error))
    comparison = Comparison(None)
    for index, expected in enumerate(reference.answers):
        comparison.add_all(expected, session.run(reference.request(index)), f"sample {index}")
    return Check(name=name, passed=found.passed, summary=found.summary, figures=comparison.figures())


def session_accuracy(reference: Reference, session: Session, options: PrecisionOptions) -> Accuracy:
    """Accuracy of a session over all samples of a reference."""
    answers = [session.run(reference.request(index)) for index in range(len(reference.answers))]
    return accuracy(reference.answers, answers, options)
