"""The campaigns that are shipped, and the JSON Schema that editors check them with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tritonforge_generator.declared import declared_from_mapping, json_schema
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import Campaign, SearchPhase, assertion_from_text, read_campaign
from tritonforge_load.plan import plan_from_campaign

FOLDER = Path(__file__).parents[2] / "load_tests" / "campaigns"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
LONGEST_S = {"soak": 35 * 60, "resnet50": 6 * 60}
"""Campaigns that take longer than the minute in which the others can be tried."""

NEEDS_A_GPU = {"resnet50"}
SCENARIOS = {"single-stream", "multi-stream", "server", "offline", "soak", "spike", "step", "peak", "digits"}

VALIDATOR = jsonschema.Draft202012Validator(json_schema(Campaign))

FULL: dict[str, Any] = yaml.safe_load("""
campaign: everything
version: 1
seed: 3
target: {url: "grpc://127.0.0.1:8001", wait_ready: 5s, timeout: 500ms, metrics: "http://127.0.0.1:8002/metrics"}
workload:
  - name: a
    model: m
    weight: 2
    batch: [1, 4]
    inputs: {x: {file: x.npz, key: x}, y: {random: uniform, low: 0, high: 9, pool: 4}}
    check: {sample: 5%, output: z, golden: {file: z.npz}, rtol: 0.01}
  - {name: b, model: n, inputs: {z: {images: pictures}}}
transport: {shared_memory: auto, max_in_flight: 100, prebuilt: true}
phases:
  - {name: warm, users: 2, for: 2s, measure: false}
  - {name: closed, arrival: closed, users: 2, for: 2s}
  - {name: constant, arrival: constant, rate: 10/s, for: 1m, repeat: 3}
  - {name: poisson, arrival: poisson, rate: 10.5/s, for: 1m}
  - {name: gamma, arrival: gamma, rate: 10/s, shape: 0.3, for: 1m}
  - {name: curve, arrival: curve, points: [[0s, 1/s], [10s, 20/s]]}
  - {name: trace, arrival: trace, file: arrivals.csv, speed: 2}
  - {name: peak, search: {from: 10/s, to: 100/s, step_for: 5s, precision: 2%, until: ["p99(a) < 25ms", "errors < 1%"]}}
  - {name: most, search: {over: users, from: 1, to: 64, step_for: 5s, confirm: 2, until: ["p99.9 < 1s"]}}
observe: {every: 2s, server: true, metrics: false, gpu: none}
validity: {achieved: ">= 98%", slip_p99: "< 5ms", generator_cpu: "< 90%"}
gates:
  - {where: poisson, assert: "p99(a) < 25ms", confidence: 0.99}
  - {where: [gamma, curve], assert: "errors < 0.1%"}
  - {where: "*", assert: "p95 <= 1.10 * baseline", if: significant}
  - {where: peak, assert: "max_rate >= 50/s"}
