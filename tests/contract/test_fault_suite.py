"""Every fault on the way to a real Triton: the class of its error or the recovery, in time, once, and without a trace.

docs/client.md has a table of them.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.conftest import KINDS, made_client
from contract.models import write_models
from support.fault_proxy import FaultProxy

from tritonforge_client import (
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    ModelNotFound,
    NotReady,
    Options,
    QueueFull,
    RetryPolicy,
    ServerError,
    TritonError,
)
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(120)]

TIMEOUT_S = 0.3
LATE_S = 0.05
INPUTS = {"IN_FP32": np.ones((100, 1000), np.float32)}


@dataclass(frozen=True)
class Fault:
    """What the proxy does, and what a call without retries says of it over gRPC and over HTTP."""

    name: str
    start: Callable[[FaultProxy], object]
    grpc: type[TritonError]
    http: type[TritonError]


def refused(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.reset()  # the connections that are there


FAULTS = [
    Fault("refused", refused, ConnectionFailed, ConnectionFailed),
    Fault("reset before the reply", lambda proxy: proxy.reset(), ConnectionFailed, ConnectionFailed),
    Fault("reset in the middle of the reply", lambda proxy: proxy.reset(5_000), ConnectionFailed, ConnectionFailed),
    Fault(
        "reset in the middle of the request", lambda p: p.reset(5_000, "request"), ConnectionFailed, ConnectionFailed
    ),
    Fault("cut in the middle of the reply", lambda proxy: proxy.cut(5_000), ConnectionFailed, ConnectionFailed),
    Fault("stalled before the reply", lambda proxy: proxy.stall(), DeadlineExceeded, DeadlineExceeded),
    Fault("stalled in the middle of the reply", lambda p: p.stall(5_000), DeadlineExceeded, DeadlineExceeded),
    Fault("stalled request", lambda p: p.stall(5_000, "request"), DeadlineExceeded, DeadlineExceeded),
    Fault("slow", lambda proxy: proxy.slow(50_000), DeadlineExceeded, DeadlineExceeded),
    Fault("garbage", lambda proxy: proxy.garbage(), ConnectionFailed, ConnectionFailed),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(server: EmbeddedTriton, kind: str) -> Iterator[FaultProxy]:
    url = server.grpc_url if kind.startswith("grpc") else server.http_url
    with FaultProxy("127.0.0.1", int(url.rpartition(":")[2])) as made:
        yield made


def through(proxy: FaultProxy, kind: str, **options: Any) -> Client:
    return made_client(kind, f"{kind.partition('-')[0]}://127.0.0.1:{proxy.port}", options=Options(**options))


def failure(client: Client) -> tuple[TritonError, float]:
    start_s = time.monotonic()
    with pytest.raises(TritonError) as caught:
        client.infer("identity", INPUTS)
    return caught.value, time.monotonic() - start_s


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_has_its_error_in_time_and_is_over_when_it_is_over(
    proxy: FaultProxy, kind: str, fault: Fault
) -> None:
    with through(proxy, kind, timeout_s=TIMEOUT_S, retry=None) as client:
        client.infer("identity", INPUTS, options=Options(timeout_s=10))
        late_s = []
        for _ in range(3):  # a busy machine may wake anybody late once
            fault.start(proxy)
            error, elapsed_s = failure(client)
            assert isinstance(error, fault.grpc if kind.startswith("grpc") else fault.http)
            assert error.endpoint == f"127.0.0.1:{proxy.port}"
            late_s.append(elapsed_s - TIMEOUT_S)
            proxy.heal()
            client.wait_ready(timeout_s=10)
            client.infer("identity", INPUTS, options=Options(timeout_s=10))
            if late_s[-1] < LATE_S:
                break
        assert min(late_s) < LATE_S


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "reset" in fault.name], ids=lambda fault: fault.name)
def test_what_passes_is_tried_again(proxy: FaultProxy, kind: str, fault: Fault) -> None:
    policy = RetryPolicy(attempts=10, initial_s=0.4, maximum_s=0.5)
    with through(proxy, kind, timeout_s=10, retry=policy) as client:
        client.infer("identity", INPUTS)
        fault.start(proxy)
        healer = threading.Timer(0.2, proxy.heal)
        healer.start()
        assert client.infer("identity", INPUTS).attempts > 1
        healer.join()


@pytest.mark.parametrize("kind", ["http", "http-async"], indirect=True)
def test_a_burst_of_503_is_sat_out(proxy: FaultProxy, kind: str) -> None:
    with through(proxy, kind, timeout_s=10) as client:
        proxy.burst(2)
        assert client.infer("identity", INPUTS).attempts == 3
        proxy.burst(1)
        with pytest.raises(QueueFull):
            client.infer("identity", INPUTS, options=Options(retry=None))


@pytest.mark.parametrize("kind", ["http", "http-async"], indirect=True)
def test_a_proxy_that_answers_nonsense_is_a_server_error(proxy: FaultProxy, kind: str) -> None:
    with through(proxy, kind, timeout_s=5) as client:
        proxy.http_status(200, b"<html>", {"content-type": "text/html"})
        with pytest.raises(ServerError, match="cannot be read"):
            client.infer("identity", INPUTS)


def test_a_step_of_a_sequence_is_run_once(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with Client(server.grpc_url) as watcher, through(proxy, kind, timeout_s=TIMEOUT_S) as client:
        assert client.ready()  # so that a connection is there, and the request gets through
        before = watcher.statistics("running_sum")[0].inference_stats.success.count
        proxy.stall()
        with pytest.raises(DeadlineExceeded) as caught:
            client.bind(watcher.spec("running_sum")).sequence().infer({"x": np.array([[1]], np.int32)}, end=True)
        time.sleep(0.3)
        after = watcher.statistics("running_sum")[0].inference_stats.success.count
    assert caught.value.attempts == 1
    assert after - before == 1


def test_a_step_of_a_sequence_is_not_tried_again(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with Client(server.grpc_url) as watcher, through(proxy, kind) as client:
        proxy.refuse()
        with pytest.raises(ConnectionFailed) as caught:
            client.bind(watcher.spec("running_sum")).sequence().infer({"x": np.array([[1]], np.int32)}, end=True)
    assert caught.value.attempts == 1


def test_half_of_the_endpoints_dead_is_not_noticed(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    protocol = kind.partition("-")[0]
    alive = server.grpc_url if protocol == "grpc" else server.http_url
    proxy.refuse()
    for balance in ("pick_first", "round_robin", "least_in_flight"):
        targets = [f"{protocol}://127.0.0.1:{proxy.port}", alive]
        with made_client(kind, targets, balance=balance) as client:
            replies = [client.infer("identity", INPUTS) for _ in range(8)]
        assert {reply.endpoint for reply in replies} == {alive.partition("://")[2]}


def test_no_thread_and_no_socket_is_left(proxy: FaultProxy, kind: str) -> None:
    with through(proxy, kind, timeout_s=2) as client:  # what the libraries make once stays
        client.infer("identity", INPUTS)
    gc.collect()
    time.sleep(0.2)
    threads, files = threading.active_count(), descriptors()
    for _ in range(3):
        with through(proxy, kind, timeout_s=0.3, retry=None) as client:
            for fault in FAULTS:
                fault.start(proxy)
                failure(client)
                proxy.heal()
    gc.collect()
    deadline = time.monotonic() + 5
    while (threading.active_count() > threads or descriptors() > files + 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert descriptors() <= files + 2
    assert proxy.open_connections() == 0


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    write_models(repository)
    options: dict[str, Any] = {"model_control_mode": "explicit", "load_models": ["identity", "slow"]}
    first = EmbeddedTriton(repository, **options).start()
    ports: dict[str, Any] = {
        f"{name}_port": int(url.rpartition(":")[2])
        for name, url in (("http", first.http_url), ("grpc", first.grpc_url))
    }
    with ExitStack() as stack, ThreadPoolExecutor(len(KINDS)) as pool:
        clients = [stack.enter_context(made_client(kind, first)) for kind in KINDS]
        slow = {"delay_s": np.array([20.0], np.float32)}
        calls = [
            pool.submit(client.infer, "slow", slow, options=Options(timeout_s=30, retry=None)) for client in clients
        ]
        time.sleep(0.5)
        start_s = time.monotonic()
        os.kill(first.pid, signal.SIGKILL)
        assert [type(call.exception(10)) for call in calls] == [ConnectionFailed] * len(KINDS)
        assert time.monotonic() - start_s < 2
        first.stop()
        assert [client.ready() for client in clients] == [False] * len(KINDS)
        with EmbeddedTriton(repository, **ports, **options):
            for client in clients:
                client.wait_ready("identity", timeout_s=10)
                client.infer("identity", INPUTS)


def test_a_model_unloaded_in_the_middle_of_a_run(server: EmbeddedTriton, kind: str) -> None:
    """Each request is answered, or says that the model is not there."""
    model, inputs = "overridden", {"x": np.ones((1, 3), np.float32)}
    outcomes: Counter[object] = Counter()
    with Client(server.grpc_url) as control, made_client(kind, server, options=Options(retry=None)) as client:
        control.load_model(model)
        done = threading.Event()

        def run() -> None:
            while not done.is_set():
                try:
                    outcomes[client.infer(model, inputs).value["y"].tolist() == [[1, 1, 1]]] += 1
                except TritonError as error:
                    outcomes[type(error)] += 1

        runner = threading.Thread(target=run)
        runner.start()
        time.sleep(0.3)
        control.unload_model(model)
        time.sleep(0.3)
        control.load_model(model)
        done.set()
        runner.join(10)
    assert outcomes[True] > 0
    assert outcomes[ModelNotFound] + outcomes[NotReady] > 0
    assert set(outcomes) <= {True, ModelNotFound, NotReady}
