"""Our encoding against the messages that tritonclient generates from the protocol's own proto file."""

from contextlib import suppress
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tritonforge_client.core.call import Call
from tritonforge_client.core.check import tensors_from_inputs
from tritonforge_client.core.grpc_codec import buffers_from_request, reply_from_bytes, stream_reply_from_bytes
from tritonforge_client.core.proto import messages
from tritonforge_client.core.request import (
    InferRequest,
    InputTensor,
    PlacedTensor,
    Region,
    ReplyFormatError,
    RequestedOutput,
)
from tritonforge_client.datatypes import BY_DATATYPE

CALL = Call(endpoint="h:1", timeout_s=1.0)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NAMES = st.text(max_size=12)


def bytes_of(request: InferRequest) -> bytes:
    """The message as it arrives."""
    return b"".join(buffers_from_request(request))


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """An array of any datatype and shape, empty ones included."""
    shape = draw(SHAPES)
    datatype = draw(st.sampled_from(sorted(BY_DATATYPE)))
    count = int(np.prod(shape))
    if datatype == "BYTES":
        array = np.empty(count, dtype=np.object_)
        array[:] = draw(st.lists(st.binary(max_size=200), min_size=count, max_size=count))
        return array.reshape(shape)
    dtype = BY_DATATYPE[datatype].dtype
    if datatype == "BOOL":
        return draw(hnp.arrays(np.bool_, shape))
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


PARAMETERS = st.dictionaries(
    NAMES,
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20) | st.floats(allow_nan=False),
    max_size=1,  # protobuf writes the entries of a map in no fixed order
)


@given(
    inputs=st.dictionaries(NAMES, arrays(), max_size=3),
    texts=st.tuples(NAMES, NAMES, NAMES),
    outputs=st.lists(NAMES, max_size=3),
    parameters=PARAMETERS,
)
def test_requests_are_byte_for_byte_those_of_protobuf(
    inputs: dict[str, Any], texts: tuple[str, str, str], outputs: list[str], parameters: dict[str, Any]
) -> None:
    tensors = tensors_from_inputs(inputs, CALL)
    ours = bytes_of(
        InferRequest(
            model=texts[0],
            version=texts[1],
            request_id=texts[2],
            inputs=tensors,
            outputs=tuple(RequestedOutput(name) for name in outputs),
            parameters=parameters,
        )
    )
    theirs = messages().ModelInferRequest(model_name=texts[0], model_version=texts[1], id=texts[2])
    for tensor in tensors:
        theirs.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        theirs.raw_input_contents.append(bytes(tensor.data))
    for name in outputs:
        theirs.outputs.add(name=name)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(theirs.parameters[name], kind, value)
    assert ours == theirs.SerializeToString(deterministic=True)


@given(
    outputs=st.dictionaries(NAMES, arrays(), max_size=3), texts=st.tuples(NAMES, NAMES, NAMES), parameters=PARAMETERS
)
def test_replies_of_protobuf_are_read(
    outputs: dict[str, Any], texts: tuple[str, str, str], parameters: dict[str, Any]
) -> None:
    message = messages().ModelInferResponse(model_name=texts[0], model_version=texts[1], id=texts[2])
    for tensor in tensors_from_inputs(outputs, CALL):
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_output_contents.append(bytes(tensor.data))
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    reply = reply_from_bytes(message.SerializeToString())
    assert (reply.model, reply.version, reply.request_id) == texts
    assert reply.parameters == parameters
    for same in (reply, reply_from_bytes(message.SerializeToString())):  # whose head is known by then
        assert list(same.outputs) == list(outputs)
        for name, array in outputs.items():
            assert_same(same.outputs[name], array)