baseline: before.json
outputs: {dir: out, formats: [json, html]}
workers: 2
""")

ERRORS: dict[str, Callable[[dict[str, Any]], None]] = {
    "unknown key": lambda said: said.update(phasis=[]),
    "unknown key of a phase": lambda said: said["phases"][2].update(rates="3/s"),
    "missing key": lambda said: said["workload"][0].pop("model"),
    "no version": lambda said: said.pop("version"),
    "another version": lambda said: said.update(version=2),
    "duration without unit": lambda said: said["phases"][0].update({"for": 2}),
    "duration of another unit": lambda said: said["phases"][0].update({"for": "2 min"}),
    "rate without unit": lambda said: said["phases"][2].update(rate=10),
    "share without sign": lambda said: said["workload"][0]["check"].update(sample="0.05"),
    "unknown arrival": lambda said: said["phases"][3].update(arrival="poison"),
    "key of another arrival": lambda said: said["phases"][1].update(rate="10/s"),
    "search with users": lambda said: said["phases"][7].update(users=3),
    "bound the wrong way": lambda said: said["validity"].update(achieved="< 99%"),
    "url without scheme": lambda said: said["target"].update(url="127.0.0.1:8001"),
    "no users": lambda said: said["phases"][0].update(users=0),
    "no sentence": lambda said: said["gates"][0].update({"assert": "p99 is fast"}),
    "unknown metric": lambda said: said["gates"][0].update({"assert": "p99th(a) < 25ms"}),
    "no sentence in a search": lambda said: said["phases"][7]["search"].update(until=["fast"]),
    "confidence above 1": lambda said: said["gates"][0].update(confidence=99),
    "unknown format": lambda said: said["outputs"].update(formats=["pdf"]),
    "list for a mapping": lambda said: said.update(transport=[]),
}


def test_every_scenario_is_there() -> None:
    assert {path.stem for path in SHIPPED} == SCENARIOS | NEEDS_A_GPU


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


def test_defaults_of_the_schema_may_be_written() -> None:
    """Editors fill them in."""
    schema = json_schema(Campaign)
    for part in (schema, *schema["$defs"].values()):
        for name, value in part.get("properties", {}).items():
            if "default" in value:
                validator = jsonschema.Draft202012Validator({**value, "$defs": schema["$defs"]})
                assert list(validator.iter_errors(value["default"])) == [], name


def test_a_campaign_with_every_key_is_valid_for_schema_and_reader() -> None:
    assert list(VALIDATOR.iter_errors(FULL)) == []
    assert declared_from_mapping(FULL, Campaign, origin="full").campaign == "everything"


@pytest.mark.parametrize("name", ERRORS)
def test_the_schema_finds_what_the_reader_finds(name: str) -> None:
    said = copy.deepcopy(FULL)
    ERRORS[name](said)
    assert list(VALIDATOR.iter_errors(said)) != []
    with pytest.raises(SpecError):
        declared_from_mapping(said, Campaign, origin="full")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
class TestShipped:
    def test_is_valid_for_editors(self, path: Path) -> None:
        assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(path.read_text()))] == []

    def test_is_named_as_its_file(self, path: Path) -> None:
        assert read_campaign(path).campaign == path.stem

    def test_says_its_question_and_what_to_change(self, path: Path) -> None:
        text = path.read_text()
        assert text.startswith("# ")
        assert path.stem == "digits" or ("?\n" in text and "for real use" in text)

    def test_can_run_and_its_gates_can_be_decided(self, path: Path) -> None:
        plan = plan_from_campaign(read_campaign(path), FOLDER)
        assert plan.problems == ()
        assert plan.undecidable == ()
        assert not [gate.reason for gate in plan.gates if "fail" in gate.reason or "cannot pass" in gate.reason]

    def test_is_short_enough_to_try(self, path: Path) -> None:
        plan = plan_from_campaign(read_campaign(path), FOLDER)
        assert plan.duration_s < LONGEST_S.get(path.stem, 60)

    def test_asks_no_more_of_a_laptop_than_it_gives(self, path: Path) -> None:
        """Closed phases need no more answers a second than a server of two cores gives to one user."""
        if path.stem in NEEDS_A_GPU:
            return
        plan = plan_from_campaign(read_campaign(path), FOLDER)
        durations_s = {phase.name: phase.duration_s for phase in plan.phases}
        waiting = [gate for gate in plan.gates if gate.expected is None and gate.needed is not None]
        assert [gate for gate in waiting if (gate.needed or 0) / durations_s[gate.phase] > 100] == []

    def test_lateness_that_is_allowed_explains_no_latency_that_is_not(self, path: Path) -> None:
        """Latencies count from when requests were due: what the generator may be late must not decide a gate."""
        campaign = read_campaign(path)
        searched = [text for phase in campaign.phases if isinstance(phase, SearchPhase) for text in phase.search.until]
        told = [assertion_from_text(text) for text in (*(gate.assertion for gate in campaign.gates), *searched)]
        limits_ms = [one.limit for one in told if one.percent is not None]
        is_open = any(phase.arrival != "closed" for phase in campaign.phases)
        assert not is_open or campaign.validity.slip_p99_s * 1e3 <= min(limits_ms, default=math.inf) / 5

    def test_is_written_without_a_warning(self, path: Path) -> None:
        """Master and workers compare what the campaign says as JSON; warnings are errors here."""
        assert "phases" in read_campaign(path).model_dump_json()
