"""Defects of tritonclient 2.73.0, numbered D1 to D22, that this client does not have: those seen without a Triton.

``tests/contract/test_defects.py`` has the others.
"""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeAlias, cast, get_args

import grpc
import numpy as np
import pytest
from support.blocking import BlockingClient
from support.fault_proxy import FaultProxy
from support.http_ends import Server, request_from, silent, tcp_server

from tritonforge_client import (
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelSpec,
    Options,
    TensorSpec,
    TritonError,
)
from tritonforge_client.core.proto import messages
from tritonforge_client.policies import Balance, RetryPolicy

KINDS = ("grpc", "http", "grpc-async", "http-async")
STREAM_KINDS = ("grpc", "grpc-async")

X = np.array([[1.0, 2.0]], np.float32)
SPEC = ModelSpec(
    name="m",
    inputs=(TensorSpec(name="x", datatype="FP32", dims=(2,)),),
    outputs=(TensorSpec(name="y", datatype="FP32", dims=(2,)),),
    max_batch_size=8,
)
DECOUPLED = ModelSpec(name="m", inputs=SPEC.inputs, outputs=SPEC.outputs, max_batch_size=8, decoupled=True)


def protocol_of(kind: str) -> str:
    return kind.partition("-")[0]


def client_of(kind: str, target: str | list[str], **options: Any) -> Client:
    """A client of one kind; asynchronous ones behind blocking methods."""
    return cast("Client", BlockingClient(target, **options)) if kind.endswith("async") else Client(target, **options)


# ---- servers that answer what a test says ----

GrpcAnswer: TypeAlias = Callable[[Iterator[bytes], Any], Iterator[bytes]]
"""Takes the messages of one call and its context, and gives the replies."""


class Fake:
    """A server of either protocol.

    Attributes:
        target: Where it listens.
        headers: Headers of each request, names in lower case.
        connections: The other ends of the connections that requests came over.
    """

    def __init__(self) -> None:
        self.target = ""
        self.headers: list[dict[str, str]] = []
        self.connections: set[str] = set()

    def note(self, connection: str, headers: Mapping[str, str]) -> None:
        self.connections.add(connection)
        self.headers.append(dict(headers))


@contextmanager
def grpc_server(answer: GrpcAnswer) -> Iterator[str]:
    """Give each inference to ``answer``, be it a stream or not, and yield the server's target."""
    handler = grpc.stream_stream_rpc_method_handler(answer)
    handlers: dict[str, Any] = dict.fromkeys(("ModelInfer", "ModelStreamInfer", "RepositoryIndex"), handler)
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@contextmanager
def fake_grpc(reply: bytes) -> Iterator[Fake]:
    fake = Fake()

    def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        fake.note(context.peer(), dict(context.invocation_metadata()))
        # An index request is empty, and so is its reply.
        yield from (reply if message else b"" for message in requests)

    with grpc_server(answer) as fake.target:
        yield fake


@contextmanager
def fake_http(reply: bytes) -> Iterator[Fake]:
    fake = Fake()

    def answer(_: Server, connection: socket.socket) -> None:
        while (head := request_from(connection)[0]) != b"":
            line, *fields = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            fake.note(str(connection.getpeername()), headers)
            body = b"[]" if "index" in line else reply
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with tcp_server(answer) as server:
        fake.target = f"http://127.0.0.1:{server.port}"
        yield fake


# One tensor of each kind of contents: type, field of ``InferTensorContents``, elements.
CONTENTS = [
    ("FP32", "fp32_contents", [1.5, -2.25]),
    ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("UINT8", "uint_contents", [0, 255]),
    ("BOOL", "bool_contents", [True, False]),
]


def typed_reply(kind: str) -> bytes:
    """What servers of the protocol answer that send no raw contents: ``y_FP32`` and so on, each of shape (1, 2)."""
    if protocol_of(kind) == "http":
        outputs = [
            {"name": f"y_{datatype}", "datatype": datatype, "shape": [1, 2], "data": values}
            for datatype, _, values in CONTENTS
        ]
        return json.dumps({"model_name": "m", "outputs": outputs}).encode()
    message = messages().ModelInferResponse(model_name="m")
    for datatype, field, values in CONTENTS:
        output = message.outputs.add(name=f"y_{datatype}", datatype=datatype, shape=[1, 2])
        getattr(output.contents, field).extend(values)
    return bytes(message.SerializeToString())


