"""One model of an asynchronous client: what ``model`` has, under the same names."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from typing_extensions import Self

from tritonforge_client.core.batches import joined
from tritonforge_client.core.effects import Steps
from tritonforge_client.core.request import Inputs
from tritonforge_client.core.sequence import SequenceStep
from tritonforge_client.core.session import Session
from tritonforge_client.core.stream import Stream
from tritonforge_client.model import drawn_sequence_id, warn_of_open_sequence
from tritonforge_client.options import Options
from tritonforge_client.prepared import Prepared
from tritonforge_client.reply import Reply
from tritonforge_client.spec import ModelSpec

if TYPE_CHECKING:
    import asyncio

    from tritonforge_client.core.classification import Classification


class AsyncModel:
    """One model of one client; made by ``AsyncClient.bind``.

    Args:
        run: Does the steps of a call.
        session: The client's.
        spec: What the model takes and gives.
        options: Options of every call that brings none of its own.
    """

    def __init__(
        self, run: Callable[[Steps[Any]], Awaitable[Any]], session: Session, spec: ModelSpec, options: Options | None
    ) -> None:
        self._run = run
        self._session = session
        self._options = options
        self.spec = spec

    async def infer(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the model after checking the inputs against its spec.

        Args:
            inputs: Arrays by tensor name, in full shape, batch dimension included.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the model's.
            request_id: Id that the server logs and echoes.

        Returns:
            Arrays by tensor name, of the types and shapes of the spec: read-only views of the reply, unless
            ``options.writable``.

        Raises:
            InvalidInput: The inputs do not fit the spec; nothing was sent.
            SpecDrift: The outputs do not fit the spec.
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return (await self.infer_with_reply(inputs, outputs=outputs, options=options, request_id=request_id)).value

    async def infer_with_reply(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> Reply[dict[str, NDArray[Any]]]:
        """Run the model as ``infer`` does, and say where the answer came from.

        Args:
            inputs: As for ``infer``.
            outputs: As for ``infer``.
            options: As for ``infer``.
            request_id: As for ``infer``.

        Returns:
            What ``infer`` returns, with version, endpoint and times.

        Raises:
            TritonError: As for ``infer``.
        """
        steps = self._session.infer_checked(self.spec, inputs, outputs, self._chosen(options), request_id)
        reply: Reply[dict[str, NDArray[Any]]] = await self._run(steps)
        return reply

    def prepare(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> Prepared:
        """Check and encode a request that is sent often, by ``AsyncClient.send``. Nothing is sent now.

        The options are those of every call that sends it, whichever client does; only ``max_in_flight`` is that
        client's own. A deadline that reaches the model's queue is that of the whole call in each of its attempts.

        Args:
            inputs: As for ``infer``. They are copied.
            outputs: As for ``infer``.
            options: As for ``infer``, but for ``shared_memory``.
            request_id: As for ``infer``; the same each time.

        Returns:
            The request, for any client of the same protocol.

        Raises:
            InvalidInput: The inputs do not fit the spec, one lies on a GPU, or ``options.shared_memory`` is not off.
        """
        return self._session.prepare(self.spec, inputs, outputs, self._chosen(options), request_id)

    async def infer_one(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the model on one row: the batch dimension is added to the inputs and taken off the outputs.

        Args:
            inputs: Arrays by tensor name, without the batch dimension.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the model's.
            request_id: Id that the server logs and echoes.

        Returns:
            Arrays by tensor name, without the batch dimension.

        Raises:
            InvalidInput: The model has no batch dimension, or as for ``infer``.
            TritonError: As for ``infer``.
        """
        steps = self._session.infer_one(self.spec, inputs, outputs, self._chosen(options), request_id)
        row: dict[str, NDArray[Any]] = await self._run(steps)
        return row

    async def map(
        self,
        items: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        concurrency: int = 8,
        outputs: Sequence[str] = (),
        options: Options | None = None,
    ) -> AsyncIterator[dict[str, NDArray[Any]]]:
        """Run the model on many items, several at once; a batch of any size is split into pieces that the model takes.

        Items are taken as they are needed: at most ``concurrency`` of them wait for their answers.

        Args:
            items: Arrays by tensor name, batch dimension included.
            concurrency: Requests and items in flight.
            outputs: Names of the outputs to return; none means all.
            options: Options of each request instead of the model's.

        Yields:
            The outputs of each item, in the order of the items.

        Raises:
            TritonError: As for ``infer``, at the item that failed; requests that were not sent yet are not sent.
        """
        import asyncio

        waiting: deque[list[asyncio.Task[dict[str, NDArray[Any]]]]] = deque()
        free = asyncio.Semaphore(concurrency)

        async def run(piece: Inputs) -> dict[str, NDArray[Any]]:
            async with free:
                return await self.infer(piece, outputs=outputs, options=options)

        try:
            async for item in _each(items):
                pieces = self._session.pieces(self.spec, item, self._chosen(options))
                waiting.append([asyncio.create_task(run(piece)) for piece in pieces])
                if len(waiting) >= concurrency:
                    yield joined([await task for task in waiting.popleft()])
            while waiting:
                yield joined([await task for task in waiting.popleft()])
        finally:
            await _ended([task for tasks in waiting for task in tasks])

    async def classify(
        self,
        inputs: Inputs,
        *,
        output: str,
        count: int = 1,
        options: Options | None = None,
        request_id: str | None = None,
    ) -> list[list[Classification]]:
        """Run the model and let the server choose the classes with the largest values of one output.

        Args:
            inputs: Arrays by tensor name, in full shape, batch dimension included.
            output: Output whose largest values are wanted.
            count: How many for each row.
            options: Options of this call instead of the model's.
            request_id: Id that the server logs and echoes.

        Returns:
            The classes of each row, those with the largest values first.

        Raises:
            TritonError: As for ``infer``.
        """
        steps = self._session.classify(
            self.spec, inputs, output, count, options=self._chosen(options), request_id=request_id
        )
        classes: list[list[Classification]] = await self._run(steps)
        return classes

    def stream(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[dict[str, NDArray[Any]]]:
        """Run a decoupled model, over gRPC: it answers a request as often as it likes.

        Closing the iterator early cancels the request on the server.

        Args:
            inputs: Arrays by tensor name, in full shape, batch dimension included.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the model's; the deadline is that of the whole stream.
            request_id: Id that the server logs and echoes.

        Returns:
            The outputs of each answer, as they come; it ends with the model's last one.

        Raises:
            Unimplemented: The target is not gRPC.
            TritonError: As for ``infer``.
        """
        stream = self._session.stream(self.spec, inputs, outputs, self._chosen(options), request_id)
        return _answers(stream, self._run)

    def sequence(self, *, id: int | str | None = None) -> AsyncModelSequence:  # noqa: A002 - the protocol's own word
        """Begin a sequence: requests that the model answers in order, with a state of its own for each sequence.

        Args:
            id: Id of the sequence, a number above 0 or a text; ``None`` draws a number.
        """
        return AsyncModelSequence(self._run, self._session, self.spec, self._options, id)

    def _chosen(self, options: Options | None) -> Options | None:
        return options if options is not None else self._options


class AsyncModelSequence:
    """A sequence of requests to one model; made by ``AsyncModel.sequence``.

    Args:
        run: Does the steps of a call.
        session: The client's.
        spec: What the model takes and gives.
        options: Options of every call that brings none of its own.
        id: Id of the sequence; ``None`` draws one.
    """

    def __init__(
        self,
        run: Callable[[Steps[Any]], Awaitable[Any]],
        session: Session,
        spec: ModelSpec,
        options: Options | None,
        id: int | str | None,  # noqa: A002
    ) -> None:
        self._run = run
        self._session = session
        self._options = options
        self._is_open = False
        self.spec = spec
        self.id = id if id is not None else drawn_sequence_id()

    async def infer(
        self,
        inputs: Inputs,
        *,
        end: bool = False,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the next request of the sequence. The first one starts it; it is never sent twice.

        Args:
            inputs: Arrays by tensor name, in full shape, batch dimension included.
            end: Whether it is the last request.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the model's.
            request_id: Id that the server logs and echoes.

        Returns:
            As ``AsyncModel.infer``.

        Raises:
            TritonError: As for ``AsyncModel.infer``.
        """
        step = SequenceStep(id=self.id, start=not self._is_open, end=end)
        chosen = options if options is not None else self._options
        steps = self._session.infer_checked(self.spec, inputs, outputs, chosen, request_id, sequence=step)
        reply: Reply[dict[str, NDArray[Any]]] = await self._run(steps)
        self._is_open = not end
        return reply.value

    async def map(
        self, items: Iterable[Inputs] | AsyncIterable[Inputs], *, outputs: Sequence[str] = ()
    ) -> AsyncIterator[dict[str, NDArray[Any]]]:
        """Run a whole sequence: one request an item, the last of which ends it.

        Args:
            items: Arrays by tensor name, for one request each.
            outputs: Names of the outputs to return; none means all.

        Yields:
            The outputs of each request.

        Raises:
            TritonError: As for ``AsyncModel.infer``.
        """
        following: Inputs | None = None
        async for item in _each(items):
            if following is not None:
                yield await self.infer(following, outputs=outputs)
            following = item
        if following is not None:
            yield await self.infer(following, end=True, outputs=outputs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_open and error is None:
            warn_of_open_sequence(self.spec.name, self.id)


async def _answers(
    stream: Stream, run: Callable[[Steps[Any]], Awaitable[Any]]
) -> AsyncIterator[dict[str, NDArray[Any]]]:
    await run(stream.prepared())
    with stream.opened() as (transport, call):
        exchange = stream.ask(transport.dialect, call)
        messages = transport.stream(exchange.request, call)
        try:
            async for message in messages:
                part = exchange.parse(message, call)
                outputs = stream.read(part, call)
                if outputs is not None:
                    yield outputs
                if part.is_final:
                    return
        finally:
            await messages.aclose()


async def _each(items: Iterable[Inputs] | AsyncIterable[Inputs]) -> AsyncIterator[Inputs]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    import asyncio

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
