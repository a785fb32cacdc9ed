"""One call from its first attempt to its last: deadline, endpoints, retries, hooks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar

from tritonforge_client.core.balance import Balancer
from tritonforge_client.core.call import Call
from tritonforge_client.core.effects import Pause, Send, Steps
from tritonforge_client.core.endpoints import Endpoints
from tritonforge_client.core.exchange import Dialect, Exchange
from tritonforge_client.core.limit import InFlight
from tritonforge_client.core.retry import Retries, RetryBudget
from tritonforge_client.errors import TritonError
from tritonforge_client.hooks import Attempt, Hook
from tritonforge_client.options import Options, headers_of
from tritonforge_client.policies import Balance, RetryPolicy

T = TypeVar("T")
Ask = Callable[[Dialect, Call], Exchange[T]]
"""Makes the request of one attempt."""
Before = Callable[[int, Any, Call], Steps[None]]
"""What an attempt needs done first at an endpoint: its index, its transport and the attempt."""


class Caller:
    """Makes the calls of one client.

    Args:
        owner: The client as its errors name it.
        transports: One for each endpoint, all of one protocol.
        options: Options of every call that brings none of its own.
        balance: How calls are spread over the endpoints.
        hooks: Told of every attempt.

    Attributes:
        closed: Whether no more calls are made.
        pid: The process that the client belongs to.
        names: All endpoints, for errors.
    """

    def __init__(
        self, owner: str, transports: Sequence[Any], options: Options, balance: Balance, hooks: Sequence[Hook]
    ) -> None:
        self.owner = owner
        self.options = options
        self.transports = tuple(transports)
        self.closed = False
        self.pid = os.getpid()
        self.names = ", ".join(transport.endpoint for transport in transports)
        self._hooks = tuple(hooks)
        self._endpoints = Endpoints(Balancer(len(transports), balance))
        self._budget = RetryBudget((options.retry or RetryPolicy()).budget)
        self._in_flight = InFlight(options.max_in_flight)

    def begin(
        self, options: Options | None, *, model: str | None = None, request_id: str | None = None
    ) -> tuple[Options, Call]:
        """Begin a call.

        Raises:
            InvalidInput: The token cannot be sent.
            RuntimeError: The client is closed, or was made by the process that this one was forked from.
        """
        kind = self.owner.partition("(")[0]
        if self.closed:
            raise RuntimeError(f"{self.owner} is closed; make a new {kind}")
        if os.getpid() != self.pid:
            raise RuntimeError(
                f"{self.owner} was made in process {self.pid} and cannot be used in its fork {os.getpid()}; "
                f"make a new {kind} after forking"
            )
        options = options if options is not None else self.options
        return options, Call(
            endpoint=self.names,
            timeout_s=options.timeout_s,
            model=model,
            request_id=request_id,
            headers=headers_of(options),
            compression=options.compression,
        )

    def ask(
        self, ask: Ask[T], options: Options, call: Call, *, repeatable: bool = True, before: Before | None = None
    ) -> Steps[tuple[T, Call]]:
        """Send until there is an answer, or no further attempt makes sense.

        Args:
            ask: Makes the request.
            options: Options of the call.
            call: The call.
            repeatable: Whether it may run twice.
            before: What each attempt needs done first.

        Returns:
            The answer, and the attempt that brought it.
        """
        retries: Retries | None = None
        tried: list[int] = []
        self._in_flight.enter(call)
        try:
            while True:
                index = self._endpoints.pick(tried, call, options.breaker)
                tried.append(index)
                attempt = call.at(self.transports[index].endpoint, len(tried))
                try:
                    answer = yield from self._attempt(ask, index, attempt, options, before)
                except TritonError as error:
                    retries = retries or Retries(options.retry, self._budget, call, repeatable=repeatable)
                    pause_s = self._pause_s(error, retries, tried, call, options)
                    if pause_s is None:
                        raise
                    if pause_s > 0:
                        yield Pause(pause_s)
                else:
                    self._budget.succeeded()
                    return answer, attempt
        finally:
            self._in_flight.leave()

    def ask_once(self, ask: Ask[T], call: Call) -> Steps[T]:
        """Send once, past limits and breakers, as questions about readiness are."""
        transport = self.transports[self._endpoints.pick((), call, None)]
        attempt = call.at(transport.endpoint, 1)
        exchange = ask(transport.dialect, attempt)
        return exchange.parse((yield Send(transport, exchange.request, attempt)), attempt)

    @contextmanager
    def streaming(self, call: Call, options: Options) -> Iterator[tuple[Any, Call]]:
        """Choose where the request of a stream goes, and count it in flight while the stream lasts.

        Args:
            call: The call.
            options: Its options.

        Yields:
            The transport, and the attempt.
        """
        self._in_flight.enter(call)
        try:
            index = self._endpoints.pick((), call, options.breaker)
            attempt = call.at(self.transports[index].endpoint, 1)
            with self._endpoints.used(index, attempt, options.breaker), self._watched(attempt) as watched:
                yield self.transports[index], watched
        finally:
            self._in_flight.leave()

    def _attempt(self, ask: Ask[T], index: int, attempt: Call, options: Options, before: Before | None) -> Steps[T]:
        transport = self.transports[index]
        with self._endpoints.used(index, attempt, options.breaker), self._watched(attempt) as watched:
            if before is not None:
                yield from before(index, transport, watched)
            exchange = ask(transport.dialect, watched)
            reply = yield Send(transport, exchange.request, watched)
            return exchange.parse(reply, watched)

    def _pause_s(
        self, error: TritonError, retries: Retries, tried: Sequence[int], call: Call, options: Options
    ) -> float | None:
        """How long to wait before the next attempt; ``None`` where there is none, or no endpoint for it."""
        if not self._endpoints.is_open(call, options.breaker):
            return None
        return retries.pause_s(error, other_endpoint=len(set(tried)) < len(self.transports))

    def _watched(self, attempt: Call) -> AbstractContextManager[Call]:
        """Let the hooks see an attempt; they may add headers."""
        return self._hooked(attempt) if self._hooks else nullcontext(attempt)

    @contextmanager
    def _hooked(self, attempt: Call) -> Iterator[Call]:
        seen = Attempt(
            model=attempt.model, endpoint=attempt.endpoint, number=attempt.attempt, request_id=attempt.request_id
        )
        with ExitStack() as stack:
            headers = dict(attempt.headers)
            for hook in self._hooks:
                headers |= stack.enter_context(hook.attempt(seen))
            yield dataclasses.replace(attempt, headers=headers)
