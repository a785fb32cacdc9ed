"""The backend's session options, read back from ONNX Runtime.

The module runs inside Triton's stub, which alone has ``triton_python_backend_utils``: the stand-in below has of it what
these functions use. What the backend does as a whole is tested with the real server in ``tests/server``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import onnxruntime as ort
import pytest

import tritonforge_generator.deploy

MODEL = Path(tritonforge_generator.deploy.__file__).parent / "backends" / "onnxruntime" / "model.py"


class RefusedError(Exception):
    """Stands in for ``TritonModelException``."""


class Logger:
    """Stands in for the server's log."""

    warnings: ClassVar[list[str]] = []

    @classmethod
    def log_warn(cls, text: str) -> None:
        cls.warnings.append(text)


@pytest.fixture(scope="module")
def backend() -> Iterator[Any]:
    stand_in = ModuleType("triton_python_backend_utils")
    vars(stand_in).update(TritonModelException=RefusedError, Logger=Logger)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, stand_in.__name__, stand_in)
        spec = importlib.util.spec_from_file_location("onnxruntime_backend_model", MODEL)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def config_of(
    parameters: Mapping[str, str] | None = None, *, level: int | None = None, instances: int = 1
) -> dict[str, Any]:
    return {
        "name": "m",
        "optimization": {} if level is None else {"graph": {"level": level}},
        "instance_group": [{"kind": "KIND_CPU", "count": instances}],
        "parameters": {key: {"string_value": value} for key, value in (parameters or {}).items()},
    }


LEVELS = ort.GraphOptimizationLevel


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (None, LEVELS.ORT_ENABLE_ALL),
        (-1, LEVELS.ORT_ENABLE_BASIC),
        (0, LEVELS.ORT_ENABLE_ALL),
        (1, LEVELS.ORT_ENABLE_EXTENDED),
        (2, LEVELS.ORT_DISABLE_ALL),
        (3, LEVELS.ORT_ENABLE_ALL),
    ],
)
def test_graph_level(backend: Any, level: int | None, expected: Any) -> None:
    assert backend.session_options(config_of(level=level)).graph_optimization_level == expected


@pytest.mark.parametrize(
    ("key", "value", "attribute", "expected"),
    [
        ("intra_op_thread_count", "3", "intra_op_num_threads", 3),
        ("intra_op_thread_count", " 8abc", "intra_op_num_threads", 8),  # as C++ stoi reads it
        ("inter_op_thread_count", "2", "inter_op_num_threads", 2),
        ("inter_op_thread_count", "-2", "inter_op_num_threads", 0),
        ("execution_mode", "1", "execution_mode", ort.ExecutionMode.ORT_PARALLEL),
        ("execution_mode", "0", "execution_mode", ort.ExecutionMode.ORT_SEQUENTIAL),
        ("enable_mem_arena", "OFF", "enable_cpu_mem_arena", False),
        ("enable_mem_arena", "1", "enable_cpu_mem_arena", True),
        ("enable_mem_pattern", "false", "enable_mem_pattern", False),
        ("enable_mem_pattern", "True", "enable_mem_pattern", True),
    ],
)
def test_parameter(backend: Any, key: str, value: str, attribute: str, expected: object) -> None:
    assert getattr(backend.session_options(config_of({key: value})), attribute) == expected


def test_session_and_run_entries(backend: Any) -> None:
    allocator, shrinkage = "session.use_device_allocator_for_initializers", "memory.enable_memory_arena_shrinkage"
    config = config_of({allocator: "1", shrinkage: "cpu:0"})
    assert backend.session_options(config).get_session_config_entry(allocator) == "1"
    assert backend.run_options(config).get_run_config_entry(shrinkage) == "cpu:0"


def test_instances_share_the_cores(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    threads = {
        count: backend.session_options(config_of(instances=count)).intra_op_num_threads for count in (1, 2, 3, 16)
    }
    assert threads == {1: 0, 2: 4, 3: 2, 16: 1}  # 0 leaves it to ONNX Runtime
    explicit = config_of({"intra_op_thread_count": "5"}, instances=2)
    assert backend.session_options(explicit).intra_op_num_threads == 5


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="onnxruntime has CUDA here")
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("instance_group { kind: KIND_AUTO }  # KIND_GPU where there is one", "CPU"),
        ("instance_group [ { count: 1 } ]", "CPU"),
        (None, "CPU"),
        ("instance_group {\n  kind: KIND_GPU\n}", None),
        ("instance_group { kind:KIND_GPU count: 2 }  # as wanted", None),
    ],
)
def test_without_cuda_only_an_explicit_gpu_is_refused(
    backend: Any, tmp_path: Path, text: str | None, kind: str | None
) -> None:
    if text is not None:
        (tmp_path / "config.pbtxt").write_text(text)
    if kind is None:
        with pytest.raises(RefusedError, match=r"says KIND_GPU, but .* install onnxruntime-gpu, or say KIND_AUTO"):
            backend.usable_kind("m", "GPU", tmp_path)
    else:
        assert backend.usable_kind("m", "GPU", tmp_path) == kind
        assert len(backend.pb_utils.Logger.warnings) > 0
    assert backend.usable_kind("m", "CPU", tmp_path) == "CPU"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (
            {"precision_mode": "FP16", "max_workspace_size_bytes": "1024"},
            {"trt_fp16_enable": "1", "trt_max_workspace_size": "1024"},
        ),
        (
            {"precision_mode": "INT8", "trt_engine_cache_enable": "1"},
            {"trt_int8_enable": "1", "trt_engine_cache_enable": "1"},
        ),
    ],
)
def test_tensorrt_accelerator(backend: Any, parameters: dict[str, str], expected: dict[str, str]) -> None:
    assert backend.tensorrt_options(parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"precision_mode": "FP8"}, "unsupported precision mode 'FP8' is requested"),
        ({"cache": "1"}, "unknown parameter 'cache' is provided for TensorRT Execution Accelerator"),
    ],
)
def test_tensorrt_accelerator_refuses(backend: Any, parameters: dict[str, str], text: str) -> None:
    with pytest.raises(RefusedError, match=text):
        backend.tensorrt_options(parameters)
