"""Samples and calibration for networks of ``support.networks``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge_generator.graph import Samples
from tritonforge_generator.precision import Calibration


def pool(**arrays: npt.NDArray[Any]) -> Samples:
    return Samples(arrays=arrays, origin="a test")


def images(count: int, seed: int = 0, scale: float = 1.0) -> Samples:
    random = np.random.default_rng(seed)
    return pool(images=(random.standard_normal((count, 3, 16, 16)) * scale).astype(np.float32))


def tokens(count: int, seed: int = 0, *, highest: int = 64) -> Samples:
    return pool(tokens=np.random.default_rng(seed).integers(0, highest, (count, 8)))


def calibration(samples: Samples) -> Calibration:
    return Calibration(samples=samples, sha256="of a test")
