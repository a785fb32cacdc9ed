"""A fake server below the real clients: how it fails, and when."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, get_args

import numpy as np
import pytest
from support.fakes import AT_ONCE, DIGITS, IMAGES, NEVER, SUM, Fake, digits_answer, made

from tritonforge_client import (
    AsyncClient,
    BreakerOpen,
    BreakerPolicy,
    Cancelled,
    Client,
    Code,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    Options,
    QueueFull,
    ServerError,
    TritonError,
)
from tritonforge_client.testing import Arrays, AsyncFakeTransport, FakeTransport

# ---- faults ----


def test_every_code_can_be_asked_for(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    for code in get_args(Code):
        fake.fail(code)
        with pytest.raises(TritonError) as caught:
            client.infer("digits", IMAGES, options=NEVER, request_id="r-1")
        error = caught.value
        assert error.code == code
        assert (error.model, error.endpoint, error.request_id, error.attempts) == ("digits", "fake", "r-1", 1)
        assert error.elapsed_s is not None


def test_an_error_of_the_test_gets_the_facts_of_each_call(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    cause = OSError("cable")
    error = ConnectionFailed("no route", server_message="words")
    error.__cause__ = cause
    fake.fail(error, times=2)
    for request_id in ("r-1", "r-2"):
        with pytest.raises(ConnectionFailed, match="no route") as caught:
            client.infer("digits", IMAGES, options=NEVER, request_id=request_id)
        assert (caught.value.request_id, caught.value.server_message) == (request_id, "words")
        assert caught.value.__cause__ is cause
    assert error.request_id is None
    fake.fail(KeyError("a bug"))
    with pytest.raises(KeyError, match="a bug"):
        client.infer("digits", IMAGES)


def test_the_client_retries_as_often_as_its_policy_says(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    model = client.bind(DIGITS, options=Options(retry=AT_ONCE))
    fake.fail("queue_full", times=2)
    assert model.infer_with_reply(IMAGES).attempts == 3
    fake.fail("queue_full", times=3)
    with pytest.raises(QueueFull) as caught:
        model.infer(IMAGES)
    assert caught.value.attempts == 3
    # What is not retryable is sent once.
    fake.requests.clear()
    fake.fail("internal")
    with pytest.raises(ServerError):
        model.infer(IMAGES)
    assert len(fake.requests) == 1


def test_a_breaker_opens_over_a_fake_that_fails_and_closes_when_it_is_healed(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    policy = BreakerPolicy(min_calls=3, open_s=0.05)
    model = client.bind(DIGITS, options=Options(retry=None, breaker=policy))
    fake.fail("connection", times=None)
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            model.infer(IMAGES)
    with pytest.raises(BreakerOpen):
        model.infer(IMAGES)
    assert len(fake.requests) == 3
    assert client.ready() is False
    fake.heal()
    time.sleep(0.06)
    assert client.ready() is True
    model.infer(IMAGES)


def test_faults_concern_the_model_and_the_operation_that_they_name(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.fail("queue_full", model="sum")
    fake.fail("not_ready", operation="model_ready")
    client.infer("digits", IMAGES, options=NEVER)
    assert client.ready()
    assert not client.ready("digits")
    assert client.ready("digits")
    with pytest.raises(QueueFull):
        client.bind(SUM, options=NEVER).sequence().infer({"x": np.zeros(1, np.int32)})


def test_counted_faults_come_in_order_before_lasting_ones(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.fail("connection", times=None)
    fake.fail("queue_full")
    fake.fail("not_ready", times=2)
    codes = []
    for _ in range(5):
        with pytest.raises(TritonError) as caught:
            client.infer("digits", IMAGES, options=NEVER)
        codes.append(caught.value.code)
    assert codes == ["queue_full", "not_ready", "not_ready", "connection", "connection"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"error": "queue_ful"}, "error"),
        ({"error": "internal", "after_s": -1.0}, "seconds"),
        ({"error": "internal", "after_s": float("nan")}, "seconds"),
        ({"error": "internal", "times": 0}, "times"),
        ({"error": "internal", "operation": "inference"}, "operation"),
    ],
)
def test_faults_that_mean_nothing_are_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match="expected") as caught:
        FakeTransport().fail(**values)
    assert caught.value.field == field


# ---- time ----


def test_a_late_answer_is_late_and_one_past_the_deadline_ends_there(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.delay(0.1)
    assert client.infer("digits", IMAGES).elapsed_s >= 0.1
    fake.delay(5.0)
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"timeout_s=0.15 passed") as caught:
        client.infer("digits", IMAGES, options=Options(timeout_s=0.15))
    assert 0.15 <= time.monotonic() - began_s < 0.6
    assert (caught.value.elapsed_s or 0) >= 0.15
    fake.delay(5.0)
    with pytest.raises(DeadlineExceeded):
        list(client.bind(DIGITS).stream(IMAGES, options=Options(timeout_s=0.05)))


def test_an_error_comes_when_it_is_told_to(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.fail("connection", after_s=0.1)
    with pytest.raises(ConnectionFailed) as caught:
        client.infer("digits", IMAGES, options=NEVER)
    assert 0.1 <= (caught.value.elapsed_s or 0) < 0.6
    fake.fail("connection", after_s=5)
    with pytest.raises(DeadlineExceeded):
        client.infer("digits", IMAGES, options=Options(timeout_s=0.05))


def test_a_function_that_takes_too_long_ends_in_a_deadline(pair: tuple[Client, Fake]) -> None:
    client, fake = pair

    def slow(inputs: Arrays) -> Arrays:
        time.sleep(0.1)
        return digits_answer(inputs)

    fake.add(DIGITS, slow)
    with pytest.raises(DeadlineExceeded):
        client.infer("digits", IMAGES, options=Options(timeout_s=0.05))


def test_pretended_time_counts_towards_the_deadline_of_all_attempts() -> None:
    pauses: list[float] = []
    fake = FakeTransport(DIGITS, sleep=pauses.append)
    client = Client("fake", transport=fake, options=Options(timeout_s=100, retry=AT_ONCE))
    began_s = time.monotonic()
    fake.fail("connection", after_s=60, times=2)
    with pytest.raises(DeadlineExceeded) as caught:
        client.infer("digits", IMAGES)
    assert time.monotonic() - began_s < 1
    assert pauses == [60, pytest.approx(40, abs=0.5)]
    assert [request.remaining_s for request in fake.requests] == pytest.approx([100, 40], abs=0.5)
    assert caught.value.elapsed_s == pytest.approx(100, abs=0.5)
    # The next call has all its time.
    client.infer("digits", IMAGES)
    assert fake.requests[-1].remaining_s == pytest.approx(100, abs=0.5)


def test_asynchronous_time_can_be_pretended_too() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def scenario() -> None:
        fake = AsyncFakeTransport(DIGITS, sleep=sleep)
        async with AsyncClient("fake", transport=fake) as client:
            fake.delay(20.0)
            await client.infer("digits", IMAGES)
            fake.delay(50.0)
            with pytest.raises(DeadlineExceeded):
                await client.infer("digits", IMAGES)

    asyncio.run(scenario())
    assert pauses == [20, pytest.approx(30, abs=0.5)]


def test_asynchronous_calls_wait_at_the_same_time() -> None:
    async def scenario() -> float:
        fake = AsyncFakeTransport(DIGITS)
        fake.delay(0.1, times=None)
        async with AsyncClient("fake", transport=fake) as client:
            began_s = time.monotonic()
            await asyncio.gather(*(client.infer("digits", IMAGES) for _ in range(20)))
            return time.monotonic() - began_s

    assert 0.1 <= asyncio.run(scenario()) < 0.6


def test_closing_ends_calls_in_flight_and_another_client_may_follow(kind: str) -> None:
    client, fake = made(kind, DIGITS)
    fake.delay(5.0)
    outcomes: list[object] = []

    def call() -> None:
        try:
            outcomes.append(client.infer("digits", IMAGES))
        except TritonError as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=call)
    thread.start()
    while len(fake.requests) == 0:
        time.sleep(0.01)
    time.sleep(0.05)
    began_s = time.monotonic()
    client.close()
    thread.join(10)
    assert outcomes == [Cancelled]
    assert time.monotonic() - began_s < 1
    if isinstance(fake, FakeTransport):
        with Client("fake", transport=fake) as again:
            again.infer("digits", IMAGES)


def test_threads_share_a_fake() -> None:
    fake = FakeTransport(DIGITS)
    fake.add(DIGITS, digits_answer)
    fake.fail("queue_full", times=50)
    client = Client("fake", transport=fake, options=NEVER)
    failed: list[int] = []

    def calls() -> None:
        for _ in range(50):
            try:
                client.infer("digits", IMAGES)
            except QueueFull:
                failed.append(1)

    threads = [threading.Thread(target=calls) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 50
    assert len(fake.requests) == 400
    (entry,) = client.statistics("digits")
    assert (entry.inference_stats.success.count, entry.inference_stats.fail.count) == (350, 50)
