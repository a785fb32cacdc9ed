"""What ``tritonforge doctor`` finds: really here, and with programs and packages laid in its way."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path

import pytest
from support.stand_in_plans import stand_in_tensorrt

from tritonforge_generator.doctor import Fact, examine


def facts() -> dict[str, Fact]:
    return {fact.topic: fact for fact in examine()}


def test_packages_have_their_installed_versions() -> None:
    found = facts()
    assert found["onnxruntime"].detail == metadata.version("onnxruntime")
    assert "CPUExecutionProvider" in found["ONNX Runtime's providers"].detail


def test_what_is_missing_has_a_command() -> None:
    for fact in facts().values():
        assert fact.present or fact.action != "", fact.topic
    for topic, module, extra in (("torch", "torch", "torch"), ("onnxscript", "onnxscript", "torch")):
        if importlib.util.find_spec(module) is None:
            assert facts()[topic].action == f"pip install 'tritonforge[{extra}]'"


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_missing_tensorrt_names_its_extra() -> None:
    fact = facts()["TensorRT"]
    assert not fact.present
    assert fact.action.startswith("pip install 'tritonforge[tensorrt]'")


@pytest.mark.parametrize("version", ["8.6.0", "11.4.0.106"])
def test_tensorrt_that_loads_has_its_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    with stand_in_tensorrt(version):
        import_path = importlib.util.find_spec("tensorrt")
        assert import_path is not None
        assert import_path.origin is not None
        monkeypatch.setenv("PYTHONPATH", str(Path(import_path.origin).parents[1]))
        fact = facts()["TensorRT"]
    assert (fact.present, fact.detail, fact.action) == (True, version, "")


def test_tensorrt_that_does_not_load_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fact = facts()["TensorRT"]
    assert not fact.present
    assert "libcudart.so.13: cannot open shared object file" in fact.detail
    assert "CUDA libraries" in fact.action


def test_gpus_are_listed_with_their_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA H200, 580.95, 143771 MiB, 9.0'\necho 'NVIDIA L4, 580.95, 23034 MiB, 8.9'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = facts()
    assert found["GPU 0"].detail == "NVIDIA H200, driver 580.95, 143771 MiB, compute capability 9.0"
    assert found["GPU 1"].present


def test_gpu_that_does_not_answer_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fact = facts()["GPU"]
    assert not fact.present
    assert re.search(r"no GPU answers|no NVIDIA driver", fact.detail)
