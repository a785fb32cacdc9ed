"""The clients that ``client_peers.py`` compares, by name; a new one is a line in a table.

Each imports its library when it is opened, so that a process holds that of its own client alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Call = Callable[[], Any]
AsyncCall = Callable[[], Awaitable[Any]]
C = TypeVar("C")

MODEL = "identity"


@dataclass(frozen=True)
class Peer(Generic[C]):
    """A client that is compared: what it needs, and how it is opened at a URL for calls with one array."""

    protocol: str
    package: str
    open: Callable[[str, Array], C]

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return importlib.util.find_spec(self.package) is not None


def host_of(url: str) -> str:
    """``host:port`` of a URL."""
    return url.partition("://")[2]


@contextmanager
def ours(
    url: str, array: Array, *, shared_memory: Literal["off", "auto"] = "off", pages_kept: bool = False
) -> Iterator[Call]:
    """Our blocking client, its requests checked against the model's spec."""
    from tritonforge_client import Client, Options, keep_pages

    if pages_kept:
        keep_pages()
    with Client(url, options=Options(shared_memory=shared_memory)) as client:
        spec = client.spec(MODEL)
        if shared_memory != "off":  # outputs whose size is known can lie there
            (output,) = spec.outputs
            spec = dataclasses.replace(spec, outputs=(dataclasses.replace(output, dims=array.shape[1:]),))
        model = client.bind(spec)
        yield lambda: model.infer({"x": array})["y"]


SERVICE = "/inference.GRPCInferenceService/"
METHOD = f"{SERVICE}ModelInfer"
NO_LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@contextmanager
def bytes_alone(url: str, array: Array) -> Iterator[Call]:
    """A message that was encoded before and is not decoded after: what no client over gRPC is faster than."""
    message = message_of(array)
    grpc: Any = import_module("grpc")
    with grpc.insecure_channel(host_of(url), options=NO_LIMITS) as channel:
        send = channel.unary_unary(METHOD)
        yield lambda: array_of(send(message), array)


@contextmanager
def bytes_alone_shared(url: str, array: Array) -> Iterator[Call]:
    """The same with tensors that lie in shared memory before, and are read there after."""
    from tritonforge_client.core.grpc_codec import buffers_from_request
    from tritonforge_client.core.grpc_dialect import GrpcDialect
    from tritonforge_client.core.request import InferRequest, InputTensor, Region, RequestedOutput
    from tritonforge_client.shared_memory import SystemRegion

    region = SystemRegion(2 * array.nbytes)
    region.memory[: array.nbytes] = array.reshape(-1).view(np.uint8)
    places = [Region(region.name, array.nbytes, offset) for offset in (0, array.nbytes)]
    tensor = InputTensor("x", "FP32", array.shape, memoryview(b""), places[0])
    request = InferRequest(model=MODEL, inputs=(tensor,), outputs=(RequestedOutput("y", region=places[1]),))
    message = b"".join(buffers_from_request(request))
    grpc: Any = import_module("grpc")
    with grpc.insecure_channel(host_of(url)) as channel:

        def ask(request: Any) -> None:
            channel.unary_unary(SERVICE + request.method)(b"".join(request.body))

        ask(region.register(GrpcDialect()).request)
        send = channel.unary_unary(METHOD)

        def call() -> Any:
            send(message)
            return region.memory[array.nbytes :].view(np.float32).reshape(array.shape)

        yield call
        ask(region.unregister(GrpcDialect()).request)
        region.retire(in_use=False)


def message_of(array: Array) -> bytes:
    """The request, encoded."""
    from tritonforge_client.core.grpc_codec import buffers_from_request
    from tritonforge_client.core.request import InferRequest, InputTensor

    tensor = InputTensor("x", "FP32", array.shape, array.reshape(-1).view(np.uint8).data)
    return b"".join(buffers_from_request(InferRequest(model=MODEL, inputs=(tensor,))))


