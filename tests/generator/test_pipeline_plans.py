"""Plans for several GPUs, and several profiles; on the stand-in TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import stand_in_graphs
from support.stand_in_plans import stand_in_tensorrt, write_plan

from tritonforge_generator.errors import VerificationError
from tritonforge_generator.lint import lint_model
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.plan import plan_header_from_path
from tritonforge_generator.spec import forge_spec_from_flags

FITS = "plans for other GPUs fit the same server"
ANSWERS = "plans for other GPUs answer alike"


@pytest.fixture(autouse=True)
def tensorrt(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with stand_in_tensorrt():
        yield


def generated(folder: Path, **options: Any) -> Generated:
    source = stand_in_graphs.negation(folder / "m.onnx")
    flags = {"name": "m", "source": str(source), "platform": "tensorrt", "max_batch_size": 8, **options}
    (one,) = generate(forge_spec_from_flags(flags, repository=folder / "repo"), serve_check=False)
    return one


def plan_file(path: Path, **facts: Any) -> Path:
    tensors = [("x", "float32", (-1, 4)), ("y", "float32", (-1, 4))]
    return write_plan(path, tensors=tensors, outputs={"y": ["negative", "x"]}, profiles=[], **facts)


def test_plans_for_other_gpus_lie_beside_the_one_that_was_built(tmp_path: Path) -> None:
    other = plan_file(tmp_path / "a100.plan")
    one = generated(tmp_path, cc_model_files={"8.0": str(other)})
    folder = one.version.folder.path
    assert dict(one.config.message.cc_model_filenames) == {"8.0": "model-8.0.plan"}
    assert (folder / "1" / "model-8.0.plan").read_bytes() == other.read_bytes()
    manifest = one.version.folder.manifest(1)
    assert manifest is not None
    assert set(manifest.files) == {"model.plan", "model-8.0.plan"}
    verdicts = {check.name: check.verdict for check in one.verification.checks}
    assert (verdicts[FITS], verdicts[ANSWERS]) == ("passed", "skipped")
    assert [found for found in lint_model(folder) if found.severity == "error"] == []


def test_a_plan_of_another_tensorrt_is_refused(tmp_path: Path) -> None:
    built = plan_header_from_path(generated(tmp_path).version.path / "model.plan").version_text
    other = plan_file(tmp_path / "old.plan", version=(8, 6, 1, 6))
    with pytest.raises(VerificationError, match=f"old.plan was built by TensorRT 8.6.1.6, the plan here by {built}"):
        generated(tmp_path, cc_model_files={"8.0": str(other)})


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.plan").write_bytes(b"ftr")
    with pytest.raises(VerificationError, match="is no TensorRT plan"):
        generated(tmp_path, cc_model_files={"8.0": str(tmp_path / "cut.plan")})


def test_a_second_plan_for_this_gpu_is_refused(tmp_path: Path) -> None:
    here = generated(tmp_path).plan
    assert here is not None
    other = plan_file(tmp_path / "same.plan")
    with pytest.raises(VerificationError, match="is this GPU's, for which a plan was built just now"):
        generated(tmp_path, cc_model_files={here.gpu.compute_capability: str(other)})


def test_every_profile_is_warmed_up_with_what_it_was_timed_with(tmp_path: Path) -> None:
    profiles = [
        {"x": {"min": [1, 4], "opt": [1, 4], "max": [8, 4]}},
        {"x": {"min": [1, 4], "opt": [6, 4], "max": [8, 4]}},
    ]
    one = generated(tmp_path, tensorrt={"profiles": profiles})
    warm = [
        (sample.name, sample.batch_size, list(sample.inputs["x"].dims)) for sample in one.config.message.model_warmup
    ]
    assert warm == [("single", 1, [4]), ("full", 8, [4]), ("profile 1", 6, [4])]
