"""Requests that are encoded once and sent any number of times, and answers that are read only if that is wanted.

A load generator sends the same few requests thousands of times a second: it would spend most of its time on encoding
what it has encoded before, and on reading answers that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from numpy.typing import NDArray

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import Dialect, Exchange, Undecoded
from tritonforge_client.options import Options
from tritonforge_client.reply import Reply

Read: TypeAlias = Callable[[Undecoded, Call, float], Reply[dict[str, NDArray[Any]]]]


class Prepared:
    """A checked and encoded request; made by ``Model.prepare``, sent by ``Client.send``.

    Every client of the same protocol may send it, also several at once. It holds no array of the caller's.

    Args:
        exchange: What is sent, and how a reply is checked.
        read: Reads an answer: the reply, the attempt that brought it, and how long that took in seconds.
        protocol: Protocol that it is encoded for.
        model: Model name.
        options: Options of each call that sends it.
        request_id: Id that the server logs and echoes; ``None`` for none.
    """

    __slots__ = ("_exchange", "_read", "model", "options", "protocol", "request_id")

    def __init__(
        self,
        exchange: Exchange[Undecoded],
        read: Read,
        *,
        protocol: str,
        model: str,
        options: Options,
        request_id: str | None,
    ) -> None:
        self._exchange = exchange
        self._read = read
        self.protocol = protocol
        self.model = model
        self.options = options
        self.request_id = request_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, {self.size_bytes} bytes over {self.protocol})"

    @property
    def size_bytes(self) -> int:
        """Bytes of the request as it is sent: the body over HTTP, the message, before compression, over gRPC."""
        size_bytes: int = self._exchange.request.size_bytes
        return size_bytes

    def ask(self, _dialect: Dialect, _attempt: Call) -> Exchange[Undecoded]:
        """What every attempt sends."""
        return self._exchange

    def read(self, undecoded: Undecoded, attempt: Call, elapsed_s: float) -> Reply[dict[str, NDArray[Any]]]:
        """Read an answer, which an attempt brought after so many seconds."""
        return self._read(undecoded, attempt, elapsed_s)


class RawReply:
    """The answer to a prepared request: whole and no error, but not read. It needs no client any more.

    Args:
        prepared: The request.
        undecoded: The reply.
        attempt: The attempt that brought it.

    Attributes:
        elapsed_s: Seconds from the call to the whole reply.
    """

    __slots__ = ("_attempt", "_prepared", "_undecoded", "elapsed_s")

    def __init__(self, prepared: Prepared, undecoded: Undecoded, attempt: Call) -> None:
        self._prepared = prepared
        self._undecoded = undecoded
        self._attempt = attempt
        self.elapsed_s = attempt.elapsed_s

    @property
    def size_bytes(self) -> int:
        """Bytes of the reply, uncompressed: the body over HTTP, the message over gRPC."""
        return self._undecoded.size_bytes

    @property
    def model(self) -> str:
        """Model name."""
        return self._prepared.model

    @property
    def endpoint(self) -> str:
        """``host:port`` that answered."""
        return self._attempt.endpoint

    @property
    def attempts(self) -> int:
        """How often the request was sent."""
        return self._attempt.attempt

    def decode(self) -> Reply[dict[str, NDArray[Any]]]:
        """Read the answer and check it against the model's spec.

        Returns:
            What ``Model.infer_with_reply`` returns.

        Raises:
            ServerError: It is no reply of the protocol.
            SpecDrift: The outputs do not fit the spec.
        """
        return self._prepared.read(self._undecoded, self._attempt, self.elapsed_s)
