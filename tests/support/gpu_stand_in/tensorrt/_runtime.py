"""Engines of the stand-in: loaded from plans, run on the stand-in CUDA streams."""

from __future__ import annotations

import base64
import ctypes
import json
import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from cuda.bindings import runtime as cudart  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore

from ._names import ENUMS, MAJOR, NAMES

HEADER_BYTES = 28
NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


def library_version() -> tuple[int, ...]:
    """The version as plans carry it, in four parts; 8.6.0 is build 12."""
    parts = tuple(int(part) for part in NAMES["version"].split("."))
    return parts if len(parts) == 4 else (*parts, 12)


class ILogger:
    def __init__(self) -> None: ...

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


def log_error(logger: ILogger, text: str) -> None:
    logger.log(ENUMS["ILogger.Severity"].ERROR, text)


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    return True


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None:
        """Texts are those of the real libraries."""
        own, plans = (".".join(map(str, version)) for version in (library_version(), data[24:28]))
        if own != plans:
            log_error(
                self._logger,
                "IRuntime::deserializeCudaEngine: Error Code 6: The engine plan file is not compatible with this "
                f"version of TensorRT, expecting library version {own} got {plans}, please rebuild.",
            )
            return None
        try:
            return ICudaEngine(json.loads(data[HEADER_BYTES:]), self._logger)
        except ValueError:
            text = "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion failed.)"
            log_error(self._logger, text)
            return None


class ICudaEngine:
    def __init__(self, facts: Mapping[str, Any], logger: ILogger) -> None:
        self._facts = facts
        self._logger = logger
        self._tensors: dict[str, dict[str, Any]] = {tensor["name"]: tensor for tensor in facts["tensors"]}
        self._contexts: weakref.WeakValueDictionary[int, IExecutionContext] = weakref.WeakValueDictionary()

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def num_layers(self) -> int:
        return len(self._facts.get("layers", []))

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._facts["profiles"])

    @property
    def device_memory_size(self) -> int:
        return 1000

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        return 1000 + index

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = ENUMS["TensorIOMode"]
        return modes.OUTPUT if name in self._facts["outputs"] else modes.INPUT

    def get_tensor_dtype(self, name: str) -> Any:
        (found,) = (one for one, dtype in NUMPY.items() if dtype == self._tensors[name]["dtype"])
        return ENUMS["DataType"][found]

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self._tensors[name]["shape"])

    def is_shape_inference_io(self, name: str) -> bool:
        return bool(self._tensors[name].get("is_shape_tensor", False))

    def get_tensor_format(self, name: str) -> Any:
        return ENUMS["TensorFormat"][self._tensors[name].get("format", "LINEAR")]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[list[int]]:
        return [list(shape) for shape in self._facts["profiles"][index][name]]

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(self._tensors[name]["dtype"])


class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, form: Any) -> str:
        """JSON as TensorRT writes it: types only with a context, control characters unescaped."""
        if form != ENUMS["LayerInformationFormat"].JSON:
            raise NotImplementedError
        layers = self._engine._facts.get("layers", [])
        if getattr(self, "_execution_context", None) is None:
            layers = [{key: one[key] for key in ("Name", "LayerType", "Metadata")} for one in layers]
        return json.dumps({"Layers": layers, "Bindings": list(self._engine._tensors)}).replace("\\u001e", "\x1e")


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        if MAJOR < 10 and index in self._engine._contexts:
            raise SystemError(f"TensorRT 8 ends the process: two contexts on profile {index}")
        self._engine._contexts[index] = self
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
        declared, facts = self._engine.get_tensor_shape(name), self._engine._facts
        if -1 not in declared:
            return tuple(declared)
        if "onnx" in facts:
            return _output_shapes(facts["onnx"], self._shapes)[name]
        return np.broadcast_shapes(*(self._shapes[one] for one in facts["outputs"][name][1:]))

    def execute_async_v3(self, stream: int) -> bool:
        engine, shapes, addresses = self._engine, dict(self._shapes), dict(self._addresses)
        facts, profile = engine._facts, self._profile
        for name in facts["outputs"]:
            shapes[name] = self.get_tensor_shape(name)

        def run() -> None:
            time.sleep(facts["run_s"])
            arrays = {name: _array(address, shapes[name], engine._dtype(name)) for name, address in addresses.items()}
            for name, values in _computed(facts, arrays, profile).items():
                arrays[name][...] = values

        cudart.streams[stream].put(run)
        return True


def _array(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    memory = (ctypes.c_uint8 * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
    return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)


def _computed(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], profile: int) -> Mapping[str, Any]:
    inputs = {name: array for name, array in arrays.items() if name not in facts["outputs"]}
    if any(np.isnan(value).any() for value in inputs.values()):
        raise FloatingPointError("the stand-in engine fails for NaN")
    if "onnx" in facts:
        return _evaluated(facts["onnx"], inputs)
    return {
        name: profile if function == "profile" else getattr(np, function)(*(inputs[one] for one in operands))
        for name, (function, *operands) in facts["outputs"].items()
    }


def _evaluated(encoded: str, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    import onnx.reference

    model = onnx.load_from_string(base64.b64decode(encoded))
    feeds = {}
    for value in model.graph.input:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = inputs[value.name].astype(dtype)
    found = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    return dict(zip((one.name for one in model.graph.output), found, strict=True))


def _output_shapes(encoded: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    import onnx

    model = onnx.load_from_string(base64.b64decode(encoded))
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    return {one.name: tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim) for one in inferred}
