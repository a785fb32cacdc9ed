"""Looks at the machine: what is there, what is not, and what would bring it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
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
    "tensorrt": ("tensorrt", "tensorrt"),
}
"""Distribution to its import name and the extra that brings it."""


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
    """Examine this machine. Nothing is imported or started that could fail; it takes well under a second."""
    return [_python(), *_packages(), _server(), *_gpus(), _container()]


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
    runtime = _library_loads("libnvinfer.so.10") or _library_loads("libnvinfer.so.8")
    detail = "found by the loader" if runtime else "not found by the loader; only plan headers can be read"
    yield Fact(
        topic="TensorRT library",
        present=runtime,
        detail=detail,
        action="" if runtime else "pip install 'tritonforge[tensorrt]' on a machine with a GPU",
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
