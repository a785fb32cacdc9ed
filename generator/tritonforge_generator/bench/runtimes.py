"""What can be compared: the runtimes by name, the precisions that each computes in, and which Python runs it."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tritonforge_generator.errors import SpecError

RuntimeName = Literal["onnxruntime-cpu", "onnxruntime-cuda", "pytorch", "pytorch-compile", "tensorrt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Something that runs a model.

    Attributes:
        name: Its name on the command line and in results.
        label: Its name for people.
        package: The module that must be importable in its Python.
        install: The requirement that brings that module.
        precisions: What it can be asked to compute in.
        lacking: Why it is not asked for the other precisions.
    """

    name: RuntimeName
    label: str
    package: str
    install: str
    precisions: tuple[str, ...]
    lacking: str


RUNTIMES: Final[Mapping[str, Runtime]] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="onnxruntime-cpu",
            label="ONNX Runtime CPU",
            package="onnxruntime",
            install="tritonforge[generator]",
            precisions=("FP32", "INT8"),
            lacking="ONNX Runtime's CPU kernels compute in FP32 and INT8",
        ),
        Runtime(
            name="onnxruntime-cuda",
            label="ONNX Runtime CUDA",
            package="onnxruntime",
            install="onnxruntime-gpu",
            precisions=("FP32", "TF32", "FP16"),
            lacking="ONNX Runtime's CUDA provider has no kernels for it",
        ),
        Runtime(
            name="pytorch",
            label="PyTorch",
            package="torch",
            install="tritonforge[torch]",
            precisions=("FP32", "TF32", "FP16", "BF16"),
            lacking="the module would have to be quantised first",
        ),
        Runtime(
            name="pytorch-compile",
            label="PyTorch compiled",
            package="torch",
            install="tritonforge[torch]",
            precisions=("FP32", "TF32", "FP16", "BF16"),
            lacking="the module would have to be quantised first",
        ),
        Runtime(
            name="tensorrt",
            label="TensorRT",
            package="tensorrt",
            install="tritonforge[generator,tensorrt]",
            precisions=("FP32", "TF32", "FP16", "BF16", "INT8", "FP8"),
            lacking="",
        ),
    )
}

DEFAULT_RUNTIMES: Final = ("onnxruntime-cpu", "onnxruntime-cuda", "pytorch", "tensorrt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The Python that runs a runtime.

    Attributes:
        python: Its program.
        variables: Environment variables to set, for example ``LD_LIBRARY_PATH``; an empty value unsets.
    """

    python: str = sys.executable
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is the one that runs this code."""
        return self.python == sys.executable


def install_advice(runtime: Runtime, interpreter: Interpreter) -> str:
    """What to do where a runtime is missing."""
    command = shlex.join([interpreter.python, "-m", "pip", "install", runtime.install])
    return f"Run: {command}; or name another Python that has it with --python {runtime.name}=/its/python."


def interpreters_from_flags(pythons: Sequence[str], variables: Sequence[str]) -> dict[str, Interpreter]:
    """The Python of each runtime that flags name, with its variables.

    Args:
        pythons: ``RUNTIME=PATH`` each.
        variables: ``RUNTIME:NAME=VALUE`` each.

    Raises:
        SpecError: One cannot be read.
    """
    found: dict[str, Interpreter] = {}
    for text in pythons:
        runtime, python = _parted(text, "=", "--python", "RUNTIME=PATH")
        found[runtime] = Interpreter(python=shutil.which(python) or python)
    for text in variables:
        runtime, setting = _parted(text, ":", "--env", "RUNTIME:NAME=VALUE")
        name, value = _parted(setting, "=", "--env", "RUNTIME:NAME=VALUE")
        known = found.get(runtime, Interpreter())
        found[runtime] = replace(known, variables=(*known.variables, (name, value)))
    return found


def _parted(text: str, separator: str, flag: str, form: str) -> tuple[str, str]:
    first, found, second = text.partition(separator)
    if found == "" or first == "":
        raise SpecError(f"{flag} cannot be read", expected=form, got=repr(text))
    return first, second
