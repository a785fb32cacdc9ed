"""``tritonforge lint`` as people and programs call it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from generator.lint.cases import BATCHED, MODEL_PY, ONNX_BATCHING, PYTHON, write_model
from generator.lint.sarif_schema import SARIF
from support.command_line import tritonforge

from tritonforge_generator.lint.rule import RULES

ROOT = Path(__file__).parents[3]
MODEL: dict[str, str | bytes] = {"1/model.py": MODEL_PY}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with the repository ``repo``: one model is right, one is broken twice and warned of once."""
    write_model(tmp_path / "repo" / "right", PYTHON, MODEL)
    config = 'name: "other" # mine\n' + PYTHON + "max_batch_size: -1\ninstance_group { kind: KIND_CPU count: 0 }\n"
    write_model(tmp_path / "repo" / "wrong", config, MODEL)
    return tmp_path


def test_lines_are_for_editors_and_grep(broken: Path) -> None:
    done = tritonforge(broken, "lint", "repo")
    assert done.returncode == 1
    wrong_name = "unexpected directory name 'wrong' for model 'other', directory name must equal model name"
    assert done.stdout.splitlines() == [
        "repo/wrong/config.pbtxt:5:1: C4 'max_batch_size' must be non-negative value for other",
        f"repo/wrong/config.pbtxt:1:1: R1 {wrong_name}",
        "repo/wrong/config.pbtxt:6:33: L9 `count: 0` of instance group other_0 is replaced by the default",
    ]
    assert "2 errors, 1 warning" in done.stderr


def test_json_has_the_keys_that_programs_read(broken: Path) -> None:
    done = tritonforge(broken, "lint", "repo", "--json")
    assert done.returncode == 1
    assert done.stdout == tritonforge(broken, "lint", "repo", "--format", "json").stdout
    found = json.loads(done.stdout)
    assert list(found) == ["findings"]
    assert [finding["rule"] for finding in found["findings"]] == ["C4", "R1", "L9"]
    keys = ["repository", "model", "rule", "severity", "text", "file", "line", "column", "field", "fix"]
    assert list(found["findings"][0]) == keys


def test_sarif_is_valid_and_offers_the_mends(broken: Path) -> None:
    done = tritonforge(broken, "lint", "repo", "--format", "sarif")
    assert done.returncode == 1
    log = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SARIF).validate(log)
    fixes = {result["ruleId"]: "fixes" in result for result in log["runs"][0]["results"]}
    assert fixes == {"C4": False, "R1": True, "L9": True}


def test_warnings_alone_exit_0(tmp_path: Path) -> None:
    write_model(tmp_path / "repo" / "m", PYTHON + "instance_group { kind: KIND_CPU count: 0 }", MODEL)
    done = tritonforge(tmp_path, "lint", "repo")
    assert (done.returncode, ": L9 " in done.stdout) == (0, True)


def test_needs_limit_the_rules(broken: Path) -> None:
    def rules(*flags: str) -> list[str]:
        done = tritonforge(broken, "lint", "repo", "--json", *flags)
        return [finding["rule"] for finding in json.loads(done.stdout)["findings"]]

    assert rules("--needs", "text") == ["C4", "L9"]
    assert rules("--needs", "dir") == ["R1"]
    assert rules("--needs", "dir,text") == ["C4", "R1", "L9"]
    assert rules("--needs", "file,repo,host") == []


