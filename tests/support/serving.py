"""Asking a server, and what it says when it does not start."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from tritonforge_client import Client, TritonError
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import ServerExitedError

INPUT = 'input { name: "x" data_type: TYPE_FP32 dims: [4] }\n'
OUTPUT = 'output { name: "y" data_type: TYPE_FP32 dims: [4] }\n'
BATCHING = "max_batch_size: 8\n"


def in_parallel(client: Client, model: str, requests: Sequence[dict[str, NDArray[Any]]]) -> list[Any]:
    """Send requests at the same moment; returns the outputs of each, or its error."""
    barrier = threading.Barrier(len(requests))

    def call(inputs: dict[str, NDArray[Any]]) -> Any:
        barrier.wait()
        try:
            return client.infer(model, inputs).value
        except TritonError as error:
            return error

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(call, requests))


def message_of(repository: Path) -> str:
    """The error of a server that does not start on a repository."""
    with pytest.raises(ServerExitedError) as caught, EmbeddedTriton(repository):
        pass
    return str(caught.value)
