"""Stage that publishes verified models: atomic, versioned, locked, with a manifest."""

from tritonforge_generator.repository.layout import ModelFolder, ModelRepository
from tritonforge_generator.repository.manifest import Manifest, manifest_from_json
from tritonforge_generator.repository.staging import ModelVersion, PublishStep, StagedModel, stage_model

__all__ = [
    "Manifest",
    "ModelFolder",
    "ModelRepository",
    "ModelVersion",
    "PublishStep",
    "StagedModel",
    "manifest_from_json",
    "stage_model",
]
