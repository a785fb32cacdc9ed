"""The life of an embedded server: start, ports, stop, and what is left behind (nothing)."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import onnx_models

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton, ports
from tritonforge_generator.errors import PortInUseError, RepositoryError, ServerError, ServerExitedError

pytestmark = pytest.mark.triton

SHM = Path("/dev/shm")
# The configurations here are complete: looking for what to complete would cost a second a model.
quick_triton = functools.partial(EmbeddedTriton, arguments=["--disable-auto-complete-config"], stop_timeout_s=0)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    onnx_models.negation(root, "negation")
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedTriton]:
    with quick_triton(repository) as triton:
        yield triton


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for temporary files, so that what is left there can be seen."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def processes_with(text: str) -> dict[int, str]:
    """Living processes whose command line has a text."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in command and int(directory.name) != os.getpid():
                found[int(directory.name)] = command
    return found


def shared_memory_of(pid: int) -> str:
    """Pattern of the shared-memory regions of a server."""
    command = Path(f"/proc/{pid}/cmdline").read_text()
    return command.partition("shm-region-prefix-name=")[2].partition("\0")[0] + "*"


def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def assert_answers(server: EmbeddedTriton, model: str = "negation") -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    with Client(server.grpc_url) as client:
        np.testing.assert_array_equal(client.infer(model, {"x": x}).value["y"], -x)


def listening_addresses(pid: int) -> set[str]:
    """Addresses on which a process listens, as hexadecimal words of /proc/net/tcp."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                addresses.add(fields[1].partition(":")[0])
    return addresses


def test_it_answers_on_all_three_services(server: EmbeddedTriton) -> None:
    assert_answers(server)
    with urllib.request.urlopen(f"{server.http_url}/v2/health/ready", timeout=5) as reply:
        assert reply.status == 200
    with urllib.request.urlopen(server.metrics_url, timeout=5) as reply:
        assert b"nv_inference_request_success" in reply.read()


def test_it_listens_on_loopback_only(server: EmbeddedTriton) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same as a mapped IPv6 address
    addresses = listening_addresses(server.pid)
    assert addresses != set()
    assert addresses <= loopback


def test_it_is_in_a_session_of_its_own(server: EmbeddedTriton) -> None:
    assert os.getsid(server.pid) != os.getsid(0)  # so the terminal's Ctrl-C does not reach it


def test_two_servers_at_once(server: EmbeddedTriton, repository: Path) -> None:
    with quick_triton(repository) as second:
        assert second.http_url != server.http_url
        assert_answers(second)
        assert_answers(server)


@pytest.mark.parametrize("service", ["http_port", "grpc_port", "metrics_port"])
def test_a_taken_port_is_refused_before_the_start(repository: Path, service: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port: int = held.getsockname()[1]
        asked = {service: port}
        lines: list[str] = []
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is in use"):
            EmbeddedTriton(repository, on_log=lines.append, **asked).start()  # type: ignore[arg-type] # one port
        assert lines == []


def test_ports_of_a_running_server_are_not_shared(server: EmbeddedTriton, repository: Path) -> None:
    port = int(server.grpc_url.rpartition(":")[2])
    with pytest.raises(PortInUseError, match=str(port)):
        EmbeddedTriton(repository, grpc_port=port).start()


@pytest.mark.parametrize("service", [0, 1, 2], ids=["http", "grpc", "metrics"])
def test_a_port_lost_after_the_check_is_replaced(
    repository: Path, monkeypatch: pytest.MonkeyPatch, service: int
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        taken: int = held.getsockname()[1]
        real, calls = ports.choose_ports, []

        def lose_the_first(host: str, requested: tuple[int | None, int | None, int | None]) -> tuple[int, int, int]:
            chosen = real(host, requested)
            calls.append(chosen)
            if len(calls) > 1:
                return chosen
            http, grpc, metrics = (taken if number == service else port for number, port in enumerate(chosen))
            return http, grpc, metrics

        monkeypatch.setattr(ports, "choose_ports", lose_the_first)
        with quick_triton(repository) as triton:
            assert len(calls) == 2
            assert_answers(triton)


def test_a_port_out_of_range_is_refused(repository: Path) -> None:
    with pytest.raises(ServerError, match=r"expected 1 to 65535, or None for a free one, got 70000"):
        EmbeddedTriton(repository, http_port=70000).start()


def test_one_port_for_two_services_is_refused(repository: Path) -> None:
    with pytest.raises(ServerError, match="port 8000 was given twice"):
        EmbeddedTriton(repository, http_port=8000, grpc_port=8000).start()


def test_an_address_of_another_machine_is_refused(repository: Path) -> None:
    with pytest.raises(ServerError, match=r"cannot listen on 192\.0\.2\.1"):
        EmbeddedTriton(repository, host="192.0.2.1").start()


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="expected a folder of models, got nothing there"):
        EmbeddedTriton(tmp_path / "missing").start()


def test_load_models_needs_explicit_control(repository: Path) -> None:
    with pytest.raises(ServerError, match='expected model_control_mode="explicit", got "none"'):
        EmbeddedTriton(repository, load_models=["negation"]).start()


def test_an_argument_that_the_server_does_not_know(repository: Path, scratch: Path) -> None:
    with pytest.raises(ServerExitedError, match="--no-such-option"):
        EmbeddedTriton(repository, arguments=["--no-such-option"]).start()
    assert list(scratch.iterdir()) == []


def test_a_server_that_is_not_ready_in_time(repository: Path, scratch: Path) -> None:
    with pytest.raises(ServerError, match=r"expected all models loaded within 0\.05 s"):
        quick_triton(repository, ready_timeout_s=0.05).start()
    assert list(scratch.iterdir()) == []
    assert processes_with(str(scratch)) == {}


def test_no_process_id_before_the_start(repository: Path) -> None:
    with pytest.raises(ServerError, match="not running"):
        _ = EmbeddedTriton(repository).pid


def test_a_second_start_is_refused(server: EmbeddedTriton) -> None:
    with pytest.raises(ServerError, match="running already"):
        server.start()


def test_a_clean_stop_leaves_nothing(tmp_path: Path, repository: Path, scratch: Path) -> None:
    lines: list[str] = []
    triton = EmbeddedTriton(repository, on_log=lines.append)
    with triton:
        pid = triton.pid
        assert_answers(triton)
        assert len(list(scratch.iterdir())) == 1
        regions = shared_memory_of(pid)
        assert list(SHM.glob(regions)) != []
        supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert any("All models are stopped, unloading models" in line for line in lines)
    assert lines[-50:] == triton.log[-50:]
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{supervisor}").exists()  # no zombie either
    assert processes_with(str(scratch)) == {}
    assert list(scratch.iterdir()) == []
    assert list(SHM.glob(regions)) == []
    triton.stop()  # a second stop does nothing


def test_it_can_be_started_again(repository: Path) -> None:
    triton = quick_triton(repository)
    for _ in range(2):
        with triton:
            assert_answers(triton)


def test_wait_tells_how_the_server_ended(repository: Path, scratch: Path) -> None:
    with EmbeddedTriton(repository) as triton:
        with pytest.raises(TimeoutError):
            triton.wait(0.01)
        os.kill(triton.pid, signal.SIGKILL)
        assert triton.wait(10) == 128 + signal.SIGKILL
        assert not triton.running
        wait_until(lambda: processes_with(str(scratch)) == {})
        assert list(scratch.iterdir()) == []


def test_a_failing_log_callback_does_not_stop_the_server(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(line: str) -> None:
        raise ValueError(line)

    with quick_triton(repository, on_log=fail) as triton:
        assert_answers(triton)
    assert len([record for record in caplog.records if "on_log failed" in record.message]) == 1


def test_paths_with_blanks_and_quotes(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "it's a $HOME & more"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    onnx_models.negation(odd, "negation_there")
    with quick_triton([odd, repository]) as triton:  # several repositories too
        assert_answers(triton, "negation_there")
        assert_answers(triton)


def test_poll_mode_picks_up_a_second_version(tmp_path: Path) -> None:
    directory = onnx_models.negation(tmp_path, "changing")
    x = np.array([[4, 9, 16, 25]], np.float32)
    with (
        quick_triton(tmp_path, model_control_mode="poll", repository_poll_s=1) as triton,
        Client(triton.grpc_url) as client,
    ):
        np.testing.assert_array_equal(client.infer("changing", {"x": x}).value["y"], -x)
        onnx_models.negated(tmp_path.parent / "staged" / "model.onnx", op_type="Sqrt").parent.rename(directory / "2")
        wait_until(lambda: client.infer("changing", {"x": x}).model_version == "2")
        np.testing.assert_array_equal(client.infer("changing", {"x": x}).value["y"], np.sqrt(x))


PARENT = """
    import sys, time
    from tritonforge_generator.deploy import EmbeddedTriton
    with EmbeddedTriton(sys.argv[1]) as server:
        print(server.pid, flush=True)
        {then}
