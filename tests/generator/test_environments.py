"""Environments of a spec become whole configurations beside the model's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import graphs

from tritonforge_client import Client
from tritonforge_client.core.proto import model_config_from_text
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import ConfigError, RepositoryError, SpecError, VerificationError
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.preview import preview
from tritonforge_generator.repository import ConflictError
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file
from tritonforge_generator.verify import reference_from_path, served_check

MODEL = """
repository: repo
models:
  - name: m
    source: m.onnx
    max_batch_size: 8
    parameters: {intra_op_thread_count: "1"}
"""
ENVIRONMENTS = """
environments:
  staging:
    m:
      max_batch_size: 4
      instance_group: [{kind: KIND_CPU, count: 2}]
  production:
    m:
      dynamic_batching: {max_queue_delay_microseconds: 500, default_queue_policy: {max_queue_size: 64}}
      parameters: {intra_op_thread_count: "4"}
"""


def spec_from(folder: Path, text: str = MODEL + ENVIRONMENTS) -> ForgeSpec:
    (folder / "tritonforge.yaml").write_text(text)
    return forge_spec_from_file(folder / "tritonforge.yaml")


def generate_one(folder: Path, text: str = MODEL + ENVIRONMENTS, overwrite: bool = False) -> Generated:
    (generated,) = generate(spec_from(folder, text), serve_check=False, overwrite=overwrite)
    return generated


@pytest.fixture
def sourced(tmp_path: Path) -> Path:
    graphs.linear(tmp_path / "m.onnx")
    return tmp_path


def test_each_environment_is_a_whole_configuration(sourced: Path) -> None:
    folder = generate_one(sourced).version.folder
    own, staging, production = (
        model_config_from_text((folder.path / name).read_text())
        for name in ("config.pbtxt", "configs/staging.pbtxt", "configs/production.pbtxt")
    )
    assert (own.max_batch_size, staging.max_batch_size, production.max_batch_size) == (8, 4, 8)
    assert staging.instance_group[0].count == 2
    assert staging.model_warmup[1].batch_size == 4  # derived again
    assert production.dynamic_batching.max_queue_delay_microseconds == 500
    assert production.parameters["intra_op_thread_count"].string_value == "4"
    differing = [(staging, ["max_batch_size", "instance_group", "model_warmup"])]
    differing += [(production, ["dynamic_batching", "parameters"])]
    for changed, fields in differing:
        rest = type(own).FromString(own.SerializeToString())
        for field in fields:
            changed.ClearField(field)
            rest.ClearField(field)
        assert changed == rest


def test_each_environment_is_judged_by_the_servers_rules(sourced: Path) -> None:
    generated = generate_one(sourced)
    names = [check.name for check in generated.verification.checks]
    assert "the server's rules, environment 'staging'" in names
    assert "the server's rules, environment 'production'" in names
    for name in ("staging", "production"):
        found = lint_repository(sourced / "repo", config_name=name)
        assert [one for one in found if one.severity == "error"] == []


def test_without_environments_nothing_is_written(sourced: Path) -> None:
    assert not (generate_one(sourced, MODEL).version.folder.path / "configs").exists()


def test_generating_again_changes_nothing(sourced: Path) -> None:
    generate_one(sourced)
    assert generate_one(sourced).version.new is False
    (one,) = preview(spec_from(sourced), frozen=True)
    assert one.changed is False


def test_a_changed_environment_is_a_new_version_with_its_diff(sourced: Path) -> None:
    generate_one(sourced)
    text = (MODEL + ENVIRONMENTS).replace("count: 2", "count: 3")
    (one,) = preview(spec_from(sourced, text), frozen=True)
    assert one.diff().startswith("--- a/m/configs/staging.pbtxt\n+++ b/m/configs/staging.pbtxt\n")
    assert dict(one.files) == {"configs/staging.pbtxt": "replaced"}
    assert one.inputs == ("spec environments.staging.instance_group[0].count: 2 -> 3",)
    assert generate_one(sourced, text).version.version == 2


def test_an_environment_that_is_declared_no_longer_goes_away(sourced: Path) -> None:
    generate_one(sourced)
    (one,) = preview(spec_from(sourced, MODEL))
    assert dict(one.files) == {"configs/staging.pbtxt": "removed", "configs/production.pbtxt": "removed"}
    folder = generate_one(sourced, MODEL).version.folder
    assert not (folder.path / "configs").exists()


def test_hand_edits_of_an_environment_are_kept(sourced: Path) -> None:
    path = generate_one(sourced).version.folder.path / "configs" / "staging.pbtxt"
    path.write_text(path.read_text().replace("count: 2", "count: 5"))
    generated = generate_one(sourced, (MODEL + ENVIRONMENTS).replace("max_batch_size: 4", "max_batch_size: 2"))
    kept = model_config_from_text(path.read_text())
    assert (kept.max_batch_size, kept.instance_group[0].count) == (2, 5)
    assert any("(configs/staging.pbtxt)" in check.name for check in generated.verification.checks)
    with pytest.raises(ConflictError, match=r"configs/staging\.pbtxt"):
        generate_one(sourced, (MODEL + ENVIRONMENTS).replace("count: 2", "count: 3"))


def test_a_configuration_that_another_tool_wrote_is_not_replaced(sourced: Path) -> None:
    folder = generate_one(sourced, MODEL).version.folder.path
    (folder / "configs").mkdir()
    (folder / "configs" / "staging.pbtxt").write_text('name: "m"\n')
    with pytest.raises(RepositoryError, match=r"configs/staging\.pbtxt was not written by the last generation"):
        generate_one(sourced)
    generate_one(sourced, overwrite=True)
    assert "KIND_CPU" in (folder / "configs" / "staging.pbtxt").read_text()


REFUSED = {
    "another model": (
        "    m:\n      max_batch_size: 4",
        "    n:\n      max_batch_size: 4",
        SpecError,
        "a model of this spec",
    ),
    "a tensor": ("max_batch_size: 4", "input: []", SpecError, "unknown key 'input'"),
    "a path as a name": ("  staging:", "  ../staging:", SpecError, r"staging"),
    "a batch that was not proven": ("max_batch_size: 4", "max_batch_size: 9", ConfigError, "at most 8"),
    "a batch of its batcher": (
        "max_queue_delay_microseconds: 500",
        "preferred_batch_size: [16]",
        ConfigError,
        "above max_batch_size",
    ),
    "options of a plan": ("max_batch_size: 4", "optimization: {cuda: {graphs: true}}", SpecError, "tensorrt"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_fit_is_refused(sourced: Path, reason: str) -> None:
    old, new, error, text = REFUSED[reason]
    with pytest.raises(error, match=text):
        generate_one(sourced, (MODEL + ENVIRONMENTS).replace(old, new, 1))
    assert not (sourced / "repo").exists()


def test_an_environment_that_the_server_refuses_is_not_published(sourced: Path) -> None:
    path = generate_one(sourced).version.folder.path / "configs" / "staging.pbtxt"
    path.write_text(path.read_text().replace("dims: [ 3 ]", "dims: [ 7 ]"))
    with pytest.raises(VerificationError, match="environment 'staging'"):
        generate_one(sourced)


@pytest.mark.triton
def test_a_real_triton_serves_an_environment(sourced: Path) -> None:
    spec = spec_from(sourced)
    generate(spec, serve_check=False)
    reference = reference_from_path(sourced / "m.onnx", spec.models[0].verify, batched=True)
    with EmbeddedTriton(
        sourced / "repo",
        model_config_name="staging",
        stop_timeout_s=0,
        arguments=["--disable-auto-complete-config"],
    ) as server:
        with Client(server.grpc_url) as client:
            assert client.config("m")["max_batch_size"] == 4
        config = model_config_from_text((sourced / "repo" / "m" / "configs" / "staging.pbtxt").read_text())
        check = served_check("m", reference, [server.grpc_url, server.http_url], max_batch_size=4, config=config)
    assert check.passed, check.summary


def test_a_configuration_that_people_put_beside_those_of_the_spec_stays(sourced: Path) -> None:
    folder = generate_one(sourced).version.folder.path / "configs"
    (folder / "canary.pbtxt").write_text('name: "m"\n')
    (folder / "production.pbtxt").unlink()
    (one,) = preview(spec_from(sourced))
    assert dict(one.files) == {"configs/production.pbtxt": "not as recorded"}
    assert generate_one(sourced).version.version == 2
    assert sorted(path.name for path in folder.iterdir()) == ["canary.pbtxt", "production.pbtxt", "staging.pbtxt"]