@contextmanager
def fake_of(kind: str) -> Iterator[Fake]:
    with (fake_http if protocol_of(kind) == "http" else fake_grpc)(typed_reply(kind)) as fake:
        yield fake


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Whatever a test says holds for all four clients."""
    return str(request.param)


@pytest.fixture
def fake(kind: str) -> Iterator[Fake]:
    with fake_of(kind) as made:
        yield made


TargetOf: TypeAlias = Callable[[str], AbstractContextManager[str]]
"""Begins something of a kind and gives its target."""


@contextmanager
def unreachable(kind: str) -> Iterator[str]:
    """A target at which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # taken, so that nobody else gets the port
        yield f"{protocol_of(kind)}://127.0.0.1:{reserved.getsockname()[1]}"


def server_that(answer: Callable[[Server, socket.socket], None]) -> TargetOf:
    @contextmanager
    def target_of(kind: str) -> Iterator[str]:
        with tcp_server(answer) as server:
            yield f"{protocol_of(kind)}://127.0.0.1:{server.port}"

    return target_of


# ---- errors ----


def cut(_: Server, connection: socket.socket) -> None:
    connection.recv(65536)


@pytest.mark.parametrize(
    ("target_of", "expected", "code"),
    [
        (unreachable, ConnectionFailed, "connection"),
        (server_that(cut), ConnectionFailed, "connection"),
        (server_that(silent), DeadlineExceeded, "deadline"),
    ],
    ids=["nobody listens", "cut off", "no answer"],
)
def test_what_fails_on_the_way_is_the_same_error_everywhere(
    kind: str, target_of: TargetOf, expected: type[TritonError], code: str
) -> None:
    """D6: transport errors are raw over HTTP and wrapped over gRPC."""
    once = Options(timeout_s=0.3, retry=None)
    with (
        target_of(kind) as target,
        client_of(kind, target, options=once) as client,
        pytest.raises(TritonError) as caught,
    ):
        client.infer("m", {"x": X})
    assert (type(caught.value), caught.value.code) == (expected, code)
    assert caught.value.__cause__ is not None


def test_a_connection_that_takes_long_is_no_failure(kind: str, fake: Fake) -> None:
    """D6: neither is the time that a far or busy server takes to connect, while the call has time left."""

    def thaw_later() -> None:
        time.sleep(0.5)
        proxy.thaw()

    with FaultProxy("127.0.0.1", int(fake.target.rpartition(":")[2])) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.freeze()
        pool.submit(thaw_later)
        with client_of(kind, f"{protocol_of(kind)}://127.0.0.1:{proxy.port}", options=Options(retry=None)) as client:
            assert client.infer("m", {"x": X}).elapsed_s >= 0.4


@pytest.mark.parametrize("kind", STREAM_KINDS)
@pytest.mark.parametrize(
    ("status", "code"),
    [("UNAVAILABLE", "unavailable"), ("INVALID_ARGUMENT", "invalid_input"), ("INTERNAL", "internal")],
)
def test_a_stream_that_the_server_ends_raises_what_a_single_call_does(kind: str, status: str, code: str) -> None:
    """D5: streams over asyncio raise ``AioRpcError``, single calls ``InferenceServerException``."""

    def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        next(requests)
        context.abort(getattr(grpc.StatusCode, status), "no more")
        yield b""

    with grpc_server(answer) as target, client_of(kind, target, options=Options(retry=None)) as client:
        with pytest.raises(TritonError) as single:
            client.infer("m", {"x": X})
        with pytest.raises(TritonError) as streamed:
            list(client.bind(DECOUPLED).stream({"x": X}))
    assert type(streamed.value) is type(single.value)
    assert streamed.value.code == single.value.code == code
    assert type(streamed.value.__cause__) is type(single.value.__cause__)


@pytest.mark.parametrize("kind", STREAM_KINDS)
def test_a_stream_that_cannot_begin_raises_what_a_single_call_does(kind: str) -> None:
    """D5: the same when there is no server, or none that speaks."""
    with unreachable(kind) as target, client_of(kind, target) as client, pytest.raises(ConnectionFailed):
        list(client.bind(DECOUPLED).stream({"x": X}))
    with server_that(silent)(kind) as target, client_of(kind, target) as client:
        model = client.bind(DECOUPLED, options=Options(timeout_s=0.2))
        with pytest.raises(DeadlineExceeded):
            list(model.stream({"x": X}))


