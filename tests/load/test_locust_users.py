"""Locust used as Locust users use it: its own command line, our classes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

ProcessesOf = Callable[[Path], dict[int, int]]
LOCUSTFILE = Path(__file__).parents[2] / "load_tests" / "locustfile.py"

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


def locust(*arguments: str, cwd: Path, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)


def wait_until_empty(find: Callable[[], object], *, timeout_s: float = 5.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while find() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not find()


def lines_of(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as file:
        return {(line["Type"], line["Name"]): line for line in csv.DictReader(file)}


def stats_of(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """What ``--json`` printed: Locust's own final counts."""
    return {(entry["method"], entry["name"]): entry for entry in json.loads(done.stdout)}


@pytest.mark.parametrize("processes", [1, 2])
def test_the_locustfile_needs_only_a_host(
    processes: int, load_server: EmbeddedTriton, tmp_path: Path, unused_tcp_port: int, processes_of: ProcessesOf
) -> None:
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.grpc_url, "--headless", "-u", "2", "-r", "2", "-t", "3s"]
    arguments += ["--csv", str(tmp_path / "out"), "--html", str(tmp_path / "out.html")]
    if processes > 1:
        port = str(unused_tcp_port)
        arguments += ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]
    done = locust(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(tmp_path / "out_stats.csv")
    single = lines["grpc", "digits, 1 a request"]
    assert int(single["Request Count"]) > 20
    assert single["Failure Count"] == "0"
    # Locust rounds its percentiles to whole milliseconds, but not the average.
    assert 0 < float(single["Average Response Time"]) < 100
    assert int(lines["grpc", "digits, 8 a request"]["Request Count"]) > 0
    assert (tmp_path / "out.html").stat().st_size > 0
    assert wait_until_empty(lambda: processes_of(tmp_path))


def test_tags_choose_tasks(load_server: EmbeddedTriton, tmp_path: Path) -> None:
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.http_url, "--headless", "-t", "2s", "--tags", "batch"]
    done = locust(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(stats_of(done)) == {("http", "digits, 8 a request")}


def test_classes_of_ones_own(load_server: EmbeddedTriton, tmp_path: Path) -> None:
    locustfile = tmp_path / "locustfile.py"
    hosts = {"GRPC_HOST": load_server.grpc_url, "HTTP_HOST": load_server.http_url.removeprefix("http://")}
    text = OWN_LOCUSTFILE
    for name, host in hosts.items():
        text = text.replace(name, repr(host))
    locustfile.write_text(text)
    done = locust("-f", str(locustfile), "--headless", "-u", "2", "-r", "2", "-t", "2s", "--json", cwd=tmp_path)
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
    locustfile = tmp_path / "locustfile.py"
    locustfile.write_text(OWN_LOCUSTFILE.replace("GRPC_HOST", "'http://a:1'").replace("HTTP_HOST", "None"))
    done = locust("-f", str(locustfile), "--headless", "-t", "1s", "OverGrpc", cwd=tmp_path)
    assert done.returncode != 0
    assert "OverGrpc expects a host grpc://..., got http://a:1" in done.stderr


class TestCampaignOption:
    def test_headless(self, load_server: EmbeddedTriton, campaign_file: Callable[..., Path], tmp_path: Path) -> None:
        path = campaign_file(
            phases="[{name: main, users: 2, for: 500ms}]", gates='[{assert: "errors < 1%"}, {assert: "p50 < 1us"}]'
        )
        arguments = ["-f", str(LOCUSTFILE), "--headless", "--campaign", str(path), "--host", load_server.grpc_url]
        done = locust(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "PASS" in done.stdout
        assert "FAIL" in done.stdout
        assert "one [main]" in done.stderr  # Locust's own table, by phase

    def test_with_the_web_page(
        self, load_server: EmbeddedTriton, campaign_file: Callable[..., Path], tmp_path: Path, unused_tcp_port: int
    ) -> None:
        path = campaign_file(phases="[{name: main, users: 2, for: 500ms}]", gates='[{assert: "errors < 1%"}]')
        arguments = ["-f", str(LOCUSTFILE), "--campaign", str(path), "--host", load_server.http_url]
        arguments += ["--autostart", "--autoquit", "0", "--web-host", "127.0.0.1", "--web-port", str(unused_tcp_port)]
        done = locust(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "PASS" in done.stdout

    def test_a_wrong_file_is_exit_code_2(self, campaign_file: Callable[..., Path], tmp_path: Path) -> None:
        path = campaign_file(phases="[]")
        done = locust("-f", str(LOCUSTFILE), "--headless", "--campaign", str(path), cwd=tmp_path)
        assert done.returncode == 2
        assert f"Error: {path}:5:9: phases" in done.stdout
