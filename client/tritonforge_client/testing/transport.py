"""Transports that carry requests nowhere: a fake server answers them in the same process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tritonforge_client.core.call import Call
from tritonforge_client.core.request import InferRequest, Parameter
from tritonforge_client.errors import Code
from tritonforge_client.spec import ModelSpec
from tritonforge_client.testing.answers import Answer, arrays_from_tensors, no_shared_memory
from tritonforge_client.testing.dialect import FakeDialect, Operation, Question
from tritonforge_client.testing.faults import Fault, Faults
from tritonforge_client.testing.server import FakeServer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FakeRequest:
    """An inference request as it reached the fake: one for each attempt of a call.

    Attributes:
        model: Model name.
        version: Version that was asked for; empty for any.
        inputs: Read-only copies of the arrays by tensor name; BYTES as object arrays of ``bytes``.
        outputs: Names of the outputs that were asked for; none means all.
        parameters: Request parameters, also those that the client adds itself.
        headers: Headers, names in lower case.
        request_id: Id of the request; empty if it had none.
        attempt: Which attempt of its call it was, from 1.
        remaining_s: Seconds that were left until its deadline.
    """

    model: str
    version: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    headers: Mapping[str, str]
    request_id: str
    attempt: int
    remaining_s: float


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A request on its way.

    Attributes:
        operation: What is asked.
        call: The attempt as the client made it.
        fault: What happens to it.
        pause_s: Seconds until that, or until the deadline.
        is_late: Whether the deadline comes first.
        began_s: When the pause began, on the monotonic clock.
        closings: How often the transport had been closed.
    """

    operation: Operation
    call: Call
    fault: Fault | None
    pause_s: float
    is_late: bool
    began_s: float
    closings: int


