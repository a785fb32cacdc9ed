import json
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from client.test_grpc_codec import arrays, assert_same
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import np_to_triton_dtype

from tritonforge_client.core.call import Call
from tritonforge_client.core.check import tensors_from_inputs
from tritonforge_client.core.http_codec import error_text_from_body, head_from_request, reply_from_body
from tritonforge_client.core.request import (
    InferRequest,
    InputTensor,
    PlacedTensor,
    Region,
    ReplyFormatError,
    RequestedOutput,
)

CALL = Call(endpoint="h:1", timeout_s=1.0)


def body_from_outputs(outputs: dict[str, Any]) -> tuple[bytes, str]:
    """A reply as Triton writes it."""
    tensors = tensors_from_inputs(outputs, CALL)
    entries = [
        {"name": t.name, "datatype": t.datatype, "shape": t.shape, "parameters": {"binary_data_size": len(t.data)}}
        for t in tensors
    ]
    head = json.dumps({"model_name": "m", "model_version": "3", "id": "r", "outputs": entries}).encode()
    return head + b"".join(t.data for t in tensors), str(len(head))


@given(st.dictionaries(st.text(max_size=12), arrays(), max_size=3))
def test_binary_replies_are_read(outputs: dict[str, Any]) -> None:
    reply = reply_from_body(*body_from_outputs(outputs))
    assert (reply.model, reply.version, reply.request_id) == ("m", "3", "r")
    for name, array in outputs.items():
        assert_same(reply.outputs[name], array)


@given(st.dictionaries(st.text(min_size=1, max_size=12), arrays(), min_size=1, max_size=3))
def test_requests_say_what_tritonclient_says(inputs: dict[str, Any]) -> None:
    tensors = tensors_from_inputs(inputs, CALL)
    ours = json.loads(
        head_from_request(InferRequest(model="m", inputs=tensors, request_id="r", outputs=(RequestedOutput("y"),)))
    )
    theirs_inputs = []
    for name, array in inputs.items():
        tensor = tritonclient.http.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        theirs_inputs.append(tensor)
    body, head_length = tritonclient.http.InferenceServerClient.generate_request_body(
        theirs_inputs, [tritonclient.http.InferRequestedOutput("y")], request_id="r"
    )
    theirs = json.loads(body[:head_length])
    assert (ours["id"], ours["inputs"], ours["outputs"]) == (theirs["id"], theirs["inputs"], theirs["outputs"])
    assert b"".join(tensor.data for tensor in tensors) == (body[head_length:] if head_length else b"")


def test_parameters_are_sent() -> None:
    head = json.loads(head_from_request(InferRequest(model="m", inputs=(), parameters={"timeout": 5})))
    assert head == {"parameters": {"timeout": 5, "binary_data_output": True}, "inputs": []}


def test_tensors_in_json_are_read() -> None:
    outputs = [
        {"name": "a", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4.5]]},
        {"name": "b", "datatype": "BYTES", "shape": [2], "data": ["x", "\u00e9"]},
        {"name": "c", "datatype": "INT8", "shape": [0], "data": []},
        {"name": "d", "datatype": "BOOL", "shape": [1], "data": [True]},
    ]
    reply = reply_from_body(json.dumps({"outputs": outputs}).encode(), None)
    assert reply.outputs["a"].tolist() == [[1, 2], [3, 4.5]]
    assert reply.outputs["a"].dtype == np.float32
    assert reply.outputs["b"].tolist() == [b"x", "\u00e9".encode()]
    assert reply.outputs["c"].shape == (0,)
    assert reply.outputs["d"].tolist() == [True]


