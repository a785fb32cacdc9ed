"""Shared memory: regions that this process and a server on the same host both see.

Regions are leased: what a reply's arrays lie in is not given to another call while one of them lives, and what a server
may still write to, because its request was given up, is never used again.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.exchange import Dialect, Exchange
from tritonforge_client.core.request import InputTensor, PlacedTensor
from tritonforge_client.datatypes import BY_DATATYPE

_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_ALIGNMENT_BYTES: Final = 64


class SharedRegion(Protocol):
    """Memory that this process and a server on the same host both see.

    Attributes:
        name: Name to register it under, different from that of any other region.
        size_bytes: Its size.
        where: Where it lies, for people.
    """

    name: str
    size_bytes: int
    where: str

    def write(self, tensors: Mapping[int, InputTensor]) -> None:
        """Copy inputs to their offsets, and wait until they are there."""
        ...

    def arrays(self, lease: Lease, places: Mapping[str, tuple[int, PlacedTensor]]) -> dict[str, NDArray[Any]]:
        """Make arrays of what lies there, which take over the lease.

        Args:
            lease: The region's lease; it ends with the last of the arrays.
            places: By tensor, its offset, and what the server says of it.
        """
        ...

    def settle(self) -> None:
        """Wait until nobody uses the arrays of an earlier lease any more."""
        ...

    def register(self, dialect: Dialect) -> Exchange[None]:
        """Let a server open it."""
        ...

    def unregister(self, dialect: Dialect) -> Exchange[None]:
        """Let a server close it."""
        ...

    def retire(self, *, in_use: bool) -> None:
        """Take away what others find it by, and its memory unless that is in use."""
        ...


class SystemRegion:
    """One POSIX shared-memory object, which only this user can open.

    Args:
        size_bytes: Its size.

    Attributes:
        name: Name to register it under, different from that of any other region.
        key: Key by which a server opens it.
        memory: Its bytes.
        where: Where it lies, for people.

    Raises:
        OSError: This system has no POSIX shared memory, or not so much.
    """

    smallest_bytes: ClassVar[int] = 1 << 16

    def __init__(self, size_bytes: int) -> None:
        self.name = f"tritonforge-{os.getpid()}-{os.urandom(8).hex()}"
        self.key = f"/{self.name}"
        self.size_bytes = size_bytes
        self.where = "this host"
        self._path = _FOLDER / self.name
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)  # an error now, not a signal when it is written to
            self._map = mmap.mmap(descriptor, size_bytes)
        except BaseException:
            self._path.unlink()
            raise
        finally:
            os.close(descriptor)
        self.memory: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def write(self, tensors: Mapping[int, InputTensor]) -> None:
        """Copy inputs to their offsets."""
        for offset, tensor in tensors.items():
            self.memory[offset : offset + tensor.size_bytes] = np.frombuffer(tensor.data, np.uint8)

    def arrays(self, lease: Lease, places: Mapping[str, tuple[int, PlacedTensor]]) -> dict[str, NDArray[Any]]:
        """Make read-only arrays of what lies there."""
        whole = array_at(address_of(self.memory), (self.size_bytes,), "|u1", lease.owner(), writable=False)
        arrays = {}
        for name, (offset, tensor) in places.items():
            dtype = BY_DATATYPE[tensor.datatype].dtype
            end = offset + dtype.itemsize * math.prod(tensor.shape)
            arrays[name] = whole[offset:end].view(dtype).reshape(tensor.shape)
        return arrays

    def settle(self) -> None:
        """Do nothing: who reads memory of the host is done when its arrays are gone."""

    def register(self, dialect: Dialect) -> Exchange[None]:
        """Let a server open it."""
        return dialect.register_system_shared_memory(self.name, self.key, self.size_bytes)

    def unregister(self, dialect: Dialect) -> Exchange[None]:
        """Let a server close it."""
        return dialect.unregister_system_shared_memory(self.name)

    def retire(self, *, in_use: bool) -> None:  # noqa: ARG002 - memory of the host goes when all have closed it
        """Remove its name: nobody opens it any more."""
        self._path.unlink(missing_ok=True)


class LeaseOwner:
    """What the arrays of a reply hold on to; its end ends the lease."""


@dataclass(slots=True)
class Lease:
    """A region for one call.

    Attributes:
        region: The region.
        pool: Where it comes from.
    """

    region: SharedRegion
    pool: RegionPool

    def release(self) -> None:
        """Give the region back."""
        self.pool.give_back(self.region)

    def owner(self) -> LeaseOwner:
        """Hand the lease over: the region is given back when nobody holds what is returned any more."""
        owner = LeaseOwner()
        weakref.finalize(owner, self.release).atexit = False
        return owner


class RegionPool:
    """The regions of one client in one place. Threads may share it.

    Args:
        make: Makes a region of so many bytes.
        smallest_bytes: Size of the smallest regions.
    """

    def __init__(self, make: Callable[[int], SharedRegion], smallest_bytes: int) -> None:
        self._make = make
        self._smallest_bytes = smallest_bytes
        self._free: dict[int, list[SharedRegion]] = {}
        self._regions: list[SharedRegion] = []
        self._is_closed = False
        # Memory that is collected while it is held may end another lease in the same thread.
        self._lock = threading.RLock()

    @property
    def regions(self) -> tuple[SharedRegion, ...]:
        """All regions that were made."""
        return tuple(self._regions)

    def lease(self, size_bytes: int) -> Lease:
        """Take a region of at least a size.

        Raises:
            OSError: There is none, and none can be made.
        """
        rounded = max(self._smallest_bytes, 1 << (size_bytes - 1).bit_length())
        with self._lock:
            free = self._free.get(rounded)
            region = free.pop() if free else None
        if region is not None:
            region.settle()
            return Lease(region, self)
        region = self._make(rounded)
        with self._lock:
            self._regions.append(region)
        return Lease(region, self)

    def give_back(self, region: SharedRegion) -> None:
        """Let the next call have a region."""
        with self._lock:
            is_closed = self._is_closed
            if not is_closed:
                self._free.setdefault(region.size_bytes, []).append(region)
        if is_closed:
            region.retire(in_use=False)

    def close(self, opened: Collection[str] = ()) -> None:
        """Retire all regions. Arrays that still lie in one stay valid.

        Args:
            opened: Names of regions that a server may still have open.
        """
        with self._lock:
            self._is_closed = True
            idle = {region.name for free in self._free.values() for region in free} - set(opened)
            regions, self._regions = self._regions, []
            self._free.clear()
        for region in regions:
            region.retire(in_use=region.name not in idle)


def aligned(size_bytes: int) -> int:
    """The offset of a tensor that follows one which ends there."""
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def address_of(array: NDArray[Any]) -> int:
    """Where its first element lies."""
    return int(array.__array_interface__["data"][0])


def array_at(address: int, shape: tuple[int, ...], typestr: str, owner: object, *, writable: bool) -> NDArray[Any]:
    """Make an array of memory at an address. No element is read.

    Args:
        address: Where it begins.
        shape: Its shape.
        typestr: Its type, as in ``__array_interface__``.
        owner: What the array, and all that is made of it, keeps alive.
        writable: Whether it may be written to.
    """
    interface = {"version": 3, "shape": shape, "typestr": typestr, "data": (address, not writable)}
    return np.asarray(_Addressed(owner, interface))


class _Addressed:
    """Memory as numpy takes it, with what keeps it."""

    def __init__(self, owner: object, interface: dict[str, Any]) -> None:
        self._owner = owner
        self.__array_interface__ = interface
