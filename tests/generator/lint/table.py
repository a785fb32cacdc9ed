"""The cases, by group of rules."""

from __future__ import annotations

from generator.lint.cases import (
    BATCHED,
    BATCHING,
    CONTROLLED,
    CORRID,
    DEFAULTED,
    FAMILY,
    FIXED,
    FLAT,
    FP32,
    INITIAL,
    MODEL_PY,
    ONNX,
    ONNX_BATCHING,
    OPEN,
    PYTHON,
    SCALAR,
    START,
    TWO,
    Case,
    X,
    Y,
    batch_io,
    control,
    dynamic,
    external_bytes,
    metrics,
    onnx_bytes,
    onnx_files,
    onnx_setting,
    onnx_tensors,
    reshaped,
    sequence,
    sequence_bytes,
    state,
    tensor,
    warmup,
)
from generator.lint.python_cases import PYTHON_MODELS

PARSING = [
    Case("P1", PYTHON + "max_batch: 8", PYTHON),
    Case("P1", PYTHON + "max_batch_size: ${batch}", PYTHON + "max_batch_size: 0#BATCH"),
    Case("P1", PYTHON + 'max_batch_size: "8"', PYTHON + "max_batch_size: 0x0;"),
    Case("P1", PYTHON + "instance_group { kind: kind_cpu }", PYTHON + "instance_group: [{ kind: KIND_CPU }]"),
    Case("P1", tensor('name: "x" data_type: FP32 dims: [4]'), tensor("name: 'x', data_type: TYPE_FP32, dims: 4")),
    Case("P1", tensor('name: "x" data_type: TYPE_FP32 dims: [4,]'), tensor('name: "x" data_type: 11 dims: [2, 2]')),
    Case("P1", 'backend: "python"\n' + PYTHON, 'backend: "py" "thon"\n' + X + Y),
    Case("P1", PYTHON + "dynamic_batching { } sequence_batching { }", BATCHING + "dynamic_batching < >"),
    Case("P1", PYTHON + "max_batch_size:\u00a08", PYTHON + "# \u00a0\n max_batch_size: 010"),
    Case("P1", PYTHON + "max_batch_size: 1_0", PYTHON + "max_batch_size: 0x1"),
    Case("P1", "\ufeff" + PYTHON, "# caf\u00e9\n" + PYTHON),
    Case("P2", None, PYTHON),
]
BACKENDS = [
    Case("A1", X + Y, X + Y, files={"1/model.py": MODEL_PY}, broken_files={"1/weights.bin": "x"}),
    Case("A1", X + Y, X + Y, broken_files={".checkpoints/a": "x", "1/model.py": MODEL_PY}),
    Case("C1", 'platform: "python"\n' + X + Y, X + Y, "platform"),
    Case("C1", 'default_model_filename: "net.py"\n' + X + Y, X + Y, "default_model_filename"),
    Case("C2", PYTHON + 'platform: "ensemble"', PYTHON + 'platform: "anything"', "backend"),
    Case("C3", ONNX + 'platform: "tensorrt_plan"\n' + X + Y, PYTHON + 'platform: "onnx"', "platform"),
    Case("C3", 'backend: "pytorch" platform: "libtorch"\n' + X + Y, PYTHON, "platform"),
    Case("C4", PYTHON + "max_batch_size: -1", PYTHON + "max_batch_size: 1", "max_batch_size"),
    Case(
        "C11",
        sequence(START, more="response_cache { enable: true }"),
        sequence(START, more="response_cache { enable: false }"),
        "response_cache.enable",
    ),
    Case(
        "C12",
        PYTHON + "model_transaction_policy { decoupled: true } response_cache { enable: true }",
        PYTHON + "model_transaction_policy { decoupled: true }",
        "response_cache.enable",
    ),
    Case(
        "C15",
        metrics("histogram_options { buckets: [1] }"),
        metrics(FAMILY + "histogram_options { buckets: [1] }"),
    ),
    Case(
        "C16",
        metrics("metric_identifier { } histogram_options { buckets: [1] }"),
        metrics(FAMILY + "histogram_options { buckets: [1, 2] }"),
    ),
    Case("C17", metrics(FAMILY), metrics(FAMILY + "histogram_options { buckets: [3] }")),
    Case(
        "C18",
        metrics(FAMILY + "histogram_options { }"),
        metrics(FAMILY + "histogram_options { buckets: [4] }"),
    ),
    Case("R1", 'name: "other"\n' + PYTHON, PYTHON, "name"),
    Case(
        "M1",
        'backend: "python"\n' + X + 'output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "../l.txt" }',
        PYTHON,
        "output[0].label_filename",
    ),
    Case(
        "M2",
        'backend: "python"\n' + X + 'output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "l.txt" }',
        'backend: "python"\n' + X + 'output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "a.txt" }',
        "output[0].label_filename",
        files={"1/model.py": MODEL_PY, "a.txt": "cat\ndog\n"},
    ),
    Case(
        "M7",
        PYTHON + 'runtime: "../other/libtriton_other.so"',
        PYTHON,
        "runtime",
    ),
]
SCHEDULERS = [
    Case("C5", dynamic("preferred_batch_size: [4, 0]"), dynamic("preferred_batch_size: [4, 8]")),
    Case("C6", dynamic("preferred_batch_size: [8, 16]"), dynamic("preferred_batch_size: [1, 8]")),
    Case("C6", PYTHON + "dynamic_batching { preferred_batch_size: 1 }", dynamic("preferred_batch_size: 8")),
    Case("C7", dynamic("priority_levels: 2"), dynamic("priority_levels: 2 default_priority_level: 2")),
    Case(
        "C7",
        dynamic("priority_levels: 2 default_priority_level: 3"),
        dynamic("priority_levels: 3 default_priority_level: 3"),
    ),
    Case(
        "C8",
        dynamic("priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value { } }"),
        dynamic("priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 2 value { } }"),
        'dynamic_batching.priority_queue_policy["3"]',
    ),
    Case(
        "C9",
        dynamic("preserve_ordering: true priority_levels: 2 default_priority_level: 1"),
        dynamic("preserve_ordering: true priority_levels: 1 default_priority_level: 1"),
    ),
    Case(
        "C10",
        dynamic(
            "preserve_ordering: true default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9 }"
        ),
        dynamic("preserve_ordering: true default_queue_policy { default_timeout_microseconds: 9 }"),
        "dynamic_batching.default_queue_policy.timeout_action",
    ),
]
SEQUENCES = [
    Case("S1", sequence(control("kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1]", "")), sequence(START)),
    Case("S2", sequence(START + control("kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1]")), sequence(START)),
    Case("S3", sequence(START + control("int32_false_true: [0, 1]", "d")), sequence(START + CORRID)),
    Case("S4", sequence(control("kind: CONTROL_SEQUENCE_READY")), sequence(control("fp32_false_true: [0, 1]"))),
    Case(
        "S5",
        sequence(control("int32_false_true: [0, 1] fp32_false_true: [0, 1]")),
        sequence(control("bool_false_true: [false, true]")),
    ),
    Case("S6", sequence(control("int32_false_true: [1]")), sequence(START)),
    Case("S7", sequence(control("fp32_false_true: [0, 1, 2]")), sequence(START)),
    Case("S8", sequence(control("bool_false_true: [true]")), sequence(START)),
    Case(
        "S9",
        sequence(control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 int32_false_true: [0, 1]")),
        sequence(CORRID),
    ),
    Case(
        "S10",
        sequence(control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32")),
        sequence(control("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING")),
    ),
    Case("S11", sequence("oldest { preferred_batch_size: [0] }"), sequence("oldest { preferred_batch_size: [8] }")),
    Case("S12", sequence("oldest { preferred_batch_size: [9] }"), sequence("oldest { max_candidate_sequences: 2 }")),
    Case(
        "S13",
        sequence("direct { minimum_slot_utilization: 1.5 }"),
        sequence("direct { minimum_slot_utilization: 0 }"),
    ),
    Case(
        "S14",
        sequence(START + state(f"initial_state {{ {INITIAL} }}", INITIAL)),
        sequence(START + state("", INITIAL)),
    ),
    Case("S15", sequence(START + state("", INITIAL.replace("FP32", "INT32"))), sequence(START + state("", INITIAL))),
    Case("S16", sequence(START + state("", INITIAL.replace('name: "zero"', ""))), sequence(START + state(""))),
    Case(
        "S17",
        sequence(START + state("", INITIAL) + state("", INITIAL)),
        sequence(START + state("", INITIAL) + state("", INITIAL).replace('"i"', '"j"').replace('"o"', '"p"')),
    ),
    Case("S18", sequence(START + state("", INITIAL.replace("[2]", "[2, 1]"))), sequence(START + state("", INITIAL))),
    Case("S19", sequence(START + state("", INITIAL.replace("[2]", "[-1]"))), sequence(START + state("", INITIAL))),
    Case("S20", sequence(START + state("", INITIAL.replace("[2]", "[3]"))), sequence(START + state("", INITIAL))),
    # The server goes through the dims one by one.
    Case(
        "S20",
        sequence(START + state("", INITIAL.replace("[2]", "[3, -1]")).replace("dims: [2]", "dims: [2, 2]")),
        sequence(START + state("", INITIAL)),
    ),
    Case(
        "S21",
        sequence(START + state("", INITIAL.replace("zero_data: true", 'data_file: "short"'))),
        sequence(START + state("", INITIAL.replace("zero_data: true", 'data_file: "full"'))),
        files={"1/model.py": MODEL_PY, "initial_state/short": b"1234567", "initial_state/full": b"12345678"},
    ),
    Case("S22", sequence(START + state("", INITIAL.replace("zero_data: true", ""))), sequence(START + state(""))),
]
VERSIONS = [
    Case("V4", PYTHON, PYTHON, broken_files={"01/model.py": MODEL_PY}),
    Case("V4", PYTHON, PYTHON, broken_files={"latest/model.py": MODEL_PY}),
    Case("V4", PYTHON + "version_policy { latest { } }", PYTHON + "version_policy { }", "version_policy"),
    Case(
        "V4",
        PYTHON + "version_policy { specific { versions: 3 } }",
        PYTHON + "version_policy { specific { versions: 1 } }",
    ),
]
GROUPS = [
    Case(
        "G2",
        PYTHON + "instance_group { kind: KIND_MODEL gpus: 0 }",
        PYTHON + "instance_group { kind: KIND_MODEL }",
        "instance_group[0].gpus",
    ),
    Case(
        "G7",
        PYTHON + "instance_group [{ kind: KIND_CPU }, { kind: KIND_CPU gpus: [0] }]",
        PYTHON + "instance_group { kind: KIND_CPU count: 2 }",
        "instance_group[1].gpus",
    ),
    Case("G9", PYTHON + 'instance_group { kind: KIND_CPU profile: "0" }', PYTHON + "instance_group { kind: KIND_CPU }"),
    Case("G10", 'platform: "tensorrt_plan" instance_group { profile: "-1" }', PYTHON),
    Case("G11", 'platform: "tensorrt_plan" instance_group { profile: "" }', PYTHON),
    Case("G12", 'platform: "tensorrt_plan" instance_group { profile: "all" }', PYTHON),
]
TENSORS = [
    Case("I1", tensor("data_type: TYPE_FP32 dims: [4]"), PYTHON, "input[0]"),
    Case("I1", tensor("data_type: TYPE_FP32 dims: [4]"), PYTHON, "input[0]", completing=True),
    Case("I2", tensor('name: "x" dims: [4]'), PYTHON, "input[0].data_type"),
    Case("I2", tensor('name: "x" dims: [4]'), PYTHON, "input[0].data_type", completing=True),
    Case("I3", tensor('name: "x" data_type: TYPE_FP32 dims: []'), PYTHON, "input[0].dims"),
    Case("I3", 'backend: "python"\n' + X + 'output { name: "y" data_type: TYPE_FP32 }', PYTHON, "output[0].dims"),
    Case("I4", reshaped("1", "", batch=0), reshaped("1", ""), "input[0].reshape"),
    Case("I5", tensor('name: "x" data_type: TYPE_FP32 dims: [4, 0]'), PYTHON, "input[0].dims[1]"),
    Case("I5", tensor('name: "x" data_type: TYPE_FP32 dims: [-2]'), tensor('name: "x" data_type: TYPE_FP32 dims: -1')),
    Case("I5", tensor('name: "x" data_type: TYPE_FP32 dims: [-2]'), PYTHON, completing=True),
    Case("I6", reshaped("4", "4, 0"), reshaped("4", "4, 1"), "input[0].reshape.shape[1]"),
    Case("I7", reshaped("4", "5"), reshaped("4", "2, 2"), "input[0].reshape"),
    Case("I7", reshaped("4", ""), reshaped("1, 1", "")),
    Case("I7", reshaped("-1", ""), reshaped("-1", "1, -1")),
    Case("I7", reshaped("-1, 4", "4, -1"), reshaped("2, 4, -1, 6", "8, -1, 1, 6")),
    Case("I7", reshaped("4", "-1"), reshaped("-1", "-1")),
    Case("I8", reshaped("-1, -1", "-1"), reshaped("-1, -1", "-1, -1")),
    Case(
        "I9",
        tensor('name: "x" data_type: TYPE_FP32 dims: [4] format: FORMAT_NCHW'),
        tensor('name: "x" data_type: TYPE_FP32 dims: [1, 2, 3] format: FORMAT_NHWC'),
    ),
    Case("I10", tensor('name: "x" data_type: TYPE_INT32 dims: [4] is_shape_tensor: true'), PYTHON),
    Case("I11", tensor('name: "x" data_type: TYPE_FP32 dims: [1, 2, 3] is_non_linear_format_io: true'), PYTHON),
    Case(
        "I12",
        'platform: "tensorrt_plan"\n' + Y + 'input { name: "x" data_type: TYPE_FP32 dims: [4] '
        "is_non_linear_format_io: true }",
        PYTHON,
    ),
]
_BATCH_INPUT = 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_INT32 source_input: "x" }'
_BATCH_OUTPUT = 'batch_output { target_name: "y" source_input: "x" }'
BATCH_IO = [
    Case("B1", batch_io(_BATCH_INPUT.replace('source_input: "x"', "")), batch_io(_BATCH_INPUT)),
    Case("B2", batch_io(_BATCH_INPUT.replace("INT32", "INT64")), batch_io(_BATCH_INPUT.replace("INT32", "FP32"))),
    Case("B3", batch_io(_BATCH_INPUT.replace('"x"', '"q"')), batch_io(_BATCH_INPUT)),
    Case("B4", batch_io(_BATCH_OUTPUT.replace('source_input: "x"', "")), batch_io(_BATCH_OUTPUT)),
    Case("B3", batch_io(_BATCH_OUTPUT.replace('"x"', '"q"')), batch_io(_BATCH_OUTPUT)),
    Case("B5", batch_io(_BATCH_OUTPUT.replace('"y"', '"q"')), batch_io(_BATCH_OUTPUT)),
    Case("B6", batch_io(_BATCH_OUTPUT.replace('"y"', '["y", "y"]')), batch_io(_BATCH_OUTPUT)),
]
_WARM_FILES: dict[str, str | bytes] = {
    "1/model.py": MODEL_PY,
    "warmup/full": b"0123456789abcdef",
    "warmup/short": b"0123456789abcde",
}
WARMUPS = [
    Case("W1", warmup("dims: [-1] zero_data: true"), warmup("dims: [4] zero_data: true")),
    Case(
        "W2",
        warmup('dims: [4] input_data_file: "short"'),
        warmup('dims: [4] input_data_file: "full"'),
        files=_WARM_FILES,
    ),
    Case("W2", warmup('dims: [4] input_data_file: "none"'), warmup("dims: [4] random_data: true")),
    Case("W3", warmup("dims: [4]"), warmup("dims: [4] zero_data: true")),
    Case(
        "W4",
        warmup("dims: [4] zero_data: true", sample='name: "w" batch_size: 9'),
        warmup("dims: [4] zero_data: true", sample='name: "w" batch_size: 8'),
        field="model_warmup[0].batch_size",
    ),
    Case(
        "W4",
        warmup("dims: [4] zero_data: true", sample='name: "w" batch_size: 2').replace("max_batch_size: 8", ""),
        warmup("dims: [4] zero_data: true").replace("max_batch_size: 8", ""),
    ),
]
_GPU_ACCELERATOR = (
    ONNX_BATCHING
    + "instance_group { kind: KIND_GPU } optimization { execution_accelerators { gpu_execution_accelerator { "
)
_TENSORRT = _GPU_ACCELERATOR + 'name: "tensorrt" parameters '
_CPU_ACCELERATOR = ONNX_BATCHING + "optimization { execution_accelerators { cpu_execution_accelerator { name: "
ONNX_SETTINGS = [
    Case("N1", onnx_setting("enable_mem_arena", "yes"), onnx_setting("enable_mem_arena", "ON"), files=BATCHED),
    Case(
        "N2",
        onnx_setting("intra_op_thread_count", "two"),
        onnx_setting("intra_op_thread_count", "2x"),
        'parameters["intra_op_thread_count"].value.string_value',
        files=BATCHED,
    ),
    Case("O4", onnx_setting("execution_mode", "2"), onnx_setting("execution_mode", "1"), files=BATCHED),
    Case("O5", _CPU_ACCELERATOR + '"onnxruntime" } } }', ONNX_BATCHING, files=BATCHED),
    Case("O5", _GPU_ACCELERATOR + 'name: "trt" } } }', ONNX_BATCHING, files=BATCHED),
    Case("O6", _TENSORRT + '{ key: "precision_mode" value: "TF32" } } } }', ONNX_BATCHING, files=BATCHED),
    Case("O7", _TENSORRT + '{ key: "precision" value: "FP16" } } } }', ONNX_BATCHING, files=BATCHED),
    Case(
        "N3",
        _TENSORRT + '{ key: "max_workspace_size_bytes" value: "all" } } } }',
        ONNX_BATCHING,
        files=BATCHED,
    ),
    Case(
        "O8",
        onnx_setting("cudnn_conv_algo_search", "3", kind="KIND_GPU"),
        onnx_setting("cudnn_conv_algo_search", "3"),
        files=BATCHED,
    ),
    Case(
        "O9",
        onnx_setting("arena_extend_strategy", "2", kind="KIND_GPU"),
        onnx_setting("arena_extend_strategy", "2"),
        files=BATCHED,
    ),
]
_SEQUENCE = ONNX + X + Y + "max_batch_size: 8 sequence_batching { "
_WITH_DEFAULT = ONNX + (
    'input {{ name: "x" data_type: TYPE_FP32 dims: {0} }}\n'
    'input {{ name: "z" data_type: TYPE_FP32 dims: [1] optional: true }}\n'
    'output {{ name: "y" data_type: TYPE_FP32 dims: {0} }}\n'
)
ONNX_TENSORS = [
    Case("O1", ONNX_BATCHING, ONNX_BATCHING, files=BATCHED, broken_files={"1/net.onnx": b""}),
    Case(
        "D2",
        ONNX_BATCHING,
        ONNX_BATCHING,
        files=BATCHED,
        broken_files={"1/model.onnx": b"no model"},
    ),
    Case("O2", ONNX + "max_batch_size: 8", ONNX, files=FIXED, completing=True),
    Case("O10", ONNX_BATCHING, ONNX_BATCHING, files=BATCHED, broken_files=TWO),
    Case("O10", ONNX_BATCHING, ONNX_BATCHING, files=BATCHED, broken_files=TWO, completing=True),
    Case(
        "O11",
        _SEQUENCE + control("int32_false_true: [0, 1]", "begin") + "}",
        _SEQUENCE + "}",
        files=BATCHED,
    ),
    Case(
        "O12",
        _SEQUENCE + control("int32_false_true: [0, 1]", "start") + "}",
        _SEQUENCE + control("int32_false_true: [0, 1]", "start") + "}",
        files=CONTROLLED,
        broken_files=onnx_files(
            onnx_bytes(
                {"x": ("FLOAT", ["N", 4]), "start": ("INT32", ["N", 2])},
                {"y": ("FLOAT", ["N", 4]), "w": ("INT32", ["N", 2])},
            )
        ),
    ),
    Case(
        "O13",
        _SEQUENCE + control("fp32_false_true: [0, 1]", "start") + "}",
        _SEQUENCE + control("int32_false_true: [0, 1]", "start") + "}",
        files=CONTROLLED,
    ),
    Case("I13", ONNX_BATCHING.replace('"x"', '"X"'), ONNX_BATCHING, "input[0].name", files=BATCHED),
    Case("I14", ONNX_BATCHING.replace('"y"', '"Y"'), ONNX_BATCHING, "output[0].name", files=BATCHED),
    Case(
        "O14",
        _WITH_DEFAULT.format("[4]") + "max_batch_size: 8 dynamic_batching { }",
        _WITH_DEFAULT.format("[-1, 4]"),
        files=DEFAULTED,
    ),
    Case("O23", ONNX_BATCHING, ONNX_BATCHING, files=BATCHED, broken_files=onnx_files(sequence_bytes())),
    Case(
        "D1",
        ONNX_BATCHING,
        ONNX_BATCHING,
        files={"1/model.onnx": external_bytes(), "1/weights.bin": bytes(16)},
        broken_files=onnx_files(external_bytes()),
    ),
    Case("O16", onnx_tensors("data_type: TYPE_FP16 dims: [4]", FP32 + "[4]"), ONNX_BATCHING, files=BATCHED),
    Case("O17", onnx_tensors(FP32 + "[4]", "data_type: TYPE_STRING dims: [4]"), ONNX_BATCHING, files=BATCHED),
    Case(
        "O18",
        onnx_tensors(FP32 + "[-1] allow_ragged_batch: true", FP32 + "[4]"),
        ONNX_BATCHING,
        files=BATCHED,
    ),
    Case(
        "O24",
        _WITH_DEFAULT.format("[-1, 4]").replace("optional: true", "optional: true allow_ragged_batch: true"),
        _WITH_DEFAULT.format("[-1, 4]"),
        "input[1].allow_ragged_batch",
        files=DEFAULTED,
    ),
    Case(
        "O19",
        onnx_tensors(FP32 + "[4]", FP32 + "[1]", batch=0),
        onnx_tensors(FP32 + "[1]", FP32 + "[1]", batch=0),
        files=SCALAR,
    ),
    Case(
        "O20",
        onnx_tensors(FP32 + "[4]", FP32 + "[4]"),
        onnx_tensors(FP32 + "[2, 4]", FP32 + "[2, 4]", batch=0),
        files=FIXED,
    ),
    Case("O21", onnx_tensors(FP32 + "[1, 4]", FP32 + "[4]"), ONNX_BATCHING, "input[0].dims", files=BATCHED),
    Case("O21", onnx_tensors(FP32 + "[-1]", FP32 + "[4]"), ONNX_BATCHING, "input[0].dims", files=BATCHED),
    Case("O21", onnx_tensors(FP32 + "[4]", FP32 + "[-1]"), ONNX_BATCHING, "output[0].dims", files=BATCHED),
    Case(
        "O21",
        onnx_tensors(FP32 + "[7]", FP32 + "[7]"),
        onnx_tensors(FP32 + "[7]", FP32 + "[-1]"),
        "output[0].dims",
        files=OPEN,
    ),
    Case(
        "O21",
        onnx_tensors(FP32 + "[1] reshape { shape: [] }", FP32 + "[-1]"),
        onnx_tensors(FP32 + "[1] reshape { shape: [1] }", FP32 + "[-1]"),
        "input[0].reshape",
        files=OPEN,
    ),
    Case(
        "O22",
        onnx_tensors(FP32 + "[4]", FP32 + "[2, 4]", batch=0),
        onnx_tensors(FP32 + "[8] reshape { shape: [2, 4] }", FP32 + "[2, 4]", batch=0),
        files=FIXED,
    ),
    Case(
        "O22",
        onnx_tensors(FP32 + "[5]", FP32 + "[5]", batch=0),
        onnx_tensors(FP32 + "[5]", FP32 + "[-1]", batch=0),
        "output[0].dims",
        files=FLAT,
    ),
]
CASES = [
    *PARSING,
    *BACKENDS,
    *SCHEDULERS,
    *SEQUENCES,
    *VERSIONS,
    *GROUPS,
    *TENSORS,
    *BATCH_IO,
    *WARMUPS,
    *ONNX_SETTINGS,
    *ONNX_TENSORS,
    *PYTHON_MODELS,
]
