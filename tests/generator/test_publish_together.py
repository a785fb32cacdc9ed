"""Models of one spec are published together, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import graphs
from support.ensemble_specs import SCORE_THEN_COPY

import tritonforge_generator.pipeline
from tritonforge_generator.draft import Draft
from tritonforge_generator.errors import RepositoryError, VerificationError
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.preview import preview
from tritonforge_generator.repository import ModelRepository, stage_model
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file

SPEC = f"""
repository: repo
models:
  - {{name: score, source: score.onnx, max_batch_size: 8}}
  - {{name: copy, source: copy.onnx}}
{SCORE_THEN_COPY}"""
KILLED = """
import os, signal, sys
from pathlib import Path
from tritonforge_generator.pipeline import generate
from tritonforge_generator.repository import StagedModel
from tritonforge_generator.spec import forge_spec_from_file

swap, swapped = StagedModel.swap, []

def swap_or_die(staged):
    if len(swapped) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    swap(staged)
    swapped.append(staged)

StagedModel.swap = swap_or_die
generate(forge_spec_from_file(Path(sys.argv[1])), serve_check=False)
"""


def spec_from(folder: Path, text: str = SPEC) -> ForgeSpec:
    (folder / "tritonforge.yaml").write_text(text)
    return forge_spec_from_file(folder / "tritonforge.yaml")


def made(folder: Path, text: str = SPEC) -> dict[str, Generated]:
    return {one.version.folder.name: one for one in generate(spec_from(folder, text), serve_check=False)}


@pytest.fixture
def sourced(tmp_path: Path) -> Path:
    graphs.linear(tmp_path / "score.onnx")
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    return tmp_path


def versions(folder: Path) -> dict[str, list[int]]:
    return {model.name: model.versions for model in ModelRepository(folder / "repo").models()}


@pytest.mark.parametrize("published", [0, 1, 2])
def test_a_run_that_is_killed_between_two_models_is_finished_by_the_next(sourced: Path, published: int) -> None:
    """All three change. Each model is whole, and the repository loads, however many of them were published."""
    made(sourced)
    graphs.linear(sourced / "score.onnx", seed=1)
    spec_from(sourced, SPEC.replace("source: copy.onnx", "source: copy.onnx, max_batch_size: 4"))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(sourced / "tritonforge.yaml"), str(published)], check=False, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    names = ["score", "copy", "both"]
    assert versions(sourced) == {name: [1, 2] if index < published else [1] for index, name in enumerate(names)}
    broken = [found.rule for found in lint_repository(sourced / "repo") if found.severity == "error"]
    assert broken == ([] if published < 2 else ["X6"])  # the ensemble is the last, and waits for the next run
    again = generate(forge_spec_from_file(sourced / "tritonforge.yaml"), serve_check=False)
    assert {one.version.folder.name: one.version.new for one in again} == {
        name: index >= published for index, name in enumerate(names)
    }
    assert versions(sourced) == {name: [1, 2] for name in names}
    assert [found for found in lint_repository(sourced / "repo") if found.severity == "error"] == []
    assert sorted(path.name for path in sourced.iterdir()) == ["copy.onnx", "repo", "score.onnx", "tritonforge.yaml"]


def test_what_a_killed_run_left_goes_with_the_next_whatever_that_makes(sourced: Path) -> None:
    spec_from(sourced)
    subprocess.run([sys.executable, "-c", KILLED, str(sourced / "tritonforge.yaml"), "1"], check=False, timeout=120)
    state = sourced / ".repo.tritonforge"
    assert (state / "both.staged").is_dir()
    with stage_model(sourced / "repo", "other") as staged:
        made(sourced, SPEC.partition("  - {name: copy")[0])
        assert sorted(path.name for path in state.iterdir()) == ["other.lock", "other.staged"]
        assert staged.folder.path.is_dir()
    assert sorted(path.name for path in sourced.iterdir()) == ["copy.onnx", "repo", "score.onnx", "tritonforge.yaml"]


def test_what_the_last_model_refuses_publishes_none(sourced: Path) -> None:
    text = SPEC.replace("source: copy.onnx", "source: copy.onnx, version: 1")
    made(sourced, text)
    graphs.linear(sourced / "score.onnx", seed=1)
    with pytest.raises(RepositoryError, match="'copy' already has a version 1 of other content"):
        made(sourced, text.replace("version: 1", "version: 1, max_batch_size: 4"))
    assert versions(sourced) == {"score": [1], "copy": [1], "both": [1]}


def test_a_model_that_another_process_publishes_is_refused_before_any_work(sourced: Path) -> None:
    seen: list[str] = []
    with stage_model(sourced / "repo", "score"), pytest.raises(RepositoryError, match=f"process {os.getpid()}"):
        generate(spec_from(sourced), serve_check=False, on_stage=lambda model, stage: seen.append(model + stage))
    assert seen == []
    assert all(one.version.new for one in made(sourced).values())


def test_a_model_of_another_name_is_another_model(sourced: Path) -> None:
    text = SPEC.partition("ensembles:")[0]
    made(sourced, text)
    made(sourced, text.replace("name: score", "name: points"))
    assert versions(sourced) == {"copy": [1], "points": [1], "score": [1]}


def test_the_record_is_of_the_source_that_was_read(sourced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody trains again while the model is on its way."""
    drafted = tritonforge_generator.pipeline.drafted

    def and_then_changed(*args: object) -> Draft:
        draft = drafted(*args)  # type: ignore[arg-type]  # passed on
        graphs.linear(sourced / "score.onnx", seed=1)
        return draft

    text = "repository: repo\nmodels:\n  - {name: score, source: score.onnx, precision: FP16}\n"
    with monkeypatch.context() as patched:
        patched.setattr(tritonforge_generator.pipeline, "drafted", and_then_changed)
        made(sourced, text)
    (one,) = preview(spec_from(sourced, text), frozen=True)
    assert one.changed
    graphs.linear(sourced / "score.onnx", seed=0)
    (one,) = preview(spec_from(sourced, text), frozen=True)
    assert not one.changed


def test_older_versions_that_would_be_served_are_judged_too(sourced: Path) -> None:
    text = "repository: repo\nmodels:\n  - {name: m, source: score.onnx}\n"
    made(sourced, text)
    graphs.identity(sourced / "score.onnx", shape=("batch", 7))
    with pytest.raises(VerificationError, match=r"model 'm' was not published.*the server's rules"):
        made(sourced, text.replace("score.onnx", "score.onnx, version_policy: {all: {}}"))
    assert made(sourced, text)["m"].version.version == 2
