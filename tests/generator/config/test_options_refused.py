"""What the server would refuse is refused before anything is written, at its place in the spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generator.config.test_from_graph import config_of
from onnx import TensorProto, helper
from support import graphs

from tritonforge_generator.errors import ConfigError, SpecError, TritonforgeError

Build = Callable[[Path], Path]


def sequence(**fields: Any) -> dict[str, Any]:
    return {"sequence_batching": fields}


def priorities(**fields: Any) -> dict[str, Any]:
    return {"dynamic_batching": {"priority_levels": 2, "default_priority_level": 1, **fields}}


def group(**fields: Any) -> dict[str, Any]:
    return {"instance_group": [fields]}


def accelerator(key: str, **fields: Any) -> dict[str, Any]:
    return {"optimization": {"execution_accelerators": {key: [fields]}}}


RATE_LIMITED = [{"rate_limiter": {"resources": [{"name": "R"}]}}]
GLOBAL_TOO = {"rate_limiter": {"resources": [{"name": "R", "global": True}]}}
DELAYED = {"timeout_action": "DELAY"}
RAGGED = {"max_batch_size": 4, "input": [{"name": "x", "allow_ragged_batch": True}]}
ENDS = [{"kind": "BATCH_ACCUMULATED_ELEMENT_COUNT", "target_name": ["ends"], "source_input": ["x"]}]
PLAN_GRAPH: dict[str, Any] = {"batch_size": 8, "input": {"x": [4]}}


def plan_graph(**changes: Any) -> dict[str, Any]:
    return {"platform": "tensorrt", "optimization": {"cuda": {"graph_spec": [{**PLAN_GRAPH, **changes}]}}}


SPEC: dict[str, tuple[dict[str, Any], str]] = {
    "C7 no default": ({"dynamic_batching": {"priority_levels": 2}}, "default_priority_level of 1 to 2, got none"),
    "C7 above": (priorities(default_priority_level=3), "default_priority_level: expected a default.*got 3"),
    "C8": (priorities(priority_queue_policy={"3": {}}), r"priority_queue_policy.3: expected a level of 1 to 2, got 3"),
    "C9": (priorities(preserve_ordering=True), "preserve_ordering: expected false with several priority_levels"),
    "C10": (
        {"dynamic_batching": {"preserve_ordering": True, "default_queue_policy": DELAYED}},
        "default_queue_policy.timeout_action: expected REJECT",
    ),
    "levels": ({"dynamic_batching": {"default_priority_level": 1}}, "expected priority_levels beside it"),
    "P1 two schedulers": ({**sequence(), "dynamic_batching": {}}, "dynamic_batching: expected none beside"),
    "P1 two schedulers, true": ({**sequence(), "dynamic_batching": True}, "dynamic_batching: expected none beside"),
    "C11": ({**sequence(), "response_cache": {"enable": True}}, "expected false with sequence_batching"),
    "one strategy": (sequence(direct={}, oldest={"max_candidate_sequences": 1}), "one of direct and oldest"),
    "S2": (sequence(control_input={"START": "a", "END": "a"}), "control_input.END: expected an input of its own"),
    "S9": (sequence(control_input={"CORRID": {"name": "a", "false_true": [0, 2]}}), "expected none for CORRID"),
    "idle": (sequence(max_sequence_idle_microseconds=0), "expected greater than 0"),  # the server takes it for 1 s
    "one flag": (
        sequence(control_input={"START": {"name": "a", "false_true": [1, 1]}}),
        "one value for no and another",
    ),
    "no flag": (
        sequence(control_input={"START": {"name": "a", "false_true": [0, float("inf")]}}),
        r"START.false_true\[1\]: expected a finite number, got the number inf",
    ),
    "no initial state": (
        sequence(state=[{"input_name": "a", "output_name": "b", "initial_state": {"zero_data": False}}]),
        "initial_state.zero_data: expected true, got false",
    ),
    "two initial states": (
        sequence(
            state=[{"input_name": "a", "output_name": "b", "initial_state": {"zero_data": True, "data_file": "f"}}]
        ),
        "one of zero_data and data_file, got both",
    ),
    "size of a state": (
        sequence(state=[{"input_name": "a", "output_name": "b", "dims": [-7]}]),
        r"state\[0\].dims\[0\]: expected greater than or equal to -1",
    ),
    "W4 of a state": (
        {**sequence(state=[{"input_name": "a", "output_name": "b"}]), "model_warmup": [{"name": "s"}]},
        "model_warmup: expected no samples: a warm-up request has no state, got 1",
    ),
    "S13": (sequence(direct={"minimum_slot_utilization": 1.5}), "less than or equal to 1"),
    "S23": (
        sequence(state=[{"input_name": "a", "output_name": "b", "use_growable_memory": True}]),
        "use_same_buffer_for_input_output: true beside it",
    ),
    "S24": (
        sequence(
            state=[
                {
                    "input_name": "a",
                    "output_name": "b",
                    "use_growable_memory": True,
                    "use_same_buffer_for_input_output": True,
                }
            ]
        ),
        "expected only KIND_GPU in instance_group",
    ),
    "S25": (
        sequence(state=[{"input_name": "a", "output_name": "b"}, {"input_name": "a", "output_name": "c"}]),
        r"state\[1\].input_name: expected a tensor of its own, got 'a'",
    ),
    "G2": (group(kind="KIND_MODEL", gpus=[0]), "no GPU ids for KIND_MODEL"),
    "T1": (
        {"platform": "tensorrt", **group(kind="KIND_MODEL")},
        r"instance_group\[0\].kind: expected KIND_GPU or KIND_AUTO for a plan, got KIND_MODEL",
    ),
    "Y4": (group(name="a;b"), "letters, digits"),
    "twice a GPU": (group(kind="KIND_GPU", gpus=[1, 1]), "each GPU once, got 1 twice"),
    "all passive": (group(passive=True), "a group that is not passive"),
    "group names": ({"instance_group": [{"name": "a"}, {"name": "a"}]}, "distinct names, got 'a' twice"),
    "W7": ({"instance_group": [*RATE_LIMITED, GLOBAL_TOO]}, r"resources\[0\].global: expected false"),
    "resource twice": (group(rate_limiter={"resources": [{"name": "R"}, {"name": "R"}]}), "each resource once"),
    "secondary devices": (group(secondary_devices=[{}]), "tensorrt, because instance_group.secondary_devices is set"),
    "gather": ({"optimization": {"eager_batching": True}}, "tensorrt, because optimization.eager_batching is set"),
    "W1": ({"model_warmup": [{"name": "s", "inputs": {"x": {"dims": [-1]}}}]}, "greater than or equal to 1"),
    "W5": ({"model_warmup": [{"name": "s", "batch_size": 0}]}, "greater than or equal to 1"),
    "two contents": (
        {"model_warmup": [{"name": "s", "inputs": {"x": {"zero_data": True, "random_data": True}}}]},
        "one of zero_data, random_data and input_data_file",
    ),
    "C16": (
        {"model_metrics": {"metric_control": [{"metric_identifier": {"family": ""}}]}},
        "expected text of 1 or more characters",
    ),
    "C18": (
        {
            "model_metrics": {
                "metric_control": [
                    {"metric_identifier": {"family": "f"}, "histogram_options": {"buckets": [2, 1]}},
                ]
            }
        },
        "expected ascending bounds",
    ),
    "a tag that ends the server": (
        {"metric_tags": {"cost centre": "7"}},
        "metric_tags.cost centre: expected text like",
    ),
    "a tag that becomes __team": ({"metric_tags": {"_team": "7"}}, "metric_tags._team: expected text like"),
    "int32": ({"max_batch_size": 2**31}, "max_batch_size: expected less than or equal to 2147483647"),
    "int64": (
        {"version_policy": {"specific": {"versions": [2**63]}}},
        "expected less than or equal to 9223372036854775807",
    ),
    "endless buckets": (
        {
            "model_metrics": {
                "metric_control": [
                    {"metric_identifier": {"family": "f"}, "histogram_options": {"buckets": [1, float("inf")]}},
                ]
            }
        },
        "expected a finite number",
    ),
    "a tolerance of everything": ({"verify": {"rtol": float("inf")}}, "verify.rtol: expected a finite number"),
    "I3": ({"input": [{"name": "x", "dims": []}]}, "at least 1"),
    "I5": ({"input": [{"name": "x", "dims": [0]}]}, r"dims\[0\]: expected a size of at least 1, or -1 for any, got 0"),
    "I6": ({"input": [{"name": "x", "dims": [4], "reshape": {"shape": [0]}}]}, "a size of at least 1, or -1 for any"),
    "reshape alone": ({"input": [{"name": "x", "reshape": {"shape": [4]}}]}, "expected dims beside it"),
    "tensor twice": ({"input": [{"name": "x"}, {"name": "x"}]}, "each tensor once, got 'x' twice"),
    "B1": ({"batch_input": [{"kind": "BATCH_ITEM_SHAPE", "target_name": ["x"], "source_input": []}]}, "at least 1"),
    "B6": (
        {
            "batch_output": [
                {"target_name": ["y"], "source_input": ["x"]},
                {"target_name": ["y"], "source_input": ["x"]},
            ]
        },
        "each tensor once, got 'y' twice",
    ),
    "O5": (accelerator("gpu_execution_accelerator", name="rocm"), "'tensorrt' or 'cuda'"),
    "O6": (
        accelerator("gpu_execution_accelerator", name="tensorrt", parameters={"precision_mode": "FP8"}),
        "one of FP32, FP16, BF16, INT8, got FP8",
    ),
    "O7": (
        accelerator("gpu_execution_accelerator", name="tensorrt", parameters={"trt_fp16_enable": "1"}),
        "parameters.trt_fp16_enable: expected one of",
    ),
    "never used": (
        {**accelerator("gpu_execution_accelerator", name="cuda"), **group(kind="KIND_CPU")},
        "an instance_group other than KIND_CPU",
    ),
    "accelerators of a plan": (
        {"platform": "tensorrt", **accelerator("gpu_execution_accelerator", name="cuda")},
        "a plan has no ONNX Runtime",
    ),
    "decoupled graph": ({"model_transaction_policy": {"decoupled": True}}, "platform: python beside it"),
    "iterative graph": (sequence(iterative_sequence=True), "a graph is done after each step"),
    "O10 optional": (
        {"input": [{"name": "x", "optional": True}]},
        "platform: python beside it: a graph needs its inputs, got onnxruntime",
    ),
    "T54": (plan_graph(graph_lower_bound={"batch_size": 9, "input": {"x": [4]}}), "at most 8, got 9"),
    "T55": (plan_graph(graph_lower_bound={"batch_size": 1, "input": {}}), "'x' with sizes of at most"),
    "T58": (plan_graph(graph_lower_bound={"batch_size": 1, "input": {"x": [5]}}), r"at most \[4\], got \[5\]"),
    "graphs off": (
        {"platform": "tensorrt", "optimization": {"cuda": {"graphs": False, "graph_spec": [PLAN_GRAPH]}}},
        "graphs: true beside it",
    ),
}
CONFIG: dict[str, tuple[Build, dict[str, Any], str]] = {
    "S10": (
        graphs.steps,
        sequence(control_input={"CORRID": "start"}),
        "the CORRID control 'start': expected one of UINT64.*got FP32",
    ),
    "S4": (graphs.steps, sequence(control_input={"START": "id"}), "'id': expected one of INT32, FP32, BOOL, got INT64"),
    "O11": (graphs.steps, sequence(control_input={"START": "other"}), "START control is not in the graph"),
    "O12": (graphs.steps, sequence(control_input={"START": "x"}), r"expected shape \[1\] after the batch axis"),
    "O12 of an open size": (
        lambda path: graphs.identity(path, shape=("batch", "n")),
        sequence(control_input={"START": "x"}),
        r"expected shape \[1\] after the batch axis, got \['batch', 'n'\]",
    ),
    "flags beyond int32": (
        lambda path: graphs.steps(path, TensorProto.INT32),
        sequence(control_input={"START": {"name": "start", "false_true": [0, 2**31]}}),
        "false_true: expected values of INT32",
    ),
    "state of one value": (
        lambda path: graphs.identity(path, shape=("batch",)),
        sequence(state=[{"input_name": "x", "output_name": "y"}]),
        r"the state 'x': expected an axis beside the batch, got \['batch'\]",
    ),
    "bool flags": (
        lambda path: graphs.steps(path, TensorProto.BOOL),
        sequence(control_input={"START": {"name": "start", "false_true": [-1, 1]}}),
        "false_true: expected values of BOOL",
    ),
    "S12": (
        graphs.steps,
        {"max_batch_size": 4, **sequence(oldest={"max_candidate_sequences": 8, "preferred_batch_size": [8]})},
        r"sizes of at most 4, got \[8\]",
    ),
    "no such state": (
        graphs.accumulator,
        sequence(state=[{"input_name": "s", "output_name": "y"}]),
        "not in the graph",
    ),
    "S20": (
        graphs.accumulator,
        sequence(state=[{"input_name": "sum", "output_name": "sum_out", "initial_state": {"dims": [3]}}]),
        r"dims within \[4\], got \[3\]",
    ),
    "state type": (
        graphs.accumulator,
        sequence(state=[{"input_name": "sum", "output_name": "sum_out", "data_type": "TYPE_INT8"}]),
        "expected TYPE_FP32, got TYPE_INT8",
    ),
    "I13": (graphs.linear, {"input": [{"name": "z"}]}, "input names a tensor.*one of x, got z"),
    "I14": (graphs.linear, {"output": [{"name": "x"}]}, "output names a tensor.*one of y, got x"),
    "I14 of labels": (graphs.linear, {"labels": {"z": ["a"]}}, "labels names a tensor.*one of y, got z"),
    "O16": (graphs.linear, {"input": [{"name": "x", "data_type": "TYPE_INT8"}]}, "expected TYPE_FP32, got TYPE_INT8"),
    "I7": (graphs.linear, {"input": [{"name": "x", "dims": [5]}]}, r"dims hold other elements.*\[4\].*got \[5\]"),
    "I8": (graphs.linear, {"input": [{"name": "x", "dims": [2, -1]}]}, "dims hold other elements"),
    "O22": (
        lambda path: graphs.identity(path, shape=("batch", "n")),
        {"output": [{"name": "y", "dims": [4]}]},
        "dims hold other elements",
    ),
    "other reshape": (
        graphs.linear,
        {"input": [{"name": "x", "dims": [4], "reshape": {"shape": [2, 2]}}]},
        r"reshaped to another shape than the graph's: expected \[4\], got \[2, 2\]",
    ),
    "I9": (graphs.linear, {"input": [{"name": "x", "format": "FORMAT_NCHW"}]}, "expected three dims"),
    "ragged images": (
        graphs.ragged,
        {
            "max_batch_size": 4,
            "input": [{"name": "x", "allow_ragged_batch": True, "dims": [-1, 8]}],
            "batch_input": ENDS,
        },
        r"dims of one size, \[-1\] for any, and no reshape, got \[-1, 8\]",
    ),
    "B5 of a state": (
        graphs.accumulator,
        {
            **sequence(state=[{"input_name": "sum", "output_name": "sum_out"}]),
            "batch_output": [{"target_name": ["sum_out"], "source_input": ["x"]}],
        },
        "batch_output.target_name names another tensor: expected one of y, got sum_out",
    ),
    "O18": (graphs.linear, RAGGED, "'x' cannot be ragged: expected a graph input of one axis that varies"),
    "B3": (
        graphs.ragged,
        {
            **RAGGED,
            "batch_input": [{"kind": "BATCH_ELEMENT_COUNT", "target_name": ["ends"], "source_input": ["z"]}],
        },
        "source_input names another tensor.*one of x, got z",
    ),
    "labels": (graphs.linear, {"labels": {"y": ["a", "b"]}}, "labels of 'y': expected 3, one for each element, got 2"),
    "warm-up rows": (
        graphs.linear,
        {"max_batch_size": 4, "model_warmup": [{"name": "s", "batch_size": 5}]},
        "at most 4",
    ),
    "warm-up input": (graphs.linear, {"model_warmup": [{"name": "s", "inputs": {"z": {}}}]}, "one of x, got z"),
    "warm-up dims": (
        graphs.linear,
        {"model_warmup": [{"name": "s", "inputs": {"x": {"dims": [5]}}}]},
        r"expected \[4\]",
    ),
    "T53": (graphs.linear, plan_graph(batch_size=64), r"expected 1 to 32, got \[64\]"),
    "T52": (
        graphs.linear,
        {"max_batch_size": 0, **plan_graph(batch_size=1)},
        "expected 0, because max_batch_size is 0",
    ),
    "graph shape": (graphs.linear, plan_graph(input={"x": [5]}), r"expected 'x' \[4\], got 'x' \[5\]"),
    "one graph input of two": (graphs.two_inputs, plan_graph(input={"a": [4]}), "sizes of every input, got none for b"),
    "graph input": (
        lambda path: graphs.identity(path, shape=("batch", "n")),
        plan_graph(input={}),
        "expected the sizes of every input, got none for x",
    ),
}


@pytest.mark.parametrize("rule", SPEC)
def test_the_spec_refuses(tmp_path: Path, rule: str) -> None:
    options, text = SPEC[rule]
    with pytest.raises(SpecError, match=text):
        config_of(graphs.linear(tmp_path / "m.onnx"), **options)


@pytest.mark.parametrize("rule", CONFIG)
def test_the_graph_refuses(tmp_path: Path, rule: str) -> None:
    build, options, text = CONFIG[rule]
    with pytest.raises(ConfigError, match=text):
        config_of(build(tmp_path / "m.onnx"), **options)


def test_labels_come_from_a_file(tmp_path: Path) -> None:
    names = ["cat", "dog\u2028or so", "bird"]
    (tmp_path / "names.txt").write_text("\r\n".join(names), encoding="utf-8-sig", newline="")
    given = config_of(graphs.linear(tmp_path / "m.onnx"), labels={"y": str(tmp_path / "names.txt")})
    listed = config_of(graphs.linear(tmp_path / "m.onnx"), labels={"y": names})
    assert given.files == listed.files == {"y_labels.txt": "cat\ndog\u2028or so\nbird\n".encode()}
    assert given.message.output[0].label_filename == "y_labels.txt"


def test_a_label_is_one_line(tmp_path: Path) -> None:
    """A line end behind it would move all labels after it."""
    with pytest.raises(SpecError, match=r"expected labels of one line, got 'cat\\n'"):
        config_of(graphs.linear(tmp_path / "m.onnx"), labels={"y": ["cat\n", "dog", "bird"]})


def test_every_output_has_a_label_file_of_its_own(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in ("a b", "tensor0")]
    outputs = [graphs.tensor(name) for name in ("a b", "tensor0")]
    path = graphs.save(tmp_path / "m.onnx", nodes, [graphs.tensor("x")], outputs)
    config = config_of(path, labels={"a b": list("abcd"), "tensor0": list("efgh")})
    assert [config.files[one.label_filename] for one in config.message.output] == [b"a\nb\nc\nd\n", b"e\nf\ng\nh\n"]


def test_tensors_of_files_become_raw_bytes(tmp_path: Path) -> None:
    array = np.arange(4, dtype=np.float32)
    np.save(tmp_path / "row.npy", array)
    array.tofile(tmp_path / "row.bin")
    for name in ("row.npy", "row.bin"):
        sample = {"name": "s", "batch_size": 2, "inputs": {"x": {"input_data_file": str(tmp_path / name)}}}
        config = config_of(graphs.linear(tmp_path / "m.onnx"), model_warmup=[sample])
        assert config.files == {"warmup/0-x.bin": array.tobytes()}
        assert config.message.model_warmup[0].inputs["x"].input_data_file == "0-x.bin"


def test_strings_of_a_file_stand_behind_their_lengths(tmp_path: Path) -> None:
    np.save(tmp_path / "row.npy", np.array(["a", "bc"]))
    sample = {"name": "s", "inputs": {"x": {"input_data_file": str(tmp_path / "row.npy")}}}
    path = graphs.identity(tmp_path / "m.onnx", TensorProto.STRING, ("batch", 2))
    assert config_of(path, model_warmup=[sample]).files == {"warmup/0-x.bin": b"\1\0\0\0a\2\0\0\0bc"}


def test_a_warm_up_file_holds_one_row(tmp_path: Path) -> None:
    """The server sends ``batch_size`` requests of one row, and each of them holds the begin of the file."""
    np.save(tmp_path / "rows.npy", np.zeros((2, 4), np.float32))
    sample = {"name": "s", "batch_size": 2, "inputs": {"x": {"input_data_file": str(tmp_path / "rows.npy")}}}
    with pytest.raises(SpecError, match=r"one row of 'x'.*expected FP32 \[4\], got float32 \[2, 4\]"):
        config_of(graphs.linear(tmp_path / "m.onnx"), model_warmup=[sample])


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"text", b"PK\3\4 half", "an archive"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, data: bytes | str) -> None:
    np.savez(tmp_path / "archive.npz", x=np.zeros(4, np.float32))
    (tmp_path / "row.npy").write_bytes(data if isinstance(data, bytes) else (tmp_path / "archive.npz").read_bytes())
    sample = {"name": "s", "inputs": {"x": {"input_data_file": str(tmp_path / "row.npy")}}}
    with pytest.raises(SpecError, match=r"row.npy cannot be read: expected FP32 \[4\]"):
        config_of(graphs.linear(tmp_path / "m.onnx"), model_warmup=[sample])


@pytest.mark.parametrize("size", [15, 17])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    """Rule S21; a longer one would be cut off without a word."""
    (tmp_path / "sum.bin").write_bytes(bytes(size))
    state = {"input_name": "sum", "output_name": "sum_out", "initial_state": {"data_file": str(tmp_path / "sum.bin")}}
    with pytest.raises(TritonforgeError, match=f"expected 16 bytes of FP32.*got {size} bytes"):
        config_of(graphs.accumulator(tmp_path / "m.onnx"), sequence_batching={"state": [state]})


def test_an_initial_state_is_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "sum.npy", np.full(4, 2, np.float32))
    state = {"input_name": "sum", "output_name": "sum_out", "initial_state": {"data_file": str(tmp_path / "sum.npy")}}
    config = config_of(graphs.accumulator(tmp_path / "m.onnx"), sequence_batching={"state": [state]})
    assert config.files == {"initial_state/sum.bin": np.full(4, 2, np.float32).tobytes()}
    assert config.message.sequence_batching.state[0].initial_state[0].data_file == "sum.bin"


def test_a_ragged_model_is_warmed_up_by_samples_alone(tmp_path: Path) -> None:
    asked = {**RAGGED, "batch_input": ENDS}
    usual = config_of(graphs.ragged(tmp_path / "m.onnx"), **asked)
    assert not usual.message.model_warmup
    assert usual.notes == ("nothing warms this model up: only its user knows what sizes go together",)
    given = config_of(
        graphs.ragged(tmp_path / "m.onnx"), **asked, model_warmup=[{"name": "s", "inputs": {"x": {"dims": [3]}}}]
    )
    assert {name: list(one.dims) for name, one in given.message.model_warmup[0].inputs.items()} == {"x": [3]}


@pytest.mark.parametrize("dims", [[-1], [16]])
def test_a_ragged_input_may_say_its_dims(tmp_path: Path, dims: list[int]) -> None:
    asked = {
        "max_batch_size": 4,
        "input": [{"name": "x", "allow_ragged_batch": True, "dims": dims}],
        "batch_input": ENDS,
    }
    config = config_of(graphs.ragged(tmp_path / "m.onnx"), **asked)
    assert [list(one.dims) for one in config.message.input] == [dims]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"batch_input": ENDS}, "batch_input"),
        ({"batch_output": [{"target_name": ["y"], "source_input": ["x"]}]}, "batch_output"),
        (sequence(state=[{"input_name": "a", "output_name": "b"}]), "sequence_batching.state"),
    ],
)
def test_a_python_model_gets_requests_as_they_come(tmp_path: Path, options: dict[str, Any], place: str) -> None:
    with pytest.raises(SpecError, match=f"{place}: expected nothing for a Python model"):
        config_of(tmp_path / "model.py", platform="python", **options)
