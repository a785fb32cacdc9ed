from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tritonforge_load.campaign import read_campaign
from tritonforge_load.judge.samples import needed_requests
from tritonforge_load.plan import CampaignPlan, GatePlan, plan_from_campaign

CampaignFile = Callable[..., Path]


@pytest.fixture
def planned(campaign_file: CampaignFile) -> Callable[..., CampaignPlan]:
    def plan(**keys: str) -> CampaignPlan:
        path = campaign_file(**keys)
        return plan_from_campaign(read_campaign(path), path.parent)

    return plan


def gate_of(plan: CampaignPlan) -> GatePlan:
    (gate,) = plan.gates
    return gate


def test_importing_the_plan_brings_neither_locust_nor_gevent() -> None:
    code = "import sys, tritonforge_load.plan; print([name for name in ('locust', 'gevent') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_phases_have_their_time_and_their_requests(planned: Callable[..., CampaignPlan]) -> None:
    plan = planned(
        phases="[{name: warm, users: 1, for: 300ms, measure: false}, "
        "{name: even, arrival: constant, rate: 50/s, for: 2s, repeat: 3}, "
        "{name: curve, arrival: curve, points: [[0s, 0/s], [10s, 100/s], [20s, 100/s]]}]"
    )
    warm, even, curve = plan.phases
    assert (warm.load, warm.requests, warm.measured) == ("1 user", None, False)
    assert (even.runs, even.duration_s) == (3, 6.0)
    assert even.requests is not None
    assert sum(even.requests.values()) == 300
    # Weights 1 and 0.5: two of three. Five standard deviations of that share.
    assert even.requests["one"] == pytest.approx(200, abs=5 * np.sqrt(300 * 2 / 9))
    assert curve.requests is not None
    assert sum(curve.requests.values()) == pytest.approx(1500, abs=5 * np.sqrt(1500))
    assert curve.load == "0 to 100/s"
    assert plan.duration_s == plan.longest_s == pytest.approx(26.3)


def test_requests_are_those_that_the_run_will_send(campaign_file: CampaignFile) -> None:
    from tritonforge_load.arrivals.runs import Runs

    path = campaign_file(phases="[{name: p, arrival: poisson, rate: 80/s, for: 5s, repeat: 2}]", seed="11")
    campaign = read_campaign(path)
    runs = Runs(campaign, base=path.parent)
    sent = sum(len(runs.schedule(run).times_s) for run in runs.of_phase(0))
    (phase,) = plan_from_campaign(campaign, path.parent).phases
    assert phase.requests is not None
    assert sum(phase.requests.values()) == sent


def test_a_search_has_its_usual_and_its_longest_time(planned: Callable[..., CampaignPlan]) -> None:
    search = "{from: 100/s, to: 1600/s, step_for: 5s, until: ['p99 < 25ms', 'p99.9(four) < 50ms']}"
    plan = planned(phases=f"[{{name: peak, search: {search}}}]", gates="[{where: peak, assert: 'max_rate >= 2000/s'}]")
    (peak,) = plan.phases
    assert peak.is_search
    assert 5 * 5 < peak.duration_s <= peak.longest_s
    gate, p99, tail = plan.gates
    assert "cannot pass" in gate.reason
    assert "the largest" not in p99.reason
    assert "fewer than 1,000 that is the largest" in tail.reason


def test_a_trace_is_counted_by_its_own_names(planned: Callable[..., CampaignPlan], tmp_path: Path) -> None:
    (tmp_path / "arrivals.csv").write_text("time,workload\n0,four\n1,one\n3,four\n")
    plan = planned(phases="[{name: again, arrival: trace, file: arrivals.csv, speed: 2}]")
    (phase,) = plan.phases
    assert phase.requests == {"one": 1, "four": 2}
    assert phase.duration_s == 1.5
    assert [(file.place, file.path.name) for file in plan.files] == [("phase 'again'", "arrivals.csv")]


def test_a_trace_that_cannot_be_read_is_a_problem(planned: Callable[..., CampaignPlan], tmp_path: Path) -> None:
    plan = planned(phases="[{name: again, arrival: trace, file: arrivals.csv}]")
    assert len(plan.problems) == 1
    assert "arrivals.csv: cannot be read" in plan.problems[0]
    (tmp_path / "arrivals.csv").write_text("0,one\n1,two\n")
    plan = planned(phases="[{name: again, arrival: trace, file: arrivals.csv}]")
    assert plan.phases == ()
    assert "'two'" in plan.problems[0]