def test_reply_tensors_are_views_of_the_body() -> None:
    body, head_length = body_from_outputs({"y": np.arange(1000, dtype=np.float32)})
    assert np.shares_memory(reply_from_body(body, head_length).outputs["y"], np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    ("body", "head_length", "text"),
    [
        (b"not json", None, "expected JSON"),
        (b"[]", None, "expected a JSON object"),
        (b"{}", "3", "number of at most 2 bytes"),
        (b"{}", "x", "number of at most 2 bytes"),
        (b"{}extra", "2", "end at byte 2, its body at 7"),
        (b'{"outputs": [{}]}', None, "another form"),
        (b'{"outputs": [{"name":"a","datatype":"FP32","shape":["x"]}]}', None, "another form"),
        (b'{"outputs": 3}', None, "another form"),
        (b'{"outputs": [{"name":"a","datatype":"INT8","shape":[1],"data":[300]}]}', None, "INT8 elements"),
        (b'{"outputs": [{"name":"a","datatype":"INT8","shape":[1],"data":[1.5]}]}', None, "INT8 elements"),
        (b'{"outputs": [{"name":"a","datatype":"BYTES","shape":[1],"data":[1]}]}', None, "BYTES elements"),
        (
            b'{"outputs": [{"name":"a","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}',
            None,
            "4 bytes",
        ),
    ],
)
def test_damaged_replies_are_errors(body: bytes, head_length: str | None, text: str) -> None:
    with pytest.raises(ReplyFormatError, match=text):
        reply_from_body(body, head_length)


def test_a_known_head_does_not_hide_what_follows_it() -> None:
    output = {"name": "y", "datatype": "INT32", "shape": [2], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"model_name": "known", "parameters": {"a": 1}, "outputs": [output]}).encode()
    for values in ([1, 2], [3, 4], [5, 6]):
        reply = reply_from_body(head + np.array(values, np.int32).tobytes(), str(len(head)))
        assert reply.outputs["y"].tolist() == values
        assert reply.parameters == {"a": 1}
        reply.parameters["a"] = 2  # type: ignore[index]  # what a caller does with one reply is not in the next
    for damaged in (head, head + bytes(4), head + bytes(12)):
        with pytest.raises(ReplyFormatError):
            reply_from_body(damaged, str(len(head)))


def test_equal_numbers_of_another_type_are_not_taken_for_each_other() -> None:
    tensors = (InputTensor("x", "FP32", (1,), memoryview(bytes(4))),)
    for value in (True, 1, 1.0, "1"):
        head = json.loads(head_from_request(InferRequest(model="m", inputs=tensors, parameters={"flag": value})))
        assert type(head["parameters"]["flag"]) is type(value)


def test_error_texts() -> None:
    assert error_text_from_body(b'{"error":"boom"}') == "boom"
    assert error_text_from_body(b"<html>gateway</html>") == "<html>gateway</html>"
    assert error_text_from_body(b"") == ""


def test_what_lies_in_shared_memory_is_named_and_not_sent() -> None:
    request = InferRequest(
        model="m",
        inputs=(InputTensor("a", "FP32", (4,), memoryview(b""), Region("r", 16, offset=64)),),
        outputs=(RequestedOutput("y", region=Region("out", 8)), RequestedOutput("z", class_count=3)),
    )
    placed = tritonclient.http.InferInput("a", [4], "FP32")
    placed.set_shared_memory("r", 16, 64)
    outputs = [tritonclient.http.InferRequestedOutput("y"), tritonclient.http.InferRequestedOutput("z", class_count=3)]
    outputs[0].set_shared_memory("out", 8)
    body, head_length = tritonclient.http.InferenceServerClient.generate_request_body([placed], outputs)
    ours, theirs = json.loads(head_from_request(request)), json.loads(body[:head_length])
    assert (ours["inputs"], ours["outputs"]) == (theirs["inputs"], theirs["outputs"])


def test_outputs_in_shared_memory_are_told_apart() -> None:
    outputs = [
        {
            "name": "y",
            "datatype": "INT8",
            "shape": [2, 3],
            "parameters": {"shared_memory_region": "out", "shared_memory_byte_size": 6},
        },
        {"name": "z", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
    ]
    head = json.dumps({"outputs": outputs}).encode()
    reply = reply_from_body(head + b"12", str(len(head)))
    assert reply.placed == {"y": PlacedTensor("INT8", (2, 3))}
    assert {name: array.tolist() for name, array in reply.outputs.items()} == {"z": [49, 50]}
