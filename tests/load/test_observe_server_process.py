"""Memory of the real server's processes, found by the port that it listens on."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_load.observe import ServerObserver, timeline
from tritonforge_load.observe.process import resident_bytes
from tritonforge_load.observe.server_process import ServerProcess

KIND = "server.process_memory"
NAME = f"{KIND}_bytes"


def process_of(url: str) -> ServerProcess:
    host, _, port = url.partition("://")[2].rpartition(":")
    return ServerProcess(host, int(port))


def children_of(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_server_and_the_processes_of_its_models_are_counted_together(
    load_server: EmbeddedTriton, protocol: str
) -> None:
    url = load_server.grpc_url if protocol == "grpc" else load_server.http_url
    children = children_of(load_server.pid)
    assert len(children) >= 2, "two models of the python backend have a process each"
    reading = process_of(url).sample()
    expected = sum(resident_bytes(pid) for pid in (load_server.pid, *children))
    assert reading.absent == {}
    assert reading.values[NAME] == pytest.approx(expected, rel=0.01)


@pytest.mark.triton
def test_it_is_on_the_time_line_of_the_observer(load_server: EmbeddedTriton) -> None:
    process = process_of(load_server.grpc_url)
    with Client(load_server.grpc_url) as client:
        observer = ServerObserver(client, [], metrics_url=None, process=process)
        assert observer.sample(1.0)[NAME] > 1 << 20
    assert KIND not in observer.absent
    assert f"``{NAME}``" in str(timeline.__doc__)
    assert re.search(rf"``{KIND}``", str(timeline.__doc__))


@pytest.mark.triton
def test_a_server_that_has_ended_is_absent_and_found_again_when_it_is_back(tmp_path: Path) -> None:
    with EmbeddedTriton(tmp_path, stop_timeout_s=0.0) as server:
        process = process_of(server.grpc_url)
        alone = process.sample().values[NAME]
        port = int(server.grpc_url.rpartition(":")[2])
        os.kill(server.pid, signal.SIGKILL)
        server.wait(10.0)
        assert "listens on port" in process.sample().absent[KIND]
    with EmbeddedTriton(tmp_path, grpc_port=port, stop_timeout_s=0.0):
        assert process.sample().values[NAME] == pytest.approx(alone, rel=0.5)


def test_a_port_that_nobody_listens_on_says_so(unused_tcp_port: int) -> None:
    reason = ServerProcess("127.0.0.1", unused_tcp_port).sample().absent[KIND]
    assert f"listens on port {unused_tcp_port}" in reason


def test_another_program_is_not_taken_for_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reading = ServerProcess("127.0.0.1", listening.getsockname()[1]).sample()
    assert reading.values == {}
    assert reading.absent[KIND].endswith("no tritonserver")


def test_a_server_elsewhere_is_not_looked_for() -> None:
    assert ServerProcess("192.0.2.1", 8001).sample().absent == {KIND: "the server is on 192.0.2.1, not on this host"}
