"""What the user declares: ``tritonforge.yaml`` and the command-line flags that mean the same."""

from tritonforge_generator.spec.ensemble_options import (
    EnsembleOptions,
    EnsembleScheduling,
    EnsembleStep,
    EnsembleTensor,
)
from tritonforge_generator.spec.environment_options import EnvironmentOptions
from tritonforge_generator.spec.forge_spec import (
    ForgeSpec,
    forge_spec_from_file,
    forge_spec_from_flags,
    text_from_forge_spec,
)
from tritonforge_generator.spec.instance_options import InstanceGroup, RateLimiter
from tritonforge_generator.spec.model_options import ModelOptions, VerifyOptions
from tritonforge_generator.spec.optimization_options import (
    CudaOptimization,
    ExecutionAccelerators,
    GraphSpec,
    Optimization,
)
from tritonforge_generator.spec.precision_options import (
    CalibrationOptions,
    PrecisionOptions,
    PrecisionType,
    RepairOptions,
)
from tritonforge_generator.spec.preprocess_options import PreprocessOptions
from tritonforge_generator.spec.scheduling_options import DynamicBatching, QueuePolicy
from tritonforge_generator.spec.sequence_options import ControlInput, SequenceBatching, State
from tritonforge_generator.spec.server_options import (
    ModelMetrics,
    ModelRepositoryAgents,
    ResponseCache,
    VersionPolicy,
)
from tritonforge_generator.spec.tensor_options import BatchInput, BatchOutput, InputOptions, OutputOptions
from tritonforge_generator.spec.tensorrt_options import ProfileShapes, TensorRTOptions
from tritonforge_generator.spec.warmup_options import WarmupInput, WarmupSample

__all__ = [
    "BatchInput",
    "BatchOutput",
    "CalibrationOptions",
    "ControlInput",
    "CudaOptimization",
    "DynamicBatching",
    "EnsembleOptions",
    "EnsembleScheduling",
    "EnsembleStep",
    "EnsembleTensor",
    "EnvironmentOptions",
    "ExecutionAccelerators",
    "ForgeSpec",
    "GraphSpec",
    "InputOptions",
    "InstanceGroup",
    "ModelMetrics",
    "ModelOptions",
    "ModelRepositoryAgents",
    "Optimization",
    "OutputOptions",
    "PrecisionOptions",
    "PrecisionType",
    "PreprocessOptions",
    "ProfileShapes",
    "QueuePolicy",
    "RateLimiter",
    "RepairOptions",
    "ResponseCache",
    "SequenceBatching",
    "State",
    "TensorRTOptions",
    "VerifyOptions",
    "VersionPolicy",
    "WarmupInput",
    "WarmupSample",
    "forge_spec_from_file",
    "forge_spec_from_flags",
    "text_from_forge_spec",
]
