"""Shared memory of one client: regions, and which server knows which of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

from tritonforge_client.core.call import Call
from tritonforge_client.core.effects import Send, Steps
from tritonforge_client.core.placement import Placement
from tritonforge_client.core.request import InputTensor, RequestedOutput
from tritonforge_client.errors import ConnectionFailed, DeadlineExceeded, ServerError, TritonError
from tritonforge_client.options import SharedMemoryUse
from tritonforge_client.shared_memory import RegionPool
from tritonforge_client.spec import ModelSpec

_CLOSING_S: Final = 2.0


class SharedMemory:
    """Places tensors of calls in shared memory, and tells servers of it."""

    def __init__(self) -> None:
        self._pool = RegionPool()
        self._registered: set[tuple[int, str]] = set()
        self._refused: set[int] = set()

    def placement(
        self,
        tensors: Sequence[InputTensor],
        outputs: tuple[RequestedOutput, ...],
        spec: ModelSpec | None,
        use: SharedMemoryUse,
        call: Call,
    ) -> Placement | None:
        """Copy the inputs of a call to a region; ``None`` where all of it is to go over the wire.

        Raises:
            ServerError: ``system`` was asked for and this system has no shared memory, or not so much.
        """
        try:
            placement = Placement(self._pool, tensors, outputs, spec)
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
            TritonError: ``system`` was asked for and the server refuses, or it does not answer.
        """
        if use == "auto" and index in self._refused:
            return False
        for region in placement.regions:
            if (index, region.name) in self._registered:
                continue
            exchange = transport.dialect.register_system_shared_memory(region.name, region.key, region.size_bytes)
            try:
                exchange.parse((yield Send(transport, exchange.request, call)), call)
            except (ConnectionFailed, DeadlineExceeded):
                raise
            except TritonError as error:
                if use != "auto":
                    raise
                self._refused.add(index)
                _warn_of_wire(f"{transport.endpoint} cannot open a region of this host: {error.text}")
                return False
            self._registered.add((index, region.name))
        return True

    def forget(self, placement: Placement) -> None:
        """Take it that no server knows the regions of a call: one of them was started anew."""
        names = {region.name for region in placement.regions}
        self._registered = {one for one in self._registered if one[1] not in names}

    def closing(self, transports: Sequence[Any]) -> Steps[None]:
        """Unregister all regions and remove them. A server that does not answer keeps its view of them."""
        for index, name in sorted(self._registered):
            transport = transports[index]
            exchange = transport.dialect.unregister_system_shared_memory(name)
            call = Call(endpoint=transport.endpoint, timeout_s=_CLOSING_S)
            try:
                yield Send(transport, exchange.request, call)
            except TritonError:
                break
        self._registered.clear()
        self._pool.close()


def is_lost_region(error: TritonError) -> bool:
    """Whether a server does not know a region, as after a restart (core, ``SharedMemoryManager``)."""
    return "Unable to find shared memory region" in (error.server_message or "")


def _warn_of_wire(why: str) -> None:
    warnings.warn(f"shared memory is not used, tensors go over the wire: {why}", RuntimeWarning, stacklevel=2)
