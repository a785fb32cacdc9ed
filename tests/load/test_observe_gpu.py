"""GPUs through NVML and from the metrics page, on hosts with and without one.

What cannot exist on a host without GPUs is the driver's library. It alone is stood in for, at its C interface: NVIDIA's
own binding stands on it as it would on the real one.
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tritonforge_client.core.metrics import metrics_from_text
from tritonforge_generator.deploy.wheel import find_installation
from tritonforge_load.observe import timeline
from tritonforge_load.observe.gpu import GpuObserver, is_this_host
from tritonforge_load.observe.page import (
    FAILURES,
    GPU_FAMILIES,
    gpu_uuids_from_page,
    gpus_from_page,
    host_from_page,
    rejected_from_page,
)

UUIDS = ("GPU-5fd4f087-86f3-7a43-b711-4771313afc50", "GPU-22d8f7b6-0d31-4d0c-8c4c-2c1d1b9b4f6e")
NOT_SUPPORTED = 3
LIBRARY_NOT_FOUND = "NVML Shared Library Not Found"

# Values as the server writes them, https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md
PAGE = """\
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.91
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.120000
nv_gpu_memory_total_bytes{gpu_uuid="GPU-a"} 16101933056.000000
nv_gpu_memory_total_bytes{gpu_uuid="GPU-b"} 16101933056.000000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 1048576
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 2097152
nv_gpu_power_usage{gpu_uuid="GPU-a"} 27.01
nv_gpu_power_usage{gpu_uuid="GPU-b"} 300.5
nv_gpu_power_limit{gpu_uuid="GPU-a"} 350
nv_energy_consumption{gpu_uuid="GPU-a"} 1234.56
"""
# The table of that page.
DOCUMENTED = {
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
}


class StandInNvml:
    """The functions of ``libnvidia-ml.so.1`` that are called, with the C interface of ``nvml.h``."""

    def __init__(self, uuids: tuple[str, ...] = UUIDS, *, under_mig: bool = False, status: int = 0) -> None:
        self.uuids = uuids
        self.under_mig = under_mig
        self.status = status
        self.open = 0

    def nvmlInitWithFlags(self, flags: int) -> int:
        self.open += self.status == 0
        return self.status

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.uuids)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        ctypes.memmove(handle, ctypes.byref(ctypes.c_void_p(index.value + 1)), ctypes.sizeof(ctypes.c_void_p))
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, text: Any, size: Any) -> int:
        text.value = self.uuids[_index(handle)].encode()
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle: Any, rates: Any) -> int:
        if self.under_mig:
            return NOT_SUPPORTED
        rates._obj.gpu, rates._obj.memory = 40 + _index(handle), 7
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, info: Any) -> int:
        info._obj.total, info._obj.used, info._obj.free = 1 << 36, 3 << 30, (1 << 36) - (3 << 30)
        return 0

    def nvmlDeviceGetPowerUsage(self, handle: Any, milliwatts: Any) -> int:
        milliwatts._obj.value = 123_456
        return 0

    def nvmlDeviceGetClockInfo(self, handle: Any, clock: Any, megahertz: Any) -> int:
        megahertz._obj.value = {1: 1980, 2: 3201}[clock.value]  # NVML_CLOCK_SM, NVML_CLOCK_MEM
        return 0

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: Any, celsius: Any) -> int:
        celsius._obj.value = {0: 41}[sensor.value]  # NVML_TEMPERATURE_GPU
        return 0

    class nvmlErrorString:  # a function whose result type can be set
        restype: Any = None

        def __new__(cls, code: Any) -> Any:
            return {NOT_SUPPORTED: b"Not Supported", 15: b"GPU is lost"}[int(code)]


def _index(handle: Any) -> int:
    return int(ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1


@pytest.fixture
def pynvml(monkeypatch: pytest.MonkeyPatch) -> Any:
    """NVIDIA's binding, with nothing loaded."""
    module = pytest.importorskip("pynvml", reason="needs NVIDIA's binding: pip install nvidia-ml-py")
    monkeypatch.setattr(module, "nvmlLib", None)
    monkeypatch.setattr(module, "_nvmlGetFunctionPointer_cache", {})
    return module


@pytest.fixture
def driver(pynvml: Any, monkeypatch: pytest.MonkeyPatch) -> StandInNvml:
    library = StandInNvml()
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    return library


