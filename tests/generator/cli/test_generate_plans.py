"""``tritonforge generate`` with ``--trtexec`` and ``--server``, as far as the stand-in TensorRT of 10.16.1.11 goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import graphs
from support.stand_in_plans import stand_in_tensorrt

from tritonforge_generator.cli.main import group
from tritonforge_generator.errors import PlanError, SpecError

LINE = "trtexec --onnx=m.onnx --minShapes=x:1x4 --optShapes=x:4x4 --maxShapes=x:8x4 --noBuilderCache"
SPEC = """
repository: by_spec
models:
  - name: m
    source: m.onnx
    platform: tensorrt
    max_batch_size: 8
    tensorrt: {timing_cache: false, profiles: [{x: {min: [1, 4], opt: [4, 4], max: [8, 4]}}]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an ONNX file, which is the current one; plans can be built."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    graphs.linear(tmp_path / "m.onnx")
    with stand_in_tensorrt():
        yield tmp_path


def generate(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["generate", "--no-serve-check", *arguments])


def test_line_builds_what_the_spec_builds(folder: Path) -> None:
    (folder / "tritonforge.yaml").write_text(SPEC)
    for arguments in (["tritonforge.yaml"], ["--trtexec", LINE, "--repository", "by_line"]):
        result = generate(*arguments)
        assert result.exit_code == 0, result.output
    by_spec, by_line = (folder / name / "m" for name in ("by_spec", "by_line"))
    for file in ("config.pbtxt", "1/model.plan"):
        assert (by_spec / file).read_bytes() == (by_line / file).read_bytes()


def test_flags_beside_a_line_win(folder: Path) -> None:
    flags = ["--name", "other", "--set", "precision.keep_fp32=[Gemm]", "--print-spec", "--server", "26.04"]
    result = generate("--trtexec", f"{LINE} --fp16", *flags)
    assert result.exit_code == 0, result.output
    assert "- name: other" in result.stdout
    assert "type: FP16\n    keep_fp32: [Gemm]" in result.stdout
    assert 'server: "26.04"' in result.stdout
    assert not (folder / "model_repository").exists()


def test_server_with_that_tensorrt_takes_the_plan(folder: Path) -> None:
    result = generate("--trtexec", LINE, "--server", "26.04")
    assert result.exit_code == 0, result.output
    assert "TensorRT 10.16.1.11 fits the 10.16.1 of Triton 26.04" in result.output


@pytest.mark.parametrize(
    ("release", "refusal"),
    [("24.08", "expected TensorRT 10.3.0.26, as Triton 24.08 has, got TensorRT 10.16.1.11"), ("99.01", "not known")],
)
def test_server_with_another_tensorrt_is_refused(folder: Path, release: str, refusal: str) -> None:
    result = generate("--trtexec", LINE, "--server", release)
    assert isinstance(result.exception, PlanError)
    assert refusal in str(result.exception)
    assert not (folder / "model_repository").exists()


def test_server_wins_over_the_specs(folder: Path) -> None:
    (folder / "tritonforge.yaml").write_text("server: '24.08'\n" + SPEC)
    assert isinstance(generate("tritonforge.yaml").exception, PlanError)
    assert generate("tritonforge.yaml", "--server", "26.04").exit_code == 0


def test_server_is_a_release(folder: Path) -> None:
    error = generate("m.onnx", "--server", "26.8").exception
    assert isinstance(error, SpecError)
    assert "got the text '26.8'" in str(error)


@pytest.mark.parametrize("arguments", [[], ["m.onnx", "--trtexec", LINE]])
def test_one_source_is_asked_for(folder: Path, arguments: list[str]) -> None:
    result = generate(*arguments)
    assert result.exit_code == 2
    assert "Give one of SPEC.yaml, MODEL.onnx and --trtexec." in result.output
