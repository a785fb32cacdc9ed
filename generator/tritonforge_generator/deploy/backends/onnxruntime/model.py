"""A Python-based Triton backend called ``onnxruntime``: serves what the C++ backend of that name serves.

Runs inside the server's stub process, one process an instance, with numpy and onnxruntime only. The same
``config.pbtxt`` and model file load here and in the official container; the checks at load time and their texts are
those of the C++ backend (github.com/triton-inference-server/onnxruntime_backend, ``onnxruntime.cc``).

Not served, and refused at load time: ragged batches, batch inputs and outputs, sequence states, decoupled models.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # the stub brings it

Config = Mapping[str, Any]
"""A ``ModelConfig`` in the JSON form that the server hands over."""

_DATA_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
# The stub was built for numpy 1: under numpy 2 its own conversions take every item for 0 bytes long, so tensors cross
# as DLPack there, which has no strings. Under numpy 1 it is DLPack that makes the stub crash.
_NUMPY_1 = np.__version__.startswith("1.")
_DEFAULT_MAX_BATCH_SIZE = 4  # the server's --backend-config=default-max-batch-size, which is not told to Python
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_TENSORRT_OPTIONS = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
_TENSORRT_PRECISIONS = {"FP32": {}, "FP16": {"trt_fp16_enable": "1"}, "INT8": {"trt_int8_enable": "1"}}


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of the ONNX graph; -1 in its shape stands for any size."""

    name: str
    data_type: str
    shape: tuple[int, ...]


class TritonPythonModel:
    """One instance of a model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in inputs, outputs, batch limit and scheduler as the C++ backend does: only when some are missing."""
        config = auto_complete_model_config.as_dict()
        if len(config["input"]) + len(config["batch_input"]) > 0 and len(config["output"]) > 0:
            pb_utils.Logger.log_info(
                f"skipping model configuration auto-complete for '{config['name']}': inputs and outputs already "
                "specified"
            )
            return auto_complete_model_config
        session = open_session(config, Path(pb_utils.get_model_dir()), kind="CPU", device_id="0")
        complete_config(config, *graph_tensors(session))
        return auto_complete_model_config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model and check it against its configuration."""
        ort.disable_telemetry_events()
        config = json.loads(args["model_config"])
        self._session = open_session(
            config,
            Path(args["model_repository"]) / args["model_version"],
            kind=args["model_instance_kind"],
            device_id=args["model_instance_device_id"],
        )
        inputs, outputs = graph_tensors(self._session)
        overridable = [tensor_from_node(node) for node in self._session.get_overridable_initializers()]
        check_features(config)
        check_inputs(config, inputs, overridable)
        check_outputs(config, outputs)
        self._batching = config["max_batch_size"] > 0
        self._outputs = [output["name"] for output in config["output"]]
        # Without batching the server cannot name a scalar: its config says dims [1] (or more ones).
        self._scalar_inputs = {tensor.name for tensor in (*inputs, *overridable) if tensor.shape == ()}
        scalars = {tensor.name for tensor in outputs if tensor.shape == ()}
        self._scalar_outputs = {
            output["name"]: tuple(reshaped_dims(output)) for output in config["output"] if output["name"] in scalars
        }
        self._run_options = run_options(config)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests: those of a batching model in one run.

        When that run fails, each request is run alone, so that one bad request does not fail the others.
        """
        if self._batching and len(requests) > 1:
            try:
                return self._respond(requests)
            except Exception as error:  # noqa: BLE001 - whatever the model raised belongs to some request
                pb_utils.Logger.log_verbose(f"a batch of {len(requests)} requests failed, running each alone: {error}")
        responses = []
        for request in requests:
            try:
                responses += self._respond([request])
            except Exception as error:  # noqa: BLE001 - becomes the answer to this request
                message = pb_utils.TritonError(ort_message(error))
                responses.append(pb_utils.InferenceResponse(output_tensors=[], error=message))
        return responses

    def _respond(self, requests: Sequence[Any]) -> list[Any]:
        """Run requests together and give each its rows of the outputs it asked for."""
        feeds = [{tensor.name(): self._array(tensor) for tensor in request.inputs()} for request in requests]
        asked = [set(request.requested_output_names()) for request in requests]
        names = [name for name in self._outputs if any(name in wanted for wanted in asked)]
        alone = len(requests) == 1
        feed = feeds[0] if alone else {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}
        arrays = self._session.run(names, feed, self._run_options)
        if not self._batching:
            return [self._response(names, arrays)]
        rows = [len(next(iter(one.values()))) for one in feeds]
        for name, array in zip(names, arrays, strict=True):
            if array.ndim == 0 or len(array) != sum(rows):
                raise ValueError(f"output '{name}' has shape {shown(array.shape)} for a batch of {sum(rows)} rows")
        if alone:
            return [self._response(names, arrays)]
        stops = np.cumsum(rows).tolist()
        return [
            self._response(
                [name for name in names if name in wanted],
                [array[stop - count : stop] for name, array in zip(names, arrays, strict=True) if name in wanted],
            )
            for wanted, count, stop in zip(asked, rows, stops, strict=True)
        ]

    def _array(self, tensor: Any) -> npt.NDArray[Any]:
        """An input as ONNX Runtime takes it: a view of the request, except for strings, which it takes as text."""
        array = tensor.as_numpy() if _NUMPY_1 else np.from_dlpack(tensor)
        if array.dtype == np.object_:
            array = text_array(tensor.name(), array)
        return array.reshape(()) if tensor.name() in self._scalar_inputs else array

    def _response(self, names: Sequence[str], arrays: Sequence[npt.NDArray[Any]]) -> Any:
        tensors = []
        for name, result in zip(names, arrays, strict=True):
            array = result.reshape(self._scalar_outputs[name]) if name in self._scalar_outputs else result
            tensors.append(pb_utils.Tensor(name, array) if _NUMPY_1 else pb_utils.Tensor.from_dlpack(name, array))
        return pb_utils.InferenceResponse(output_tensors=tensors)


