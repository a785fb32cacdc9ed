"""Any valid spec becomes a configuration that means the same after protobuf, and that the server's rules accept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from generator.config.test_from_graph import OPTIONS, config_of, config_of_option
from hypothesis import given, settings
from hypothesis import strategies as st
from support import graphs

from tritonforge_client.core.proto import messages, model_config_from_text
from tritonforge_generator.config import ModelConfig
from tritonforge_generator.lint import lint_model

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SIZES = st.integers(1, 8)
DELAYS = st.integers(0, 10**6)


CHOSEN = {"L5", "L7", "L10", "V3"}
"""Warnings of what a spec may ask for all the same: no batcher, preferred sizes below the largest, a format, a version
that is not there yet."""


def partly(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings with any of the keys."""
    return st.fixed_dictionaries({}, optional=fields)


POLICIES = partly(
    default_timeout_microseconds=DELAYS, allow_timeout_override=st.booleans(), max_queue_size=st.integers(0, 99)
)


@st.composite
def dynamic_batching(draw: st.DrawFn) -> dict[str, Any]:
    fields = draw(
        partly(
            preferred_batch_size=st.lists(SIZES, max_size=3),
            max_queue_delay_microseconds=DELAYS,
            default_queue_policy=POLICIES,
        )
    )
    levels = draw(st.integers(0, 4))
    if levels > 0:
        fields["priority_levels"] = levels
        fields["default_priority_level"] = draw(st.integers(1, levels))
        fields["priority_queue_policy"] = {
            str(level): policy for level, policy in draw(st.dictionaries(st.integers(1, levels), POLICIES)).items()
        }
    else:
        fields["preserve_ordering"] = draw(st.booleans())
    return fields


RATE_LIMITERS = partly(
    resources=st.lists(
        st.fixed_dictionaries({"name": NAMES.map(str.upper), "count": SIZES}),
        max_size=3,
        unique_by=lambda one: one["name"],
    ),
    priority=SIZES,
)
GROUPS = st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["KIND_AUTO", "KIND_CPU", "KIND_MODEL"])},
        optional={"count": SIZES, "rate_limiter": RATE_LIMITERS, "host_policy": NAMES, "name": NAMES},
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: str(one.get("name", id(one))),
)
WARMUP = st.one_of(
    st.booleans(),
    st.lists(
        st.fixed_dictionaries(
            {"name": NAMES},
            optional={
                "batch_size": SIZES,
                "count": SIZES,
                "inputs": partly(x=st.sampled_from([{}, {"random_data": True}, {"zero_data": True, "dims": [4]}])),
            },
        ),
        max_size=3,
    ),
)
METRICS = st.lists(st.floats(0, 1e9, exclude_min=True, allow_subnormal=False), min_size=1, max_size=5, unique=True).map(
    lambda buckets: {
        "metric_control": [
            {
                "metric_identifier": {"family": "nv_inference_first_response_histogram_ms"},
                "histogram_options": {"buckets": sorted(buckets)},
            }
        ]
    }
)
OPTIMIZATION = partly(
    graph=st.sampled_from([-1, 0, 1, 2]).map(lambda level: {"level": level}),
    priority=st.sampled_from(["PRIORITY_MAX", "PRIORITY_MIN"]),
    input_pinned_memory=st.booleans().map(lambda enable: {"enable": enable}),
)
AROUND = partly(
    instance_group=GROUPS,
    version_policy=st.one_of(st.just({"all": {}}), SIZES.map(lambda number: {"latest": {"num_versions": number}})),
    optimization=OPTIMIZATION,
    parameters=st.dictionaries(TEXTS.filter(lambda key: "_" not in key), TEXTS, max_size=3),
    metric_tags=st.dictionaries(NAMES, TEXTS, max_size=3),
    model_metrics=METRICS,
)
TENSORS = partly(
    labels=st.just({"y": ["a", "b", "c"]}),
    input=st.sampled_from([[4], [2, 2], [1, 4, 1]]).map(lambda dims: [{"name": "x", "dims": dims}]),
    output=st.sampled_from([[3], [3, 1]]).map(lambda dims: [{"name": "y", "dims": dims}]),
)
BATCHED = st.one_of(
    st.fixed_dictionaries({"dynamic_batching": st.one_of(st.booleans(), dynamic_batching())}),
    st.fixed_dictionaries(
        {"dynamic_batching": dynamic_batching(), "response_cache": st.booleans().map(lambda on: {"enable": on})}
    ),
)


@st.composite
def sequence_batching(draw: st.DrawFn) -> dict[str, Any]:
    fields = draw(partly(max_sequence_idle_microseconds=st.integers(1, 10**9)))
    fields["control_input"] = {"START": "start", "END": "end", "CORRID": "id"}
    direct = partly(
        max_queue_delay_microseconds=DELAYS,
        minimum_slot_utilization=st.floats(0, 1, width=32, allow_subnormal=False),
    )
    oldest = st.fixed_dictionaries(
        {"max_candidate_sequences": st.integers(8, 64)},
        optional={"preferred_batch_size": st.lists(SIZES, max_size=2), "preserve_ordering": st.booleans()},
    )
    strategy = draw(st.sampled_from(["", "direct", "oldest"]))
    if strategy:
        fields[strategy] = draw(direct if strategy == "direct" else oldest)
    return fields


def check(config: ModelConfig, source: Path, folder: Path) -> None:
    """The text survives protobuf, and the folder that it is for passes the server's rules."""
    from google.protobuf import text_format

    assert model_config_from_text(config.text) == config.message
    written = text_format.MessageToString(config.message, descriptor_pool=messages().pool)
    assert text_format.MessageToString(model_config_from_text(written), descriptor_pool=messages().pool) == written
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "1").mkdir(parents=True)
    shutil.copy(source, folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(config.text)
    for location, data in config.files.items():
        (folder / location).parent.mkdir(exist_ok=True)
        (folder / location).write_bytes(data)
    assert [found for found in lint_model(folder) if found.rule not in CHOSEN] == []
    assert [found for found in lint_model(folder, strict=True) if found.rule not in CHOSEN] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    graphs.linear(folder / "linear.onnx")
    graphs.steps(folder / "steps.onnx")
    return folder


@settings(max_examples=100, deadline=None)
@given(around=AROUND, batching=BATCHED, tensors=TENSORS, warmup=WARMUP)
def test_any_spec_of_single_requests(
    folder: Path, around: dict[str, Any], batching: dict[str, Any], tensors: dict[str, Any], warmup: Any
) -> None:
    options = {"max_batch_size": 8, "model_warmup": warmup, **around, **batching, **tensors}
    if "x" in str(warmup) and "input" in tensors:  # declared dims of a sample are those that clients send
        options.pop("input")
    source = folder / "linear.onnx"
    check(config_of(source, **options), source, folder / "m")


@settings(max_examples=50, deadline=None)
@given(around=AROUND, sequence=sequence_batching())
def test_any_spec_of_sequences(folder: Path, around: dict[str, Any], sequence: dict[str, Any]) -> None:
    source = folder / "steps.onnx"
    check(config_of(source, max_batch_size=8, sequence_batching=sequence, **around), source, folder / "m")


ONNX_OPTIONS = sorted(set(OPTIONS) - {one for one in OPTIONS if one.startswith(("tensorrt", "preprocess"))})


@pytest.mark.parametrize("option", ONNX_OPTIONS)
def test_every_option_alone_passes_the_rules(tmp_path: Path, option: str) -> None:
    check(config_of_option(tmp_path, option), tmp_path / "linear.onnx", tmp_path / "m")