def test_a_declared_host_decides_more(tmp_path: Path) -> None:
    config = ONNX_BATCHING + "instance_group { kind: KIND_GPU }\nresponse_cache { enable: true }\n"
    write_model(tmp_path / "repo" / "m", config, BATCHED)

    def rules(*flags: str) -> list[str]:
        done = tritonforge(tmp_path, "lint", "repo", "--json", *flags)
        return [finding["rule"] for finding in json.loads(done.stdout)["findings"]]

    assert rules() == []
    assert rules("--server", "26.08", "--gpus", "2", "--compute-capability", "9.0") == ["L16"]
    assert rules("--gpus", "0", "--cache-config", "local,size=1048576") == ["G4"]
    assert rules("--gpus", "0") == ["G4", "L16"]
    assert rules("--backends", "") == ["M5", "L16"]
    assert rules("--gpus", "1", "--compute-capability", "5.2", "--cache-config", "local,size=1") == ["G4"]
    assert rules("--gpus", "1", "--compute-capability", "6.1", "--minimum-capability", "7.5", "--needs", "host") == [
        "G4",
        "L16",
    ]
    assert rules("--backends", "python, tensorrt", "--cache-config", "x") == ["M5"]
    files = "onnxruntime/libtriton_onnxruntime.so,python/libtriton_python.so"
    assert rules("--backends", files, "--cache-config", "x") == []
    assert rules("--backends", files.replace("libtriton_onnxruntime", "onnx"), "--cache-config", "x") == ["M5"]
    assert rules("--without", "gpu", "--needs", "host", "--cache-config", "x") == ["G3"]
    assert rules("--rate-limit-resource", "R:1", "--agents", "checksum", "--cache-config", "x") == []


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ([], "Missing argument 'REPOSITORY...'"),
        (["repo", "--needs", "texts"], "known are text, dir, repo, file, host"),
        (["repo", "--server", "2.51"], "such as 26.08"),
        (["repo", "--compute-capability", "nine"], "such as 9.0"),
        (["repo", "--rate-limit-resource", "R"], "name:count"),
        (["repo", "--format", "xml"], "'text', 'json', 'sarif'"),
        (["repo", "--model", "gone"], "has no model 'gone'"),
        (["gone"], "Give the folder that holds the models"),
        (["repo/wrong"], "got a model. Give the folder that holds the models"),
        (["--explain", "C66"], "there is no lint rule 'C66'"),
    ],
)
def test_wrong_calls_exit_2_and_say_what_to_do(broken: Path, arguments: list[str], advice: str) -> None:
    done = tritonforge(broken, "lint", *arguments)
    assert done.returncode == 2
    assert advice in done.stderr


def test_several_repositories_are_judged_as_one_server_serves_them(tmp_path: Path) -> None:
    write_model(tmp_path / "one" / "m", PYTHON, MODEL)
    maps = 'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }'
    step = f'step {{ model_name: "m" model_version: -1 {maps} }}'
    tensors = PYTHON.partition("\n")[2]
    config = f'platform: "ensemble"\n{tensors}ensemble_scheduling {{ {step} }}'
    write_model(tmp_path / "two" / "e", config, {"1/": ""})
    assert tritonforge(tmp_path, "lint", "one", "two").stdout == "no findings\n"
    assert ": X1 " in tritonforge(tmp_path, "lint", "two").stdout


