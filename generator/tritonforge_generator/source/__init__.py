"""First stage: the trained model as it lies on disk, or as PyTorch exports it."""

from tritonforge_generator.source.onnx_file import source_from_path
from tritonforge_generator.source.python_file import python_source, source_from_python
from tritonforge_generator.source.source_model import SourceFile, SourceModel
from tritonforge_generator.source.torch_module import (
    DEFAULT_OPSET,
    TorchModel,
    source_from_reference,
    source_from_torch,
    torch_model_from_reference,
)

__all__ = [
    "DEFAULT_OPSET",
    "SourceFile",
    "SourceModel",
    "TorchModel",
    "python_source",
    "source_from_path",
    "source_from_python",
    "source_from_reference",
    "source_from_torch",
    "torch_model_from_reference",
]
