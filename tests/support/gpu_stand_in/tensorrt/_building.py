"""The builder of the stand-in: ONNX files of a few operators become plans that the stand-in engines run."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ._names import ENUMS, MAJOR, NAMES
from ._runtime import NUMPY, ILogger, library_version, log_error

_LAYERS = {
    "Conv": "CONVOLUTION",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
    "Relu": "ACTIVATION",
    "Neg": "UNARY",
    "Add": "ELEMENTWISE",
    "Mul": "ELEMENTWISE",
    "Cast": "CAST",
    "Flatten": "SHUFFLE",
    "GlobalAveragePool": "REDUCE",
    "ReduceMean": "REDUCE",
}
_KINDS = {"CONVOLUTION": "CaskConvolution", "MATRIX_MULTIPLY": "CaskGemmMatrixMultiply", "CAST": "Reformat"}
_FORMATS = {"FLOAT": "Row major linear FP32", "HALF": "Row major linear FP16 format", "INT8": "Int8"}
_CACHE = b"stand-in timing cache\n"


class ITensor:
    """A tensor of a network; before the build TensorRT 8 calls all that are not inputs or outputs FP32."""

    def __init__(self, name: str, dtype: Any, shape: Sequence[int], *, inner: bool) -> None:
        self.name = name
        self.dtype = ENUMS["DataType"].FLOAT if inner and MAJOR < 10 and dtype.name == "HALF" else dtype
        self.shape = tuple(shape)
        self._graph_dtype = dtype

    @property
    def is_shape_tensor(self) -> bool:
        return False


class ILayer:
    def __init__(self, name: str, kind: str, inputs: Sequence[ITensor], outputs: Sequence[ITensor]) -> None:
        self.name = f"{name}_output"  # not the node's name, as when one node becomes several layers
        self.type = ENUMS["LayerType"][kind]
        self._node = name
        self._inputs, self._outputs = inputs, outputs
        self._pinned: Any = None

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    @property
    def metadata(self) -> str:
        return f"[ONNX Layer: {self._node}]"

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    @property
    def precision(self) -> Any:
        return self._pinned

    @precision.setter
    def precision(self, dtype: Any) -> None:
        self._pinned = dtype

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._outputs[index].dtype = dtype


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._model: Any = None
        self._inputs: list[ITensor] = []
        self._layers: list[ILayer] = []
        self._outputs: list[ITensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]


class ParserError:
    def __init__(self, text: str, index: int, name: str, operator: str) -> None:
        self._facts = SimpleNamespace(text=text, index=index, name=name, operator=operator)

    def desc(self) -> str:
        return str(self._facts.text)

    def node(self) -> int:
        return int(self._facts.index)

    def node_name(self) -> str:
        return str(self._facts.name)

    def node_operator(self) -> str:
        return str(self._facts.operator)


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        return self.parse(Path(path).read_bytes(), path)

    def parse(self, data: bytes, path: str) -> bool:
        import onnx

        model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data))
        onnx.load_external_data_for_model(model, str(Path(path).parent))
        for index, node in enumerate(model.graph.node):
            if node.op_type not in _LAYERS:
                text = (
                    f"No importer registered for op: {node.op_type}. Attempting to import as plugin. Plugin not found"
                )
                self._errors.append(ParserError(text, index, node.name, node.op_type))
                log_error(self._logger, text)
                return False
        values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        tensors = {one.name: _tensor(one, inner=one in model.graph.value_info) for one in values}
        self._network._model = model
        self._network._inputs = [tensors[one.name] for one in model.graph.input]
        self._network._outputs = [tensors[one.name] for one in model.graph.output]
        self._network._layers = [
            ILayer(
                node.name,
                _LAYERS[node.op_type],
                [tensors[name] for name in node.input if name in tensors],
                [tensors[name] for name in node.output],
            )
            for node in model.graph.node
        ]
        return True


def _tensor(value: Any, *, inner: bool) -> ITensor:
    from onnx import TensorProto

    names = {"FLOAT": "FLOAT", "FLOAT16": "HALF", "INT64": "INT64" if MAJOR >= 10 else "INT32"}
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    dims = value.type.tensor_type.shape.dim
    return ITensor(
        value.name,
        ENUMS["DataType"][names.get(kind, kind)],
        [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims],
        inner=inner,
    )


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, name: str, low: Any, middle: Any, high: Any) -> None:
        self._shapes[name] = (low, middle, high)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._known = set(json.loads(content or b"[]"))

    def serialize(self) -> bytes:
        return _CACHE + json.dumps(sorted(self._known)).encode()

    def combine(self, other: ITimingCache, ignore_mismatch: bool) -> bool:
        self._known |= other._known
        return True


class IBuilderConfig:
    def __init__(self) -> None:
        self._set = {"TF32"}
        self._profiles: list[IOptimizationProfile] = []
        self._limits: dict[str, int] = {}
        self._features: dict[str, bool] = {}
        self._cache: ITimingCache | None = None

    def set_flag(self, flag: Any) -> None:
        self._set.add(ENUMS["BuilderFlag"](flag).name)

    def clear_flag(self, flag: Any) -> None:
        self._set.discard(ENUMS["BuilderFlag"](flag).name)

    def get_flag(self, flag: Any) -> bool:
        return ENUMS["BuilderFlag"](flag).name in self._set

    def set_tactic_sources(self, sources: int) -> bool:
        known = sum(1 << int(one) for one in ENUMS["TacticSource"])
        if sources & ~known:
            raise ValueError("a bit of no tactic source")
        self._sources = sources
        return True

    def get_tactic_sources(self) -> int:
        return self._sources

    def set_memory_pool_limit(self, pool: Any, size_bytes: int) -> None:
        self._limits[ENUMS["MemoryPoolType"](pool).name] = size_bytes

    def set_preview_feature(self, feature: Any, is_on: bool) -> None:
        self._features[ENUMS["PreviewFeature"](feature).name] = is_on

    def get_preview_feature(self, feature: Any) -> bool:
        return self._features.get(ENUMS["PreviewFeature"](feature).name, False)

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._limits[ENUMS["MemoryPoolType"](pool).name]

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        for low, middle, high in profile._shapes.values():
            if not all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True)):
                return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, content: bytes) -> ITimingCache | None:
        if content and not content.startswith(_CACHE):
            return None
        return ITimingCache(content[len(_CACHE) :])

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if not isinstance(cache, ITimingCache):
            raise TypeError("incompatible function arguments")
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class IHostMemory(bytes):
    """What ``build_serialized_network`` gives."""


class IProgressMonitor:
    def __init__(self) -> None: ...


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        names = {one.name for one in ENUMS["NetworkDefinitionCreationFlag"] if flags & 1 << int(one)}
        if flags != sum(1 << int(ENUMS["NetworkDefinitionCreationFlag"][name]) for name in names):
            raise ValueError("a bit of no flag")
        if MAJOR == 8 and "EXPLICIT_BATCH" not in names:
            raise ValueError("ONNX needs an explicit batch")
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        for layer in network._layers:
            if layer._node.startswith("fault: ") and self._fails(layer._node.removeprefix("fault: ")):
                return None
        if any(-1 in one.shape for one in network._inputs) and not config._profiles:
            log_error(
                self._logger, "Network has dynamic or shape inputs, but no optimization profile has been defined."
            )
            return None
        self._tell(network, config)
        if config._cache is not None:
            config._cache._known |= {layer._node for layer in network._layers}
        header = b"ftrt" + bytes(20) + bytes(library_version())
        return IHostMemory(header + json.dumps(_facts(network, config)).encode())

    def _fails(self, fault: str) -> bool:
        if fault == "abort":
            os.write(2, b"a last word of the builder\n")
            os.abort()
        if fault == "hang":
            time.sleep(600)
        log_error(self._logger, fault)
        return True

    def _tell(self, network: INetworkDefinition, config: IBuilderConfig) -> None:
        if "IProgressMonitor" not in NAMES["classes"]:
            texts = [f"=============== Computing costs for {layer._node}" for layer in network._layers]
            for text in (f"After vertical fusions: {len(texts)} layers", *texts):
                self._logger.log(ENUMS["ILogger.Severity"].VERBOSE, text)
            return
        monitor: Any = config.progress_monitor  # type: ignore[attr-defined]  # a stored property
        if monitor is not None:
            monitor.phase_start("Building", None, 2)
            monitor.phase_start("Timing", "Building", 1)
            monitor.step_complete("Timing", 0)
            monitor.phase_finish("Timing")
            if not monitor.step_complete("Building", 1):
                raise NotImplementedError
            monitor.phase_finish("Building")


def _facts(network: INetworkDefinition, config: IBuilderConfig) -> dict[str, Any]:
    tensors = [*network._inputs, *network._outputs]
    return {
        "tensors": [{"name": one.name, "dtype": NUMPY[one.dtype.name], "shape": list(one.shape)} for one in tensors],
        "outputs": {one.name: [] for one in network._outputs},
        "profiles": [_profile(network, profile._shapes) for profile in config._profiles],
        "run_s": 0.0,
        "onnx": base64.b64encode(network._model.SerializeToString()).decode(),
        "layers": _layers(network, config),
    }


def _profile(network: INetworkDefinition, shapes: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: [list(shape) for shape in shapes[one.name]] for one in network._inputs}


def _layers(network: INetworkDefinition, config: IBuilderConfig) -> list[dict[str, Any]]:
    """Entries as the inspector gives them; an activation is fused into the layer before it."""
    found: list[dict[str, Any]] = []
    for layer in network._layers:
        kind = layer.type.name
        if kind == "ACTIVATION" and found:
            found[-1]["Metadata"] += f"\x1e{layer.metadata}"
            continue
        precision = _precision_of(layer, config)
        tensor = {"Format/Datatype": _FORMATS.get(precision.name, precision.name)}
        found.append(
            {
                "Name": layer.name,
                "LayerType": _KINDS.get(kind, "PointWiseV2"),
                "Inputs": [{"Name": one.name, **tensor} for one in layer._inputs],
                "Outputs": [{"Name": one.name, **tensor} for one in layer._outputs],
                "TacticName": f"stand_in_{kind.lower()}",
                "Metadata": layer.metadata,
            }
        )
    return found


def _precision_of(layer: ILayer, config: IBuilderConfig) -> Any:
    """A weakly typed network takes the fastest type that is switched on, unless a layer is pinned."""
    graph_dtype = layer._outputs[0]._graph_dtype
    if MAJOR >= 10 or graph_dtype.name not in {"FLOAT", "HALF"}:
        return graph_dtype
    if layer._pinned is not None:
        return layer._pinned
    return ENUMS["DataType"].HALF if "FP16" in config._set else ENUMS["DataType"].FLOAT