# ---- the session ----


def text_array(name: str, array: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return BYTES as text, which is all that ONNX Runtime's Python interface takes."""
    try:
        texts = [element.decode("utf-8") for element in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise ValueError(f"input '{name}' has an element that is not UTF-8 text: {error}") from error
    decoded = np.empty(len(texts), np.object_)
    decoded[:] = texts
    return decoded.reshape(array.shape)


def refuse(text: str) -> NoReturn:
    """Fail the load with a text."""
    raise pb_utils.TritonModelException(text)


def ort_message(error: Exception) -> str:
    """Return an error of ONNX Runtime in the words of the C++ backend; other errors as they are."""
    found = re.match(r"\[ONNXRuntimeError\] : (\d+) : \w+ : (.*)", str(error), re.DOTALL)
    return str(error) if found is None else f"onnx runtime error {found[1]}: {found[2]}"


def open_session(config: Config, directory: Path, *, kind: str, device_id: str) -> Any:
    """Open the model file in a version's folder on the CPU or on a GPU (``kind``)."""
    options = session_options(config)
    path = directory / (config["default_model_filename"] or "model.onnx")
    if not path.exists():
        refuse(f"failed to stat file {path}")
    if path.is_dir():
        path /= "model.onnx"
        if not path.exists():
            refuse(f"unable to find '{path}' for model instance '{config['name']}'")
    providers = execution_providers(config, usable_kind(config["name"], kind, directory.parent), device_id)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base of their own
        refuse(ort_message(error))
    missing = {name for name, _ in providers} - set(session.get_providers())
    if len(missing) > 0:
        refuse(f"onnxruntime {ort.__version__} could not start {', '.join(sorted(missing))} for '{config['name']}'")
    return session


def session_options(config: Config) -> Any:
    """Return session options from ``optimization.graph`` and the parameters of the C++ backend's names."""
    parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
    options = ort.SessionOptions()
    level = int(config["optimization"].get("graph", {}).get("level", 0))
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    mode = parse_int(parameters.get("execution_mode", "0"))
    if mode not in {0, 1}:
        refuse(
            "Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 but got "
            f"{mode} ."  # the two blanks are the C++ backend's
        )
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode == 1 else ort.ExecutionMode.ORT_SEQUENTIAL
    intra_op_threads = parse_int(parameters.get("intra_op_thread_count", "0"))
    options.intra_op_num_threads = intra_op_threads if intra_op_threads > 0 else default_threads(config)
    options.inter_op_num_threads = max(0, parse_int(parameters.get("inter_op_thread_count", "0")))
    allocator = "session.use_device_allocator_for_initializers"
    if allocator in parameters:
        options.add_session_config_entry(allocator, parameters[allocator])
    if "enable_mem_arena" in parameters:
        options.enable_cpu_mem_arena = parse_bool(parameters["enable_mem_arena"])
    if "enable_mem_pattern" in parameters:
        options.enable_mem_pattern = parse_bool(parameters["enable_mem_pattern"])
    # Instances are processes here, so a session cannot be shared: the value is checked, and has no other effect.
    parse_bool(parameters.get("share_session_between_instances", "false"))
    return options


def default_threads(config: Config) -> int:
    """Return the threads of one instance: its share of the cores; 0 leaves a single instance to ONNX Runtime.

    The C++ backend gives every instance a pool over all cores, which slows several instances on few cores down.
    """
    instances = sum(group["count"] for group in config["instance_group"] if group["kind"] == "KIND_CPU")
    return 0 if instances <= 1 else max(1, len(os.sched_getaffinity(0)) // instances)


def run_options(config: Config) -> Any:
    """Return the options of every run."""
    options = ort.RunOptions()
    shrinkage = "memory.enable_memory_arena_shrinkage"
    if shrinkage in config["parameters"]:
        options.add_run_config_entry(shrinkage, config["parameters"][shrinkage]["string_value"])
    return options


def usable_kind(model: str, kind: str, directory: Path) -> str:
    """Return the kind to run on: the CPU where onnxruntime has no CUDA, unless the config itself says KIND_GPU.

    On a machine with a GPU the server turns KIND_AUTO into KIND_GPU before a backend sees it.
    """
    if kind != "GPU" or "CUDAExecutionProvider" in ort.get_available_providers():
        return kind
    config = directory / "config.pbtxt"
    reason = f"onnxruntime {ort.__version__} here runs on the CPU only"
    if config.is_file() and re.search(r"^[^#\n]*\bKIND_GPU\b", config.read_text("utf-8"), re.MULTILINE) is not None:
        refuse(f"model '{model}' says KIND_GPU, but {reason}: install onnxruntime-gpu, or say KIND_AUTO or KIND_CPU")
    pb_utils.Logger.log_warn(f"model '{model}' runs on the CPU, though this machine has a GPU: {reason}")
    return "CPU"


def execution_providers(config: Config, kind: str, device_id: str) -> list[tuple[str, dict[str, str]]]:
    """Return ONNX Runtime's providers for ``optimization.execution_accelerators`` and the instance's kind."""
    available = ort.get_available_providers()
    accelerators = config["optimization"].get("execution_accelerators", {})
    providers: list[tuple[str, dict[str, str]]] = []
    if kind == "GPU":
        cuda: dict[str, str] = {}
        for accelerator in accelerators.get("gpu_execution_accelerator", []):
            name, parameters = accelerator["name"], accelerator.get("parameters", {})
            if name == "tensorrt" and "TensorrtExecutionProvider" in available:
                options = {"device_id": device_id, **tensorrt_options(parameters)}
                providers.append(("TensorrtExecutionProvider", options))
            elif name == "cuda":
                cuda |= parameters
            else:
                refuse(f"unknown Execution Accelerator '{name}' is requested")
        providers.append(("CUDAExecutionProvider", {**cuda, "device_id": device_id}))
    for accelerator in accelerators.get("cpu_execution_accelerator", []):
        if accelerator["name"] != "openvino" or "OpenVINOExecutionProvider" not in available:
            refuse(f"unknown Execution Accelerator '{accelerator['name']}' is requested")
        providers.append(("OpenVINOExecutionProvider", {"device_type": "CPU"}))
    return [*providers, ("CPUExecutionProvider", {})]


def tensorrt_options(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the TensorRT provider's options for the parameters of a ``tensorrt`` accelerator."""
    options: dict[str, str] = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value not in _TENSORRT_PRECISIONS:
                refuse(f"unsupported precision mode '{value}' is requested")
            options |= _TENSORRT_PRECISIONS[value]
        elif key in _TENSORRT_OPTIONS or key.startswith("trt_"):
            options[_TENSORRT_OPTIONS.get(key, key)] = value
        else:
            refuse(f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator")
    return options


def parse_int(text: str) -> int:
    """Read an integer as C++ ``stoi`` does: what follows the digits is ignored."""
    found = re.match(r"\s*([+-]?\d+)", text)
    if found is None:
        refuse(f"failed to convert '{text}' to integral number")
    return int(found[1])


def parse_bool(text: str) -> bool:
    """Read a boolean as the C++ backends do."""
    lowered = text.lower()
    if lowered not in {"true", "on", "1", "false", "off", "0"}:
        refuse(f"failed to convert '{text}' to boolean")
    return lowered in {"true", "on", "1"}


# ---- the model against its configuration ----


def tensor_from_node(node: Any) -> GraphTensor:
    """Return what ONNX Runtime says of an input or output of the graph."""
    if not node.type.startswith("tensor("):
        kinds = {"seq": "SEQUENCE", "map": "MAP", "sparse_tensor": "SPARSETENSOR"}
        kind = kinds.get(node.type.partition("(")[0], "UNKNOWN")
        refuse(f"Unsupported ONNX Type 'ONNX_TYPE_{kind}' for I/O '{node.name}', expected 'ONNX_TYPE_TENSOR'.")
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return GraphTensor(node.name, _DATA_TYPES.get(node.type, "TYPE_<invalid>"), shape)


def graph_tensors(session: Any) -> tuple[list[GraphTensor], list[GraphTensor]]:
    """Return the graph's inputs and outputs."""
    return (
        [tensor_from_node(node) for node in session.get_inputs()],
        [tensor_from_node(node) for node in session.get_outputs()],
    )


def complete_config(config: dict[str, Any], inputs: Sequence[GraphTensor], outputs: Sequence[GraphTensor]) -> None:
    """Fill in what a config leaves out, as ``AutoCompleteConfig`` of the C++ backend does."""
    if all(tensor.shape[:1] == (-1,) for tensor in (*inputs, *outputs)):
        if config["max_batch_size"] == 0:
            config["max_batch_size"] = _DEFAULT_MAX_BATCH_SIZE
            pb_utils.Logger.log_warn(
                f"autofilled max_batch_size to {_DEFAULT_MAX_BATCH_SIZE} for model '{config['name']}' since batching "
                "is supported but no max_batch_size is specified in model configuration"
            )
        if config["max_batch_size"] > 1 and "sequence_batching" not in config:
            config.setdefault("dynamic_batching", {})
    elif config["max_batch_size"] != 0:
        refuse(
            f"autofill failed for model '{config['name']}': model does not support batching while non-zero "
            "max_batch_size is specified"
        )
    for key, tensors in (("input", inputs), ("output", outputs)):
        if len(config[key]) == 0:
            config[key] = [completed_tensor(tensor, batching=config["max_batch_size"] > 0) for tensor in tensors]


def completed_tensor(tensor: GraphTensor, *, batching: bool) -> dict[str, Any]:
    """Return the config entry of a tensor; a scalar becomes dims [1] with, if batching, an empty reshape."""
    dims = list(tensor.shape[1:] if batching else tensor.shape)
    entry: dict[str, Any] = {"name": tensor.name, "data_type": tensor.data_type, "dims": dims or [1]}
    if dims == [] and batching:
        entry["reshape"] = {"shape": []}
    return entry


def check_features(config: Config) -> None:
    """Refuse what only the C++ backend can do."""
    used = {
        "batch_input": config.get("batch_input"),
        "batch_output": config.get("batch_output"),
        "allow_ragged_batch": any(entry.get("allow_ragged_batch", False) for entry in config["input"]),
        "sequence_batching.state": config.get("sequence_batching", {}).get("state"),
        "model_transaction_policy.decoupled": config.get("model_transaction_policy", {}).get("decoupled"),
        "model_operations": config.get("model_operations", {}).get("op_library_filename"),
    }
    found = [key for key, value in used.items() if value]
    strings = [entry["name"] for entry in (*config["input"], *config["output"]) if entry["data_type"] == "TYPE_STRING"]
    if len(strings) > 0 and not _NUMPY_1:
        refuse(
            f"model '{config['name']}' has TYPE_STRING '{strings[0]}', which needs numpy<2 in the server's environment "
            f"(numpy {np.__version__} is installed): pip install 'numpy<2'"
        )
    if len(found) > 0:
        refuse(f"model '{config['name']}' uses {', '.join(found)}, which only Triton's C++ onnxruntime backend serves")


def check_inputs(config: Config, inputs: Sequence[GraphTensor], overridable: Sequence[GraphTensor]) -> None:
    """Check the configured inputs against those a run must have, and those it may override (``ValidateInputs``)."""
    controls = config.get("sequence_batching", {}).get("control_input", [])
    expected = sum(not entry["optional"] for entry in config["input"]) + len(controls)
    if expected != len(inputs):
        refuse(
            f"unable to load model '{config['name']}', configuration expects {expected} inputs, model provides "
            f"{len(inputs)}"
        )
    known = {tensor.name: tensor for tensor in (*inputs, *overridable)}
    for entry in config["input"]:
        if entry["optional"] and config["max_batch_size"] != 0:
            refuse(
                f"unable to load model '{config['name']}', optional input '{entry['name']}' is not supported for "
                "models that support batching"
            )
        check_tensor(config, entry, known, what="input")
    for control in controls:
        if control["name"] not in known:
            refuse(
                f"configuration specified sequence control '{control['name']}', but model does not provide that input"
            )


def check_outputs(config: Config, outputs: Sequence[GraphTensor]) -> None:
    """Check the configured outputs against the graph's (``ValidateOutputs``); it may have more."""
    known = {tensor.name: tensor for tensor in outputs}
    for entry in config["output"]:
        check_tensor(config, entry, known, what="output")


def check_tensor(config: Config, entry: Config, known: Mapping[str, GraphTensor], *, what: str) -> None:
    """Check name, data type and dims of one configured tensor."""
    model, name, data_type = config["name"], entry["name"], entry["data_type"]
    if name not in known:
        refuse(f"unexpected inference {what} '{name}', allowed {what}s are: {', '.join(sorted(known))}")
    tensor = known[name]
    if data_type not in _DATA_TYPES.values():
        refuse(f"unsupported datatype {data_type} for {what} '{name}' for model '{model}'")
    if data_type != tensor.data_type:
        provided = "TYPE_BYTES" if tensor.data_type == "TYPE_STRING" else tensor.data_type
        refuse(
            f"unable to load model '{model}', configuration expects datatype {data_type} for {what} '{name}', "
            f"model provides {provided}"
        )
    dims = reshaped_dims(entry)
    if tensor.shape != ():
        check_dims(config, name, tensor.shape, dims, exact=what == "output")
    elif any(dim != 1 for dim in dims):
        refuse(
            f"unable to load model '{model}', scalar tensor '{name}', should only provide 1 in the model "
            f"configuration when the model doesn't support batching. Model configuration provided: {shown(dims)}."
        )


def check_dims(config: Config, name: str, shape: Sequence[int], dims: Sequence[int], *, exact: bool) -> None:
    """Compare dims (``CompareDimsSupported``): -1 of the graph fits any input dim; an output's must be equal."""
    model = f"model '{config['name']}', tensor '{name}': "
    batching = config["max_batch_size"] > 0
    full = [-1, *dims] if batching else list(dims)
    if batching and shape[0] != -1:
        refuse(
            f"{model}for the model to support batching the shape should have at least 1 dimension and the first "
            f"dimension must be -1; but shape expected by the model is {shown(shape)}"
        )
    fits = len(shape) == len(full) and all(
        have == want or (have == -1 and not exact) for have, want in zip(shape, full, strict=True)
    )
    if not fits:
        why = (
            "(an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making "
            f"complete shape {shown(full)})"
        )
        refuse(
            f"{model}the model expects {len(shape)} dimensions (shape {shown(shape)}) but the model configuration "
            f"specifies {len(full)} dimensions {why if batching else f'(shape {shown(full)})'}"
        )


def reshaped_dims(entry: Config) -> list[int]:
    """Return the dims that the model sees: ``reshape.shape`` where given, else ``dims``."""
    return [int(dim) for dim in (entry["reshape"]["shape"] if "reshape" in entry else entry["dims"])]


def shown(shape: Sequence[int]) -> str:
    """Return a shape as the server writes it: ``[-1,3]``."""
    return f"[{','.join(map(str, shape))}]"
