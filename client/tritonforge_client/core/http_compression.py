"""Bodies of requests over HTTP, compressed. Replies are decompressed where they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tritonforge_client.core.call import Compression
from tritonforge_client.core.exchange import HttpRequest


def compressed_request(request: HttpRequest, compression: Compression | None) -> HttpRequest:
    """Compress a request, and ask for a compressed reply.

    Args:
        request: The request; the length of its JSON head, which it states, stays that of the uncompressed one. One that
            is compressed already stays as it is.
        compression: How; ``None`` leaves it as it is.
    """
    if compression is None or "content-encoding" in request.headers:
        return request
    headers = {**request.headers, "accept-encoding": compression}
    if not request.body:
        return dataclasses.replace(request, headers=headers)
    body = (_compressed(request.body, compression),)
    return dataclasses.replace(request, headers={**headers, "content-encoding": compression}, body=body)


def compressed_message(
    message: Sequence[bytes | memoryview], compression: Compression | None
) -> tuple[Sequence[bytes | memoryview], bool]:
    """Compress a message of gRPC.

    Args:
        message: The message in pieces.
        compression: How; ``None`` leaves it as it is.

    Returns:
        The message, and whether it is compressed.
    """
    if compression is None:
        return message, False
    return (_compressed(message, compression),), True


def _compressed(buffers: Sequence[bytes | memoryview], compression: Compression) -> bytes:
    import zlib

    # 31 stands for a window of 32 KiB with a gzip header, 15 for one with a zlib header, which is called deflate.
    compressor = zlib.compressobj(wbits=31 if compression == "gzip" else 15)
    return b"".join([*(compressor.compress(buffer) for buffer in buffers), compressor.flush()])
