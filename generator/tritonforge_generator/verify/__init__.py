"""Stage that proves a staged model before it is published; every gate fails closed."""

from tritonforge_generator.verify.gates import batch_check, lint_check, offline_checks, reference_check
from tritonforge_generator.verify.plan_gates import plan_checks, plan_datatypes
from tritonforge_generator.verify.reference import Reference, preprocessing_check, reference_from_path
from tritonforge_generator.verify.served import served_check
from tritonforge_generator.verify.typed import proven_typed_graph
from tritonforge_generator.verify.verification import Check, GatesFailedError, OutputFigures, Verification

__all__ = [
    "Check",
    "GatesFailedError",
    "OutputFigures",
    "Reference",
    "Verification",
    "batch_check",
    "lint_check",
    "offline_checks",
    "plan_checks",
    "plan_datatypes",
    "preprocessing_check",
    "proven_typed_graph",
    "reference_check",
    "reference_from_path",
    "served_check",
]
