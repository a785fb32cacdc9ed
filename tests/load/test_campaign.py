from __future__ import annotations

from pathlib import Path

import pytest

from tritonforge_generator.declared import json_schema
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import (
    Campaign,
    ClosedPhase,
    CurvePhase,
    GammaPhase,
    Phase,
    RatePhase,
    SearchPhase,
    TracePhase,
    read_campaign,
)

CAMPAIGNS = sorted((Path(__file__).parents[2] / "load_tests" / "campaigns").glob("*.yaml"))

GOOD = """\
campaign: release
version: 1
seed: 20
target: {url: "grpc://127.0.0.1:8001", wait_ready: 60s, timeout: 500ms}
workload:
  - {name: cls, model: resnet50, weight: 4, inputs: {IMAGE: {random: normal, pool: 8}}}
  - name: emb
    model: encoder
    batch: [1, 4]
    inputs: {IDS: {file: ids.npz}}
    check: {sample: 1%, output: OUT, golden: {file: ids.npz, key: out}, rtol: 0.01}
phases:
  - {name: warm, users: 8, for: 20s, measure: false}
  - {name: single, arrival: closed, users: 1, for: 1.5m}
  - {name: many, users: 8, for: 500ms}
gates:
  - {where: single, assert: "p99(cls) < 25ms"}
  - {where: "*", assert: "errors < 0.1%"}
  - {where: [many], assert: "correct(emb) >= 99%"}
outputs: {dir: out, formats: [json]}
workers: 2
"""


def duration_of(phase: Phase) -> float:
    assert isinstance(phase, ClosedPhase)
    return phase.duration_s


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_every_key(tmp_path: Path) -> None:
    campaign = read_campaign(write(tmp_path, GOOD))
    assert (campaign.campaign, campaign.seed, campaign.workers) == ("release", 20, 2)
    assert (campaign.target.wait_ready_s, campaign.target.timeout_s) == (60.0, 0.5)
    cls, emb = campaign.workload
    assert (cls.weight, cls.batches, cls.inputs["IMAGE"].pool, cls.inputs["IMAGE"].array) == (4, (1,), 8, None)
    assert emb.batches == (1, 4)
    assert emb.inputs["IDS"].array is not None
    assert emb.inputs["IDS"].array.file == "ids.npz"
    assert emb.check is not None
    assert (emb.check.sample, emb.check.rtol) == (0.01, 0.01)
    assert [(phase.name, duration_of(phase), phase.measure) for phase in campaign.phases] == [
        ("warm", 20.0, False), ("single", 90.0, True), ("many", 0.5, True),
    ]  # fmt: skip
    assert [[phase.name for phase in campaign.phases_of(gate)] for gate in campaign.gates] == [
        ["single"], ["single", "many"], ["many"],
    ]  # fmt: skip


def test_the_url_may_be_given_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert read_campaign(path, settings={"target": {"url": "http://host:1"}}).target.url == "http://host:1"
    with pytest.raises(SpecError, match=r"^command line: target.url: "):
        read_campaign(path, settings={"target": {"url": "ftp://host"}})


@pytest.mark.parametrize("path", CAMPAIGNS, ids=[path.stem for path in CAMPAIGNS])
def test_the_campaigns_that_are_shipped_are_right(path: Path) -> None:
    assert read_campaign(path).campaign == path.stem


