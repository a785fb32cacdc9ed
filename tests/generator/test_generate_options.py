"""A real Triton serves models with every option that it can, and what it cannot try is skipped with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support import graphs
from support.graphs import tensor

from tritonforge_client import Client
from tritonforge_client.core.bytes_codec import bytes_from_strings
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import SpecError, VerificationError
from tritonforge_generator.graph import OnnxSession, SampleOptions
from tritonforge_generator.graph.samples import samples_from_options
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import ForgeSpec, SequenceBatching, forge_spec_from_flags
from tritonforge_generator.verify import reference_from_path
from tritonforge_generator.verify.sequence import SEQUENCE_ID, as_sequence

ANSWERS = "a real Triton serves the same answers"
CONTROLS = {"START": "start", "END": "end", "CORRID": "id"}
STATE = [{"input_name": "sum", "output_name": "sum_out"}]


def spec_of(folder: Path, models: dict[str, dict[str, Any]]) -> ForgeSpec:
    specs = [
        forge_spec_from_flags({"name": name, **options, "source": str(options["source"])}, repository=folder / "repo")
        for name, options in models.items()
    ]
    return ForgeSpec(repository=folder / "repo", models=tuple(spec.models[0] for spec in specs))


def generated_of(folder: Path, models: dict[str, dict[str, Any]], *, serve_check: bool) -> dict[str, Generated]:
    found = generate(spec_of(folder, models), serve_check=serve_check)
    return {one.version.folder.name: one for one in found}


def served_models(folder: Path) -> dict[str, dict[str, Any]]:
    linear, float_steps = graphs.linear(folder / "linear.onnx"), graphs.steps(folder / "float.onnx")
    bool_steps = graphs.steps(folder / "bool.onnx", TensorProto.BOOL, TensorProto.INT32)
    np.save(folder / "row.npy", np.ones(4, np.float32))
    group = {"kind": "KIND_MODEL", "name": "mine", "host_policy": "cpu", "count": 2}
    resources = [{"name": "R", "count": 2, "global": True}]
    from_file = {"name": "file", "batch_size": 3, "inputs": {"x": {"input_data_file": str(folder / "row.npy")}}}
    return {
        "priorities": {
            "source": linear,
            "dynamic_batching": {
                "priority_levels": 3,
                "default_priority_level": 2,
                "priority_queue_policy": {"1": {"max_queue_size": 5}, "3": {"timeout_action": "DELAY"}},
            },
        },
        "instances": {
            "source": linear,
            "instance_group": [
                {**group, "rate_limiter": {"resources": resources, "priority": 2}},
                {"kind": "KIND_CPU", "passive": True},
            ],
        },
        "warm": {
            "source": linear,
            "model_warmup": [from_file, {"name": "r", "count": 2, "inputs": {"x": {"random_data": True}}}],
        },
        "shapes": {
            "source": linear,
            "labels": {"y": ["cat", "dog", "bird"]},
            "metric_tags": {"team": "vision"},
            "input": [{"name": "x", "dims": [2, 1, 2], "format": "FORMAT_NHWC"}],
            "output": [{"name": "y", "dims": [3, 1], "reshape": {"shape": [3]}}],
        },
        "direct": {"source": float_steps, "sequence_batching": {"control_input": CONTROLS}},
        "oldest": {
            "source": bool_steps,
            "sequence_batching": {"control_input": CONTROLS, "oldest": {"max_candidate_sequences": 4}},
        },
    }


@pytest.mark.triton
def test_a_real_triton_serves_them(tmp_path: Path) -> None:
    found = generated_of(tmp_path, served_models(tmp_path), serve_check=True)
    for name, one in found.items():
        assert {check.name: check.summary for check in one.verification.checks if not check.passed} == {}, name
    again = verify_repository(tmp_path / "repo")
    assert [one.model for one in again if not one.passed] == []


@pytest.mark.triton
def test_labels_reach_clients(tmp_path: Path) -> None:
    options = {"source": graphs.linear(tmp_path / "m.onnx"), "labels": {"y": ["cat", "dog", "bird"]}}
    generated_of(tmp_path, {"m": options}, serve_check=False)
    x = np.ones((1, 4), np.float32)
    with EmbeddedTriton(tmp_path / "repo", stop_timeout_s=0) as server, Client(server.grpc_url) as client:
        ((found, *_),) = client.bind(client.spec("m")).classify({"x": x}, output="y")
    best = int(np.argmax(OnnxSession(tmp_path / "m.onnx").run({"x": x})["y"]))
    assert (found.index, found.label) == (best, ["cat", "dog", "bird"][best])


def untried_models(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    linear = graphs.linear(folder / "linear.onnx")
    buckets = {"metric_identifier": {"family": "f"}, "histogram_options": {"buckets": [1]}}
    counts = [{"kind": "BATCH_ACCUMULATED_ELEMENT_COUNT", "target_name": ["ends"], "source_input": ["x"]}]
    ends = {"x": np.ones((2, 5), np.float32), "ends": np.full((2, 1, 1), 4, np.int32)}
    np.savez(folder / "ragged.npz", **ends)
    return {
        "state": (
            {"source": graphs.accumulator(folder / "sum.onnx"), "sequence_batching": {"state": STATE}},
            "implicit state",
        ),
        "ragged": (
            {
                "source": graphs.ragged(folder / "ragged.onnx"),
                "max_batch_size": 4,
                "input": [{"name": "x", "allow_ragged_batch": True}],
                "batch_input": counts,
                "verify": {"samples": str(folder / "ragged.npz")},
            },
            "requests of several sizes",
        ),
        "agents": (
            {"source": linear, "model_repository_agents": {"agents": [{"name": "checksum"}]}},
            "no repository agents",
        ),
        "metrics": ({"source": linear, "model_metrics": {"metric_control": [buckets]}}, "older than model_metrics"),
    }


@pytest.mark.triton
def test_what_the_embedded_server_cannot_try_is_skipped_with_its_reason(tmp_path: Path) -> None:
    models = untried_models(tmp_path)
    found = generated_of(tmp_path, {name: options for name, (options, _) in models.items()}, serve_check=True)
    for name, (_, reason) in models.items():
        (skipped,) = (check for check in found[name].verification.checks if check.name == ANSWERS)
        assert (skipped.verdict, reason in skipped.summary) == ("skipped", True)
        assert found[name].verification.skipped
    again = verify_repository(tmp_path / "repo")
    assert all(one.skipped for one in again)


def test_files_of_a_model_are_published_and_watched(tmp_path: Path) -> None:
    source = graphs.accumulator(tmp_path / "sum.onnx")
    np.save(tmp_path / "sum.npy", np.full(4, 2, np.float32))
    state = [{**STATE[0], "initial_state": {"data_file": str(tmp_path / "sum.npy")}}]
    options = {"source": source, "sequence_batching": {"state": state}, "labels": {"y": ["a", "b", "c", "d"]}}
    (one,) = generated_of(tmp_path, {"m": options}, serve_check=False).values()
    folder = one.version.folder.path
    assert (folder / "initial_state" / "sum.bin").read_bytes() == np.full(4, 2, np.float32).tobytes()
    manifest = json.loads((folder / "1" / "manifest.json").read_text())
    assert set(manifest["model_files"]) == {"initial_state/sum.bin", "y_labels.txt"}
    assert str(tmp_path) not in json.dumps(manifest)
    assert generated_of(tmp_path, {"m": options}, serve_check=False)["m"].version.new is False
    options["labels"] = {"y": ["a", "b", "c", "e"]}  # the configuration stays the same
    assert generated_of(tmp_path, {"m": options}, serve_check=False)["m"].version.version == 2
    (folder / "y_labels.txt").write_text("a\nb\n")
    (found,) = verify_repository(tmp_path / "repo", serve_check=False)
    assert "changed or missing: y_labels.txt" in found.checks[0].summary


def test_samples_become_one_sequence(tmp_path: Path) -> None:
    session = OnnxSession(graphs.steps(tmp_path / "steps.onnx"))
    sequence = SequenceBatching.model_validate(
        {"control_input": {**CONTROLS, "END": {"name": "end", "false_true": (-1, 3)}}}
    )
    drawn = samples_from_options(session.inputs, SampleOptions(), batched=True)
    arrays = as_sequence(drawn, sequence, session, batched=True).arrays
    assert arrays["start"].ravel().tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert arrays["end"].ravel().tolist() == [-1, -1, -1, -1, -1, -1, -1, 3]
    assert set(arrays["id"].ravel().tolist()) == {SEQUENCE_ID}
    assert arrays["x"] is drawn.arrays["x"]


def test_a_state_is_handed_from_step_to_step(tmp_path: Path) -> None:
    """The reference of an accumulator is the running sum, from its initial state on."""
    path = graphs.accumulator(tmp_path / "sum.onnx")
    np.save(tmp_path / "sum.npy", np.full(4, 2, np.float32))
    state = {**STATE[0], "initial_state": {"data_file": tmp_path / "sum.npy"}}
    spec = spec_of(tmp_path, {"m": {"source": path}})
    sequence = SequenceBatching.model_validate({"state": (state,)})
    reference = reference_from_path(path, spec.models[0].verify, batched=True, sequence=sequence)
    sums = np.concatenate([answer["y"] for answer in reference.answers])
    assert np.allclose(sums, 2 + np.cumsum(reference.samples.arrays["x"], axis=0), atol=1e-5)


@pytest.mark.parametrize("suffix", [".npy", ".bin"])
def test_a_state_of_strings_begins_as_its_file_says(tmp_path: Path, suffix: str) -> None:
    given = [tensor(name, TensorProto.STRING) for name in ("x", "last")]
    made = [tensor(name, TensorProto.STRING) for name in ("y", "kept")]
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in (("last", "y"), ("x", "kept"))]
    path = graphs.save(tmp_path / "m.onnx", nodes, given, made)
    file = tmp_path / f"first{suffix}"
    if suffix == ".npy":
        np.save(file, np.array(["a", "bc", "", "d"]))
    else:
        file.write_bytes(bytes_from_strings(["a", "bc", "", "d"]))
    state = {"input_name": "last", "output_name": "kept", "initial_state": {"data_file": file}}
    spec = spec_of(tmp_path, {"m": {"source": path}})
    sequence = SequenceBatching.model_validate({"state": (state,)})
    reference = reference_from_path(path, spec.models[0].verify, batched=True, sequence=sequence)
    assert reference.answers[0]["y"].tolist() == [[b"a", b"bc", b"", b"d"]]
    if suffix == ".bin":
        file.write_bytes(bytes_from_strings(["a", "bc"]))
        with pytest.raises(SpecError, match="expected 4 strings, each behind its length"):
            reference_from_path(path, spec.models[0].verify, batched=True, sequence=sequence)


@pytest.mark.triton
def test_a_wrong_control_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that says the wrong id fails the gate: so the gate sees controls at all."""
    import tritonforge_generator.verify.sequence as steps

    monkeypatch.setattr(steps, "SEQUENCE_ID", SEQUENCE_ID + 1)  # the server is still asked with the true one
    source = graphs.steps(tmp_path / "steps.onnx")
    with pytest.raises(VerificationError, match="output 'y' of step 0"):
        generated_of(
            tmp_path, {"m": {"source": source, "sequence_batching": {"control_input": CONTROLS}}}, serve_check=True
        )