@contextmanager
def bytes_alone_http(url: str, array: Array) -> Iterator[Call]:
    """The same over HTTP: one socket, and replies as long as the first into one buffer."""
    from tritonforge_client.core.http11 import request_head
    from tritonforge_client.core.http_dialect import HttpDialect
    from tritonforge_client.core.request import InferRequest, InputTensor

    tensor = InputTensor("x", "FP32", array.shape, array.reshape(-1).view(np.uint8).data)
    request = HttpDialect().infer(InferRequest(model=MODEL, inputs=(tensor,))).request
    message = b"".join((request_head(request, host_of(url), {}), *request.body))
    host, _, port = host_of(url).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(message)
        first = bytearray()
        while (head := re.search(rb"\r\ncontent-length: (\d+)\r\n(?:.*?\r\n)?\r\n", first, re.I | re.S)) is None:
            first += connection.recv(1 << 16)
        size_bytes = head.end() + int(head[1])
        while len(first) < size_bytes:
            first += connection.recv(1 << 20)
        buffer = memoryview(bytearray(size_bytes))

        def call() -> Any:
            connection.sendall(message)
            received = 0
            while received < size_bytes:
                received += connection.recv_into(buffer[received:])
            return array_of(buffer, array)

        yield call


def array_of(reply: bytes | memoryview, array: Array) -> Array:
    """The elements that end a reply."""
    return np.frombuffer(reply, np.float32, offset=len(reply) - array.nbytes).reshape(array.shape)


@contextmanager
def tritonclient(url: str, array: Array) -> Iterator[Call]:
    """NVIDIA's client as its examples use it: tensors are made for each call."""
    module: Any = import_module(f"tritonclient.{url.partition(':')[0]}")
    with module.InferenceServerClient(host_of(url)) as client:

        def call() -> Any:
            tensor = module.InferInput("x", array.shape, "FP32")
            tensor.set_data_from_numpy(array)
            return client.infer(MODEL, [tensor]).as_numpy("y")

        yield call


@contextmanager
def pytriton(url: str, array: Array) -> Iterator[Call]:
    """PyTriton's client."""
    module: Any = import_module("pytriton.client")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a timeout that it has, and does not support over gRPC
        client = module.ModelClient(url, MODEL)
    with client:
        yield lambda: client.infer_batch(array)["y"]


def tritony(*, run_async: bool) -> Callable[[str, Array], AbstractContextManager[Call]]:
    """tritony's client; it runs an event loop for each call unless told otherwise."""

    @contextmanager
    def opened(url: str, array: Array) -> Iterator[Call]:
        module: Any = import_module("tritony")
        protocol = url.partition(":")[0]
        client = module.InferenceClient.create_with(MODEL, host_of(url), protocol=protocol, run_async=run_async)
        try:
            yield lambda: client(array)
        finally:
            client.triton_client.close()

    return opened


@asynccontextmanager
async def ours_aio(url: str, array: Array) -> AsyncIterator[AsyncCall]:
    """Our asynchronous client, its requests checked against the model's spec."""
    from tritonforge_client import AsyncClient

    async with AsyncClient(url) as client:
        model = client.bind(await client.spec(MODEL))

        async def call() -> Any:
            return (await model.infer({"x": array}))["y"]

        yield call


@asynccontextmanager
async def bytes_alone_aio(url: str, array: Array) -> AsyncIterator[AsyncCall]:
    """The same in an event loop."""
    message = message_of(array)
    aio: Any = import_module("grpc.aio")
    async with aio.insecure_channel(host_of(url), options=NO_LIMITS) as channel:
        send = channel.unary_unary(METHOD)

        async def call() -> Any:
            return array_of(await send(message), array)

        yield call


