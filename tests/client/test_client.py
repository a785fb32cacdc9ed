"""What the client does before anything is sent."""

import dataclasses
import os
import threading
import time

import numpy as np
import pytest

from tritonforge_client import Client, InvalidInput, ModelSpec, NotReady, Options, TensorSpec
from tritonforge_client.core.http_dialect import HttpDialect

SPEC = ModelSpec(
    name="m",
    inputs=(TensorSpec(name="x", datatype="FP32", dims=(2,)),),
    outputs=(TensorSpec(name="y", datatype="FP32", dims=(2,)),),
)
# Nothing listens on port 1, and none of these calls gets that far.
TARGETS = ["grpc://127.0.0.1:1", "http://127.0.0.1:1"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_closed_client_says_so_and_closes_twice(target: str) -> None:
    client = Client(target)
    model = client.bind(SPEC)
    client.close()
    client.close()
    for call in (client.ready, lambda: client.spec("m"), lambda: model.infer({"x": np.zeros(2, np.float32)})):
        with pytest.raises(RuntimeError, match="is closed; make a new Client"):
            call()
    assert repr(client) == f"Client('{target}', closed)"


@pytest.mark.parametrize("target", TARGETS)
def test_a_forked_process_is_told_at_once(target: str) -> None:
    with Client(target) as client:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                client.ready()
            except RuntimeError as error:
                os.write(write_end, str(error).encode())
            finally:
                client.close()
                os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            text = pipe.read().decode()
        os.waitpid(pid, 0)
    assert f"was made in process {os.getpid()} and cannot be used in its fork {pid}" in text


def test_bound_calls_fail_before_sending() -> None:
    with Client(TARGETS[0]) as client:
        with pytest.raises(InvalidInput, match="expected float32"):
            client.bind(SPEC).infer({"x": np.zeros(2)})
        with pytest.raises(InvalidInput, match='unknown output "z"'):
            client.bind(SPEC).infer({"x": np.zeros(2, np.float32)}, outputs=["z"])
        with pytest.raises(InvalidInput, match="max_batch_size above 0"):
            client.bind(SPEC).infer_one({"x": np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    ("spec", "way"),
    [
        (dataclasses.replace(SPEC, decoupled=True), r"got a decoupled model; use stream\(\)"),
        (dataclasses.replace(SPEC, sequence=True), r"got a model that is scheduled by .*; use sequence\(\)"),
    ],
)
def test_models_that_answer_in_another_way_say_how_to_call_them(spec: ModelSpec, way: str) -> None:
    inputs = {"x": np.zeros(2, np.float32)}
    with Client(TARGETS[0]) as client:
        model = client.bind(spec)
        for call in (lambda: model.infer(inputs), lambda: model.classify(inputs, output="y")):
            with pytest.raises(InvalidInput, match=way):
                call()


def test_a_model_without_sequences_has_none() -> None:
    with Client(TARGETS[0]) as client, pytest.raises(InvalidInput, match=r"use infer\(\)"):
        client.bind(SPEC).sequence().infer({"x": np.zeros(2, np.float32)})


@pytest.mark.parametrize("target", TARGETS)
def test_wait_ready_ends_in_time_with_the_last_failure(target: str) -> None:
    with Client(target) as client:
        start = time.monotonic()
        with pytest.raises(NotReady, match=r"the server is not ready within 0.3 s: no connection") as caught:
            client.wait_ready(timeout_s=0.3)
        assert 0.3 <= time.monotonic() - start < 1
        assert caught.value.__cause__ is not None
        assert not client.ready(timeout_s=0.2)


def test_wait_ready_refuses_a_wrong_timeout() -> None:
    with Client(TARGETS[0]) as client, pytest.raises(InvalidInput, match="timeout_s"):
        client.wait_ready(timeout_s=0)


def test_options_are_those_of_the_call_then_the_model_then_the_client() -> None:
    seen = []

    class Recorder:
        """A transport that only notes the deadline it was given."""

        endpoint = "recorder"
        dialect = HttpDialect()

        def send(self, request: object, call: object) -> object:
            seen.append(call.timeout_s)  # type: ignore[attr-defined]
            raise KeyboardInterrupt

        def close(self) -> None:
            pass

    with Client("recorder", options=Options(timeout_s=1), transport=Recorder()) as client:  # type: ignore[arg-type]
        inputs = {"x": np.zeros(2, np.float32)}
        bound = client.bind(SPEC)
        own = client.bind(SPEC, options=Options(timeout_s=2))
        for call in (
            lambda: client.infer("m", inputs),
            lambda: bound.infer(inputs),
            lambda: own.infer(inputs),
            lambda: own.infer(inputs, options=Options(timeout_s=3)),
        ):
            with pytest.raises(KeyboardInterrupt):
                call()
    assert seen == [1, 1, 2, 3]


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    for target in TARGETS:
        for _ in range(20):
            with Client(target) as client:
                client.ready(timeout_s=0.5)
    assert threading.active_count() <= before + 1
