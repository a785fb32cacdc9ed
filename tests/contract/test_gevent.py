"""Under gevent a waiting call lets other greenlets run, as Locust needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

SCRIPT = """
from gevent import monkey
monkey.patch_all()
import sys
if sys.argv[1].startswith("grpc:"):
    import grpc.experimental.gevent
    grpc.experimental.gevent.init_gevent()
import gevent
import numpy as np
from tritonforge_client import Client, DeadlineExceeded, Options

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


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_waiting_call_blocks_no_other_greenlet(server: EmbeddedTriton, scheme: str) -> None:
    url = server.grpc_url if scheme == "grpc" else server.http_url
    run = subprocess.run([sys.executable, "-c", SCRIPT, url], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
