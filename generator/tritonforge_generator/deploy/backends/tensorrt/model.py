"""A Python-based Triton backend called ``tensorrt``: serves what the C++ backend of that name serves.

Runs inside the server's stub process, one process an instance. The same ``config.pbtxt`` and plan load here and in the
official container. Pixels are never copied in Python: the request's memory, which lies in a region shared with the
server, is pinned once, and the GPU reads each request's rows straight from there into its place in the batch. Two
batches are in flight, so that one is copied while the other is computed.

Not served, and refused at load time: ragged batches, sequence states, decoupled models, shape tensors.
"""

from __future__ import annotations

import ctypes
import json
import queue
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # the stub brings it

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.errors import PlanError, TritonforgeError
from tritonforge_generator.plan.cuda import call, cudart
from tritonforge_generator.plan.engine import Engine, PlanTensor, ShapeRange
from tritonforge_generator.plan.runner import Runner

Config = Mapping[str, Any]
"""A ``ModelConfig`` in the JSON form that the server hands over."""

_SLOTS: Final = 2
_KEEPS_NUMPY: Final = np.__version__.startswith("1.")  # the stub was built for numpy 1; see the onnxruntime backend
_SHARED: Final = re.compile(r" rw-s .* /dev/shm/")  # a line of /proc/self/maps


@dataclass
class Slot:
    """One batch in flight: a runner with memory of its own."""

    runner: Runner
    requests: list[Any] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    failure: str = ""