class TestGates:
    STEADY = "[{name: steady, arrival: constant, rate: 50/s, for: 10s}]"

    @pytest.mark.parametrize(
        ("sentence", "confidence", "needed", "decidable"),
        [
            ("p99 < 25ms", 0.95, 299, "yes"),
            ("p99 < 25ms", 0.99, 459, "yes"),
            ("p99(one) < 25ms", 0.99, 459, "no"),
            ("p99.9 < 25ms", 0.95, 2995, "no"),
            ("errors < 1%", 0.95, 299, "yes"),
            ("errors <= 0%", 0.95, None, "yes"),
            ("max < 1s", 0.95, None, "yes"),
            ("queue_share < 10%", 0.95, None, "depends"),
        ],
    )
    def test_need_so_many_requests(
        self, planned: Callable[..., CampaignPlan], sentence: str, confidence: float, needed: int, decidable: str
    ) -> None:
        gate = gate_of(planned(phases=self.STEADY, gates=f"[{{assert: '{sentence}', confidence: {confidence}}}]"))
        assert (gate.needed, gate.decidable) == (needed, decidable)

    def test_that_cannot_be_decided_are_named(self, planned: Callable[..., CampaignPlan]) -> None:
        plan = planned(phases=self.STEADY, gates="[{assert: 'p99.9 < 25ms'}, {assert: 'p50 < 25ms'}]")
        assert [gate.assertion for gate in plan.undecidable] == ["p99.9 < 25ms"]
        assert plan.undecidable[0].reason == "500 requests expected, 2,995 needed"

    def test_of_percentiles_say_how_many_may_be_over(self, planned: Callable[..., CampaignPlan]) -> None:
        gate = gate_of(planned(phases=self.STEADY, gates="[{assert: 'p90 < 25ms', confidence: 0.99}]"))
        allowed = int(gate.reason.partition("up to ")[2].split()[0])
        assert needed_requests(90, 0.99, allowed) <= 500 < needed_requests(90, 0.99, allowed + 1)

    def test_on_closed_phases_say_at_which_rate(self, planned: Callable[..., CampaignPlan]) -> None:
        gate = gate_of(planned(phases="[{name: two, users: 2, for: 10s}]", gates="[{assert: 'p99 < 25ms'}]"))
        assert (gate.decidable, gate.expected) == ("depends", None)
        assert gate.reason == "needs 299 requests in 10 s, 29.9/s"

    def test_of_answers_count_checked_rows(self, planned: Callable[..., CampaignPlan], tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", x=np.zeros((8, 16), np.float32), y=np.zeros((8, 16), np.float32))
        plan = planned(
            workload="[{name: a, model: identity, batch: 4, inputs: {x: {file: x.npz}},"
            " check: {sample: 10%, output: y, golden: {file: x.npz}}}]",
            phases=self.STEADY,
            gates="[{assert: 'correct >= 90%'}]",
        )
        assert plan.problems == ()
        assert gate_of(plan).expected == 200
        assert gate_of(plan).reason.startswith("200 checked rows expected, 29 needed")

    def test_of_rates_above_what_is_sent_fail(self, planned: Callable[..., CampaignPlan]) -> None:
        plan = planned(phases=self.STEADY, gates="[{assert: 'rate >= 60/s'}, {assert: 'throughput >= 60/s'}]")
        assert plan.gates[0].reason == "fails: only 50/s are sent"
        assert "are sent" in plan.gates[1].reason
        assert not plan.gates[1].reason.startswith("fails")

    def test_of_the_server_need_observation(self, planned: Callable[..., CampaignPlan]) -> None:
        metrics = ("queue_share", "server_memory_growth", "generator_memory_growth")
        gates = ", ".join(f"{{assert: '{metric} < 10%'}}" for metric in metrics)
        plan = planned(phases=self.STEADY, gates=f"[{gates}]", observe="{server: false, metrics: true}")
        assert [gate.decidable for gate in plan.gates] == ["no", "no", "yes"]


class TestFiles:
    @pytest.fixture
    def arrays(self, tmp_path: Path) -> Path:
        np.savez(tmp_path / "x.npz", x=np.zeros((10, 16), np.float32), short=np.zeros((3, 16), np.float32))
        return tmp_path

    def test_payloads_have_rows_and_memory(self, planned: Callable[..., CampaignPlan], arrays: Path) -> None:
        plan = planned(
            workload="[{name: a, model: identity, inputs: {x: {file: x.npz}, y: {random: normal}}}]", workers="3"
        )
        stored, made = plan.payloads
        assert (stored.rows, stored.size_bytes) == (10, 10 * 16 * 4)
        assert stored.source == "float32 rows of shape (16,)"
        assert (made.source, made.size_bytes) == ("random (normal)", None)
        assert plan.payload_bytes is None
        assert [file.size_bytes for file in plan.files] == [(arrays / "x.npz").stat().st_size]

    def test_memory_is_of_all_processes_and_both_copies(
        self, planned: Callable[..., CampaignPlan], arrays: Path
    ) -> None:
        workload = "[{name: a, model: identity, inputs: {x: {file: x.npz}}}]"
        assert planned(workload=workload, workers="3").payload_bytes == 640 * 2 * 3
        assert planned(workload=workload, transport="{prebuilt: false}").payload_bytes == 640

    def test_images_are_counted(self, planned: Callable[..., CampaignPlan], tmp_path: Path) -> None:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for name in ("a.png", "b.jpg", "notes.txt"):
            (folder / name).write_bytes(b"12345")
        plan = planned(workload="[{name: a, model: m, inputs: {x: {images: pictures}}}]")
        assert [payload.rows for payload in plan.payloads] == [2]
        assert [(file.path.name, file.size_bytes) for file in plan.files] == [("pictures", 10)]
        assert (plan.payload_bytes, plan.payload_limit_bytes) == (None, 2 * 2 * 2**30), "2 GiB, and encoded once more"

    @pytest.mark.parametrize(
        ("inputs", "check", "told"),
        [
            ("{x: {file: absent.npz}}", "", "workload 'a': x: absent.npz: cannot be read"),
            ("{x: {file: x.npz, key: z}}", "", "expected 'z', got x, short"),
            ("{x: {file: x.npz}, y: {file: x.npz, key: short}}", "", "expected as many for each input, got x 10, y 3"),
            ("{x: {file: x.npz, key: short}}", "", "expected at least 4 (batch), got 3"),
            ("{x: {file: x.npz}}", "{output: y, golden: {file: absent.npz}}", "check.golden: absent.npz: cannot be"),
            ("{x: {file: x.npz}}", "{output: y, golden: {file: x.npz, key: short}}", "at least 8 rows, got 3"),
            ("{x: {images: nowhere}}", "", "nowhere"),
        ],
    )
    def test_that_do_not_fit_are_problems(
        self, planned: Callable[..., CampaignPlan], arrays: Path, inputs: str, check: str, told: str
    ) -> None:
        check = f", check: {check}" if check else ""
        plan = planned(workload=f"[{{name: a, model: identity, batch: 4, inputs: {inputs}{check}}}]")
        assert len(plan.problems) == 1, plan.problems
        assert told in plan.problems[0]

    def test_a_baseline_has_what_gates_compare(self, planned: Callable[..., CampaignPlan], tmp_path: Path) -> None:
        keys = {"gates": "[{where: main, assert: 'p95 <= 1.1 * baseline'}]", "baseline": "before.json"}
        assert "no such file" in planned(**keys).problems[0]
        (tmp_path / "before.json").write_text("{}")
        assert "expected the JSON output of a campaign" in planned(**keys).problems[0]


def test_a_plan_is_json(planned: Callable[..., CampaignPlan], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((10, 16), np.float32))
    plan = planned(workload="[{name: a, model: m, inputs: {x: {file: x.npz}}}]", gates="[{assert: 'p99 < 1s'}]")
    told = json.loads(json.dumps(plan.to_dict()))
    assert told["files"][0]["path"] == str(tmp_path / "x.npz")
    assert told["gates"][0]["needed"] == 299
    assert told["payload_bytes"] == plan.payload_bytes
