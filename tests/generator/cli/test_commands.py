"""Commands as a user types them: output, exit codes, and errors that say what to do and leave nothing behind."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto
from support import graphs
from support.command_line import tritonforge


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def truncated(path: Path) -> None:
    content = graphs.linear(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def without_external_data(path: Path) -> None:
    graphs.linear(path, external=True)
    path.with_name(f"{path.name}.data").unlink()


REFUSALS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "not an ONNX file": (lambda path: path.write_text("hello"), [], "truncated or of another format; export or copy"),
    "truncated": (truncated, [], "export or copy it again"),
    "no file": (lambda _: None, [], "no such file"),
    "missing external data": (without_external_data, [], "Copy it beside the model, or export the model again"),
    "batch above the graph": (
        lambda path: graphs.linear(path, batch=1),
        ["--max-batch-size", "8"],
        "Leave max_batch_size out, or export the model with a dynamic first axis",
    ),
    "slash in the name": (graphs.linear, ["--name", "a/b"], "'a/b'"),
    "dots in the name": (graphs.linear, ["--name", ".."], "contains '..'"),
    "unserved type": (lambda path: graphs.identity(path, TensorProto.BFLOAT16), [], "Export the model with a Cast"),
    "unknown option": (graphs.linear, ["--set", "dynamic_batching.max_queue_delay=1"], "max_queue_delay_microseconds"),
    "wrong value": (graphs.linear, ["--max-batch-size", "many"], "a whole number"),
    "no YAML": (graphs.linear, ["--instance-group", "[{"], "not valid YAML"),
    "no setting": (graphs.linear, ["--set", "verify.seed"], "KEY=YAML"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_refusals_say_what_to_do_and_leave_nothing(tmp_path: Path, reason: str) -> None:
    prepare, flags, advice = REFUSALS[reason]
    prepare(tmp_path / "model.onnx")
    before = files_in(tmp_path)
    done = tritonforge(tmp_path, "generate", "model.onnx", "--no-serve-check", *flags)
    assert done.returncode == 2, done.stderr
    assert advice in done.stderr
    assert files_in(tmp_path) == before


def test_unknown_spec_key_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "tritonforge.yaml").write_text("models:\n  - {name: a, sorce: a.onnx}\n")
    done = tritonforge(tmp_path, "generate", "tritonforge.yaml")
    assert done.returncode == 2
    assert re.search(r"tritonforge\.yaml:2:\d+.*unknown key 'sorce'.*source", done.stderr.replace("\n", " "))
    assert files_in(tmp_path) == ["tritonforge.yaml"]


def test_flags_beside_a_spec_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tritonforge.yaml").write_text("models: []\n")
    done = tritonforge(tmp_path, "generate", "tritonforge.yaml", "--max-batch-size", "4")
    assert done.returncode == 2
    assert "--max-batch-size" in done.stderr


def test_spec_and_flags_mean_the_same(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    (tmp_path / "tritonforge.yaml").write_text(
        "repository: by_spec\nmodels:\n  - name: m\n    source: m.onnx\n    max_batch_size: 16\n"
        "    instance_group: [{kind: KIND_CPU, count: 2}]\n    dynamic_batching: {preferred_batch_size: [4, 16]}\n"
    )
    flags = ["--max-batch-size", "16", "--instance-group", "[{kind: KIND_CPU, count: 2}]"]
    flags += ["--set", "dynamic_batching.preferred_batch_size=[4, 16]", "--repository", "by_flags"]
    assert tritonforge(tmp_path, "generate", "tritonforge.yaml", "--no-serve-check").returncode == 0
    assert tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check", *flags).returncode == 0
    by_spec, by_flags = (tmp_path / name / "m" / "config.pbtxt" for name in ("by_spec", "by_flags"))
    assert by_spec.read_text() == by_flags.read_text()


def test_generate_reports_as_json(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx", batch=1)
    done = tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check", "--json")
    (model,) = json.loads(done.stdout)["models"]
    assert (model["model"], model["version"], model["new"]) == ("m", 1, True)
    assert model["verification"]["passed"] is True
    assert model["notes"] == ["requests are not batched: the first axis of 'x' has the fixed size 1"]
    assert (
        json.loads(tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check", "--json").stdout)["models"][0]["new"]
        is False
    )


def test_failed_gate_exits_1(tmp_path: Path) -> None:
    graphs.fixed_inside(tmp_path / "m.onnx", 5)
    done = tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check")
    assert done.returncode == 1
    assert "rows are independent of their batch: fails with 6 rows" in done.stderr
    assert files_in(tmp_path) == ["m.onnx"]


def test_inspect_an_onnx_file(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx", external=True)
    facts = json.loads(tritonforge(tmp_path, "inspect", "m.onnx", "--json").stdout)
    assert facts["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["batch", 4]}]
    assert [one["location"] for one in facts["files"]] == ["m.onnx", "m.onnx.data"]
    text = tritonforge(tmp_path, "inspect", "m.onnx").stdout
    assert "ran with 1, 2, 3 independent rows" in text
    assert "ai.onnx 17" in text


def test_inspect_a_plan(tmp_path: Path) -> None:
    (tmp_path / "m.plan").write_bytes(b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]))
    assert "a plan of TensorRT 10.3.0.26" in tritonforge(tmp_path, "inspect", "m.plan").stdout


def test_inspect_a_repository(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check", "--repository", "repo")
    (tmp_path / "repo" / "theirs" / "3").mkdir(parents=True)
    facts = json.loads(tritonforge(tmp_path, "inspect", "repo", "--json").stdout)
    versions = {model["name"]: model["versions"] for model in facts["models"]}
    assert (versions["m"][0]["source"], versions["m"][0]["verified"]) == ("m.onnx", True)
    assert (versions["theirs"][0]["version"], versions["theirs"][0]["source"]) == (3, None)
    assert "not made by" in tritonforge(tmp_path, "inspect", "repo").stdout


def test_lint_exits_1_on_errors(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check", "--repository", "repo")
    assert tritonforge(tmp_path, "lint", "repo").stdout == "no findings\n"
    config = tmp_path / "repo" / "m" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 32", "max_batch_size: -1"))
    done = tritonforge(tmp_path, "lint", "repo", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["findings"][0]["rule"] == "C4"
    assert tritonforge(tmp_path, "lint", "absent").returncode == 2


def test_verify_finds_changed_files(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check", "--repository", "repo")
    assert tritonforge(tmp_path, "verify", "repo", "--no-serve-check").returncode == 0
    graphs.linear(tmp_path / "other.onnx", seed=1)
    done = tritonforge(tmp_path, "verify", "repo", "--no-serve-check", "--source", "other.onnx")
    assert done.returncode == 1
    assert "largest difference" in done.stdout
    (tmp_path / "repo" / "m" / "1" / "model.onnx").write_bytes((tmp_path / "other.onnx").read_bytes())
    done = tritonforge(tmp_path, "verify", "repo", "--no-serve-check", "--json")
    assert done.returncode == 1
    checks = json.loads(done.stdout)["models"][0]["checks"]
    assert [check["summary"] for check in checks if not check["passed"]] == [
        "version 1: changed or missing: model.onnx"
    ]


def test_verify_tells_what_it_cannot_read(tmp_path: Path) -> None:
    graphs.linear(tmp_path / "m.onnx")
    tritonforge(tmp_path, "generate", "m.onnx", "--no-serve-check", "--repository", "repo")
    (tmp_path / "repo" / "m" / "config.pbtxt").write_text("name: 3")
    (tmp_path / "repo" / "empty").mkdir()
    done = tritonforge(tmp_path, "verify", "repo", "--json")
    assert done.returncode == 1
    failed = {
        model["model"]: [check["summary"] for check in model["checks"] if not check["passed"]]
        for model in json.loads(done.stdout)["models"]
    }
    assert "is incomplete" in failed["empty"][0]
    assert failed["m"][1].startswith("P1: failed to read text proto")
    assert tritonforge(tmp_path, "verify", "repo", "--model", "absent").returncode == 2


@pytest.mark.parametrize(("kind", "key"), [("spec", "models"), ("campaign", "phases")])
def test_schema_is_for_editors(tmp_path: Path, kind: str, key: str) -> None:
    schema = json.loads(tritonforge(tmp_path, "schema", kind).stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert key in schema["properties"]
    assert schema["additionalProperties"] is False


def test_doctor_reports_as_json(tmp_path: Path) -> None:
    findings = {one["topic"]: one for one in json.loads(tritonforge(tmp_path, "doctor", "--json").stdout)["findings"]}
    assert findings["onnxruntime"]["present"] is True
    assert all(one["present"] or one["action"] != "" for one in findings.values())


def test_port_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tritonforge(tmp_path, "serve", "repo", "--http-port", str(port))
    assert done.returncode == 1
    assert str(port) in done.stderr