class TritonPythonModel:
    """One instance of a model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in inputs and outputs from the plan when the configuration has none."""
        config = auto_complete_model_config.as_dict()
        if len(config["input"]) > 0 and len(config["output"]) > 0:
            return auto_complete_model_config
        with open_engine(config, Path(pb_utils.get_model_dir()), device_id=0) as engine:
            complete_config(auto_complete_model_config, config, engine)
        return auto_complete_model_config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the plan, check it against its configuration, and take all memory."""
        config = json.loads(args["model_config"])
        if args["model_instance_kind"] != "GPU":
            refuse(f"unable to load model '{config['name']}', TensorRT backend supports only GPU device")
        check_features(config)
        directory = Path(args["model_repository"]) / args["model_version"]
        device_id = int(args["model_instance_device_id"])
        # Before TensorRT 10 two contexts cannot share a profile, so every batch in flight has an engine of its own.
        engines = [open_engine(config, directory, device_id=device_id) for _ in range(_SLOTS)]
        self._engine = engines[0]
        self._batching = config["max_batch_size"] > 0
        check_tensors(config, self._engine)
        cuda = config["optimization"].get("cuda", {})
        profiles = instance_profiles(config, args["model_instance_name"], len(self._engine.profiles))
        try:
            runners = [Runner(one, cuda_graphs=bool(cuda.get("graphs")), profiles=profiles) for one in engines]
        except TritonforgeError as error:
            refuse(f"unable to create TensorRT context: {error}")
        self._profiles = [self._engine.profiles[index] for index in profiles or range(len(self._engine.profiles))]
        self._dtypes = {tensor.name: BY_DATATYPE[tensor.datatype].dtype for tensor in self._engine.tensors}
        self._pinned = SharedRegions()
        self._free: queue.Queue[Slot] = queue.Queue()
        for runner in runners:
            self._free.put(Slot(runner))
        self._running: queue.Queue[Slot | None] = queue.Queue()
        self._device_id = self._engine.device_id
        self._responder = threading.Thread(target=self._respond_all, name="responder", daemon=True)
        self._responder.start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Queue requests as one batch; a thread answers them when the GPU is done.

        Returns as soon as the next batch may be brought, so that its copies overlap this one's computation.
        """
        slot = self._free.get()
        good: list[tuple[Any, dict[str, tuple[int, ...]], dict[str, int]]] = []
        for request in requests:
            try:
                good.append((request, *self._checked(request)))
            except Exception as error:  # noqa: BLE001 - becomes the answer to this request
                answer_error(request, str(error))
        try:
            self._queue_batch(slot, good)
        except Exception as error:  # noqa: BLE001 - becomes the answer to the batch; the slot must come back
            slot.failure = str(error)
        self._running.put(slot)

    def finalize(self) -> None:
        """Answer what is in flight and give the GPU back."""
        self._running.put(None)
        self._responder.join()
        while not self._free.empty():
            runner = self._free.get().runner
            runner.close()
            runner.engine.close()
        self._pinned.close()

    # ---- a batch on its way to the GPU ----

    def _checked(self, request: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
        shapes, addresses = {}, {}
        for tensor in request.inputs():
            name = tensor.name()
            address, shape, dtype_bits = dlpack_facts(tensor)
            expected = self._dtypes[name]
            if dtype_bits != expected.itemsize * 8:
                raise ValueError(f"input '{name}' has elements of {dtype_bits} bits, the plan has {expected}")
            shapes[name] = self._plan_shape(name, shape)
            addresses[name] = address
        self._check_within(shapes)
        return shapes, addresses

    def _plan_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Triton cannot name a scalar: its config says dims [1] where the plan has no axis."""
        rank = len(self._engine.profiles[0][name].max)
        return shape[:rank] if len(shape) > rank and set(shape[rank:]) <= {1} else shape

    def _check_within(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Find a profile that holds a request, whatever the rest of its batch is."""

        def holds(one: ShapeRange, name: str) -> bool:
            rows = one.min[:1] if self._batching else shapes[name][:1]
            return one.holds((*rows, *shapes[name][1:]))

        if any(all(holds(profile[name], name) for name in shapes) for profile in self._profiles):
            return
        name = next((name for name in shapes if not any(holds(one[name], name) for one in self._profiles)), "")
        if name == "":
            raise ValueError(f"no profile of the plan holds all inputs together: {shapes}")
        raise ValueError(
            f"unexpected shape {list(shapes[name])} for input '{name}': the plan takes "
            + " or ".join(f"{list(one[name].min)} to {list(one[name].max)}" for one in self._profiles)
        )

    def _queue_batch(self, slot: Slot, good: Sequence[tuple[Any, dict[str, tuple[int, ...]], dict[str, int]]]) -> None:
        """Queue the copies of all rows to the GPU, the run, and the copies of its outputs back."""
        slot.requests, slot.rows, slot.outputs, slot.failure = [], [], {}, ""
        if not good:
            return
        slot.requests = [request for request, _, _ in good]
        first = good[0][1]
        slot.rows = [next(iter(shapes.values()))[0] if self._batching else 1 for _, shapes, _ in good]
        total = sum(slot.rows)
        full: dict[str, tuple[int, ...]] = {}
        for name, shape in first.items():
            if any(shapes[name][1:] != shape[1:] for _, shapes, _ in good):
                raise ValueError(f"requests of one batch differ in the shape of '{name}'")
            full[name] = (total, *shape[1:]) if self._batching else shape
        slot.runner.prepare(full)  # refuses what the device memory does not hold
        for name in full:
            target = slot.runner.device_address(name)
            for _, shapes, addresses in good:
                size_bytes = int(np.prod(shapes[name])) * self._dtypes[name].itemsize
                self._pinned.cover(addresses[name])
                slot.runner.stream.copy(target, addresses[name], size_bytes)
                target += size_bytes
        slot.outputs = slot.runner.execute_to_host(full)
        for name, array in slot.outputs.items():
            if self._batching and len(array) != total:
                raise ValueError(f"output '{name}' has shape {list(array.shape)} for a batch of {total} rows")

    # ---- a batch on its way back ----

    def _respond_all(self) -> None:
        call("cudaSetDevice", self._device_id)
        while (slot := self._running.get()) is not None:
            try:
                if slot.requests and slot.failure == "":
                    slot.runner.stream.synchronize()
            except TritonforgeError as error:
                slot.failure = str(error)
            try:
                self._respond(slot)
            except Exception as error:  # noqa: BLE001 - this thread must live on, or the instance answers nobody
                pb_utils.Logger.log_error(f"a batch of {len(slot.requests)} requests was not answered: {error}")
            slot.requests, slot.outputs = [], {}
            self._free.put(slot)

    def _respond(self, slot: Slot) -> None:
        start = 0
        for request, count in zip(slot.requests, slot.rows, strict=True):
            if slot.failure != "":
                answer_error(request, slot.failure)
                continue
            wanted = request.requested_output_names()
            tensors = [
                output_tensor(name, slot.outputs[name][start : start + count] if self._batching else slot.outputs[name])
                for name in wanted
            ]
            start += count
            answer(request, pb_utils.InferenceResponse(output_tensors=tensors))


class SharedRegions:
    """The shared memory that requests arrive in, pinned so that the GPU reads it without help of the CPU."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, bool]] = []

    def cover(self, address: int) -> None:
        """Make sure that the region with an address is pinned, where that is possible."""
        if any(start <= address < end for start, end, _ in self._ranges):
            return
        for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
            start, end = (int(text, 16) for text in line.partition(" ")[0].split("-"))
            if start <= address < end:
                self._ranges.append((start, end, _SHARED.search(line) is not None and self._pin(start, end)))
                return
        page = address & ~0xFFF  # memory that is not shared is copied as it is
        self._ranges.append((page, page + 0x1000, False))

    @staticmethod
    def _pin(start: int, end: int) -> bool:
        try:
            call("cudaHostRegister", start, end - start, cudart().cudaHostRegisterDefault)
        except PlanError as error:
            pb_utils.Logger.log_warn(f"the requests' memory cannot be pinned, copies are slower: {error}")
            return False
        return True

    def close(self) -> None:
        """Give the pages back."""
        for start, _, pinned in self._ranges:
            if pinned:
                call("cudaHostUnregister", start)


class _DLTensor(ctypes.Structure):
    """``DLTensor`` of dlpack.h, whose layout is fixed."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


def dlpack_facts(tensor: Any) -> tuple[int, tuple[int, ...], int]:
    """Address, shape and bits an element of a request's tensor, on the CPU or the GPU, without a copy."""
    capsule = tensor.to_dlpack()
    found = ctypes.cast(_capsule_pointer(capsule, b"dltensor"), ctypes.POINTER(_DLTensor)).contents
    return found.data + found.byte_offset, tuple(found.shape[: found.ndim]), int(found.bits)


def output_tensor(name: str, array: npt.NDArray[Any]) -> Any:
    """An output as the stub takes it; it copies the array into shared memory."""
    shaped = array.reshape(*array.shape, 1) if array.ndim == 0 else array
    return pb_utils.Tensor(name, shaped) if _KEEPS_NUMPY else pb_utils.Tensor.from_dlpack(name, shaped.copy())


def answer(request: Any, response: Any) -> None:
    """Send the one response of a request."""
    request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def answer_error(request: Any, text: str) -> None:
    """Send an error to one request."""
    answer(request, pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(text)))


