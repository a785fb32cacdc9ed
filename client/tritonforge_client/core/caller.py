"""One call from its first attempt to its last: deadline, endpoints, retries, hooks."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tritonforge_client.core.apart import Apart
from tritonforge_client.core.balance import Balancer
from tritonforge_client.core.call import Call
from tritonforge_client.core.effects import Pause, Send, Steps
from tritonforge_client.core.endpoints import Endpoints
from tritonforge_client.core.exchange import Dialect, Exchange
from tritonforge_client.core.hedge import Hedge, Lanes
from tritonforge_client.core.limit import InFlight
from tritonforge_client.core.resolve import Name, Names
from tritonforge_client.core.retry import Retries, RetryBudget
from tritonforge_client.errors import InvalidInput, TritonError
from tritonforge_client.options import Options, headers_of
from tritonforge_client.policies import Balance, HedgePolicy, RetryPolicy

if TYPE_CHECKING:
    from tritonforge_client.hooks import Hook

T = TypeVar("T")
Ask = Callable[[Dialect, Call], Exchange[T]]
"""Makes the request of one attempt."""
Before = Callable[[int, Any, Call], Steps[None]]
"""What an attempt needs done first at an endpoint: its index, its transport and the attempt."""


# Forks between the first process and this one: counted where they happen, since asking for the pid is a system call.
_forks = 0


def _forked() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1


if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_forked)


class Caller:
    """Makes the calls of one client.

    Args:
        owner: The client as its errors name it.
        transports: One for each endpoint, all of one protocol.
        options: Options of every call that brings none of its own.
        balance: How calls are spread over the endpoints.
        hooks: Told of every attempt.
        host_names: Those transports that go to a host name whose every address is to be an endpoint, by their index.

    Attributes:
        closed: Whether no more calls are made.
        names: All endpoints, for errors.
        passing: Transports of single calls that go elsewhere, while these last.
    """

    def __init__(
        self,
        owner: str,
        transports: Sequence[Any],
        options: Options,
        balance: Balance,
        hooks: Sequence[Hook],
        *,
        host_names: Mapping[int, Name],
    ) -> None:
        self.owner = owner
        self.options = options
        self.closed = False
        self.passing: set[Any] = set()
        self._pid, self._forks = os.getpid(), _forks
        self.names = ", ".join(transport.endpoint for transport in transports)
        self._hooks = tuple(hooks)
        self._endpoints = Endpoints(transports, Balancer(len(transports), balance), is_fixed=not host_names)
        self.transports = self._endpoints.transports
        self._host_names = Names(host_names, self._endpoints, lambda: self.closed) if host_names else None
        self._hedges: dict[str, Hedge] = {}
        self._budget = RetryBudget((options.retry or RetryPolicy()).budget)
        self._in_flight = InFlight(options.max_in_flight)

    def begin(
        self,
        options: Options | None,
        *,
        model: str | None = None,
        request_id: str | None = None,
        sends: bool = True,
    ) -> tuple[Options, Call]:
        """Begin a call.

        Args:
            options: Its options; ``None`` for the client's.
            model: Model that is called.
            request_id: The caller's id of the request.
            sends: Whether anything is sent with its headers; otherwise no token is asked for.

        Raises:
            InvalidInput: The token cannot be sent.
            RuntimeError: The client is closed, or was made by the process that this one was forked from.
        """
        if self.closed or self.is_forked:
            self._refuse()
        options = options if options is not None else self.options
        return options, Call(
            endpoint=self.names,
            timeout_s=options.timeout_s,
            model=model,
            request_id=request_id,
            headers=headers_of(options) if sends else {},
            compression=options.compression,
        )

    @property
    def dialect(self) -> Dialect:
        """That of all endpoints, which are of one protocol."""
        dialect: Dialect = self.transports[0].dialect
        return dialect

    @property
    def is_forked(self) -> bool:
        """Whether this is a fork of the process that made the client."""
        return self._forks != _forks

    def _refuse(self) -> NoReturn:
        kind = self.owner.partition("(")[0]
        if self.closed:
            raise RuntimeError(f"{self.owner} is closed; make a new {kind}")
        raise RuntimeError(
            f"{self.owner} was made in process {self._pid} and cannot be used in its fork {os.getpid()}; "
            f"make a new {kind} after forking"
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
                if self._host_names is not None:
                    yield from self.prepared(call)
                index = self._endpoints.pick(tried, call, options.breaker)
                tried.append(index)
                attempt = call.at(self.transports[index].endpoint, len(tried))
                try:
                    if options.hedge is not None and repeatable and before is None:
                        answer, attempt = yield from self._hedged(ask, attempt, tried, options, options.hedge)
                    else:
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
        yield from self.prepared(call)
        index = self._endpoints.pick((), call, None)
        transport = self.transports[index]
        attempt = call.at(transport.endpoint, 1)
        with self._endpoints.used(index, attempt, None):
            exchange = ask(transport.dialect, attempt)
            return exchange.parse((yield Send(transport, exchange.request, attempt)), attempt)

    def prepared(self, call: Call) -> Steps[None]:
        """What comes before an endpoint is chosen: host names are asked."""
        if self._host_names is not None:
            yield from self._host_names.refresh(call)

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
            with self._endpoints.used(index, attempt, options.breaker), Apart(self._watched(attempt)) as watched:
                yield self.transports[index], watched
        finally:
            self._in_flight.leave()

    def _attempt(self, ask: Ask[T], index: int, attempt: Call, options: Options, before: Before | None) -> Steps[T]:
        transport = self.transports[index]
        if before is None and not self._hooks and self._endpoints.are_uncounted(options.breaker):
            # Nearly every call of nearly every client: nothing is to be done around the request.
            exchange = ask(transport.dialect, attempt)
            return exchange.parse((yield Send(transport, exchange.request, attempt)), attempt)
        with self._endpoints.used(index, attempt, options.breaker), self._watched(attempt) as watched:
            if before is not None:
                yield from before(index, transport, watched)
            exchange = ask(transport.dialect, watched)
            reply = yield Send(transport, exchange.request, watched)
            return exchange.parse(reply, watched)

    def _hedged(
        self, ask: Ask[T], attempt: Call, tried: list[int], options: Options, policy: HedgePolicy
    ) -> Steps[tuple[T, Call]]:
        """Make an attempt, and others elsewhere while it is not answered; all of them are then tried."""
        if not self.dialect.cancels:
            expected = "a client over gRPC: over HTTP the server goes on with a request that nobody waits for"
            raise InvalidInput(f"hedge: expected {expected}", field="hedge", expected=expected, got=self.names)
        hedge = self._hedges.setdefault(attempt.model or "", Hedge(policy))
        began_s = time.monotonic()
        delay_s = hedge.delay_s() if self._endpoints.has_other(tried) else None
        if delay_s is None:
            answer = yield from self._attempt(ask, tried[-1], attempt, options, None)
        else:
            lanes = Lanes(lambda: self._lane(ask, attempt, tried, options))

            def another() -> Send | None:
                if len(lanes) > policy.extra or not hedge.take():
                    return None
                index = self._endpoints.pick_other(tried, attempt, options.breaker)
                if index is None:
                    return None
                tried.append(index)
                try:
                    return lanes.send()
                except TritonError:
                    return None  # as if it had been sent and failed: what runs may still be answered

            answer, attempt = yield from lanes.race(delay_s, another)
        hedge.answered(time.monotonic() - began_s)
        return answer, attempt

    @contextmanager
    def _lane(
        self, ask: Ask[T], call: Call, tried: Sequence[int], options: Options
    ) -> Iterator[tuple[Any, Exchange[T], Call]]:
        """Count and watch one of the attempts of a hedged call while it lasts: that at the endpoint tried last."""
        index = tried[-1]
        transport = self.transports[index]
        attempt = call.at(transport.endpoint, len(tried))
        with self._endpoints.used(index, attempt, options.breaker), self._watched(attempt) as watched:
            yield transport, ask(transport.dialect, watched), watched

    def _pause_s(
        self, error: TritonError, retries: Retries, tried: Sequence[int], call: Call, options: Options
    ) -> float | None:
        """How long to wait before the next attempt; ``None`` where there is none, or no endpoint for it."""
        if not self._endpoints.is_open(call, options.breaker):
            return None
        return retries.pause_s(error, other_endpoint=self._endpoints.has_other(tried))

    def _watched(self, attempt: Call) -> AbstractContextManager[Call]:
        """Let the hooks see an attempt; they may add headers."""
        return self._hooked(attempt) if self._hooks else nullcontext(attempt)

    @contextmanager
    def _hooked(self, attempt: Call) -> Iterator[Call]:
        from tritonforge_client.hooks import Attempt  # who has hooks has imported it

        seen = Attempt(
            model=attempt.model, endpoint=attempt.endpoint, number=attempt.attempt, request_id=attempt.request_id
        )
        with ExitStack() as stack:
            headers = dict(attempt.headers)
            for hook in self._hooks:
                headers |= stack.enter_context(hook.attempt(seen))
            yield dataclasses.replace(attempt, headers=headers)
