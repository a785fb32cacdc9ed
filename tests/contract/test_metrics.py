"""The metrics page of a real Triton, over every client."""

from __future__ import annotations

import math
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from contract.models import write_model
from prometheus_client.parser import text_string_to_metric_families

from tritonforge_client import Client, ConnectionFailed, Options, ServerError
from tritonforge_client.core.metrics import metrics_from_text
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

ONES = np.ones((3, 4), np.float32)
COUNTS = {"nv_inference_request_success": 5, "nv_inference_count": 15}
"""What five requests of three rows add."""

IDLE_CONFIG = """
input [{ name: "x" data_type: TYPE_FP32 dims: [1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [1] }]
"""

IDLE = """
class TritonPythonModel:
    def execute(self, requests):
        raise AssertionError("nobody calls it")
"""


def test_counters_grow_by_the_requests_that_were_made(client: Client, server: EmbeddedTriton) -> None:
    def counts() -> dict[str, float]:
        metrics = client.metrics(server.metrics_url, families=list(COUNTS))
        assert {name: family.kind for name, family in metrics.families.items()} == dict.fromkeys(COUNTS, "counter")
        assert {sample.name for sample in metrics.samples} == set(COUNTS)
        return {name: metrics.value(name, model="add_sub", version="1") for name in COUNTS}

    before = counts()
    for _ in range(5):
        client.infer("add_sub", {"a": ONES, "b": ONES})
    wanted = {name: before[name] + COUNTS[name] for name in COUNTS}
    deadline = time.monotonic() + 5.0  # the server counts a request just after it has answered it
    while counts() != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counts() == wanted


def test_the_page_is_read_as_prometheus_reads_it(server: EmbeddedTriton) -> None:
    with urllib.request.urlopen(server.metrics_url, timeout=5) as reply:
        page = reply.read().decode()
    ours = metrics_from_text(page)
    theirs = list(text_string_to_metric_families(page))
    assert len(ours.samples) > 100
    assert {name: (one.kind, one.help) for name, one in ours.families.items()} == {
        one.name: (one.type, one.documentation) for one in theirs
    }
    # Prometheus' own parser adds _total to the names of counters, which no page has.
    assert [(one.name, one.labels, one.value) for one in ours.samples] == [
        (one.name.removesuffix("_total"), one.labels, one.value) for family in theirs for one in family.samples
    ]


def test_a_summary_over_no_requests_is_not_a_number(tmp_path: Path) -> None:
    write_model(tmp_path, "idle", config=IDLE_CONFIG, code=IDLE)
    with (
        EmbeddedTriton(tmp_path, arguments=["--metrics-config=summary_latencies=true"]) as server,
        Client(server.http_url) as client,
    ):
        metrics = client.metrics(server.metrics_url)
        family = client.metrics(server.metrics_url, families=["nv_inference_request_summary_us"])
    assert {one.name.removeprefix("nv_inference_request_summary_us") for one in family.samples} == {
        "",
        "_count",
        "_sum",
    }
    assert metrics.families["nv_inference_request_summary_us"].kind == "summary"
    assert math.isnan(metrics.value("nv_inference_request_summary_us", quantile="0.99"))
    assert metrics.value("nv_inference_request_summary_us_count", model="idle") == 0


def test_other_services_of_the_server_have_no_metrics(client: Client, server: EmbeddedTriton) -> None:
    with pytest.raises(ServerError, match='got status 404: "Not Found"; check the url, port and path'):
        client.metrics(f"{server.http_url}/metrics")
    with pytest.raises(ConnectionFailed, match="with metrics on"):
        client.metrics(server.grpc_url.replace("grpc:", "http:"), options=Options(timeout_s=5))
