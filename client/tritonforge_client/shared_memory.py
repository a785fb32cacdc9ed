"""System shared memory: regions that this process and a server on the same host both see.

Regions are leased: what a reply's arrays lie in is not given to another call while one of them lives, and what a server
may still write to, because its request was given up, is never used again.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_SMALLEST_BYTES: Final = 1 << 16
_ALIGNMENT_BYTES: Final = 64


class SystemRegion:
    """One POSIX shared-memory object, which only this user can open.

    Args:
        size_bytes: Its size.

    Attributes:
        name: Name to register it under, different from that of any other region.
        key: Key by which a server opens it.
        memory: Its bytes.

    Raises:
        OSError: This system has no POSIX shared memory, or not so much.
    """

    def __init__(self, size_bytes: int) -> None:
        self.name = f"tritonforge-{os.getpid()}-{os.urandom(8).hex()}"
        self.key = f"/{self.name}"
        self.size_bytes = size_bytes
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

    def unlink(self) -> None:
        """Remove its name: nobody opens it any more, and its memory goes when all have closed it."""
        self._path.unlink(missing_ok=True)


@dataclass(slots=True)
class Lease:
    """A region for one call.

    Attributes:
        region: The region.
        pool: Where it comes from.
    """

    region: SystemRegion
    pool: RegionPool

    def release(self) -> None:
        """Give the region back."""
        self.pool.give_back(self.region)


class RegionPool:
    """The regions of one client. Threads may share it."""

    def __init__(self) -> None:
        self._free: dict[int, list[SystemRegion]] = {}
        self._regions: list[SystemRegion] = []
        self._lock = threading.Lock()

    @property
    def regions(self) -> tuple[SystemRegion, ...]:
        """All regions that were made."""
        return tuple(self._regions)

    def lease(self, size_bytes: int) -> Lease:
        """Take a region of at least a size.

        Raises:
            OSError: There is none, and none can be made.
        """
        rounded = max(_SMALLEST_BYTES, 1 << (size_bytes - 1).bit_length())
        with self._lock:
            free = self._free.get(rounded)
            if free:
                return Lease(free.pop(), self)
        region = SystemRegion(rounded)
        with self._lock:
            self._regions.append(region)
        return Lease(region, self)

    def give_back(self, region: SystemRegion) -> None:
        """Let the next call have a region."""
        with self._lock:
            self._free.setdefault(region.size_bytes, []).append(region)

    def close(self) -> None:
        """Remove all names. Arrays that still lie in a region stay valid."""
        with self._lock:
            for region in self._regions:
                region.unlink()
            self._regions.clear()
            self._free.clear()


def aligned(size_bytes: int) -> int:
    """The offset of a tensor that follows one which ends there."""
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


class _Owner:
    """What the arrays of a reply hold on to; its end ends the lease."""

    def __init__(self, lease: Lease) -> None:
        region = lease.region
        address = region.memory.__array_interface__["data"][0]
        self.__array_interface__ = {
            "version": 3,
            "shape": (region.size_bytes,),
            "typestr": "|u1",
            "data": (address, True),
        }
        weakref.finalize(self, lease.release)


def arrays_in(lease: Lease, places: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]) -> dict[str, NDArray[Any]]:
    """Make read-only arrays of what lies in a region; the region is given back when the last of them is gone.

    Args:
        lease: The region's lease, which these arrays take over.
        places: By tensor, its offset, shape and dtype.
    """
    whole = np.asarray(_Owner(lease))
    arrays = {}
    for name, (offset, shape, dtype) in places.items():
        size_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        arrays[name] = whole[offset : offset + size_bytes].view(dtype).reshape(shape)
    return arrays
