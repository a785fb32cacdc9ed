"""Shared memory of one client: regions, and which server knows which of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from tritonforge_client.core.call import Call
from tritonforge_client.core.effects import Send, Steps
from tritonforge_client.core.placement import Place, Placement
from tritonforge_client.core.request import InputTensor, RequestedOutput
from tritonforge_client.cuda_memory import CudaRegion
from tritonforge_client.cuda_python import cuda_runtime
from tritonforge_client.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    ServerError,
    TritonError,
    Unavailable,
)
from tritonforge_client.extras import MissingExtraError
from tritonforge_client.options import SharedMemoryUse
from tritonforge_client.shared_memory import Lease, RegionPool, SharedRegion, SystemRegion
from tritonforge_client.spec import ModelSpec

_CLOSING_S: Final = 2.0


class SharedMemory:
    """Places tensors of calls in shared memory, and tells servers of it."""

    def __init__(self) -> None:
        self._pools: dict[Place, RegionPool] = {}
        self._registered: dict[tuple[int, str], SharedRegion] = {}
        # Endpoints, with the kind of region that they cannot open.
        self._refused: set[tuple[int, type[SharedRegion]]] = set()

    def placement(
        self,
        tensors: Sequence[InputTensor],
        outputs: tuple[RequestedOutput, ...],
        spec: ModelSpec | None,
        use: SharedMemoryUse,
        call: Call,
    ) -> Placement | None:
        """Copy the inputs of a call to regions; ``None`` where all of it is to go over the wire.

        Raises:
            InvalidInput: ``cuda`` was asked for and cuda-python is not installed.
            ServerError: Shared memory was asked for and this system has none of the kind, or not so much.
        """
        try:
            placement = Placement(self._lease, tensors, outputs, spec, _home(tensors, use))
        except MissingExtraError as error:
            text, expected = f"shared_memory: {error}", "cuda-python"
            context = call.error_context()
            raise InvalidInput(text, field="shared_memory", expected=expected, got="none", **context) from error
        except OSError as error:
            if use == "auto":
                _warn_of_wire(f"this process can make no region: {error}")
                return None
            raise ServerError(f"no shared memory can be made: {error}", **call.error_context()) from error
        return placement if placement.regions else None

    def known_at(
        self, index: int, transport: Any, placement: Placement, use: SharedMemoryUse, call: Call
    ) -> Steps[bool]:
        """Register the regions of a call with a server; ``False`` if it cannot open them and need not.

        Raises:
            ServerError: Shared memory was asked for and the server refuses.
            TritonError: The server does not answer.
        """
        if use == "auto" and any((index, type(region)) in self._refused for region in placement.regions):
            return False
        for region in placement.regions:
            if (index, region.name) in self._registered:
                continue
            exchange = region.register(transport.dialect)
            try:
                exchange.parse((yield Send(transport, exchange.request, call)), call)
            except (Unavailable, DeadlineExceeded, Cancelled):
                raise
            except TritonError as error:
                if use != "auto":
                    raise _region_error(region, error, call) from error
                self._refused.add((index, type(region)))
                _warn_of_wire(f"{transport.endpoint} cannot open a region of {region.where}: {error.text}")
                return False
            self._registered[(index, region.name)] = region
        return True

    def forget(self, placement: Placement) -> None:
        """Take it that no server knows the regions of a call: one of them was started anew."""
        names = {region.name for region in placement.regions}
        self._registered = {key: region for key, region in self._registered.items() if key[1] not in names}

    def closing(self, transports: Sequence[Any]) -> Steps[None]:
        """Unregister all regions and retire them. A server that does not answer keeps its view of them."""
        opened = dict(self._registered)
        silent: set[int] = set()
        for (index, name), region in sorted(self._registered.items(), key=lambda one: one[0]):
            if index in silent:
                continue
            transport = transports[index]
            exchange = region.unregister(transport.dialect)
            call = Call(endpoint=transport.endpoint, timeout_s=_CLOSING_S)
            try:
                yield Send(transport, exchange.request, call)
            except TritonError:
                silent.add(index)
                continue
            del opened[(index, name)]
        self._registered.clear()
        for pool in self._pools.values():
            pool.close({name for _, name in opened})

    def _lease(self, place: Place, size_bytes: int) -> Lease:
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools.setdefault(place, _pool(place))
        return pool.lease(size_bytes)


def check_reach(tensors: Sequence[InputTensor], call: Call) -> None:
    """Refuse inputs on a GPU, for a request that only the wire or memory of the host can carry.

    Raises:
        InvalidInput: One lies on a GPU.
    """
    for tensor in tensors:
        if tensor.gpu is not None:
            expected, got = "an array of the host", repr(tensor.gpu)
            action = 'Copy it to the host first, or give Options(shared_memory="cuda") or "auto"'
            action += ", but for a stream or a prepared request"
            text = f"input {tensor.name}: expected {expected}, got {got}. {action}"
            raise InvalidInput(text, field=tensor.name, expected=expected, got=got, **call.error_context())


def on_host(tensors: tuple[InputTensor, ...], call: Call) -> tuple[InputTensor, ...]:
    """Return the inputs of a call as the wire takes them: those on a GPU as copies.

    Raises:
        ServerError: They cannot be copied.
    """
    if all(tensor.gpu is None for tensor in tensors):
        return tensors
    try:
        return tuple(
            InputTensor(one.name, one.datatype, one.shape, one.gpu.host_bytes().data) if one.gpu is not None else one
            for one in tensors
        )
    except OSError as error:
        raise ServerError(f"an input cannot be copied from its GPU: {error}", **call.error_context()) from error


def is_lost_region(error: TritonError) -> bool:
    """Whether a server does not know a region, as after a restart (core, ``SharedMemoryManager``)."""
    return "Unable to find shared memory region" in (error.server_message or "")


def _home(tensors: Sequence[InputTensor], use: SharedMemoryUse) -> Place:
    """Where outputs are to lie, and inputs of the host: with ``cuda`` beside the first input on a GPU."""
    if use != "cuda":
        return None
    return next((tensor.gpu.device_id for tensor in tensors if tensor.gpu is not None), 0)


def _pool(place: Place) -> RegionPool:
    if place is None:
        return RegionPool(SystemRegion, SystemRegion.smallest_bytes)
    return RegionPool(partial(CudaRegion, cuda_runtime(), place), CudaRegion.smallest_bytes)


def _region_error(region: SharedRegion, error: TritonError, call: Call) -> ServerError:
    """The error of a server that cannot open a region, whose own words may be few."""
    action = "Run it on this host with the IPC namespace of this process (--ipc=host), and, for a GPU, with that GPU"
    text = f'the server cannot open a region of {region.where}: {error.text}. {action}; or give shared_memory="auto"'
    return ServerError(text, **call.error_context(error.server_message))


def _warn_of_wire(why: str) -> None:
    warnings.warn(f"shared memory is not used, tensors go over the wire: {why}", RuntimeWarning, stacklevel=2)