def test_errors_come_out_of_a_process_pool() -> None:
    """D13: unpickling fails, so that process pools lose the message."""
    script = """
import multiprocessing
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor

from tritonforge_client import Client, Options, TritonError


def call() -> None:
    with Client("http://127.0.0.1:1", options=Options(retry=None)) as client:
        client.infer("m", {}, request_id="r-1")


with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
    try:
        pool.submit(call).result()
    except TritonError as error:
        sys.stdout.buffer.write(pickle.dumps(error))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=30)
    error = pickle.loads(run.stdout)
    assert (type(error), error.code, error.retryable) == (ConnectionFailed, "connection", True)
    assert (error.model, error.endpoint, error.request_id) == ("m", "127.0.0.1:1", "r-1")
    assert str(error).startswith("m on 127.0.0.1:1: no connection, or it broke: ")
    assert repr(error).startswith("ConnectionFailed('no connection")


# ---- what is sent ----


def test_headers_of_the_caller_stay_as_they_are_and_nothing_stale_is_sent(kind: str, fake: Fake) -> None:
    """D7: the caller's dict is changed, and brings headers of one call to the next."""
    headers = {"Authorization": "Bearer t", "X-Trace": "1"}
    with client_of(kind, fake.target) as client:
        client.infer("m", {"x": X}, options=Options(headers=headers))
        assert client.repository_index(options=Options(headers=headers)) == []
        client.infer("m", {"x": X})
    assert headers == {"Authorization": "Bearer t", "X-Trace": "1"}
    inference, index, without = fake.headers
    for sent in (inference, index):
        assert (sent["authorization"], sent["x-trace"]) == ("Bearer t", "1")
    assert not {"authorization", "x-trace"} & set(without)
    if protocol_of(kind) == "http":
        assert "inference-header-content-length" in inference
    assert not {"inference-header-content-length", "content-encoding"} & set(index)


def test_a_wrong_rank_is_found_before_anything_is_sent(kind: str, fake: Fake) -> None:
    """D8: fewer dimensions than declared end in an ``IndexError`` over gRPC."""
    with client_of(kind, fake.target) as client:
        for wrong in (X[0], X[np.newaxis], np.float32(1)):
            with pytest.raises(InvalidInput, match=r"input x: expected float32 \(batch<=8, 2\), got float32"):
                client.bind(SPEC).infer({"x": wrong})
    assert fake.headers == []


@pytest.mark.parametrize(
    "texts",
    [
        np.array([1, None], np.object_),
        np.array([b"a", None], np.object_),
        [b"a", 1],
        [1, b"a"],
        ["a", None],
        [["a"], ["b", "c"]],
        ["\ud800"],  # a surrogate, which UTF-8 cannot encode
    ],
    ids=repr,
)
def test_what_is_neither_bytes_nor_text_is_refused(kind: str, fake: Fake, texts: Any) -> None:
    """D12: other objects are sent as ``str(x)``: ``None`` becomes ``"None"``."""
    spec = ModelSpec(name="m", inputs=(TensorSpec(name="x", datatype="BYTES", dims=(-1,)),), outputs=())
    with client_of(kind, fake.target) as client:
        for call in (lambda: client.infer("m", {"x": texts}), lambda: client.bind(spec).infer({"x": texts})):
            with pytest.raises(InvalidInput) as caught:
                call()
            assert caught.value.field == "x"
    assert fake.headers == []


def test_headers_in_any_case_arrive_over_both_protocols(kind: str, fake: Fake) -> None:
    """D15: gRPC wants lower case and answers ``Invalid metadata`` to ``Authorization``."""
    with client_of(kind, fake.target) as client:
        client.infer("m", {"x": X}, options=Options(headers={"AUTHORIZATION": "Bearer t", "X-Request-Id": "7"}))
    (sent,) = fake.headers
    assert (sent["authorization"], sent["x-request-id"]) == ("Bearer t", "7")


@pytest.mark.parametrize("value", [3, None, b"x", 1.5, ["x"]], ids=repr)
def test_header_values_that_are_no_text_are_refused_over_both_protocols(kind: str, fake: Fake, value: Any) -> None:
    """D15: an ``int`` is a ``TypeError`` over gRPC and sent over HTTP."""
    with client_of(kind, fake.target) as client:
        with pytest.raises(InvalidInput, match="headers: 'X-Count': expected a str of printable ASCII") as caught:
            client.infer("m", {"x": X}, options=Options(headers={"X-Count": value}))
        assert caught.value.field == "headers"
    assert fake.headers == []


