"""The shipped locustfile in each way that Locust can be run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.locust_runs import (
    LOCUSTFILE,
    fetched,
    lines_of,
    run_locust,
    started_locust,
    stats_of,
    wait_until,
    worker_ports,
)

from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = [pytest.mark.triton, pytest.mark.slow]

ProcessesOf = Callable[[Path], dict[int, int]]

FILES = ["out_stats.csv", "out_stats_history.csv", "out_failures.csv", "out_exceptions.csv", "out.html"]


def files_in(folder: Path) -> list[str]:
    return ["--csv", str(folder / "out"), "--html", str(folder / "out.html")]


def assert_files(folder: Path, protocol: str, *, names: set[str]) -> None:
    assert {name for name in FILES if (folder / name).exists()} == set(FILES)
    assert "<html" in (folder / "out.html").read_text()
    lines = lines_of(folder / "out_stats.csv")
    assert {key for key in lines if key[0]} == {(protocol, name) for name in names}
    for key, line in lines.items():
        assert int(line["Request Count"]) > 0, key
        assert line["Failure Count"] == "0", key
        # Locust rounds its percentiles to whole milliseconds, but not the average.
        assert 0 < float(line["Average Response Time"]) < 500, key


ALL_NAMES = {"digits, 1 a request", "digits, 8 a request", "digits, prepared"}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("processes", [1, 2])
def test_headless_with_files(
    protocol: str,
    processes: int,
    load_server: EmbeddedTriton,
    tmp_path: Path,
    unused_tcp_port: int,
    processes_of: ProcessesOf,
) -> None:
    host = load_server.grpc_url if protocol == "grpc" else load_server.http_url
    arguments = ["-f", str(LOCUSTFILE), "--host", host, "--headless", "-u", "4", "-r", "4", "-t", "3s"]
    if processes > 1:
        arguments += ["--processes", str(processes), *worker_ports(unused_tcp_port)]
    done = run_locust(*arguments, *files_in(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert_files(tmp_path, protocol, names=ALL_NAMES)
    assert wait_until(lambda: not processes_of(tmp_path))


def test_master_and_workers_that_are_started_by_hand(
    load_server: EmbeddedTriton, tmp_path: Path, unused_tcp_port: int, processes_of: ProcessesOf
) -> None:
    same = ["-f", str(LOCUSTFILE), "--host", load_server.grpc_url, *worker_ports(unused_tcp_port)]
    same += ["--logfile", str(tmp_path / "log")]  # tells these processes from others
    load = ["--headless", "--expect-workers", "2", "-u", "4", "-r", "4", "-t", "3s"]
    with (
        started_locust("--worker", *same, cwd=tmp_path) as one,
        started_locust("--worker", *same, cwd=tmp_path) as other,
        started_locust("--master", *load, *same, *files_in(tmp_path), cwd=tmp_path) as master,
    ):
        ended = [process.communicate(timeout=40) for process in (master, one, other)]
        assert [process.returncode for process in (master, one, other)] == [0, 0, 0], ended
    assert_files(tmp_path, "grpc", names=ALL_NAMES)
    assert not processes_of(tmp_path)


@pytest.mark.parametrize(
    ("tag", "names"),
    [("batch", {"digits, 8 a request"}), ("single", {"digits, 1 a request", "digits, prepared"})],
)
def test_tags_choose_tasks(tag: str, names: set[str], load_server: EmbeddedTriton, tmp_path: Path) -> None:
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.http_url, "--headless", "-t", "2s", "--tags", tag]
    # A user class without a task is told of, and the others go on.
    users = [] if tag == "single" else ["BusyUser"]
    done = run_locust(*arguments, "-u", "4", "-r", "4", "--json", *users, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(stats_of(done)) == {("http", name) for name in names}


def test_weights_share_the_users(load_server: EmbeddedTriton, tmp_path: Path) -> None:
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.http_url, "--headless", "-u", "8", "-r", "8", "-t", "1s"]
    done = run_locust(*arguments, cwd=tmp_path)
    assert 'All users spawned: {"BusyUser": 6, "ThinkingUser": 2}' in done.stderr


def test_a_shape_by_name(load_server: EmbeddedTriton, tmp_path: Path) -> None:
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.http_url, "--headless", "--shape", "spike"]
    with started_locust(*arguments, "--logfile", str(tmp_path / "log"), cwd=tmp_path) as process:
        assert wait_until(lambda: "All users spawned" in (tmp_path / "log").read_text())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 0
    assert "Shape test updating to 2 users" in (tmp_path / "log").read_text()


def test_the_web_page_starts_and_stops_load(
    load_server: EmbeddedTriton, tmp_path: Path, unused_tcp_port: int, processes_of: ProcessesOf
) -> None:
    page = f"http://127.0.0.1:{unused_tcp_port}"
    web = ["--web-host", "127.0.0.1", "--web-port", str(unused_tcp_port)]
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.grpc_url, *web, "--logfile", str(tmp_path / "log")]
    with started_locust(*arguments, cwd=tmp_path) as process:
        assert wait_until(lambda: fetched(f"{page}/stats/requests")["state"] == "ready")
        for _ in range(2):
            form = {"user_count": "4", "spawn_rate": "4", "host": load_server.grpc_url}
            assert fetched(f"{page}/swarm", form)["success"]
            assert wait_until(lambda: fetched(f"{page}/stats/requests")["user_count"] == 4)
            assert wait_until(
                lambda: {entry["name"] for entry in fetched(f"{page}/stats/requests")["stats"]} > ALL_NAMES
            )
            stats = fetched(f"{page}/stats/requests")
            assert (stats["state"], stats["user_count"], stats["fail_ratio"]) == ("running", 4, 0)
            assert fetched(f"{page}/stop", {})["success"]
            assert wait_until(lambda: fetched(f"{page}/stats/requests")["state"] == "stopped")
        process.terminate()
        output = process.communicate(timeout=10)
    assert process.returncode == 0, output
    assert not processes_of(tmp_path)


def test_the_web_page_that_starts_and_ends_by_itself(
    load_server: EmbeddedTriton, tmp_path: Path, unused_tcp_port: int
) -> None:
    web = ["--web-host", "127.0.0.1", "--web-port", str(unused_tcp_port), "--autostart", "--autoquit", "0"]
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.http_url, *web, "-u", "4", "-r", "4", "-t", "2s"]
    done = run_locust(*arguments, *files_in(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_files(tmp_path, "http", names=ALL_NAMES)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_all", [False, True], ids=["to-the-first", "to-all"])
def test_signals_in_the_middle_end_everything(
    number: signal.Signals,
    processes: int,
    to_all: bool,
    load_server: EmbeddedTriton,
    tmp_path: Path,
    unused_tcp_port: int,
    processes_of: ProcessesOf,
) -> None:
    arguments = ["-f", str(LOCUSTFILE), "--host", load_server.grpc_url, "--headless", "-u", "4", "-r", "4", "-t", "60s"]
    arguments += ["--logfile", str(tmp_path / "log")]
    if processes > 1:
        arguments += ["--processes", str(processes), *worker_ports(unused_tcp_port)]
    with started_locust(*arguments, cwd=tmp_path) as process:
        # Either word: on a busy machine Locust's master does not wait for all users.
        assert wait_until(lambda: re.search("All users spawned|Spawning is complete", (tmp_path / "log").read_text()))
        assert len(processes_of(tmp_path)) == (1 if processes == 1 else 1 + processes)
        if to_all:  # as a terminal does
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        output = ended(process)
        assert wait_until(lambda: not processes_of(tmp_path), timeout_s=5)
    assert process.returncode == 0, output


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=8)
