"""A plan loaded into TensorRT, with what it takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tritonforge_generator.errors import PlanError
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.cuda import call, gpu_from_device_id
from tritonforge_generator.plan.diagnosis import diagnosis_of
from tritonforge_generator.plan.header import plan_header_from_path

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTensor:
    """One input or output of a plan.

    Attributes:
        name: Tensor name.
        is_input: Whether requests give it.
        datatype: Triton's wire name of its type, for example ``"FP16"``.
        shape: Full shape; -1 for every dynamic size.
    """

    name: str
    is_input: bool
    datatype: str
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRange:
    """The shapes of one input in one profile, in full."""

    min: Shape
    opt: Shape
    max: Shape

    def holds(self, shape: Shape) -> bool:
        """Whether a shape lies within."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


class Engine:
    """A deserialised plan.

    Several runners may use it, each from one thread. Before TensorRT 10 each needs profiles of its own: there a second
    context on a profile ends the process.

    Args:
        path: The plan.
        device_id: The GPU that runs it.

    Attributes:
        tensors: Inputs and outputs in the plan's order.
        profiles: By profile, the range of each input.
        handle: TensorRT's ``ICudaEngine``.

    Raises:
        PlanError: The plan does not load; with TensorRT's words and what they mean.
        TensorRTMissingError: TensorRT or the GPU is missing.
    """

    def __init__(self, path: Path, device_id: int = 0) -> None:
        header = plan_header_from_path(path)
        gpu_from_device_id(device_id)
        call("cudaSetDevice", device_id)
        self.path = path
        self.device_id = device_id
        self.errors: list[str] = []
        self._log = tensorrt_api.logger(self._take_message)
        self.handle: Any
        self._runtime: Any
        self.handle, self._runtime = tensorrt_api.engine_from_path(path, self._log)
        if self.handle is None:
            known = diagnosis_of(self.errors)
            raise PlanError(
                f"{path} does not load" + (f": {known.meaning}" if known is not None else ""),
                expected=f"a plan of TensorRT {tensorrt_api.version()}",
                got=f"one of {header.version_text} ({self.last_error})",
                action=known.action if known is not None else "",
            )
        self._claimed: set[int] = set()
        names = [self.handle.get_tensor_name(index) for index in range(self.handle.num_io_tensors)]
        self.tensors = tuple(self._tensor(name) for name in names)
        self.profiles = tuple(self._profile(index) for index in range(self.handle.num_optimization_profiles))

    @property
    def inputs(self) -> tuple[PlanTensor, ...]:
        """What requests give."""
        return tuple(tensor for tensor in self.tensors if tensor.is_input)

    @property
    def outputs(self) -> tuple[PlanTensor, ...]:
        """What they get."""
        return tuple(tensor for tensor in self.tensors if not tensor.is_input)

    @property
    def last_error(self) -> str:
        """The last error that TensorRT logged."""
        return self.errors[-1] if self.errors else "no reason in TensorRT's log"

    def device_memory_bytes(self, profile: int) -> int:
        """Scratch memory of one execution context on a profile."""
        return tensorrt_api.device_memory_bytes(self.handle, profile)

    def claim(self, profile: int) -> None:
        """Take a profile for one context.

        Raises:
            PlanError: Another context has it, and this TensorRT does not share profiles.
        """
        if profile in self._claimed and not tensorrt_api.shares_profiles():
            raise PlanError(
                f"profile {profile} of {self.path} is in use",
                expected="one runner a profile with TensorRT 8",
                got="a second one",
                action="Load the plan again for it, or close the first runner.",
            )
        self._claimed.add(profile)

    def release(self, profile: int) -> None:
        """Give a profile back."""
        self._claimed.discard(profile)

    def close(self) -> None:
        """Give the GPU memory of the weights back."""
        self.handle = None
        self._runtime = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take_message(self, severity: tensorrt_api.Severity, message: str) -> None:
        if severity in {"INTERNAL_ERROR", "ERROR"}:
            self.errors.append(message)

    def _tensor(self, name: str) -> PlanTensor:
        trt = tensorrt_api.tensorrt()
        return PlanTensor(
            name=name,
            is_input=self.handle.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            datatype=tensorrt_api.datatype_of(self.handle.get_tensor_dtype(name), name),
            shape=tuple(self.handle.get_tensor_shape(name)),
        )

    def _profile(self, index: int) -> Mapping[str, ShapeRange]:
        ranges: dict[str, ShapeRange] = {}
        for tensor in self.inputs:
            if self.handle.is_shape_inference_io(tensor.name):
                raise PlanError(
                    f"input '{tensor.name}' of {self.path} sets the shape of another tensor",
                    expected="inputs whose values do not change shapes",
                    got="a shape tensor",
                    action="Export the model with that shape fixed.",
                )
            low, middle, high = (tuple(shape) for shape in self.handle.get_tensor_profile_shape(tensor.name, index))
            ranges[tensor.name] = ShapeRange(min=low, opt=middle, max=high)
        return ranges


def numpy_dtype_of(tensor: PlanTensor) -> Any:
    """The numpy dtype of a tensor.

    Raises:
        PlanError: numpy has none for it (BF16).
    """
    from tritonforge_client.datatypes import BY_DATATYPE

    dtype = BY_DATATYPE[tensor.datatype].dtype
    if tensor.datatype == "BF16" or dtype is None:
        raise PlanError(f"tensor '{tensor.name}' has no numpy type", expected="anything but BF16", got=tensor.datatype)
    return dtype
