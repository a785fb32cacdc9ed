"""Deploy stage: the real Triton server on this machine."""

from __future__ import annotations

from tritonforge_generator.deploy.embedded import EmbeddedTriton
from tritonforge_generator.deploy.wheel import TritonInstallation, find_installation

__all__ = ["EmbeddedTriton", "TritonInstallation", "find_installation"]
