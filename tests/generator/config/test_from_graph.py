"""Every option alone, compared with a golden file; and what the options may not ask for.

Golden files are written anew with: UPDATE_GOLDEN=1 pytest tests/generator/config
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from support import graphs
from support.networks import residual_network

from tritonforge_client.core.proto import messages, model_config_from_text
from tritonforge_generator.config import ModelConfig, model_config_from_graph
from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.errors import ConfigError, SpecError
from tritonforge_generator.graph import graph_from_source
from tritonforge_generator.graph.preprocess import preprocessed_model
from tritonforge_generator.source import source_from_path
from tritonforge_generator.spec import ModelOptions, PreprocessOptions

GOLDEN = Path(__file__).parents[2] / "golden" / "config"
_PROFILE = {"x": {"min": [1, 4], "opt": [8, 4], "max": [32, 4]}}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "max_batch_size": {"max_batch_size": 7},
    "max_batch_size_one": {"max_batch_size": 1},
    "max_batch_size_zero": {"max_batch_size": 0},
    "dynamic_batching_off": {"dynamic_batching": False},
    "preferred_batch_size": {"dynamic_batching": {"preferred_batch_size": [4, 8]}},
    "max_queue_delay_microseconds": {"dynamic_batching": {"max_queue_delay_microseconds": 500}},
    "preserve_ordering": {"dynamic_batching": {"preserve_ordering": True}},
    "default_queue_policy": {"dynamic_batching": {"default_queue_policy": {}}},
    "timeout_action": {"dynamic_batching": {"default_queue_policy": {"timeout_action": "DELAY"}}},
    "default_timeout_microseconds": {"dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 0}}},
    "allow_timeout_override": {"dynamic_batching": {"default_queue_policy": {"allow_timeout_override": False}}},
    "max_queue_size": {"dynamic_batching": {"default_queue_policy": {"max_queue_size": 0}}},
    "instance_group_cpu": {"instance_group": [{"kind": "KIND_CPU", "count": 3}]},
    "instance_group_gpus": {"instance_group": [{"kind": "KIND_GPU", "gpus": [0, 1]}, {"kind": "KIND_CPU"}]},
    "instance_group_auto_gpus": {"instance_group": [{"gpus": [0]}]},
    "version_policy_latest": {"version_policy": {"latest": {"num_versions": 2}}},
    "version_policy_all": {"version_policy": {"all": {}}},
    "version_policy_specific": {"version_policy": {"specific": {"versions": [1, 3]}}},
    "model_warmup_off": {"model_warmup": False},
    "response_cache": {"response_cache": {"enable": True}},
    "response_cache_off": {"response_cache": {"enable": False}},
    "optimization_graph": {"optimization": {"graph": {"level": -1}}},
    "optimization_graph_zero": {"optimization": {"graph": {"level": 0}}},
    "optimization_priority": {"optimization": {"priority": "PRIORITY_MAX"}},
    "input_pinned_memory": {"optimization": {"input_pinned_memory": {"enable": False}}},
    "output_pinned_memory": {"optimization": {"output_pinned_memory": {"enable": True}}},
    "parameters": {"parameters": {"intra_op_thread_count": "2", 'quo"te': "back\\slash\nnewline"}},
    "tensorrt": {"platform": "tensorrt"},
    "tensorrt_instance_group_gpu": {"platform": "tensorrt", "instance_group": [{"kind": "KIND_GPU", "count": 2}]},
    "tensorrt_profile": {
        "platform": "tensorrt",
        "instance_group": [{"kind": "KIND_GPU", "gpus": [0], "profile": [0, 1]}, {"profile": [2]}],
    },
    "tensorrt_profiles": {
        "platform": "tensorrt",
        "instance_group": [{"profile": [1]}, {}],
        "tensorrt": {"profiles": [_PROFILE, _PROFILE]},
    },
    "tensorrt_preferred_batch_size": {
        "platform": "tensorrt",
        "dynamic_batching": {"preferred_batch_size": [8, 16]},
    },
    "tensorrt_max_batch_size_zero": {"platform": "tensorrt", "max_batch_size": 0},
    "tensorrt_cuda": {"platform": "tensorrt", "optimization": {"cuda": {}}},
    "tensorrt_cuda_graphs_off": {"platform": "tensorrt", "optimization": {"cuda": {"graphs": False}}},
    "tensorrt_busy_wait_events": {"platform": "tensorrt", "optimization": {"cuda": {"busy_wait_events": True}}},
    "tensorrt_output_copy_stream": {"platform": "tensorrt", "optimization": {"cuda": {"output_copy_stream": True}}},
    "priority_levels": {"dynamic_batching": {"priority_levels": 3, "default_priority_level": 2}},
    "priority_queue_policy": {
        "dynamic_batching": {
            "priority_levels": 2,
            "default_priority_level": 2,
            "default_queue_policy": {},
            "priority_queue_policy": {"1": {"max_queue_size": 0}, "2": {"timeout_action": "DELAY"}},
        }
    },
    "instance_group_model": {"instance_group": [{"kind": "KIND_MODEL", "name": "mine", "host_policy": "numa_0"}]},
    "instance_group_passive": {"instance_group": [{"kind": "KIND_CPU"}, {"kind": "KIND_CPU", "passive": True}]},
    "rate_limiter": {
        "instance_group": [
            {"rate_limiter": {"resources": [{"name": "R1", "count": 4}, {"name": "R2", "global": True}], "priority": 2}}
        ]
    },
    "rate_limiter_priority": {"instance_group": [{"rate_limiter": {}}]},
    "model_warmup_samples": {
        "model_warmup": [
            {"name": "zeros", "count": 3},
            {"name": "random", "batch_size": 8, "inputs": {"x": {"random_data": True, "dims": [4]}}},
        ]
    },
    "labels": {"labels": {"y": ["cat", "dog", "bird"]}},
    "input_dims": {"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2, 2]}]},
    "input_format": {"input": [{"name": "x", "dims": [2, 2, 1], "reshape": {"shape": [4]}, "format": "FORMAT_NHWC"}]},
    "output_reshape": {"output": [{"name": "y", "dims": [3, 1], "reshape": {"shape": [3]}}]},
    "metric_tags": {"metric_tags": {"team": "vision", "cost_centre": '7"'}},
    "model_metrics": {
        "model_metrics": {
            "metric_control": [
                {
                    "metric_identifier": {"family": "nv_inference_first_response_histogram_ms"},
                    "histogram_options": {"buckets": [0.1, 1, 2.5e3]},
                }
            ]
        }
    },
    "model_repository_agents": {
        "model_repository_agents": {"agents": [{"name": "checksum", "parameters": {"MD5:1/model.onnx": "00"}}]}
    },
    "accelerator_tensorrt": {
        "optimization": {
            "execution_accelerators": {
                "gpu_execution_accelerator": [
                    {"name": "tensorrt", "parameters": {"precision_mode": "FP16", "trt_engine_cache_enable": "1"}}
                ]
            }
        }
    },
    "accelerator_cuda": {
        "optimization": {
            "execution_accelerators": {
                "gpu_execution_accelerator": [{"name": "cuda", "parameters": {"cudnn_conv_algo_search": "1"}}]
            }
        }
    },
    "accelerator_openvino": {
        "optimization": {"execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}}
    },
    "sequence_direct": {
        "sequence_batching": {
            "max_sequence_idle_microseconds": 5_000_000,
            "direct": {"max_queue_delay_microseconds": 100, "minimum_slot_utilization": 0.5},
            "control_input": {"START": "start", "END": {"name": "end", "false_true": [-1, 1]}, "CORRID": "id"},
        }
    },
    "sequence_oldest": {
        "sequence_batching": {
            "oldest": {"max_candidate_sequences": 8, "preferred_batch_size": [4], "preserve_ordering": True},
            "control_input": {"START": "start", "READY": "end", "CORRID": "id"},
        }
    },
    "state": {
        "sequence_batching": {
            "state": [{"input_name": "sum", "output_name": "sum_out", "use_same_buffer_for_input_output": True}]
        }
    },
    "ragged": {
        "max_batch_size": 8,
        "input": [{"name": "x", "allow_ragged_batch": True}],
        "batch_input": [{"kind": "BATCH_ACCUMULATED_ELEMENT_COUNT", "target_name": ["ends"], "source_input": ["x"]}],
    },
    "batch_output": {
        "max_batch_size": 8,
        "input": [{"name": "x", "allow_ragged_batch": True}],
        "batch_input": [{"kind": "BATCH_ELEMENT_COUNT", "target_name": ["ends"], "source_input": ["x"]}],
        "batch_output": [{"target_name": ["y"], "source_input": ["x"]}],
    },
    "tensorrt_secondary_devices": {
        "platform": "tensorrt",
        "instance_group": [{"kind": "KIND_GPU", "secondary_devices": [{"device_id": 1}]}],
    },
    "tensorrt_gather": {
        "platform": "tensorrt",
        "optimization": {"gather_kernel_buffer_threshold": 40, "eager_batching": True},
    },
    "tensorrt_graph_spec": {
        "platform": "tensorrt",
        "optimization": {
            "cuda": {
                "graph_spec": [
                    {"batch_size": 8, "input": {"x": [4]}, "graph_lower_bound": {"batch_size": 3, "input": {"x": [4]}}}
                ]
            }
        },
    },
    "preprocess": {"preprocess": {"mean": [0.5, 0.5, 0.5], "resize": [20, 24]}},
    "preprocess_float32": {"preprocess": {"dtype": "float32"}},
    "preprocess_nchw": {"preprocess": {"layout": "NCHW"}},
}


GRAPHS: dict[str, Callable[[Path], Path]] = {
    "sequence_direct": graphs.steps,
    "sequence_oldest": lambda path: graphs.steps(path, TensorProto.BOOL, TensorProto.INT32),
    "state": graphs.accumulator,
    "ragged": graphs.ragged,
    "batch_output": graphs.ragged,
}
"""Graphs of the options that a linear one does not allow."""


def config_of(path: Path, **options: Any) -> ModelConfig:
    declared = declared_from_mapping({"name": "m", "source": str(path), **options}, ModelOptions, origin="test")
    graph = graph_from_source(source_from_path(path))
    batched = graph.batch.found and declared.max_batch_size != 0 and declared.batch_input is None
    shapes = {one.name: tuple(size if size > 0 else 16 for size in one.dims(batched=batched)) for one in graph.inputs}
    return model_config_from_graph(graph, declared, sample_shapes=shapes)


def config_of_option(folder: Path, option: str) -> ModelConfig:
    """Of a small graph that the option makes sense for."""
    options = OPTIONS[option]
    if "preprocess" not in options:
        return config_of(GRAPHS.get(option, graphs.linear)(folder / "linear.onnx"), **options)
    network = residual_network(folder / "network.onnx")
    (folder / "fused").mkdir()
    declared = PreprocessOptions.model_validate(options["preprocess"])
    return config_of(preprocessed_model(network, declared, folder / "fused"), **options)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone(tmp_path: Path, option: str) -> None:
    config = config_of_option(tmp_path, option)
    golden = GOLDEN / f"{option}.pbtxt"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        golden.write_text(config.text)
    assert config.text == golden.read_text()


def test_golden_files_are_those_of_the_options() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_text_means_the_message(tmp_path: Path, option: str) -> None:
    config = config_of_option(tmp_path, option)
    assert model_config_from_text(config.text) == config.message


@pytest.mark.parametrize("option", OPTIONS)
def test_every_value_has_its_reason(tmp_path: Path, option: str) -> None:
    text = config_of_option(tmp_path, option).text
    lines = [line for line in text.splitlines() if ":" in line and not line.startswith("#")]
    assert lines
    assert [line for line in lines if "  # " not in line] == []


def test_options_reach_the_message(tmp_path: Path) -> None:
    """Each gives another configuration than all others."""
    seen: dict[bytes, str] = {}
    for option in OPTIONS:
        folder = tmp_path / option
        folder.mkdir()
        message = config_of_option(folder, option).message.SerializeToString(deterministic=True)
        assert seen.setdefault(message, option) == option


def test_a_plan_is_for_the_tensorrt_backend(tmp_path: Path) -> None:
    message = config_of_option(tmp_path, "tensorrt_profile").message
    assert (message.backend, message.platform) == ("tensorrt", "tensorrt_plan")
    assert message.default_model_filename == "model.plan"
    assert [list(group.profile) for group in message.instance_group] == [["0", "1"], ["2"]]


def test_every_profile_of_a_plan_is_named_as_the_backend_takes_only_the_first_otherwise(tmp_path: Path) -> None:
    message = config_of_option(tmp_path, "tensorrt_profiles").message
    assert [list(group.profile) for group in message.instance_group] == [["1"], ["0", "1"]]


def test_pixels_are_sent_as_clients_have_them(tmp_path: Path) -> None:
    message = config_of_option(tmp_path, "preprocess").message
    assert message.input[0].data_type == messages().TYPE_UINT8
    assert list(message.input[0].dims) == [20, 24, 3]
    assert message.model_warmup[0].inputs["images"].data_type == messages().TYPE_UINT8


def test_static_batch_is_given_in_full(tmp_path: Path) -> None:
    config = config_of(graphs.linear(tmp_path / "m.onnx", batch=1))
    assert config.message.max_batch_size == 0
    assert list(config.message.input[0].dims) == [1, 4]
    assert not config.message.HasField("dynamic_batching")
    assert config.notes == ("requests are not batched: the first axis of 'x' has the fixed size 1",)
    assert "# Note: requests are not batched: the first axis of 'x' has the fixed size 1\n" in config.text
    assert "max_batch_size: 0" in config.text


def test_queue_policy_lets_client_deadlines_in_and_says_what_it_costs(tmp_path: Path) -> None:
    config = config_of(graphs.linear(tmp_path / "m.onnx"), dynamic_batching={"default_queue_policy": {}})
    policy = config.message.dynamic_batching.default_queue_policy
    assert policy.allow_timeout_override
    assert policy.default_timeout_microseconds > 0
    assert len(config.notes) == 1
    assert "up to 0.5 s" in config.notes[0]


def test_one_value_a_row_is_reshaped(tmp_path: Path) -> None:
    config = config_of(graphs.identity(tmp_path / "m.onnx", shape=("batch",)))
    assert list(config.message.input[0].dims) == [1]
    assert config.message.input[0].HasField("reshape")
    assert list(config.message.output[0].reshape.shape) == []


def test_scalars_are_one_element(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    path = graphs.save(tmp_path / "m.onnx", [node], [graphs.tensor("x", shape=(2, 3))], [graphs.tensor("y", shape=())])
    config = config_of(path)
    assert list(config.message.output[0].dims) == [1]
    assert not config.message.output[0].HasField("reshape")
    assert "a scalar in the graph" in config.text


def test_dynamic_axes_and_strings(tmp_path: Path) -> None:
    config = config_of(graphs.identity(tmp_path / "m.onnx", TensorProto.STRING, ("batch", "length", 2)))
    assert list(config.message.input[0].dims) == [-1, 2]
    assert config.message.input[0].data_type == messages().TYPE_STRING
    assert list(config.message.model_warmup[0].inputs["x"].dims) == [16, 2]


def test_hostile_names_survive(tmp_path: Path) -> None:
    name = 'we"ird\\name # {é}'
    node = helper.make_node("Identity", [name], ["y"])
    config = config_of(graphs.save(tmp_path / "m.onnx", [node], [graphs.tensor(name)], [graphs.tensor("y")]))
    assert config.message.input[0].name == name


def test_a_comment_is_one_line_whatever_a_graph_is_called(tmp_path: Path) -> None:
    shape = ("batch\nmax_batch_size: 7", 4)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = graphs.save(tmp_path / "m.onnx", nodes, [graphs.tensor("x", shape=shape)], [graphs.tensor("y", shape=shape)])
    config = config_of(path)
    assert config.message.max_batch_size == 32
    assert "dims: [ 4 ]  # the graph's shape [batch max_batch_size: 7, 4] without" in config.text


def test_refuses_a_batch_above_the_graph(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx", batch=1)
    with pytest.raises(ConfigError, match=r"max_batch_size is above what the graph allows: expected 0.*fixed size 1"):
        config_of(path, max_batch_size=8)


def test_refuses_preferred_sizes_above_the_batch(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"expected sizes of at most 8, got \[16\]"):
        config_of(path, max_batch_size=8, dynamic_batching={"preferred_batch_size": [4, 16]})


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"max_queue_delay_microseconds": 5, "default_queue_policy": {}},
        {"preferred_batch_size": [1], "preserve_ordering": True},
    ],
)
def test_refuses_dynamic_batching_without_batches(tmp_path: Path, asked: dict[str, Any]) -> None:
    path = graphs.linear(tmp_path / "m.onnx")
    for size in (0, 1):
        with pytest.raises(ConfigError, match="dynamic_batching needs batches"):
            config_of(path, max_batch_size=size, dynamic_batching=asked)


@pytest.mark.parametrize("size", [0, 1])
def test_requests_may_wait_in_an_order_without_batches(tmp_path: Path, size: int) -> None:
    path = graphs.linear(tmp_path / "m.onnx")
    queue = {"priority_levels": 2, "default_priority_level": 1, "default_queue_policy": {"max_queue_size": 3}}
    batching = config_of(path, max_batch_size=size, dynamic_batching=queue).message.dynamic_batching
    assert (batching.priority_levels, batching.default_queue_policy.max_queue_size) == (2, 3)
    ordered = config_of(path, max_batch_size=size, dynamic_batching={"preserve_ordering": True})
    assert ordered.message.dynamic_batching.preserve_ordering
    assert "max_queue_delay" not in ordered.text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"optimization": {"cuda": {}}}, "expected tensorrt, because optimization.cuda is set, got onnxruntime"),
        ({"instance_group": [{"profile": [0]}]}, "expected tensorrt, because instance_group.profile is set"),
        ({"tensorrt": {"refit": True}}, "expected tensorrt, because tensorrt is set"),
        ({"platform": "tensorrt", "optimization": {"graph": {"level": 1}}}, "a plan has no ONNX Runtime"),
        ({"platform": "auto", "instance_group": [{"kind": "KIND_CPU"}]}, "KIND_GPU or KIND_AUTO for a plan"),
    ],
)
def test_refuses_options_of_another_platform(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        config_of(graphs.linear(tmp_path / "m.onnx"), **options)


def test_refuses_gpus_for_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no GPU ids for KIND_CPU"):
        config_of(graphs.linear(tmp_path / "m.onnx"), instance_group=[{"kind": "KIND_CPU", "gpus": [0]}])


def test_refuses_two_version_policies(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="exactly one of latest, all, specific"):
        config_of(graphs.linear(tmp_path / "m.onnx"), version_policy={"all": {}, "latest": {}})
