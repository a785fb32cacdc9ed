"""Stage that proves a staged model before it is published; every gate fails closed."""

from tritonforge_generator.verify.chain import StandIn
from tritonforge_generator.verify.ensemble import (
    EnsembleProof,
    ensemble_not_servable,
    ensemble_proof,
    served_ensemble_check,
)
from tritonforge_generator.verify.gates import batch_check, lint_check, offline_checks, reference_check
from tritonforge_generator.verify.other_plans import other_plans_checks
from tritonforge_generator.verify.plan_gates import plan_checks, plan_datatypes, server_check
from tritonforge_generator.verify.published import (
    gpu_check,
    header_check,
    installed_check,
    own_plan_checks,
    own_reference_check,
    plan_from_record,
)
from tritonforge_generator.verify.python_served import python_served_checks
from tritonforge_generator.verify.reference import (
    Reference,
    preprocessing_check,
    reference_from_path,
    sample_options,
    tolerance_of,
)
from tritonforge_generator.verify.served import SERVED_CHECK, not_servable, served_check
from tritonforge_generator.verify.typed import precision_check, proven_typed_graph
from tritonforge_generator.verify.verification import (
    Check,
    GatesFailedError,
    OutputFigures,
    Verification,
    skipped_check,
)

__all__ = [
    "SERVED_CHECK",
    "Check",
    "EnsembleProof",
    "GatesFailedError",
    "OutputFigures",
    "Reference",
    "StandIn",
    "Verification",
    "batch_check",
    "ensemble_not_servable",
    "ensemble_proof",
    "gpu_check",
    "header_check",
    "installed_check",
    "lint_check",
    "not_servable",
    "offline_checks",
    "other_plans_checks",
    "own_plan_checks",
    "own_reference_check",
    "plan_checks",
    "plan_datatypes",
    "plan_from_record",
    "precision_check",
    "preprocessing_check",
    "proven_typed_graph",
    "python_served_checks",
    "reference_check",
    "reference_from_path",
    "sample_options",
    "served_check",
    "served_ensemble_check",
    "server_check",
    "skipped_check",
    "tolerance_of",
]