"""


@contextlib.contextmanager
def parent_of_a_server(repository: Path, then: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with a running server; gives the process and the server's process id."""
    code = textwrap.dedent(PARENT).format(then=then)
    with subprocess.Popen([sys.executable, "-c", code, str(repository)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            yield parent, int(parent.stdout.readline())
        finally:
            parent.kill()


def test_it_dies_with_its_parent_even_after_kill_9(repository: Path, scratch: Path) -> None:
    with parent_of_a_server(repository, "time.sleep(120)") as (parent, pid):
        regions = shared_memory_of(pid)
        assert list(SHM.glob(regions)) != []
        assert len(processes_with(str(scratch))) >= 3  # supervisor, server, stub
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: processes_with(str(scratch)) == {})
        assert not Path(f"/proc/{pid}").exists()
        wait_until(lambda: list(scratch.iterdir()) == [])
        assert list(SHM.glob(regions)) == []


def test_it_dies_with_its_supervisor(repository: Path, scratch: Path) -> None:
    with parent_of_a_server(repository, "sys.exit(server.wait(60))") as (parent, pid):
        supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        regions = shared_memory_of(pid)
        os.kill(supervisor, signal.SIGKILL)
        assert parent.wait(20) != 0
        wait_until(lambda: processes_with(str(scratch)) == {})
        assert list(scratch.iterdir()) == []
        assert list(SHM.glob(regions)) == []


def test_it_survives_the_thread_that_started_it(repository: Path) -> None:
    triton = quick_triton(repository)
    thread = threading.Thread(target=triton.start)
    thread.start()
    thread.join()
    try:
        time.sleep(0.5)
        assert_answers(triton)
    finally:
        triton.stop()


def test_interrupt_stops_it_cleanly(repository: Path, scratch: Path) -> None:
    with parent_of_a_server(repository, "server.wait()") as (parent, pid):
        parent.send_signal(signal.SIGINT)
        assert parent.wait(20) != 0  # KeyboardInterrupt went through the with block
        assert not Path(f"/proc/{pid}").exists()
        assert processes_with(str(scratch)) == {}
        assert list(scratch.iterdir()) == []
