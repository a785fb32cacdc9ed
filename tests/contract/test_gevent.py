"""Under gevent a waiting call lets other greenlets run, as Locust needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

PREAMBLE = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
import numpy as np
from tritonforge_client import Client, DeadlineExceeded, Options
"""
WAITING = """
ticks = 0

def tick():
    global ticks
    while True:
        gevent.sleep(0.05)
        ticks += 1

ticker = gevent.spawn(tick)
with Client(sys.argv[1]) as client:
    client.infer("slow", {"delay_s": np.array([1.0], np.float32)})
    during = ticks
    try:
        client.infer("slow", {"delay_s": np.array([1.0], np.float32)}, options=Options(timeout_s=0.3))
    except DeadlineExceeded as error:
        late_s = error.elapsed_s
ticker.kill()
assert during >= 10, f"expected about 20 ticks of 0.05 s during a call of 1 s, got {during}"
assert 0.3 <= late_s < 0.8, late_s
"""
PREPARED = """
with Client(sys.argv[1]) as client:
    model = client.bind(client.spec("identity"))

    def send(number):
        array = np.full((1, 100), number, np.float32)
        prepared = model.prepare({"IN_FP32": array}, outputs=["OUT_FP32"])
        for _ in range(20):
            np.testing.assert_array_equal(client.send(prepared).decode().value["OUT_FP32"], array)

    greenlets = [gevent.spawn(send, number) for number in range(8)]
    gevent.joinall(greenlets, timeout=30, raise_error=True)
    assert all(greenlet.successful() for greenlet in greenlets)
"""


def run_under_gevent(script: str, url: str) -> None:
    command = [sys.executable, "-c", PREAMBLE + script, url]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, server: EmbeddedTriton) -> str:
    return server.grpc_url if request.param == "grpc" else server.http_url


def test_a_waiting_call_blocks_no_other_greenlet(url: str) -> None:
    run_under_gevent(WAITING, url)


def test_greenlets_get_their_own_answers_to_prepared_requests(url: str) -> None:
    run_under_gevent(PREPARED, url)
