"""``--diff`` and ``--frozen`` of plans, which are built on the stand-in TensorRT and looked at without it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support import stand_in_graphs
from support.stand_in_plans import stand_in_tensorrt

import tritonforge_generator.inputs
from tritonforge_generator.made import package_versions
from tritonforge_generator.pipeline import generate
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.preview import Preview, preview
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_flags

SHAPES = {"max_batch_size": 8, "platform": "tensorrt"}


def spec_of(folder: Path, **options: Any) -> ForgeSpec:
    flags = {"name": "m", "source": str(folder / "m.onnx"), **SHAPES, **options}
    return forge_spec_from_flags(flags, repository=folder / "repo")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a plan, on a machine that no longer has TensorRT."""
    stand_in_graphs.product(tmp_path / "m.onnx", half=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with stand_in_tensorrt():
        generate(spec_of(tmp_path), serve_check=False)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt_api.tensorrt.cache_clear()
    return tmp_path


def preview_one(folder: Path, *, frozen: bool, **options: Any) -> Preview:
    (one,) = preview(spec_of(folder, **options), frozen=frozen)
    return one


@pytest.mark.parametrize("frozen", [True, False])
def test_a_plan_of_the_same_inputs_needs_no_gpu(published: Path, frozen: bool) -> None:
    one = preview_one(published, frozen=frozen)
    assert (one.changed, one.diff()) == (False, "")


@pytest.mark.parametrize(("installed", "changed"), [(None, False), ("10.3.0", False), ("10.4.0", True)])
def test_only_another_tensorrt_would_build_another_plan(
    published: Path, monkeypatch: pytest.MonkeyPatch, installed: str | None, changed: bool
) -> None:
    path = published / "repo" / "m" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["made"]["inputs"]["tool tensorrt"] = "10.3.0"
    path.write_text(json.dumps(manifest))
    versions = {**package_versions(), **({"tensorrt": installed} if installed is not None else {})}
    monkeypatch.setattr(tritonforge_generator.inputs, "package_versions", lambda: versions)
    one = preview_one(published, frozen=True)
    assert one.changed == changed
    assert one.inputs == (("tool tensorrt: 10.3.0 -> 10.4.0",) if changed else ())


def test_a_plan_of_another_source_is_not_known_before_it_is_built(published: Path) -> None:
    stand_in_graphs.negation(published / "m.onnx")
    one = preview_one(published, frozen=True)
    assert one.files["2/model.plan"] == "unknown before a build"
    assert one.inputs is not None
    assert one.inputs[0].startswith("source: sha256 ")


def test_the_configuration_of_a_plan_is_known_before_it_is_built(published: Path) -> None:
    one = preview_one(published, frozen=False, instance_group=[{"kind": "KIND_GPU", "count": 2}])
    changed = [line for line in one.diff().splitlines() if line[:1] in {"+", "-"} and line[:3] not in {"+++", "---"}]
    assert [line.partition("#")[0].strip() for line in changed] == [
        "-  count: 1",
        "-  kind: KIND_AUTO",
        "+  count: 2",
        "+  kind: KIND_GPU",
    ]
