"""A TensorRT plan, run as it is served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge_generator.bench.subjects.subject import Arrays
from tritonforge_generator.plan import Engine, Runner, tensorrt_api
from tritonforge_generator.plan.cuda import gpu_from_device_id
from tritonforge_generator.plan.engine import numpy_dtype_of


class TensorRTSubject:
    """A plan with CUDA graphs and page-locked staging.

    Args:
        plan: The file.
        device_id: The GPU.

    Raises:
        PlanError: The plan does not load.
    """

    on_gpu = True

    def __init__(self, plan: Path, device_id: int) -> None:
        self._engine = Engine(plan, device_id)
        self._runner = Runner(self._engine)
        self._dtypes = {tensor.name: np.dtype(numpy_dtype_of(tensor)) for tensor in self._engine.inputs}

    def fitted(self, inputs: Arrays) -> Arrays:
        """INT64 becomes INT32 where the plan takes that (TensorRT 8)."""
        return {name: inputs[name].astype(dtype, copy=False) for name, dtype in self._dtypes.items()}

    def infer(self, inputs: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Copy to the GPU through page-locked memory, run, copy back."""
        return self._runner.infer(inputs)

    def compute_times_ms(self, inputs: Arrays, runs: int) -> list[float]:
        """Time between two events on the GPU, around each launch."""
        return self._runner.measure(inputs, runs=runs)

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._runner.close()
        self._engine.close()


def probe(device_id: int) -> str:
    """Its version, where it can be used.

    Raises:
        TensorRTMissingError: TensorRT or a GPU is missing.
    """
    version = tensorrt_api.version()
    gpu_from_device_id(device_id)
    return f"TensorRT {version}"
