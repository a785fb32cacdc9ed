"""A real server, observed under load, while it is slow, and when it is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tritonforge_client import Client, ModelStatistics, Options
from tritonforge_client.errors import QueueFull, QueueTimeout, ServerError
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_load.observe import ServerObserver, timeline
from tritonforge_load.observe.page import HOST_FAMILIES

pytestmark = pytest.mark.triton

OPTIONS = Options(timeout_s=20.0, retry=None)
QUICK = Options(timeout_s=1.0, retry=None)  # for servers that are not to answer
LOOK_OFTEN = ["--metrics-interval-ms=50"]
DEAD_URL = "http://127.0.0.1:9/metrics"

# Sleeps for as many seconds as the first number of a request, together; -1 is an error of all.
MODEL = """\
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        if any(x.flat[0] < 0 for x in rows):
            raise ValueError("asked to fail")
        time.sleep(max(float(x.flat[0]) for x in rows))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in rows]
"""
CONFIG = """\
name: "{name}"
max_batch_size: 8
input [{{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }}]
{more}
"""
PYTHON = 'backend: "python" instance_group [{ kind: KIND_CPU count: 1 }] '
STEP = (
    '{{ model_name: "{0}" model_version: -1'
    ' input_map {{ key: "x" value: "{1}" }} output_map {{ key: "y" value: "{2}" }} }}'
)
ENSEMBLE = 'platform: "ensemble" ensemble_scheduling {{ step [ {} ] }}'
MODELS = {
    "plain": PYTHON,
    "batched": PYTHON + "dynamic_batching {}",
    "impatient": PYTHON
    + "dynamic_batching { default_queue_policy { default_timeout_microseconds: 100000 max_queue_size: 3 } }",
    "cached": PYTHON + "response_cache { enable: true }",
    "inner": ENSEMBLE.format(STEP.format("plain", "x", "between") + "," + STEP.format("plain", "between", "y")),
    "outer": ENSEMBLE.format(STEP.format("inner", "x", "between") + "," + STEP.format("batched", "between", "y")),
}


def rows(count: int, value: float = 0.0) -> dict[str, NDArray[np.float32]]:
    return {"x": np.full((count, 1), value, np.float32)}


@contextmanager
def counting(client: Client, **requests: int) -> Iterator[None]:
    """Wait in the end until the server has counted so many requests by model: it does so after it has answered them."""

    def finished() -> dict[str, tuple[int, list[ModelStatistics]]]:
        found = {model: client.statistics(model) for model in requests}
        return {
            model: (sum(v.inference_stats.success.count + v.inference_stats.fail.count for v in versions), versions)
            for model, versions in found.items()
        }

    before = finished()
    yield
    deadline_s = time.monotonic() + 5.0
    last, now = before, finished()
    # Batches are counted after their requests, so wait until nothing moves any more.
    while last != now or any(now[model][0] < before[model][0] + count for model, count in requests.items()):
        assert time.monotonic() < deadline_s, now
        time.sleep(0.02)
        last, now = now, finished()


@contextmanager
def frozen(server: EmbeddedTriton) -> Iterator[None]:
    """Stop the server's process, and wait until each of its threads stands still."""
    threads = Path(f"/proc/{server.pid}/task")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        while any((thread / "stat").read_text().rpartition(")")[2].split()[0] != "T" for thread in threads.iterdir()):
            time.sleep(0.001)
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def together(*calls: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("observed")
    for name, more in MODELS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(CONFIG.format(name=name, more=more))
        if more.startswith(PYTHON):
            (folder / name / "1" / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(repository, model_control_mode="explicit", load_models=["*"], arguments=LOOK_OFTEN) as running:
        yield running
        assert running.running


@pytest.fixture(params=["grpc", "http"])
def client(server: EmbeddedTriton, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(server.grpc_url if request.param == "grpc" else server.http_url, options=OPTIONS) as made:
        yield made


@pytest.fixture
def observe(server: EmbeddedTriton, client: Client) -> Callable[..., ServerObserver]:
    return lambda *models: ServerObserver(client, models, metrics_url=server.metrics_url)


def test_two_hundred_requests_of_four_rows_are_eight_hundred_rows(load_server: EmbeddedTriton) -> None:
    with Client(load_server.grpc_url, options=OPTIONS) as client:
        observer = ServerObserver(client, ["identity"], metrics_url=load_server.metrics_url)
        before = observer.snapshot(0.0)
        began_s = time.perf_counter()
        with counting(client, identity=200):
            for _ in range(200):
                client.infer("identity", {"x": np.zeros((4, 16), np.float32)})
            elapsed_s = time.perf_counter() - began_s
        facts = observer.snapshot(1.0).facts_since(before)["identity"]
    assert (facts.requests, facts.rows, facts.executions, facts.failed, facts.rejected) == (200, 800, 200, 0, 0)
    assert facts.batches == {4: 200}
    assert facts.batch_rows_mean == 4.0
    assert 0 < facts.queue_share < 1
    parts_s = facts.queue_s + facts.compute_input_s + facts.compute_infer_s + facts.compute_output_s
    assert 0 < parts_s <= facts.total_s < elapsed_s
    assert (facts.incomplete, facts.step_of) == ("", ())


def test_requests_that_wait_for_each_other_show_in_the_queue(
    observe: Callable[..., ServerObserver], client: Client
) -> None:
    observer = observe("plain", "batched")
    before = observer.snapshot(0.0)
    with counting(client, plain=4, batched=4):
        together(*[lambda: client.infer("plain", rows(1, 0.1))] * 4)
        together(*[lambda: client.infer("batched", rows(2, 0.1))] * 4)
    facts = observer.snapshot(1.0).facts_since(before)
    plain, batched = facts["plain"], facts["batched"]
    # One at a time, 0.1 s each: they wait for 0, 1, 2 and 3 others. A busy host makes it longer.
    assert 0.4 < plain.queue_s < 2.0
    assert 100 <= plain.compute_infer_mean_ms < 300
    assert 0.4 < plain.queue_share < 0.8
    assert plain.queue_mean_ms == pytest.approx(plain.queue_share * plain.total_mean_ms)
    assert plain.batches == {1: 4}
    # The first runs alone or not; those that wait meanwhile run together.
    assert (batched.requests, batched.rows) == (4, 8)
    assert batched.executions < 4
    assert sum(size * count for size, count in batched.batches.items()) == 8
    assert batched.batch_rows_mean == pytest.approx(8 / batched.executions)


def test_what_the_server_fails_and_rejects_is_counted_apart(
    observe: Callable[..., ServerObserver], client: Client
) -> None:
    observer = observe("plain", "impatient")
    errors: list[type] = []

    def ask() -> None:
        try:
            client.infer("impatient", rows(8, 0.4))
        except (QueueFull, QueueTimeout) as error:
            errors.append(type(error))

    before = observer.snapshot(0.0)
    with counting(client, plain=1), pytest.raises(ServerError):
        client.infer("plain", rows(1, -1.0))
    with counting(client, impatient=1):
        together(*[ask] * 8)
    facts = observer.snapshot(1.0).facts_since(before)
    assert (facts["plain"].failed, facts["plain"].rejected) == (1, 0)
    # Python runs one batch and has the next one in its hands; three wait, and for too long; the others are refused.
    rejected, refused = errors.count(QueueTimeout), errors.count(QueueFull)
    assert rejected > 0
    assert refused > 0
    assert facts["impatient"].failed == facts["impatient"].rejected == rejected  # a refused one is in no counter
    assert facts["impatient"].requests == 8 - rejected - refused


def test_answers_from_the_cache_have_no_rows(observe: Callable[..., ServerObserver], client: Client) -> None:
    observer = observe("cached")
    with counting(client, cached=1):
        client.infer("cached", rows(2, 0.001))
    before = observer.snapshot(0.0)
    with counting(client, cached=4):
        for _ in range(3):
            client.infer("cached", rows(2, 0.001))
        client.infer("cached", rows(2, float(np.random.default_rng().uniform(0.002, 0.01))))
    facts = observer.snapshot(1.0).facts_since(before)["cached"]
    assert (facts.requests, facts.computed, facts.rows) == (4, 1, 2)
    assert (facts.cache_hits, facts.cache_misses, facts.cache_hit_share) == (3, 1, 0.75)
    assert facts.cache_s > 0


def test_models_that_an_ensemble_is_composed_of_are_watched_too(
    observe: Callable[..., ServerObserver], client: Client
) -> None:
    observer = observe("outer")
    before = observer.snapshot(0.0)
    with counting(client, outer=1, inner=1, plain=2, batched=1):
        client.infer("outer", rows(2, 0.01))
    facts = observer.snapshot(1.0).facts_since(before)
    assert {name: (one.requests, one.step_of) for name, one in facts.items()} == {
        "outer": (1, ()),
        "inner": (1, ("outer",)),
        "plain": (2, ("inner",)),
        "batched": (1, ("outer",)),
    }


def test_samples_are_rates_and_means_by_the_names_of_the_table(
    observe: Callable[..., ServerObserver], client: Client
) -> None:
    observer = observe("cached")
    assert not any(name.startswith("model.") for name in observer.sample(10.0))
    with counting(client, cached=4):
        for _ in range(4):
            client.infer("cached", rows(2, 0.0015))
    busy = observer.sample(12.0)
    assert busy["model.cached.rate_per_s"] == 2.0
    assert busy["model.cached.cache_hit_share"] in {0.75, 1.0}
    idle = observer.sample(13.0)
    assert idle["model.cached.rate_per_s"] == idle["model.cached.failed_per_s"] == 0.0
    assert "model.cached.queue_ms" not in idle
    assert idle["server.memory_bytes"] > 1 << 20
    assert 0 <= idle["server.cpu_share"] <= 1
    assert idle["server.pinned_memory_bytes"] >= 0
    table = set(re.findall(r"^``([a-z_<>.]+)`` ", str(timeline.__doc__), re.MULTILINE))
    assert {name.replace(".cached.", ".<name>.") for name in busy | idle} <= table


def test_every_family_of_the_host_is_on_the_real_page(server: EmbeddedTriton, client: Client) -> None:
    page = client.metrics(server.metrics_url)
    assert {sample.name for sample in page.samples} >= set(HOST_FAMILIES)


def test_a_server_without_gpus_says_so(observe: Callable[..., ServerObserver]) -> None:
    observer = observe("plain")
    values = observer.sample(1.0)
    assert not any(name.startswith("gpu.") for name in values)
    assert list(observer.absent) == ["gpu"]
    assert "no nv_gpu_*" in observer.absent["gpu"]
    assert "NVML was not asked for" in observer.absent["gpu"]


def test_a_model_that_is_not_there_leaves_the_others_alone(observe: Callable[..., ServerObserver]) -> None:
    observer = observe("nobody", "plain")
    observer.sample(1.0)
    assert "model.plain.rate_per_s" in observer.sample(2.0)
    assert "not available" in observer.absent["model.nobody"]


def test_a_model_that_was_loaded_again_is_a_gap_and_no_negative_rate(
    observe: Callable[..., ServerObserver], server: EmbeddedTriton, client: Client
) -> None:
    observer = observe("plain")
    with counting(client, plain=4):
        for _ in range(4):
            client.infer("plain", rows(1))
    before = observer.snapshot(0.0)
    observer.sample(1.0)
    with Client(server.grpc_url) as patient:
        patient.unload_model("plain")
        patient.load_model("plain")
    with counting(client, plain=1):
        client.infer("plain", rows(1))
    values = observer.sample(2.0)
    assert not any(name.startswith("model.") for name in values)
    assert observer.absent["model.plain"].startswith("at 2.0 s: version 1 was loaded again")
    with counting(client, plain=1):
        client.infer("plain", rows(1))
    assert observer.sample(3.0)["model.plain.rate_per_s"] == 1.0
    facts = observer.snapshot(4.0).facts_since(before)["plain"]
    assert (facts.requests, facts.rows, facts.rejected) == (2, 2, 0)
    assert facts.incomplete == "version 1 was loaded again; only what came after it is counted"


def test_without_a_metrics_page_the_models_are_seen_and_the_rest_has_a_reason(client: Client) -> None:
    for url, reason in ((None, "no address"), (DEAD_URL, "connection")):
        observer = ServerObserver(client, ["plain"], metrics_url=url)
        observer.sample(1.0)
        values = observer.sample(2.0)
        assert "model.plain.rate_per_s" in values
        assert "model.plain.rejected_per_s" not in values
        assert set(observer.absent) == {"rejected", "gpu", "server.cpu", "server.memory", "server.pinned_memory"}
        assert all(reason in text.lower() for text in observer.absent.values())


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_frozen_server_is_a_gap_and_nothing_is_lost(server: EmbeddedTriton, protocol: str) -> None:
    with Client(server.grpc_url if protocol == "grpc" else server.http_url, options=QUICK) as client:
        observer = ServerObserver(client, ["plain"], metrics_url=server.metrics_url)
        observer.sample(1.0)
        with counting(client, plain=1):
            client.infer("plain", rows(1))
        with frozen(server):
            began_s = time.perf_counter()
            values = observer.sample(2.0)
            took_s = time.perf_counter() - began_s
        after = observer.sample(3.0)
    assert values == {}
    assert took_s < 2 * QUICK.timeout_s + 0.5
    assert after["model.plain.rate_per_s"] == 0.5  # one request in the two seconds since the last sample
    assert observer.absent["statistics"].startswith("at 2.0 s: timeout_s=1")
    assert observer.absent["server.cpu"].startswith("at 2.0 s: timeout_s=1")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_dies_leaves_a_gap_and_a_reason(repository: Path, tmp_path: Path, protocol: str) -> None:
    (tmp_path / "plain").symlink_to(repository / "plain")
    server = EmbeddedTriton(tmp_path, stop_timeout_s=0.0, arguments=LOOK_OFTEN)
    with server, Client(server.grpc_url if protocol == "grpc" else server.http_url, options=OPTIONS) as client:
        observer = ServerObserver(client, ["plain"], metrics_url=server.metrics_url)
        observer.sample(1.0)
        with counting(client, plain=1):
            client.infer("plain", rows(1))
        alive = observer.sample(2.0)
        os.kill(server.pid, signal.SIGKILL)
        server.wait(10.0)
        dead = [observer.sample(at_s) for at_s in (3.0, 4.0)]
        assert observer.snapshot(5.0).models == {}
    assert alive["model.plain.rate_per_s"] == 1.0
    assert dead == [{}, {}]
    for kind in ("statistics", "server.cpu", "rejected"):
        assert observer.absent[kind].startswith("from 3.0 s to 4.0 s: "), observer.absent[kind]


GREENLETS = """
import json, sys, time
from tritonforge_load.users import make_client
import gevent
from tritonforge_client import Options
from tritonforge_load.observe import ServerObserver

url, metrics_url = sys.argv[1:]
gaps_s, stop = [], False


def tick():
    last_s = time.perf_counter()
    while not stop:
        gevent.sleep(0.005)
        now_s = time.perf_counter()
        gaps_s.append(now_s - last_s)
        last_s = now_s


client = make_client(url, options=Options(timeout_s=1.0, retry=None))
observer = ServerObserver(client, ["plain"], metrics_url=metrics_url)
ticking = gevent.spawn(tick)
began_s = time.perf_counter()
values = [observer.sample(float(at_s)) for at_s in range(2)]
took_s = time.perf_counter() - began_s
stop = True
ticking.join()
client.close()
print(json.dumps({"values": values, "absent": observer.absent, "took_s": took_s, "longest_gap_s": max(gaps_s)}))
"""


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_greenlets_run_on_while_a_server_is_observed(server: EmbeddedTriton, protocol: str, answers: bool) -> None:
    url = server.grpc_url if protocol == "grpc" else server.http_url
    with nullcontext() if answers else frozen(server):
        command = [sys.executable, "-c", GREENLETS, url, server.metrics_url]
        child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == 0, child.stderr
    said = json.loads(child.stdout)
    assert ("model.plain.rate_per_s" in said["values"][1]) is answers
    assert ("statistics" not in said["absent"]) is answers
    if not answers:
        assert said["took_s"] > 2 * QUICK.timeout_s
        assert said["longest_gap_s"] < 0.9 * QUICK.timeout_s  # no greenlet waits for a server that does not answer
