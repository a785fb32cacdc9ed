"""``tritonforge inspect --completed`` beside what a real server answers for the same models."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from generator.lint.cases import BATCHED, BATCHING, FIXED, MODEL_PY, ONNX, PYTHON, X, write_model
from generator.lint.ensemble_cases import VALID, write_repository
from support.command_line import Done, tritonforge

from tritonforge_generator.deploy import EmbeddedTriton

_PYTHON_FILES = {"1/model.py": MODEL_PY}
_MODELS: dict[str, tuple[str | None, Mapping[str, str | bytes]]] = {
    "no_config": (None, BATCHED),
    "fixed": (None, FIXED),
    "half": (ONNX + X, BATCHED),
    "python": (
        BATCHING
        + "dynamic_batching { priority_levels: 2 default_priority_level: 1\n"
        + "priority_queue_policy { key: 2 value { } } }\n"
        + 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }\n'
        + "instance_group [{ count: 2 }, { kind: KIND_MODEL }]\n",
        _PYTHON_FILES,
    ),
    "sequence": (BATCHING + "sequence_batching { oldest { } }", _PYTHON_FILES),
    "ensemble": (VALID, {"1/": ""}),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    write_repository(path)
    for name, (config, files) in _MODELS.items():
        write_model(path / name, config, files)
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(repository, model_control_mode="explicit", load_models=list(_MODELS)) as server:
        yield server


def inspect(model: Path, *options: str) -> Done:
    return tritonforge(model.parent, "inspect", str(model), "--completed", *options)


def facts_of(model: Path, *options: str) -> dict[str, Any]:
    done = inspect(model, "--json", *options)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.mark.triton
@pytest.mark.parametrize("name", list(_MODELS))
def test_it_is_what_the_server_answers(name: str, repository: Path, server: EmbeddedTriton) -> None:
    with urllib.request.urlopen(f"{server.http_url}/v2/models/{name}/config") as answer:
        served = json.load(answer)
    completed = facts_of(repository / name)["config"]
    # What differs by the server: which library of the back-end it found, and a field newer than server 2.51.
    served.pop("runtime")
    completed.pop("runtime")
    completed.get("ensemble_scheduling", {}).pop("max_inflight_requests", None)
    assert completed == served


def test_every_field_says_where_it_comes_from(repository: Path) -> None:
    origins = facts_of(repository / "half")["origins"]
    assert origins["backend"] == "written"
    assert origins["input[0].dims"] == "written"
    assert origins["output[0].dims"] == "from the file"
    assert origins["output[0].label_filename"] == "default"
    assert origins["max_batch_size"] == "from the file"
    assert origins["dynamic_batching.preferred_batch_size"] == "from the file"
    assert origins["instance_group[0].count"] == "default"
    assert facts_of(repository / "no_config")["origins"]["backend"] == "from the file"


def test_without_completion_nothing_comes_from_the_file(repository: Path) -> None:
    facts = facts_of(repository / "half", "--strict")
    assert facts["config"]["output"] == []
    assert "from the file" not in facts["origins"].values()
    assert "configuration expects" not in (facts["refused"] or "")


def test_instances_are_those_of_the_declared_gpus(repository: Path) -> None:
    (group,) = facts_of(repository / "no_config", "--gpus", "2")["config"]["instance_group"]
    assert (group["kind"], group["count"], group["gpus"]) == ("KIND_GPU", 1, [0, 1])


def test_the_table_names_fields_values_and_origins(repository: Path) -> None:
    done = inspect(repository / "no_config")
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if "max_batch_size" in line)
    assert "4" in row
    assert "from the file" in row


def test_a_model_that_the_server_refuses_is_shown_with_a_warning(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON + "max_batch_size: -1", _PYTHON_FILES)
    done = inspect(tmp_path / "m")
    assert "'max_batch_size' must be non-negative value for m" in done.stdout


def test_what_cannot_be_completed_is_said(tmp_path: Path) -> None:
    write_model(tmp_path / "slip", PYTHON + "max_batch: 1", _PYTHON_FILES)
    write_model(tmp_path / "other", 'backend: "openvino"', {"1/model.xml": ""})
    write_model(tmp_path / "nothing", None, {"1/": ""})
    assert "is no model directory" in inspect(tmp_path / "slip" / "config.pbtxt").stderr
    assert "cannot be read" in inspect(tmp_path / "slip").stderr
    for name, reason in (("other", "the back-end 'openvino'"), ("nothing", "Could not determine backend")):
        said = inspect(tmp_path / name).stderr
        assert "cannot be told without running it" in said
        assert reason in said


@pytest.mark.parametrize("option", [["--strict"], ["--gpus", "0"]])
def test_options_of_the_completion_need_it(tmp_path: Path, option: list[str]) -> None:
    done = tritonforge(tmp_path, "inspect", ".", *option)
    assert (done.returncode, "go with --completed" in done.stderr) == (2, True)