def test_some_campaign_is_shipped() -> None:
    assert [path.stem for path in CAMPAIGNS] != []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seed: 20", "sed: 20", ["3:1: unknown key 'sed'", "Did you mean 'seed'?"]),
        ("version: 1", "version: 2", ["2:10: version: expected 1, got the number 2"]),
        ("for: 20s", "for: 20", ["for: expected a duration with its unit (us, ms, s, m, h) like 20s, got 20"]),
        ("for: 20s", "for: 0s", ["phases[0].for: expected more than 0"]),
        ("for: 20s", "during: 20s", ["key 'for' is missing in phases[0]", "unknown key 'during' in phases[0]"]),
        (
            "arrival: closed",
            "arrival: poisson",
            ["key 'rate' is missing in phases[1]", "unknown key 'users' in phases[1]"],
        ),
        ("arrival: closed", "arrival: burst", ["expected arrival: closed, constant, poisson, gamma, curve or trace"]),
        ("users: 1,", "users: 0,", ["phases[1].users: expected greater than or equal to 1, got the number 0"]),
        ("measure: false", "measure: off", ["expected true or false, got the text 'off'. Write false"]),
        ("name: many", "name: single", ["phases[2].name: the name is taken: got 'single'. Rename one"]),
        ("name: emb", "name: cls", ["workload[1].name: the name is taken"]),
        ("name: emb", "name: e(b", ["workload[1].name: "]),
        ("where: single", "where: warm", ["gates[0].where: expected * or a measured phase (single, many), got 'warm'"]),
        ("p99(cls)", "p99(clss)", ["gates[0].assert: expected a workload (cls, emb), got 'clss'"]),
        ("correct(emb)", "correct(cls)", ["gates[2].assert: no answer is checked. Give the workload a check"]),
        ("< 25ms", "< 25", ["17:29: gates[0].assert: p99: expected a duration"]),
        ("sample: 1%", "sample: 0.01", ["sample: expected a share from 0% to 100% like 0.1%, got 0.01"]),
        ("golden: {file: ids.npz, key: out}, ", "", ["check: expected one of labels and golden"]),
        ("{file: ids.npz, key: out}", "{key: out}", ["check.golden: expected one of file and package"]),
        ("{file: ids.npz}", "{random: normal}", ["workload[1].check: answers can only be compared for given inputs"]),
        (
            "{file: ids.npz}",
            "{file: a.npz, random: normal}",
            ["expected random, values, images, file or package, got random and file"],
        ),
        ("{file: ids.npz}", "{}", ["inputs.IDS: an input has one source", "got none"]),
        ("{file: ids.npz}", "{file: a.npz, pool: 3}", ["inputs.IDS.pool: only random values have it. Remove it"]),
        ("normal, pool: 8", "uniform, low: 2, high: 1", ["IMAGE.high: expected above low (2), got 1"]),
        ("pool: 8", "key: x", ["inputs.IMAGE.key: key names an array of a file"]),
        ("batch: [1, 4]", "batch: []", ["workload[1].batch: expected at least one size, got an empty list"]),
        ("batch: [1, 4]", "batch: [0]", ["workload[1].batch"]),
        ("weight: 4", "weight: 0", ["workload[0].weight: expected greater than 0"]),
        ("grpc://127.0.0.1:8001", "127.0.0.1:8001", ["target.url: "]),
        (
            "formats: [json]",
            "formats: [jsn]",
            ["outputs.formats[0]: expected 'json', 'csv', 'junit' or 'html'", "Did you mean 'json'?"],
        ),
    ],
)
def test_refusals_say_where_and_what(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(SpecError) as caught:
        read_campaign(write(tmp_path, GOOD.replace(old, new, 1)))
    for part in expected:
        assert part in str(caught.value)


def test_a_campaign_that_measures_nothing_is_refused(tmp_path: Path) -> None:
    text = (
        GOOD.split("gates:", maxsplit=1)[0]
        .replace("for: 1.5m", "for: 1s, measure: false")
        .replace("for: 500ms", "for: 1s, measure: false")
    )
    with pytest.raises(SpecError, match="phases: no phase is measured"):
        read_campaign(write(tmp_path, text))


def test_json_schema_knows_the_words_of_the_file() -> None:
    schema = json_schema(Campaign)
    assert set(schema["properties"]) == {
        "campaign", "version", "seed", "target", "workload", "transport", "phases", "observe", "validity", "gates",
        "baseline", "outputs", "workers",
    }  # fmt: skip
    for kind in ("ClosedPhase", "RatePhase", "GammaPhase"):
        assert schema["$defs"][kind]["properties"]["for"]["type"] == "string"


ALL_KINDS = """\
campaign: kinds
version: 1
target: {url: "grpc://127.0.0.1:8001", metrics: "http://127.0.0.1:8002/metrics"}
workload: [{name: one, model: identity}]
transport: {shared_memory: system, max_in_flight: 10, prebuilt: false}
phases:
  - {name: closed, users: 2, for: 1s}
  - {name: even, arrival: constant, rate: 50/s, for: 1s}
  - {name: steady, arrival: poisson, rate: 100/s, for: 2s, repeat: 3}
  - {name: bursts, arrival: gamma, rate: 100/s, shape: 0.3, for: 2s}
  - {name: day, arrival: curve, points: [[0s, 10/s], [5s, 100/s]]}
  - {name: replay, arrival: trace, file: times.csv, speed: 2}
  - {name: peak, search: {from: 100/s, to: 2000/s, step_for: 10s, until: ["p99 < 25ms"]}}
  - {name: crowd, search: {over: users, from: 1, to: 64, step_for: 10s, precision: 10%, confirm: 2, until: [max < 1s]}}
observe: {every: 500ms, gpu: none}
validity: {achieved: ">= 95%", slip_p99: "< 5ms", generator_cpu: "< 90%"}
gates:
  - {where: steady, assert: "p99 < 25ms", confidence: 0.99}
  - {where: steady, assert: "p95 <= 1.1 * baseline", if: significant}
  - {where: peak, assert: "max_rate >= 400/s"}
  - {where: crowd, assert: "max_users >= 8"}
baseline: earlier.json
"""


def test_reads_every_kind_of_phase(tmp_path: Path) -> None:
    campaign = read_campaign(write(tmp_path, ALL_KINDS))
    assert [phase.arrival for phase in campaign.phases] == [
        "closed", "constant", "poisson", "gamma", "curve", "trace", "poisson", "closed",
    ]  # fmt: skip
    _, _, steady, bursts, day, replay, peak, crowd = campaign.phases
    assert isinstance(steady, RatePhase)
    assert (steady.rate_per_s, steady.repeat) == (100.0, 3)
    assert isinstance(bursts, GammaPhase)
    assert bursts.shape == 0.3
    assert isinstance(day, CurvePhase)
    assert (day.points, day.duration_s) == (((0.0, 10.0), (5.0, 100.0)), 5.0)
    assert isinstance(replay, TracePhase)
    assert (replay.file, replay.speed) == ("times.csv", 2.0)
    assert isinstance(peak, SearchPhase)
    assert (peak.search.over, peak.search.from_, peak.search.to, peak.search.precision) == ("rate", 100.0, 2000.0, 0.05)
    assert isinstance(crowd, SearchPhase)
    assert (crowd.search.from_, crowd.search.to, crowd.search.confirm) == (1, 64, 2)
    assert (campaign.validity.achieved, campaign.validity.slip_p99_s) == (0.95, 0.005)
    assert (campaign.gates[0].confidence, campaign.gates[1].condition) == (0.99, "significant")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[0s, 10/s]", "[1s, 10/s]", "points[0][0]: expected 0s, the start of the phase, got 1s"),
        ("[5s, 100/s]", "[0s, 100/s]", "points[1][0]: expected a time after 0s, got 0s"),
        ("[[0s, 10/s], [5s, 100/s]]", "[[0s, 0/s], [5s, 0/s]]", "all rates are 0: nothing would be sent"),
        ("shape: 0.3", "shape: 0", "shape: expected greater than 0"),
        ("from: 100/s", "from: 100", "search.from: expected a rate like 200/s (over: rate), got 100"),
        ("from: 1,", "from: 1/s,", "search.from: expected a number of users (over: users), got 1"),
        ("to: 2000/s", "to: 100/s", "search.to: expected more than from (100), got 100"),
        ("precision: 10%", "precision: 0%", "search.precision: expected more than 0%"),
        ("over: users", "over: users, arrival: poisson", "users are closed: arrival belongs to over: rate"),
        ('["p99 < 25ms"]', '["p99"]', "search.until[0]: expected a sentence"),
        ('["p99 < 25ms"]', '["max_rate < 5/s"]', "until[0]: expected a metric of one load with its own limit"),
        ('["p99 < 25ms"]', '["p99(two) < 25ms"]', "search.until[0]: expected a workload (one), got 'two'"),
        ("{name: peak,", "{name: peak, repeat: 2,", "a search is measured, and repeats by itself"),
        ("where: peak", "where: steady", "gates[2].assert: max_rate is what a search over rate finds"),
        ("where: peak", "where: crowd", "gates[2].assert: max_rate is what a search over rate finds"),
        ("baseline: earlier.json", "", "gates[1].assert: there is no baseline"),
        ('"p95 <= 1.1 * baseline"', '"p95 <= 5ms"', "gates[1].if: only differences from a baseline can be significant"),
        ('"p95 <= 1.1', '"queue_share <= 1.1', "gates[1].if: the noise of queue_share is not known"),
        ('">= 95%"', '"> 95%"', "validity.achieved: expected a bound that starts with >=, got '> 95%'"),
        ("confidence: 0.99", "confidence: 1", "gates[0].confidence: expected less than 1"),
        ("max_in_flight: 10", "max_in_flight: 0", "transport.max_in_flight: expected greater than or equal to 1"),
    ],
)
def test_refusals_of_phases_and_gates_say_where_and_what(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in ALL_KINDS
    with pytest.raises(SpecError) as caught:
        read_campaign(write(tmp_path, ALL_KINDS.replace(old, new, 1)))
    assert expected in str(caught.value)
