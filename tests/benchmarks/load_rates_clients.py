"""What a Locust user can send requests with: the rows of ``load_rates.py``, by name.

Every row tells ``events.request`` of each call, as every load test does. Each imports its library when it is opened, so
that a process holds that of its own row alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np
from benchmarks.client_peers_clients import MODEL, Array, Call, bytes_alone, bytes_alone_http, host_of, tritonclient
from benchmarks.load_rates_responder import SHAPE

from tritonforge_client import ModelSpec, TensorSpec

SPEC: Final = ModelSpec(
    name=MODEL,
    inputs=(TensorSpec(name="x", datatype="FP32", dims=(-1,)),),
    outputs=(TensorSpec(name="y", datatype="FP32", dims=(-1,)),),
    max_batch_size=8,
)
ARRAY: Final = np.ones(SHAPE, np.float32)


@dataclass(frozen=True)
class Row:
    """One way to send requests.

    Attributes:
        protocol: What it speaks; empty where nothing is sent.
        open: Makes what sends one request and reports it, for one user.
    """

    protocol: str
    open: Callable[[Any], AbstractContextManager[Call]]


# ---- a Locust user's own code ----


def by_hand(opened: Callable[[str, Array], AbstractContextManager[Call]]) -> Callable[[Any], Any]:
    """A client in the fewest lines that report a call to Locust."""

    @contextmanager
    def open_for(user: Any) -> Iterator[Call]:
        with opened(user.host, ARRAY) as call:
            yield lambda: reported(user, call)

    return open_for


def reported(user: Any, call: Call) -> None:
    """Make a call, and tell Locust."""
    start_s = time.perf_counter()
    reply = call()
    user.environment.events.request.fire(
        request_type="bench",
        name=MODEL,
        response_time=(time.perf_counter() - start_s) * 1e3,
        response_length=reply.nbytes,
        exception=None,
        context={},
    )


@contextmanager
def nothing(_url: str, array: Array) -> Iterator[Call]:
    """No request at all: what Locust itself takes."""
    yield lambda: array


@contextmanager
def tritonclient_reused(url: str, array: Array) -> Iterator[Call]:
    """NVIDIA's client, the inputs made once and the answer not read."""
    module: Any = import_module(f"tritonclient.{url.partition(':')[0]}")
    with module.InferenceServerClient(host_of(url)) as client:
        tensor = module.InferInput("x", array.shape, "FP32")
        tensor.set_data_from_numpy(array)

        def call() -> Array:
            client.infer(MODEL, [tensor])
            return array

        yield call


@contextmanager
def ours_bare(url: str, array: Array) -> Iterator[Call]:
    """Our client without our user."""
    from tritonforge_client import Client

    with Client(url) as client:
        model = client.bind(SPEC)
        yield lambda: model.infer({"x": array})["y"]


# ---- our user ----


@contextmanager
def ours_untyped(user: Any) -> Iterator[Call]:
    """``TritonUser.infer``."""
    yield lambda: user.infer(MODEL, {"x": ARRAY})


@contextmanager
def ours_typed(user: Any) -> Iterator[Call]:
    """A bound model's ``infer`` in ``TritonUser.measured``, as campaigns call it."""
    model = user.client.bind(SPEC)
    yield lambda: user.measured(MODEL, lambda: model.infer({"x": ARRAY}))


@contextmanager
def ours_prepared(user: Any) -> Iterator[Call]:
    """A request that was encoded once."""
    prepared = user.client.bind(SPEC).prepare({"x": ARRAY})
    yield lambda: user.send(prepared)


ROWS: Final[Mapping[str, Row]] = {
    "nothing": Row("", by_hand(nothing)),
    "bytes alone http": Row("http", by_hand(bytes_alone_http)),
    "tritonclient http": Row("http", by_hand(tritonclient)),
    "tritonclient http, inputs reused": Row("http", by_hand(tritonclient_reused)),
    "ours http, without our user": Row("http", by_hand(ours_bare)),
    "ours http, untyped": Row("http", ours_untyped),
    "ours http": Row("http", ours_typed),
    "ours http, prepared": Row("http", ours_prepared),
    "grpcio, bytes alone": Row("grpc", by_hand(bytes_alone)),
    "tritonclient grpc": Row("grpc", by_hand(tritonclient)),
    "tritonclient grpc, inputs reused": Row("grpc", by_hand(tritonclient_reused)),
    "ours grpc, without our user": Row("grpc", by_hand(ours_bare)),
    "ours grpc, untyped": Row("grpc", ours_untyped),
    "ours grpc": Row("grpc", ours_typed),
    "ours grpc, prepared": Row("grpc", ours_prepared),
}
