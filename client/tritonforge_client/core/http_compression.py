"""Bodies of requests over HTTP, compressed. Replies are decompressed where they are read."""

from __future__ import annotations

import dataclasses

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
    import zlib

    # 31 stands for a window of 32 KiB with a gzip header, 15 for one with a zlib header, which HTTP calls deflate.
    compressor = zlib.compressobj(wbits=31 if compression == "gzip" else 15)
    body = b"".join([*(compressor.compress(buffer) for buffer in request.body), compressor.flush()])
    return dataclasses.replace(request, headers={**headers, "content-encoding": compression}, body=(body,))
