"""The whole way over a repository that people have edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import graphs
from support.command_line import tritonforge

from tritonforge_client.core.proto import model_config_from_text
from tritonforge_generator.errors import ConfigError, RepositoryError, VerificationError
from tritonforge_generator.keeping import DROPPED_CHECK, KEPT_CHECK
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.repository import ConflictError
from tritonforge_generator.spec import forge_spec_from_flags


def generate_one(folder: Path, **options: Any) -> Generated:
    how = {key: options.pop(key) for key in ("overwrite", "on_conflict") if key in options}
    flags = {"name": "m", "source": str(folder / "m.onnx"), **options}
    (generated,) = generate(forge_spec_from_flags(flags, repository=folder / "repo"), serve_check=False, **how)
    return generated


def edit(folder: Path, old: str, new: str) -> None:
    config = folder / "repo" / "m" / "config.pbtxt"
    assert config.read_text().count(old) == 1
    config.write_text(config.read_text().replace(old, new))


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A repository whose ``instance_group`` somebody gave three instances."""
    graphs.linear(tmp_path / "m.onnx")
    generate_one(tmp_path)
    edit(tmp_path, "count: 1  # executes one batch at a time, for each device", "count: 3  # Anna, ticket 12")
    return tmp_path


def summary_of(generated: Generated, name: str) -> str:
    return next(check.summary for check in generated.verification.checks if check.name == name)


def test_what_was_written_by_hand_is_kept_and_named(edited: Path) -> None:
    generated = generate_one(edited, max_batch_size=16)
    assert (generated.version.version, generated.version.new) == (2, True)
    text = generated.version.folder.config_path.read_text()
    assert "count: 3  # kept: written by hand; Anna, ticket 12\n" in text
    assert model_config_from_text(text).max_batch_size == 16
    assert summary_of(generated, KEPT_CHECK) == "instance_group[0].count: 3 (the spec gives 1)"
    manifest = generated.version.folder.manifest(2)
    assert manifest is not None
    (kept,) = manifest.made["configs"]["config.pbtxt"]["kept"]
    assert (kept["field"], kept["value"], kept["generated"]) == ("instance_group[0].count", "3", "1")
    assert [found for found in lint_repository(edited / "repo") if found.severity == "error"] == []


def test_generating_again_changes_nothing(edited: Path) -> None:
    generate_one(edited)
    before = {path: path.stat().st_mtime_ns for path in (edited / "repo").rglob("*")}
    again = generate_one(edited)
    assert (again.version.version, again.version.new) == (2, False)
    assert {path: path.stat().st_mtime_ns for path in (edited / "repo").rglob("*")} == before


def test_a_hand_edit_is_kept_through_many_generations(edited: Path) -> None:
    for size in (8, 16, 24):
        generated = generate_one(edited, max_batch_size=size)
    assert generated.config.message.instance_group[0].count == 3
    assert generated.config.text.count("kept: written by hand") == 1


def test_another_layout_of_the_same_is_no_new_version(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    generate_one(tmp_path)
    edit(tmp_path, "max_batch_size: 32", "max_batch_size:   32")
    assert generate_one(tmp_path).version.new is False


def test_a_hand_edit_that_the_server_refuses_is_not_published(edited: Path) -> None:
    edit(edited, "max_queue_delay_microseconds: 0", "preferred_batch_size: [ 64 ]")
    with pytest.raises(VerificationError, match=r"C6|preferred batch size"):
        generate_one(edited, max_batch_size=16)


def test_batching_is_not_turned_off_by_hand(edited: Path) -> None:
    edit(edited, "max_batch_size: 32", "max_batch_size: 0")
    with pytest.raises(ConfigError, match=r"turns batching off by hand.*in the spec"):
        generate_one(edited)


def test_files_that_a_hand_edit_names_are_there_for_the_gates(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    generate_one(tmp_path)
    edit(tmp_path, "output {\n", 'output {\n  label_filename: "names.txt"\n')
    with pytest.raises(VerificationError, match="names"):
        generate_one(tmp_path)
    (tmp_path / "repo" / "m" / "names.txt").write_text("a\nb\nc\n")
    generated = generate_one(tmp_path)
    assert generated.config.message.output[0].label_filename == "names.txt"
    assert (tmp_path / "repo" / "m" / "names.txt").read_text() == "a\nb\nc\n"


def test_a_conflict_publishes_nothing_and_has_three_ways_out(edited: Path) -> None:
    before = sorted(edited.rglob("*"))
    two = [{"count": 2}]
    with pytest.raises(ConflictError, match=r"instance_group\[0\]\.count: by hand 3, by the spec 2 \(was 1\)"):
        generate_one(edited, instance_group=two)
    assert sorted(edited.rglob("*")) == before
    theirs = generate_one(edited, instance_group=two, on_conflict="theirs")
    assert theirs.config.message.instance_group[0].count == 3
    assert generate_one(edited, instance_group=two).version.new is False  # settled: the spec did not change again
    ours = generate_one(edited, instance_group=[{"count": 4}], on_conflict="ours")
    assert ours.config.message.instance_group[0].count == 4
    assert summary_of(ours, DROPPED_CHECK) == "instance_group[0].count: 3 (the spec gives 4)"


def test_overwriting_drops_hand_edits_by_name(edited: Path) -> None:
    generated = generate_one(edited, overwrite=True)
    assert generated.config.message.instance_group[0].count == 1
    assert summary_of(generated, DROPPED_CHECK) == "instance_group[0].count: 3 (the spec gives 1)"
    assert "kept" not in generated.version.folder.config_path.read_text()


def test_a_repository_of_an_older_tool_is_merged_where_its_hash_tells_enough(edited: Path) -> None:
    path = edited / "repo" / "m" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["made"]["configs"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(RepositoryError, match=r"only the hash of what was generated.*--overwrite"):
        generate_one(edited, max_batch_size=16)
    assert generate_one(edited).config.message.instance_group[0].count == 3


def test_the_command_names_what_it_kept(edited: Path) -> None:
    arguments = ["generate", "m.onnx", "--repository", "repo", "--no-serve-check"]
    refused = tritonforge(edited, *arguments, "--instance-group", "[{count: 2}]")
    assert refused.returncode == 2
    assert "instance_group[0].count: by hand 3, by the spec 2 (was 1)" in refused.stderr
    done = tritonforge(edited, *arguments, "--instance-group", "[{count: 2}]", "--on-conflict", "theirs")
    assert done.returncode == 0, done.stderr
    assert KEPT_CHECK in done.stdout
    assert "instance_group[0].count: 3 (the spec gives 2)" in done.stdout


def test_texts_of_several_lines_are_no_lines_of_the_configuration(edited: Path) -> None:
    """What Unicode takes for an end of line, protobuf does not."""
    owner = {"parameters": {"owner": "Anna\u2028vision\x85\x0b"}}
    generate_one(edited, **owner)
    again = generate_one(edited, **owner, max_batch_size=16)
    assert again.config.message.parameters["owner"].string_value == "Anna\u2028vision\x85\x0b"
    assert again.config.message.instance_group[0].count == 3


def test_a_text_that_cannot_be_read_is_overwritten_as_its_error_says(edited: Path) -> None:
    (edited / "repo" / "m" / "config.pbtxt").write_text("{")
    with pytest.raises(RepositoryError, match=r"cannot be read.*--overwrite"):
        generate_one(edited)
    assert summary_of(generate_one(edited, overwrite=True), DROPPED_CHECK) == "the whole text: it cannot be read"
