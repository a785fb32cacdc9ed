import dataclasses
import json
from typing import Any

import pytest
from google.protobuf import json_format

from tritonforge_client import Drift, ModelSpec, TensorSpec
from tritonforge_client.core.config import digest_from_spec, drifts_between, model_spec_from_config
from tritonforge_client.core.proto import model_config_from_text

CONFIG = """
name: "m"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [3, -1] reshape { shape: [3] } },
       { name: "t" data_type: TYPE_STRING dims: [1] optional: true }]
output [{ name: "y" data_type: TYPE_BF16 dims: [4] }]
dynamic_batching { default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 5000 } }
"""


def test_message_and_json_give_the_same_spec() -> None:
    message = model_config_from_text(CONFIG)
    spec = model_spec_from_config(message)
    assert spec == ModelSpec(
        name="m",
        inputs=(
            TensorSpec(name="x", datatype="FP32", dims=(3, -1)),
            TensorSpec(name="t", datatype="BYTES", dims=(1,), optional=True),
        ),
        outputs=(TensorSpec(name="y", datatype="BF16", dims=(4,)),),
        max_batch_size=8,
        queue_timeout_us=5000,
        digest=digest_from_spec(spec),
    )
    as_json = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    # Triton writes 64-bit numbers as numbers, protobuf as strings.
    as_json["input"][0]["dims"] = [3, -1]
    assert model_spec_from_config(json.loads(json.dumps(as_json))) == spec


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "dynamic_batching { }",
        "dynamic_batching { default_queue_policy { allow_timeout_override: true } }",
        "dynamic_batching { default_queue_policy { default_timeout_microseconds: 5 } }",
    ],
)
def test_a_deadline_reaches_the_queue_only_if_requests_may_lower_its_default(policy: str) -> None:
    text = CONFIG[: CONFIG.index("dynamic_batching")] + policy
    assert model_spec_from_config(model_config_from_text(text)).queue_timeout_us is None


def test_flags() -> None:
    spec = model_spec_from_config(
        model_config_from_text(CONFIG + "model_transaction_policy { decoupled: true }"), version="2"
    )
    assert (spec.decoupled, spec.sequence, spec.version) == (True, False, "2")
    text = CONFIG[: CONFIG.index("dynamic_batching")] + "sequence_batching { }"
    assert model_spec_from_config(model_config_from_text(text)).sequence


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('name: "m" backend: "onnxruntime"', "without input and output"),
        ('name: "m" input [{ name: "x" data_type: TYPE_FP32 dims: [1] }]', "without output"),
        ('name: "m" output [{ name: "x" data_type: TYPE_FP32 dims: [1] }]', "without input"),
    ],
)
def test_a_config_that_the_server_would_complete_is_refused(text: str, missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        model_spec_from_config(model_config_from_text(text))


def test_an_unknown_data_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tensor x: expected a data_type of TYPE_BOOL, .* got TYPE_INVALID"):
        model_spec_from_config({"name": "m", "input": [{"name": "x"}], "output": [{"name": "y"}]})


def test_every_field_changes_the_digest() -> None:
    spec = model_spec_from_config(model_config_from_text(CONFIG))
    others = [
        dataclasses.replace(spec, name="n"),
        dataclasses.replace(spec, inputs=spec.inputs[::-1]),
        dataclasses.replace(spec, outputs=(*spec.outputs, spec.inputs[0])),
        dataclasses.replace(spec, max_batch_size=9),
        dataclasses.replace(spec, version="1"),
        dataclasses.replace(spec, decoupled=True),
        dataclasses.replace(spec, sequence=True),
        dataclasses.replace(spec, queue_timeout_us=None),
    ]
    assert len(others) == len(dataclasses.fields(ModelSpec)) - 1  # all but the digest
    assert len({digest_from_spec(other) for other in (spec, *others)}) == len(others) + 1
    assert digest_from_spec(dataclasses.replace(spec, digest="x")) == digest_from_spec(spec)


def test_drifts_name_each_difference() -> None:
    spec = model_spec_from_config(model_config_from_text(CONFIG))
    x, t = spec.inputs
    live = dataclasses.replace(
        spec,
        inputs=(dataclasses.replace(x, dims=(4, -1)), dataclasses.replace(t, name="u")),
        max_batch_size=4,
    )
    assert drifts_between(spec, spec) == ()
    drifts = drifts_between(spec, live)
    assert [(one.field, one.expected, one.got) for one in drifts] == [
        ("input x", "FP32 [3, -1]", "FP32 [4, -1]"),
        ("input t", "BYTES [1] optional", "nothing"),
        ("input u", "nothing", "BYTES [1] optional"),
        ("max_batch_size", "8", "4"),
    ]
    assert list(map(str, drifts)) == [
        "input x: expected FP32 [3, -1], got FP32 [4, -1]",
        "input t is gone",
        "input u is new",
        "max_batch_size: expected 8, got 4",
    ]


@pytest.mark.parametrize(
    ("field", "value"), [("decoupled", True), ("sequence", True), ("queue_timeout_us", None), ("queue_timeout_us", 1)]
)
def test_another_way_to_be_called_is_a_drift(field: str, value: Any) -> None:
    spec = model_spec_from_config(model_config_from_text(CONFIG))
    live = dataclasses.replace(spec, **{field: value})
    assert drifts_between(spec, live) == (Drift(field=field, expected=str(getattr(spec, field)), got=str(value)),)
