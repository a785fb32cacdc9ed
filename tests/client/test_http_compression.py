from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

from tritonforge_client.core.exchange import HttpRequest
from tritonforge_client.core.http_compression import compressed_request

REQUEST = HttpRequest(method="POST", path="/x", headers={"a": "b"}, body=(b"head" * 100, memoryview(bytes(10_000))))


@pytest.mark.parametrize(("compression", "read"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_body_is_compressed_and_named(compression: Any, read: Any) -> None:
    made = compressed_request(REQUEST, compression)
    (body,) = made.body
    assert len(body) < 200
    assert read(body) == b"".join(map(bytes, REQUEST.body))
    assert made.headers == {"a": "b", "accept-encoding": compression, "content-encoding": compression}


def test_without_a_body_only_the_reply_is_asked_to_be_compressed() -> None:
    made = compressed_request(HttpRequest(method="GET", path="/x"), "gzip")
    assert (made.headers, made.body) == ({"accept-encoding": "gzip"}, ())


def test_without_compression_nothing_changes() -> None:
    assert compressed_request(REQUEST, None) is REQUEST
