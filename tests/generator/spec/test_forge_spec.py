from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tritonforge_generator.errors import SpecError
from tritonforge_generator.spec import forge_spec_from_file, forge_spec_from_flags


def write(folder: Path, text: str) -> Path:
    path = folder / "tritonforge.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "repository: repo\nmodels:\n  - {name: a, source: models/a.onnx, verify: {samples: a.npz}}\n"
        "  - {name: b, source: /abs/b.onnx}\n",
    )
    spec = forge_spec_from_file(path)
    assert spec.repository == tmp_path / "repo"
    assert spec.models[0].source == tmp_path / "models/a.onnx"
    assert spec.models[0].verify.samples == tmp_path / "a.npz"
    assert spec.models[1].source == Path("/abs/b.onnx")
    assert spec.models[1].verify.samples is None


def test_unknown_key_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "models:\n  - name: a\n    source: a.onnx\n    max_batchsize: 8\n")
    with pytest.raises(SpecError) as caught:
        forge_spec_from_file(path)
    assert f"{path}:4:5" in str(caught.value)
    assert "unknown key 'max_batchsize'" in str(caught.value)
    assert "errors" not in str(caught.value)
    assert "max_batch_size" in caught.value.action or "Did you mean 'max_batch_size'" in str(caught.value)


@pytest.mark.parametrize("name", ["a/b", "..", "a..b", "", "-a", "a b", "a;b", "é", "x" * 201])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="name"):
        forge_spec_from_flags({"name": name, "source": "a.onnx"}, repository=Path("repo"))


@pytest.mark.parametrize("name", ["digits", "ResNet-50_v1.5", "3d"])
def test_safe_names_are_taken(name: str) -> None:
    spec = forge_spec_from_flags({"name": name, "source": "a.onnx"}, repository=Path("repo"))
    assert spec.models[0].name == name


def test_names_are_distinct(tmp_path: Path) -> None:
    path = write(tmp_path, "models:\n  - {name: a, source: a.onnx}\n  - {name: a, source: b.onnx}\n")
    with pytest.raises(SpecError, match="distinct model names"):
        forge_spec_from_file(path)


def test_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="models: expected at least 1 of them, got"):
        forge_spec_from_file(write(tmp_path, "models: []\n"))


SEQUENCES = "models:\n  - {name: a, source: a.onnx, sequence_batching: {}}\nenvironments:\n  prod:\n    a: "


@pytest.mark.parametrize(
    ("environment", "refusal"),
    [
        (
            "{response_cache: {enable: true}}",
            ":5:34: environments.prod.a.response_cache.enable: expected false with sequence_batching, got true",
        ),
        (
            "{instance_group: [{name: x}, {name: x}]}",
            ":5:25: environments.prod.a.instance_group: expected distinct names, got 'x' twice",
        ),
        ("{max_batchsize: 1}", "unknown key 'max_batchsize' in environments.prod.a: expected one of dynamic_batching"),
        ("{metric_tags: {a-b: c}}", "environments.prod.a.metric_tags.a-b: expected text like"),
    ],
)
def test_an_environment_is_refused_at_its_key(tmp_path: Path, environment: str, refusal: str) -> None:
    path = write(tmp_path, f"{SEQUENCES}{environment}\n")
    with pytest.raises(SpecError) as caught:
        forge_spec_from_file(path)
    assert refusal in str(caught.value)
    assert "errors" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"dynamic_batching": {"priority_levels": 2}}, "dynamic_batching: expected a default_priority_level"),
        ({"precision": {"calibration": {"percentile": 99.0}}}, "precision.calibration.percentile: expected the method"),
        ({"version": 2**63}, "version: expected less than or equal to 9223372036854775807"),
        ({"preprocess": {"resize": [20]}}, r"item \[1\] is missing in preprocess.resize"),
        ({"preprocess": {"resize": [20, 20, 3]}}, "preprocess.resize: expected at most 2 of them, got a list of 3"),
        ({"parameters": {"intra_op_thread_count": 2}}, "expected text, got the number 2. Put it in quotes"),
    ],
)
def test_one_mistake_is_told_once(options: dict[str, Any], refusal: str) -> None:
    """Also inside values that may be of several kinds."""
    with pytest.raises(SpecError, match=refusal) as caught:
        forge_spec_from_flags({"name": "a", "source": "a.onnx", **options}, repository=Path("repo"))
    assert "errors" not in str(caught.value)
