"""Prepared requests against a real Triton: what they bring is what ``infer`` brings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import pytest
from contract.conftest import made_client

from tritonforge_client import (
    Client,
    ModelNotFound,
    ModelSpec,
    NotReady,
    Options,
    QueueFull,
    ServerError,
    SpecDrift,
    TensorSpec,
)
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("columns", [3, 600_000], ids=["small", "large"])
def test_many_at_once_bring_their_own_answers(client: Client, columns: int) -> None:
    model = client.bind(client.spec("identity"))
    arrays = [RANDOM.random((2, columns), np.float32) for _ in range(4)]
    prepared = [model.prepare({"IN_FP32": array}, outputs=["OUT_FP32"]) for array in arrays]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client.send, prepared * 4))
    for array, answer in zip(arrays * 4, answers, strict=True):
        np.testing.assert_array_equal(answer.decode().value["OUT_FP32"], array)
        assert array.nbytes < answer.size_bytes < array.nbytes + 1000


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_blocking_and_asynchronous_clients_send_what_the_other_prepared(server: EmbeddedTriton, protocol: str) -> None:
    array = RANDOM.random((2, 3), np.float32)
    with made_client(protocol, server) as one, made_client(f"{protocol}-async", server) as other:
        spec = one.spec("identity")
        for preparing, sending in ((one, other), (other, one)):
            prepared = preparing.bind(spec).prepare({"IN_FP32": array}, outputs=["OUT_FP32"])
            np.testing.assert_array_equal(sending.send(prepared).decode().value["OUT_FP32"], array)


def test_a_model_that_was_unloaded_is_not_found(client: Client) -> None:
    prepared = client.bind(client.spec("labelled")).prepare({"x": np.zeros((1, 3), np.float32)})
    client.unload_model("labelled")
    try:
        with pytest.raises((ModelNotFound, NotReady)):
            client.send(prepared)
    finally:
        client.load_model("labelled")
    assert client.send(prepared).decode().value["y"].shape == (1, 3)


def test_texts_come_back(client: Client) -> None:
    model = client.bind(client.spec("identity"))
    texts = np.array([[b"", b"\0a\0"]], np.object_)
    answer = client.send(model.prepare({"IN_BYTES": texts}, outputs=["OUT_BYTES"], request_id="r1"))
    reply = answer.decode()
    assert reply.value["OUT_BYTES"].tolist() == texts.tolist()
    assert (reply.request_id, reply.model_version, reply.endpoint) == ("r1", "1", answer.endpoint)


def test_writable_is_kept(client: Client) -> None:
    model = client.bind(client.spec("identity"))
    ones = np.ones((1, 1), np.float32)
    prepared = model.prepare({"IN_FP32": ones}, outputs=["OUT_FP32"], options=Options(writable=True))
    client.send(prepared).decode().value["OUT_FP32"][:] = 2


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compression_is_kept(client: Client, compression: Literal["gzip", "deflate"]) -> None:
    model = client.bind(client.spec("identity"))
    array = np.zeros((2, 5000), np.float32)
    prepared = model.prepare({"IN_FP32": array}, outputs=["OUT_FP32"], options=Options(compression=compression))
    for _ in range(2):
        np.testing.assert_array_equal(client.send(prepared).decode().value["OUT_FP32"], array)


def test_a_failure_of_the_model_is_raised_at_once(client: Client) -> None:
    prepared = client.bind(client.spec("failing")).prepare({"how": np.array([b"raise"], np.object_)})
    with pytest.raises(ServerError, match="the model raised this"):
        client.send(prepared)


def test_a_full_queue_is_known_by_its_class(client: Client) -> None:
    slow = client.bind(client.spec("queue_limited"), options=Options(retry=None))
    prepared = slow.prepare({"delay_s": np.array([[0.5]], np.float32)})
    with ThreadPoolExecutor(6) as pool:
        outcomes = [one.exception() for one in [pool.submit(client.send, prepared) for _ in range(6)]]
    assert None in outcomes
    assert {type(error) for error in outcomes if error is not None} == {QueueFull}


def test_an_answer_that_does_not_fit_the_spec_is_noticed_when_it_is_read(client: Client) -> None:
    tensors = (TensorSpec(name="x", datatype="FP32", dims=(3,)),)
    believed = ModelSpec(
        name="lying", inputs=tensors, outputs=(TensorSpec(name="y", datatype="FP32", dims=(3,)),), max_batch_size=4
    )
    answer = client.send(client.bind(believed).prepare({"x": np.zeros((1, 3), np.float32)}))
    with pytest.raises(SpecDrift, match="output y"):
        answer.decode()
