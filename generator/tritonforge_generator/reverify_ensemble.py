"""Proves a published ensemble again, against the models of its repository as they are now."""

from __future__ import annotations

from tritonforge_generator.ensemble import (
    ComposingModel,
    Ensemble,
    composing_models,
    ensemble_from_options,
    options_from_config,
)
from tritonforge_generator.lint.proto import ModelConfig
from tritonforge_generator.made import versions_run
from tritonforge_generator.repository import Manifest, ModelFolder
from tritonforge_generator.repository.staging import file_hashes_of
from tritonforge_generator.spec import VerifyOptions
from tritonforge_generator.verify import Check, EnsembleProof, ensemble_not_servable, ensemble_proof


def proof_of_published(
    folder: ModelFolder,
    config: ModelConfig,
    options: VerifyOptions,
    manifest: Manifest | None,
    checks: list[Check],
) -> tuple[EnsembleProof, str]:
    """Derive a published ensemble from its steps once more, and run the gates that need no server.

    Args:
        folder: Its folder.
        config: Its config.
        options: Samples and tolerances.
        manifest: What is recorded of it; ``None`` where another tool made it.
        checks: Gets its gates as they are tried.

    Returns:
        What is known of it, and why the embedded server cannot try it (empty when it can).

    Raises:
        ConfigError: An edge does not fit, or a step's model is missing.
        GraphError: A step does not run on what the steps before it made.
    """
    repository = folder.path.parent
    names = [step.model_name for step in config.ensemble_scheduling.step]
    models = composing_models(repository, names, of=folder.name)
    ensemble = ensemble_from_options(options_from_config(config, options), models)
    if manifest is not None:
        checks.append(_composing_check(ensemble, models, manifest))
    proof = ensemble_proof(ensemble, models, options, repository)
    checks += proof.checks
    return proof, ensemble_not_servable(ensemble, models, config)


def _composing_check(ensemble: Ensemble, models: dict[str, ComposingModel], manifest: Manifest) -> Check:
    """A version never changes, so its files are those that are recorded; a newer version may have taken its place."""
    changed, moved = [], []
    for name, versions in versions_run(ensemble, models).items():
        recorded = manifest.composing.get(name, {})
        for version in versions:
            if str(version) not in recorded:
                before = ", ".join(recorded) or "none"
                moved.append(f"'{name}' runs version {version} now, made with {before}")
            elif dict(recorded[str(version)]) != file_hashes_of(models[name].folder / str(version)):
                changed.append(f"'{name}' version {version}")
    summary = f"changed: {', '.join(changed)}" if changed else "; ".join(moved) or "the files of every step match"
    return Check(name="its steps are those of the manifest", passed=not changed, summary=summary)
