"""What the user declares: ``tritonforge.yaml`` and the command-line flags that mean the same."""

from tritonforge_generator.spec.forge_spec import (
    ForgeSpec,
    forge_spec_from_file,
    forge_spec_from_flags,
    text_from_forge_spec,
)
from tritonforge_generator.spec.model_options import (
    CudaOptimization,
    DynamicBatching,
    InstanceGroup,
    ModelOptions,
    Optimization,
    QueuePolicy,
    ResponseCache,
    VerifyOptions,
    VersionPolicy,
)
from tritonforge_generator.spec.precision_options import (
    CalibrationOptions,
    PrecisionOptions,
    PrecisionType,
    RepairOptions,
)
from tritonforge_generator.spec.preprocess_options import PreprocessOptions
from tritonforge_generator.spec.tensorrt_options import ProfileShapes, TensorRTOptions

__all__ = [
    "CalibrationOptions",
    "CudaOptimization",
    "DynamicBatching",
    "ForgeSpec",
    "InstanceGroup",
    "ModelOptions",
    "Optimization",
    "PrecisionOptions",
    "PrecisionType",
    "PreprocessOptions",
    "ProfileShapes",
    "QueuePolicy",
    "RepairOptions",
    "ResponseCache",
    "TensorRTOptions",
    "VerifyOptions",
    "VersionPolicy",
    "forge_spec_from_file",
    "forge_spec_from_flags",
    "text_from_forge_spec",
]
