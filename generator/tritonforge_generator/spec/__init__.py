"""What the user declares: ``tritonforge.yaml`` and the command-line flags that mean the same."""

from tritonforge_generator.spec.forge_spec import ForgeSpec, forge_spec_from_file, forge_spec_from_flags
from tritonforge_generator.spec.model_options import (
    DynamicBatching,
    InstanceGroup,
    ModelOptions,
    Optimization,
    QueuePolicy,
    ResponseCache,
    VerifyOptions,
    VersionPolicy,
)

__all__ = [
    "DynamicBatching",
    "ForgeSpec",
    "InstanceGroup",
    "ModelOptions",
    "Optimization",
    "QueuePolicy",
    "ResponseCache",
    "VerifyOptions",
    "VersionPolicy",
    "forge_spec_from_file",
    "forge_spec_from_flags",
]
