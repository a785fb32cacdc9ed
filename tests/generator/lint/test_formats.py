"""Findings as lines and as SARIF."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from generator.lint.cases import BATCHED, ONNX_BATCHING, PYTHON, Case, write_model
from generator.lint.sarif_schema import SARIF
from generator.lint.table import CASES

from tritonforge_generator.lint import Finding, lint_repository, open_repositories
from tritonforge_generator.lint.edits import Edit, apply
from tritonforge_generator.lint.fixing import mends_of
from tritonforge_generator.lint.formats import line_of, sarif


def log_of(repository: Path, root: Path) -> dict[str, Any]:
    together, chosen = open_repositories(repository)
    findings = [found for directory in chosen for found in together.findings(together.read(directory))]
    log = sarif(findings, version="1.2.3", root=root, mends=mends_of(findings, together))
    jsonschema.Draft202012Validator(SARIF).validate(log)
    return dict(json.loads(json.dumps(log)))


def test_a_finding_is_one_line_that_editors_and_grep_read(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON + "max_batch_size: -1\n", {"1/": ""})
    assert line_of(lint_repository(tmp_path)[0]) == (
        f"{tmp_path}/m/config.pbtxt:4:1: C4 'max_batch_size' must be non-negative value for m"
    )
    beside = Finding("r", "m", "V2", "warning", "two\nlines", "r/m/x", None, None, "", "")
    assert line_of(beside) == "r/m/x: V2 two lines"


def test_a_log_says_what_where_and_how_to_mend_it(tmp_path: Path) -> None:
    config = 'name: "other"\n' + ONNX_BATCHING + "instance_group { kind: KIND_CPU gpus: 0 }\n"
    write_model(tmp_path / "a b" / "m", config, BATCHED)

    (run,) = log_of(tmp_path / "a b", tmp_path)["runs"]

    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("tritonforge", "1.2.3")
    named = {rule["id"]: rule for rule in driver["rules"]}
    assert set(named) == {"R1", "G7"}
    assert "directory" in named["R1"]["help"]["text"]
    results = {result["ruleId"]: result for result in run["results"]}
    for result in results.values():
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    wrong_name = results["R1"]
    assert wrong_name["level"] == "error"
    assert wrong_name["message"]["text"].startswith("unexpected directory name 'm' for model 'other'")
    place = wrong_name["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "a%20b/m/config.pbtxt", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 1, "startColumn": 1}
    (fix,) = wrong_name["fixes"]
    (change,) = fix["artifactChanges"]
    assert change["artifactLocation"] == place["artifactLocation"]
    assert change["replacements"] == [
        {
            "deletedRegion": {"startLine": 1, "startColumn": 7, "endLine": 1, "endColumn": 14},
            "insertedContent": {"text": '"m"'},
        }
    ]
    # Whether the group or its GPUs are meant, only the owner knows.
    assert "fixes" not in results["G7"]


def test_a_repository_elsewhere_has_absolute_addresses(tmp_path: Path) -> None:
    write_model(tmp_path / "r" / "m", PYTHON + "max_batch_size: -1", {"1/": ""})
    (run,) = log_of(tmp_path / "r", tmp_path / "elsewhere")["runs"]
    artifact = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": (tmp_path / "r" / "m" / "config.pbtxt").as_uri()}


def test_a_finding_beside_a_config_has_no_region(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, {"1/": "", "latest/": ""})
    (run,) = log_of(tmp_path, tmp_path)["runs"]
    found = next(result for result in run["results"] if result["ruleId"] == "V2")
    assert "region" not in found["locations"][0]["physicalLocation"]


@pytest.mark.parametrize("case", CASES[::7], ids=lambda case: case.rule)
def test_every_log_is_valid(tmp_path: Path, case: Case) -> None:
    case.write(tmp_path, "broken", broken=True)
    log_of(tmp_path, tmp_path)


def test_fingerprints_stay_when_lines_move(tmp_path: Path) -> None:
    prints = []
    for name, before in (("one", ""), ("two", "# a line more\n\n")):
        write_model(tmp_path / name / "m", before + PYTHON + "max_batch_size: -1", {"1/": ""})
        (run,) = log_of(tmp_path / name, tmp_path / name)["runs"]
        prints.append(run["results"][0]["partialFingerprints"])
    assert prints[0] == prints[1]


def test_a_mend_that_would_harm_an_ensemble_is_not_proposed(tmp_path: Path) -> None:
    integers = ONNX_BATCHING.replace("TYPE_FP32", "TYPE_INT32", 1)
    maps = 'input_map { key: "x" value: "a" } output_map { key: "y" value: "b" }'
    step = f'step {{ model_name: "m" model_version: -1 {maps} }}'
    tensors = 'input { name: "a" data_type: TYPE_INT32 dims: [4] } output { name: "b" data_type: TYPE_FP32 dims: [4] }'
    config = f'platform: "ensemble" max_batch_size: 8 {tensors} ensemble_scheduling {{ {step} }}'
    write_model(tmp_path / "e", config, {"1/": ""})
    for name in ("m", "other"):
        write_model(tmp_path / name, integers, BATCHED)
    (run,) = log_of(tmp_path, tmp_path)["runs"]
    proposed = {
        result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]: "fixes" in result
        for result in run["results"]
        if result["ruleId"] == "O16"
    }
    assert proposed == {"m.input[0].data_type": False, "other.input[0].data_type": True}


def test_addresses_have_no_dots_and_any_name_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"m\xff")
    write_model(tmp_path / "models" / name, PYTHON + "max_batch_size: -1", {"1/": ""})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    uri = "models/m%FF/config.pbtxt"
    for root, expected in ((tmp_path, uri), (Path.cwd(), f"file://{tmp_path}/{uri}")):
        (run,) = log_of(Path("../models"), root)["runs"]
        artifact = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
        assert artifact["uri"] == expected


def test_help_is_written_for_people(tmp_path: Path) -> None:
    config = PYTHON + "model_metrics { metric_control { histogram_options { buckets: [1] } } }"
    write_model(tmp_path / "m", config, {"1/model.py": ""})
    (run,) = log_of(tmp_path, tmp_path)["runs"]
    (help_text,) = [rule["help"]["text"] for rule in run["tool"]["driver"]["rules"] if rule["id"] == "C15"]
    assert 'metric_identifier { family: "nv_inference_first_response_histogram_ms" }' in help_text


def test_findings_of_one_rule_have_fingerprints_of_their_own(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, {"1/": "", "latest/": "", "old/": ""})
    (run,) = log_of(tmp_path, tmp_path)["runs"]
    prints = [result["partialFingerprints"]["tritonforge/v1"] for result in run["results"] if result["ruleId"] == "V2"]
    assert len(set(prints)) == 2


def test_edits_are_made_from_the_end_so_that_offsets_hold() -> None:
    assert apply("abcdef", [Edit(0, 1, "xyz"), Edit(4, 5), Edit(2, 2, "-")]) == "xyzb-cdf"