def test_a_variant_of_the_config_is_judged_by_its_name(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {**MODEL, "configs/edge.pbtxt": PYTHON + "max_batch_size: -1"}
    write_model(tmp_path / "repo" / "m", PYTHON, files)
    assert tritonforge(tmp_path, "lint", "repo").returncode == 0
    done = tritonforge(tmp_path, "lint", "repo", "--model-config-name", "edge")
    assert "repo/m/configs/edge.pbtxt:4:1: C4 " in done.stdout


def test_diff_shows_what_would_change_and_writes_nothing(broken: Path) -> None:
    before = (broken / "repo" / "wrong" / "config.pbtxt").read_text()
    done = tritonforge(broken, "lint", "repo", "--diff")
    assert done.returncode == 1
    assert done.stdout.startswith("--- repo/wrong/config.pbtxt\n+++ repo/wrong/config.pbtxt\n@@ ")
    assert '-name: "other" # mine\n+name: "wrong" # mine\n' in done.stdout
    assert (broken / "repo" / "wrong" / "config.pbtxt").read_text() == before
    patched = subprocess.run(["patch", "-p0", "--dry-run"], cwd=broken, input=done.stdout, text=True, check=False)
    assert patched.returncode == 0


def test_fix_asks_before_it_writes(broken: Path) -> None:
    path = broken / "repo" / "wrong" / "config.pbtxt"
    before = path.read_text()
    done = tritonforge(broken, "lint", "repo", "--fix", stdin="n\n")
    assert "Write 1 config? [y/N]" in done.stderr
    assert path.read_text() == before
    assert [line.split()[1] for line in done.stdout.splitlines() if ":1: " in line] == ["C4", "R1"]

    done = tritonforge(broken, "lint", "repo", "--fix", stdin="y\n")
    assert path.read_text().startswith('name: "wrong" # mine\n')
    assert [line.split()[1] for line in done.stdout.splitlines() if ":1: " in line] == ["C4"]
    assert done.returncode == 1


def test_fix_with_yes_leaves_standard_output_to_the_program(broken: Path) -> None:
    done = tritonforge(broken, "lint", "repo", "--fix", "--yes", "--json")
    assert [finding["rule"] for finding in json.loads(done.stdout)["findings"]] == ["C4"]
    assert "+name:" in done.stderr
    assert "mended L9, R1" in done.stderr
    again = tritonforge(broken, "lint", "repo", "--fix", "--yes", "--json")
    assert "nothing can be mended safely" in again.stderr


def test_names_that_are_no_text_are_printed_as_they_are(tmp_path: Path) -> None:
    config = PYTHON + "max_batch_size: -1 instance_group { count: 0 }"
    write_model(tmp_path / "repo" / os.fsdecode(b"m\xff"), config, MODEL)
    command = [str(Path(sys.executable).with_name("tritonforge")), "lint", "repo"]
    choices: list[tuple[str, ...]] = [(), ("--diff",), ("--format", "sarif"), ("--json",)]
    for flags in choices:
        done = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, done.stdout != b"", b"Traceback" in done.stderr) == (1, True, False)
        if flags in choices[:2]:
            assert b"repo/m\xff/config.pbtxt" in done.stdout


def test_fix_refuses_before_it_asks(broken: Path) -> None:
    write_model(broken / "repo" / "also", 'name: "other"\n' + PYTHON, MODEL)
    path = broken / "repo" / "wrong" / "config.pbtxt"
    path.chmod(0o444)
    done = tritonforge(broken, "lint", "repo", "--fix", stdin="y\n")
    assert (done.returncode, "write-protected" in done.stderr, "Write 2 configs?" in done.stderr) == (2, True, False)
    assert (broken / "repo" / "also" / "config.pbtxt").read_text().startswith('name: "other"\n')


def test_rules_are_listed_and_taught_without_a_repository(tmp_path: Path) -> None:
    listed = tritonforge(tmp_path, "lint", "--list").stdout
    assert set(re.findall(r"│ ([A-Z]\d+) ", listed)) == set(RULES)
    taught = tritonforge(tmp_path, "lint", "--explain", "c6").stdout
    assert "dynamic batching preferred size must be <= max batch size for {model}" in taught
    assert "preferred_batch_size: [ 16 ]" in taught


def test_the_pre_commit_hook_runs(broken: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "language", "entry", "files"} <= set(hook)
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    assert re.search(hook["files"], "models/resnet/config.pbtxt")
    assert re.search(hook["files"], "models/resnet/configs/edge.pbtxt")
    assert re.search(hook["files"], "old-config.pbtxt") is None
    assert re.search(hook["files"], "models/resnet/1/model.onnx") is None
    command = [
        str(Path(sys.executable).with_name(word)) if not index else word
        for index, word in enumerate(shlex.split(hook["entry"]))
    ]
    # As pre-commit calls it: entry, then the user's args, then nothing.
    done = subprocess.run([*command, "repo"], cwd=broken, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ": C4 " in done.stdout
