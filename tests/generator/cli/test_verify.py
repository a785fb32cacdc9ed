"""``tritonforge verify``: what it prints, and how it exits."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import graphs, stand_in_graphs
from support.stand_in_plans import stand_in_tensorrt

from tritonforge_generator.cli.main import group
from tritonforge_generator.errors import RepositoryError, SourceError
from tritonforge_generator.pipeline import generate
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.spec import forge_spec_from_flags


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan and an ONNX model in one repository, and the sources of both."""
    folder = tmp_path_factory.mktemp("generated")
    sources = {"plan": stand_in_graphs.negation(folder / "plan.onnx"), "onnx": graphs.linear(folder / "onnx.onnx")}
    with stand_in_tensorrt(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for name, source in sources.items():
            platform = "tensorrt" if name == "plan" else "onnxruntime"
            flags = {"name": name, "source": str(source), "platform": platform, "precision": "FP32"}
            generate(forge_spec_from_flags(flags, repository=folder / "repo"), serve_check=False)
    return folder


@pytest.fixture
def folder(generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without it, even where there is one."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt_api.tensorrt.cache_clear()
    yield
    tensorrt_api.tensorrt.cache_clear()


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["verify", "repo", "--no-serve-check", *arguments])


@pytest.mark.usefixtures("folder")
def test_every_model_passes_where_it_can_be_run() -> None:
    with stand_in_tensorrt():
        result = verify()
        assert (result.exit_code, "skipped" in result.output) == (0, False)
        assert "the plan is for this GPU" in result.output
        assert verify("--model", "plan", "--source", "plan.onnx", "--server", "26.04", "--seed", "3").exit_code == 0
        assert verify("--model", "plan", "--server", "26.08").exit_code == 1
        assert verify("--model", "plan", "--device-id", "1").exit_code == 1


@pytest.mark.usefixtures("folder", "no_tensorrt")
def test_a_plan_that_cannot_be_run_here_is_not_verified() -> None:
    result = verify()
    assert result.exit_code == 1
    assert "TensorRT is not installed here" in result.stdout
    assert result.stderr.endswith("plan: not verified, because gates were skipped\n")
    assert verify("--model", "onnx").exit_code == 0
    allowed = verify("--allow-skipped")
    assert allowed.exit_code == 0
    assert "plan: not verified, because gates were skipped" in allowed.stderr


@pytest.mark.usefixtures("no_tensorrt")
def test_what_failed_is_never_allowed(folder: Path) -> None:
    path = folder / "repo" / "plan" / "1" / "model.plan"
    path.write_bytes(path.read_bytes() + b" ")
    result = verify("--allow-skipped")
    assert result.exit_code == 1
    assert "changed or missing: model.plan" in result.stdout


@pytest.mark.usefixtures("folder", "no_tensorrt")
def test_programs_see_what_was_skipped() -> None:
    models = {one["model"]: one for one in json.loads(verify("--json").stdout)["models"]}
    assert {name: one["passed"] for name, one in models.items()} == {"onnx": True, "plan": False}
    skipped = [check for check in models["plan"]["checks"] if check["skipped"]]
    assert [(check["name"], check["passed"]) for check in skipped] == [("the plan runs", False)]


@pytest.mark.usefixtures("folder")
def test_sources_that_cannot_be_used_are_errors() -> None:
    unnamed = verify("--source", "onnx.onnx").exception
    assert isinstance(unnamed, RepositoryError)
    absent = verify("--model", "onnx", "--source", "absent.onnx").exception
    assert isinstance(absent, SourceError)
    assert (unnamed.exit_code, absent.exit_code) == (2, 2)


def test_help_says_what_is_not_verified() -> None:
    text = CliRunner().invoke(group, ["verify", "--help"]).output
    assert "it does not count as verified" in " ".join(text.split())
