"""``tritonforge load`` as a user types it: output, exit codes, and errors that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.command_line import tritonforge

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_load.measure import (
    CampaignResult,
    Cell,
    GateResult,
    PhaseResult,
    RunResult,
    WorkloadResult,
    json_from_result,
    read_result,
)

CampaignFile = Callable[..., Path]
SHIPPED = Path(__file__).parents[2] / "load_tests" / "campaigns"


def result_of(latency_ms: float, *, gates: tuple[GateResult, ...] = (), seed: int = 1) -> CampaignResult:
    """30 s at about 50 requests a second, whose latency varies by a tenth."""
    draw = np.random.default_rng(seed)
    cell = Cell()
    for second in range(30):
        for value in draw.normal(latency_ms, latency_ms / 10, draw.poisson(50)):
            cell.record(second, round(max(value, 0.01) * 1e6), 1, None)
    run = RunResult("steady", "closed", 2, None, 1.0, 30.0, (WorkloadResult("one", 30.0, cell),))
    return CampaignResult("made", "grpc://127.0.0.1:8001", (PhaseResult("steady", (run,)),), gates=gates)


def write_result(path: Path, result: CampaignResult) -> Path:
    path.write_text(json_from_result(result))
    return path


class TestCheck:
    def test_shipped_campaigns_are_well(self, tmp_path: Path) -> None:
        done = tritonforge(tmp_path, "load", "check", *(str(path) for path in SHIPPED.glob("*.yaml")))
        assert done.returncode == 0, done.stdout
        assert done.stdout.count(": ok\n") == len(list(SHIPPED.glob("*.yaml")))

    def test_every_file_is_told_and_one_that_is_wrong_exits_2(self, campaign_file: CampaignFile) -> None:
        right = campaign_file()
        wrong = right.with_name("wrong.yaml")
        wrong.write_text(right.read_text().replace("users: 3", "users: 0"))
        absent = right.with_name("absent.yaml")
        absent.write_text(right.read_text().replace("model: identity}", "model: identity, inputs: {x: {file: y.npz}}}"))
        done = tritonforge(right.parent, "load", "check", right.name, wrong.name, absent.name, "none.yaml")
        assert done.returncode == 2
        assert f"{right.name}: ok" in done.stdout
        assert "wrong.yaml: FAILED" in done.stdout
        assert "phases[1].users" in done.stdout
        assert "y.npz: cannot be read" in done.stdout
        assert "none.yaml: FAILED" in done.stdout

    def test_json_is_for_programs(self, campaign_file: CampaignFile) -> None:
        path = campaign_file(baseline="before.json")
        told = json.loads(tritonforge(path.parent, "load", "check", path.name, "--json").stdout)
        assert told["campaigns"][path.name]["models"] == []
        assert "before.json: no such file" in told["campaigns"][path.name]["problems"][0]

    def test_a_server_that_is_not_there_exits_1(self, campaign_file: CampaignFile) -> None:
        path = campaign_file(target='{url: "grpc://127.0.0.1:9", wait_ready: 200ms}')
        done = tritonforge(path.parent, "load", "check", path.name, "--url", "grpc://127.0.0.1:9")
        assert done.returncode == 1
        assert "grpc://127.0.0.1:9" in done.stderr

    @pytest.mark.triton
    def test_models_are_asked_and_nothing_is_sent(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile
    ) -> None:
        path = campaign_file()
        with Client(load_server.grpc_url) as client:
            (before,) = client.statistics("identity")
            done = tritonforge(path.parent, "load", "check", path.name, "--url", load_server.grpc_url)
            (after,) = client.statistics("identity")
        assert done.returncode == 0, done.stdout
        assert "workload 'four': 32 requests for 'identity'" in done.stdout
        assert after.inference_count == before.inference_count

    @pytest.mark.triton
    def test_models_that_do_not_fit_are_all_named(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile
    ) -> None:
        path = campaign_file(
            workload="[{name: many, model: identity, batch: 64}, {name: lost, model: absent}]",
            target='{url: "grpc://127.0.0.1:9", wait_ready: 300ms}',
        )
        done = tritonforge(path.parent, "load", "check", path.name, "--url", load_server.grpc_url)
        assert done.returncode == 2
        assert "expected at most 8 (max_batch_size), got 64" in done.stdout
        assert "workload 'lost': model 'absent'" in done.stdout


class TestPlan:
    def test_shows_phases_gates_and_time(self, campaign_file: CampaignFile) -> None:
        path = campaign_file(
            phases="[{name: steady, arrival: constant, rate: 50/s, for: 10s}]", gates="[{assert: 'p99 < 1s'}]"
        )
        done = tritonforge(path.parent, "load", "plan", path.name)
        assert done.returncode == 0, done.stdout
        assert "500 requests expected, 299 needed" in done.stdout
        assert "about 10 s, by 1 process" in done.stdout

    def test_says_how_much_memory_values_take_at_most_where_the_model_says_how_large_they_are(
        self, campaign_file: CampaignFile
    ) -> None:
        path = campaign_file(workload="[{name: a, model: m, inputs: {x: {random: normal}}}]", workers="3")
        done = tritonforge(path.parent, "load", "plan", path.name)
        assert "payloads take at most 12,288.0 MiB in all processes: more is refused" in done.stdout

    def test_a_gate_that_cannot_be_decided_exits_5(self, campaign_file: CampaignFile) -> None:
        path = campaign_file(
            phases="[{name: steady, arrival: constant, rate: 50/s, for: 10s}]", gates="[{assert: 'p99.9 < 1s'}]"
        )
        assert tritonforge(path.parent, "load", "plan", path.name).returncode == 5
        longer = tritonforge(path.parent, "load", "plan", path.name, "--set", "phases.steady.for=2m")
        assert longer.returncode == 0, longer.stdout

    def test_what_is_missing_exits_2(self, campaign_file: CampaignFile) -> None:
        path = campaign_file(baseline="before.json")
        done = tritonforge(path.parent, "load", "plan", path.name)
        assert done.returncode == 2
        assert "PROBLEM baseline: " in done.stdout

    def test_json_is_for_programs(self, campaign_file: CampaignFile) -> None:
        path = campaign_file()
        told = json.loads(tritonforge(path.parent, "load", "plan", path.name, "--json").stdout)
        assert [phase["name"] for phase in told["phases"]] == ["warm", "main"]

    @pytest.mark.parametrize(
        ("setting", "told"),
        [
            ("phases.stedy.for=2m", "expected one of warm, main, got 'stedy'"),
            ("phases.main.for=2", "phases[1].for: expected a duration"),
            ("phases", "expected KEY=YAML, for example phases.steady.for=5s"),
            ("target.uri=x", "unknown key 'uri'"),
            ("target=5", "--set target: set its keys"),
        ],
    )
    def test_settings_that_are_wrong_exit_2(self, campaign_file: CampaignFile, setting: str, told: str) -> None:
        path = campaign_file()
        done = tritonforge(path.parent, "load", "plan", path.name, "--set", setting)
        assert done.returncode == 2
        assert told in done.stderr


class TestCompare:
    @pytest.mark.parametrize(("after_ms", "exit_code"), [(10.0, 0), (20.0, 3), (5.0, 0)])
    def test_worse_exits_3(self, tmp_path: Path, after_ms: float, exit_code: int) -> None:
        write_result(tmp_path / "a.json", result_of(10.0))
        write_result(tmp_path / "b.json", result_of(after_ms, seed=2))
        done = tritonforge(tmp_path, "load", "compare", "a.json", "b.json", "--percentile", "50")
        assert done.returncode == exit_code, done.stdout
        assert "steady" in done.stdout
        assert "p95" not in done.stdout

    def test_json_has_the_verdict_and_no_nan(self, tmp_path: Path) -> None:
        write_result(tmp_path / "a.json", result_of(10.0))
        write_result(tmp_path / "b.json", result_of(20.0, seed=2))
        text = tritonforge(tmp_path, "load", "compare", "a.json", "b.json", "--json").stdout
        told = json.loads(text, parse_constant=pytest.fail)
        assert told["verdict"] == "worse"
        assert {change["metric"] for change in told["changes"]} >= {"rate", "p50", "p99"}

    def test_what_is_no_result_exits_2(self, tmp_path: Path) -> None:
        write_result(tmp_path / "a.json", result_of(10.0))
        (tmp_path / "b.json").write_text("[]")
        done = tritonforge(tmp_path, "load", "compare", "a.json", "b.json")
        assert done.returncode == 2
        assert "b.json: expected the JSON output of a campaign" in done.stderr
        assert tritonforge(tmp_path, "load", "compare", "a.json", "c.json").returncode == 2


class TestReport:
    GATE = GateResult("steady", "p99 < 1ms", "fail", 12.0, "12 ms is not < 1 ms")

    def test_shows_a_failed_run_again_and_exits_0(self, tmp_path: Path) -> None:
        write_result(tmp_path / "a.json", result_of(10.0, gates=(self.GATE,)))
        done = tritonforge(tmp_path, "load", "report", "a.json")
        assert done.returncode == 0
        assert "12 ms is not < 1 ms" in done.stdout

    def test_writes_the_page_and_the_other_outputs(self, tmp_path: Path) -> None:
        write_result(tmp_path / "a.json", result_of(10.0, gates=(self.GATE,)))
        done = tritonforge(tmp_path, "load", "report", "a.json", "--html", "page.html", "--out", "out")
        assert done.returncode == 0, done.stderr
        assert "12 ms is not" in (tmp_path / "page.html").read_text()
        assert {"made.csv", "made.xml", "made.html"} <= {path.name for path in (tmp_path / "out").iterdir()}
        assert "wrote page.html" in done.stdout

    def test_json_is_the_stored_result(self, tmp_path: Path) -> None:
        path = write_result(tmp_path / "a.json", result_of(10.0))
        assert tritonforge(tmp_path, "load", "report", "a.json", "--json").stdout == path.read_text()


class TestUsage:
    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            (["--url", "grpc://h:1", "--serve", "."], "exclude each other"),
            (["--master"], "go together"),
            (["--expect-workers", "2"], "go together"),
            (["--master", "--expect-workers", "2", "--workers", "3"], "started elsewhere"),
            (["--workers", "0"], "--workers"),
            (["--baseline", "absent.json"], "absent.json"),
        ],
    )
    def test_flags_that_do_not_fit_exit_2(self, campaign_file: CampaignFile, flags: list[str], told: str) -> None:
        path = campaign_file()
        done = tritonforge(path.parent, "load", "run", path.name, *flags)
        assert done.returncode == 2
        assert told in done.stderr

    def test_a_worker_checks_the_file_before_it_starts(self, campaign_file: CampaignFile) -> None:
        path = campaign_file(phases="[]")
        done = tritonforge(path.parent, "load", "worker", path.name, "--master-host", "127.0.0.1")
        assert done.returncode == 2
        assert "phases" in done.stderr


def load_process(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tritonforge_generator.cli", "load", *words]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


KEYS = {"phases": "[{name: main, arrival: constant, rate: 100/s, for: 1s}]"}


@pytest.mark.triton
class TestRun:
    def test_gates_decide_the_exit_code(self, load_server: EmbeddedTriton, campaign_file: CampaignFile) -> None:
        path = campaign_file(**KEYS, gates="[{assert: 'p50 < 5s'}, {assert: 'max < 1us'}]")
        done = tritonforge(path.parent, "load", "run", path.name, "--url", load_server.grpc_url, "--html", "page.html")
        assert done.returncode == 3, done.stdout + done.stderr
        assert "main" in done.stdout
        assert "max &lt; 1us" in (path.parent / "page.html").read_text()

    def test_too_few_requests_exit_5_and_the_result_is_json(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile
    ) -> None:
        path = campaign_file(**KEYS, gates="[{assert: 'p99.9 < 5s'}]")
        done = tritonforge(path.parent, "load", "run", path.name, "--url", load_server.grpc_url, "--json")
        assert done.returncode == 5, done.stderr
        assert json.loads(done.stdout)["gates"][0]["verdict"] == "inconclusive"

    @pytest.mark.slow
    def test_a_run_is_its_own_baseline(self, load_server: EmbeddedTriton, campaign_file: CampaignFile) -> None:
        path = campaign_file(**KEYS)
        words = ["load", "run", path.name, "--url", load_server.grpc_url, "--out", "out"]
        assert tritonforge(path.parent, *words).returncode == 0
        gated = path.read_text() + "baseline: none.json\ngates: [{assert: 'p50 <= 20 * baseline'}]\n"
        path.write_text(gated)
        done = tritonforge(path.parent, *words, "--baseline", "out/short.json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "times the baseline's" in read_result(path.parent / "out" / "short.json").gates[0].reason

    @pytest.mark.slow
    def test_workers_are_started_elsewhere(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, unused_tcp_port: int
    ) -> None:
        path = campaign_file(**KEYS, gates="[{assert: 'errors < 5%'}]")
        server = ["--url", load_server.grpc_url, "--set", "phases.main.for=2s"]
        port = str(unused_tcp_port)
        workers = [
            load_process(path.parent, "worker", path.name, "--master-host", "127.0.0.1", "--master-port", port, *server)
            for _ in range(2)
        ]
        listening = ["--master", "--expect-workers", "2", "--bind-host", "127.0.0.1", "--bind-port", port]
        master = load_process(path.parent, "run", path.name, *listening, *server, "--json")
        try:
            out, err = master.communicate(timeout=90)
            ends = [worker.communicate(timeout=20) for worker in workers]
        finally:
            for process in (master, *workers):
                process.kill()
                process.wait()
        assert [worker.returncode for worker in workers] == [0, 0], ends
        assert master.returncode == 0, out + err
        (run,) = json.loads(out)["phases"][0]["runs"]
        assert run["generator"]["workers"] == 2
        assert run["generator"]["scheduled"] == run["total"]["sent"] == 200

    def test_workers_that_do_not_come_are_not_waited_for_forever(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, unused_tcp_port: int
    ) -> None:
        path = campaign_file(**KEYS)
        words = ["load", "run", path.name, "--url", load_server.grpc_url, "--master", "--expect-workers", "1"]
        words += ["--bind-host", "127.0.0.1", "--bind-port", str(unused_tcp_port), "--wait-for-workers", "1"]
        done = tritonforge(path.parent, *words)
        assert done.returncode == 1, done.stdout
        assert "ended without a result" in done.stderr

    @pytest.mark.slow
    def test_the_first_worker_of_another_campaign_stops_it(
        self, load_server: EmbeddedTriton, campaign_file: CampaignFile, unused_tcp_port: int
    ) -> None:
        path = campaign_file(**KEYS)
        port = str(unused_tcp_port)
        words = ["worker", path.name, "--master-host", "127.0.0.1", "--master-port", port]
        worker = load_process(path.parent, *words, "--url", load_server.grpc_url, "--set", "phases.main.for=2s")
        listening = ["--master", "--expect-workers", "1", "--bind-host", "127.0.0.1", "--bind-port", port]
        master = load_process(path.parent, "run", path.name, *listening, "--url", load_server.grpc_url)
        try:
            out, err = master.communicate(timeout=90)
        finally:
            for process in (master, worker):
                process.kill()
                process.communicate()
        assert master.returncode == 4, out + err
        assert "expected" in out + err


@pytest.mark.triton
def test_the_documented_locustfile_works(load_server: EmbeddedTriton, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "load-testing.md").read_text()
    (tmp_path / "locustfile.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    command = [sys.executable, "-m", "locust", "-f", "locustfile.py", "--headless", "-u", "2", "-t", "2s"]
    command += ["--host", load_server.grpc_url, "--json", "--skip-log"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)
    assert (entry["name"], entry["num_failures"]) == ("digits", 0)
    assert entry["num_requests"] > 10
