"""Stand-in for TensorRT's runtime on a machine without a GPU: put its folder first on ``sys.path``.

It loads the plans of ``support.stand_in_plans``, whose outputs are one numpy function of their inputs, and runs them on
the stand-in CUDA streams beside it. Building is not here.
"""

from __future__ import annotations

import ctypes
import enum
import json
import time
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart

__version__ = "10.4.0"
_HEADER_BYTES = 28


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    INT8 = "int8"
    INT32 = "int32"
    BOOL = "bool"
    UINT8 = "uint8"
    INT64 = "int64"


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        try:
            return Engine(json.loads(data[_HEADER_BYTES:]))
        except ValueError:  # the text is TensorRT 10's
            text = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion failed.)"
            self._logger.log(ILogger.Severity.ERROR, text)
            return None


class Engine:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self._tensors = {tensor["name"]: tensor for tensor in facts["tensors"]}
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = len(facts["profiles"])
        self.device_memory_size = 0

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.OUTPUT if name in self.facts["outputs"] else TensorIOMode.INPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self._tensors[name]["dtype"])

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self._tensors[name]["shape"])

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, index: int) -> list[list[int]]:
        return [list(shape) for shape in self.facts["profiles"][index][name]]

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self._profile = index
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        fits = len(shape) == len(low) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if fits:
            self._shapes[name] = tuple(shape)
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        return np.broadcast_shapes(*(self._shapes[one] for one in self._engine.facts["outputs"][name][1:]))

    def execute_async_v3(self, stream: int) -> bool:
        facts, shapes, addresses = self._engine.facts, dict(self._shapes), dict(self._addresses)
        for name in facts["outputs"]:
            shapes[name] = self.get_tensor_shape(name)

        def run() -> None:
            time.sleep(facts["run_s"])
            arrays = {name: self._array(name, shapes[name], address) for name, address in addresses.items()}
            for name, (function, *operands) in facts["outputs"].items():
                values = [arrays[operand] for operand in operands]
                if any(np.isnan(value).any() for value in values):
                    raise FloatingPointError("the stand-in engine fails for NaN")
                arrays[name][...] = profile_number if function == "profile" else getattr(np, function)(*values)

        profile_number = self._profile
        cudart.streams[stream].put(run)
        return True

    def _array(self, name: str, shape: tuple[int, ...], address: int) -> np.ndarray[Any, Any]:
        dtype = np.dtype(self._engine.get_tensor_dtype(name).value)
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_uint8 * size_bytes).from_address(address), dtype).reshape(shape)
