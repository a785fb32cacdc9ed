"""Small models of the TensorRT back-end, each rule broken alone; what their plans hold is told by a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from generator.lint.cases import START, Case, X, Y

Bounds = Mapping[str, tuple[Sequence[int], Sequence[int]]]
HEADER = b"ftrt" + bytes(20) + bytes((10, 16, 1, 11))


def tensor(name: str, shape: Sequence[int], datatype: str = "FP32", *, output: bool = False, **more: Any) -> Any:
    """One tensor of a plan, as manifests have it; ``more`` as ``plan.interface`` has it."""
    return {"name": name, "shape": list(shape), "datatype": datatype, "is_input": not output, **more}


def plan_files(tensors: Sequence[Mapping[str, Any]], *profiles: Bounds, body: bytes = b"") -> dict[str, str | bytes]:
    """A plan and the manifest that tells what it holds.

    Args:
        tensors: From ``tensor``.
        profiles: By input, the smallest and the largest shape.
        body: What the plan holds behind its header.
    """
    plan = HEADER + body
    ranges = [
        {name: {"min": list(low), "opt": list(low), "max": list(high)} for name, (low, high) in profile.items()}
        for profile in profiles
    ]
    facts = {
        "sha256": hashlib.sha256(plan).hexdigest(),
        "size_bytes": len(plan),
        "tensors": tensors,
        "profiles": ranges,
    }
    return {"1/model.plan": plan, "1/manifest.json": json.dumps({"manifest_version": 1, "made": {"plan": facts}})}


def copies(x: Sequence[int], *, low: Sequence[int] = (1, 4), high: Sequence[int] = (8, 4)) -> dict[str, str | bytes]:
    """A plan that copies x to y."""
    return plan_files([tensor("x", x), tensor("y", x, output=True)], {"x": (low, high)})


X_TENSOR, Y_TENSOR = tensor("x", [-1, 4]), tensor("y", [-1, 4], output=True)
X_RANGE = ([1, 4], [8, 4])
COPY = copies([-1, 4])
BARE: dict[str, str | bytes] = {"1/model.plan": HEADER}
TWO = plan_files(
    [X_TENSOR, tensor("z", [-1, 4]), Y_TENSOR, tensor("w", [-1, 4], output=True)], {"x": X_RANGE, "z": X_RANGE}
)
STATIC = plan_files(
    [X_TENSOR, tensor("z", [8, 4]), Y_TENSOR, tensor("w", [8, 4], output=True)],
    {"x": X_RANGE, "z": ([8, 4], [8, 4])},
)
SCALAR = plan_files([tensor("x", []), tensor("y", [], output=True)], {"x": ([], [])})
WIDE = copies([-1, -1], low=(1, 2), high=(8, 6))
FLAT = plan_files([tensor("x", [-1]), Y_TENSOR], {"x": ([1], [32])})
IMAGE_RANGE = {"x": ([1, 3, 8, 8], [8, 3, 8, 8])}
IMAGE = plan_files([tensor("x", [-1, 3, 8, 8]), Y_TENSOR], IMAGE_RANGE)
VECTORISED = plan_files([tensor("x", [-1, 3, 8, 8], is_linear=False), Y_TENSOR], IMAGE_RANGE)


def shaped(shape: Sequence[int] = (2,), datatype: str = "INT64") -> dict[str, str | bytes]:
    """A plan with a shape tensor ``s`` among its inputs and another, ``t``, among its outputs."""
    shapes = {"is_shape_tensor": True}
    tensors = [
        X_TENSOR,
        tensor("s", shape, datatype, **shapes),
        Y_TENSOR,
        tensor("t", [2], "INT64", output=True, **shapes),
    ]
    return plan_files(tensors, {"x": X_RANGE})


def controlled(shape: Sequence[int], datatype: str = "INT32") -> dict[str, str | bytes]:
    """A plan with an input ``c`` for a sequence control."""
    return plan_files(
        [X_TENSOR, tensor("c", shape, datatype), Y_TENSOR], {"x": X_RANGE, "c": ([1, *shape[1:]], [8, *shape[1:]])}
    )


TENSORRT = 'backend: "tensorrt"\n'
BATCHING = TENSORRT + "max_batch_size: 8 dynamic_batching { }\n"
MODEL = BATCHING + X + Y
Z = X.replace('"x"', '"z"')
W = Y.replace('"y"', '"w"')
IMAGE_X = 'input { name: "x" data_type: TYPE_FP32 dims: [3, 8, 8] %s }\n'


def group(settings: str) -> str:
    return MODEL + f"instance_group {{ kind: KIND_GPU {settings} }}\n"


def parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'


def devices(listed: str | None, *, kind: str = "KIND_MODEL", more: str = "") -> str:
    gpus = "" if listed is None else parameter("multi_device_gpus", listed)
    return MODEL + parameter("enable_multi_device", "True") + gpus + f"instance_group {{ kind: {kind} {more} }}\n"


def flagged(s: str, t: str = "data_type: TYPE_INT64 dims: [2] is_shape_tensor: true", *, more: str = "") -> str:
    """A config for ``shaped``, with the settings of its shape tensors."""
    x, y = X.replace("[4]", "[-1, 4]"), Y.replace("[4]", "[-1, 4]")
    return f'{TENSORRT}{x}input {{ name: "s" {s} }}\n{y}output {{ name: "t" {t} }}\n{more}'


S = "data_type: TYPE_INT64 dims: [2] is_shape_tensor: true"


def sequence(settings: str, *, more: str = "") -> str:
    return TENSORRT + "max_batch_size: 8\n" + X + Y + more + f"sequence_batching {{ {settings} }}\n"


def state(output: str, data_type: str = "TYPE_FP32") -> str:
    return f'state {{ input_name: "z" output_name: "{output}" data_type: {data_type} dims: [4] }}'


def graphs(spec: str, *, batch: int = 8) -> str:
    dims = "[4]" if batch > 0 else "[-1, 4]"
    start = f"{TENSORRT}max_batch_size: {batch}\n{X}{Y}".replace("[4]", dims)
    return start + f"optimization {{ cuda {{ graphs: true graph_spec {{ {spec} }} }} }}\n"


def shape(dims: str, *, name: str = "x") -> str:
    return f'input {{ key: "{name}" value {{ dim: {dims} }} }} '


def bounded(lower: str, *, batch: int = 1) -> str:
    return graphs(f"batch_size: 2 {shape('[4]')} graph_lower_bound {{ batch_size: {batch} {lower} }}")


SETTINGS = [
    Case("T1", MODEL + "instance_group { kind: KIND_CPU }", group(""), "instance_group[0].kind", COPY),
    Case("T1", MODEL + "instance_group { kind: KIND_MODEL }", MODEL, files=COPY, completing=True),
    Case("T2", MODEL, MODEL, files=COPY, broken_files={"1/": ""}),
    Case("T3", MODEL, MODEL, files=COPY, broken_files={"1/": ""}, completing=True),
    Case("T3", MODEL, MODEL, files=BARE, broken_files={"1/model.plan": b""}, completing=True),
    Case("T3", MODEL, MODEL, files=COPY, broken_files={"1/model.plan": b"\x02\0\0\0{}" + HEADER}, completing=True),
    Case("T4", MODEL, MODEL, files=BARE, broken_files={"1/model.plan": b"ftrt"}),
    Case(
        "T12",
        MODEL + parameter("execution_context_allocation_strategy", "static"),
        MODEL + parameter("execution_context_allocation_strategy", "ON_PROFILE_CHANGE"),
        files=COPY,
    ),
    Case("N6", devices(None), devices("0,1"), files=COPY),
    Case("T13", devices("0,x,1"), devices(" 0, 1 ,"), files=COPY),
    Case("T15", devices("0,"), MODEL + parameter("multi_device_gpus", "0"), files=COPY),
    Case("T16", devices("0,1", kind="KIND_GPU"), devices("0,1"), "instance_group[0].kind", COPY),
    Case("T17", devices("0,1", more='profile: ["0", "1"]'), devices("0,1", more='profile: ["1", "01"]'), files=BARE),
    Case(
        "T18",
        group("secondary_devices [{ kind: KIND_NVDLA }, { kind: KIND_NVDLA device_id: 1 }]"),
        group("secondary_devices { kind: KIND_NVDLA device_id: 1 }"),
        "instance_group[0].secondary_devices[1]",
        COPY,
    ),
    Case("T19", group("secondary_devices { kind: 7 }"), group("secondary_devices { }"), files=COPY),
]
PROFILES = [
    Case("T5", BATCHING + X + Z.replace("[4]", "[-1, 4]"), BATCHING + X + Z, "input[1].dims", TWO, completing=True),
    Case(
        "T6",
        TENSORRT + X,
        TENSORRT + X,
        files=COPY,
        broken_files=copies([-1, 4], low=(0, 4), high=(0, 4)),
        completing=True,
    ),
    Case("T8", MODEL.replace("8", "9"), MODEL, "max_batch_size", COPY, completing=True),
    Case("T8", MODEL.replace("[4]", "[-1, 4]"), TENSORRT + X.replace("[4]", "[-1, 4]"), files=COPY, completing=True),
    Case("T9", group('profile: "1"'), group('profile: "0"'), "instance_group[0].profile[0]", COPY, completing=True),
    Case("T21", group('profile: "1"'), group('profile: "0"'), "instance_group[0].profile", COPY),
    Case("T44", sequence(START), sequence(START), files=controlled([-1, 1]), broken_files=controlled([-1])),
    Case("T44", MODEL.replace("[4]", "[7]"), MODEL.replace("[4]", "[6]"), "input[0].dims", WIDE),
]
TENSORS = [
    Case("I13", MODEL + Z, MODEL, "input[1].name", COPY, completing=True),
    Case("I14", MODEL + W, MODEL, "output[1].name", COPY),
    Case("T11", BATCHING + IMAGE_X % "is_non_linear_format_io: true", BATCHING, files=IMAGE, completing=True),
    Case("T23", MODEL + Z, MODEL, "input[1]", COPY),
    Case("T24", MODEL.replace("FP32", "STRING"), MODEL, "input[0].data_type", COPY),
    Case(
        "T27", BATCHING + IMAGE_X % "" + Y, BATCHING + IMAGE_X % "is_non_linear_format_io: true" + Y, files=VECTORISED
    ),
    Case("T28", BATCHING + IMAGE_X % "is_non_linear_format_io: true" + Y, BATCHING + IMAGE_X % "" + Y, files=IMAGE),
    Case("T29", MODEL + W, MODEL + Z + W, "input", TWO),
    Case("T30", MODEL + Z, MODEL + Z + W, "output", TWO),
    Case("T30", MODEL + W, MODEL + Z + W, "input", STATIC),
    Case("T31", sequence(START), sequence(START), files=controlled([-1, 1]), broken_files=COPY),
    Case("T31", sequence(START + state("v")), sequence(START + state("w")), files=BARE, broken_files=TWO),
    Case("T32", MODEL + X + W, MODEL + Z + W, "input[1].name", TWO),
    Case("T32", MODEL + Y, MODEL, "output[1].name", COPY),
    Case("T33", sequence(START.replace('"c"', '"y"')), sequence(START), files=controlled([-1, 1])),
    Case("T34", sequence(state("x")), sequence(state("w")), files=TWO),
    Case("T35", MODEL.replace("FP32", "FP16", 1), MODEL, "input[0].data_type", COPY),
    Case("T35", sequence(START), sequence(START), files=controlled([-1, 1]), broken_files=controlled([-1, 1], "BOOL")),
    Case("T36", BATCHING + X + Y.replace("FP32", "FP16"), MODEL, "output[0].data_type", COPY),
    Case("T37", MODEL, MODEL, "input[0].dims", COPY, broken_files=SCALAR),
    Case("T38", MODEL.replace("[4]", "[-1, 4]"), MODEL.replace("[4]", "[-1]"), "input[0].dims", COPY),
    Case("T38", BATCHING + X + Y.replace("[4]", "[5]"), MODEL, "output[0].dims", COPY),
    Case("T38", sequence(START), sequence(START), files=controlled([8, 1]), broken_files=controlled([8, 2])),
    Case(
        "T39",
        TENSORRT + X + Y,
        TENSORRT + X.replace("[4]", "[-1, 4]") + Y.replace("[4]", "[8] reshape { shape: [2, 4] }"),
        files=COPY,
    ),
    Case(
        "T40",
        MODEL.replace("[4]", "[-1] allow_ragged_batch: true", 1),
        MODEL.replace("[4]", "[-1] allow_ragged_batch: true", 1),
        "input[0].allow_ragged_batch",
        FLAT,
        COPY,
    ),
    Case(
        "T41",
        BATCHING + IMAGE_X % "is_non_linear_format_io: true allow_ragged_batch: true" + Y,
        BATCHING + IMAGE_X % "is_non_linear_format_io: true" + Y,
        "input[0].is_non_linear_format_io",
        BARE,
    ),
    Case("T42", sequence(START), sequence(START), files=controlled([-1, 1]), broken_files=controlled([-1, 2])),
]
SHAPE_TENSORS = [
    Case(
        "T10",
        MODEL.replace("FP32 dims: [4]", "FP32 dims: [4] is_shape_tensor: true", 1),
        MODEL,
        "input[0].is_shape_tensor",
        COPY,
        completing=True,
    ),
    Case("T25", flagged(S.replace("is_shape_tensor: true", "")), flagged(S), "input[1]", shaped()),
    Case("T26", MODEL.replace("dims: [4]", "dims: [4] is_shape_tensor: true", 1), MODEL, files=COPY),
    Case("T46", flagged(S.replace("INT64", "FP32")), flagged(S), "input[1].data_type", shaped()),
    Case("T47", flagged(S.replace("INT64", "INT32")), flagged(S), "input[1].data_type", shaped()),
    Case("T48", flagged(S, S.replace("INT64", "INT32")), flagged(S), "output[1].data_type", shaped()),
    Case("T49", flagged(S.replace("[2]", "[2, 2]")), flagged(S), files=shaped(), broken_files=shaped((2, 2))),
    Case("T50", flagged(S.replace("[2]", "[3]")), flagged(S), "input[1].dims", shaped()),
    Case("T50", flagged(S.replace("[2]", "[-1]")), flagged(S), "input[1].dims", shaped()),
    Case(
        "T51",
        flagged(S, more='batch_output { target_name: "t" source_input: "x" }'),
        flagged(S, more='batch_output { target_name: "y" source_input: "x" }'),
        "batch_output[0].target_name[0]",
        shaped(),
    ),
]
GRAPHS = [
    Case("T52", graphs("batch_size: 1", batch=0), graphs("", batch=0), files=COPY),
    Case("T53", graphs("batch_size: 9"), graphs("batch_size: 8"), "optimization.cuda.graph_spec[0].batch_size", COPY),
    Case("T53", bounded(shape("[4]"), batch=0), bounded(shape("[4]")), files=COPY),
    Case("T54", bounded(shape("[4]"), batch=3), bounded(shape("[4]"), batch=2), files=COPY),
    Case("T55", bounded(shape("[4]", name="z")), bounded(shape("[4]")), files=COPY),
    Case("T56", bounded(shape("[4, 4]")), bounded(shape("[4]")), files=COPY),
    Case("T57", bounded(shape("[-1]")), bounded(shape("[0]")), files=COPY),
    Case("T58", bounded(shape("[5]")), bounded(shape("[1]")), files=COPY),
]
PLAN_CASES = [*SETTINGS, *PROFILES, *TENSORS, *SHAPE_TENSORS, *GRAPHS]
# T14 needs a host.
PLAN_RULES = {case.rule for case in PLAN_CASES} | {"T14"}
PLAN_WARNINGS = [
    Case("T7", TENSORRT + X.replace("[4]", "[-1, 4]"), TENSORRT + X, "max_batch_size", COPY, completing=True),
    Case("T22", group('profile: ["0", "00"]'), group('profile: ["0", "0"]'), files=COPY),
]
