"""``generate --diff`` says what would change, and changes nothing."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support import graphs
from support.command_line import tritonforge
from support.ensemble_specs import SCORE_THEN_COPY

from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.pipeline import generate
from tritonforge_generator.preview import Preview, preview
from tritonforge_generator.repository import ConflictError
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file, forge_spec_from_flags


def spec_of(folder: Path, **options: Any) -> ForgeSpec:
    return forge_spec_from_flags({"name": "m", "source": str(folder / "m.onnx"), **options}, repository=folder / "repo")


def preview_one(folder: Path, **options: Any) -> Preview:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    (one,) = preview(spec_of(folder, **options))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return one


@pytest.fixture
def published(tmp_path: Path) -> Path:
    graphs.linear(tmp_path / "m.onnx")
    generate(spec_of(tmp_path), serve_check=False)
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    config = folder / "repo" / "m" / "config.pbtxt"
    assert config.read_text().count(old) == 1
    config.write_text(config.read_text().replace(old, new))


def test_nothing_changes_where_nothing_did(published: Path) -> None:
    one = preview_one(published)
    assert (one.changed, one.version, one.diff(), dict(one.files)) == (False, 1, "", {})


def test_a_first_version_is_all_new(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx", external=True)
    one = preview_one(tmp_path)
    assert dict(one.files) == {"1/model.onnx": "added", "1/m.onnx.data": "added"}
    assert one.diff().startswith("--- /dev/null\n+++ b/m/config.pbtxt\n")


def test_a_changed_spec_is_a_diff(published: Path) -> None:
    one = preview_one(published, max_batch_size=16)
    assert (one.changed, one.version) == (True, 2)
    lines = one.diff().splitlines()
    assert lines[:2] == ["--- a/m/config.pbtxt", "+++ b/m/config.pbtxt"]
    assert any(line.startswith("-max_batch_size: 32") for line in lines)
    assert any(line.startswith("+max_batch_size: 16") for line in lines)
    assert dict(one.files) == {}
    assert one.inputs == ("spec max_batch_size: none -> 16",)


def test_a_changed_source_replaces_its_file(published: Path) -> None:
    graphs.linear(published / "m.onnx", seed=1)
    one = preview_one(published)
    assert (one.diff(), dict(one.files)) == ("", {"2/model.onnx": "replaced"})
    assert one.inputs is not None
    assert one.inputs[0].startswith("source: sha256 ")


def test_what_is_shown_is_what_is_generated(published: Path) -> None:
    edit(published, "count: 1  #", "count: 3  # mine;")
    one = preview_one(published, max_batch_size=16)
    (generated,) = generate(spec_of(published, max_batch_size=16), serve_check=False)
    assert one.after == generated.version.folder.config_path.read_text()
    assert one.version == generated.version.version
    assert one.kept == ("instance_group[0].count: 3 (the spec gives 1)",)
    assert preview_one(published, max_batch_size=16).changed is False


def test_a_conflict_is_refused_as_it_is_when_generating(published: Path) -> None:
    edit(published, "max_batch_size: 32", "max_batch_size: 8")
    with pytest.raises(ConflictError):
        preview_one(published, max_batch_size=16)
    (one,) = preview(spec_of(published, max_batch_size=16), on_conflict="theirs")
    assert "\n+max_batch_size: 8  # kept: written by hand" in one.diff()


def test_another_layout_of_the_same_is_no_change(published: Path) -> None:
    edit(published, "max_batch_size: 32", "max_batch_size:   32")
    assert preview_one(published).changed is False


@pytest.mark.parametrize("options", [{"precision": "INT8"}, {"platform": "tensorrt"}])
def test_what_is_not_known_before_a_build_is_said(published: Path, options: dict[str, Any]) -> None:
    one = preview_one(published, **options)
    assert set(one.files.values()) == {"unknown before a build"}
    if options.get("platform") == "tensorrt":
        assert '+backend: "tensorrt"' in one.diff()


def test_a_converted_model_of_the_same_inputs_is_not_built_again(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    generate(spec_of(tmp_path, precision="FP16"), serve_check=False)
    assert preview_one(tmp_path, precision="FP16").changed is False
    graphs.linear(tmp_path / "m.onnx", seed=1)
    assert dict(preview_one(tmp_path, precision="FP16").files) == {"2/model.onnx": "unknown before a build"}


ENSEMBLE = f"""
repository: repo
models:
  - {{name: score, source: m.onnx, max_batch_size: 8}}
  - {{name: copy, source: copy.onnx}}
{SCORE_THEN_COPY}"""


def test_an_ensemble_changes_with_its_models(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    path = tmp_path / "tritonforge.yaml"
    path.write_text(ENSEMBLE)
    assert [(one.model, one.version, one.changed) for one in preview(forge_spec_from_file(path))] == [
        ("score", 1, True),
        ("copy", 1, True),
        ("both", 1, True),
    ]
    generate(forge_spec_from_file(path), serve_check=False)
    assert [one.changed for one in preview(forge_spec_from_file(path))] == [False, False, False]
    assert [one.changed for one in preview(forge_spec_from_file(path), frozen=True)] == [False, False, False]
    path.write_text(ENSEMBLE.replace("max_batch_size: 8", "max_batch_size: 4"))
    score, copy, both = preview(forge_spec_from_file(path))
    assert (score.changed, copy.changed, both.changed) == (True, False, True)
    assert "\n+max_batch_size: 4" in both.diff()


def test_exit_codes_are_those_of_git_diff(published: Path) -> None:
    arguments = ["generate", "m.onnx", "--repository", "repo", "--diff"]
    same = tritonforge(published, *arguments)
    assert (same.returncode, same.stdout) == (0, "m: unchanged, version 1\n")
    other = tritonforge(published, *arguments, "--max-batch-size", "16")
    assert other.returncode == 1
    assert other.stdout.startswith("m: would be version 2\n--- a/m/config.pbtxt\n+++ b/m/config.pbtxt\n")
    assert "changed input: spec max_batch_size: none -> 16" in other.stdout
    facts = json.loads(tritonforge(published, *arguments, "--max-batch-size", "16", "--json").stdout)
    assert (facts["changed"], facts["models"][0]["version"]) == (True, 2)
    assert tritonforge(published, "generate", "absent.onnx", "--diff").returncode == 2


def test_a_damaged_file_is_made_again_in_a_new_version(published: Path) -> None:
    (published / "repo" / "m" / "1" / "model.onnx").write_bytes(b"git-lfs pointer")
    one = preview_one(published)
    assert (one.changed, one.version, dict(one.files)) == (True, 2, {"1/model.onnx": "not as recorded"})
    (generated,) = generate(spec_of(published), serve_check=False)
    assert (generated.version.version, generated.version.new) == (2, True)
    assert preview_one(published).changed is False


def test_a_file_of_the_generator_that_was_edited_by_hand_is_not_replaced(published: Path) -> None:
    labels = {"labels": {"y": ["a", "b", "c"]}}
    generate(spec_of(published, **labels), serve_check=False)
    (published / "repo" / "m" / "y_labels.txt").write_text("x\ny\nz\n")
    for run in (preview, lambda spec: generate(spec, serve_check=False)):
        with pytest.raises(RepositoryError, match=r"y_labels\.txt was not written by the last generation"):
            run(spec_of(published, **labels))
    (one,) = preview(spec_of(published, **labels), overwrite=True)
    assert dict(one.files) == {"y_labels.txt": "not as recorded"}


def test_what_generate_refuses_to_replace_is_refused(published: Path) -> None:
    (published / "repo" / "m" / "1" / "manifest.json").unlink()
    with pytest.raises(RepositoryError, match="another tool made this model"):
        preview_one(published)
    (one,) = preview(spec_of(published), overwrite=True)
    assert one.version == 2


def test_a_version_that_is_asked_for_is_the_one_compared(published: Path) -> None:
    generate(spec_of(published, version=2, max_batch_size=16), serve_check=False)
    generate(spec_of(published, version=3), serve_check=False)
    assert preview_one(published, version=1).changed is False
    assert preview_one(published, version=3).changed is False
    with pytest.raises(RepositoryError, match="already has a version 2 of other content"):
        preview_one(published, version=2)


def test_dropped_edits_are_not_called_kept(published: Path) -> None:
    edit(published, "count: 1  #", "count: 3  #")
    (one,) = preview(spec_of(published), overwrite=True)
    assert (one.kept, one.dropped) == ((), ("instance_group[0].count: 3 (the spec gives 1)",))
    done = tritonforge(published, "generate", "m.onnx", "--repository", "repo", "--diff", "--overwrite")
    assert "  dropped: instance_group[0].count: 3 (the spec gives 1)\n" in done.stdout


def test_lines_that_end_as_on_windows_are_no_change(published: Path) -> None:
    config = published / "repo" / "m" / "config.pbtxt"
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    assert preview_one(published).changed is False
    edit(published, "count: 1  #", "count: 3  # mine;")
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    one = preview_one(published, max_batch_size=16)
    assert "  count: 3  # kept: written by hand; mine\n" in one.after
    assert "\r" not in one.after


def test_models_of_ensembles_are_not_copied_to_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders often lie on another file system, where weights could not be linked."""
    graphs.linear(tmp_path / "m.onnx")
    graphs.identity(tmp_path / "copy.onnx", shape=("batch", 3))
    (tmp_path / "tritonforge.yaml").write_text(ENSEMBLE)
    spec = forge_spec_from_file(tmp_path / "tritonforge.yaml")
    generate(spec, serve_check=False)

    def never(*_: object) -> None:
        raise AssertionError("a file was copied")

    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    monkeypatch.setattr(shutil, "copy2", never)
    assert [one.changed for one in preview(spec)] == [False, False, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.onnx", "m.onnx", "repo", "tritonforge.yaml"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # must equal the folder's name", "  # must equal the folder's name; Anna"),
        ("max_batch_size: 32", "max_batch_size:   32"),
        ("count: 1  #", "count: 3  #"),
        ("max_queue_delay_microseconds: 0", "max_queue_delay_microseconds: 500"),
    ],
)
@pytest.mark.parametrize("delay", [0, 500])
def test_a_change_is_shown_where_one_is_made(published: Path, old: str, new: str, delay: int) -> None:
    edit(published, old, new)
    options = {"dynamic_batching": {"max_queue_delay_microseconds": delay}}
    for _ in range(2):
        one = preview_one(published, **options)
        (generated,) = generate(spec_of(published, **options), serve_check=False)
        assert (one.changed, one.version) == (generated.version.new, generated.version.version)
        assert bool(one.diff() or one.files) == one.changed
        assert one.after == generated.version.folder.config_path.read_text()
