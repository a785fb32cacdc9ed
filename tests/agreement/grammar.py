"""Random configs: fragments of every part of a config, most of them right, put together by hypothesis.

Two broken parts in one config show in which order the server checks them; a part that is right alone may be wrong
beside another. Nothing here says which combination is right: that is what the linter and the server are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agreement.case import Files
from agreement.drawing import Drawn
from generator.lint.cases import (
    BATCHED,
    CONTROLLED,
    CORRID,
    DEFAULTED,
    FIXED,
    FLAT,
    INITIAL,
    MODEL_PY,
    OPEN,
    SCALAR,
    START,
    TWO,
    control,
    sequence_bytes,
    state,
)
from hypothesis import strategies as st

_MOST_ODD: Final = 3


@dataclass(frozen=True)
class Part:
    """One part of a config: texts that are right in most places, and odd ones."""

    plain: tuple[str, ...]
    odd: tuple[str, ...]


def _dynamic(*fragments: str) -> tuple[str, ...]:
    return tuple(f"dynamic_batching {{ {fragment} }}" for fragment in fragments)


def _sequence(*fragments: str) -> tuple[str, ...]:
    return tuple(f"sequence_batching {{ {fragment} }}" for fragment in fragments)


def _tensor(kind: str, name: str, *fragments: str) -> tuple[str, ...]:
    return tuple(f'{kind} {{ name: "{name}" {fragment} }}' for fragment in fragments)


_BEGIN: Final = control("int32_false_true: [0, 1]", "start")
_POLICY: Final = "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9 }"
_BATCH_INPUT: Final = 'batch_input { kind: BATCH_ITEM_SHAPE target_name: "n" data_type: %s source_input: "%s" }'

COMMON: Final[Mapping[str, Part]] = {
    "name": Part(("", 'name: "SELF"'), ('name: "other"', 'name: ""')),
    "batch": Part(
        ("max_batch_size: 8", "max_batch_size: 8", "", "max_batch_size: 4"),
        ("max_batch_size: -1", "max_batch_size: 1", "max_batch_size: 9999999999"),
    ),
    "scheduler": Part(
        ("", "", *_dynamic("", "max_queue_delay_microseconds: 100"), *_sequence(START)),
        (
            *_dynamic(
                "preferred_batch_size: [0]",
                "preferred_batch_size: [4, 16]",
                "preferred_batch_size: [16, 0]",
                "priority_levels: 3",
                "priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 0 value { } }",
                f"preserve_ordering: true priority_levels: 2 default_priority_level: 2 {_POLICY}",
                f"preserve_ordering: true {_POLICY}",
                "default_priority_level: 7",
            ),
            *_sequence(
                START + CORRID,
                START + control("int32_false_true: [1]", "d"),
                control("kind: CONTROL_SEQUENCE_END", "e") + control("bool_false_true: [true]", "e"),
                control("", "") + "oldest { preferred_batch_size: [0] }",
                "oldest { preferred_batch_size: [16, 0] }",
                "oldest { max_candidate_sequences: 2 } " + control("kind: CONTROL_SEQUENCE_CORRID"),
                "direct { minimum_slot_utilization: -0.5 }",
                START + state("", INITIAL),
            ),
        ),
    ),
    "cache": Part(("", "response_cache { }"), ("response_cache { enable: true }",)),
    "policy": Part(
        ("", "model_transaction_policy { decoupled: false }"), ("model_transaction_policy { decoupled: true }",)
    ),
    "versions": Part(
        ("", "version_policy { all { } }", "version_policy { latest { num_versions: 2 } }"),
        ("version_policy { specific { versions: [2] } }", "version_policy { latest { } }", "version_policy { }"),
    ),
    "group": Part(
        ("", "instance_group { kind: KIND_CPU }", "instance_group [{ count: 2 }]"),
        (
            "instance_group { kind: KIND_CPU gpus: 0 }",
            "instance_group [{ kind: KIND_CPU }, { kind: KIND_MODEL gpus: [0, 1] }]",
            'instance_group { kind: KIND_CPU profile: "0" gpus: [0] }',
            'instance_group { name: "mine" kind: KIND_MODEL profile: "x" }',
            "instance_group { kind: KIND_MODEL count: -3 }",
        ),
    ),
    "platform": Part(("",), ('platform: "ensemble"', 'platform: "tensorrt_plan"', 'platform: "free"')),
    "warmup": Part(
        ("", ""),
        (
            'model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [-1] } } }',
            'model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] } } }',
            'model_warmup { name: "w" inputs { key: "x" value { data_type: TYPE_FP32 dims: [-4] } } }',
        ),
    ),
    "labels": Part(("",), ('output { name: "l" data_type: TYPE_FP32 dims: [4] label_filename: "none.txt" }',)),
    "batch_io": Part(
        ("", ""),
        (
            _BATCH_INPUT % ("TYPE_INT32", "x"),
            _BATCH_INPUT % ("TYPE_INT64", "q"),
            'batch_output { target_name: ["y", "q", "y"] source_input: "x" }',
            'batch_output { target_name: "y" }',
        ),
    ),
    "optimization": Part(
        ("", "optimization { priority: PRIORITY_MAX }"),
        ("optimization { input_pinned_memory { } eager_batching: true }",),
    ),
    "slip": Part(("",), ("max_batch: 2", 'parameters { key: "a" value: "b" }', "input [ ]", "} ")),
}
_TENSORS: Final = {
    "x": Part(
        _tensor("input", "x", "data_type: TYPE_FP32 dims: [4]"),
        (
            "",
            *_tensor(
                "input",
                "x",
                "dims: [4]",
                "data_type: TYPE_FP32",
                "data_type: TYPE_INT32 dims: [4]",
                "data_type: TYPE_FP32 dims: [-1]",
                "data_type: TYPE_FP32 dims: [0]",
                "data_type: TYPE_FP32 dims: [4, -2] reshape { shape: [0] }",
                "data_type: TYPE_FP32 dims: [2, 2] reshape { shape: [4] }",
                "data_type: TYPE_FP32 dims: [4] reshape { shape: [2, -1] }",
                "data_type: TYPE_FP32 dims: [1] reshape { shape: [] }",
                "data_type: TYPE_FP32 dims: [4] format: FORMAT_NHWC is_shape_tensor: true",
                "data_type: TYPE_FP32 dims: [4] optional: true",
                "data_type: TYPE_FP32 dims: [2, 4]",
            ),
            'input { data_type: TYPE_FP32 dims: [4] } input { name: "x" data_type: TYPE_FP32 dims: [4] }',
            'input { name: "X" data_type: TYPE_FP32 dims: [4] }',
        ),
    ),
    "y": Part(
        _tensor("output", "y", "data_type: TYPE_FP32 dims: [4]"),
        (
            "",
            *_tensor(
                "output",
                "y",
                "data_type: TYPE_FP32",
                "data_type: TYPE_STRING dims: [4]",
                "data_type: TYPE_FP32 dims: [-1]",
                "data_type: TYPE_FP32 dims: [-1, -1] reshape { shape: [-1] }",
                "data_type: TYPE_FP32 dims: [2, 4] is_shape_tensor: true",
            ),
            'output { name: "Y" data_type: TYPE_FP32 dims: [4] }',
        ),
    ),
}
PYTHON: Final = {"backend": Part(('backend: "python"',), ("", 'backend: "pytorch"')), **_TENSORS, **COMMON}
ONNX: Final = {
    "backend": Part(('backend: "onnxruntime"', 'platform: "onnxruntime_onnx"', ""), ('platform: "onnx"',)),
    **_TENSORS,
    # The embedded back-end for ONNX models serves neither decoupled models nor batch inputs.
    **{name: part for name, part in COMMON.items() if name not in {"platform", "labels", "policy", "batch_io"}},
    "scheduler": Part(
        ("", *_dynamic("", "max_queue_delay_microseconds: 100")),
        (*_dynamic("preferred_batch_size: [4, 16]", "priority_levels: 3"), *_sequence(_BEGIN, "oldest { }")),
    ),
    "settings": Part(
        ("",),
        (
            'parameters { key: "execution_mode" value { string_value: "7" } }',
            'parameters { key: "intra_op_thread_count" value { string_value: "many" } }',
            'parameters { key: "enable_mem_arena" value { string_value: "maybe" } }',
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "none" } } }',
        ),
    ),
}
_FOLDERS: Final = {
    "one": ("1",),
    "two": ("1", "2"),
    "zeros": ("01",),
    "word": ("1", "latest"),
    "warm": ("2", "warmup"),
    "hidden": (".git", "3"),
}
_GRAPHS: Final[Mapping[str, Files]] = {
    "batched": BATCHED,
    "fixed": FIXED,
    "two": TWO,
    "scalar": SCALAR,
    "flat": FLAT,
    "open": OPEN,
    "controlled": CONTROLLED,
    "defaulted": DEFAULTED,
    "sequence": {"1/model.onnx": sequence_bytes()},
    "none": {"1/": ""},
    "text": {"1/model.onnx": "no graph"},
}


def configs(parts: Mapping[str, Part]) -> st.SearchStrategy[str]:
    """Draw configs: up to three odd parts, the others plain."""

    @st.composite
    def draw_config(draw: st.DrawFn) -> str:
        odd = draw(st.sets(st.sampled_from(sorted(parts)), max_size=_MOST_ODD))
        texts = [draw(st.sampled_from(part.odd if name in odd else part.plain)) for name, part in parts.items()]
        return "\n".join(text for text in texts if text != "") + "\n"

    return draw_config()


def python_files() -> st.SearchStrategy[Files]:
    """Draw the version directories of a Python model; the usual one mostly."""
    names = st.sampled_from(["one", "one", "one", *_FOLDERS])
    return names.map(lambda name: {f"{folder}/model.py": MODEL_PY for folder in _FOLDERS[name]})


def onnx_files() -> st.SearchStrategy[Files]:
    """Draw an ONNX model; the usual one mostly."""
    return st.sampled_from(["batched", "batched", "batched", *_GRAPHS]).map(_GRAPHS.__getitem__)


def python_models() -> st.SearchStrategy[Drawn]:
    """Draw Python models."""
    return st.tuples(configs(PYTHON), python_files())


def onnx_models() -> st.SearchStrategy[Drawn]:
    """Draw ONNX models."""
    return st.tuples(configs(ONNX), onnx_files())
