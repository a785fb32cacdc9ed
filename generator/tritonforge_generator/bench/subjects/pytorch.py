"""PyTorch, eager or compiled, on the GPU where there is one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge_generator.bench.subjects.subject import Arrays
from tritonforge_generator.errors import BenchError


class PyTorchSubject:
    """A module in inference mode.

    FP16 and BF16 convert the module's weights and its floating inputs, without autocast. Images (inputs of rank 4) are
    laid out as ``channels_last``, which PyTorch's convolutions are fastest with, except for FP32 on a CPU.

    Args:
        reference: ``torch:package.module:factory`` of a ``TorchModel``.
        precision: FP32, TF32, FP16 or BF16.
        device_id: The GPU, where there is one.
        input_names: The graph's inputs, in the order of the module's arguments.
        output_names: The graph's outputs, in the order of the module's results.
        compiled: Whether ``torch.compile`` prepares it.

    Raises:
        BenchError: Nothing here computes in the precision, or the module's results are not the graph's outputs.
        SourceError: The factory does not work.
    """

    def __init__(
        self,
        reference: str,
        precision: str,
        device_id: int,
        input_names: Sequence[str],
        output_names: Sequence[str],
        *,
        compiled: bool,
    ) -> None:
        self._torch = importlib.import_module("torch")
        self.on_gpu = bool(self._torch.cuda.is_available())
        if precision == "TF32" and not self.on_gpu:
            raise BenchError("PyTorch computes in TF32 on GPUs only", expected="a GPU", got="none here")
        self._device = self._torch.device("cuda", device_id) if self.on_gpu else self._torch.device("cpu")
        self._dtype = {"FP16": self._torch.float16, "BF16": self._torch.bfloat16}.get(precision, self._torch.float32)
        self._torch.backends.cuda.matmul.allow_tf32 = precision != "FP32"
        self._torch.backends.cudnn.allow_tf32 = precision != "FP32"
        self._torch.backends.cudnn.benchmark = True  # shapes do not change
        self._input_names, self._output_names = list(input_names), list(output_names)
        module = _module_from(reference).to(self._device, self._dtype)
        if self.on_gpu:
            module = module.to(memory_format=self._torch.channels_last)
        self._module = self._torch.compile(module, dynamic=False) if compiled else module

    def fitted(self, inputs: Arrays) -> Arrays:
        """The inputs as they are."""
        return inputs

    def infer(self, inputs: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Copy to the device, run, copy back."""
        with self._torch.inference_mode():
            outputs = list(_tensors(self._call(self._placed(inputs))))
            if len(outputs) < len(self._output_names):
                raise BenchError(
                    "the PyTorch module does not give what the graph gives",
                    expected=f"tensors for {', '.join(self._output_names)}",
                    got=f"{len(outputs)} tensors",
                    action="Name the factory that the graph was exported from.",
                )
            return {
                name: (tensor.float() if tensor.dtype == self._dtype else tensor).cpu().numpy()
                for name, tensor in zip(self._output_names, outputs, strict=False)
            }

    def compute_times_ms(self, inputs: Arrays, runs: int) -> list[float]:
        """Time between two events on the GPU, around each call."""
        with self._torch.inference_mode():
            placed = self._placed(inputs)
            self._call(placed)
            start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
            times = []
            for _ in range(runs):
                start.record()
                self._call(placed)
                end.record()
                end.synchronize()
                times.append(float(start.elapsed_time(end)))
            return times

    def close(self) -> None:
        """Drop the module."""
        del self._module

    def _placed(self, inputs: Arrays) -> dict[str, Any]:
        placed = {}
        for name in self._input_names:
            tensor = self._torch.from_numpy(np.ascontiguousarray(inputs[name])).to(self._device)
            if tensor.is_floating_point():
                tensor = tensor.to(self._dtype)
            if tensor.ndim == 4 and self.on_gpu:
                tensor = tensor.contiguous(memory_format=self._torch.channels_last)
            placed[name] = tensor
        return placed

    def _call(self, placed: Mapping[str, Any]) -> Any:
        return self._module(*placed.values())


def probe() -> str:
    """Its version."""
    torch = importlib.import_module("torch")
    return f"PyTorch {torch.__version__}" + ("" if torch.cuda.is_available() else " on the CPU")


def _module_from(reference: str) -> Any:
    """What a factory returns, in evaluation mode; an exported program is in the mode that it was exported in."""
    from tritonforge_generator.source import torch_model_from_reference

    module = torch_model_from_reference(reference).module
    return module.module() if hasattr(module, "graph_module") else module.eval()


def _tensors(result: Any) -> Iterator[Any]:
    """Every tensor of a result, in order: a tensor, a sequence, a mapping, or nested ones."""
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, (tuple, list)):
        for one in result:
            yield from _tensors(one)
    elif hasattr(result, "dtype"):
        yield result
