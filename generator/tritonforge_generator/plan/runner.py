"""Runs an engine: memory taken once, one stream, a CUDA graph for every shape that comes again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from tritonforge_generator.errors import PlanError
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.cuda import DeviceMemory, Event, Graph, PinnedMemory, Stream, call
from tritonforge_generator.plan.engine import Engine, PlanTensor, Shape, numpy_dtype_of

Arrays = Mapping[str, npt.NDArray[Any]]
Shapes = tuple[Shape, ...]

_GRAPH_LIMIT: Final = 64
"""Captured shapes of one runner; each holds a few megabytes."""
_COPIERS: Final = 4
_PIECES: Final = 8
_WHOLE_BYTES: Final = 12 << 20
"""Below this an input is staged in one piece: handing pieces to threads costs more than it gains."""


@dataclass(slots=True)
class _Lane:
    """One profile's context and the graphs captured on it."""

    context: Any
    shapes: Shapes | None = None
    graphs: dict[Shapes, Graph] = field(default_factory=dict)
    seen: set[Shapes] = field(default_factory=set)


class Runner:
    """Runs one engine from one thread.

    All memory is taken at the start, for the largest shapes of all profiles: device memory and page-locked staging for
    every tensor. A request goes to the profile that holds it with the least room to spare.

    Args:
        engine: The loaded plan; it must outlive the runner.
        cuda_graphs: Capture a shape when it comes for the second time, and launch it as one from then on.
        profiles: Only these profiles; by default all.

    Raises:
        PlanError: The GPU's memory does not suffice, or an output's size depends on the data.
    """

    def __init__(self, engine: Engine, *, cuda_graphs: bool = True, profiles: tuple[int, ...] = ()) -> None:
        self.engine = engine
        self._use_graphs = cuda_graphs
        call("cudaSetDevice", engine.device_id)
        self.stream = Stream()
        self._device: dict[str, DeviceMemory] = {}
        self._pinned: dict[str, PinnedMemory] = {}
        self._copiers = ThreadPoolExecutor(_COPIERS, thread_name_prefix="staging")  # its threads start when needed
        self._lanes: dict[int, _Lane] = {}
        self._dtypes = {tensor.name: np.dtype(numpy_dtype_of(tensor)) for tensor in engine.tensors}
        try:
            for index in profiles or range(len(engine.profiles)):
                engine.claim(index)
                context = tensorrt_api.context_for_profile(engine.handle, index, self.stream)
                self._lanes[index] = _Lane(context)
            for tensor in engine.tensors:
                self._allocate(tensor)
        except BaseException:
            self.close()
            raise

    # ---- what a user sees ----

    def infer(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run the plan once on arrays of the host.

        Args:
            inputs: One array for each input, in full shape and the plan's dtype.

        Returns:
            Every output by name, in arrays of their own.

        Raises:
            PlanError: The inputs do not fit the plan, or the GPU failed.
        """
        self._check(inputs)
        self._prepare({name: array.shape for name, array in inputs.items()})  # refuses before anything is copied
        for tensor in self.engine.inputs:
            self._upload(tensor.name, np.ascontiguousarray(inputs[tensor.name]))
        outputs = self.execute_to_host({name: array.shape for name, array in inputs.items()})
        self.stream.synchronize()
        return {name: view.copy() for name, view in outputs.items()}

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """``infer`` under the name that all sessions share."""
        return self.infer(inputs)

    def measure(self, inputs: Arrays, *, runs: int, warmup: int = 10) -> list[float]:
        """Time the plan alone, without copies, by events on the GPU.

        Args:
            inputs: As for ``infer``; they are copied once, before.
            runs: Timed runs.
            warmup: Runs before them.

        Returns:
            Milliseconds of each run.
        """
        self.infer(inputs)
        lane, shapes = self._prepare({name: array.shape for name, array in inputs.items()})
        for _ in range(warmup):
            self._enqueue(lane, shapes)
        times = []
        with Event() as start, Event() as end:
            for _ in range(runs):
                start.record(self.stream)
                self._enqueue(lane, shapes)
                end.record(self.stream)
                end.wait()
                times.append(end.ms_since(start))
        return times

    def close(self) -> None:
        """Give all memory back."""
        for index, lane in self._lanes.items():
            for graph in lane.graphs.values():
                graph.close()
            self.engine.release(index)
        self._lanes.clear()
        for memory in (*self._device.values(), *self._pinned.values()):
            memory.close()
        self._device.clear()
        self._pinned.clear()
        self._copiers.shutdown()
        self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- for who fills the device memory without us, such as a Triton backend ----

    def device_address(self, name: str) -> int:
        """Where a tensor lies on the GPU; inputs are read from there, outputs written to it."""
        return self._device[name].address

    def prepare(self, shapes: Mapping[str, Shape]) -> None:
        """Choose the profile for a run, before anything is copied for it.

        Args:
            shapes: By input, its full shape.

        Raises:
            PlanError: No profile holds the shapes, so the device memory does not either.
        """
        self._prepare(shapes)

    def execute_to_host(self, shapes: Mapping[str, Shape]) -> dict[str, npt.NDArray[Any]]:
        """Queue one run on what lies in the inputs' device memory, and the copies of its outputs to the host.

        Args:
            shapes: By input, its full shape.

        Returns:
            By output, a view of page-locked memory: filled once the stream has come so far, overwritten by the next
            run.

        Raises:
            PlanError: No profile holds the shapes, or TensorRT failed.
        """
        lane, wanted = self._prepare(shapes)
        self._enqueue(lane, wanted)
        return {tensor.name: self._queue_output(lane, tensor) for tensor in self.engine.outputs}

    # ---- how it is done ----

    def _upload(self, name: str, array: npt.NDArray[Any]) -> None:
        """Queue the copy of an input to the GPU; of a large one parts are staged while the GPU fetches others."""
        source = array.reshape(-1).view(np.uint8)
        staging = self._pinned[name].view(source.shape, source.dtype)
        count = 1 if source.size < _WHOLE_BYTES else _PIECES
        bounds = [source.size * index // count for index in range(count + 1)]
        pieces = [slice(start, end) for start, end in itertools.pairwise(bounds)]

        def stage(piece: slice) -> None:
            np.copyto(staging[piece], source[piece])

        staged = self._copiers.map(stage, pieces) if count > 1 else map(stage, pieces)
        for piece, _ in zip(pieces, staged, strict=True):
            self.stream.to_device(
                self._device[name].address + piece.start,
                self._pinned[name].address + piece.start,
                piece.stop - piece.start,
            )

    def _allocate(self, tensor: PlanTensor) -> None:
        size_bytes = self._dtypes[tensor.name].itemsize * max(
            self._largest(tensor, index, lane) for index, lane in self._lanes.items()
        )
        self._device[tensor.name] = DeviceMemory(size_bytes)
        self._pinned[tensor.name] = PinnedMemory(size_bytes)
        for lane in self._lanes.values():
            lane.context.set_tensor_address(tensor.name, self._device[tensor.name].address)

    def _largest(self, tensor: PlanTensor, index: int, lane: _Lane) -> int:
        """Elements of a tensor at the largest shapes of a profile."""
        ranges = self.engine.profiles[index]
        if tensor.is_input:
            return math.prod(ranges[tensor.name].max)
        for one in self.engine.inputs:
            lane.context.set_input_shape(one.name, ranges[one.name].max)
        lane.shapes = None
        shape = tuple(lane.context.get_tensor_shape(tensor.name))
        if any(size < 0 for size in shape):
            raise PlanError(
                f"the size of output '{tensor.name}' depends on the data",
                expected="outputs whose shapes follow from the inputs' shapes",
                got=str(shape),
                action="Pad it to a fixed size in the graph.",
            )
        return math.prod(shape)

    def _prepare(self, shapes: Mapping[str, Shape]) -> tuple[_Lane, Shapes]:
        """Choose the profile for input shapes and set them."""
        wanted = tuple(tuple(shapes[tensor.name]) for tensor in self.engine.inputs)
        lane = self._lanes[self._profile_for(wanted)]
        if lane.shapes != wanted:
            for tensor, shape in zip(self.engine.inputs, wanted, strict=True):
                if not lane.context.set_input_shape(tensor.name, shape):
                    raise PlanError(
                        f"TensorRT refuses the shape {shape} of '{tensor.name}'", got=self.engine.last_error
                    )
            lane.shapes = wanted
        return lane, wanted

    def _profile_for(self, shapes: Shapes) -> int:
        names = [tensor.name for tensor in self.engine.inputs]
        fitting = [
            index
            for index in self._lanes
            if all(self.engine.profiles[index][name].holds(shape) for name, shape in zip(names, shapes, strict=True))
        ]
        if fitting:
            return min(fitting, key=lambda index: sum(math.prod(self.engine.profiles[index][n].max) for n in names))
        ranges = "; ".join(
            ", ".join(f"{name} {list(r.min)} to {list(r.max)}" for name, r in self.engine.profiles[index].items())
            for index in self._lanes
        )
        raise PlanError(
            "no optimisation profile of the plan holds the inputs",
            expected=ranges,
            got=", ".join(f"{name} {list(shape)}" for name, shape in zip(names, shapes, strict=True)),
            action="Send other shapes, or build the plan with a profile for these.",
        )

    def _check(self, inputs: Arrays) -> None:
        expected = {tensor.name for tensor in self.engine.inputs}
        if set(inputs) != expected:
            raise PlanError(
                "the inputs are not those of the plan",
                expected=", ".join(sorted(expected)),
                got=", ".join(sorted(inputs)) or "none",
            )
        for name, array in inputs.items():
            if array.dtype != self._dtypes[name]:
                raise PlanError(
                    f"input '{name}' has the wrong dtype", expected=str(self._dtypes[name]), got=str(array.dtype)
                )

    def _enqueue(self, lane: _Lane, shapes: Shapes) -> None:
        if not self._use_graphs:
            self._launch(lane)
            return
        graph = lane.graphs.get(shapes)
        if graph is not None:
            graph.launch(self.stream)
            return
        self._launch(lane)
        if shapes in lane.seen and len(lane.graphs) < _GRAPH_LIMIT:
            # After a change of shapes TensorRT prepares itself in the first run, which cannot be captured.
            self.stream.synchronize()
            lane.graphs[shapes] = Graph(self.stream, lambda: self._launch(lane))
        lane.seen.add(shapes)

    def _launch(self, lane: _Lane) -> None:
        if not lane.context.execute_async_v3(self.stream.address):
            raise PlanError("TensorRT could not run the plan", got=self.engine.last_error)

    def _queue_output(self, lane: _Lane, tensor: PlanTensor) -> npt.NDArray[Any]:
        shape = tuple(lane.context.get_tensor_shape(tensor.name))
        view = self._pinned[tensor.name].view(shape, self._dtypes[tensor.name])
        self.stream.to_host(self._pinned[tensor.name].address, self._device[tensor.name].address, view.nbytes)
        return view
