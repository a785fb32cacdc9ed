"""When requests leave and replies come, with a real Triton at the other end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from contract.conftest import made_client

from tritonforge_client import Client, Options, ServerError, WireTimes
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

MS = 1_000_000
INPUTS = {"IN_FP32": np.ones((1, 4), np.float32)}


@pytest.fixture(params=["grpc", "http"])
def blocking(request: pytest.FixtureRequest, server: EmbeddedTriton) -> Iterator[Client]:
    with made_client(request.param, server, options=Options(retry=None)) as made:
        yield made


def test_moments_lie_within_the_call_and_around_the_models_time(blocking: Client) -> None:
    for delay_s in (0.05, 0.1):
        before_ns = time.perf_counter_ns()
        with WireTimes() as times:
            blocking.infer("slow", {"delay_s": np.array([delay_s], np.float32)})
        after_ns = time.perf_counter_ns()
        assert times.ready_ns is not None
        assert times.sent_ns is not None
        assert times.received_ns is not None
        assert before_ns <= times.ready_ns <= times.sent_ns <= times.received_ns <= after_ns
        assert times.received_ns - times.sent_ns >= delay_s * 1e9


def test_a_prepared_request_leaves_when_it_may(blocking: Client) -> None:
    prepared = blocking.bind(blocking.spec("identity")).prepare(INPUTS, outputs=["OUT_FP32"])
    for wait_ms in (0, 1, 30):
        due_ns = time.perf_counter_ns() + wait_ms * MS
        with WireTimes(due_ns) as times:
            assert blocking.send(prepared).decode().value["OUT_FP32"].shape == (1, 4)
        assert times.sent_ns is not None
        assert times.sent_ns >= due_ns


def test_a_stream_is_followed_to_its_end(server: EmbeddedTriton) -> None:
    with made_client("grpc", server) as client, WireTimes() as times:
        came_ns = []
        for _ in client.bind(client.spec("repeat")).stream({"count": np.array([3], np.int32)}):
            assert times.received_ns is not None
            came_ns.append(times.received_ns)
    assert len(came_ns) == 3
    assert times.sent_ns is not None
    assert times.received_ns is not None
    moments = [times.sent_ns, *came_ns, times.received_ns]
    assert moments == sorted(moments)


def test_a_call_that_the_model_fails_has_no_reply(blocking: Client) -> None:
    times = WireTimes()
    with pytest.raises(ServerError), times:
        blocking.infer("failing", {"how": np.array([b"raise"], np.object_)})
    assert times.sent_ns is not None
    assert times.received_ns is None


def test_of_a_region_that_is_registered_first_the_request_counts(server: EmbeddedTriton) -> None:
    array = np.ones((300, 1000), np.float32)
    for protocol in ("grpc", "http"):
        with made_client(protocol, server, options=Options(shared_memory="system")) as client:
            model = client.bind(client.spec("identity"))
            due_ns = time.perf_counter_ns() + 30 * MS
            with WireTimes(due_ns) as times:
                model.infer({"IN_FP32": array}, outputs=["OUT_FP32"])
            assert times.sent_ns is not None
            assert times.sent_ns > due_ns + MS // 100  # registering takes longer than that
