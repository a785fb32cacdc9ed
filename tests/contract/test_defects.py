"""Defects of tritonclient 2.73.0, numbered D1 to D22, that this client does not have: those seen with a real Triton.

``tests/client/test_defects.py`` has the others.
"""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from contract.conftest import KINDS, made_client
from numpy.typing import NDArray

from tritonforge_client import (
    AsyncClient,
    Cancelled,
    Client,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    Options,
    ServerError,
    TritonError,
)
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

PROTOCOLS = ("grpc", "http")
A = np.ones((1, 4), np.float32)


def url_of(server: EmbeddedTriton, protocol: str) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url


def number(value: int) -> dict[str, NDArray[np.int32]]:
    return {"x": np.array([[value]], np.int32)}


def times(count: int, pause_s: float = 0.0) -> dict[str, Any]:
    return {"count": np.array([count], np.int32), "pause_s": np.array([pause_s], np.float32)}


def delay(seconds: float) -> dict[str, Any]:
    return {"delay_s": np.array([seconds], np.float32)}


def threads_left(before: int) -> int:
    """Threads more than before, once those that are about to end had a second for it."""
    end_s = time.monotonic() + 1.0
    while threading.active_count() > before and time.monotonic() < end_s:
        time.sleep(0.01)
    return max(0, threading.active_count() - before)


# ---- speed and threads ----


def test_no_call_is_held_back(client: Client) -> None:
    """D1: each asynchronous HTTP call sleeps 10 ms, so that one after the other there are at most 93 a second."""
    model = client.bind(client.spec("add_sub"))
    times_s = []
    for _ in range(50):
        start = time.perf_counter()
        model.infer({"a": A, "b": A})
        times_s.append(time.perf_counter() - start)
    # The quickest, since a busy machine holds calls back; one that sleeps would hold back all of them.
    assert 1 / min(times_s) > 2 * 93


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_are_issued_at_once(server: EmbeddedTriton, protocol: str) -> None:
    """D1: the rate at which calls are issued does not grow with those in flight."""

    async def call_together() -> float:
        async with AsyncClient(url_of(server, protocol)) as client:
            await client.infer("add_sub", {"a": A, "b": A})
            start = time.perf_counter()
            await asyncio.gather(*(client.infer("add_sub", {"a": A, "b": A}) for _ in range(200)))
            return time.perf_counter() - start

    assert 200 / min(asyncio.run(call_together()) for _ in range(2)) > 2 * 93


def test_sixteen_threads_share_one_client_under_load(client: Client) -> None:
    """D2: a shared HTTP client fails with ``greenlet.error``, and threads hang."""
    model = client.bind(client.spec("add_sub"), options=Options(timeout_s=10))

    def call_often(number: int) -> int:
        a = np.full((1 + number % 8, 4), number, np.float32)
        return sum(bool((model.infer({"a": a, "b": a})["sum"] == 2 * a).all()) for _ in range(25))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call_often, range(16))) == [25] * 16


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_asynchronous_calls_start_no_threads(server: EmbeddedTriton, protocol: str) -> None:
    """D22: asynchronous calls take another thread, on which callbacks run."""

    async def threads_of_calls() -> tuple[int, set[int]]:
        async with AsyncClient(url_of(server, protocol)) as client:
            await client.infer("add_sub", {"a": A, "b": A})  # gRPC starts one thread for the whole process
            before = threading.active_count()
            seen: set[int] = set()

            async def call() -> None:
                await client.infer("add_sub", {"a": A, "b": A})
                seen.add(threading.active_count())

            await asyncio.gather(*(call() for _ in range(300)))
            return before, seen

    before, seen = asyncio.run(threads_of_calls())
    assert max(seen) <= before


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_blocking_calls_start_no_threads(server: EmbeddedTriton, protocol: str) -> None:
    """D22: neither do they on the blocking side."""
    before = threading.active_count()
    with Client(url_of(server, protocol)) as client:
        for _ in range(50):
            client.infer("add_sub", {"a": A, "b": A})
            assert threading.active_count() <= before


