"""Our user classes in locustfiles of one's own, run by Locust's own command line."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.locust_runs import LOCUSTFILE, run_locust, stats_of, wait_until, worker_ports, write_locustfile

from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

ProcessesOf = Callable[[Path], dict[int, int]]

OWN_LOCUSTFILE = """\
import numpy as np
from locust import between, task
from tritonforge_load.users import TritonGrpcUser, TritonHttpUser


class OverGrpc(TritonGrpcUser):
    host = GRPC_HOST

    @task
    def ask(self):
        outputs = self.infer("identity", {"x": np.ones((1, 16), np.float32)})
        assert outputs["y"].shape == (1, 16)

    @task
    def ask_wrongly(self):
        assert self.infer("identity", {"x": np.full((1, 16), -2000, np.float32)}, name="wrong") is None


class OverHttp(TritonHttpUser):
    host = HTTP_HOST

    @task
    def ask(self):
        self.infer("identity", {"x": np.ones((2, 16), np.float32)}, outputs=["y"])
"""


def test_classes_of_ones_own(load_server: EmbeddedTriton, tmp_path: Path) -> None:
    http_host = load_server.http_url.removeprefix("http://")
    path = write_locustfile(tmp_path, OWN_LOCUSTFILE, GRPC_HOST=load_server.grpc_url, HTTP_HOST=http_host)
    done = run_locust("-f", str(path), "--headless", "-u", "2", "-r", "2", "-t", "2s", "--json", cwd=tmp_path)
    assert done.returncode == 1  # Locust's own rule: any failed request
    assert "Traceback" not in done.stderr
    stats = stats_of(done)
    assert stats["grpc", "identity"]["num_requests"] > 0
    assert stats["grpc", "identity"]["num_failures"] == 0
    assert stats["grpc", "wrong"]["num_failures"] == stats["grpc", "wrong"]["num_requests"] > 0
    http = stats["http", "identity"]
    assert (http["num_failures"], http["total_content_length"]) == (0, http["num_requests"] * 2 * 16 * 4)
    # More than whole milliseconds reach Locust.
    assert any(entry["total_response_time"] % 1 != 0 for entry in stats.values())


def test_a_host_of_the_other_protocol_is_refused(tmp_path: Path) -> None:
    path = write_locustfile(tmp_path, OWN_LOCUSTFILE, GRPC_HOST="http://a:1", HTTP_HOST=None)
    done = run_locust("-f", str(path), "--headless", "-t", "1s", "OverGrpc", cwd=tmp_path)
    assert done.returncode != 0
    assert "OverGrpc expects a host grpc://..., got http://a:1" in done.stderr


MANY_IN_FLIGHT = """\
import numpy as np
from locust import task
from tritonforge_client import Options
from tritonforge_load.users import TritonGrpcUser


class Waiting(TritonGrpcUser):
    host = SILENT_HOST
    options = Options(retry=None, timeout_s=TIMEOUT_S)
    fixed_count = 20

    @task
    def ask(self):
        self.infer("identity", {"x": np.ones((1, 16), np.float32)}, name="waiting")


class Answered(TritonGrpcUser):
    host = HOST
    fixed_count = 1

    @task
    def ask(self):
        self.infer("identity", {"x": np.ones((1, 16), np.float32)}, name="answered")
"""


def test_an_answer_over_grpc_is_seen_while_many_older_calls_wait(load_server: EmbeddedTriton, tmp_path: Path) -> None:
    timeout_s = 2.0
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # connects, and never says a word
        silent_host = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        hosts = {"SILENT_HOST": silent_host, "HOST": load_server.grpc_url}
        path = write_locustfile(tmp_path, MANY_IN_FLIGHT, TIMEOUT_S=timeout_s, **hosts)
        done = run_locust("-f", str(path), "--headless", "-u", "21", "-r", "21", "-t", "3s", "--json", cwd=tmp_path)
    stats = stats_of(done)
    assert stats["grpc", "waiting"]["num_failures"] == stats["grpc", "waiting"]["num_requests"] >= 20
    assert stats["grpc", "answered"]["num_failures"] == 0
    assert stats["grpc", "answered"]["max_response_time"] < timeout_s * 1e3 / 2


ENDING = """\
import json, os, time
import numpy as np
from locust import events, task
from tritonforge_load.users import TritonGrpcUser


class Busy(TritonGrpcUser):
    host = GRPC_HOST

    @task
    def ask(self):
        self.infer("identity", {"x": np.ones((1, 16), np.float32)})


@events.test_stopping.add_listener
def stopping(**_):
    with open(f"{STOPPED}-{os.getpid()}", "w") as file:
        json.dump(time.time(), file)
"""


@pytest.mark.parametrize("runs", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("processes", [1, 2])
def test_grpc_runs_end_within_seconds_of_the_load(
    runs: int,
    processes: int,
    load_server: EmbeddedTriton,
    tmp_path: Path,
    unused_tcp_port: int,
    processes_of: ProcessesOf,
) -> None:
    """An open channel has kept such processes from ending for ever (grpc#20891, locust#1676)."""
    path = write_locustfile(tmp_path, ENDING, GRPC_HOST=load_server.grpc_url, STOPPED=str(tmp_path / "stopped"))
    arguments = ["-f", str(path), "--headless", "-u", "4", "-r", "4", "-t", "1s"]
    if processes > 1:
        arguments += ["--processes", str(processes), *worker_ports(unused_tcp_port)]
    took_s = []
    for _ in range(runs):
        done = run_locust(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert wait_until(lambda: not processes_of(tmp_path), timeout_s=5), processes_of(tmp_path)
        stopped = list(tmp_path.glob("stopped-*"))
        took_s.append(time.time() - min(json.loads(path.read_text()) for path in stopped))
        for path in stopped:
            path.unlink()
    assert max(took_s) < 5, took_s


class TestCampaignOption:
    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return run_locust("-f", str(LOCUSTFILE), *arguments, cwd=cwd)

    def test_headless(self, load_server: EmbeddedTriton, campaign_file: Callable[..., Path], tmp_path: Path) -> None:
        path = campaign_file(
            phases="[{name: main, users: 2, for: 500ms}]", gates='[{assert: "rate > 1/s"}, {assert: "max < 1us"}]'
        )
        done = self.run("--headless", "--campaign", str(path), "--host", load_server.grpc_url, cwd=tmp_path)
        assert done.returncode == 3
        assert "PASS" in done.stdout
        assert "FAIL" in done.stdout
        assert "one [main]" in done.stderr  # Locust's own table, by phase

    def test_with_the_web_page(
        self, load_server: EmbeddedTriton, campaign_file: Callable[..., Path], tmp_path: Path, unused_tcp_port: int
    ) -> None:
        path = campaign_file(phases="[{name: main, users: 2, for: 500ms}]", gates='[{assert: "rate > 1/s"}]')
        web = ["--autostart", "--autoquit", "0", "--web-host", "127.0.0.1", "--web-port", str(unused_tcp_port)]
        done = self.run("--campaign", str(path), "--host", load_server.http_url, *web, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "PASS" in done.stdout

    def test_a_wrong_file_is_exit_code_2(self, campaign_file: Callable[..., Path], tmp_path: Path) -> None:
        path = campaign_file(phases="[]")
        done = self.run("--headless", "--campaign", str(path), cwd=tmp_path)
        assert done.returncode == 2
        assert f"Error: {path}:5:9: phases" in done.stdout
