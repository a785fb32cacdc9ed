"""How a call is made: its deadline, its headers, what the caller does with the reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from tritonforge_client.core.request import Parameter
from tritonforge_client.errors import InvalidInput
from tritonforge_client.policies import BreakerPolicy, HedgePolicy, RetryPolicy

SharedMemoryUse: TypeAlias = Literal["off", "auto", "system", "cuda"]

# Polling functions count milliseconds in 31 bits.
_MAX_TIMEOUT_S: Final = 1_000_000.0
_HEADER_NAME: Final = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
# Set by the transports themselves; a second value would contradict the body.
_RESERVED_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "inference-header-content-length",
        "te",
        "transfer-encoding",
    }
)
_RETRY: Final = RetryPolicy()
# Written by the client itself, or read by the server as something else.
_RESERVED_PARAMETERS: Final = frozenset(
    {
        "binary_data_output",
        "headers",
        "priority",
        "sequence_end",
        "sequence_id",
        "sequence_start",
        "timeout",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a client, or of one call, which then replace the client's as a whole.

    Attributes:
        timeout_s: Seconds for the whole call: connecting, sending, queueing on the server, running and receiving.
        headers: HTTP headers or gRPC metadata of each request. Names are case-insensitive over both protocols.
        writable: Whether reply arrays are aligned copies that may be written to, instead of read-only views of the
            reply (no copy, not necessarily aligned to their item size).
        retry: When a request is sent again; ``None`` for never. What must not run twice (steps of a sequence, streams,
            loading and unloading) is never sent again.
        breaker: When an endpoint that keeps failing is left alone; ``None`` for never.
        hedge: When a request that is not answered yet is sent to another endpoint too; ``None`` for never. Over gRPC
            alone, where the server drops what lost; not for what must not run twice or lies in shared memory.
        max_in_flight: Calls that a client makes at once; one more fails at once with ``TooManyInFlight``. Read from the
            client's own options only.
        shared_memory: ``"system"`` for tensors of 64 KiB and more in shared memory, which needs a server on this host;
            ``"cuda"`` for memory of a GPU, which inputs on a GPU reach without the host, and where outputs of any size
            come back, each as a ``GpuArray`` (extra ``cuda``); ``"auto"`` for inputs in memory of their own kind and
            outputs on the host, with one warning where that does not work; ``"off"`` for the wire. The sizes of outputs
            must follow from the spec, so an untyped ``Client.infer`` receives over the wire.
        compression: Compress requests, and ask for compressed replies. Arrays of random numbers gain nothing by it.
        token: Gives the bearer token of each call, sent as ``authorization: Bearer ...``.
        priority: Place in the queue of a model with ``priority_levels``: 1 is served first, 0 is the model's default.
        parameters: Request parameters of the model's own, by name.

    Raises:
        InvalidInput: A value is out of range, or a header is malformed or belongs to the transport.
    """

    timeout_s: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict)
    writable: bool = False
    retry: RetryPolicy | None = _RETRY
    breaker: BreakerPolicy | None = None
    hedge: HedgePolicy | None = None
    max_in_flight: int | None = None
    shared_memory: SharedMemoryUse = "off"
    compression: Literal["gzip", "deflate"] | None = None
    token: Callable[[], str] | None = None
    priority: int = 0
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_timeout_s(self.timeout_s)
        if self.shared_memory not in get_args(SharedMemoryUse):
            raise _option_error("shared_memory", f"one of {', '.join(get_args(SharedMemoryUse))}", self.shared_memory)
        if self.shared_memory == "cuda" and self.writable:
            raise _option_error("writable", "False with shared_memory='cuda', as a GpuArray may be written to", True)
        if self.compression not in {None, "gzip", "deflate"}:
            raise _option_error("compression", "gzip, deflate or None", self.compression)
        if not _is_count(self.priority, least=0):
            raise _option_error("priority", "0 or a level from 1 on", self.priority)
        if self.max_in_flight is not None and not _is_count(self.max_in_flight, least=1):
            raise _option_error("max_in_flight", "a whole number of at least 1, or None", self.max_in_flight)
        for name in self.parameters:
            if name in _RESERVED_PARAMETERS or name.startswith("triton_"):
                raise _option_error("parameters", "names that the protocol does not use itself", name)
        # A copy, so that a later change of the caller's dict changes no request.
        object.__setattr__(self, "headers", {_checked_name(k): _checked_value(k, v) for k, v in self.headers.items()})


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def headers_of(options: Options) -> Mapping[str, str]:
    """The headers of a call, with its token.

    Raises:
        InvalidInput: The token is no printable text.
    """
    if options.token is None:
        return options.headers
    token = options.token()
    return {**options.headers, "authorization": _checked_value("authorization", f"Bearer {token}")}


def _option_error(field: str, expected: str, got: object) -> InvalidInput:
    return InvalidInput(f"{field}: expected {expected}, got {got!r}", field=field, expected=expected, got=repr(got))


def check_timeout_s(timeout_s: object) -> None:
    """Refuse what cannot be a deadline.

    Raises:
        InvalidInput: It is not a number of seconds above 0 and at most 1,000,000.
    """
    # NaN and infinity fail the comparison.
    if isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool) and 0 < timeout_s <= _MAX_TIMEOUT_S:
        return
    expected = f"seconds above 0 and at most {_MAX_TIMEOUT_S:.0f}"
    raise InvalidInput(
        f"timeout_s: expected {expected}, got {timeout_s!r}",
        field="timeout_s",
        expected=expected,
        got=repr(timeout_s),
    )


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
        raise _header_error(name, "a header name of letters, digits and -", repr(name))
    lowered = name.lower()
    if lowered in _RESERVED_HEADERS or lowered.startswith(("grpc-", ":")):
        raise _header_error(name, "a header that the transport does not set itself", name)
    if lowered.endswith("-bin"):
        raise _header_error(name, "a text header (gRPC takes names that end in -bin as binary)", name)
    return lowered


def _checked_value(name: object, value: object) -> str:
    if not isinstance(value, str) or _HEADER_VALUE.fullmatch(value) is None:
        # The value may be a secret, so only its type is shown.
        raise _header_error(name, "a str of printable ASCII characters", f"a {type(value).__name__} that is not")
    return value


def _header_error(name: object, expected: str, got: str) -> InvalidInput:
    return InvalidInput(
        f"headers: {name!r}: expected {expected}, got {got}", field="headers", expected=expected, got=got
    )