@asynccontextmanager
async def tritonclient_aio(
    url: str, array: Array, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[AsyncCall]:
    """NVIDIA's asynchronous client."""
    module: Any = import_module(f"tritonclient.{url.partition(':')[0]}.aio")
    async with module.InferenceServerClient(host_of(url)) as client:

        async def call() -> Any:
            tensor = module.InferInput("x", array.shape, "FP32")
            tensor.set_data_from_numpy(array)
            return (await client.infer(MODEL, [tensor], headers=headers)).as_numpy("y")

        yield call


BASELINE = "tritonclient"
SYNC: dict[str, Peer[AbstractContextManager[Call]]] = {
    "ours grpc": Peer("grpc", "tritonforge_client", ours),
    "ours grpc, keep_pages()": Peer("grpc", "tritonforge_client", partial(ours, pages_kept=True)),
    "ours grpc, shared memory": Peer("grpc", "tritonforge_client", partial(ours, shared_memory="auto")),
    "grpcio, bytes alone": Peer("grpc", "grpc", bytes_alone),
    "grpcio, bytes alone, shared memory": Peer("grpc", "grpc", bytes_alone_shared),
    "tritonclient grpc": Peer("grpc", "tritonclient", tritonclient),
    "pytriton grpc": Peer("grpc", "pytriton", pytriton),
    "tritony grpc": Peer("grpc", "tritony", tritony(run_async=True)),
    "tritony grpc, run_async=False": Peer("grpc", "tritony", tritony(run_async=False)),
    "ours http": Peer("http", "tritonforge_client", ours),
    "ours http, keep_pages()": Peer("http", "tritonforge_client", partial(ours, pages_kept=True)),
    "ours http, shared memory": Peer("http", "tritonforge_client", partial(ours, shared_memory="auto")),
    "bytes alone http": Peer("http", "tritonforge_client", bytes_alone_http),
    "tritonclient http": Peer("http", "tritonclient", tritonclient),
    "pytriton http": Peer("http", "pytriton", pytriton),
    "tritony http": Peer("http", "tritony", tritony(run_async=True)),
}
ASYNC: dict[str, Peer[AbstractAsyncContextManager[AsyncCall]]] = {
    "ours grpc": Peer("grpc", "tritonforge_client", ours_aio),
    "grpcio, bytes alone": Peer("grpc", "grpc", bytes_alone_aio),
    "tritonclient grpc": Peer("grpc", "tritonclient", tritonclient_aio),
    "ours http": Peer("http", "tritonforge_client", ours_aio),
    # Left alone, aiohttp asks for gzip and Triton compresses the tensors: a line of its own, not what others are
    # measured by.
    "tritonclient http": Peer(
        "http", "tritonclient", partial(tritonclient_aio, headers={"Accept-Encoding": "identity"})
    ),
    "tritonclient http, its gzip": Peer("http", "tritonclient", tritonclient_aio),
}
# How each client is imported and made, and how it calls.
_IMPORT_TRITONCLIENT = "import tritonclient.{0} as t; client = t.InferenceServerClient('{1}')"
_CALL_TRITONCLIENT = (
    "x = t.InferInput('x', array.shape, 'FP32'); x.set_data_from_numpy(array); "
    "client.infer('identity', [x]).as_numpy('y')"
)
FRESH = {
    "ours": (
        "from tritonforge_client import Client; client = Client('{0}://{1}')",
        "client.infer('identity', {'x': array})",
    ),
    "tritonclient": (_IMPORT_TRITONCLIENT, _CALL_TRITONCLIENT),
    "pytriton": (
        "from pytriton.client import ModelClient; client = ModelClient('{0}://{1}', 'identity')",
        "client.infer_batch(array)",
    ),
}


def baselines_of(peers: Mapping[str, Peer[Any]]) -> dict[str, str]:
    """tritonclient over the same protocol, by client."""
    return {name: f"{BASELINE} {peer.protocol}" for name, peer in peers.items()}


def urls_of(peers: Mapping[str, Peer[Any]], urls: Mapping[str, str]) -> dict[str, str]:
    """Where each client calls."""
    return {name: urls[peer.protocol] for name, peer in peers.items()}
