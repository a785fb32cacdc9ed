"""Heads of gRPC calls as HPACK blocks (RFC 7541), each of which can be read without those before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from typing import Final

from tritonforge_client.core.call import Compression
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.errors import InvalidInput

SERVICE: Final = "/inference.GRPCInferenceService/"

_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_LONGEST_TIMEOUT: Final = 99_999_999
"""The number of a timeout has eight digits at most (PROTOCOL-HTTP2.md)."""


def request_block(
    method: str,
    *,
    scheme: str,
    authority: str,
    timeout_s: float,
    compression: Compression | None,
    headers: Mapping[str, str],
) -> bytes:
    """Encode the head of a call.

    Args:
        method: Method of ``inference.GRPCInferenceService``.
        scheme: ``http`` or ``https``.
        authority: ``host:port`` of the server.
        timeout_s: Seconds that the server is given.
        compression: How messages are compressed.
        headers: Headers of the caller, names in lower case.

    Raises:
        InvalidInput: A header is not printable ASCII.
    """
    block = _usual_block(method, scheme, authority, _timeout_text(timeout_s), compression)
    for name, value in headers.items():
        if _VALUE.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            # The value may be a secret.
            expected = "printable ASCII characters"
            text = f"headers: {name!r}: expected {expected}, got others too"
            raise InvalidInput(text, field="headers", expected=expected, got="others too")
        block += _field(name, value)
    return block


@lru_cache(256)
def _usual_block(method: str, scheme: str, authority: str, timeout: str, compression: Compression | None) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": scheme,
        ":path": SERVICE + method,
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "tritonforge",
        "grpc-accept-encoding": "identity,deflate,gzip",
        "grpc-timeout": timeout,
    }
    if compression is not None:
        fields["grpc-encoding"] = compression
    return b"".join(_field(name, value) for name, value in fields.items())


def _timeout_text(timeout_s: float) -> str:
    """So much and not less, but at most a hundredth more, so that blocks repeat: the caller's own clock ends a call."""
    for unit, count in (("u", 1_000_000), ("m", 1_000), ("S", 1)):
        number = ceil(timeout_s * count)
        step = 10 ** max(0, len(str(number)) - 3)
        rounded = -(-number // step) * step
        if rounded <= _LONGEST_TIMEOUT:
            return f"{rounded}{unit}"
    return f"{_LONGEST_TIMEOUT}S"


def _field(name: str, value: str) -> bytes:
    """A literal that no table remembers (RFC 7541, section 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: str) -> bytes:
    data = text.encode("ascii")
    length = len(data)
    if length < 127:
        return bytes((length,)) + data
    size = bytearray((127,))
    length -= 127
    while length >= 128:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes(size) + data


# A server's replies to equal requests have the same heads.
@lru_cache(64)
def headers_from_block(block: bytes) -> Mapping[str, str]:
    """Decode a head.

    Args:
        block: The whole block; it must not need what another one left in a table.

    Raises:
        ReplyFormatError: It is damaged.
    """
    from hpack import Decoder, HPACKError  # seldom needed: blocks repeat

    try:
        fields = Decoder().decode(block, raw=True)
    except HPACKError as error:
        raise ReplyFormatError(f"expected the headers of a reply, got a damaged block: {error}") from error
    headers: dict[str, str] = {}
    for field in fields:
        name, value = (bytes(text).decode("latin-1") for text in field)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
