from __future__ import annotations

from pathlib import Path

import pytest

from tritonforge_generator.declared import json_schema
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import Campaign, read_campaign

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
    assert [(phase.name, phase.duration_s, phase.measure) for phase in campaign.phases] == [
        ("warm", 20.0, False), ("single", 90.0, True), ("many", 0.5, True),
    ]  # fmt: skip
    assert [[phase.name for phase in campaign.phases_of(gate)] for gate in campaign.gates] == [
        ["single"], ["single", "many"], ["many"],
    ]  # fmt: skip


def test_the_url_may_be_given_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert read_campaign(path, url="http://host:1").target.url == "http://host:1"
    with pytest.raises(SpecError, match=r"^--url: target.url: "):
        read_campaign(path, url="ftp://host")


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
        ("for: 20s", "for: 0s", ["phases[0].for: expected a duration above 0"]),
        ("for: 20s", "during: 20s", ["key 'for' is missing in phases[0]", "unknown key 'during' in phases[0]"]),
        ("arrival: closed", "arrival: poisson", ["phases[1].arrival: expected 'closed', got the text 'poisson'"]),
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
        ("{file: ids.npz}", "{file: a.npz, random: normal}", ["expected random, file or package, got random and file"]),
        ("{file: ids.npz}", "{}", ["inputs.IDS: an input has one source", "got none"]),
        ("{file: ids.npz}", "{file: a.npz, pool: 3}", ["inputs.IDS.pool: only random values have it. Remove it"]),
        ("pool: 8", "low: 2", ["IMAGE.high: expected above low (2), got 1"]),
        ("pool: 8", "key: x", ["inputs.IMAGE.key: key names an array of a file"]),
        ("batch: [1, 4]", "batch: []", ["workload[1].batch: expected at least one size, got an empty list"]),
        ("batch: [1, 4]", "batch: [0]", ["workload[1].batch"]),
        ("weight: 4", "weight: 0", ["workload[0].weight: expected greater than 0"]),
        ("grpc://127.0.0.1:8001", "127.0.0.1:8001", ["target.url: "]),
        ("formats: [json]", "formats: [jsn]", ["outputs.formats[0]: expected 'json' or 'csv'", "Did you mean 'json'?"]),
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
        "campaign", "version", "seed", "target", "workload", "phases", "gates", "outputs", "workers",
    }  # fmt: skip
    assert schema["$defs"]["Phase"]["properties"]["for"]["type"] == "string"
