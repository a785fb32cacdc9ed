from __future__ import annotations

import numpy as np
import pytest

from tritonforge_client import ModelSpec, TensorSpec
from tritonforge_client.core.placement import Placement
from tritonforge_client.core.request import InputTensor
from tritonforge_client.shared_memory import RegionPool, SystemRegion

ROWS = 100_000
SPEC = ModelSpec(
    name="m",
    inputs=(TensorSpec(name="x", datatype="UINT8", dims=(ROWS,)),),
    outputs=(TensorSpec(name="y", datatype="FP32", dims=(ROWS,)),),
)


def test_without_room_for_the_outputs_the_region_of_the_inputs_is_given_back() -> None:
    def full(size_bytes: int) -> SystemRegion:
        if size_bytes > 2 * ROWS:
            raise OSError("no space left")
        return SystemRegion(size_bytes)

    pool = RegionPool(full, SystemRegion.smallest_bytes)
    try:
        tensor = InputTensor("x", "UINT8", (ROWS,), np.zeros(ROWS, np.uint8).data)
        for _ in range(3):
            with pytest.raises(OSError, match="no space left"):
                Placement(lambda _, size_bytes: pool.lease(size_bytes), [tensor], (), SPEC)
        assert len(pool.regions) == 1
    finally:
        pool.close()
