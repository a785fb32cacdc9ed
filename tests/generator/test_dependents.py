"""Models are not published beneath ensembles that would load no longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import graphs

from tritonforge_generator.errors import ConfigError
from tritonforge_generator.pipeline import generate
from tritonforge_generator.repository import ModelFolder
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import forge_spec_from_file

MODELS = """
models:
  - {name: score, source: score.onnx}
  - {name: copy, source: copy.onnx}
"""


def ensemble(name: str, *steps: str) -> str:
    return (
        f"\nensembles:\n  - name: {name}\n    input: [{{name: x}}]\n    output: [{{name: y}}]\n"
        "    ensemble_scheduling:\n      step:\n" + "".join(f"        - {{{step}}}\n" for step in steps)
    )


BOTH = ensemble("both", "model_name: score, output_map: {y: middle}", "model_name: copy, input_map: {x: middle}")
AROUND = ensemble("around", "model_name: both")


def made(folder: Path, text: str) -> list[int]:
    (folder / "tritonforge.yaml").write_text(f"repository: repo\n{text}")
    generated = generate(forge_spec_from_file(folder / "tritonforge.yaml"), serve_check=False)
    return [one.version.version for one in generated]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    graphs.linear(tmp_path / "score.onnx")
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    made(tmp_path, MODELS + BOTH)
    made(tmp_path, AROUND)
    return tmp_path


def versions(folder: Path, name: str) -> list[int]:
    return ModelFolder(folder / "repo" / name).versions


def test_another_interface_beneath_an_ensemble_of_another_spec_is_refused(published: Path) -> None:
    graphs.identity(published / "score.onnx", shape=("batch", 5))
    with pytest.raises(
        ConfigError, match=r"ensemble 'around' of the repository .* with the new score: .*got X3: .*'both'"
    ):
        made(published, MODELS)
    assert (versions(published, "score"), versions(published, "copy")) == ([1], [1])


def test_both_change_together(published: Path) -> None:
    graphs.identity(published / "score.onnx", shape=("batch", 3))
    with pytest.raises(ConfigError, match=r"ensemble 'around'.*Declare the ensemble in this spec"):
        made(published, MODELS + BOTH)
    together = AROUND.replace("\nensembles:\n", "")
    assert made(published, MODELS + BOTH + together) == [2, 1, 2, 2]


def test_other_numbers_in_the_same_interface_are_published(published: Path) -> None:
    graphs.linear(published / "score.onnx", seed=1)
    assert made(published, MODELS) == [2, 1]


def test_a_version_that_an_ensemble_asks_for_is_not_taken_away(published: Path) -> None:
    made(published, ensemble("pinned", "model_name: copy, model_version: 1"))
    with pytest.raises(ConfigError, match=r"ensemble 'pinned'.*required version 1 is not loaded"):
        made(
            published,
            MODELS.replace("source: copy.onnx", "source: copy.onnx, parameters: {intra_op_thread_count: '1'}"),
        )


def test_an_ensemble_that_did_not_load_before_is_left_alone(published: Path) -> None:
    config = published / "repo" / "around" / "config.pbtxt"
    config.write_text(config.read_text().replace('model_name: "both"', 'model_name: "absent"'))
    graphs.linear(published / "score.onnx", seed=1)
    assert made(published, MODELS) == [2, 1]


# ---- circles ----


def test_an_ensemble_does_not_lead_back_to_itself_through_the_repository(published: Path) -> None:
    with pytest.raises(ConfigError, match=r"ensembles lead back to themselves: .*got both -> around -> both"):
        made(published, ensemble("both", "model_name: around"))
    assert versions(published, "both") == [1]


def test_a_circle_in_the_repository_is_a_verdict(published: Path) -> None:
    config = published / "repo" / "both" / "config.pbtxt"
    config.write_text(config.read_text().replace('model_name: "score"', 'model_name: "around"'))
    found = {one.model: one for one in verify_repository(published / "repo", serve_check=False)}
    assert found["score"].passed
    for name in ("both", "around"):
        assert "ensembles lead back to themselves" in found[name].checks[-1].summary
    with pytest.raises(ConfigError, match=r"got around -> both -> around"):
        made(published, ensemble("third", "model_name: around"))
