from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stand_in_plans import packages_in_front, stand_in_tensorrt

from tritonforge_generator.errors import PlanError, TensorRTMissingError
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.availability import require_tensorrt
from tritonforge_generator.plan.cuda import cudart


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Path]:
    """A folder whose packages are found first; nothing of TensorRT is loaded yet."""
    with packages_in_front(tmp_path):
        yield tmp_path


def test_the_gpu_is_told_when_all_is_here(tensorrt: None) -> None:
    gpu = require_tensorrt()
    assert (gpu.name, gpu.compute_capability, gpu.driver_cuda_version) == ("stand-in", "9.0", "13.0")


def test_a_machine_without_tensorrt_is_told_what_to_install(packages: Path) -> None:
    (packages / "tensorrt.py").write_text("raise ModuleNotFoundError(\"No module named 'tensorrt'\")", "utf-8")
    with pytest.raises(TensorRTMissingError, match="TensorRT is not installed here") as caught:
        require_tensorrt()
    assert "pip install 'tritonforge[tensorrt]'" in str(caught.value)
    assert "platform: onnxruntime" in str(caught.value)


def test_libraries_that_do_not_load_are_named(packages: Path) -> None:
    text = "libcudart.so.13: cannot open shared object file"
    (packages / "tensorrt.py").write_text(f"raise ImportError({text!r})", "utf-8")
    with pytest.raises(TensorRTMissingError, match=rf"TensorRT cannot be loaded: .*got {text}"):
        require_tensorrt()


def test_a_machine_without_cuda_python_is_told_what_to_install(packages: Path) -> None:
    (packages / "tensorrt.py").write_text('__version__ = "10.16.1.11"', "utf-8")
    (packages / "cuda.py").write_text("", "utf-8")  # neither cuda.bindings nor cuda.cudart
    with pytest.raises(TensorRTMissingError, match="cuda-python is not installed here") as caught:
        require_tensorrt()
    assert "pip install 'tritonforge[tensorrt]'" in str(caught.value)


def test_a_machine_without_a_driver_is_told(tensorrt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(cudart(), "cudaGetDeviceCount", fail)
    with pytest.raises(TensorRTMissingError, match=r"no NVIDIA GPU can be used here: .*libcuda\.so\.1"):
        require_tensorrt()


def test_a_gpu_that_does_not_exist_is_named() -> None:
    with stand_in_tensorrt(), pytest.raises(TensorRTMissingError, match="GPU 1 does not exist: expected 0 to 0"):
        require_tensorrt(1)


def test_a_plugin_library_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    tensorrt_api.load_plugins([Path("libm.so.6")])
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"no library")
    for path in (tmp_path / "libabsent.so", broken):
        with pytest.raises(PlanError, match=rf"the plugin library {path.name} cannot be loaded.*tensorrt\.plugins"):
            tensorrt_api.load_plugins([path])
