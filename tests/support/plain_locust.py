"""Locust as it comes, with users that keep to a rate: what it says of a server, to be set beside what we say."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REQUESTS_PER_USER: Final = 10
"""Each second, at most: a user of Locust waits for its answer before it goes on."""

_START_AND_END_S: Final = 30.0

# No code of ours, and a body that is made once.
_OVER_HTTP: Final = """\
import json
from locust import FastHttpUser, constant_throughput, task

TENSOR = {{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [1.0] * 16}}
BODY = json.dumps({{"inputs": [TENSOR]}})


class Steady(FastHttpUser):
    wait_time = constant_throughput({rate})

    @task
    def ask(self):
        self.client.post("/v2/models/{model}/infer", data=BODY)
"""

# Locust has no user for gRPC.
_OVER_GRPC: Final = """\
import numpy as np
from locust import constant_throughput, task
from tritonforge_load.users import TritonGrpcUser

X = np.ones((1, 16), np.float32)


class Steady(TritonGrpcUser):
    wait_time = constant_throughput({rate})

    @task
    def ask(self):
        self.infer("{model}", {{"x": X}})
"""


def plain_locust(url: str, model: str, *, users: int, duration_s: float) -> Mapping[str, str]:
    """Run Locust for a while, one process, and return the line of its CSV file about all requests.

    Args:
        url: URL of the server, for HTTP or gRPC.
        model: A model that takes ``x`` of FP32 [1, 16].
        users: Each sends ``REQUESTS_PER_USER`` requests a second, or as many as are answered.
        duration_s: Its ``--run-time`` in seconds, in whole seconds.

    Returns:
        Values by column: ``Request Count``, ``Failure Count``, and percentiles in milliseconds as ``50%``, ``99.9%``.
    """
    text = _OVER_GRPC if url.startswith("grpc") else _OVER_HTTP
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "locustfile.py").write_text(text.format(rate=REQUESTS_PER_USER, model=model), encoding="utf-8")
        command = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--csv", "out", "--host", url]
        command += ["-u", str(users), "-r", str(users), "-t", f"{duration_s:.0f}s"]
        subprocess.run(command, cwd=folder, capture_output=True, timeout=duration_s + _START_AND_END_S, check=True)
        with (folder / "out_stats.csv").open(newline="", encoding="utf-8") as file:
            (line,) = [one for one in csv.DictReader(file) if one["Name"] == "Aggregated"]
    return line