# ---- loading, in the words of the C++ backend (tensorrt_backend, instance_state.cc and loader.cc) ----


def refuse(text: str) -> NoReturn:
    """Fail the load with a text."""
    raise pb_utils.TritonModelException(text)


def open_engine(config: Config, directory: Path, *, device_id: int) -> Engine:
    """Load the plan in a version's folder."""
    path = directory / (config["default_model_filename"] or "model.plan")
    if not path.exists():
        refuse(f"unable to find '{path}' for model instance '{config['name']}'")
    try:
        return Engine(path, device_id)
    except TritonforgeError as error:
        refuse(f"unable to create TensorRT engine: {error}")


def check_features(config: Config) -> None:
    """Refuse what this backend does not serve."""
    if config.get("model_transaction_policy", {}).get("decoupled"):
        refuse(f"model '{config['name']}' is decoupled, which TensorRT plans are not")
    if config["batch_input"] or config["batch_output"] or any(one.get("allow_ragged_batch") for one in config["input"]):
        refuse(f"model '{config['name']}' asks for ragged batches, which are not served here")
    if config.get("sequence_batching", {}).get("state"):
        refuse(f"model '{config['name']}' asks for sequence states, which are not served here")


def check_tensors(config: Config, engine: Engine) -> None:
    """Compare the configuration with the plan."""
    for kind, declared, present in (
        ("input", config["input"], engine.inputs),
        ("output", config["output"], engine.outputs),
    ):
        tensors = {tensor.name: tensor for tensor in present}
        for one in declared:
            tensor = tensors.get(one["name"])
            if tensor is None:
                refuse(f"{kind} '{one['name']}' not found for {config['name']}")
            check_tensor(config, one, tensor, kind)
        for name in sorted(set(tensors) - {one["name"] for one in declared}):
            refuse(f"expected configuration for {kind} '{name}' for {config['name']}")
    if config["max_batch_size"] == 0:
        return
    reach = max(max(one.max[0] for one in profile.values()) for profile in engine.profiles) if engine.inputs else 0
    if config["max_batch_size"] > reach:
        refuse(
            f"unexpected configuration maximum batch size {config['max_batch_size']} for '{config['name']}', "
            f"model maximum is {reach}"
        )


