"""``generate --frozen``: CI fails where the repository is not what the spec gives, quickly."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import graphs
from support.command_line import tritonforge

import tritonforge_generator.inputs
import tritonforge_generator.preview
from tritonforge_generator.demo.run import SPEC_PATH
from tritonforge_generator.made import package_versions
from tritonforge_generator.pipeline import generate
from tritonforge_generator.preview import Preview, preview
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file, forge_spec_from_flags


def spec_of(folder: Path, **options: Any) -> ForgeSpec:
    return forge_spec_from_flags({"name": "m", "source": str(folder / "m.onnx"), **options}, repository=folder / "repo")


def frozen(folder: Path, **options: Any) -> Preview:
    (one,) = preview(spec_of(folder, **options), frozen=True)
    return one


@pytest.fixture
def published(tmp_path: Path) -> Path:
    graphs.linear(tmp_path / "m.onnx", external=True)
    generate(spec_of(tmp_path), serve_check=False)
    return tmp_path


def test_nothing_is_looked_at_again_where_nothing_changed(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the source was read and run")

    monkeypatch.setattr(tritonforge_generator.preview, "drafted", never)
    start = time.perf_counter()
    assert frozen(published).changed is False
    assert time.perf_counter() - start < 2.0


def test_the_changed_source_is_named(published: Path) -> None:
    graphs.linear(published / "m.onnx", external=True, seed=1)
    one = frozen(published)
    assert one.changed
    assert one.inputs is not None
    assert {sentence.partition(":")[0] for sentence in one.inputs} <= {"source", "source m.onnx.data"}
    assert "source m.onnx.data: sha256 " in " ".join(one.inputs)
    assert one.files["2/m.onnx.data"] == "replaced"


def test_the_changed_key_of_the_spec_is_named(published: Path) -> None:
    one = frozen(published, dynamic_batching={"max_queue_delay_microseconds": 500})
    assert one.changed
    assert one.inputs is not None
    assert "spec dynamic_batching.max_queue_delay_microseconds: none -> 500" in one.inputs


def test_the_changed_tool_is_named(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**package_versions(), "tritonforge": "99.0"}
    monkeypatch.setattr(tritonforge_generator.inputs, "package_versions", lambda: versions)
    one = frozen(published)
    assert one.changed is False  # another tool, but the same result
    assert one.inputs is not None
    assert [sentence.rpartition(" -> ")[2] for sentence in one.inputs] == ["99.0"]


def test_samples_are_an_input_too(published: Path) -> None:
    np.savez(published / "samples.npz", x=np.ones((3, 4), np.float32))
    one = frozen(published, verify={"samples": str(published / "samples.npz")})
    assert one.inputs is not None
    assert any(sentence.startswith("spec verify.samples: none -> sha256 ") for sentence in one.inputs)


@pytest.mark.parametrize("name", ["config.pbtxt", "1/model.onnx"])
def test_a_damaged_repository_is_seen(published: Path, name: str) -> None:
    path = published / "repo" / "m" / name
    path.write_bytes(path.read_bytes().replace(b"count: 1", b"count: 2") + b"\n\n")
    one = frozen(published)
    assert one.changed


def test_the_committed_demo_is_frozen() -> None:
    spec = forge_spec_from_file(SPEC_PATH)
    committed = Path(__file__).parents[2] / "model_repository"
    (one,) = preview(spec.model_copy(update={"repository": committed}), frozen=True)
    assert one.changed is False, one.diff()


def test_the_command_fails_with_the_diff_and_its_cause(published: Path) -> None:
    arguments = ["generate", "m.onnx", "--repository", "repo", "--frozen"]
    assert tritonforge(published, *arguments).returncode == 0
    done = tritonforge(published, *arguments, "--max-batch-size", "16")
    assert done.returncode == 1
    assert "+max_batch_size: 16" in done.stdout
    assert "changed input: spec max_batch_size: none -> 16" in done.stdout
    assert "generate and commit it" in done.stderr


def test_a_converted_model_is_not_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs.linear(tmp_path / "m.onnx")
    generate(spec_of(tmp_path, precision="FP16"), serve_check=False)
    monkeypatch.setattr(tritonforge_generator.preview, "drafted", None)
    assert frozen(tmp_path, precision="FP16").changed is False


def test_a_converted_model_of_another_source_fails_before_it_is_built(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    generate(spec_of(tmp_path, precision="FP16"), serve_check=False)
    graphs.linear(tmp_path / "m.onnx", seed=1)
    one = frozen(tmp_path, precision="FP16")
    assert (one.changed, dict(one.files)) == (True, {"2/model.onnx": "unknown before a build"})


PLACED = """
repository: repo
models:
  - name: m
    source: m.onnx
    precision: FP16
    instance_group: [{rate_limiter: {resources: [{name: memory, global: true}]}}]
environments:
  staging: {m: {instance_group: [{count: 1}]}}
"""


def test_where_the_repository_lies_is_no_input(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    (tmp_path / "tritonforge.yaml").write_text(PLACED)
    assert tritonforge(tmp_path, "generate", "tritonforge.yaml", "--no-serve-check").returncode == 0
    (tmp_path / "repo").rename(tmp_path / "elsewhere")
    done = tritonforge(tmp_path, "generate", "tritonforge.yaml", "--frozen", "--repository", "elsewhere")
    assert (done.returncode, done.stdout) == (0, "m: unchanged, version 1\n"), done.stderr