def test_a_host_without_a_driver_says_so(pynvml: Any) -> None:
    if (Path("/dev") / "nvidiactl").exists():
        pytest.skip("this host has NVIDIA's driver")
    with pytest.raises(pynvml.NVMLError_LibraryNotFound, match=LIBRARY_NOT_FOUND):
        pynvml.nvmlInit()
    observer = GpuObserver("127.0.0.1")
    assert observer.reason == f"NVML: {LIBRARY_NOT_FOUND}"
    assert observer.sample().values == {}
    assert observer.sample().absent == {"gpu": f"NVML: {LIBRARY_NOT_FOUND}"}
    observer.close()


def test_a_host_without_the_binding_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pynvml is not installed; run: pip install" in GpuObserver("127.0.0.1").sample().absent["gpu"]


@pytest.mark.gpu
def test_a_real_gpu_has_every_value_of_the_table(pynvml: Any) -> None:
    observer = GpuObserver("127.0.0.1")
    if observer.reason:
        pytest.skip(observer.reason)
    reading = observer.sample()
    observer.close()
    assert 0 < reading.values["gpu.0.memory_used_bytes"] < reading.values["gpu.0.memory_total_bytes"]
    kinds = {re.sub(r"^gpu\.\d+\.", "", kind) for kind in reading.absent}
    assert kinds <= {"utilization", "memory", "power", "clocks", "temperature"}
    assert kinds or set(_gpu_names(reading.values)) == {name for name in _table() if name.startswith("gpu.")}


def test_values_have_the_units_of_their_names(driver: StandInNvml) -> None:
    observer = GpuObserver("127.0.0.1")
    reading = observer.sample()
    assert (observer.reason, reading.absent) == ("", {})
    assert {name: value for name, value in reading.values.items() if name.startswith("gpu.0.")} == {
        "gpu.0.utilization_share": pytest.approx(0.4),
        "gpu.0.memory_used_bytes": 3 << 30,
        "gpu.0.memory_total_bytes": 1 << 36,
        "gpu.0.power_w": pytest.approx(123.456),
        "gpu.0.sm_clock_mhz": 1980,
        "gpu.0.memory_clock_mhz": 3201,
        "gpu.0.temperature_c": 41,
    }
    assert reading.values["gpu.1.utilization_share"] == pytest.approx(0.41)
    assert set(_gpu_names(reading.values)) == {name for name in _table() if name.startswith("gpu.")}
    observer.close()
    observer.close()
    assert driver.open == 0
    assert observer.sample().absent == {"gpu": "NVML: closed"}


def test_the_servers_own_gpus_are_numbered_as_on_its_page(driver: StandInNvml) -> None:
    observer = GpuObserver("127.0.0.1", uuids=tuple(sorted(UUIDS)))
    assert observer.sample().values["gpu.0.utilization_share"] == pytest.approx(0.41)  # the second of the host
    some = GpuObserver("127.0.0.1", uuids=(UUIDS[1], "GPU-elsewhere"))
    reading = some.sample()
    assert reading.values["gpu.0.utilization_share"] == pytest.approx(0.41)
    assert reading.absent == {"gpu.1": "GPU-elsewhere is not on this host"}


def test_a_forwarded_port_does_not_make_this_hosts_gpus_the_servers(driver: StandInNvml) -> None:
    observer = GpuObserver("127.0.0.1", uuids=("GPU-elsewhere",))
    assert observer.sample().absent == {"gpu": "NVML: this host has none of the server's GPUs"}
    assert driver.open == 0


def test_what_a_gpu_does_not_offer_is_absent_and_the_rest_is_there(driver: StandInNvml) -> None:
    driver.under_mig = True
    reading = GpuObserver("127.0.0.1").sample()
    assert set(reading.absent) == {"gpu.0.utilization", "gpu.1.utilization"}
    assert reading.absent["gpu.0.utilization"] == "NVML: Not Supported (a GPU under MIG has none as a whole)"
    assert "gpu.0.utilization_share" not in reading.values
    assert reading.values["gpu.0.power_w"] > 0


def test_a_driver_without_gpus_or_with_lost_ones_is_a_reason(driver: StandInNvml) -> None:
    driver.uuids = ()
    assert GpuObserver("127.0.0.1").reason == "NVML: this host has no GPU"
    driver.status = 15
    assert GpuObserver("127.0.0.1").reason == "NVML: GPU is lost"
    assert driver.open == 0


