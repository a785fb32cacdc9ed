import dataclasses
from typing import Any

import numpy as np
import pytest

from tritonforge_client import InvalidInput, MissingExtraError, ModelSpec, SpecDrift, TensorSpec
from tritonforge_client.core.call import Call
from tritonforge_client.core.check import (
    array_from_value,
    check_reply,
    checked_outputs,
    checked_tensors,
    tensors_from_inputs,
)
from tritonforge_client.core.request import InferReply, InputTensor

CALL = Call(endpoint="h:1", timeout_s=1.0, model="resnet50")
SPEC = ModelSpec(
    name="resnet50",
    inputs=(
        TensorSpec(name="images", datatype="FP32", dims=(3, -1)),
        TensorSpec(name="top_k", datatype="INT64", dims=(1,), optional=True),
    ),
    outputs=(TensorSpec(name="logits", datatype="FP32", dims=(4,)),),
    max_batch_size=8,
)
UNBATCHED = dataclasses.replace(SPEC, max_batch_size=0)


def images(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def one(inputs: dict[str, Any], datatype: str, *dims: int) -> InputTensor:
    """Check one input of an unbatched model."""
    spec = ModelSpec(name="m", inputs=(TensorSpec(name="x", datatype=datatype, dims=dims),), outputs=SPEC.outputs)
    (tensor,) = checked_tensors(spec, inputs, CALL)
    return tensor


def test_tensors_come_in_the_order_of_the_spec_without_a_copy() -> None:
    array = images(2, 3, 5)
    top_k = np.array([[1], [2]])
    tensors = checked_tensors(SPEC, {"top_k": top_k, "images": array}, CALL)
    assert [(t.name, t.datatype, t.shape) for t in tensors] == [
        ("images", "FP32", (2, 3, 5)),
        ("top_k", "INT64", (2, 1)),
    ]
    assert np.shares_memory(np.frombuffer(tensors[0].data, np.uint8), array)


def test_an_optional_input_may_be_left_out_or_none() -> None:
    assert len(checked_tensors(SPEC, {"images": images(1, 3, 2)}, CALL)) == 1
    assert len(checked_tensors(SPEC, {"images": images(1, 3, 2), "top_k": None}, CALL)) == 1


@pytest.mark.parametrize(
    ("inputs", "field", "text"),
    [
        ({"image": images(1, 3, 2)}, "image", 'unknown input "image"; did you mean "images"?'),
        ({"zzz": images(1, 3, 2)}, "zzz", 'unknown input "zzz"; the model has images, top_k'),
        ({}, "images", "input images is missing; expected float32 (batch<=8, 3, ?)"),
        (
            {"images": images(1, 3, 2, dtype=np.float64)},
            "images",
            "expected float32 (batch<=8, 3, ?), got float64 (1, 3, 2). Cast with images.astype(np.float32).",
        ),
        ({"images": images(3, 2)}, "images", "got float32 (3, 2). Add the batch dimension with images[np.newaxis]."),
        ({"images": images(1, 4, 2)}, "images", "expected float32 (batch<=8, 3, ?), got float32 (1, 4, 2)"),
        ({"images": np.float32(1)}, "images", "got float32 ()"),
        ({"images": images(9, 3, 2)}, "images", "batch 9 is over max_batch_size 8; split the batch"),
        ({"images": images(0, 3, 2)}, "images", "the batch is empty"),
        (
            {"images": images(2, 3, 2), "top_k": np.array([[1]])},
            "top_k",
            "batch 1 differs from batch 2 of input images",
        ),
        ({"images": [[["a"]]]}, "images", "got object (1, 1, 1). Make it an array of float32 first."),
        ({"images": [[1.0], [1.0, 2.0]]}, "images", "expected an array, got list"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(inputs: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_tensors(SPEC, inputs, CALL)
    assert text in str(caught.value)
    assert caught.value.field == field
    assert caught.value.model == "resnet50"
    assert caught.value.expected
    assert caught.value.got


def test_a_model_without_batching_takes_full_shapes() -> None:
    (tensor,) = checked_tensors(UNBATCHED, {"images": images(3, 2)}, CALL)
    assert tensor.shape == (3, 2)
    with pytest.raises(InvalidInput, match=r"expected float32 \(3, \?\), got float32 \(1, 3, 2\)"):
        checked_tensors(UNBATCHED, {"images": images(1, 3, 2)}, CALL)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0, 3)])
def test_scalars_and_empty_tensors_keep_their_shape(shape: tuple[int, ...]) -> None:
    tensor = one({"x": np.zeros(shape, np.float16)}, "FP16", *shape)
    assert tensor.shape == shape
    assert len(tensor.data) == 2 * int(np.prod(shape))


@pytest.mark.parametrize(
    "array",
    [images(4, 6)[::2, ::3], images(2, 2).T, images(2, 2).astype(">f4"), np.broadcast_to(np.float32(7), (2, 2))],
)
def test_any_memory_layout_is_sent_row_major_and_little_endian(array: np.ndarray[Any, Any]) -> None:
    tensor = one({"x": array}, "FP32", 2, 2)
    assert bytes(tensor.data) == np.ascontiguousarray(array, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    "value",
    [
        [b"\xff", "\u00e9"],
        ("a", "b"),
        np.array([b"a\0", "b"], dtype=object),
        np.array([b"a", b"bc"]),
        np.array(["a", "\u00e9"]),
    ],
)
def test_strings_of_every_kind_are_bytes(value: Any) -> None:
    elements = [element.encode() if isinstance(element, str) else bytes(element) for element in value]
    expected = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    assert bytes(one({"x": value}, "BYTES", 2).data) == expected
    (untyped,) = tensors_from_inputs({"x": value}, CALL)
    assert (untyped.datatype, bytes(untyped.data)) == ("BYTES", expected)


def test_a_list_of_bytes_keeps_trailing_nul_bytes() -> None:
    assert bytes(one({"x": [b"a\0"]}, "BYTES", 1).data) == b"\x02\0\0\0a\0"


@pytest.mark.parametrize("value", [np.array([1, None], dtype=object), np.array([["a"], 3], dtype=object)])
def test_objects_that_are_no_strings_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="expected bytes or str elements"):
        one({"x": value}, "BYTES", 2)
    with pytest.raises(InvalidInput, match="expected bytes or str elements"):
        tensors_from_inputs({"x": value}, CALL)


def test_numbers_for_bytes_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"expected bytes \(2,\), got int64 \(2,\). Give bytes or str elements."):
        one({"x": [1, 2]}, "BYTES", 2)


