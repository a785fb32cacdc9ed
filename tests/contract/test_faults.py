"""Faults of a real Triton: the same fault gives the same error over gRPC and HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.conftest import KINDS, made_client
from contract.models import write_models

from tritonforge_client import (
    Cancelled,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotReady,
    Options,
    QueueFull,
    QueueTimeout,
    ServerError,
    TritonError,
    Unavailable,
    Unimplemented,
)
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

A = np.ones((1, 4), np.float32)


def delay(seconds: float) -> dict[str, Any]:
    return {"delay_s": np.array([seconds], np.float32)}


@pytest.mark.parametrize(
    ("model", "inputs", "kind", "text"),
    [
        ("nosuch", {"a": A}, ModelNotFound, "unknown model: 'nosuch'"),
        ("add_sub", {"a": A}, InvalidInput, "missing required input(s) ['b']"),
        ("add_sub", {"a": A, "c": A}, InvalidInput, "unexpected inference input 'c'"),
        ("add_sub", {"a": A, "b": A.astype(np.int64)}, InvalidInput, "data-type is 'INT64'"),
        ("add_sub", {"a": A[:, :3], "b": A}, InvalidInput, "Expected [-1,4], got [1,3]"),
        ("add_sub", {"a": A.repeat(9, 0), "b": A.repeat(9, 0)}, InvalidInput, "batch-size must be <= 8"),
        ("failing", {"how": ["raise"]}, ServerError, "the model raised this"),
        ("failing", {"how": ["INTERNAL"]}, ServerError, "the model answered this"),
        ("failing", {"how": ["NOT_FOUND"]}, ModelNotFound, "the model answered this"),
        ("failing", {"how": ["INVALID_ARG"]}, InvalidInput, "the model answered this"),
        ("failing", {"how": ["UNAVAILABLE"]}, Unavailable, "the model answered this"),
        ("failing", {"how": ["UNSUPPORTED"]}, Unimplemented, "the model answered this"),
    ],
)
def test_what_the_server_refuses(
    client: Client, model: str, inputs: dict[str, Any], kind: type[TritonError], text: str
) -> None:
    with pytest.raises(TritonError) as caught:
        client.infer(model, inputs, request_id="r-1")
    error = caught.value
    assert type(error) is kind
    assert text in str(error)
    assert text in (error.server_message or "")
    assert "\n" not in str(error)
    assert (error.model, error.request_id) == (model, "r-1")
    assert error.endpoint is not None
    assert error.elapsed_s is not None
    assert error.elapsed_s > 0


def test_unknown_models_are_not_found_by_every_question(client: Client) -> None:
    for ask in (client.spec, client.statistics):
        with pytest.raises(ModelNotFound):
            ask("nosuch")
    with pytest.raises(ModelNotFound):
        client.spec("add_sub", version="7")
    assert client.ready("nosuch") is False


def test_the_deadline_is_that_of_the_call(client: Client) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"timeout_s=0.3 passed") as caught:
        client.infer("slow", delay(1.5), options=Options(timeout_s=0.3))
    assert 0.3 <= time.monotonic() - start < 1.0
    assert caught.value.__cause__ is not None
    # The next call works: nothing of the late reply is read into it.
    assert client.infer("slow", delay(0.0)).value["slept_s"].tolist() == [0.0]


def test_a_full_queue(client: Client) -> None:
    # One runs, one waits; max_queue_size is 1. Each pair of protocols meets its own three.
    errors: list[Exception] = []

    def call(_: int) -> None:
        try:
            client.infer("queue_limited", {"delay_s": np.array([[0.7]], np.float32)})
        except TritonError as error:
            errors.append(error)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(call, range(6)))
    assert len(errors) >= 3
    assert {type(error) for error in errors} == {QueueFull}
    assert "Exceeds maximum queue size" in str(errors[0])


def test_a_deadline_reaches_the_queue(client: Client) -> None:
    model = client.bind(client.spec("queue_limited"))
    busy = threading.Thread(target=lambda: model.infer({"delay_s": np.array([[1.5]], np.float32)}))
    busy.start()
    time.sleep(0.4)
    (before,) = client.statistics("queue_limited")
    with pytest.raises((QueueTimeout, DeadlineExceeded)):
        model.infer({"delay_s": np.array([[0.0]], np.float32)}, options=Options(timeout_s=0.4))
    busy.join()
    time.sleep(0.3)
    # The server dropped it: only the busy one was run.
    (after,) = client.statistics("queue_limited")
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1


def test_without_the_parameter_the_request_would_be_run(client: Client) -> None:
    busy = threading.Thread(target=lambda: client.infer("queue_limited", {"delay_s": np.array([[1.0]], np.float32)}))
    busy.start()
    time.sleep(0.4)
    # The untyped call knows no spec, so it sends no queue timeout and waits its turn.
    reply = client.infer("queue_limited", {"delay_s": np.array([[0.0]], np.float32)})
    busy.join()
    assert reply.value["slept_s"].tolist() == [[0.0]]


def test_unloading_and_loading(client: Client) -> None:
    client.unload_model("lying")
    deadline = time.monotonic() + 10
    while client.ready("lying") and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ModelNotFound):
        client.infer("lying", {"x": np.zeros((1, 3), np.float32)})
    with pytest.raises(NotReady, match=r"the model is not ready within 0.2 s: it answers that it is not"):
        client.wait_ready("lying", timeout_s=0.2)
    client.load_model("lying")
    client.wait_ready("lying", timeout_s=10)
    assert client.ready("lying") is True
    with pytest.raises(TritonError, match="failed to load 'nosuch'"):
        client.load_model("nosuch")


@pytest.fixture(params=["grpc", "http"])
def short_lived(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[EmbeddedTriton, str]]:
    """A server of its own, for tests that stop it."""
    repository = tmp_path / "models"
    repository.mkdir()
    write_models(repository)
    server = EmbeddedTriton(repository, model_control_mode="explicit", load_models=["add_sub", "slow"])
    with server:
        yield server, server.grpc_url if request.param == "grpc" else server.http_url


def test_a_stopped_server_is_a_failed_connection_and_is_found_again(
    short_lived: tuple[EmbeddedTriton, str], tmp_path: Path
) -> None:
    server, url = short_lived
    with Client(url) as client:
        assert client.infer("add_sub", {"a": A, "b": A}).model_version == "1"
        again = EmbeddedTriton(
            tmp_path / "models",
            http_port=_port(server.http_url),
            grpc_port=_port(server.grpc_url),
            model_control_mode="explicit",
            load_models=["add_sub"],
        )
        server.stop()
        with pytest.raises(ConnectionFailed) as caught:
            client.infer("add_sub", {"a": A, "b": A})
        assert caught.value.retryable
        assert client.ready() is False
        with again:
            client.wait_ready("add_sub", timeout_s=10)
            assert client.infer("add_sub", {"a": A, "b": A}).model_version == "1"


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.parametrize("kind", KINDS)
def test_closing_during_a_call_ends_it(server: EmbeddedTriton, kind: str) -> None:
    outcomes: list[object] = []
    client = made_client(kind, server)
    client.infer("slow", delay(0.0))

    def call() -> None:
        try:
            outcomes.append(client.infer("slow", delay(0.8)).value["slept_s"].shape)
        except TritonError as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    start = time.monotonic()
    client.close()
    thread.join(10)
    assert outcomes == [Cancelled]
    assert time.monotonic() - start < 0.3


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_nobody_listening_is_a_failed_connection(scheme: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # taken, but nobody listens
        with Client(f"{scheme}://127.0.0.1:{reserved.getsockname()[1]}") as client:
            with pytest.raises(ConnectionFailed, match="refused") as caught:
                client.infer("m", {"a": A})
            assert caught.value.__cause__ is not None


def test_each_protocol_says_what_is_wrong_when_it_meets_the_other(server: EmbeddedTriton) -> None:
    for url in (server.grpc_url.replace("grpc:", "http:"), server.http_url.replace("http:", "grpc:")):
        with Client(url, options=Options(timeout_s=3)) as client, pytest.raises(TritonError) as caught:
            client.infer("add_sub", {"a": A, "b": A})
        assert isinstance(caught.value, ConnectionFailed | ServerError | Unavailable)


def test_headers_are_accepted_in_any_case(client: Client) -> None:
    options = Options(headers={"X-Trace": "1", "Authorization": "Bearer t"})
    assert client.infer("add_sub", {"a": A, "b": A}, options=options).model_version == "1"
