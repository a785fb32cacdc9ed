"""Looks at the machine: what is there, what is not, and what would bring it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from tritonforge_generator.errors import ServerNotInstalledError

_PACKAGES: Final = {
    "onnx": ("onnx", "generator"),
    "onnxruntime": ("onnxruntime", "generator"),
    "jinja2": ("jinja2", "generator"),
    "pydantic": ("pydantic", "generator"),
    "rich": ("rich", "generator"),
    "locust": ("locust", "load"),
    "matplotlib": ("matplotlib", "report"),
    "torch": ("torch", "torch"),
    "onnxscript": ("onnxscript", "torch"),
}
"""Distribution to its import name and the extra that brings it."""

_CUDA_PROGRAM: Final = """
try:
    import cuda.bindings.runtime
    print(cuda.bindings.__version__)
except ImportError:
    import cuda.cudart
    print("before 12.8")
"""

_GPU_PACKAGES: Final = {
    "TensorRT": ("tensorrt", "import tensorrt; print(tensorrt.__version__)"),
    "cuda-python": ("cuda", _CUDA_PROGRAM),
}
"""What a plan needs, by topic: its import name, and a program that prints its version if it really loads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that this machine has or lacks.

    Attributes:
        topic: What was looked for.
        present: Whether it is there.
        detail: Its version, or what is known of its absence.
        action: What to do to get it, where it is missing.
    """

    topic: str
    present: bool
    detail: str
    action: str = ""


def examine() -> list[Fact]:
    """Examine this machine. What could fail is imported in a process of its own; it takes a second or two."""
    return [_python(), *_packages(), *_providers(), _server(), *_gpus(), *_gpu_packages(), _container()]


def _python() -> Fact:
    cores = len(os.sched_getaffinity(0))
    return Fact(
        topic="Python",
        present=True,
        detail=f"{platform.python_version()} on {platform.system()} {platform.machine()}, {cores} cores",
    )


def _packages() -> Iterator[Fact]:
    for distribution, (module, extra) in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            yield Fact(
                topic=distribution,
                present=False,
                detail=f"extra {extra}",
                action=f"pip install 'tritonforge[{extra}]'",
            )
            continue
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            version = "installed without metadata"
        yield Fact(topic=distribution, present=True, detail=version)


def _server() -> Fact:
    from tritonforge_generator.deploy import find_installation

    try:
        installation = find_installation()
    except ServerNotInstalledError as error:
        return Fact(topic="Triton server", present=False, detail=error.got, action=error.action)
    return Fact(topic="Triton server", present=True, detail=f"wheel {installation.version} in {installation.root}")


def _gpus() -> Iterator[Fact]:
    program = shutil.which("nvidia-smi")
    query = ["--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    listing = _output([program, *query]) if program is not None else ""
    for index, line in enumerate(line for line in listing.splitlines() if line.strip() != ""):
        name, driver, memory, capability = (part.strip() for part in line.rsplit(",", 3))
        detail = f"{name}, driver {driver}, {memory}, compute capability {capability}"
        yield Fact(topic=f"GPU {index}", present=True, detail=detail)
    if listing.strip() == "":
        has_driver = _library_loads("libcuda.so.1")
        detail = "a driver, but no GPU answers" if has_driver else "no NVIDIA driver; models run on the CPU"
        yield Fact(topic="GPU", present=False, detail=detail, action="use a machine with an NVIDIA GPU and its driver")


def _gpu_packages() -> Iterator[Fact]:
    for topic, (module, program) in _GPU_PACKAGES.items():
        action = "pip install 'tritonforge[tensorrt]' on a machine with a GPU"
        if importlib.util.find_spec(module) is None:
            yield Fact(topic=topic, present=False, detail="plans cannot be built or run without it", action=action)
            continue
        version, complaint = _printed(program)
        if version != "":
            yield Fact(topic=topic, present=True, detail=version)
        else:
            action = "install the CUDA libraries that it was built for; see the detail"
            yield Fact(topic=topic, present=False, detail=f"does not load: {complaint}", action=action)


def _providers() -> Iterator[Fact]:
    if importlib.util.find_spec("onnxruntime") is None:
        return
    names, complaint = _printed("import onnxruntime; print(*onnxruntime.get_available_providers(), sep=', ')")
    on_gpu = "" if "CUDA" in names else "; onnxruntime-gpu instead of onnxruntime brings CUDA, for tritonforge bench"
    yield Fact(
        topic="ONNX Runtime's providers",
        present=names != "",
        detail=f"{names}{on_gpu}" if names != "" else f"does not load: {complaint}",
        action="" if names != "" else "pip install --force-reinstall onnxruntime",
    )


def _container() -> Fact:
    program = shutil.which("docker") or shutil.which("podman")
    version = _first_line([program, "version", "--format", "{{.Server.Version}}"]) if program is not None else ""
    detail = version or "the official Triton container cannot run here"
    action = "" if version != "" else "install docker or podman" if program is None else "start the docker daemon"
    return Fact(topic="container engine", present=version != "", detail=detail, action=action)


def _first_line(command: list[str]) -> str:
    """First line that a program prints; empty when it fails."""
    return next(iter(_output(command).splitlines()), "").strip()


def _printed(program: str) -> tuple[str, str]:
    """Last line that a Python program prints, or else the last line of its complaint."""
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return "", str(error)
    said, complaint = (next(iter(text.strip().splitlines()[-1:]), "") for text in (done.stdout, done.stderr))
    return (said, "") if done.returncode == 0 else ("", complaint or f"exit code {done.returncode}")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _library_loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