def test_a_dtype_that_triton_lacks_is_refused() -> None:
    with pytest.raises(InvalidInput, match="complex128"):
        tensors_from_inputs({"x": np.zeros(2, complex)}, CALL)


def test_unknown_outputs_are_refused() -> None:
    assert checked_outputs(SPEC, ["logits"], CALL) == ("logits",)
    with pytest.raises(InvalidInput, match='unknown output "logit"; did you mean "logits"'):
        checked_outputs(SPEC, ["logit"], CALL)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({}, "output logits: expected float32 (batch<=8, 4), got nothing"),
        ({"logits": np.zeros((1, 5), np.float32)}, "got float32 (1, 5)"),
        ({"logits": np.zeros((1, 4), np.float64)}, "got float64 (1, 4)"),
    ],
)
def test_a_reply_of_another_form_is_drift(outputs: dict[str, Any], text: str) -> None:
    reply = InferReply(model="resnet50", version="1", request_id="", outputs=outputs)
    with pytest.raises(SpecDrift) as caught:
        check_reply(SPEC, reply, (), CALL)
    (drift,) = caught.value.drifts
    assert drift.field == "output logits"
    assert text in str(drift)
    assert str(drift) in str(caught.value)


def test_only_requested_outputs_are_expected() -> None:
    two = dataclasses.replace(SPEC, outputs=(*SPEC.outputs, TensorSpec(name="other", datatype="FP32", dims=(1,))))
    reply = InferReply(model="m", version="1", request_id="", outputs={"logits": np.zeros((1, 4), np.float32)})
    check_reply(two, reply, ("logits",), CALL)
    with pytest.raises(SpecDrift, match="output other"):
        check_reply(two, reply, (), CALL)


class Foreign:
    """A tensor of another library: it can be read by DLPack alone."""

    def __init__(self, array: Any, device: int = 1) -> None:
        self._array = array
        self._device = device

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0


def test_tensors_of_other_libraries_are_read_where_they_lie() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    read = array_from_value("x", Foreign(array), CALL)
    np.testing.assert_array_equal(read, array)
    assert np.shares_memory(read, array)


def test_a_tensor_on_a_gpu_is_refused_without_cuda_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtraError("cuda.bindings.runtime", "cuda")

    monkeypatch.setattr("tritonforge_client.core.check.cuda_runtime", missing)
    expected = r"input x: expected an array, got Foreign: .* is not installed; run: pip install 'tritonforge\[cuda\]'"
    with pytest.raises(InvalidInput, match=expected):
        array_from_value("x", Foreign(np.zeros(3, np.float32), device=2), CALL)
