"""ONNX Runtime on the CPU and on CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from tritonforge_generator.bench.subjects.subject import Arrays
from tritonforge_generator.bench.timing import wall_times_ms
from tritonforge_generator.errors import RuntimeMissingError

_CUDA_LIBRARIES: Final = ("cudart", "cublasLt", "cublas", "nvrtc", "curand", "cufft", "cudnn")
"""What the CUDA provider links, each before those that need it."""


class OnnxRuntimeSubject:
    """An ONNX file in ONNX Runtime.

    Args:
        path: The file.
        precision: On CUDA, FP32 turns TF32 off, which is on otherwise.
        device_id: The GPU; ``None`` for the CPU.

    Raises:
        RuntimeMissingError: The CUDA provider is not there or does not start.
    """

    def __init__(self, path: Path, precision: str, device_id: int | None) -> None:
        self._runtime = _onnxruntime(on_gpu=device_id is not None)
        self.on_gpu = device_id is not None
        self._device_id = device_id or 0
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        self._session = self._runtime.InferenceSession(
            str(path), options, providers=self._providers(device_id, precision)
        )
        if device_id is not None and "CUDAExecutionProvider" not in self._session.get_providers():
            raise RuntimeMissingError(
                "ONNX Runtime's CUDA provider does not start",
                expected="the CUDA and cuDNN libraries that it was built for, and a GPU",
                got=f"ONNX Runtime {self._runtime.__version__} fell back to the CPU",
                action="Install its CUDA libraries, or name their folders with "
                "--env onnxruntime-cuda:LD_LIBRARY_PATH=….",
            )
        self._output_names = [output.name for output in self._session.get_outputs()]

    def fitted(self, inputs: Arrays) -> Arrays:
        """The inputs as they are: the graph's own dtypes."""
        return inputs

    def infer(self, inputs: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Run on numpy arrays, as a user does."""
        return dict(zip(self._output_names, self._session.run(None, dict(inputs)), strict=True))

    def compute_times_ms(self, inputs: Arrays, runs: int) -> list[float]:
        """Wall time of runs with inputs and outputs bound to memory of the GPU; each waits for the GPU."""
        value, binding = self._runtime.OrtValue, self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, value.ortvalue_from_numpy(array, "cuda", self._device_id))
        for name, answer in self.infer(inputs).items():
            binding.bind_ortvalue_output(name, value.ortvalue_from_numpy(answer, "cuda", self._device_id))
        binding.synchronize_inputs()

        def call() -> None:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        call()
        return wall_times_ms(call, runs)

    def close(self) -> None:
        """Drop the session."""
        del self._session

    @staticmethod
    def _providers(device_id: int | None, precision: str) -> list[Any]:
        if device_id is None:
            return ["CPUExecutionProvider"]
        options = {"device_id": str(device_id), "use_tf32": "0" if precision == "FP32" else "1"}
        return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def probe(*, on_gpu: bool) -> str:
    """Its version, where it can be used.

    Raises:
        RuntimeMissingError: It cannot.
    """
    return f"ONNX Runtime {_onnxruntime(on_gpu=on_gpu).__version__}"


def _onnxruntime(*, on_gpu: bool) -> Any:
    runtime = importlib.import_module("onnxruntime")
    if on_gpu:
        offered = runtime.get_available_providers()
        if "CUDAExecutionProvider" not in offered:
            raise RuntimeMissingError(
                f"ONNX Runtime {runtime.__version__} has no CUDA provider",
                expected="CUDAExecutionProvider, which the package onnxruntime-gpu brings",
                got=", ".join(offered),
            )
        _load_cuda_libraries()
    return runtime


def _load_cuda_libraries() -> None:
    """Load the libraries of NVIDIA's wheels, wherever they are installed, so that the provider finds them."""
    for library in _CUDA_LIBRARIES:
        for folder in sys.path:
            for path in sorted(Path(folder).glob(f"nvidia/*/lib/lib{library}.so.*")):
                with contextlib.suppress(OSError):  # of another CUDA than the provider's, perhaps
                    ctypes.CDLL(str(path))
