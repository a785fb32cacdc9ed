"""Which platform serves a model: plans on the stand-in TensorRT, and what happens where there is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from support import graphs, stand_in_graphs
from support.stand_in_plans import stand_in_tensorrt

from tritonforge_generator.errors import PlanBuildError, PlanError, TensorRTMissingError, VerificationError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_flags


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without it, even where there is one."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt_api.tensorrt.cache_clear()
    yield
    tensorrt_api.tensorrt.cache_clear()


@pytest.fixture
def tensorrt(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in; timing caches go to a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with stand_in_tensorrt():
        yield


def spec_of(folder: Path, source: Path, *, server: str | None = None, **options: Any) -> ForgeSpec:
    flags = {"name": "m", "source": str(source), "max_batch_size": 8, **options}
    spec = forge_spec_from_flags(flags, repository=folder / "repo")
    return spec.model_copy(update={"server": server})


def generated(folder: Path, source: Path, **options: Any) -> Generated:
    (one,) = generate(spec_of(folder, source, **options), serve_check=False)
    return one


@pytest.mark.usefixtures("no_tensorrt")
def test_auto_is_served_by_onnx_runtime_where_no_plan_can_be_built(tmp_path: Path) -> None:
    plan_only = {
        "tensorrt": {"builder_optimization_level": 5},
        "optimization": {"cuda": {}},
        "instance_group": [{"profile": [0]}],
    }
    one = generated(tmp_path, graphs.linear(tmp_path / "m.onnx"), platform="auto", **plan_only)
    message = one.config.message
    assert message.backend == "onnxruntime"
    assert list(message.instance_group[0].profile) == []
    assert not message.HasField("optimization")
    assert one.plan is None
    note = "served by ONNX Runtime, because no plan can be built here: TensorRT is not installed here"
    assert note in one.config.notes
    assert f"# Note: {note}\n" in (tmp_path / "repo" / "m" / "config.pbtxt").read_text()
    manifest = json.loads((one.version.path / "manifest.json").read_text())
    assert manifest["options"]["platform"] == "onnxruntime"
    assert "tensorrt" not in manifest["options"]


@pytest.mark.usefixtures("no_tensorrt")
def test_a_plan_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    """It is refused before any work is done: the source is not even looked at."""
    stages: list[tuple[str, str]] = []
    spec = spec_of(tmp_path, tmp_path / "absent.onnx", platform="tensorrt")
    with pytest.raises(TensorRTMissingError, match=r"TensorRT is not installed here.*pip install 'tritonforge\[tens"):
        generate(spec, on_stage=lambda *stage: stages.append(stage))
    assert stages == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize("platform", ["auto", "tensorrt"])
def test_a_plan_is_published_where_one_can_be_built(tmp_path: Path, platform: str) -> None:
    source = stand_in_graphs.product(tmp_path / "m.onnx", half=False)
    one = generated(tmp_path, source, platform=platform, server="26.04")
    assert [path.name for path in one.version.path.iterdir() if path.suffix in {".plan", ".onnx"}] == ["model.plan"]
    assert (one.config.message.backend, one.config.message.platform) == ("tensorrt", "tensorrt_plan")
    made = json.loads((one.version.path / "manifest.json").read_text())["made"]
    assert made["plan"]["sha256"] == sha256_of_file(one.version.path / "model.plan")
    assert made["plan"]["gpu"]["name"] == "stand-in"
    assert made["source_sha256"] == sha256_of_file(source)
    assert str(tmp_path) not in json.dumps(made)
    assert ("served as a TensorRT plan for stand-in" in one.config.notes) == (platform == "auto")
    assert {"the server's TensorRT loads the plan", "rows are independent of their batch"} <= {
        check.name for check in one.verification.checks
    }


def newly_built(one: Generated) -> bool:
    assert one.plan is not None
    return one.plan.newly_built


@pytest.mark.usefixtures("tensorrt")
def test_generating_a_plan_again_builds_nothing(tmp_path: Path) -> None:
    source = stand_in_graphs.negation(tmp_path / "m.onnx")
    first = generated(tmp_path, source, platform="tensorrt")
    assert first.version.new
    assert newly_built(first)
    again = generated(tmp_path, source, platform="tensorrt", tensorrt={"time_budget_s": 1000.0})
    assert (again.version.version, again.version.new, newly_built(again)) == (1, False, False)
    assert again.plan is not None
    assert first.plan is not None
    assert again.plan.layers == first.plan.layers
    assert again.plan.sha256 == first.plan.sha256


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    "options",
    [
        {"tensorrt": {"builder_optimization_level": 1}},
        {"max_batch_size": 4},
        {"precision": "FP32"},
        {"tensorrt": {"timing_cache": False}},
    ],
    ids=str,
)
def test_a_plan_that_was_made_from_something_else_is_built(tmp_path: Path, options: dict[str, Any]) -> None:
    source = stand_in_graphs.negation(tmp_path / "m.onnx")
    generated(tmp_path, source, platform="tensorrt")
    assert newly_built(generated(tmp_path, source, platform="tensorrt", **options))


@pytest.mark.usefixtures("tensorrt")
def test_an_older_version_of_the_same_is_found(tmp_path: Path) -> None:
    source = stand_in_graphs.negation(tmp_path / "m.onnx")
    generated(tmp_path, source, platform="tensorrt")
    source.write_bytes(stand_in_graphs.negation(tmp_path / "other.onnx", name="other").read_bytes())
    assert generated(tmp_path, source, platform="tensorrt").version.version == 2
    stand_in_graphs.negation(tmp_path / "m.onnx")
    back = generated(tmp_path, source, platform="tensorrt")
    assert (back.version.version, back.version.new, newly_built(back)) == (3, True, False)


@pytest.mark.usefixtures("tensorrt")
def test_a_published_plan_that_was_damaged_is_built_again(tmp_path: Path) -> None:
    source = stand_in_graphs.negation(tmp_path / "m.onnx")
    plan = generated(tmp_path, source, platform="tensorrt").version.path / "model.plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    assert newly_built(generated(tmp_path, source, platform="tensorrt"))


@pytest.mark.usefixtures("tensorrt")
def test_profiles_of_other_lengths_are_published(tmp_path: Path) -> None:
    short = {"min": [1, 1], "opt": [4, 16], "max": [4, 16]}
    long = {"min": [1, 17], "opt": [4, 32], "max": [4, 64]}
    node, shape = helper.make_node("Neg", ["x"], ["y"], name="neg"), ("batch", "length")
    source = graphs.save(
        tmp_path / "m.onnx", [node], [graphs.tensor("x", shape=shape)], [graphs.tensor("y", shape=shape)]
    )
    profiles = {"profiles": [{"x": short}, {"x": long}]}
    one = generated(tmp_path, source, platform="tensorrt", max_batch_size=4, tensorrt=profiles)
    names = [check.name for check in one.verification.checks]
    assert [name for name in names if name.endswith("(profile 1)")] == [
        "the plan answers like the FP32 graph (profile 1)",
        "rows are independent of their batch (profile 1)",
    ]


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"instance_group": [{"profile": [3]}]}, "instance_group asks for profile 3, the plan has 1"),
        ({"instance_group": [{"count": 1_000_000}]}, "1000000 instances take .* GB of 1.1 GB"),
    ],
)
def test_a_plan_that_does_not_fit_is_not_published(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    source = stand_in_graphs.negation(tmp_path / "m.onnx")
    with pytest.raises(VerificationError, match=text):
        generated(tmp_path, source, platform="tensorrt", **options)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("release", "text"),
    [
        ("26.08", r"does not load in the server: expected TensorRT 11\.2\.1, .*got TensorRT 10\.16\.1\.11"),
        ("19.01", r"the TensorRT version of Triton 19\.01 is not known"),
    ],
)
def test_a_plan_that_the_server_cannot_load_is_not_even_built(tmp_path: Path, release: str, text: str) -> None:
    source = stand_in_graphs.negation(tmp_path / "m.onnx", name="fault: no tactic")  # building would fail otherwise
    with pytest.raises(PlanError, match=text):
        generated(tmp_path, source, platform="tensorrt", server=release)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.usefixtures("tensorrt")
def test_what_cannot_be_built_publishes_no_model_of_the_spec(tmp_path: Path) -> None:
    good = stand_in_graphs.negation(tmp_path / "good.onnx")
    bad = stand_in_graphs.negation(tmp_path / "bad.onnx", name="fault: no tactic")
    flags = [{"name": path.stem, "source": str(path), "platform": "tensorrt"} for path in (good, bad)]
    specs = [forge_spec_from_flags(one, repository=tmp_path / "repo") for one in flags]
    spec = ForgeSpec(repository=tmp_path / "repo", models=tuple(one.models[0] for one in specs))
    with pytest.raises(PlanBuildError, match="no tactic"):
        generate(spec, serve_check=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.onnx", "good.onnx"]