def assert_same(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert not got.flags.writeable
    if expected.dtype == np.object_:
        assert got.tolist() == expected.tolist()
    else:
        assert got.tobytes() == expected.tobytes()  # bit by bit, so that NaN payloads count too


def test_reply_tensors_are_views_of_the_reply() -> None:
    message = messages().ModelInferResponse()
    message.outputs.add(name="y", datatype="FP32", shape=[1000])
    message.raw_output_contents.append(np.arange(1000, dtype=np.float32).tobytes())
    data = message.SerializeToString()
    array = reply_from_bytes(data).outputs["y"]
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


TYPED = [
    ("BOOL", "bool_contents", [True, False]),
    ("INT8", "int_contents", [-128, 127]),
    ("INT16", "int_contents", [-1, 5]),
    ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
    ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("UINT8", "uint_contents", [0, 255]),
    ("UINT16", "uint_contents", [0, 65535]),
    ("UINT32", "uint_contents", [0, 2**32 - 1]),
    ("UINT64", "uint64_contents", [0, 2**64 - 1]),
    ("FP32", "fp32_contents", [1.5, float("inf")]),
    ("FP64", "fp64_contents", [-2.25, 1e300]),
    ("BYTES", "bytes_contents", [b"", b"ab\0"]),
]


@pytest.mark.parametrize(("datatype", "field", "values"), TYPED)
def test_typed_contents_are_read(datatype: str, field: str, values: list[Any]) -> None:
    message = messages().ModelInferResponse()
    output = message.outputs.add(name="y", datatype=datatype, shape=[2, 1])
    getattr(output.contents, field).extend(values)
    message.outputs.add(name="empty", datatype=datatype, shape=[0, 3])
    reply = reply_from_bytes(message.SerializeToString())
    assert reply.outputs["y"].dtype == BY_DATATYPE[datatype].dtype
    assert reply.outputs["y"].tolist() == [[value] for value in values]
    assert reply.outputs["empty"].shape == (0, 3)


@given(st.binary(max_size=64))
def test_damaged_replies_never_end_in_another_error(data: bytes) -> None:
    with suppress(ReplyFormatError):
        reply_from_bytes(data)


def whole_reply() -> bytes:
    message = messages().ModelInferResponse(model_name="m", model_version="1")
    message.outputs.add(name="y", datatype="FP32", shape=[2])
    message.raw_output_contents.append(np.ones(2, np.float32).tobytes())
    return bytes(message.SerializeToString())


def test_a_reply_cut_anywhere_never_gives_a_false_array() -> None:
    data = whole_reply()
    for end in range(len(data)):
        try:
            outputs = reply_from_bytes(data[:end]).outputs
        except ReplyFormatError:
            continue
        assert outputs == {}


@pytest.mark.parametrize(
    ("shape", "blobs", "text"),
    [
        ([3], [b"\0" * 8], "expected 12 bytes"),
        ([-1], [b""], "sizes of at least 0"),
        ([2], [b"\0" * 8, b"extra"], "raw contents for 1 outputs, got 2"),
        ([2], [], "expected 2 elements"),
    ],
)
def test_contradictions_are_errors(shape: list[int], blobs: list[bytes], text: str) -> None:
    message = messages().ModelInferResponse()
    message.outputs.add(name="y", datatype="FP32", shape=shape)
    message.raw_output_contents.extend(blobs)
    with pytest.raises(ReplyFormatError, match=text):
        reply_from_bytes(message.SerializeToString())


def test_unknown_datatypes_are_errors() -> None:
    message = messages().ModelInferResponse()
    message.outputs.add(name="y", datatype="FP8", shape=[0])
    with pytest.raises(ReplyFormatError, match="'FP8'"):
        reply_from_bytes(message.SerializeToString())


def test_bf16_is_that_of_ml_dtypes() -> None:
    (tensor,) = tensors_from_inputs({"x": np.array([1.5], ml_dtypes.bfloat16)}, CALL)
    assert (tensor.datatype, bytes(tensor.data)) == ("BF16", b"\xc0\x3f")


def test_what_lies_in_shared_memory_is_named_and_not_sent() -> None:
    region = Region("r", 16, offset=64)
    ours = bytes_of(
        InferRequest(
            model="m",
            inputs=(
                InputTensor("a", "FP32", (4,), memoryview(b""), region),
                InputTensor("b", "FP32", (1,), memoryview(b"1234")),
            ),
            outputs=(RequestedOutput("y", region=Region("out", 8)), RequestedOutput("z", class_count=3)),
        )
    )
    theirs = messages().ModelInferRequest(model_name="m")
    placed = theirs.inputs.add(name="a", datatype="FP32", shape=[4])
    placed.parameters["shared_memory_region"].string_param = "r"
    placed.parameters["shared_memory_byte_size"].int64_param = 16
    placed.parameters["shared_memory_offset"].int64_param = 64
    theirs.inputs.add(name="b", datatype="FP32", shape=[1])
    theirs.raw_input_contents.append(b"1234")
    output = theirs.outputs.add(name="y")
    output.parameters["shared_memory_region"].string_param = "out"
    output.parameters["shared_memory_byte_size"].int64_param = 8
    theirs.outputs.add(name="z").parameters["classification"].int64_param = 3
    assert messages().ModelInferRequest.FromString(ours) == theirs


def test_outputs_in_shared_memory_are_told_apart() -> None:
    message = messages().ModelInferResponse()
    placed = message.outputs.add(name="y", datatype="INT8", shape=[2, 3])
    placed.parameters["shared_memory_region"].string_param = "out"
    message.outputs.add(name="z", datatype="INT8", shape=[2])
    message.raw_output_contents.extend([b"", b"12"])
    reply = reply_from_bytes(message.SerializeToString())
    assert reply.placed == {"y": PlacedTensor("INT8", (2, 3))}
    assert {name: array.tolist() for name, array in reply.outputs.items()} == {"z": [49, 50]}


def test_replies_of_a_stream() -> None:
    message = messages().ModelStreamInferResponse()
    message.infer_response.model_name = "m"
    message.infer_response.outputs.add(name="y", datatype="INT8", shape=[2])
    message.infer_response.raw_output_contents.append(b"12")
    message.infer_response.parameters["triton_final_response"].bool_param = True
    error, reply = stream_reply_from_bytes(message.SerializeToString())
    assert (error, reply.model, reply.parameters) == ("", "m", {"triton_final_response": True})
    assert reply.outputs["y"].tolist() == [49, 50]
    failed = messages().ModelStreamInferResponse(error_message="no")
    assert stream_reply_from_bytes(failed.SerializeToString())[0] == "no"
    with pytest.raises(ReplyFormatError):
        stream_reply_from_bytes(message.SerializeToString()[:-1])


def test_a_known_head_does_not_hide_what_follows_it() -> None:
    message = messages().ModelInferResponse(model_name="known", model_version="1")
    message.outputs.add(name="y", datatype="INT8", shape=[2])
    message.raw_output_contents.append(b"12")
    data = message.SerializeToString()
    for _ in range(2):
        assert reply_from_bytes(data).outputs["y"].tolist() == [49, 50]
    # Protobuf allows a field to come late.
    late = data + b"\x1a\x01r"
    assert reply_from_bytes(late).request_id == "r"
    for damaged in (data[:-1], data + b"\x32\x00", data[: data.index(b"2\x02")]):
        with pytest.raises(ReplyFormatError):
            reply_from_bytes(damaged)
    first = reply_from_bytes(data)
    first.parameters["x"] = 1  # type: ignore[index]
    assert reply_from_bytes(data).parameters == {}
