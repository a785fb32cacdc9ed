"""Stage that proves a staged model before it is published; every gate fails closed."""

from tritonforge_generator.verify.gates import batch_check, lint_check, offline_checks, reference_check
from tritonforge_generator.verify.plan_gates import plan_checks, plan_datatypes, server_check
from tritonforge_generator.verify.published import (
    gpu_check,
    header_check,
    installed_check,
    own_plan_checks,
    own_reference_check,
    plan_from_record,
)
from tritonforge_generator.verify.reference import Reference, preprocessing_check, reference_from_path
from tritonforge_generator.verify.served import served_check
from tritonforge_generator.verify.typed import precision_check, proven_typed_graph
from tritonforge_generator.verify.verification import (
    Check,
    GatesFailedError,
    OutputFigures,
    Verification,
    skipped_check,
)

__all__ = [
    "Check",
    "GatesFailedError",
    "OutputFigures",
    "Reference",
    "Verification",
    "batch_check",
    "gpu_check",
    "header_check",
    "installed_check",
    "lint_check",
    "offline_checks",
    "own_plan_checks",
    "own_reference_check",
    "plan_checks",
    "plan_datatypes",
    "plan_from_record",
    "precision_check",
    "preprocessing_check",
    "proven_typed_graph",
    "reference_check",
    "reference_from_path",
    "served_check",
    "server_check",
    "skipped_check",
]