def check_tensor(config: Config, declared: Mapping[str, Any], tensor: PlanTensor, kind: str) -> None:
    """Compare one declared tensor with the plan's."""
    model, provided = config["name"], f"TYPE_{tensor.datatype}"
    if declared["data_type"] != provided:
        refuse(
            f"unexpected datatype {provided} for inference {kind} '{tensor.name}', expecting {declared['data_type']} "
            f"for {model}"
        )
    dims = list(declared.get("reshape", {}).get("shape", declared["dims"]))
    shape = list(tensor.shape)
    start = f"model '{model}', tensor '{tensor.name}': "
    if config["max_batch_size"] == 0:
        if not fits(dims, shape) and not (shape == [] and set(dims) <= {1}):
            refuse(
                f"{start}the model expects {len(shape)} dimensions (shape {shown(shape)}) but the model configuration "
                f"specifies {len(dims)} dimensions (shape {shown(dims)})"
            )
        return
    if shape == []:
        refuse(
            f"{start}for the model to support batching the shape should have at least 1 dimension; but shape expected "
            "by the model is []"
        )
    full = [-1, *dims]
    if not fits(full, shape):
        refuse(
            f"{start}the model expects {len(shape)} dimensions (shape {shown(shape)}) but the model configuration "
            f"specifies {len(full)} dimensions (an initial batch dimension because max_batch_size > 0 followed by the "
            f"explicit tensor shape, making complete shape {shown(full)})"
        )


def fits(dims: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether configured dims and a plan's shape agree: -1 on either side fits anything."""
    return len(dims) == len(shape) and all(-1 in {a, b} or a == b for a, b in zip(dims, shape, strict=True))


def shown(shape: Sequence[int]) -> str:
    """A shape as the server writes it: ``[-1,3]``."""
    return f"[{','.join(map(str, shape))}]"


def instance_profiles(config: Config, instance: str, count: int) -> tuple[int, ...]:
    """Profiles of an instance's group; none named means all.

    An instance is called after its group, ``<group>_<number>``; the longest name is meant where two begin alike.
    """
    groups = [group for group in config["instance_group"] if instance.startswith(f"{group['name']}_")]
    group: Config = max(groups, key=lambda one: len(one["name"]), default={})
    profiles = tuple(int(text) for text in group.get("profile", []))
    beyond = [index for index in profiles if not 0 <= index < count]
    if beyond:
        refuse(f"profile {beyond[0]} of instance {instance} does not exist: the plan has {count}")
    return profiles


def complete_config(target: Any, config: Config, engine: Engine) -> None:
    """Add what a configuration leaves out."""
    batching = all(tensor.shape and tensor.shape[0] == -1 for tensor in engine.tensors)
    if batching and config["max_batch_size"] == 0:
        target.set_max_batch_size(max(profile[engine.inputs[0].name].max[0] for profile in engine.profiles))
        target.set_dynamic_batching()
    for tensor in engine.tensors:
        dims = list(tensor.shape[1:] if batching else tensor.shape) or [1]
        described = {"name": tensor.name, "data_type": f"TYPE_{tensor.datatype}", "dims": dims}
        (target.add_input if tensor.is_input else target.add_output)(described)