class _Fake:
    """What both transports have: all but how they wait."""

    def __init__(self, *specs: ModelSpec) -> None:
        self.endpoint = "fake"
        self.dialect = FakeDialect()
        self.requests: list[FakeRequest] = []
        self.questions: list[Question] = []
        self._server = FakeServer()
        self._faults = Faults()
        self._closings = 0
        # By the start of a call, which its attempts share: seconds that passed for the fake alone.
        self._skipped_s: dict[float, float] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: ModelSpec, answer: Answer | None = None) -> None:
        """Serve a model, in place of one of the same name.

        Args:
            spec: What it takes and gives.
            answer: A function that is called with the inputs of each request, by the thread that sends it, and returns
                the outputs; or the outputs themselves, of which one row stands for every row of a request. A decoupled
                model needs an iterable of outputs, one an answer. ``None`` answers zeros (BYTES: empty strings), with
                size 1 where the spec has -1. All outputs of the spec must be there. What the function raises reaches
                the caller.

        Raises:
            InvalidInput: Several outputs for a model that is not decoupled, or one for a model that is.
        """
        self._server.add(spec, answer)

    def fail(
        self,
        error: Code | Exception,
        *,
        times: int | None = 1,
        model: str | None = None,
        operation: Operation | None = None,
        after_s: float = 0.0,
    ) -> None:
        """Let the next requests fail.

        A request meets one fault at most: the counted ones in the order in which they were given, then those without an
        end.

        Args:
            error: Code of the error, for example ``"queue_full"``, or the error itself. One that is no ``TritonError``
                reaches the caller as it is.
            times: How many requests fail, each attempt of a call being one; ``None`` for all until ``heal()``.
            model: Only requests of this model.
            operation: Only this operation, for example ``"infer"``; else a question for readiness counts as well.
            after_s: Seconds from the request to its failure.

        Raises:
            InvalidInput: A value is out of range.
        """
        self._faults.add(Fault(error=error, after_s=after_s, times=times, model=model, operation=operation))

    def delay(
        self,
        seconds: float,
        *,
        times: int | None = 1,
        model: str | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Let the next answers come late; past the deadline of a call it ends there with ``DeadlineExceeded``.

        Args:
            seconds: Seconds from the request to the answer, or to the first answer of a stream.
            times: How many answers are late; ``None`` for all until ``heal()``.
            model: Only requests of this model.
            operation: Only this operation.

        Raises:
            InvalidInput: A value is out of range.
        """
        self._faults.add(Fault(error=None, after_s=seconds, times=times, model=model, operation=operation))

    def heal(self) -> None:
        """Forget all faults and delays that are still to come."""
        self._faults.clear()

    def _receive(self, request: InferRequest | Question, call: Call, *, is_streamed: bool = False) -> _Delivery:
        """Record a request and see what is to happen to it."""
        seen = self._seen(call)
        remaining_s = seen.remaining_s()
        if isinstance(request, InferRequest):
            operation: Operation = "infer_stream" if is_streamed else "infer"
            self.requests.append(_recorded(request, seen, remaining_s))
        else:
            operation = request.operation
            self.questions.append(request)
        fault = self._faults.take(operation, call.model)
        after_s = fault.after_s if fault is not None else 0.0
        return _Delivery(
            operation=operation,
            call=call,
            fault=fault,
            pause_s=min(after_s, remaining_s),
            is_late=after_s >= remaining_s,
            began_s=time.monotonic(),
            closings=self._closings,
        )

    def _seen(self, call: Call) -> Call:
        """The call by the fake's own clock: it began as much earlier as was skipped."""
        return dataclasses.replace(call, started_s=call.started_s - self._skipped_s.get(call.started_s, 0.0))

    def _arrived(self, delivery: _Delivery) -> Call:
        """After the pause: return the call by the fake's clock, or raise what was to happen to it."""
        start_s = delivery.call.started_s
        skipped_s = delivery.pause_s - (time.monotonic() - delivery.began_s)
        if skipped_s > 0 and self._closings == delivery.closings:
            self._skipped_s[start_s] = self._skipped_s.get(start_s, 0.0) + skipped_s
        call = self._seen(delivery.call)
        error = self._end(delivery, call)
        if error is None and delivery.fault is not None:
            error = delivery.fault.error_of(call)
        if error is None:
            return call
        if delivery.operation in {"infer", "infer_stream"} and call.model is not None:
            self._server.note_failure(call.model)
        raise error

    def _end(self, delivery: _Delivery, call: Call) -> Exception | None:
        """The error of a call whose answer nobody waits for any more."""
        if self._closings != delivery.closings:
            return call.closed_error()
        is_over = delivery.is_late or call.elapsed_s >= call.timeout_s
        return call.deadline_error() if is_over else None

    def _answer(self, request: InferRequest | Question, delivery: _Delivery) -> Any:
        call = self._arrived(delivery)
        if isinstance(request, InferRequest):
            reply: Any = self._server.infer(request, call)
        else:
            reply = self._server.answer(request, call)
        error = self._end(delivery, call)
        if error is not None:
            raise error
        return reply

    def _answers(self, request: InferRequest, delivery: _Delivery) -> Generator[Any, None, None]:
        call = self._arrived(delivery)
        for part in self._server.infer_stream(request, call):
            error = self._end(delivery, call)
            if error is not None:
                raise error
            yield part


class FakeTransport(_Fake):
    """A server of models that exist in a test only, for ``Client``: everything above it is the real client.

    ::

        fake = FakeTransport(digits)
        client = Client("fake", transport=fake)
        fake.fail("queue_full", times=2)

    Args:
        specs: Models that answer zeros; ``add`` serves others.
        sleep: Waits for so many seconds in place of real time, or only pretends to: delays count towards the deadlines
            of their calls by their own length. The client's own pauses between attempts stay real.

    Attributes:
        requests: Every inference request, the oldest first.
        questions: Everything else that was asked, the oldest first.
    """

    def __init__(self, *specs: ModelSpec, sleep: Callable[[float], object] | None = None) -> None:
        super().__init__(*specs)
        self._sleep = sleep
        self._closed = threading.Condition()

    def send(self, request: InferRequest | Question, call: Call) -> Any:
        """Answer one request."""
        delivery = self._receive(request, call)
        self._pause(delivery)
        return self._answer(request, delivery)

    def stream(self, request: InferRequest, call: Call) -> Iterator[Any]:
        """Answer one request as often as its model does."""
        delivery = self._receive(request, call, is_streamed=True)
        self._pause(delivery)
        yield from self._answers(request, delivery)

    def close(self) -> None:
        """End calls in flight with ``Cancelled``. Another client may use the fake after that."""
        with self._closed:
            self._closings += 1
            self._closed.notify_all()

    def _pause(self, delivery: _Delivery) -> None:
        if delivery.pause_s == 0:
            return
        if self._sleep is not None:
            self._sleep(delivery.pause_s)
            return
        with self._closed:
            self._closed.wait_for(lambda: self._closings != delivery.closings, delivery.pause_s)


class AsyncFakeTransport(_Fake):
    """What ``FakeTransport`` is, for ``AsyncClient``. The functions of ``add`` are called in the event loop.

    Args:
        specs: Models that answer zeros; ``add`` serves others.
        sleep: Waits for so many seconds in place of real time, or only pretends to: delays count towards the deadlines
            of their calls by their own length. The client's own pauses between attempts stay real.

    Attributes:
        requests: Every inference request, the oldest first.
        questions: Everything else that was asked, the oldest first.
    """

    def __init__(self, *specs: ModelSpec, sleep: Callable[[float], Awaitable[object]] | None = None) -> None:
        super().__init__(*specs)
        self._sleep = sleep
        self._waiting: set[asyncio.Future[None]] = set()

    async def send(self, request: InferRequest | Question, call: Call) -> Any:
        """Answer one request."""
        delivery = self._receive(request, call)
        await self._pause(delivery)
        return self._answer(request, delivery)

    async def stream(self, request: InferRequest, call: Call) -> AsyncIterator[Any]:
        """Answer one request as often as its model does."""
        delivery = self._receive(request, call, is_streamed=True)
        await self._pause(delivery)
        with contextlib.closing(self._answers(request, delivery)) as answers:
            for answer in answers:
                yield answer
                # As between two messages of a real server, others have their turn.
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End calls in flight with ``Cancelled``. Another client may use the fake after that."""
        self._closings += 1
        for future in self._waiting:
            future.cancel()
        while len(self._waiting) > 0:
            await asyncio.sleep(0)

    async def _pause(self, delivery: _Delivery) -> None:
        if delivery.pause_s == 0:
            await asyncio.sleep(0)
        elif self._sleep is not None:
            await self._sleep(delivery.pause_s)
        else:
            closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(closed)
            try:
                await asyncio.wait([closed], timeout=delivery.pause_s)
            finally:
                self._waiting.discard(closed)


def _recorded(request: InferRequest, call: Call, remaining_s: float) -> FakeRequest:
    if any(tensor.region is not None for tensor in request.inputs):
        raise no_shared_memory(call)
    return FakeRequest(
        model=request.model,
        version=request.version,
        inputs=arrays_from_tensors(request.inputs),
        outputs=tuple(one.name for one in request.outputs),
        parameters=request.parameters,
        headers=call.headers,
        request_id=request.request_id,
        attempt=call.attempt,
        remaining_s=remaining_s,
    )
