"""What Triton's metrics page says of the server's host, its GPUs and its refusals.

Source: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md. Host and GPUs are looked
at by the server every 2 s (``--metrics-interval-ms``), so samples each second repeat a value. What it cannot read it
writes as 0 (``metrics.cc`` of triton-inference-server/core): a host or a GPU without memory, and a GPU that takes
no power, were not read. A utilization of 0 may be true, so it stands where the GPU's memory was read; under MIG it is
always 0.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from tritonforge_client.core.metrics import Metrics
from tritonforge_load.observe.absences import Reading

CPU_SHARE: Final = "nv_cpu_utilization"
HOST_MEMORY_USED: Final = "nv_cpu_memory_used_bytes"
HOST_MEMORY_TOTAL: Final = "nv_cpu_memory_total_bytes"
PINNED_MEMORY_USED: Final = "nv_pinned_memory_pool_used_bytes"
GPU_UTILIZATION: Final = "nv_gpu_utilization"
GPU_MEMORY_USED: Final = "nv_gpu_memory_used_bytes"
GPU_MEMORY_TOTAL: Final = "nv_gpu_memory_total_bytes"
GPU_POWER: Final = "nv_gpu_power_usage"
FAILURES: Final = "nv_inference_request_failure"

HOST_FAMILIES: Final = (CPU_SHARE, HOST_MEMORY_USED, HOST_MEMORY_TOTAL, PINNED_MEMORY_USED)
"""Families of every server on Linux, with no label."""

GPU_FAMILIES: Final = (GPU_UTILIZATION, GPU_MEMORY_USED, GPU_MEMORY_TOTAL, GPU_POWER)
"""Families of a server that sees GPUs and could start DCGM; their label is ``gpu_uuid``."""

HOST_KINDS: Final = ("server.cpu", "server.memory", "server.pinned_memory")


def host_from_page(page: Metrics) -> Reading:
    """Read the use of the server's host.

    Returns:
        ``server.cpu_share``, ``server.memory_bytes`` and ``server.pinned_memory_bytes``.
    """
    numbers = {sample.name: sample.value for sample in page.samples if sample.name in HOST_FAMILIES}
    was_read = numbers.get(HOST_MEMORY_TOTAL, 0.0) > 0
    wanted = {
        "server.cpu": ("cpu_share", CPU_SHARE, was_read),
        "server.memory": ("memory_bytes", HOST_MEMORY_USED, was_read),
        "server.pinned_memory": ("pinned_memory_bytes", PINNED_MEMORY_USED, True),
    }
    reading = Reading()
    for kind, (name, family, known) in wanted.items():
        value = numbers.get(family, math.nan)
        if known and math.isfinite(value):
            reading.values[f"server.{name}"] = value
        else:
            reading.absent[kind] = (
                f"the server's metrics page has no {family}, or it was not read yet (--allow-cpu-metrics)"
            )
    return reading


def gpu_uuids_from_page(page: Metrics) -> tuple[str, ...]:
    """UUIDs of the server's GPUs, sorted; a GPU's place among them is its number in names."""
    labels = {sample.labels.get("gpu_uuid", "") for sample in page.samples if sample.name in GPU_FAMILIES}
    return tuple(sorted(labels - {""}))


def gpus_from_page(page: Metrics) -> Reading:
    """Read the use of the server's GPUs.

    Returns:
        ``gpu.<i>.utilization_share``, ``.memory_used_bytes``, ``.memory_total_bytes`` and ``.power_w``.
    """
    uuids = gpu_uuids_from_page(page)
    if len(uuids) == 0:
        absent = "the server's metrics page has no nv_gpu_*: it sees no GPU, or could not start DCGM"
        return Reading(absent={"gpu": f"{absent} (--allow-gpu-metrics)"})
    numbers: dict[tuple[str, str], float] = {
        (sample.labels.get("gpu_uuid", ""), sample.name): sample.value for sample in page.samples
    }
    reading = Reading()
    for number, uuid in enumerate(uuids):
        memory_read = numbers.get((uuid, GPU_MEMORY_TOTAL), 0.0) > 0
        power_read = numbers.get((uuid, GPU_POWER), 0.0) > 0
        wanted = (
            ("utilization", "utilization_share", GPU_UTILIZATION, memory_read),
            ("memory", "memory_used_bytes", GPU_MEMORY_USED, memory_read),
            ("memory", "memory_total_bytes", GPU_MEMORY_TOTAL, memory_read),
            ("power", "power_w", GPU_POWER, power_read),
        )
        for kind, name, family, known in wanted:
            value = numbers.get((uuid, family), math.nan)
            if known and math.isfinite(value):
                reading.values[f"gpu.{number}.{name}"] = value
            else:
                reading.absent[f"gpu.{number}.{kind}"] = f"the server's metrics page has no {family} that was read"
    return reading


def rejected_from_page(page: Metrics) -> Counter[str] | None:
    """Count the requests by model whose time in the queue ran out, over all versions.

    Returns:
        The counts; ``None`` when the page does not tell why requests failed, as older servers' pages do not.
    """
    failures = [sample for sample in page.samples if sample.name == FAILURES]
    if not any("reason" in sample.labels for sample in failures):
        return None
    rejected: Counter[str] = Counter()
    for sample in failures:
        if sample.labels.get("reason") == "REJECTED" and math.isfinite(sample.value):
            rejected[sample.labels.get("model", "")] += int(sample.value)
    return rejected
