"""Which tensors of a call lie in shared memory, and where."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from numpy.typing import NDArray

from tritonforge_client.core.request import (
    InferReply,
    InputTensor,
    PlacedTensor,
    Region,
    ReplyFormatError,
    RequestedOutput,
)
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_client.shared_memory import Lease, SharedRegion, aligned
from tritonforge_client.spec import ModelSpec

LEAST_BYTES: Final = 64 * 1024
"""Below this, copying a tensor over the wire is no slower than naming a place."""

Place: TypeAlias = int | None
"""Where a region lies: CUDA's number of a GPU, or ``None`` for the host."""


class Placement:
    """The regions of one call, with its inputs in them.

    Args:
        lease: Takes a region in a place, of at least so many bytes.
        tensors: The inputs; those of some size, and those on a GPU, are copied to a region.
        outputs: The outputs that are asked for; none means all.
        spec: What the model gives, where that is known: outputs of a known size are to be written to a region.
        home: Where outputs are to lie, and large inputs of the host. Inputs on a GPU lie on the same one.

    Raises:
        OSError: No region can be made.

    Attributes:
        tensors: The inputs, placed or not.
        outputs: The outputs to ask for, placed or not.
    """

    def __init__(
        self,
        lease: Callable[[Place, int], Lease],
        tensors: Sequence[InputTensor],
        outputs: tuple[RequestedOutput, ...],
        spec: ModelSpec | None,
        home: Place = None,
    ) -> None:
        self._lease = lease
        self._home = home
        self._attempts: list[int] = []
        self._leases: list[Lease] = []
        self._output_lease: Lease | None = None
        self._offsets: dict[str, int] = {}
        self._sizes: Mapping[str, int] = {}
        try:
            self.tensors = self._placed_inputs(tensors)
            self.outputs = outputs if spec is None else self._placed_outputs(tensors, outputs, spec)
        except BaseException:
            self._release()  # what was leased before
            raise

    @property
    def regions(self) -> list[SharedRegion]:
        """What the server must know before the request."""
        leases = [*self._leases, *([self._output_lease] if self._output_lease is not None else [])]
        return [lease.region for lease in leases]

    def sent(self, attempt: int) -> None:
        """Note that an attempt of the call names the regions."""
        self._attempts.append(attempt)

    def end(self, attempt: int | None) -> None:
        """Give back the regions in which no array lies; leave them alone for good if a server may still use them.

        Args:
            attempt: The attempt that was answered; ``None`` if none was.
        """
        if all(one == attempt for one in self._attempts):
            self._release()

    def _release(self) -> None:
        for lease in self._leases:
            lease.release()
        if self._output_lease is not None:
            self._output_lease.release()

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
            size_bytes = _size_bytes(name, tensor)
            if size_bytes > self._sizes[name]:
                text = f"output {name}: expected at most {self._sizes[name]} bytes in shared memory, got {size_bytes}"
                raise ReplyFormatError(text)
            places[name] = (self._offsets[name], tensor)
        lease, self._output_lease = self._output_lease, None
        return {**reply.outputs, **lease.region.arrays(lease, places)}

    def _placed_inputs(self, tensors: Sequence[InputTensor]) -> tuple[InputTensor, ...]:
        groups: dict[Place, list[InputTensor]] = {}
        for tensor in tensors:
            if tensor.gpu is not None:
                groups.setdefault(tensor.gpu.device_id, []).append(tensor)
            elif len(tensor.data) >= LEAST_BYTES and (self._home is None or tensor.datatype != "BYTES"):
                groups.setdefault(self._home, []).append(tensor)
        placed = {}
        for place, group in groups.items():
            offsets = _offsets({tensor.name: tensor.size_bytes for tensor in group})
            lease = self._lease(place, offsets.pop(""))
            self._leases.append(lease)
            lease.region.write({offsets[tensor.name]: tensor for tensor in group})
            for tensor in group:
                placed[tensor.name] = _placed(tensor, lease.region.name, offsets[tensor.name])
        return tuple(placed.get(tensor.name, tensor) for tensor in tensors)

    def _placed_outputs(
        self, tensors: Sequence[InputTensor], outputs: tuple[RequestedOutput, ...], spec: ModelSpec
    ) -> tuple[RequestedOutput, ...]:
        # Asking for some outputs by name means that the others do not come, so all are named.
        wanted = outputs or tuple(RequestedOutput(tensor.name) for tensor in spec.outputs)
        sizes = _known_sizes(spec, tensors)
        # On a GPU of any size, so that the spec alone says which outputs come back there, not the batch.
        least_bytes = LEAST_BYTES if self._home is None else 1
        large = {one.name: sizes[one.name] for one in wanted if sizes.get(one.name, 0) >= least_bytes}
        if not large:
            return outputs
        self._offsets, self._sizes = _offsets(large), large
        self._output_lease = self._lease(self._home, self._offsets.pop(""))
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


def _placed(tensor: InputTensor, region: str, offset: int) -> InputTensor:
    place = Region(region, tensor.size_bytes, offset)
    return InputTensor(tensor.name, tensor.datatype, tensor.shape, tensor.data, place, tensor.gpu)


def _size_bytes(name: str, tensor: PlacedTensor) -> int:
    entry = BY_DATATYPE.get(tensor.datatype)
    if entry is None or entry.itemsize_bytes is None or min(tensor.shape, default=0) < 0:
        got = f"{tensor.datatype} {list(tensor.shape)}"
        raise ReplyFormatError(f"output {name}: expected elements of one size in shared memory, got {got}")
    return entry.itemsize_bytes * math.prod(tensor.shape)


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
