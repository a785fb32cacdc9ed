"""Tests with a real GPU and a real TensorRT; each skips with the reason where one is missing."""

from __future__ import annotations

import pytest

from tritonforge_generator.errors import TensorRTMissingError
from tritonforge_generator.plan.availability import require_tensorrt
from tritonforge_generator.plan.cuda import Gpu


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Gpu:
    """The GPU that the tests use."""
    try:
        return require_tensorrt()
    except TensorRTMissingError as error:
        pytest.skip(str(error))
