"""Which tensors of a call lie in shared memory, and where."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.request import InferReply, InputTensor, Region, ReplyFormatError, RequestedOutput
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_client.shared_memory import Lease, RegionPool, SystemRegion, aligned, arrays_in
from tritonforge_client.spec import ModelSpec

LEAST_BYTES: Final = 64 * 1024
"""Below this, copying a tensor over the wire is no slower than naming a place."""


class Placement:
    """The regions of one call, with its inputs in them.

    Args:
        pool: Where regions come from.
        tensors: The inputs; those of some size are copied to a region.
        outputs: The outputs that are asked for; none means all.
        spec: What the model gives, where that is known: outputs of a known size are to be written to a region.

    Raises:
        OSError: No region can be made.

    Attributes:
        tensors: The inputs, placed or not.
        outputs: The outputs to ask for, placed or not.
    """

    def __init__(
        self,
        pool: RegionPool,
        tensors: Sequence[InputTensor],
        outputs: tuple[RequestedOutput, ...],
        spec: ModelSpec | None,
    ) -> None:
        self._leases: list[Lease] = []
        self._output_lease: Lease | None = None
        self._offsets: dict[str, int] = {}
        self._sizes: Mapping[str, int] = {}
        self.tensors = self._placed_inputs(pool, tensors)
        try:
            self.outputs = outputs if spec is None else self._placed_outputs(pool, tensors, outputs, spec)
        except OSError:
            self.release()  # the inputs' region
            raise

    @property
    def regions(self) -> list[SystemRegion]:
        """What the server must know before the request."""
        leases = [*self._leases, *([self._output_lease] if self._output_lease is not None else [])]
        return [lease.region for lease in leases]

    def release(self) -> None:
        """Give back what no array lies in: the server is done with it."""
        if self._output_lease is not None:
            self._leases.append(self._output_lease)
            self._output_lease = None
        while self._leases:
            self._leases.pop().release()

    def abandon(self) -> None:
        """Leave the regions alone for good: the server may still read or write them."""
        self._leases.clear()
        self._output_lease = None

    def outputs_of(self, reply: InferReply) -> dict[str, NDArray[Any]]:
        """All outputs of a reply, those in shared memory too, which then keep their region.

        Raises:
            ReplyFormatError: The server wrote more than there is room for.
        """
        check_placed(reply, self._offsets)
        if not reply.placed or self._output_lease is None:
            return reply.outputs
        places = {}
        for name, tensor in reply.placed.items():
            dtype, offset = BY_DATATYPE[tensor.datatype].dtype, self._offsets[name]
            size_bytes = dtype.itemsize * math.prod(tensor.shape)
            if size_bytes > self._sizes[name]:
                text = f"output {name}: expected at most {self._sizes[name]} bytes in shared memory, got {size_bytes}"
                raise ReplyFormatError(text)
            places[name] = (offset, tensor.shape, dtype)
        lease, self._output_lease = self._output_lease, None
        placed = arrays_in(lease, places)
        return {**reply.outputs, **placed}

    def _placed_inputs(self, pool: RegionPool, tensors: Sequence[InputTensor]) -> tuple[InputTensor, ...]:
        large = [tensor for tensor in tensors if len(tensor.data) >= LEAST_BYTES]
        offsets = _offsets({tensor.name: len(tensor.data) for tensor in large})
        if not large:
            return tuple(tensors)
        lease = pool.lease(offsets.pop(""))
        self._leases.append(lease)
        placed = {}
        for tensor in large:
            offset, size_bytes = offsets[tensor.name], len(tensor.data)
            lease.region.memory[offset : offset + size_bytes] = np.frombuffer(tensor.data, np.uint8)
            region = Region(lease.region.name, size_bytes, offset)
            placed[tensor.name] = InputTensor(tensor.name, tensor.datatype, tensor.shape, tensor.data, region)
        return tuple(placed.get(tensor.name, tensor) for tensor in tensors)

    def _placed_outputs(
        self,
        pool: RegionPool,
        tensors: Sequence[InputTensor],
        outputs: tuple[RequestedOutput, ...],
        spec: ModelSpec,
    ) -> tuple[RequestedOutput, ...]:
        # Asking for some outputs by name means that the others do not come, so all are named.
        wanted = outputs or tuple(RequestedOutput(tensor.name) for tensor in spec.outputs)
        sizes = _known_sizes(spec, tensors)
        large = {one.name: sizes[one.name] for one in wanted if sizes.get(one.name, 0) >= LEAST_BYTES}
        if not large:
            return outputs
        self._offsets, self._sizes = _offsets(large), large
        self._output_lease = pool.lease(self._offsets.pop(""))
        name = self._output_lease.region.name
        return tuple(
            RequestedOutput(one.name, region=Region(name, large[one.name], self._offsets[one.name]))
            if one.name in large
            else one
            for one in wanted
        )


def check_placed(reply: InferReply, names: Collection[str] = ()) -> None:
    """Refuse a reply whose outputs have no elements.

    Args:
        reply: The reply.
        names: Outputs that were to be written to shared memory.

    Raises:
        ReplyFormatError: Another output came without elements.
    """
    for name, tensor in reply.placed.items():
        if name not in names:
            raise ReplyFormatError(f"output {name}: expected {tensor.datatype} {list(tensor.shape)}, got no elements")


def _known_sizes(spec: ModelSpec, tensors: Sequence[InputTensor]) -> dict[str, int]:
    """Bytes of each output whose shape follows from the spec and the batch."""
    rows = tensors[0].shape[0] if spec.max_batch_size > 0 and tensors else 1
    sizes = {}
    for tensor in spec.outputs:
        itemsize_bytes = BY_DATATYPE[tensor.datatype].itemsize_bytes
        if itemsize_bytes is not None and -1 not in tensor.dims:
            sizes[tensor.name] = itemsize_bytes * rows * math.prod(tensor.dims)
    return sizes


def _offsets(sizes_bytes: Mapping[str, int]) -> dict[str, int]:
    """Where each of several tensors begins in one region; under the empty name, where the last one ends."""
    offsets, end = {}, 0
    for name, size_bytes in sizes_bytes.items():
        offsets[name] = end
        end = aligned(end + size_bytes)
    return {**offsets, "": end}
