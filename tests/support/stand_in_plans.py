"""Plans for the stand-in TensorRT of ``gpu_stand_in``, and a server that runs them where there is no GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

import tritonforge_generator.deploy
from tritonforge_generator.deploy import EmbeddedTriton, wheel
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.cuda import cudart

STAND_IN = Path(__file__).with_name("gpu_stand_in")
BACKEND = Path(tritonforge_generator.deploy.__file__).parent / "backends" / "tensorrt" / "model.py"
TENSORRT_VERSIONS = ("8.6.0", "10.16.1.11", "11.4.0.106")
_DEFAULT_VERSION = TENSORRT_VERSIONS[1]
_DEFAULT_HEADER = (10, 16, 1, 11)

# Without a GPU the server makes KIND_CPU of every instance; the backend must believe that it has one.
_ON_A_GPU = f"""
import importlib.util
import sys

spec = importlib.util.spec_from_file_location("tensorrt_backend", {str(BACKEND)!r})
backend = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = backend  # dataclasses look their module up
spec.loader.exec_module(backend)


class TritonPythonModel(backend.TritonPythonModel):
    def initialize(self, args):
        super().initialize({{**args, "model_instance_kind": "GPU"}})
"""

Range = tuple[Sequence[int], Sequence[int], Sequence[int]]


def write_plan(
    path: Path,
    *,
    tensors: Sequence[tuple[str, str, Sequence[int]]],
    outputs: Mapping[str, Sequence[str]],
    profiles: Sequence[Mapping[str, Range]],
    run_s: float = 0.0,
    version: Sequence[int] = _DEFAULT_HEADER,
) -> Path:
    """Write a plan.

    Args:
        path: Where to.
        tensors: Name, numpy dtype and shape of inputs and outputs.
        outputs: By output, a numpy function and its inputs; ``profile`` fills in the number of the profile.
        profiles: By input, the smallest, best and largest shape.
        run_s: How long a run takes.
        version: The TensorRT that built it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "tensors": [{"name": name, "dtype": dtype, "shape": list(shape)} for name, dtype, shape in tensors],
        "outputs": outputs,
        "profiles": profiles,
        "run_s": run_s,
    }
    path.write_bytes(b"ftrt" + bytes(20) + bytes(version) + json.dumps(facts).encode())
    return path


def write_model(repository: Path, name: str, config: str) -> Path:
    """Write ``config.pbtxt`` of a plan; returns where the plan belongs."""
    directory = repository / name
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(f'platform: "tensorrt_plan"\n{dedent(config)}', "utf-8")
    return directory / "1" / "model.plan"


def negation(
    repository: Path,
    name: str,
    config: str = "",
    *,
    run_s: float = 0.0,
    dims: int = 4,
    version: Sequence[int] = _DEFAULT_HEADER,
) -> Path:
    """``y = -x`` on [batch, dims], batches up to 8."""
    path = write_model(
        repository,
        name,
        f"""
        max_batch_size: 8
        input {{ name: "x" data_type: TYPE_FP32 dims: [{dims}] }}
        output {{ name: "y" data_type: TYPE_FP32 dims: [{dims}] }}
        {config}
        """,
    )
    return write_plan(
        path,
        tensors=[("x", "float32", [-1, dims]), ("y", "float32", [-1, dims])],
        outputs={"y": ["negative", "x"]},
        profiles=[{"x": ([1, dims], [4, dims], [8, dims])}],
        run_s=run_s,
        version=version,
    )


@contextmanager
def stand_in_tensorrt(version: str = _DEFAULT_VERSION) -> Iterator[None]:
    """Make TensorRT and CUDA stand-ins in this process and its children.

    Args:
        version: One of ``TENSORRT_VERSIONS``.
    """
    with packages_in_front(STAND_IN), pytest.MonkeyPatch.context() as patch:
        patch.setenv("STAND_IN_TENSORRT", version)
        yield


@contextmanager
def packages_in_front(folder: Path) -> Iterator[None]:
    """Let TensorRT and CUDA be imported from a folder; what was imported before comes back afterwards."""

    def taken() -> dict[str, ModuleType]:
        tensorrt_api.tensorrt.cache_clear()
        cudart.cache_clear()
        names = [name for name in sys.modules if name.partition(".")[0] in {"tensorrt", "cuda"}]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        try:
            yield
        finally:
            taken()
            sys.modules.update(before)


@contextmanager
def stand_in_backend(folder: Path, version: str = _DEFAULT_VERSION) -> Iterator[None]:
    """Let servers started meanwhile serve plans with the stand-in TensorRT.

    Args:
        folder: An empty folder for the backend.
        version: One of ``TENSORRT_VERSIONS``.
    """
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt" / "model.py").write_text(_ON_A_GPU, "utf-8")
    with pytest.MonkeyPatch.context() as patch, stand_in_tensorrt(version):
        patch.setattr(wheel, "_BACKENDS", folder)
        yield


def served(repository: Path, **options: object) -> EmbeddedTriton:
    """A server on a repository of plans, not started yet."""
    return EmbeddedTriton(repository, ready_timeout_s=60, stop_timeout_s=0, **options)  # type: ignore[arg-type]
