"""Locust users with the typed client inside. Importing this module imports Locust, which monkey-patches the process.

::

    class Digits(TritonGrpcUser):
        host = "grpc://127.0.0.1:8001"

        @task
        def classify(self) -> None:
            self.infer("digits", {"images": images})

Certificates, shared memory and deadlines are class attributes: ``tls = TLS(...)``, ``options = Options(retry=None,
shared_memory="system", timeout_s=2)``. ``client`` and ``model(name)`` give everything else that the client can.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from weakref import WeakSet

from numpy.typing import ArrayLike, NDArray

from tritonforge_client import TLS, Client, Model, Options, Prepared, RawReply, WireTimes
from tritonforge_client.errors import TritonError
from tritonforge_client.extras import require_extra

if TYPE_CHECKING:
    import locust
else:
    locust = require_extra("locust", "load")

locust_exception: Any = require_extra("locust.exception", "load")
gevent: Any = require_extra("gevent", "load")

T = TypeVar("T")

_NS_PER_MS: Final = 1e6
_prepared_pid = 0
_open_clients: WeakSet[Client] = WeakSet()


def make_client(url: str, *, options: Options, tls: TLS | None = None) -> Client:
    """Make a client inside a Locust process.

    Args:
        url: ``grpc://host:port`` or ``http://host:port``, over TLS ``grpcs://`` or ``https://``.
        options: Options of every request.
        tls: Certificates, for a target over TLS that needs other than the usual ones.
    """
    prepare_process()
    client = Client(url, options=options, tls=tls)
    _open_clients.add(client)
    return client


def prepare_process(**_: object) -> None:
    """Make Ctrl-C and the clock fit for greenlets; only the first call in a process does anything.

    Python raises ``KeyboardInterrupt`` in whichever greenlet runs, be it in the midst of a request; so it is raised in
    the main greenlet, where Locust expects it. The event loop's clock stands still while Python imports, which Locust
    would take off ``--run-time``; so it is set.
    """
    global _prepared_pid  # noqa: PLW0603
    if os.getpid() == _prepared_pid:
        return
    _prepared_pid = os.getpid()
    hub = gevent.get_hub()
    hub.loop.update_now()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        gevent.signal_handler(signal.SIGINT, gevent.kill, hub.parent, KeyboardInterrupt)


def close_clients(**_: object) -> None:
    """Close every client that ``make_client`` made."""
    for client in list(_open_clients):
        client.close()
        _open_clients.discard(client)


_events: Any = locust.events
_events.init.add_listener(prepare_process)  # after Locust's forks
_events.quit.add_listener(close_clients)  # when all users have stopped


class TritonUser(locust.User):
    """A Locust user that calls Triton by the protocol of its host's URL.

    Every request is reported to Locust's ``request`` event, with the response time in milliseconds as measured (not
    rounded), the bytes of the outputs, and the client's error as ``exception``. The response time is what a caller
    waits for: from the call until it has the answer.

    Attributes:
        options: Options of every request, the deadline for one. Nothing is sent again by default.
        tls: Certificates, for a host ``grpcs://`` or ``https://`` that needs other than the usual ones.
        client: The client; there from ``on_start`` to ``on_stop``.
        request_type: ``grpc`` or ``http``, in Locust's tables.
    """

    abstract = True
    scheme: ClassVar[str] = ""
    options: ClassVar[Options] = Options(retry=None)  # a retry would hide the failure that is to be counted
    tls: ClassVar[TLS | None] = None
    client: Client
    request_type: str

    def on_start(self) -> None:
        """Make the client. A subclass with its own ``on_start`` calls this one first."""
        if self.host is None:
            raise locust_exception.LocustError(f"{type(self).__name__} has no host; give --host or set host")
        url = self.host if "://" in self.host else f"{self.scheme or 'grpc'}://{self.host}"
        scheme = url.partition("://")[0]
        if self.scheme not in {"", scheme.removesuffix("s")}:
            raise locust_exception.LocustError(f"{type(self).__name__} expects a host {self.scheme}://..., got {url}")
        self.request_type = scheme.removesuffix("s")
        self.client = make_client(url, options=self.options, tls=self.tls)
        self._bound: dict[str, Model] = {}

    def on_stop(self) -> None:
        """Close the client. A subclass with its own ``on_stop`` calls this one last."""
        self.client.close()
        _open_clients.discard(self.client)

    def model(self, name: str) -> Model:
        """The model with its contract, which is read from the server when it is first asked for.

        Args:
            name: Name of the model.

        Raises:
            TritonError: The server does not give the contract.
        """
        found = self._bound.get(name)
        if found is None:
            found = self._bound[name] = self.client.bind(self.client.spec(name))
        return found

    def infer(
        self, model: str, inputs: Mapping[str, ArrayLike], *, outputs: Sequence[str] = (), name: str | None = None
    ) -> dict[str, NDArray[Any]] | None:
        """Send one request and report it.

        Args:
            model: Name of the model.
            inputs: Arrays by input, with the batch dimension where the model has one.
            outputs: Outputs to ask for; all when empty.
            name: Name in Locust's tables; the model's when left out.

        Returns:
            Arrays by output; ``None`` when the request failed, which Locust has been told.
        """
        return self.measured(
            name if name is not None else model, lambda: self.client.infer(model, inputs, outputs=outputs).value
        )

    def measured(
        self,
        name: str,
        call: Callable[[], dict[str, NDArray[Any]]],
        context: Mapping[str, Any] | None = None,
        *,
        times: WireTimes | None = None,
    ) -> dict[str, NDArray[Any]] | None:
        """Make one call of the client and report it.

        Args:
            name: Name in Locust's tables.
            call: The call; returns arrays by output.
            context: Passed to listeners of the ``request`` event.
            times: When it may be sent at the earliest. The response time then counts from there, and until the reply
                had come, as the kernel says: what the process did until it looked at it is no time of the server's.

        Returns:
            What the call returned; ``None`` when it failed with an error of the client.
        """
        return self._told(name, call, _bytes_of_arrays, context, times)

    def send(
        self,
        prepared: Prepared,
        *,
        name: str | None = None,
        context: Mapping[str, Any] | None = None,
        times: WireTimes | None = None,
    ) -> RawReply | None:
        """Send a prepared request and report it: the cheapest way to send.

        The response length in Locust's tables is that of the whole reply.

        Args:
            prepared: What ``Model.prepare`` made, of any client of the same protocol.
            name: Name in Locust's tables; the model's when left out.
            context: Passed to listeners of the ``request`` event.
            times: As in ``measured``.

        Returns:
            The answer, which can be decoded; ``None`` when the request failed, which Locust has been told.
        """
        call = partial(self.client.send, prepared)
        return self._told(name if name is not None else prepared.model, call, _bytes_of_reply, context, times)

    def stream(
        self, model: str, inputs: Mapping[str, ArrayLike], *, outputs: Sequence[str] = (), name: str | None = None
    ) -> list[dict[str, NDArray[Any]]] | None:
        """Send one request to a decoupled model, which answers as often as it likes, and take all answers. gRPC only.

        Locust is told of two requests: ``NAME, first response`` took until the first answer came, and is left out when
        none did; ``NAME`` took until the stream ended, and it is the one that fails.

        Args:
            model: Name of the model.
            inputs: Arrays by input, with the batch dimension where the model has one.
            outputs: Outputs to ask for; all when empty.
            name: Name in Locust's tables; the model's when left out.

        Returns:
            Arrays by output for each answer; ``None`` when the stream failed, which Locust has been told.
        """
        title = name if name is not None else model
        answers: list[dict[str, NDArray[Any]]] = []
        failure: TritonError | None = None
        started_ns = time.perf_counter_ns()
        try:
            bound = self.model(model)
            started_ns = time.perf_counter_ns()  # the contract is read once: that is no part of the answer
            for answer in bound.stream(inputs, outputs=outputs):
                if not answers:
                    elapsed_ns = time.perf_counter_ns() - started_ns
                    self._tell(f"{title}, first response", elapsed_ns, _bytes_of_arrays(answer), None, {})
                answers.append(answer)
        except TritonError as error:
            failure = error
        elapsed_ns = time.perf_counter_ns() - started_ns
        self._tell(title, elapsed_ns, sum(map(_bytes_of_arrays, answers)), failure, {})
        return answers if failure is None else None

    def _told(
        self,
        name: str,
        call: Callable[[], T],
        size_of: Callable[[T], int],
        context: Mapping[str, Any] | None,
        times: WireTimes | None,
    ) -> T | None:
        """Make one call and tell Locust's ``request`` event how it ended."""
        answer: T | None = None
        failure: TritonError | None = None
        started_ns = time.perf_counter_ns() if times is None else times.not_before_ns
        try:
            if times is None:
                answer = call()
            else:
                with times:
                    answer = call()
        except TritonError as error:
            failure = error
        ended_ns = time.perf_counter_ns() if times is None or times.received_ns is None else times.received_ns
        elapsed_ns = max(ended_ns - started_ns, 0)  # it may fail before it was to be sent
        size_bytes = 0 if answer is None else size_of(answer)
        self._tell(name, elapsed_ns, size_bytes, failure, context if context is not None else {})
        return answer

    def _tell(
        self, name: str, elapsed_ns: int, size_bytes: int, failure: TritonError | None, context: Mapping[str, Any]
    ) -> None:
        self.environment.events.request.fire(
            request_type=self.request_type,
            name=name,
            response_time=elapsed_ns / _NS_PER_MS,
            response_length=size_bytes,
            exception=failure,
            context=context,
        )


def _bytes_of_arrays(outputs: Mapping[str, NDArray[Any]]) -> int:
    return sum([array.nbytes for array in outputs.values()])


def _bytes_of_reply(reply: RawReply) -> int:
    return reply.size_bytes


class TritonGrpcUser(TritonUser):
    """A Locust user that calls Triton over gRPC; ``host`` is ``grpc://host:port`` or ``host:port``."""

    abstract = True
    scheme = "grpc"


class TritonHttpUser(TritonUser):
    """A Locust user that calls Triton over HTTP; ``host`` is ``http://host:port`` or ``host:port``."""

    abstract = True
    scheme = "http"
