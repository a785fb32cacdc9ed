"""Paths of every option belong to the spec's folder, and a spec that is written reads back as the same."""

from __future__ import annotations

from pathlib import Path

from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file, text_from_forge_spec

EVERYTHING = """\
repository: repo
models:
  - name: stateful
    source: a.onnx
    max_batch_size: 8
    sequence_batching:
      control_input: {START: start, CORRID: {name: id}}
      oldest: {max_candidate_sequences: 4}
      state: [{input_name: s, output_name: t, initial_state: {data_file: s.npy}}]
    instance_group: [{rate_limiter: {resources: [{name: R, global: true}]}}]
    labels: {y: names.txt, z: [a, b]}
  - name: planned
    source: b.onnx
    platform: tensorrt
    model_warmup: [{name: w, inputs: {x: {input_data_file: w.npy}}}]
    metric_tags: {plain: team, number: "-1e3", fraction: ".5e3", empty: ""}
    cc_model_files: {"8.0": a100.plan}
    dynamic_batching: {priority_levels: 2, default_priority_level: 1, priority_queue_policy: {2: {max_queue_size: 1}}}
  - name: python
    source: c.py
    platform: python
    model_warmup: true
    files: [words.txt]
    verify: {samples: s.npz, expected: e.npz}
"""


def spec_of(folder: Path, text: str) -> ForgeSpec:
    path = folder / "tritonforge.yaml"
    path.write_text(text)
    return forge_spec_from_file(path)


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    stateful, planned, python = spec_of(tmp_path, EVERYTHING).models
    assert stateful.sequence_batching is not None
    assert stateful.sequence_batching.state[0].initial_state.data_file == tmp_path / "s.npy"
    assert stateful.labels == {"y": tmp_path / "names.txt", "z": ("a", "b")}
    assert not isinstance(planned.model_warmup, bool)
    assert planned.model_warmup[0].inputs["x"].input_data_file == tmp_path / "w.npy"
    assert planned.cc_model_files == {"8.0": tmp_path / "a100.plan"}
    assert python.files == (tmp_path / "words.txt",)
    assert (python.verify.samples, python.verify.expected) == (tmp_path / "s.npz", tmp_path / "e.npz")


def test_a_spec_that_is_written_reads_back_as_the_same(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, EVERYTHING)
    again = spec_of(tmp_path, text_from_forge_spec(spec))
    assert again == spec
    # A Python model is warmed up only where that is said, although true is the default.
    assert ["model_warmup" in model.model_fields_set for model in again.models] == [False, True, True]
