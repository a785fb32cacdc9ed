"""GPUs of this host through NVML, the library under ``nvidia-smi``."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from tritonforge_client.extras import MissingExtraError, require_extra
from tritonforge_load.observe.absences import Reading

_W_PER_MW: Final = 1e-3


class GpuObserver:
    """Reads a server's GPUs, where they are on this host.

    Args:
        host: Host that the server was called at.
        uuids: UUIDs of the server's GPUs, where it tells them; the place of each is its number in names. A server that
            is reached through a forwarded port seems to be on this host, and its GPUs tell that it is not. Without
            them all GPUs of this host are read, by NVML's numbers.

    Attributes:
        reason: Why no GPU can be read; empty when one can.
    """

    def __init__(self, host: str, *, uuids: Sequence[str] = ()) -> None:
        self._nvml: Any = None
        self._handles: dict[int, Any] = {}
        self._missing: dict[int, str] = {}
        self.reason = ""
        self.reason = self._open(host, uuids)

    def sample(self) -> Reading:
        """Read all GPUs.

        Returns:
            All names of ``gpu.<i>`` in a ``Timeline``. What a GPU does not offer is absent, with NVML's words.
        """
        if self.reason:
            return Reading(absent={"gpu": self.reason})
        reading = Reading(absent={f"gpu.{number}": reason for number, reason in self._missing.items()})
        for number, handle in self._handles.items():
            for kind, read in _quantities(self._nvml, handle).items():
                try:
                    values = read()
                except self._nvml.NVMLError as error:
                    hint = " (a GPU under MIG has none as a whole)" if kind == "utilization" else ""
                    reading.absent[f"gpu.{number}.{kind}"] = f"NVML: {error}{hint}"
                else:
                    reading.values.update({f"gpu.{number}.{name}": float(value) for name, value in values.items()})
        return reading

    def close(self) -> None:
        """Let go of NVML. A second call does nothing."""
        nvml, self._nvml = self._nvml, None
        self._handles, self.reason = {}, self.reason or "NVML: closed"
        if nvml is not None:
            nvml.nvmlShutdown()

    def _open(self, host: str, uuids: Sequence[str]) -> str:
        """Find the GPUs; returns why there are none."""
        if not is_this_host(host):
            return f"NVML reads GPUs of this host only, and the server is on {host}"
        try:
            nvml = require_extra("pynvml", "load")
        except MissingExtraError as error:
            return str(error)
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            return f"NVML: {error}"
        self._nvml = nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
            by_uuid = {nvml.nvmlDeviceGetUUID(handle): handle for handle in handles}
        except nvml.NVMLError as error:
            self.close()
            return f"NVML: {error}"
        wanted = uuids or tuple(by_uuid)
        self._handles = {number: by_uuid[uuid] for number, uuid in enumerate(wanted) if uuid in by_uuid}
        if len(self._handles) == 0:
            self.close()
            return "NVML: this host has none of the server's GPUs" if uuids else "NVML: this host has no GPU"
        self._missing = {i: f"{uuid} is not on this host" for i, uuid in enumerate(wanted) if uuid not in by_uuid}
        return ""


def is_this_host(host: str) -> bool:
    """Whether a name or an address is one of this host: only then can a socket be bound to it."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, address) for family, _, _, _, address in found)


def _can_bind(family: int, address: Any) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def _quantities(nvml: Any, handle: Any) -> dict[str, Callable[[], dict[str, float]]]:
    """How the values are read, by the kind that is absent when they cannot be."""

    def memory() -> dict[str, float]:
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
        return {"memory_used_bytes": info.used, "memory_total_bytes": info.total}

    def clocks() -> dict[str, float]:
        return {
            "sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        }

    return {
        "utilization": lambda: {"utilization_share": nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100},
        "memory": memory,
        "power": lambda: {"power_w": nvml.nvmlDeviceGetPowerUsage(handle) * _W_PER_MW},
        "clocks": clocks,
        "temperature": lambda: {"temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)},
    }
