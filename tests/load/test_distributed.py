"""A master and workers that were started by hand, as on several machines."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_load.command import Master, worker_command
from tritonforge_load.measure import CampaignResult
from tritonforge_load.runner import run_campaign

pytestmark = [pytest.mark.triton, pytest.mark.slow]

CampaignFile = Callable[..., Path]
Listener = Callable[[Mapping[str, Any]], None]
ProcessesOf = Callable[[Path], dict[int, int]]


@contextmanager
def workers(path: Path, port: int, url: str, *, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    settings = {"target": {"url": url}}
    command = worker_command(path, settings=settings, master_host="127.0.0.1", master_port=port)
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.wait()


def run(path: Path, port: int, url: str, *, count: int, on_event: Listener = lambda _: None) -> CampaignResult:
    master = Master(count, host="127.0.0.1", port=port, wait_s=60)
    return run_campaign(path, url=url, master=master, on_event=on_event)


def test_workers_that_were_started_elsewhere_share_one_schedule(
    load_server: EmbeddedTriton, campaign_file: CampaignFile, unused_tcp_port: int, processes_of: ProcessesOf
) -> None:
    path = campaign_file(
        phases="[{name: even, arrival: constant, rate: 40/s, for: 2s}]",
        validity="{slip_p99: < 500ms, generator_cpu: < 100%}",
    )
    with workers(path, unused_tcp_port, load_server.http_url, count=2) as started:
        result = run(path, unused_tcp_port, load_server.http_url, count=2)
        assert [worker.wait(10) for worker in started] == [0, 0]  # the master's end is theirs
    (even,) = result.phase("even").runs
    assert result.problems == ()
    assert even.generator.workers == 2
    assert even.total.sent == even.generator.scheduled == 80
    assert 0 < even.generator.clock_error_s < 0.05
    assert {"generator.0.cpu_share", "generator.1.cpu_share"} <= set(result.timeline.names())
    assert processes_of(path) == {}


def test_a_worker_with_another_campaign_file_is_refused(
    load_server: EmbeddedTriton, campaign_file: CampaignFile, unused_tcp_port: int, tmp_path: Path
) -> None:
    path = campaign_file(phases="[{name: main, users: 1, for: 1s}]")
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text().replace("1s", "2s"))
    with workers(other, unused_tcp_port, load_server.http_url, count=1):
        result = run(path, unused_tcp_port, load_server.http_url, count=1)
    assert result.exit_code == 4
    assert "campaign (SHA-256): expected" in result.problems[0]
    assert "not played: main" in result.problems
    assert result.unmeasured == 0


def test_a_campaign_ends_when_all_workers_have_died(
    load_server: EmbeddedTriton, campaign_file: CampaignFile, unused_tcp_port: int, processes_of: ProcessesOf
) -> None:
    path = campaign_file(phases="[{name: first, users: 2, for: 500ms}, {name: long, users: 2, for: 60s}]")
    with workers(path, unused_tcp_port, load_server.http_url, count=1) as (worker,):

        def kill_it(event: Mapping[str, Any]) -> None:
            if event.get("run") == "long":
                worker.kill()

        result = run(path, unused_tcp_port, load_server.http_url, count=1, on_event=kill_it)
    assert result.exit_code == 4
    assert "all load generators died" in result.problems
    assert result.phase("first").total.answered > 0
    assert any("workers of the load generator were lost" in reason for reason in result.phase("long").invalid)
    assert processes_of(path) == {}