# ---- what is received ----


def test_contents_that_are_not_raw_are_read(kind: str, fake: Fake) -> None:
    """D10: typed contents other than bytes are ignored: "cannot reshape array of size 0"."""
    with client_of(kind, fake.target) as client:
        outputs = client.infer("m", {"x": X}).value
    assert {name: array.tolist() for name, array in outputs.items()} == {
        f"y_{datatype}": [values] for datatype, _, values in CONTENTS
    }
    assert [array.dtype for array in outputs.values()] == [np.float32, np.int64, np.uint8, np.bool_]


@pytest.mark.parametrize("kind", STREAM_KINDS)
def test_a_stream_asks_for_its_final_marker_and_ends_with_it(kind: str) -> None:
    """D3: over asyncio nobody can ask for the final marker."""
    asked: list[bool] = []
    released = threading.Event()

    def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(released.set)
        request = messages().ModelInferRequest.FromString(next(requests))
        asked.append(request.parameters["triton_enable_empty_final_response"].bool_param)
        reply = messages().ModelStreamInferResponse()
        reply.infer_response.outputs.add(name="y", datatype="FP32", shape=[1, 2])
        reply.infer_response.raw_output_contents.append(X.tobytes())
        yield reply.SerializeToString()
        last = messages().ModelStreamInferResponse()
        last.infer_response.parameters["triton_final_response"].bool_param = True
        yield last.SerializeToString()
        released.wait(10)  # the server keeps the stream open

    with grpc_server(answer) as target, client_of(kind, target) as client:
        start = time.monotonic()
        assert [one["y"].tolist() for one in client.bind(DECOUPLED).stream({"x": X})] == [X.tolist()]
        assert time.monotonic() - start < 2
        assert released.wait(2)
    assert asked == [True]


# ---- targets ----


def test_a_bad_target_raises_once_and_prints_nothing() -> None:
    """D14: a bad URL raises, and then ``__del__`` prints a second traceback."""
    script = """
import asyncio
import gc

from tritonforge_client import AsyncClient, Client, InvalidInput


async def count() -> int:
    raised = 0
    targets = ["", "localhost:8001", "grpc://", "http://h:x", "ftp://h", "grpc://h/v2", ["grpc://a", "http://b"], None]
    for target in targets:
        for make in (Client, AsyncClient):
            try:
                make(target)
            except InvalidInput:
                raised += 1
    for scheme in ("grpc", "http"):
        for make in (Client, AsyncClient):
            try:
                make(f"{scheme}://h:1", balance="nonsense")
            except InvalidInput:
                raised += 1
    return raised


print(asyncio.run(count()))
gc.collect()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert (run.returncode, run.stdout, run.stderr) == (0, "20\n", "")


# ---- connections ----


def test_each_client_has_a_connection_of_its_own(kind: str, fake: Fake) -> None:
    """D19: gRPC clients of one URL share one connection."""
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(kind, fake.target)) for _ in range(4)]
        for _ in range(3):
            for client in clients:
                client.infer("m", {"x": X})
    assert len(fake.headers) == 12
    assert len(fake.connections) == 4


@contextmanager
def unavailable(kind: str) -> Iterator[str]:
    """A server that always answers that it is not available."""

    def abort(_: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        yield b""

    def refuse(_: Server, connection: socket.socket) -> None:
        while request_from(connection) != (b"", b""):
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    with grpc_server(abort) if protocol_of(kind) == "grpc" else server_that(refuse)(kind) as target:
        yield target


@pytest.mark.parametrize("first", [unreachable, unavailable])
@pytest.mark.parametrize("balance", get_args(Balance))
def test_all_calls_succeed_though_the_first_endpoint_never_does(
    kind: str, fake: Fake, balance: Balance, first: TargetOf
) -> None:
    """D20: of two endpoints only the first is asked, and all calls fail with it."""
    options = Options(retry=RetryPolicy(initial_s=0.01))  # the usual attempts and budget, but soon
    codes: list[str] = []
    with first(kind) as dead, client_of(kind, [dead, fake.target], balance=balance, options=options) as client:
        for _ in range(20):
            try:
                client.infer("m", {"x": X})
                codes.append("")
            except TritonError as error:
                codes.append(error.code)
    assert codes == [""] * 20
