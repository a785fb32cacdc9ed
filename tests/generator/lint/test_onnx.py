"""What the linter reads of ONNX files, how much of them, and what it leaves to ONNX Runtime."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from generator.lint.cases import (
    BATCHED,
    CONTROLLED,
    FP32,
    ONNX,
    ONNX_BATCHING,
    X,
    Y,
    control,
    external_bytes,
    model_bytes,
    onnx_bytes,
    onnx_files,
    onnx_tensors,
    sequence_bytes,
    write_model,
)
from generator.lint.fuzz import mutated_graph
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tritonforge_generator.lint import Finding, lint_model
from tritonforge_generator.lint.engine import lint_repository, open_repositories
from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.onnx_io import UnreadableModelError, graph_from_file
from tritonforge_generator.lint.onnx_skim import skimmed_model

MIB = 2**20
X_INFO = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])


def rules(directory: Path, *, strict: bool = False) -> list[str]:
    return [found.rule for found in lint_model(directory, strict=strict)]


def only(directory: Path, *, strict: bool = False) -> Finding:
    (found,) = lint_model(directory, strict=strict)
    return found


def graph_of(
    nodes: Sequence[NodeProto], outputs: Sequence[ValueInfoProto], weights: Sequence[TensorProto] = ()
) -> GraphProto:
    return helper.make_graph(nodes, "graph", [X_INFO], outputs, weights)


def y_info(shape: Sequence[int | str] | None) -> ValueInfoProto:
    return helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)


def weighted(content: bytes) -> bytes:
    """A graph with large weights everywhere: among its own, in a constant, and in a graph inside of a node."""
    large = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[len(content) // 4], raw_data=content)
    constant = helper.make_node("Constant", [], ["c"], value=large)
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["v"])], "inner", [], [y_info(None)], [large])
    branch = helper.make_node("If", ["yes"], ["b"], then_branch=inner, else_branch=inner)
    copy = helper.make_node("Identity", ["x"], ["y"])
    return model_bytes(graph_of([constant, branch, copy], [y_info(["N", 4])], [large]))


def test_weights_are_skipped_wherever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(weighted(bytes(4 * MIB)))
    graph_from_file(path)  # imports are paid once
    tracemalloc.start()
    graph = graph_from_file(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [tensor.dims for tensor in (graph.inputs["x"], graph.outputs["y"])] == [(-1, 4), (-1, 4)]
    assert peak_bytes < MIB / 4


def test_all_but_large_values_is_read_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(weighted(bytes(64 * 1024)))
    model = skimmed_model(path, ModelProto)
    whole = ModelProto.FromString(path.read_bytes())
    branch = whole.graph.node[1].attribute
    for tensor in (
        whole.graph.initializer[0],
        whole.graph.node[0].attribute[0].t,
        branch[0].g.initializer[0],
        branch[1].g.initializer[0],
    ):
        assert len(tensor.raw_data) == 64 * 1024
        tensor.ClearField("raw_data")
    assert model == whole


def test_small_values_are_kept_because_shapes_are_made_of_them(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([-1, 2, 2], np.int64), "shape")
    path = tmp_path / "model.onnx"
    path.write_bytes(
        model_bytes(graph_of([helper.make_node("Reshape", ["x", "shape"], ["y"])], [y_info(["A", "B", "C"])], [shape]))
    )
    assert graph_from_file(path).outputs["y"].dims[1:] == (2, 2)


@pytest.mark.parametrize(
    ("level", "dims", "expected"), [(0, "[2, 2]", []), (0, "[-1, -1]", ["O21"]), (2, "[-1, -1]", [])]
)
def test_what_the_optimiser_finds_holds_only_where_it_runs(
    tmp_path: Path, level: int, dims: str, expected: list[str]
) -> None:
    def constant(values: Sequence[int], name: str) -> TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    nodes = [
        helper.make_node("Shape", ["x"], ["all"]),
        helper.make_node("Gather", ["all", "first"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    graph = graph_of(nodes, [y_info(["M", "A", "B"])], [constant([0], "first"), constant([2, 2], "rest")])
    config = onnx_tensors(FP32 + "[4]", FP32 + dims) + f"optimization {{ graph {{ level: {level} }} }}"
    write_model(tmp_path / "m", config, onnx_files(model_bytes(graph)))
    assert rules(tmp_path / "m") == expected


def test_a_file_that_the_runtime_refuses_settles_nothing(tmp_path: Path) -> None:
    large = TensorProto(name="w", data_type=TensorProto.INT8, dims=[9001], raw_data=bytes(9001))
    copy = helper.make_node("Identity", ["x"], ["y"])
    content = model_bytes(graph_of([copy], [y_info(["M", "W"])], [large]))
    length = bytes((9001 & 127 | 128, 9001 >> 7))
    as_floats = content.replace(b"\x4a" + length, b"\x22" + length)  # of which each has four bytes
    write_model(tmp_path / "m", onnx_tensors(FP32 + "[4]", FP32 + "[5]"), onnx_files(as_floats))
    assert rules(tmp_path / "m") == []
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(content)
    assert rules(tmp_path / "m") == ["O21"]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.9999])
def test_a_file_that_was_not_copied_whole_is_refused(tmp_path: Path, keep: float) -> None:
    content = weighted(bytes(MIB))
    write_model(tmp_path / "m", ONNX_BATCHING, onnx_files(content[: int(len(content) * keep)]))
    assert rules(tmp_path / "m") == ["D2"]


def test_a_file_that_no_message_may_be_as_large_as_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m", ONNX_BATCHING, BATCHED)
    os.truncate(tmp_path / "m" / "1" / "model.onnx", 2**31)  # a file with a hole, which takes no place
    assert rules(tmp_path / "m") == ["D2"]
    assert "2 GiB" in only(tmp_path / "m").fix


def test_messages_that_are_nested_without_end_are_refused(tmp_path: Path) -> None:
    def inside(number: int, content: bytes) -> bytes:
        sizes = (len(content) >> 14, len(content) >> 7 & 127 | 128, len(content) & 127 | 128)
        return bytes((number << 3 | 2, *reversed(sizes))) + content

    content = inside(10, b"x" * 20_000)
    for _ in range(400):
        content = inside(1, inside(5, inside(6, content)))  # a graph in an attribute of a node of a graph
    path = tmp_path / "model.onnx"
    path.write_bytes(inside(7, content))
    with pytest.raises(UnreadableModelError, match="nested too deeply"):
        graph_from_file(path)


def test_what_protobuf_takes_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritonforge_generator.lint.onnx_skim._LARGE_BYTES", 8)
    path, taken = tmp_path / "model.onnx", 0
    for seed in range(1000):
        content = mutated_graph(random.Random(seed))
        try:
            whole = ModelProto.FromString(content)
        except DecodeError:
            continue
        path.write_bytes(content)
        skimmed = skimmed_model(path, ModelProto)
        assert (skimmed.graph.input, skimmed.graph.output) == (whole.graph.input, whole.graph.output)
        taken += 1
    assert 40 < taken < 900


def test_files_that_are_no_files_do_not_hang_it(tmp_path: Path) -> None:
    write_model(tmp_path / "pipe", ONNX_BATCHING, {"1/": ""})
    os.mkfifo(tmp_path / "pipe" / "1" / "model.onnx")
    write_model(tmp_path / "folder", ONNX_BATCHING, {"1/model.onnx/model.onnx/": ""})
    assert rules(tmp_path / "pipe") == rules(tmp_path / "pipe", strict=True) == []
    assert rules(tmp_path / "folder") == ["D2"]


def test_a_model_in_the_runtimes_own_format_may_load(tmp_path: Path) -> None:
    config = ONNX_BATCHING + 'default_model_filename: "model.ort"'
    write_model(tmp_path / "m", config, {"1/model.ort": b"\x1c\0\0\0ORTM"})
    assert rules(tmp_path / "m") == rules(tmp_path / "m", strict=True) == []


def test_the_server_names_what_is_missing_in_two_ways(tmp_path: Path) -> None:
    write_model(tmp_path / "file", ONNX_BATCHING, {"1/": ""})
    write_model(tmp_path / "folder", ONNX_BATCHING, {"1/model.onnx/": ""})
    assert only(tmp_path / "file").text == f"failed to stat file {tmp_path}/file/1/model.onnx"
    missing = f"{tmp_path}/folder/1/model.onnx/model.onnx"
    assert only(tmp_path / "folder").text == f"unable to find '{missing}' for model instance 'folder'"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("info", [y_info(None), ValueInfoProto(name="y")], ids=["no shape", "no type"])
def test_operators_that_only_the_runtime_knows_may_give_a_shape(
    tmp_path: Path, info: ValueInfoProto, strict: bool
) -> None:
    graph = graph_of([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], [info])
    model = ModelProto.FromString(model_bytes(graph))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    write_model(tmp_path / "m", ONNX_BATCHING, onnx_files(model.SerializeToString()))
    assert rules(tmp_path / "m", strict=strict) == []


def test_a_negative_size_is_an_unknown_one(tmp_path: Path) -> None:
    content = onnx_bytes({"x": ("FLOAT", [-2, 4])}, {"y": ("FLOAT", [-2, 4])})
    write_model(tmp_path / "m", ONNX_BATCHING, onnx_files(content))
    assert rules(tmp_path / "m") == []


def test_weights_of_inner_graphs_are_looked_for(tmp_path: Path) -> None:
    graph = ModelProto.FromString(external_bytes()).graph
    branch = helper.make_node("If", ["yes"], ["y"], then_branch=graph, else_branch=graph)
    write_model(tmp_path / "m", ONNX_BATCHING, onnx_files(model_bytes(graph_of([branch], [y_info(["N", 4])]))))
    assert rules(tmp_path / "m") == ["D1"]
    (tmp_path / "m" / "1" / "weights.bin").write_bytes(bytes(16))
    assert rules(tmp_path / "m") == []


def test_what_is_no_tensor_is_told_before_it_is_asked_for_a_batch(tmp_path: Path) -> None:
    write_model(tmp_path / "m", ONNX + "max_batch_size: 8", onnx_files(sequence_bytes()))
    assert rules(tmp_path / "m") == ["O23"]


def test_a_control_is_one_element_beside_the_batch_that_is_completed(tmp_path: Path) -> None:
    sequence = "sequence_batching { " + control("int32_false_true: [0, 1]", "start") + "}"
    write_model(tmp_path / "m", ONNX + X + sequence, CONTROLLED)
    assert rules(tmp_path / "m") == []


def test_controls_are_told_in_the_order_in_which_the_back_end_looks_for_them(tmp_path: Path) -> None:
    ready = control("kind: CONTROL_SEQUENCE_READY int32_false_true: [0, 1]", "ready")
    start = control("kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1]", "begin")
    config = f"{ONNX}{X}{Y}max_batch_size: 8 sequence_batching {{ {ready}{start} }}"
    write_model(tmp_path / "m", config, BATCHED)
    said = [found.text for found in lint_model(tmp_path / "m") if found.rule == "O11"]
    assert ["'begin'" in text for text in said] == [True, False]


@pytest.mark.parametrize(("gpus", "severities"), [(None, ["warning"]), (1, ["error"]), (0, [])])
def test_a_declared_host_says_who_reads_settings_of_gpus(
    tmp_path: Path, gpus: int | None, severities: list[str]
) -> None:
    accelerator = 'optimization { execution_accelerators { gpu_execution_accelerator { name: "trt" } } }'
    write_model(tmp_path / "m", ONNX_BATCHING + accelerator, BATCHED)
    found = lint_repository(tmp_path, host=None if gpus is None else Host(gpus=gpus))
    assert [(one.rule, one.severity) for one in found] == [("O5", severity) for severity in severities]


_OTHER = onnx_bytes({"x": ("FLOAT", ["N", 5])}, {"y": ("FLOAT", ["N", 5])})
_BY_GPU = 'cc_model_filenames { key: "9.0" value: "other.onnx" }\n'
_H100 = Host(gpus=1, compute_capability=(9, 0))


@pytest.mark.parametrize(
    ("kind", "host", "expected"),
    [
        ("KIND_GPU", None, []),
        ("KIND_GPU", Host(gpus=1), []),
        ("KIND_GPU", _H100, ["O21", "O21"]),
        ("KIND_AUTO", _H100, ["O21", "O21"]),
        ("KIND_AUTO", Host(compute_capability=(9, 0)), ["O21", "O21"]),
        ("KIND_AUTO", Host(gpus=0, compute_capability=(9, 0)), []),
        ("KIND_GPU", Host(gpus=1, compute_capability=(8, 0)), []),
        ("KIND_CPU", _H100, []),
    ],
)
def test_the_file_that_the_gpu_chooses_is_judged(
    tmp_path: Path, kind: str, host: Host | None, expected: list[str]
) -> None:
    config = ONNX_BATCHING + _BY_GPU + f"instance_group {{ kind: {kind} }}"
    write_model(tmp_path / "m", config, {**BATCHED, "1/other.onnx": _OTHER})
    assert [found.rule for found in lint_repository(tmp_path, host=host)] == expected


def test_a_file_that_no_gpu_was_declared_for_is_left_open(tmp_path: Path) -> None:
    config = ONNX_BATCHING + _BY_GPU
    write_model(tmp_path / "gpu", config + "instance_group { kind: KIND_GPU }", {"1/model.onnx": _OTHER})
    write_model(tmp_path / "cpu", config + "instance_group { kind: KIND_CPU }", {"1/model.onnx": _OTHER})
    write_model(
        tmp_path / "both",
        config + "instance_group { kind: KIND_CPU } instance_group { kind: KIND_GPU }",
        {"1/model.onnx": _OTHER},
    )
    assert {name: rules(tmp_path / name) for name in ("gpu", "cpu", "both")} == {
        "gpu": [],
        "cpu": ["O21", "O21"],
        "both": [],
    }


def test_a_missing_file_is_told_by_the_field_that_names_it(tmp_path: Path) -> None:
    write_model(tmp_path / "m", ONNX_BATCHING + _BY_GPU, BATCHED)
    (found,) = lint_repository(tmp_path, host=_H100)
    assert (found.rule, found.field) == ("O1", 'cc_model_filenames["9.0"]')
    assert found.text.endswith("other.onnx")


@pytest.mark.parametrize("host", [None, _H100])
def test_the_default_file_completes_whatever_the_gpu_chooses(tmp_path: Path, host: Host | None) -> None:
    config = ONNX + _BY_GPU + "instance_group { kind: KIND_GPU }"
    write_model(tmp_path / "m", config, {**BATCHED, "1/other.onnx": _OTHER})
    assert lint_repository(tmp_path, host=host) == []
    repositories, (directory,) = open_repositories(tmp_path, host=host)
    served = repositories.read(directory).served
    assert served is not None
    assert list(served.input[0].dims) == [4]
