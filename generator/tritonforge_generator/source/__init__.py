"""First stage: a trained model as it lies on disk."""

from tritonforge_generator.source.onnx_file import source_from_path
from tritonforge_generator.source.source_model import SourceFile, SourceModel

__all__ = ["SourceFile", "SourceModel", "source_from_path"]