# ---- streams and iterators ----


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_asyncio_stream_ends_with_the_models_last_answer(server: EmbeddedTriton, count: int) -> None:
    """D3: over asyncio nobody can ask for the final marker, so that the end of an answer is not known."""

    async def indices() -> list[int]:
        async with AsyncClient(server.grpc_url) as client:
            model = client.bind(await client.spec("repeat"))
            return [int(answer["index"][0]) async for answer in model.stream(times(count))]

    start = time.monotonic()
    assert asyncio.run(indices()) == list(range(count))
    assert time.monotonic() - start < 2


class Fault(Exception):
    """What a caller's own code raises."""


def items_with_fault(fault: Fault, make: Callable[[int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield make(1)
    yield make(2)
    raise fault


def test_an_exception_of_the_callers_items_comes_out_as_itself(client: Client) -> None:
    """D4: what the request iterator raises becomes a bare ``CancelledError``."""
    labelled, summing = client.bind(client.spec("labelled")), client.bind(client.spec("running_sum"))
    sequence = summing.sequence()
    fault = Fault("the disk is gone")
    for answers in (
        labelled.map(items_with_fault(fault, lambda value: {"x": np.full((1, 3), value, np.float32)})),
        sequence.map(items_with_fault(fault, number)),
    ):
        with pytest.raises(Fault) as caught:
            list(answers)
        assert caught.value is fault
    # The client goes on, and so does the sequence: its first item was run, the second was still held back.
    assert sequence.infer(number(3), end=True)["sum"].tolist() == [[4]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_exception_of_an_asynchronous_iterator_comes_out_as_itself(server: EmbeddedTriton, protocol: str) -> None:
    """D4: the same for items that come asynchronously."""
    fault = Fault("the disk is gone")

    async def items() -> AsyncIterator[dict[str, Any]]:
        for item in items_with_fault(fault, number):
            await asyncio.sleep(0)
            yield item

    async def summed() -> None:
        async with AsyncClient(url_of(server, protocol)) as client:
            sequence = client.bind(await client.spec("running_sum")).sequence()
            with pytest.raises(Fault) as caught:
                async for _ in sequence.map(items()):
                    pass
            assert caught.value is fault
            await sequence.infer(number(0), end=True)

    asyncio.run(summed())


# ---- what goes in and comes out ----


def test_a_wrong_rank_is_an_invalid_input(client: Client) -> None:
    """D8: fewer dimensions than declared end in an ``IndexError`` over gRPC."""
    with pytest.raises(InvalidInput, match=r"expected float32 \(batch<=8, 4\), got float32 \(4,\)"):
        client.bind(client.spec("add_sub")).infer({"a": A[0], "b": A})
    # Without a spec the server finds the fault.
    for wrong in (A[0], A[np.newaxis], np.float32(1)):
        with pytest.raises(InvalidInput):
            client.infer("add_sub", {"a": wrong, "b": A})


def test_an_output_turns_into_json_as_often_as_asked(client: Client) -> None:
    """D9: ``get_output(name, as_json=True)`` is always ``None`` over gRPC."""
    sent = {"FP32": [[1.5, -0.25]], "INT64": [[-(2**63), 2**63 - 1]], "BOOL": [[True, False]]}
    dtypes = {"FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_}
    outputs = client.infer("identity", {f"IN_{name}": np.array(sent[name], dtypes[name]) for name in sent}).value
    for _ in range(2):
        text = json.dumps({name.removeprefix("OUT_"): array.tolist() for name, array in outputs.items()})
        assert json.loads(text) == sent


def test_an_unknown_output_is_an_error_at_once(client: Client) -> None:
    """D11: ``as_numpy("typo")`` is ``None``, so that the failure appears lines later."""
    inputs = {"a": A, "b": A}
    with pytest.raises(InvalidInput, match="unexpected inference output 'typo'"):
        client.infer("add_sub", inputs, outputs=["typo"])
    with pytest.raises(InvalidInput, match=r'unknown output "sun"; did you mean "sum"\?'):
        client.bind(client.spec("add_sub")).infer(inputs, outputs=["sun"])
    with pytest.raises(KeyError, match="typo"):
        client.infer("add_sub", inputs).value["typo"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([["a", "\u00e9\u4e16"]], [[b"a", "\u00e9\u4e16".encode()]]),
        (np.array([["a", "\u00e9\u4e16"]]), [[b"a", "\u00e9\u4e16".encode()]]),
        ([[b"a\0", b"\0\0", b""]], [[b"a\0", b"\0\0", b""]]),
        (np.array([[b"a\0", "b\0"]], np.object_), [[b"a\0", b"b\0"]]),
        (np.array([[b"a\0b", b"c"]]), [[b"a\0b", b"c"]]),
        # The elements of this array have no NUL for numpy itself, which does not tell it from its padding.
        (np.array([[b"a\0", b"bc"]]), [[b"a", b"bc"]]),
    ],
    ids=["list of str", "U array", "list of bytes", "object array", "S array", "padded S array"],
)
def test_texts_arrive_byte_by_byte(client: Client, texts: Any, expected: list[list[bytes]]) -> None:
    """D12: ``S`` arrays lose bytes, ``U`` arrays fail with "unexpected datatype None"."""
    assert client.infer("identity", {"IN_BYTES": texts}).value["OUT_BYTES"].tolist() == expected


# ---- errors ----

FAULTS: list[tuple[str, dict[str, Any], dict[str, Any], type[TritonError]]] = [
    ("nosuch", {"a": A}, {}, ModelNotFound),
    ("add_sub", {"a": A}, {}, InvalidInput),
    ("failing", {"how": ["raise"]}, {}, ServerError),
    ("slow", delay(0.2), {"options": Options(timeout_s=0.1)}, DeadlineExceeded),
]


@pytest.mark.parametrize(("model", "inputs", "how", "expected"), FAULTS, ids=[fault[3].__name__ for fault in FAULTS])
def test_errors_are_the_same_over_both_protocols_and_say_all(
    server: EmbeddedTriton, model: str, inputs: dict[str, Any], how: dict[str, Any], expected: type[TritonError]
) -> None:
    """D13: the cause is dropped, ``repr`` is empty, unpickling fails, and the status depends on the protocol."""
    facts = set()
    for kind in KINDS:
        with made_client(kind, server) as client, pytest.raises(TritonError) as caught:
            client.infer(model, inputs, request_id="r-1", **how)
        error = caught.value
        assert type(error) is expected
        facts.add((error.code, error.retryable, error.text))
        assert repr(error) == f"{expected.__name__}({error.text!r})"
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (expected, str(error), vars(error))
        assert (copy.model, copy.request_id) == (model, "r-1")
        # An HTTP reply that reports an error is no exception itself.
        assert error.__cause__ is not None or (kind.startswith("http") and error.server_message is not None)
    assert len(facts) == 1


def test_nothing_is_printed_and_no_payload_is_logged(
    client: Client, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """D17: ``verbose=True`` prints whole requests."""
    caplog.set_level(0)
    options = Options(headers={"authorization": "secret-5b1c"})
    texts = np.full((2, 3), b"payload-7f3a", np.object_)
    assert client.infer("identity", {"IN_BYTES": texts}, options=options).value["OUT_BYTES"].shape == (2, 3)
    for inputs in ({"IN_BYTES": texts[0]}, {"IN_FP32": texts}, {"nosuch": texts}):
        with pytest.raises(InvalidInput) as caught:
            client.infer("identity", inputs, options=options)
        assert "payload-7f3a" not in str(caught.value)
        assert "secret-5b1c" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert "payload-7f3a" not in caplog.text
    assert "secret-5b1c" not in caplog.text


# ---- targets and other packages ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_names_its_protocol(server: EmbeddedTriton, kind: str) -> None:
    """D16: a scheme in the URL is refused over HTTP and misread over gRPC."""
    with made_client(kind, server) as client:
        reply = client.infer("add_sub", {"a": A, "b": A})
        metadata = client.server_metadata()
    assert url_of(server, kind.partition("-")[0]).endswith(f"://{reply.endpoint}")
    assert metadata.name == "triton"


BESIDE_ANOTHER_PACKAGE = """
import asyncio
import sys

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool

from tritonforge_client import AsyncClient, Client

grpc_url, http_url, order, task = sys.argv[1:]
inputs = {name: np.ones((1, 4), np.float32) for name in "ab"}


def register_another() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="another/grpc_service.proto", package="inference", syntax="proto3")
    file.message_type.add(name="ServerLiveRequest")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def infer(url: str) -> None:
    with Client(url) as client:
        assert client.infer("add_sub", inputs).value["sum"].tolist() == [[2.0] * 4]


async def infer_async(url: str) -> None:
    async with AsyncClient(url) as client:
        assert (await client.infer("add_sub", inputs)).value["sum"].tolist() == [[2.0] * 4]


def administer(url: str) -> None:
    with Client(url) as client:
        assert client.ready("add_sub")
        assert client.spec("add_sub").max_batch_size == 8
        assert client.statistics("add_sub")[0].name == "add_sub"


def work() -> None:
    if task == "infer":
        infer(grpc_url)
        asyncio.run(infer_async(grpc_url))
        administer(http_url)
    else:
        administer(grpc_url)


if order == "before":
    work()
register_another()
work()
"""


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("task", ["infer", "administer"])
def test_the_client_works_beside_another_package_with_the_same_messages(
    server: EmbeddedTriton, order: str, task: str
) -> None:
    """D18: one of two packages cannot be imported: "duplicate symbol 'inference.ServerLiveRequest'"."""
    run = subprocess.run(
        [sys.executable, "-c", BESIDE_ANOTHER_PACKAGE, server.grpc_url, server.http_url, order, task],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert run.returncode == 0, run.stderr.splitlines()[-1]


# ---- the end ----


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_close_does_not_wait_and_leaves_no_thread(server: EmbeddedTriton, protocol: str) -> None:
    """D21: ``close()`` waits for all pending answers."""
    before = threading.active_count()
    client = Client(url_of(server, protocol))
    outcomes: list[object] = []

    def call() -> None:
        try:
            outcomes.append(client.infer("slow", delay(0.8)))
        except TritonError as error:
            outcomes.append(type(error))

    def read() -> None:
        try:
            outcomes.extend(client.bind(client.spec("repeat")).stream(times(10, pause_s=0.5)))
        except TritonError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=one) for one in ([call, read] if protocol == "grpc" else [call])]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    start = time.monotonic()
    client.close()
    assert time.monotonic() - start < 0.3
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - start < 0.4
    assert outcomes.count(Cancelled) == len(threads)
    assert threads_left(before) == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_asynchronous_close_does_not_wait_and_leaves_no_thread(server: EmbeddedTriton, protocol: str) -> None:
    """D21: the same for ``AsyncClient``."""

    async def close_during_calls() -> None:
        client = AsyncClient(url_of(server, protocol))
        calls = [asyncio.create_task(_outcome(client.infer("slow", delay(0.8))))]
        if protocol == "grpc":
            model = client.bind(await client.spec("repeat"))
            calls.append(asyncio.create_task(_outcome(_all(model.stream(times(10, pause_s=0.5))))))
        await asyncio.sleep(0.2)
        start = time.monotonic()
        await client.close()
        assert time.monotonic() - start < 0.3
        assert await asyncio.gather(*calls) == [Cancelled] * len(calls)
        assert time.monotonic() - start < 0.4

    before = threading.active_count()
    asyncio.run(close_during_calls())
    gc.collect()  # gRPC's one thread ends with the last channel
    assert threads_left(before) == 0


async def _outcome(call: Any) -> object:
    try:
        return await call
    except TritonError as error:
        return type(error)


async def _all(answers: AsyncIterator[Any]) -> list[Any]:
    return [answer async for answer in answers]


def test_a_process_ends_though_a_stream_is_open(server: EmbeddedTriton) -> None:
    """D21: the thread of a stream is no daemon, so that the process waits for the stream's end."""
    script = """
import sys

import numpy as np

from tritonforge_client import Client

client = Client(sys.argv[1])
model = client.bind(client.spec("repeat"))
answers = model.stream({"count": np.array([1000], np.int32), "pause_s": np.array([0.02], np.float32)})
assert next(answers)["index"][0] == 0
"""
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", script, server.grpc_url], capture_output=True, text=True, check=False, timeout=30
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert time.monotonic() - start < 5
