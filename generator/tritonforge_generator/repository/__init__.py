"""Stage that publishes verified models: atomic, versioned, locked, with a manifest."""

from tritonforge_generator.repository.layout import ModelFolder, ModelRepository
from tritonforge_generator.repository.manifest import Manifest, manifest_from_json
from tritonforge_generator.repository.merge import Conflict, ConflictError, HandEdit, Merged, Side, merged_config
from tritonforge_generator.repository.staging import (
    ModelVersion,
    PublishStep,
    StagedModel,
    remove_leftovers,
    stage_model,
    swap_all,
)

__all__ = [
    "Conflict",
    "ConflictError",
    "HandEdit",
    "Manifest",
    "Merged",
    "ModelFolder",
    "ModelRepository",
    "ModelVersion",
    "PublishStep",
    "Side",
    "StagedModel",
    "manifest_from_json",
    "merged_config",
    "remove_leftovers",
    "stage_model",
    "swap_all",
]
