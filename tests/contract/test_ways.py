"""The other ways to call a real Triton: streams, sequences, batches of any size, classes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tritonforge_client import (
    Classification,
    Client,
    DeadlineExceeded,
    InvalidInput,
    Options,
    ServerError,
    TritonError,
    Unimplemented,
)
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton


def times(count: int, pause_s: float = 0.0) -> dict[str, Any]:
    return {"count": np.array([count], np.int32), "pause_s": np.array([pause_s], np.float32)}


def number(value: int) -> dict[str, NDArray[np.int32]]:
    return {"x": np.array([[value]], np.int32)}


# ---- streams ----


@pytest.mark.parametrize("count", [0, 1, 100])
def test_a_decoupled_model_answers_as_often_as_it_likes(grpc_client: Client, count: int) -> None:
    model = grpc_client.bind(grpc_client.spec("repeat"))
    assert [int(answer["index"][0]) for answer in model.stream(times(count))] == list(range(count))


def test_answers_come_while_the_model_works(grpc_client: Client) -> None:
    model = grpc_client.bind(grpc_client.spec("repeat"))
    start = time.monotonic()
    arrivals_s = [time.monotonic() - start for _ in model.stream(times(4, pause_s=0.2))]
    assert arrivals_s[0] < 0.2
    assert arrivals_s[3] - arrivals_s[0] >= 0.5


def test_a_stream_that_fails_in_the_middle_gives_its_answers_and_the_error(grpc_client: Client) -> None:
    answers: list[dict[str, NDArray[Any]]] = []
    with pytest.raises(ServerError, match="the model failed in the middle") as caught:
        answers.extend(grpc_client.bind(grpc_client.spec("repeat")).stream(times(-3), request_id="r"))
    assert len(answers) == 3
    assert (caught.value.model, caught.value.request_id) == ("repeat", "r")


def test_a_stream_keeps_its_deadline(grpc_client: Client) -> None:
    model = grpc_client.bind(grpc_client.spec("repeat"), options=Options(timeout_s=0.5))
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        list(model.stream(times(100, pause_s=0.05)))
    assert 0.5 <= time.monotonic() - start < 0.7


def test_who_stops_listening_ends_the_request(grpc_client: Client) -> None:
    model = grpc_client.bind(grpc_client.spec("repeat"))
    answers: Iterator[Any] = model.stream(times(1000, pause_s=0.02))
    for answer in answers:
        if answer["index"][0] == 3:
            break
    answers.close()  # type: ignore[attr-defined]
    # The server still counts a request that runs: a thousand answers would take 20 s.
    deadline = time.monotonic() + 5
    while grpc_client.statistics("repeat")[0].inference_stats.success.count < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline


def test_a_stream_checks_its_inputs_at_once(grpc_client: Client) -> None:
    with pytest.raises(InvalidInput, match="expected int32"):
        grpc_client.bind(grpc_client.spec("repeat")).stream({"count": np.array([1.0])})


def test_a_model_that_is_not_decoupled_streams_its_one_answer(grpc_client: Client) -> None:
    model = grpc_client.bind(grpc_client.spec("labelled"))
    (answer,) = model.stream({"x": np.ones((1, 3), np.float32)})
    assert answer["y"].tolist() == [[1, 1, 1]]


def test_http_says_that_it_has_no_streams(server: EmbeddedTriton) -> None:
    with Client(server.http_url) as client, pytest.raises(Unimplemented, match="use a target grpc://host:port"):
        list(client.bind(client.spec("repeat")).stream(times(1)))


# ---- sequences ----


def test_a_sequence_has_a_state_of_its_own(client: Client) -> None:
    model = client.bind(client.spec("running_sum"))
    with model.sequence() as one, model.sequence(id=77) as other:
        sums = [int(one.infer(number(value))["sum"][0, 0]) for value in (1, 2, 3)]
        assert int(other.infer(number(10))["sum"][0, 0]) == 10
        sums.append(int(one.infer(number(4), end=True)["sum"][0, 0]))
        assert int(other.infer(number(5), end=True)["sum"][0, 0]) == 15
    assert sums == [1, 3, 6, 10]
    assert one.id != other.id == 77


def test_a_whole_sequence_ends_itself(client: Client) -> None:
    sequence = client.bind(client.spec("running_sum")).sequence()
    for _ in range(2):  # the same id begins again, which the server allows after an end only
        assert [int(outputs["sum"][0, 0]) for outputs in sequence.map(map(number, [5, 6, 7]))] == [5, 11, 18]
    assert list(sequence.map([])) == []


def test_a_sequence_without_its_end_is_warned_of(client: Client) -> None:
    model = client.bind(client.spec("running_sum"))
    with pytest.warns(ResourceWarning, match="was not ended"), model.sequence() as sequence:
        sequence.infer(number(1))
    sequence.infer(number(1), end=True)


# ---- batches of any size ----


def test_map_splits_batches_and_joins_them_again_in_order(client: Client) -> None:
    model = client.bind(client.spec("add_sub"))
    items = [
        {"a": np.full((rows, 4), rows, np.float32), "b": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)}
        for rows in (1, 8, 9, 100, 3)
    ]
    answers = list(model.map(iter(items), concurrency=3))
    assert [answer["sum"].shape for answer in answers] == [(rows, 4) for rows in (1, 8, 9, 100, 3)]
    for item, answer in zip(items, answers, strict=True):
        np.testing.assert_array_equal(answer["sum"], item["a"] + item["b"])


def test_map_takes_items_as_it_needs_them(client: Client) -> None:
    taken = []

    def items() -> Iterator[dict[str, NDArray[np.float32]]]:
        for index in range(1000):
            taken.append(index)
            yield {"x": np.full((1, 3), index, np.float32)}

    answers = client.bind(client.spec("labelled")).map(items(), concurrency=4)
    assert next(iter(answers))["y"][0, 0] == 0
    assert len(taken) <= 5
    answers.close()  # type: ignore[attr-defined]


def test_map_stops_at_the_item_that_fails(client: Client) -> None:
    good, bad = np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)
    answers: list[dict[str, NDArray[Any]]] = []
    with pytest.raises(TritonError, match="expected float32"):
        answers.extend(client.bind(client.spec("labelled")).map([{"x": good}, {"x": bad}, {"x": good}]))
    assert len(answers) <= 1


# ---- classes ----


def test_classes_come_with_labels_largest_first(client: Client) -> None:
    scores = np.array([[0.1, 0.7, 0.2], [3, 1, 2]], np.float32)
    model = client.bind(client.spec("labelled"))
    rows = model.classify({"x": scores}, output="y", count=2)
    assert [[(one.index, one.label) for one in row] for row in rows] == [
        [(1, "dog"), (2, "bird")],
        [(0, "cat"), (2, "bird")],
    ]
    assert rows[0][0] == Classification(index=1, value=pytest.approx(0.7), label="dog")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="count"):
        model.classify({"x": scores}, output="y", count=0)
    with pytest.raises(InvalidInput, match='unknown output "z"'):
        model.classify({"x": scores}, output="z")
