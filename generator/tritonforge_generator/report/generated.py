"""From what ``generate`` made, or why it made nothing, to a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tritonforge_generator.report.figures import size
from tritonforge_generator.report.here import report_here, software
from tritonforge_generator.report.model import Fact, ModelReport, RunReport, Stage

if TYPE_CHECKING:
    from tritonforge_generator.pipeline import Generated
    from tritonforge_generator.plan.cuda import Gpu
    from tritonforge_generator.verify import Verification


def report_from_generated(generated: Sequence[Generated], command: Sequence[str]) -> RunReport:
    """Report on models that were published.

    Args:
        generated: The models, at least one.
        command: What was run, word by word.
    """
    models = tuple(model_report_from_generated(one) for one in generated)
    title = models[0].name if len(models) == 1 else f"{len(models)} models"
    gpus = {one.plan.gpu.device_id: one.plan.gpu for one in generated if one.plan is not None}
    environment = [*(_fact_of_gpu(gpu) for gpu in gpus.values()), *software()]
    return replace(report_here(title, command, environment), models=models)


def report_from_failure(verification: Verification, command: Sequence[str]) -> RunReport:
    """Report on a run that ended at the gates of a model.

    Args:
        verification: The gates of that model, as far as they ran.
        command: What was run, word by word.
    """
    model = ModelReport(
        name=verification.model,
        outcome="not published",
        samples=verification.samples,
        checks=verification.checks,
    )
    return replace(report_here(verification.model, command, software()), models=(model,))


def model_report_from_generated(generated: Generated) -> ModelReport:
    """Say what was made of one model."""
    version = generated.version
    return ModelReport(
        name=version.folder.name,
        outcome=f"published as version {version.version}" if version.new else f"unchanged, version {version.version}",
        backend=generated.config.message.backend,
        samples=generated.verification.samples,
        graph=generated.graph,
        config_text=generated.config.text,
        checks=generated.verification.checks,
        typed=generated.typed,
        plan=generated.plan,
        stages=tuple(Stage(name=name, duration_s=seconds) for name, seconds in generated.stage_s.items()),
    )


def _fact_of_gpu(gpu: Gpu) -> Fact:
    facts = f"compute capability {gpu.compute_capability}, {size(gpu.memory_bytes)}"
    return Fact(label="GPU", value=f"{gpu.name}, {facts}; its driver serves CUDA {gpu.driver_cuda_version}")
