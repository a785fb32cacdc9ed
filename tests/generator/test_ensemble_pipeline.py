"""Ensembles from a spec to a published version, without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import graphs, stand_in_graphs
from support.ensemble_specs import SCORE_THEN_COPY
from support.stand_in_plans import stand_in_tensorrt

from tritonforge_generator.ensemble import composing_models, ensemble_from_options
from tritonforge_generator.errors import ConfigError, GraphError, RepositoryError, VerificationError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.repository import Manifest, ModelFolder
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file, text_from_forge_spec
from tritonforge_generator.verify.chain import chain_from_ensemble

MODELS = """
models:
  - {name: score, source: score.onnx, max_batch_size: 8}
  - {name: copy, source: copy.onnx}
"""


def spec_from(folder: Path, text: str) -> ForgeSpec:
    (folder / "tritonforge.yaml").write_text(f"repository: repo\n{text}")
    return forge_spec_from_file(folder / "tritonforge.yaml")


def sources(folder: Path, *, seed: int = 0, features: int = 3) -> None:
    graphs.linear(folder / "score.onnx", seed=seed)
    graphs.identity(folder / "copy.onnx", shape=("batch", features))


def made(folder: Path, text: str = MODELS + SCORE_THEN_COPY) -> dict[str, Generated]:
    return {one.version.folder.name: one for one in generate(spec_from(folder, text), serve_check=False)}


def manifest_of(folder: Path, name: str, version: int) -> Manifest:
    manifest = ModelFolder(folder / "repo" / name).manifest(version)
    assert manifest is not None
    return manifest


def test_models_are_published_before_the_ensembles_that_they_make(tmp_path: Path) -> None:
    sources(tmp_path)
    found = made(tmp_path)
    assert list(found) == ["score", "copy", "both"]
    assert found["both"].config.message.max_batch_size == 8
    assert [check.name for check in found["both"].verification.checks] == [
        "every edge fits",
        "rows are independent of their batch",
        "the server's rules",
    ]
    assert sorted(path.name for path in (tmp_path / "repo" / "both" / "1").iterdir()) == ["manifest.json"]
    assert [one for one in lint_repository(tmp_path / "repo") if one.severity == "error"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.onnx", "repo", "score.onnx", "tritonforge.yaml"]


def test_the_manifest_names_the_steps_and_their_files(tmp_path: Path) -> None:
    sources(tmp_path)
    made(tmp_path)
    manifest = manifest_of(tmp_path, "both", 1)
    assert manifest.source == "ensemble of score, copy"
    assert [step["model_name"] for step in manifest.graph["steps"]] == ["score", "copy"]
    assert manifest.composing == {name: {"1": dict(manifest_of(tmp_path, name, 1).files)} for name in ("copy", "score")}


def test_generating_twice_changes_nothing(tmp_path: Path) -> None:
    sources(tmp_path)
    made(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "repo").rglob("*")}
    assert not any(one.version.new for one in made(tmp_path).values())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "repo").rglob("*")} == before


def test_a_changed_step_is_a_new_version_of_the_ensemble(tmp_path: Path) -> None:
    sources(tmp_path, seed=0)
    made(tmp_path)
    sources(tmp_path, seed=1)
    found = made(tmp_path)
    assert {name: (one.version.version, one.version.new) for name, one in found.items()} == {
        "score": (2, True),
        "copy": (1, False),
        "both": (2, True),
    }
    assert list(manifest_of(tmp_path, "both", 2).composing["score"]) == ["2"]


def test_published_models_may_be_steps(tmp_path: Path) -> None:
    sources(tmp_path)
    made(tmp_path, MODELS)
    (one,) = made(tmp_path, SCORE_THEN_COPY).values()
    assert one.verification.passed
    assert spec_from(tmp_path, text_from_forge_spec(spec_from(tmp_path, SCORE_THEN_COPY)).partition("\n")[2]).ensembles


def test_an_edge_that_does_not_fit_publishes_nothing(tmp_path: Path) -> None:
    sources(tmp_path, features=5)
    with pytest.raises(
        ConfigError, match=r"step 'score' output 'y' FP32 \[-1,3\] -> step 'copy' input 'x' FP32 \[-1,5"
    ):
        made(tmp_path)
    assert not (tmp_path / "repo").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.onnx", "score.onnx", "tritonforge.yaml"]


def test_a_step_that_is_no_model_is_refused_before_any_work(tmp_path: Path) -> None:
    seen: list[str] = []
    spec = spec_from(tmp_path, MODELS + SCORE_THEN_COPY.replace("model_name: copy", "model_name: copi"))
    with pytest.raises(ConfigError, match=r"step\[1\].model_name is no model: .* Did you mean 'copy'"):
        generate(spec, on_stage=lambda model, stage: seen.append(model + stage))
    assert seen == []


def test_a_step_that_mixes_rows_of_other_requests_is_not_published(tmp_path: Path) -> None:
    """Both models pass alone, one of them only because it is never asked for more than it says."""
    sources(tmp_path)
    graphs.fixed_inside(tmp_path / "copy.onnx", 5)
    graphs.identity(tmp_path / "score.onnx")
    made(tmp_path, MODELS.replace("copy.onnx", "copy.onnx, max_batch_size: 5"))
    config = tmp_path / "repo" / "copy" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 5", "max_batch_size: 8"))
    with pytest.raises(VerificationError, match=r"model 'both' was not published.*fails with 6 rows"):
        made(tmp_path, SCORE_THEN_COPY)
    assert not (tmp_path / "repo" / "both").exists()


def test_a_hand_edited_ensemble_is_not_replaced(tmp_path: Path) -> None:
    sources(tmp_path)
    made(tmp_path)
    config = tmp_path / "repo" / "both" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 4"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RepositoryError):
        made(
            tmp_path,
            MODELS + SCORE_THEN_COPY.replace("both\n", "both\n    parameters: {a: b}\n    max_batch_size: 2\n"),
        )
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_kept_of_a_hand_edited_ensemble_is_proven_too(tmp_path: Path) -> None:
    sources(tmp_path, seed=0)
    made(tmp_path)
    config = tmp_path / "repo" / "both" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 4"))
    sources(tmp_path, seed=1)
    one = made(tmp_path)["both"]
    assert (one.version.version, one.config.message.max_batch_size) == (2, 4)
    assert {check.name: check.summary for check in one.verification.checks}[
        "rows are independent of their batch"
    ].endswith("of batches of 1, 2, 3, 4")
    config.write_text(config.read_text().replace("max_batch_size: 4", "max_batch_size: 9"))
    sources(tmp_path, seed=2)
    with pytest.raises(ConfigError, match="max_batch_size is above that of a step"):
        made(tmp_path)


def test_the_chain_is_the_composition_of_the_graphs(tmp_path: Path) -> None:
    sources(tmp_path)
    spec = spec_from(tmp_path, MODELS + SCORE_THEN_COPY)
    generate(spec, serve_check=False)
    models = composing_models(tmp_path / "repo", ["score", "copy"])
    chain = chain_from_ensemble(ensemble_from_options(spec.ensembles[0], models), models)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    answer = chain.run({"x": x})["y"]
    np.testing.assert_array_equal(answer, OnnxSession(tmp_path / "score.onnx").run({"x": x})["y"])


def test_a_chain_reshapes_as_the_backend_does(tmp_path: Path) -> None:
    """One value a row is ``dims: [ 1 ]`` reshaped to nothing, between two models too."""
    graphs.identity(tmp_path / "score.onnx", shape=("batch",))
    graphs.identity(tmp_path / "copy.onnx", shape=("batch",))
    found = made(tmp_path)
    assert list(found["both"].config.message.output[0].dims) == [1]
    assert found["both"].verification.passed


def test_the_graph_of_a_plan_stands_in_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stand-in TensorRT; where only the plan is left, the chain is skipped with the reason."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stand_in_graphs.negation(tmp_path / "score.onnx")
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 4))
    models = MODELS.replace("max_batch_size: 8", "max_batch_size: 8, platform: tensorrt")
    with stand_in_tensorrt():
        one = made(tmp_path, models + SCORE_THEN_COPY)["both"]
    assert one.verification.passed
    assert "rows are independent of their batch" in [check.name for check in one.verification.checks]
    (again,) = verify_repository(tmp_path / "repo", models=["both"], serve_check=False)
    (skipped,) = [check for check in again.checks if not check.passed]
    assert (skipped.name, skipped.verdict) == ("it answers like the chain of its steps", "skipped")
    assert "step 'score' is served by the backend 'tensorrt'" in skipped.summary


def test_a_failing_step_is_named(tmp_path: Path) -> None:
    sources(tmp_path)
    node = helper.make_node("Add", ["x", "row"], ["y"])
    row = numpy_helper.from_array(np.zeros((1, 7), np.float32), "row")
    graphs.save(tmp_path / "late.onnx", [node], [graphs.tensor("x", shape=("batch", "n"))],
                [graphs.tensor("y", TensorProto.FLOAT, ("batch", 7))], [row])  # fmt: skip
    models = MODELS + "  - {name: late, source: late.onnx, verify: {shapes: {x: [7]}}}\n"
    with pytest.raises(GraphError, match=r"ensemble 'both' does not run.*got of step 'late': .*broadcast"):
        made(tmp_path, models + SCORE_THEN_COPY.replace("model_name: copy", "model_name: late"))
    assert not (tmp_path / "repo").exists()


def test_a_published_ensemble_is_verified_again(tmp_path: Path) -> None:
    sources(tmp_path)
    made(tmp_path)
    (one,) = verify_repository(tmp_path / "repo", models=["both"], serve_check=False)
    assert one.passed
    assert [check.name for check in one.checks][:2] == [
        "the files are those of the manifest",
        "its steps are those of the manifest",
    ]


def test_a_step_that_changed_beneath_an_ensemble_is_found(tmp_path: Path) -> None:
    sources(tmp_path)
    made(tmp_path)
    (tmp_path / "repo" / "score" / "1" / "model.onnx").write_bytes((tmp_path / "copy.onnx").read_bytes())
    (one,) = verify_repository(tmp_path / "repo", models=["both"], serve_check=False)
    failed = [check for check in one.checks if not check.passed]
    assert failed[0].name == "its steps are those of the manifest"
    assert failed[0].summary == "changed: 'score' version 1"


def test_a_newer_version_of_a_step_is_proven_and_told(tmp_path: Path) -> None:
    sources(tmp_path, seed=0)
    made(tmp_path)
    graphs.linear(tmp_path / "score.onnx", seed=1)
    made(tmp_path, MODELS)
    (one,) = verify_repository(tmp_path / "repo", models=["both"], serve_check=False)
    assert one.passed
    assert (
        "'score' runs version 2 now, made with 1"
        in {check.name: check.summary for check in one.checks}["its steps are those of the manifest"]
    )


def test_a_plan_of_another_version_is_not_stood_in_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is that of the plan which is published now, and the step asks for the one before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 4))
    models = MODELS.replace("max_batch_size: 8", "max_batch_size: 8, platform: tensorrt, version_policy: {all: {}}")
    with stand_in_tensorrt():
        stand_in_graphs.negation(tmp_path / "score.onnx")
        made(tmp_path, models)
        stand_in_graphs.negation(tmp_path / "score.onnx", name="other")
        one = made(tmp_path, models + SCORE_THEN_COPY.replace("score,", "score, model_version: 1,"))["both"]
    checks = {check.name: check for check in one.verification.checks}
    assert checks["it answers like the chain of its steps"].verdict == "skipped"
    assert list(manifest_of(tmp_path, "both", 1).composing["score"]) == ["1"]


def test_models_may_be_links_by_their_way(tmp_path: Path) -> None:
    """Files of a published step that are links, relative to where they lie."""
    sources(tmp_path)
    made(tmp_path, MODELS)
    path = tmp_path / "repo" / "score" / "1" / "model.onnx"
    path.rename(tmp_path / "kept.onnx")
    path.symlink_to("../../../kept.onnx")
    (path.parent / "nowhere").symlink_to("absent")
    assert made(tmp_path, SCORE_THEN_COPY)["both"].verification.passed


def test_a_step_that_is_published_meanwhile_is_not_what_was_proven(tmp_path: Path) -> None:
    sources(tmp_path)
    made(tmp_path, MODELS)

    def meanwhile(model: str, stage: str) -> None:
        if (model, stage) == ("both", "publish"):
            sources(tmp_path, seed=1)
            made(tmp_path, MODELS)

    with pytest.raises(RepositoryError, match="model 'score' changed while ensemble 'both' was proven"):
        generate(spec_from(tmp_path, SCORE_THEN_COPY), serve_check=False, on_stage=meanwhile)
    assert made(tmp_path, SCORE_THEN_COPY)["both"].verification.passed
