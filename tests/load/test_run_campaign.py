from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import SpecError
from tritonforge_load.errors import LoadError
from tritonforge_load.events import text_from_event
from tritonforge_load.measure import CampaignResult, dict_from_result, read_result
from tritonforge_load.runner import run_campaign

pytestmark = pytest.mark.triton

CampaignFile = Callable[..., Path]
ProcessesOf = Callable[[Path], dict[int, int]]


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def requests_and_rows(server: EmbeddedTriton, model: str = "identity") -> tuple[int, int]:
    """Successful requests and rows by the server's own count."""
    with Client(server.grpc_url) as client:
        (entry,) = client.statistics(model)
        return entry.inference_stats.success.count, entry.inference_count


def counts_of(result: CampaignResult) -> tuple[int, int]:
    return sum(phase.total.sent for phase in result.phases), sum(phase.total.failed for phase in result.phases)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_counts_are_the_servers_own(
    protocol: str, load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
) -> None:
    url = load_server.grpc_url if protocol == "grpc" else load_server.http_url
    before, _ = requests_and_rows(load_server)
    events: list[Mapping[str, Any]] = []
    path = campaign_file(gates='[{assert: "errors <= 0%"}, {assert: "p99 < 2s"}, {assert: "rate >= 20/s"}]')
    result = run_campaign(path, url=url, on_event=events.append)
    after, _ = requests_and_rows(load_server)

    assert result.exit_code == 0, events
    assert all(gate.passed for gate in result.gates)
    assert [text_from_event(event) for event in events if event["event"] == "phase"] == [
        "phase warm: closed, 1 user, 0.3 s, not measured", "phase main: closed, 3 users, 1 s",
    ]  # fmt: skip
    sent, failed = counts_of(result)
    assert failed == 0
    assert sent > 20
    assert result.unmeasured > 0
    assert sent + result.unmeasured == after - before
    assert processes_of(path) == {}

    main = result.phase("main")
    one, four = main.row("one"), main.row("four")
    assert one.sent + four.sent == main.total.sent
    assert (one.cell.rows, four.cell.rows) == (one.sent, 4 * four.sent)
    # Weights 1 and 0.5: two of three requests. Four standard deviations of that share.
    assert one.sent / sent == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / sent))
    # Three users one after the other: their time is that of their requests and some of their own.
    assert 0.8 < main.total.mean_ms * sent / 1e3 < 3.1
    assert 0 < main.total.percentile_ms(50) <= main.total.percentile_ms(99) <= main.total.max_ms


