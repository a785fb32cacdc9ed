"""A fake server below the real clients: what it answers, what it refuses, how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from contract.models import write_models
from support.fakes import AT_ONCE, COUNTER, DIGITS, IMAGES, NEVER, SUM, Fake, digits_answer, made

from tritonforge_client import (
    Client,
    InvalidInput,
    ModelNotFound,
    ModelSpec,
    Options,
    QueueFull,
    ServerError,
    SpecDrift,
    TensorSpec,
    TritonError,
    Unimplemented,
    model_spec_from_config,
)
from tritonforge_client.core.call import Call
from tritonforge_client.core.request import InferRequest, InputTensor, Region
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_client.testing import Arrays, FakeTransport
from tritonforge_generator.deploy import EmbeddedTriton

# ---- answers ----


def test_zeros_have_the_types_and_shapes_of_the_spec_and_the_batch_of_the_request(pair: tuple[Client, Fake]) -> None:
    client, _ = pair
    outputs = client.bind(DIGITS).infer(IMAGES)
    assert outputs["scores"].dtype == np.float32
    assert outputs["scores"].tolist() == [[0, 0, 0], [0, 0, 0]]
    # A dimension that the spec leaves open has size 1.
    assert outputs["words"].tolist() == [[b""], [b""]]


@pytest.mark.parametrize("datatype", BY_DATATYPE)
def test_zeros_of_every_datatype_pass_the_checks_of_the_client(datatype: str) -> None:
    if datatype == "BF16":
        pytest.importorskip("ml_dtypes")
    tensors = tuple(TensorSpec(name=name, datatype=datatype, dims=(2, 3)) for name in "xy")
    spec = ModelSpec(name="m", inputs=tensors[:1], outputs=tensors[1:])
    dtype = BY_DATATYPE[datatype].dtype
    sent = np.full((2, 3), b"a" if datatype == "BYTES" else 1, dtype)
    fake = FakeTransport(spec)
    zeros = Client("fake", transport=fake).bind(spec).infer({"x": sent})["y"]
    assert (zeros.dtype, zeros.shape) == (dtype, (2, 3))
    assert not zeros.any()
    assert fake.requests[0].inputs["x"].dtype == dtype
    assert np.array_equal(fake.requests[0].inputs["x"], sent)


def test_a_function_answers_from_the_inputs(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.add(DIGITS, digits_answer)
    reply = client.bind(DIGITS).infer_with_reply(IMAGES, request_id="r-1")
    assert reply.value["scores"].tolist() == [[1, 2, 3], [3, 4, 7]]
    assert reply.value["words"].tolist() == [[b"3.0"], [b"7.0"]]
    assert (reply.request_id, reply.model_version, reply.endpoint, reply.attempts) == ("r-1", "1", "fake", 1)
    assert client.infer("digits", IMAGES, outputs=["scores"]).value.keys() == {"scores"}
    with pytest.raises(ValueError, match="read-only"):
        reply.value["scores"][0, 0] = 9
    writable = client.bind(DIGITS, options=Options(writable=True)).infer(IMAGES)
    writable["scores"][0, 0] = 9


def test_a_recorded_row_stands_for_every_row_and_a_recorded_batch_for_itself(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    scores, words = np.array([[1, 2, 3]], np.float32), np.array([[b"a"]], np.object_)
    fake.add(DIGITS, {"scores": scores, "words": words})
    recorded = client.bind(DIGITS).infer(IMAGES)
    scores[:] = 0
    assert recorded["scores"].tolist() == [[1, 2, 3], [1, 2, 3]]
    fake.add(DIGITS, {"scores": np.ones((3, 3), np.float32), "words": words})
    with pytest.raises(SpecDrift, match="output scores: expected the 2 rows of the request, got 3"):
        client.bind(DIGITS).infer(IMAGES)


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (
            lambda inputs: {**digits_answer(inputs), "scores": np.zeros((2, 3))},
            r"expected float32 .*, got float64 \(2, 3\)",
        ),
        (lambda inputs: {**digits_answer(inputs), "scores": np.zeros((2, 4), np.float32)}, r"got float32 \(2, 4\)"),
        (lambda inputs: {**digits_answer(inputs), "scores": np.zeros((1, 3), np.float32)}, "expected the 2 rows"),
        (lambda inputs: {**digits_answer(inputs), "other": np.zeros(1)}, "the spec has no output other"),
        (lambda inputs: {"scores": digits_answer(inputs)["scores"]}, "output words: .*, got nothing"),
        (
            lambda inputs: {**digits_answer(inputs), "words": np.array([[1], [2]], np.object_)},
            "output words: .* got int",
        ),
        (lambda inputs: {**digits_answer(inputs), "scores": np.zeros(1, np.complex64)}, "output scores: .*complex64"),
        (lambda _: None, "expected a mapping of outputs, got NoneType"),
    ],
)
def test_a_fake_cannot_lie(pair: tuple[Client, Fake], lie: Any, why: str) -> None:
    client, fake = pair
    fake.add(DIGITS, lie)
    # Not even to a client that knows no spec.
    for call in (client.bind(DIGITS).infer, lambda inputs: client.infer("digits", inputs)):
        with pytest.raises(SpecDrift, match=why) as caught:
            call(IMAGES)
        assert "Mend the answer that was given to add()" in str(caught.value)
        assert [str(drift) in str(caught.value) for drift in caught.value.drifts] == [True]


def test_text_outputs_come_as_a_server_sends_them(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.add(DIGITS, lambda inputs: {**digits_answer(inputs), "words": np.array([["ä"], ["b"]])})
    words = client.bind(DIGITS).infer(IMAGES)["words"]
    assert words.dtype == object
    assert words.tolist() == [["ä".encode()], [b"b"]]


def test_what_a_function_raises_reaches_the_caller(pair: tuple[Client, Fake]) -> None:
    client, fake = pair

    def raising(error: Exception) -> Any:
        def fails(_: Arrays) -> Arrays:
            raise error

        return fails

    for error in (AssertionError("the test's own"), ServerError("the model failed")):
        fake.add(DIGITS, raising(error))
        with pytest.raises(type(error)) as caught:
            client.bind(DIGITS).infer(IMAGES)
        assert caught.value is error


def test_classes_are_chosen_from_the_answer(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    scores = np.array([[0.5, 0.75, 0.5], [1, 2, 3]], np.float32)
    fake.add(DIGITS, {"scores": scores, "words": np.array([[b""]], np.object_)})
    rows = client.bind(DIGITS).classify(IMAGES, output="scores", count=2)
    assert [[(one.index, one.value) for one in row] for row in rows] == [[(1, 0.75), (0, 0.5)], [(2, 3), (1, 2)]]


def test_decoupled_models_answer_as_often_as_their_function_does(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    given: list[int] = []

    def count(inputs: Arrays) -> Iterator[Arrays]:
        for index in range(int(inputs["count"][0])):
            given.append(index)
            yield {"index": np.array([index], np.int32)}

    fake.add(COUNTER, count)
    model = client.bind(COUNTER)

    def indices(times: int) -> list[int]:
        return [int(one["index"][0]) for one in model.stream({"count": np.array([times], np.int32)})]

    assert indices(3) == [0, 1, 2]
    assert indices(0) == []
    given.clear()
    stream = cast("Any", model.stream({"count": np.array([1000], np.int32)}))
    assert next(stream)["index"].tolist() == [0]
    stream.close()
    assert len(given) <= 2, "an answer that nobody waits for is not made"
    fake.add(COUNTER, [{"index": np.array([7], np.int32)}, {"index": np.array([8], np.int32)}])
    assert indices(1) == [7, 8]


def test_an_answer_of_the_wrong_kind_is_refused(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    one = {"index": np.zeros(1, np.int32)}
    with pytest.raises(InvalidInput, match="a list of answers, as the model is decoupled, got dict"):
        fake.add(COUNTER, one)
    with pytest.raises(InvalidInput, match="one mapping of outputs, got list"):
        fake.add(DIGITS, [one])
    fake.add(COUNTER, lambda _: one)
    with pytest.raises(SpecDrift, match="expected several answers, as the model is decoupled, got dict"):
        list(client.bind(COUNTER).stream({"count": np.array([1], np.int32)}))


def test_sequences_and_streams_of_other_models_are_answered(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.add(SUM, lambda inputs: {"total": inputs["x"] * 2})
    steps = [{"x": np.array([x], np.int32)} for x in (1, 2)]
    assert [one["total"].tolist() for one in client.bind(SUM).sequence(id=5).map(steps)] == [[2], [4]]
    sent = [request.parameters for request in fake.requests]
    assert [(one["sequence_id"], one["sequence_start"], one["sequence_end"]) for one in sent] == [
        (5, True, False),
        (5, False, True),
    ]
    assert len(list(client.bind(DIGITS).stream(IMAGES))) == 1


def test_map_runs_over_a_fake(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.add(DIGITS, digits_answer)
    items = [{"images": np.full((20, 2), value, np.float32)} for value in range(3)]
    assert [one["scores"][:, 2].tolist() for one in client.bind(DIGITS).map(items)] == [[0] * 20, [2] * 20, [4] * 20]
    assert max(len(request.inputs["images"]) for request in fake.requests) == DIGITS.max_batch_size


# ---- what is recorded ----


def test_requests_are_recorded_as_they_were_sent(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    images = IMAGES["images"].copy()
    options = Options(timeout_s=5, headers={"X-Trace": "1"}, priority=2, parameters={"seed": 7})
    client.bind(DIGITS).infer({"images": images}, outputs=["scores"], options=options, request_id="r-1")
    images[:] = 0
    (request,) = fake.requests
    assert request.inputs["images"].tolist() == [[1, 2], [3, 4]]
    assert (request.model, request.version, request.outputs, request.attempt) == ("digits", "", ("scores",), 1)
    assert (request.headers, request.request_id) == ({"x-trace": "1"}, "r-1")
    assert request.parameters == {"seed": 7, "priority": 2}
    assert 4 < request.remaining_s < 5


def test_every_attempt_is_recorded_and_administration_apart(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.fail("connection", operation="infer")
    client.bind(client.spec("digits"), options=Options(retry=AT_ONCE)).infer(IMAGES)
    assert [request.attempt for request in fake.requests] == [1, 2]
    client.load_model("digits", config={"backend": "x"}, files={"1/m": b"m"})
    assert [question.operation for question in fake.questions] == ["model_config", "load_model"]
    assert fake.questions[1].arguments == {"model": "digits", "config": '{"backend": "x"}', "files": {"1/m": b"m"}}


# ---- administration ----


@pytest.mark.parametrize(
    "spec",
    [DIGITS, COUNTER, SUM, replace(DIGITS, queue_timeout_us=10), replace(DIGITS, version="3")],
    ids=["plain", "decoupled", "sequence", "queue", "version"],
)
def test_a_spec_is_read_back_as_it_was_given(kind: str, spec: ModelSpec) -> None:
    optional = TensorSpec(name="mask", datatype="BOOL", dims=(-1,), optional=True)
    spec = replace(spec, inputs=(*spec.inputs, optional))
    client, _ = made(kind, spec)
    with client:
        client.check(spec)
        assert replace(client.spec(spec.name, version=spec.version), digest="") == spec
        with pytest.raises(SpecDrift, match="max_batch_size"):
            client.check(replace(spec, max_batch_size=99))


def test_a_config_says_what_the_spec_says(pair: tuple[Client, Fake]) -> None:
    config = pair[0].config("digits", version="1")
    assert config["input"] == [{"name": "images", "data_type": "TYPE_FP32", "dims": [2], "optional": False}]
    assert model_spec_from_config(config) == pair[0].spec("digits")
    with pytest.raises(ModelNotFound):
        pair[0].config("nobody")


def test_models_are_unloaded_and_loaded(pair: tuple[Client, Fake]) -> None:
    client, _ = pair
    client.infer("digits", IMAGES)
    client.wait_ready("digits", timeout_s=1)
    client.unload_model("digits")
    assert (client.ready(), client.ready("digits"), client.ready("nosuch")) == (True, False, False)
    for ask in (client.spec, client.statistics, lambda model: client.infer(model, IMAGES)):
        with pytest.raises(ModelNotFound):
            ask("digits")
    states = {one.name: one.state for one in client.repository_index()}
    assert states == {"digits": "UNAVAILABLE", "counter": "READY", "sum": "READY"}
    assert {one.name for one in client.repository_index(ready=True)} == {"counter", "sum"}
    client.load_model("digits")
    assert client.ready("digits")
    assert client.statistics("digits")[0].inference_stats.success.count == 0


def test_statistics_count_what_was_asked(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    for rows in (1, 1, 2):
        client.infer("digits", {"images": IMAGES["images"][:rows]})
    for error in (QueueFull("full"), "internal"):
        fake.fail(cast("Any", error))
        with pytest.raises(TritonError):
            client.infer("digits", IMAGES, options=NEVER)
    with pytest.raises(InvalidInput):
        client.infer("digits", {"images": np.zeros((1, 3), np.float32)})
    list(client.bind(DIGITS).stream({"images": IMAGES["images"][:1]}))
    (entry,) = client.statistics("digits")
    assert (entry.inference_count, entry.execution_count) == (5, 4)
    assert (entry.inference_stats.success.count, entry.inference_stats.fail.count) == (4, 3)
    assert [(one.batch_size, one.compute_infer.count) for one in entry.batch_stats] == [(1, 3), (2, 1)]
    assert entry.last_inference > 0
    assert {one.name for one in client.statistics()} == {"digits", "counter", "sum"}


def test_what_a_fake_does_not_have_says_so(pair: tuple[Client, Fake]) -> None:
    client, _ = pair
    assert client.server_metadata().name == "fake"
    for ask in (client.trace_settings, client.log_settings):
        with pytest.raises(Unimplemented, match=r"a fake server has no (trace|log)_settings"):
            ask()
    tensor = InputTensor("images", "FP32", (1, 2), memoryview(b""), Region("r", 8))
    request = InferRequest(model="digits", inputs=(tensor,))
    with pytest.raises(Unimplemented, match="no shared memory"):
        FakeTransport(DIGITS).send(request, Call(endpoint="fake", timeout_s=1, model="digits"))


def test_shared_memory_is_not_there_so_that_auto_takes_the_wire(kind: str) -> None:
    spec = replace(DIGITS, inputs=(replace(DIGITS.inputs[0], dims=(-1,)),))
    client, fake = made(kind, spec, options=Options(shared_memory="auto"))
    images = {"images": np.ones((1, 1 << 16), np.float32)}
    with client, pytest.warns(RuntimeWarning, match="a fake server has no register_system_shared_memory"):
        client.bind(spec).infer(images)
    assert fake.requests[0].inputs["images"].shape == (1, 1 << 16)


# ---- the same as a real server ----


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("fakes") / "models"
    repository.mkdir()
    write_models(repository)
    models = ["add_sub", "repeat", "running_sum", "labelled", "odd_names"]
    with EmbeddedTriton(repository, model_control_mode="explicit", load_models=models) as running:
        yield running


def add_sub(inputs: Arrays) -> Arrays:
    return {"sum": inputs["a"] + inputs["b"], "difference": inputs["a"] - inputs["b"]}


def repeat(inputs: Arrays) -> Iterator[Arrays]:
    for index in range(int(inputs["count"][0])):
        yield {"index": np.array([index], np.int32)}


def odd_names(inputs: Arrays) -> Arrays:
    upper = np.array([[row[0].upper()] for row in inputs["class"]], np.object_)
    return {"out/sum": inputs["input:0"] + inputs.get("options", np.int64(0)), "class": upper}


ANSWERS: dict[str, Any] = {
    "add_sub": add_sub,
    "repeat": repeat,
    "running_sum": lambda inputs: {"sum": inputs["x"]},
    "labelled": lambda inputs: {"y": inputs["x"]},
    "odd_names": odd_names,
}
A = np.ones((1, 4), np.float32)
ODD = {"input:0": np.array([[1, 2]], np.int64), "class": ["ab"]}
SCENARIOS: dict[str, Any] = {
    "infer": lambda c: c.infer("add_sub", {"a": A, "b": A}).value,
    "one output": lambda c: c.infer("add_sub", {"a": A, "b": A}, outputs=["difference"]).value,
    "version": lambda c: c.infer("add_sub", {"a": A, "b": A}, request_id="r").model_version,
    "texts": lambda c: c.bind(c.spec("odd_names")).infer({**ODD, "class": [["ab"]]}),
    "optional": lambda c: c.bind(c.spec("odd_names")).infer({**ODD, "class": [["b"]], "options": ODD["input:0"]}),
    "classes": lambda c: [
        [(one.index, one.value) for one in row]
        for row in c.bind(c.spec("labelled")).classify(
            {"x": np.array([[0.5, 0.25, 0.75]], np.float32)}, output="y", count=5
        )
    ],
    "stream": lambda c: list(c.bind(c.spec("repeat")).stream({"count": np.array([3], np.int32)})),
    "empty stream": lambda c: list(c.bind(c.spec("repeat")).stream({"count": np.array([0], np.int32)})),
    "stream of one": lambda c: list(c.bind(c.spec("add_sub")).stream({"a": A, "b": A})),
    "sequence": lambda c: list(c.bind(c.spec("running_sum")).sequence().map([{"x": np.array([[4]], np.int32)}])),
    "specs": lambda c: [c.spec(model) for model in ANSWERS],
    "ready": lambda c: [c.ready(model) for model in (None, "add_sub", "nosuch")],
    "unknown model": lambda c: c.infer("nosuch", {"a": A}),
    "unknown spec": lambda c: c.spec("nosuch"),
    "unknown version": lambda c: c.spec("add_sub", version="7"),
    "unknown statistics": lambda c: c.statistics("nosuch"),
    "unknown load": lambda c: c.load_model("nosuch"),
    "unknown unload": lambda c: c.unload_model("nosuch"),
    "missing input": lambda c: c.infer("add_sub", {"a": A}),
    "unknown input": lambda c: c.infer("add_sub", {"a": A, "b": A, "c": A}),
    "wrong type": lambda c: c.infer("add_sub", {"a": A, "b": A.astype(np.int64)}),
    "wrong shape": lambda c: c.infer("add_sub", {"a": A[:, :3], "b": A}),
    "large batch": lambda c: c.infer("add_sub", {"a": A.repeat(9, 0), "b": A.repeat(9, 0)}),
    "unknown output": lambda c: c.infer("add_sub", {"a": A, "b": A}, outputs=["nosuch"]),
    "decoupled": lambda c: c.infer("repeat", {"count": np.array([1], np.int32)}),
    "no sequence": lambda c: c.infer("running_sum", {"x": np.array([[1]], np.int32)}),
    "statistics": lambda c: [
        (one.version, one.inference_count, one.inference_stats.success.count, one.inference_stats.fail.count > 0)
        for one in c.statistics("odd_names")
    ],
}


@pytest.mark.triton
def test_a_fake_answers_and_refuses_as_a_real_server_does(server: EmbeddedTriton) -> None:
    with Client(server.grpc_url) as real:
        fake = FakeTransport()
        for model, function in ANSWERS.items():
            fake.add(real.spec(model), function)
        pretended = Client("fake", transport=fake)
        expected = {name: outcome(scenario, real) for name, scenario in SCENARIOS.items()}
        assert {name: outcome(scenario, pretended) for name, scenario in SCENARIOS.items()} == expected


def outcome(scenario: Any, client: Client) -> str:
    """A value as a text, an error as its class."""
    try:
        return repr(scenario(client))
    except TritonError as error:
        return type(error).__name__