def test_gpus_of_another_host_are_not_asked_for(driver: StandInNvml) -> None:
    observer = GpuObserver("192.0.2.1")  # an address for documentation, RFC 5737
    assert observer.sample().absent["gpu"].endswith("the server is on 192.0.2.1")
    assert driver.open == 0


def test_this_host_is_known_by_its_addresses() -> None:
    assert is_this_host("127.0.0.1")
    assert is_this_host("localhost")
    assert not is_this_host("192.0.2.1")
    assert not is_this_host("256.1.1.1.")


def test_gpus_of_the_page_have_the_names_of_the_table() -> None:
    page = metrics_from_text(PAGE)
    assert gpu_uuids_from_page(page) == ("GPU-a", "GPU-b")
    reading = gpus_from_page(page)
    assert reading.absent == {}
    assert reading.values == {
        "gpu.0.utilization_share": 0.12,
        "gpu.0.memory_used_bytes": 1048576,
        "gpu.0.memory_total_bytes": 16101933056,
        "gpu.0.power_w": 27.01,
        "gpu.1.utilization_share": 0.91,
        "gpu.1.memory_used_bytes": 2097152,
        "gpu.1.memory_total_bytes": 16101933056,
        "gpu.1.power_w": 300.5,
    }
    assert set(_gpu_names(reading.values)) <= set(_table())


def test_a_zero_that_stands_for_a_failed_reading_is_no_value() -> None:
    text = re.sub(r'(power_usage|memory_[a-z_]+)(\{gpu_uuid="GPU-a"\}) .*', r"\1\2 0", PAGE)
    reading = gpus_from_page(metrics_from_text(text))
    assert set(reading.absent) == {"gpu.0.utilization", "gpu.0.memory", "gpu.0.power"}
    assert not any(name.startswith("gpu.0.") for name in reading.values)
    assert len(reading.values) == 4
    host = host_from_page(metrics_from_text("nv_cpu_utilization 0\nnv_cpu_memory_total_bytes 0\n"))
    assert host.values == {}
    assert set(host.absent) == {"server.cpu", "server.memory", "server.pinned_memory"}


def test_an_idle_gpu_has_a_utilization_of_zero() -> None:
    reading = gpus_from_page(metrics_from_text(PAGE.replace("0.120000", "0.000000")))
    assert reading.values["gpu.0.utilization_share"] == 0.0


def test_a_value_that_is_not_a_number_is_no_value() -> None:
    reading = gpus_from_page(metrics_from_text(PAGE.replace("27.01", "Nan").replace("0.91", "nan")))
    assert set(reading.absent) == {"gpu.0.power", "gpu.1.utilization"}


def test_families_of_gpus_are_documented() -> None:
    assert set(GPU_FAMILIES) <= DOCUMENTED


@pytest.mark.triton
@pytest.mark.parametrize("name", ["gpu_uuid", *GPU_FAMILIES])
def test_names_of_gpus_are_in_the_real_servers_library(name: str) -> None:
    (library,) = find_installation().libraries.glob("libtritonserver-*.so")
    # The compiler puts the end of a long name into the code, so it stands apart.
    assert name[:16].encode() in library.read_bytes()


def test_rejections_are_told_apart_by_their_reason() -> None:
    text = "".join(
        f'{FAILURES}{{model="{model}",reason="{reason}",version="{version}"}} {count}\n'
        for model, reason, version, count in (
            ("a", "REJECTED", 1, 3), ("a", "REJECTED", 2, 4), ("a", "OTHER", 1, 9), ("b", "REJECTED", 1, 0)
        )
    )  # fmt: skip
    rejected = rejected_from_page(metrics_from_text(text))
    assert rejected is not None
    assert (rejected["a"], rejected["b"], rejected["c"]) == (7, 0, 0)


def test_a_server_that_gives_no_reasons_has_told_no_rejections() -> None:
    assert rejected_from_page(metrics_from_text(f'{FAILURES}{{model="a",version="1"}} 7\n')) is None


def _table() -> list[str]:
    return re.findall(r"^``([a-z_<>.]+)`` ", str(timeline.__doc__), re.MULTILINE)


def _gpu_names(values: dict[str, float]) -> list[str]:
    return [re.sub(r"^gpu\.\d+\.", "gpu.<i>.", name) for name in values]
