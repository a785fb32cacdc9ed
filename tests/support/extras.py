"""Runs code as if no extra were installed."""

from __future__ import annotations

import subprocess
import sys

_WITHOUT_EXTRAS = """
import sys
EXTRAS = {"onnx", "onnxruntime", "jinja2", "pydantic", "pydantic_core", "yaml", "rich", "locust", "gevent",
          "matplotlib", "PIL", "pynvml", "sklearn", "torch", "tensorrt", "cuda"}
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in EXTRAS else found(name, *more)
"""


def run_without_extras(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own in which the packages that extras bring are not found."""
    command = [sys.executable, "-c", _WITHOUT_EXTRAS + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
