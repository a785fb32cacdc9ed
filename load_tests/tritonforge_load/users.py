"""Locust users with the typed client inside. Importing this module imports Locust, which monkey-patches the process.

::

    class Digits(TritonGrpcUser):
        host = "grpc://127.0.0.1:8001"

        @task
        def classify(self) -> None:
            self.infer("digits", {"images": images})
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakSet

from numpy.typing import ArrayLike, NDArray

from tritonforge_client import Client, Options
from tritonforge_client.errors import TritonError
from tritonforge_client.extras import require_extra

if TYPE_CHECKING:
    import locust
else:
    locust = require_extra("locust", "load")

locust_exception: Any = require_extra("locust.exception", "load")
gevent: Any = require_extra("gevent", "load")
grpc_gevent: Any = require_extra("grpc.experimental.gevent", "load")

_NS_PER_MS: Final = 1e6
_prepared_pid = 0
_open_clients: WeakSet[Client] = WeakSet()


def make_client(url: str, *, options: Options) -> Client:
    """Make a client inside a Locust process.

    Args:
        url: ``grpc://host:port`` or ``http://host:port``.
        options: Options of every request.
    """
    prepare_process()
    client = Client(url, options=options)
    _open_clients.add(client)
    return client


def prepare_process(**_: object) -> None:
    """Make gRPC, Ctrl-C and the clock fit for greenlets; only the first call in a process does anything.

    gRPC's core waits in C, which would stop all greenlets; its gevent mode must be on before the first channel. Python
    raises ``KeyboardInterrupt`` in whichever greenlet runs, and one that is inside gRPC then leaves a lock behind that
    the exit waits for; so it is raised in the main greenlet, where Locust expects it. The event loop's clock stands
    still while Python imports, which Locust would take off ``--run-time``; so it is set.
    """
    global _prepared_pid  # noqa: PLW0603
    if os.getpid() == _prepared_pid:
        return
    _prepared_pid = os.getpid()
    grpc_gevent.init_gevent()
    gevent.get_hub().loop.update_now()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        main = gevent.get_hub().parent
        gevent.signal_handler(signal.SIGINT, gevent.kill, main, KeyboardInterrupt)


def close_clients(**_: object) -> None:
    """Close every client that ``make_client`` made; an open channel can keep the process from ending."""
    for client in list(_open_clients):
        client.close()
        _open_clients.discard(client)


_events: Any = locust.events
_events.init.add_listener(prepare_process)  # after Locust's forks
_events.quit.add_listener(close_clients)  # when all users have stopped


class TritonUser(locust.User):
    """A Locust user that calls Triton by the protocol of its host's URL.

    Every request is reported to Locust's ``request`` event, with the response time in milliseconds as measured (not
    rounded), the bytes of the outputs, and the client's error as ``exception``.

    Attributes:
        options: Options of every request, the deadline for one. Nothing is sent again by default.
        client: The client; there from ``on_start`` to ``on_stop``.
    """

    abstract = True
    scheme: ClassVar[str] = ""
    options: ClassVar[Options] = Options(retry=None)  # a retry would hide the failure that is to be counted
    client: Client

    def on_start(self) -> None:
        """Make the client. A subclass with its own ``on_start`` calls this one first."""
        if self.host is None:
            raise locust_exception.LocustError(f"{type(self).__name__} has no host; give --host or set host")
        url = self.host if "://" in self.host else f"{self.scheme or 'grpc'}://{self.host}"
        if self.scheme not in {"", url.partition("://")[0]}:
            raise locust_exception.LocustError(f"{type(self).__name__} expects a host {self.scheme}://..., got {url}")
        self.request_type = url.partition("://")[0]
        self.client = make_client(url, options=self.options)

    def on_stop(self) -> None:
        """Close the client. A subclass with its own ``on_stop`` calls this one last."""
        self.client.close()
        _open_clients.discard(self.client)

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
        self, name: str, call: Callable[[], dict[str, NDArray[Any]]], context: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]] | None:
        """Make one call of the client and report it.

        Args:
            name: Name in Locust's tables.
            call: The call; returns arrays by output.
            context: Passed to listeners of the ``request`` event.

        Returns:
            What the call returned; ``None`` when it failed with an error of the client.
        """
        outputs: dict[str, NDArray[Any]] | None = None
        failure: TritonError | None = None
        started_ns = time.perf_counter_ns()
        try:
            outputs = call()
        except TritonError as error:
            failure = error
        elapsed_ns = time.perf_counter_ns() - started_ns
        self.environment.events.request.fire(
            request_type=self.request_type,
            name=name,
            response_time=elapsed_ns / _NS_PER_MS,
            response_length=0 if outputs is None else sum(array.nbytes for array in outputs.values()),
            exception=failure,
            context=context if context is not None else {},
        )
        return outputs


class TritonGrpcUser(TritonUser):
    """A Locust user that calls Triton over gRPC; ``host`` is ``grpc://host:port`` or ``host:port``."""

    abstract = True
    scheme = "grpc"


class TritonHttpUser(TritonUser):
    """A Locust user that calls Triton over HTTP; ``host`` is ``http://host:port`` or ``host:port``."""

    abstract = True
    scheme = "http"