def test_a_failing_gate_is_exit_code_3_and_outputs_are_written(
    load_server: EmbeddedTriton, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    path = campaign_file(
        phases="[{name: main, users: 1, for: 500ms}]",
        gates='[{assert: "p50 < 1us"}, {assert: "errors < 20%"}]',
        outputs="{dir: results, formats: [json, csv]}",
    )
    result = run_campaign(path, url=load_server.http_url)
    assert result.exit_code == 3
    assert [gate.verdict for gate in result.gates] == ["fail", "pass"]
    assert "is not < 0.001 ms" in result.gates[0].reason

    told = json.loads((tmp_path / "results" / "short.json").read_text())
    assert told == dict_from_result(result)
    assert read_result(tmp_path / "results" / "short.json").phase("main").total.sent == result.phase("main").total.sent
    with (tmp_path / "results" / "short.csv").open(newline="") as file:
        assert [line["workload"] for line in csv.DictReader(file)] == ["one", "four", "*"]


def test_failed_requests_are_counted_by_class_and_not_timed(
    load_server: EmbeddedTriton, campaign_file: CampaignFile, tmp_path: Path
) -> None:
    rows = np.zeros((4, 16), np.float32)
    rows[3] = -2000  # the model refuses this one
    np.savez(tmp_path / "rows.npz", x=rows)
    path = campaign_file(
        workload="[{name: one, model: identity, inputs: {x: {file: rows.npz}}, "
        "check: {sample: 100%, output: y, golden: {file: rows.npz, key: x}}}]",
        gates='[{assert: "errors < 10%"}, {assert: "correct(one) >= 100%"}]',
    )
    result = run_campaign(path, url=load_server.grpc_url)
    row = result.phase("main").row("one")
    assert list(row.errors) == ["ServerError"]
    assert row.error_share == pytest.approx(0.25, abs=0.12)
    assert row.checked == row.answered == row.cell.latency.count
    assert row.correct_share == 1.0
    assert [gate.passed for gate in result.gates] == [False, True]


def test_several_workers_merge_their_counts_and_leave_no_orphan(
    load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
) -> None:
    path = campaign_file(workers="2", phases="[{name: main, users: 4, for: 1s}, {name: fewer, users: 1, for: 500ms}]")
    before, _ = requests_and_rows(load_server)
    result = run_campaign(path, url=load_server.grpc_url)
    after, _ = requests_and_rows(load_server)
    assert result.problems == ()
    sent, failed = counts_of(result)
    assert failed == 0
    assert sent + result.unmeasured == after - before
    assert processes_of(path) == {}


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_open_arrivals_are_sent_as_scheduled(
    workers: str, load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
) -> None:
    path = campaign_file(
        workers=workers,
        phases="[{name: warm, users: 4, for: 200ms, measure: false}, {name: single, users: 1, for: 200ms}, "
        "{name: even, arrival: constant, rate: 50/s, for: 2s}, "
        "{name: bursts, arrival: gamma, rate: 60/s, shape: 0.3, for: 1s}, "
        "{name: ramp, arrival: curve, points: [[0s, 0/s], [2s, 80/s]]}, {name: closed, users: 2, for: 1s}]",
        validity="{slip_p99: < 200ms, generator_cpu: < 100%}",
    )
    before, _ = requests_and_rows(load_server)
    result = run_campaign(path, url=load_server.http_url)
    after, _ = requests_and_rows(load_server)
    assert result.problems == ()
    assert sum(phase.total.sent for phase in result.phases) + result.unmeasured == after - before
    even = result.phase("even").runs[0]
    assert even.generator.scheduled == even.total.sent == 100  # 50/s for 2 s, whatever the number of workers
    assert even.generator.workers == int(workers)
    assert even.total.cell.slip.count == 100
    assert even.total.percentile_ms(50) >= even.total.service_ms(50)
    ramp = result.phase("ramp").runs[0]
    assert ramp.total.sent == ramp.generator.scheduled
    by_second = {second: it.latency.count for second, it in ramp.total.cell.seconds.items()}
    assert by_second.get(1, 0) > by_second.get(0, 0)  # a quarter of the arrivals is due in the first second
    assert result.phase("closed").total.cell.slip.count == 0
    assert processes_of(path) == {}


@pytest.mark.slow
def test_a_trace_is_replayed(load_server: EmbeddedTriton, campaign_file: CampaignFile, tmp_path: Path) -> None:
    (tmp_path / "arrivals.csv").write_text("time_s,workload\n" + "".join(f"{i * 0.1},four\n" for i in range(21)))
    path = campaign_file(phases="[{name: replay, arrival: trace, file: arrivals.csv, speed: 2}]")
    result = run_campaign(path, url=load_server.grpc_url)
    replay = result.phase("replay")
    assert replay.duration_s == pytest.approx(1.0)
    assert (replay.row("one").sent, replay.row("four").sent) == (0, 21)


def test_a_search_finds_where_the_server_stops_holding(
    load_server: EmbeddedTriton, campaign_file: CampaignFile
) -> None:
    events: list[Mapping[str, Any]] = []
    path = campaign_file(
        phases="[{name: peak, search: {over: users, from: 1, to: 4, step_for: 1s, confirm: 1, precision: 50%, "
        'until: ["rate < 100000/s", "errors < 50%"]}}]',
        gates='[{where: peak, assert: "max_users >= 4"}]',
    )
    result = run_campaign(path, url=load_server.grpc_url, on_event=events.append)
    search = result.phase("peak").search
    assert search is not None
    assert (search.found, search.is_limit) == (4, False)
    assert [step.load for step in search.steps] == [1, 2, 4, 4]
    assert [event["load"] for event in events if event["event"] == "search"] == [1, 2, 4, 4]
    assert result.exit_code == 0


def test_the_servers_side_is_seen(load_server: EmbeddedTriton, campaign_file: CampaignFile) -> None:
    path = campaign_file(phases="[{name: main, users: 2, for: 2s}]", observe="{every: 500ms}")
    settings = {"target": {"url": load_server.grpc_url, "metrics": load_server.metrics_url}}
    result = run_campaign(path, settings=settings)
    (run,) = result.phase("main").runs
    (facts,) = run.models
    # Requests of half a second before the run began and of the moment after it are the server's too.
    assert run.total.answered <= facts.requests <= run.total.answered * 1.5 + 50
    assert facts.requests <= facts.rows <= 4 * facts.requests
    assert 0 <= facts.queue_share <= 1
    names = result.timeline.names()
    assert {"model.identity.rate_per_s", "server.cpu_share", "generator.0.cpu_share"} <= set(names)
    assert "gpu" in result.timeline.absent


class TestRefusals:
    def test_unwritable_outputs_before_load(self, load_server: EmbeddedTriton, campaign_file: CampaignFile) -> None:
        before, _ = requests_and_rows(load_server)
        with pytest.raises(LoadError, match="/proc/none: outputs cannot be written"):
            run_campaign(campaign_file(), url=load_server.grpc_url, out=Path("/proc/none"))
        assert requests_and_rows(load_server)[0] == before

    @pytest.mark.parametrize("protocol", ["grpc", "http"])
    def test_server_not_there(self, protocol: str, campaign_file: CampaignFile) -> None:
        path = campaign_file(target=f'{{url: "{protocol}://127.0.0.1:9", wait_ready: 300ms}}')
        with pytest.raises(LoadError, match=r"127\.0\.0\.1:9"):
            run_campaign(path)

    def test_model_not_there(self, load_server: EmbeddedTriton, campaign_file: CampaignFile) -> None:
        path = campaign_file(
            workload="[{name: one, model: nowhere}]", target='{url: "grpc://127.0.0.1:9", wait_ready: 300ms}'
        )
        with pytest.raises(LoadError, match="nowhere"):
            run_campaign(path, url=load_server.grpc_url)

    def test_input_that_does_not_fit(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
    ) -> None:
        path = campaign_file(workload="[{name: one, model: identity, batch: 9}]")
        with pytest.raises(SpecError, match=r"workload 'one': batch: expected at most 8 \(max_batch_size\), got 9"):
            run_campaign(path, url=load_server.grpc_url)
        assert processes_of(path) == {}


@pytest.mark.slow
class TestEnds:
    """However a run ends, nothing of it stays."""

    LONG = "[{name: main, users: 2, for: 60s}]"

    def start(self, path: Path, url: str, *, awaited: str = "'run': 'main'") -> subprocess.Popen[str]:
        code = (
            "import sys; from pathlib import Path; from tritonforge_load.runner import run_campaign\n"
            "print(run_campaign(Path(sys.argv[1]), url=sys.argv[2], on_event=lambda event: print(event, flush=True)))"
        )
        started = subprocess.Popen(
            [sys.executable, "-c", code, str(path), url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert started.stdout is not None
        assert any(awaited in line for line in started.stdout)
        return started

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_ctrl_c(
        self, workers: str, load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
    ) -> None:
        path = campaign_file(phases=self.LONG, workers=workers)
        started = self.start(path, load_server.grpc_url)
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=15)
        assert started.returncode != 0
        assert "KeyboardInterrupt" in errors
        assert processes_of(path) == {}

    def test_ctrl_c_leaves_what_was_measured_until_then(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, tmp_path: Path
    ) -> None:
        path = campaign_file(
            phases="[{name: first, users: 1, for: 500ms}, {name: main, users: 2, for: 60s}]",
            outputs="{dir: results, formats: [json]}",
            gates='[{where: first, assert: "errors <= 0%"}, {where: main, assert: "p50 < 1us"}]',
        )
        started = self.start(path, load_server.grpc_url, awaited="'run': 'main'")
        time.sleep(1)
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=15)
        result = read_result(tmp_path / "results" / "short.json")
        assert "the campaign was stopped before its end" in result.problems
        assert result.phase("first").total.answered > 0
        assert result.phase("main").total.answered > 0
        assert result.phase("main").invalid[0] == "it was not played to its end"
        assert [gate.verdict for gate in result.gates] == ["pass", "invalid"]

    def test_the_death_of_the_parent(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
    ) -> None:
        path = campaign_file(phases=self.LONG, workers="2")
        started = self.start(path, load_server.grpc_url)
        started.kill()
        started.communicate()
        assert wait_until(lambda: processes_of(path) == {})

    def test_the_death_of_the_load_generator(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
    ) -> None:
        path = campaign_file(phases=self.LONG)
        started = self.start(path, load_server.grpc_url)
        (locust,) = [pid for pid, parent in processes_of(path).items() if parent == started.pid]
        os.kill(locust, signal.SIGKILL)
        _, errors = started.communicate(timeout=15)
        assert "LoadError: the load generator ended without a result, with exit code -9" in errors
        assert processes_of(path) == {}

    def test_the_death_of_a_worker_is_told(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, processes_of: ProcessesOf
    ) -> None:
        path = campaign_file(phases="[{name: main, users: 2, for: 4s}]", workers="2")
        victims: list[int] = []

        def kill_one(event: Mapping[str, Any]) -> None:
            if event["event"] == "phase":
                workers = [pid for pid, parent in processes_of(path).items() if parent != os.getpid()]
                os.kill(workers[0], signal.SIGKILL)
                victims.append(workers[0])

        result = run_campaign(path, url=load_server.grpc_url, on_event=kill_one)
        assert len(victims) == 1
        assert result.phase("main").invalid[0].startswith("1 of 2 workers of the load generator were lost")
        assert result.exit_code == 4
        assert result.phase("main").total.answered > 0
        assert processes_of(path) == {}
