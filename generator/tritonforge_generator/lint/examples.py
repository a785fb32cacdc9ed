"""What breaks a rule, and what does not: for ``--explain``, where a few words of a config say it.

Each is a part of a config; what is not about the rule is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _batcher(settings: str) -> str:
    return f"max_batch_size: 8 dynamic_batching {{ {settings} }}"


def _sequence(settings: str) -> str:
    return f"max_batch_size: 8 sequence_batching {{ {settings} }}"


def _control(settings: str) -> str:
    return _sequence(f'control_input {{ name: "c" control {{ {settings} }} }}')


def _state(settings: str) -> str:
    return _sequence(f'state {{ input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: [ 2 ] {settings} }}')


def _initial(settings: str) -> str:
    return _state(f"initial_state {{ {settings} }}")


def _input(settings: str) -> str:
    return f"input {{ {settings} }}"


def _metric(settings: str) -> str:
    return f"model_metrics {{ metric_control {{ {settings} }} }}"


def _warmup(settings: str) -> str:
    tensor = f"data_type: TYPE_FP32 {settings}"
    return f'model_warmup {{ name: "w" batch_size: 1 inputs {{ key: "x" value {{ {tensor} }} }} }}'


def _parameter(key: str, value: str) -> str:
    return f'backend: "onnxruntime" parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


_X: Final = 'name: "x" data_type: TYPE_FP32 dims: '
_PRIORITIES: Final = "priority_levels: 2 default_priority_level: "
_FAMILY: Final = 'metric_identifier { family: "nv_inference_first_response_histogram_ms" } '
_START: Final = "kind: CONTROL_SEQUENCE_START "
_CORRID: Final = "kind: CONTROL_SEQUENCE_CORRID data_type: "
_ZERO: Final = 'name: "zero" data_type: TYPE_FP32 dims: [ 2 ] zero_data: true'
_BATCH_INPUT: Final = 'batch_input {{ kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: {} source_input: {} }}'
_RESOURCE: Final = (
    'instance_group {{ kind: KIND_CPU rate_limiter {{ resources [ {{ name: "R" count: 2 }}, {{ {} }} ] }} }}'
)
_AGENT: Final = 'model_repository_agents {{ agents {{ name: "{}" }} }}'

EXAMPLES: Final[Mapping[str, tuple[str, str]]] = {
    "P1": ("max_batch: 8", "max_batch_size: 8"),
    "C1": ('platform: "onnxruntime"', 'backend: "onnxruntime"'),
    "C3": ('backend: "onnxruntime" platform: "tensorrt_plan"', 'backend: "onnxruntime"'),
    "C4": ("max_batch_size: -1", "max_batch_size: 0"),
    "C5": (_batcher("preferred_batch_size: [ 0 ]"), _batcher("preferred_batch_size: [ 4 ]")),
    "C6": (_batcher("preferred_batch_size: [ 16 ]"), _batcher("preferred_batch_size: [ 8 ]")),
    "C7": (_batcher(_PRIORITIES + "3"), _batcher(_PRIORITIES + "2")),
    "C8": (
        _batcher(_PRIORITIES + "1 priority_queue_policy { key: 3 value { } }"),
        _batcher(_PRIORITIES + "1 priority_queue_policy { key: 2 value { } }"),
    ),
    "C9": (_batcher(_PRIORITIES + "1 preserve_ordering: true"), _batcher(_PRIORITIES + "1")),
    "C11": (_sequence("") + " response_cache { enable: true }", _sequence("")),
    "C12": (
        "model_transaction_policy { decoupled: true } response_cache { enable: true }",
        "model_transaction_policy { decoupled: true }",
    ),
    "C14": ('platform: "ensemble" ensemble_scheduling { }', _batcher("")),
    "C15": (_metric("histogram_options { buckets: [ 1 ] }"), _metric(_FAMILY + "histogram_options { buckets: [ 1 ] }")),
    "C17": (_metric(_FAMILY), _metric(_FAMILY + "histogram_options { buckets: [ 1 ] }")),
    "C18": (_metric(_FAMILY + "histogram_options { }"), _metric(_FAMILY + "histogram_options { buckets: [ 1 ] }")),
    "C22": ('metric_tags { key: "cost-centre" value: "7" }', 'metric_tags { key: "cost_centre" value: "7" }'),
    "S4": (_control(_START), _control(_START + "int32_false_true: [ 0, 1 ]")),
    "S5": (
        _control(_START + "int32_false_true: [ 0, 1 ] fp32_false_true: [ 0, 1 ]"),
        _control(_START + "int32_false_true: [ 0, 1 ]"),
    ),
    "S6": (_control(_START + "int32_false_true: [ 1 ]"), _control(_START + "int32_false_true: [ 0, 1 ]")),
    "S7": (_control(_START + "fp32_false_true: [ 1 ]"), _control(_START + "fp32_false_true: [ 0, 1 ]")),
    "S8": (_control(_START + "bool_false_true: [ true ]"), _control(_START + "bool_false_true: [ false, true ]")),
    "S9": (_control(_CORRID + "TYPE_UINT64 int32_false_true: [ 0, 1 ]"), _control(_CORRID + "TYPE_UINT64")),
    "S10": (_control(_CORRID + "TYPE_FP32"), _control(_CORRID + "TYPE_UINT64")),
    "S11": (_sequence("oldest { preferred_batch_size: 0 }"), _sequence("oldest { preferred_batch_size: 4 }")),
    "S12": (_sequence("oldest { preferred_batch_size: 16 }"), _sequence("oldest { preferred_batch_size: 8 }")),
    "S13": (
        _sequence("direct { minimum_slot_utilization: 1.5 }"),
        _sequence("direct { minimum_slot_utilization: 0.5 }"),
    ),
    "S15": (_initial(_ZERO.replace("FP32", "INT32")), _initial(_ZERO)),
    "S16": (_initial(_ZERO.replace('name: "zero" ', "")), _initial(_ZERO)),
    "S18": (_initial(_ZERO.replace("[ 2 ]", "[ 2, 1 ]")), _initial(_ZERO)),
    "S20": (_initial(_ZERO.replace("[ 2 ]", "[ 3 ]")), _initial(_ZERO)),
    "S22": (_initial(_ZERO.replace(" zero_data: true", "")), _initial(_ZERO)),
    "S23": (
        _state("use_growable_memory: true"),
        _state("use_growable_memory: true use_same_buffer_for_input_output: true"),
    ),
    "R1": ('name: "another"', 'name: "the directory\'s name"'),
    "G2": ("instance_group { kind: KIND_MODEL gpus: [ 0 ] }", "instance_group { kind: KIND_MODEL }"),
    "G4": ("instance_group { kind: KIND_GPU }", "instance_group { kind: KIND_AUTO }"),
    "G6": ("instance_group { kind: KIND_GPU gpus: [ 9 ] }", "instance_group { kind: KIND_CPU }"),
    "G7": ("instance_group { kind: KIND_CPU gpus: [ 0 ] }", "instance_group { kind: KIND_CPU }"),
    "G9": ('instance_group { profile: "0" }', "instance_group { }"),
    "I2": (_input('name: "x" dims: [ 4 ]'), _input(_X + "[ 4 ]")),
    "I3": (_input('name: "x" data_type: TYPE_FP32'), _input(_X + "[ 4 ]")),
    "I5": (_input(_X + "[ 0 ]"), _input(_X + "[ -1 ]")),
    "I6": (_input(_X + "[ 4 ] reshape { shape: [ 4, 0 ] }"), _input(_X + "[ 4 ] reshape { shape: [ 4, 1 ] }")),
    "I7": (_input(_X + "[ 4 ] reshape { shape: [ 5 ] }"), _input(_X + "[ 4 ] reshape { shape: [ 2, 2 ] }")),
    "I9": (_input(_X + "[ 4 ] format: FORMAT_NCHW"), _input(_X + "[ 3, 8, 8 ] format: FORMAT_NCHW")),
    "I10": (_input(_X + "[ 4 ] is_shape_tensor: true"), _input(_X + "[ 4 ]")),
    "B1": (_BATCH_INPUT.format("TYPE_INT32", "[ ]"), _BATCH_INPUT.format("TYPE_INT32", '"x"')),
    "B2": (_BATCH_INPUT.format("TYPE_INT64", '"x"'), _BATCH_INPUT.format("TYPE_INT32", '"x"')),
    "B3": (_BATCH_INPUT.format("TYPE_INT32", '"z"'), _BATCH_INPUT.format("TYPE_INT32", '"x"')),
    "M5": ('backend: "tensorrt_plan"', 'backend: "tensorrt"'),
    "M6": ('runtime: "libtriton_other.so"', 'backend: "tensorrt"'),
    "M7": ('runtime: "../other/libtriton_other.so"', 'runtime: "libtriton_python.so"'),
    "W1": (_warmup("dims: [ -1 ] zero_data: true"), _warmup("dims: [ 4 ] zero_data: true")),
    "W3": (_warmup("dims: [ 4 ]"), _warmup("dims: [ 4 ] random_data: true")),
    "W7": (
        _RESOURCE.format('name: "R" global: true count: 2'),
        _RESOURCE.format('name: "S" global: true count: 2'),
    ),
    "W8": (_RESOURCE.format('name: "S" count: 9'), _RESOURCE.format('name: "S" count: 1')),
    "W9": (_AGENT.format("checksums"), _AGENT.format("checksum")),
    "N1": (_parameter("enable_mem_arena", "yes"), _parameter("enable_mem_arena", "true")),
    "N2": (_parameter("intra_op_thread_count", "two"), _parameter("intra_op_thread_count", "2")),
    "O4": (_parameter("execution_mode", "2"), _parameter("execution_mode", "1")),
    "L6": (
        "max_batch_size: 1 dynamic_batching { }",
        "max_batch_size: 1 dynamic_batching { default_queue_policy { max_queue_size: 64 } }",
    ),
    "L7": (_batcher("preferred_batch_size: [ 4 ]"), _batcher("preferred_batch_size: [ 4, 8 ]")),
    "L8": ("optimization { cuda { graphs: true } }", "optimization { }"),
    "L9": ("instance_group { count: 0 }", "instance_group { count: 1 }"),
    "L11": (_parameter("intra_op_threads_count", "2"), _parameter("intra_op_thread_count", "2")),
    "L15": (
        _batcher("default_queue_policy { allow_timeout_override: true }"),
        _batcher("default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 1000 }"),
    ),
    "L16": ("response_cache { enable: true }", "response_cache { enable: false }"),
    "L17": (
        "max_batch_size: 8 " + _input(_X + "[ 1, 3, 224, 224 ]"),
        "max_batch_size: 8 " + _input(_X + "[ 3, 224, 224 ]"),
    ),
}
"""By rule, what breaks it and what does not."""
