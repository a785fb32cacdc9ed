"""Fake servers for both kinds of client."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np
from support.blocking import BlockingClient

from tritonforge_client import Client, ModelSpec, Options, RetryPolicy, TensorSpec
from tritonforge_client.testing import Arrays, AsyncFakeTransport, FakeTransport

DIGITS = ModelSpec(
    name="digits",
    inputs=(TensorSpec(name="images", datatype="FP32", dims=(2,)),),
    outputs=(
        TensorSpec(name="scores", datatype="FP32", dims=(3,)),
        TensorSpec(name="words", datatype="BYTES", dims=(-1,)),
    ),
    max_batch_size=8,
)
COUNTER = ModelSpec(
    name="counter",
    inputs=(TensorSpec(name="count", datatype="INT32", dims=(1,)),),
    outputs=(TensorSpec(name="index", datatype="INT32", dims=(1,)),),
    decoupled=True,
)
SUM = ModelSpec(
    name="sum",
    inputs=(TensorSpec(name="x", datatype="INT32", dims=(1,)),),
    outputs=(TensorSpec(name="total", datatype="INT32", dims=(1,)),),
    sequence=True,
)
IMAGES = {"images": np.array([[1, 2], [3, 4]], np.float32)}
NEVER = Options(retry=None)
AT_ONCE = RetryPolicy(initial_s=0.001, maximum_s=0.001)

Fake: TypeAlias = FakeTransport | AsyncFakeTransport


def made(kind: str, *specs: ModelSpec, **options: Any) -> tuple[Client, Fake]:
    """A client, ``blocking`` or ``async`` behind blocking methods, and the fake below it."""
    if kind == "blocking":
        fake = FakeTransport(*specs)
        return Client("fake", transport=fake, **options), fake
    async_fake = AsyncFakeTransport(*specs)
    return cast("Client", BlockingClient("fake", transport=async_fake, **options)), async_fake


def digits_answer(inputs: Arrays) -> Arrays:
    """Both columns and their sum, as numbers and as texts."""
    images = inputs["images"]
    words = np.array([[str(row.sum()).encode()] for row in images], np.object_)
    return {"scores": np.stack([images[:, 0], images[:, 1], images.sum(1)], 1), "words": words}
